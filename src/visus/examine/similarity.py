"""How alike two networks see: filters matched one to one, and layers compared by what they make of the same samples.

This file knows kernels, samples and layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError
from visus.examine.layer_calls import Array, Inputs, LayerCall, as_batch, at_rest, frozen, heard, run, unwrapped

MIN_SAMPLES = 4
_MAX_VALUES = 2**24  # of a layer's maps that are multiplied at once


@dataclass(frozen=True, eq=False)
class Matching:
    """Filters of two layers, each with the one that it is most like, no filter twice.

    Args:
        partners: for each filter of the first layer the number of its partner in the second.
        cosines: of each pair, -1 to 1; 1 for the same pattern, whatever its contrast. A filter that is 0 has cosine 0.
    """

    partners: tuple[int, ...]
    cosines: Array

    @property
    def mean(self) -> float:
        """Mean cosine of the pairs."""
        return float(self.cosines.mean())


def match_filters(one: Array, other: Array) -> Matching:
    """Filters of two layers matched so that the sum of their cosines is largest (the assignment problem).

    Args:
        one, other: kernels (filters, ...), of the same shape.

    Raises:
        UsageError: the shapes differ.
        MissingExtraError: scipy is not installed.

    >>> found = match_filters(np.eye(3), np.eye(3)[[2, 0, 1]])
    >>> found.partners, found.mean
    ((1, 2, 0), 1.0)
    """
    if one.shape != other.shape:
        raise UsageError(
            f"filters are matched one to one, and these are {tuple(one.shape)} and {tuple(other.shape)}. Give layers of one shape."
        )
    cosines = _unit_rows(one) @ _unit_rows(other).T
    rows, columns = _assignment()(cosines, maximize=True)
    return Matching(tuple(int(column) for column in columns), frozen(cosines[rows, columns]))


@dataclass(frozen=True)
class LayerLikeness:
    """One layer of two networks.

    Args:
        path: its path in both.
        cka: centered kernel alignment of what it makes of the same samples: 1 for the same up to turning and scaling, about 0 for
            unrelated. None where it makes the same of all samples.
    """

    path: str
    cka: float | None


def layer_likeness(one: nn.Module, other: nn.Module, samples: Inputs) -> tuple[LayerLikeness, ...]:
    """Centered kernel alignment of every layer that two networks share by path, in the order of computation.

    The linear kernel (Kornblith et al. 2019, arXiv:1905.00414), with the estimator of Song et al. 2012 that is not biased by
    few samples, as in Nguyen et al. 2021 (arXiv:2010.15327). Only the products of samples with samples are kept, so the memory is that of
    one layer's maps.

    Args:
        one, other: modules; layers that only one of them has are left out.
        samples: scaled samples (N, C, *), the same for both; at least 4.

    Raises:
        UsageError: too few samples.
    """
    return kernels_likeness(layer_kernels(one, samples), layer_kernels(other, samples))


def kernels_likeness(one: Mapping[str, Array], other: Mapping[str, Array]) -> tuple[LayerLikeness, ...]:
    """``layer_likeness`` from what ``layer_kernels`` gave of two networks for the same samples, so that each of them is run once.

    Args:
        one, other: (N, N) of every layer, by its path; layers that only one of them has are left out.
    """
    return tuple(LayerLikeness(path, kernel_alignment(one[path], other[path])) for path in one if path in other)


def kernel_alignment(one: Array, other: Array) -> float | None:
    """Centered alignment of two kernels (N, N) of the same samples; None where one of them tells no sample from another.

    >>> kernel = np.outer([0.0, 1.0, 2.0, 3.0, 5.0], [0.0, 1.0, 2.0, 3.0, 5.0])
    >>> round(kernel_alignment(kernel, 7 * kernel), 6)
    1.0
    """
    own, others = _dependence(one, one), _dependence(other, other)
    if own <= 1e-12 * _size(one) or others <= 1e-12 * _size(other):
        return None
    return _dependence(one, other) / float(np.sqrt(own * others))


def _size(kernel: Array) -> float:
    return float(np.square(kernel).sum()) or 1.0


def _dependence(one: Array, other: Array) -> float:
    """The unbiased Hilbert-Schmidt independence criterion of Song et al. 2012, equation 5."""
    num_samples = len(one)
    left, right = one - np.diag(np.diag(one)), other - np.diag(np.diag(other))
    total = float((left * right.T).sum())
    total += float(left.sum() * right.sum()) / ((num_samples - 1) * (num_samples - 2))
    total -= 2 * float(left.sum(0) @ right.sum(1)) / (num_samples - 2)
    return total / (num_samples * (num_samples - 3))


@torch.no_grad()
def layer_kernels(module: nn.Module, samples: Inputs) -> dict[str, Array]:
    """For each layer by its path the products (N, N) of what it makes of every sample with what it makes of every other, centered.

    Args:
        module: any module.
        samples: scaled samples (N, C, *); at least 4.

    Raises:
        UsageError: too few samples.

    >>> layer_kernels(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.rand(5, 1, 8, 8))["0"].shape
    (5, 5)
    """
    module = unwrapped(module)
    found: dict[str, Array] = {}

    def listen(call: LayerCall) -> None:
        values = call.output.detach()
        if len(values) == num_samples and values.is_floating_point():
            found[call.path] = _gram(values.flatten(1))

    with at_rest(module):
        batch = as_batch(module, samples)
        num_samples = len(batch)
        refuse_too_few(num_samples)
        with heard(module, listen):
            run(module, batch)
    return found


def refuse_too_few(num_samples: int) -> None:
    """Refuse so few samples that nothing could be said.

    Raises:
        UsageError: fewer than 4.
    """
    if num_samples < MIN_SAMPLES:
        raise UsageError(f"layers are compared on at least {MIN_SAMPLES} samples, and there are {num_samples}.")


def _gram(values: Tensor) -> Array:
    """(N, features) to (N, N), the mean sample taken off, a part of the features at a time."""
    width = max(1, _MAX_VALUES // len(values))
    total = torch.zeros(len(values), len(values), dtype=torch.float64)
    for part in torch.split(values, width, dim=1):
        centered = (part - part.mean(0)).double().cpu()
        total += centered @ centered.T
    return np.asarray(total.numpy())


def _unit_rows(kernels: Array) -> Array:
    flat = np.asarray(kernels, dtype=np.float64).reshape(len(kernels), -1)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: Array = flat / np.where(lengths > 0, lengths, 1.0)
    return unit


def _assignment() -> Any:
    """scipy's solver of the assignment problem, where it is installed."""
    try:
        from scipy.optimize import linear_sum_assignment
    except Exception as error:
        raise MissingExtraError.because(error, "scipy", "examine", "matched filters") from error
    return linear_sum_assignment


def mean_likeness(layers: Sequence[LayerLikeness]) -> float | None:
    """Mean over the layers that have a figure; None where none has."""
    known = [layer.cka for layer in layers if layer.cka is not None]
    return sum(known) / len(known) if known else None
