"""Pretrained starting weights: from a file, from a backbone, or within a module."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

from visus.errors import WeightsError
from visus.networks import weights

_CONFIGS = ("pretrained_cfg", "default_cfg", "config", "normalization")
"""Attributes of a module that may hold its input normalization: of timm, older timm and transformers, and one to set by hand."""


@dataclass(frozen=True)
class Normalization:
    """Input normalization: a value v from 0 to 255 becomes ``(v - offset) / divisor``.

    Args:
        offset: one value per channel.
        divisor: one value per channel.
    """

    offset: tuple[float, ...]
    divisor: tuple[float, ...]

    @classmethod
    def of_shares(cls, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalization:
        """From mean and standard deviation of values from 0 to 1, as in timm and torchvision.

        >>> Normalization.of_shares((0.5, 0.5), (0.25, 0.5)).divisor
        (63.75, 127.5)
        """
        return cls(tuple(255 * float(each) for each in mean), tuple(255 * float(each) for each in std))


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Pretrained weights with their origin and input normalization.

    Args:
        source: description of the weights, to follow "starts from".
        tensors: tensors by name; None if the module already holds them.
        normalization: input normalization of their training; None if unknown.
        file: file of the weights; None for an installed backbone or a module.
        sha256: SHA-256 of the file; empty if there is none.
    """

    source: str
    tensors: Mapping[str, Tensor] | None = None
    normalization: Normalization | None = None
    file: str | None = None
    sha256: str = ""

    def named_as(self, module: nn.Module) -> InitialWeights:
        """The weights without a prefix that all of their names have and those of the module do not have; the source says so."""
        if self.tensors is None:
            return self
        tensors, prefix = weights.without_prefix(module, self.tensors)
        source = f"{self.source} (names without their prefix {prefix})" if prefix else self.source
        return dataclasses.replace(self, source=source, tensors=tensors)

    def load_into(self, module: nn.Module, num_classes: int | None = None) -> tuple[str, ...]:
        """Load the weights into a module; a head for another number of classes keeps its new weights.

        Args:
            module: the network, changed in place.
            num_classes: number of its outputs, if it may have heads that are not its last linear layer.

        Returns:
            Names of the tensors that were not loaded.

        Raises:
            WeightsError: tensors do not match the module; the message names each of them, and the file.
        """
        if self.tensors is None:
            return ()
        try:
            return weights.load_initial_weights(module, self.tensors, num_classes)
        except WeightsError as error:
            raise error.within(self.file) if self.file and not error.where else error from None


def from_file(file: str | Path) -> InitialWeights:
    """Weights from a safetensors file or a state dict of PyTorch. Files of visus also hold the input normalization.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = Path(file).resolve()
    try:
        tensors = weights.read_weights(path)
    except WeightsError as error:
        raise error.within(str(file)) if not error.where else error from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return InitialWeights(f"the weights in {path.name}", tensors, _stored_normalization(path), str(path), digest)


def from_module(module: nn.Module, source: str) -> InitialWeights:
    """The weights that a module already holds, with the normalization of its configuration."""
    return InitialWeights(source, None, normalization_of(module))


def normalization_of(module: nn.Module) -> Normalization | None:
    """The input normalization of a module's configuration; None if it has none.

    The function reads ``mean`` and ``std`` (or ``image_mean`` and ``image_std``), for values from 0 to 1, from the attribute ``pretrained_cfg``,
    ``default_cfg``, ``config`` or ``normalization``: a mapping or an object. ``normalization`` may also be a pair ``(mean, std)``.

    >>> network = nn.Conv2d(3, 1, 1)
    >>> network.normalization = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    >>> normalization_of(network).offset
    (127.5, 127.5, 127.5)
    """
    for name in _CONFIGS:
        found = getattr(module, name, None)
        if name == "normalization" and isinstance(found, tuple) and len(found) == 2:
            return Normalization.of_shares(*found)
        for prefix in ("", "image_"):
            pair = [_entry(found, f"{prefix}{word}") for word in ("mean", "std")]
            if all(isinstance(each, (tuple, list)) and each for each in pair):
                return Normalization.of_shares(*(tuple(each) for each in pair))
    return None


def is_trained(module: nn.Module) -> bool:
    """Whether a module was trained: a norm's weight, bias or statistics differ from the initial ones.

    The answer is False for a module without norms.

    >>> network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    >>> before = is_trained(network)
    >>> _ = network(torch.randn(4, 1, 8, 8))
    >>> before, is_trained(network)
    (False, True)
    """
    for part in module.modules():
        if not isinstance(part, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)):
            continue
        mean = getattr(part, "running_mean", None)
        if isinstance(mean, Tensor) and bool((mean != 0).any()):
            return True
        gain, shift = part.weight, getattr(part, "bias", None)
        if gain is not None and gain.numel() > 1 and bool((gain != gain.flatten()[0]).any()):
            return True
        if shift is not None and bool((shift != 0).any()):
            return True
    return False


def is_seed_independent(make: Callable[[], nn.Module]) -> bool:
    """Whether most weights of a new module do not depend on the random seed, so that they are loaded rather than random.

    Args:
        make: makes a module; called twice, with different seeds.

    >>> is_seed_independent(lambda: nn.Linear(3, 3))
    False
    """
    made = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            made.append({name: value.detach().clone() for name, value in make().named_parameters() if value.ndim > 1})
    first, second = made
    if not first or first.keys() != second.keys():
        return False
    same = sum(value.numel() for name, value in first.items() if torch.equal(value, second[name]) and bool(value.std() > 0))
    return same > 0.5 * sum(value.numel() for value in first.values())


def _entry(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)


def _stored_normalization(path: Path) -> Normalization | None:
    """The input normalization in the header of a file of visus; None for other files, and if each sample has its own normalization."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            plan = json.loads((file.metadata() or {})["visus"])["preprocessing"]
        if plan["dtype"] != "uint8":
            return None
        return Normalization(tuple(map(float, plan["offset"])), tuple(map(float, plan["divisor"])))
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
