"""The weights that a training starts from, where these know something already: from a file, from a backbone, or inside a module that was given."""

from __future__ import annotations

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
"""Attributes of a module in which its input normalization may stand: timm's, older timm's, that of transformers, and one to set by hand."""


@dataclass(frozen=True)
class Normalization:
    """How samples are scaled before the network: a value v of 0 to 255 becomes ``(v - offset) / divisor``.

    Args:
        offset, divisor: one number for each channel.
    """

    offset: tuple[float, ...]
    divisor: tuple[float, ...]

    @classmethod
    def of_shares(cls, mean: tuple[float, ...], std: tuple[float, ...]) -> Normalization:
        """From mean and standard deviation of values from 0 to 1, as timm and torchvision give them.

        >>> Normalization.of_shares((0.5, 0.5), (0.25, 0.5)).divisor
        (63.75, 127.5)
        """
        return cls(tuple(255 * float(each) for each in mean), tuple(255 * float(each) for each in std))


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """Weights that know something, with all that is needed to start from them.

    Args:
        source: what they are, in the words that follow "starts from".
        tensors: by name; None where the module brings them itself.
        normalization: how their inputs were scaled; None where that is not known.
        file: the file that they were read from; None for an installed backbone, or a module.
        sha256: of the file; empty where there is none.
    """

    source: str
    tensors: Mapping[str, Tensor] | None = None
    normalization: Normalization | None = None
    file: str | None = None
    sha256: str = ""

    def load_into(self, module: nn.Module) -> tuple[str, ...]:
        """Give a module these weights, in place; a head for another number of classes stays new.

        Returns:
            Names of the tensors that stayed new.

        Raises:
            WeightsError: tensors do not fit; each is named, with the file.
        """
        if self.tensors is None:
            return ()
        try:
            return weights.begin_with(module, self.tensors)
        except WeightsError as error:
            raise error.within(self.file) if self.file and not error.where else error from None


def from_file(file: str | Path) -> InitialWeights:
    """Weights in a file: safetensors, or a state dict of PyTorch. Files of visus say how their inputs were scaled.

    Raises:
        WeightsError: the file cannot be read.
    """
    path = Path(file).resolve()
    try:
        tensors = weights.read(path)
    except WeightsError as error:
        raise error.within(str(file)) if not error.where else error from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return InitialWeights(f"the weights in {path.name}", tensors, _stored_normalization(path), str(path), digest)


def from_module(module: nn.Module, source: str) -> InitialWeights:
    """The weights that a module brings itself, with the normalization that its configuration names."""
    return InitialWeights(source, None, normalization_of(module))


def normalization_of(module: nn.Module) -> Normalization | None:
    """The input normalization that a module's configuration names; None where it names none.

    Read are ``mean`` and ``std`` (or ``image_mean`` and ``image_std``) in its attribute ``pretrained_cfg``, ``default_cfg``, ``config`` or
    ``normalization``, a mapping or an object, for values from 0 to 1; ``normalization`` may be a pair ``(mean, std)`` too.

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
    """Whether a module's weights tell that it was trained: a norm whose gains, shifts or statistics are not those of a new one.

    A module without norms cannot tell.

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


def share_the_same_draws(make: Callable[[], nn.Module]) -> bool:
    """Whether most of what a callable makes does not depend on the random seed, so that it was loaded and not drawn.

    Args:
        make: gives a module; it is called twice, with two seeds.

    >>> share_the_same_draws(lambda: nn.Linear(3, 3))
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
    """What the header of a file that visus wrote says of the scaling; None for any other file, and where each sample has its own."""
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            plan = json.loads((file.metadata() or {})["visus"])["preprocessing"]
        if plan["dtype"] != "uint8":
            return None
        return Normalization(tuple(map(float, plan["offset"])), tuple(map(float, plan["divisor"])))
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError):
        return None
