"""Similarity of two networks: filters matched one to one, and layers compared by centered kernel alignment (CKA)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError
from visus.examine.layer_calls import (
    Array,
    Inputs,
    LayerCall,
    as_batch,
    eval_mode,
    hook_layers,
    plain_module,
    read_only,
    run,
)
from visus.tables import ShortFields

MIN_SAMPLES = 4
_MAX_VALUES = 2**24  # values of a layer's maps that are multiplied at once


@dataclass(frozen=True, eq=False, repr=False)
class Matching(ShortFields):
    """Filters of two layers in pairs, no filter twice.

    Args:
        partners: for each filter of the first layer the index of its partner in the second.
        cosines: cosine similarity of each pair, -1 to 1; 1 for the same pattern at any scale, 0 if a filter is 0.
    """

    partners: tuple[int, ...]
    cosines: Array

    @property
    def mean(self) -> float:
        """Mean cosine of the pairs."""
        return float(self.cosines.mean())


def match_filters(one: Array, other: Array) -> Matching:
    """Filters of two layers matched so that the sum of their cosines is maximal (the assignment problem).

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
            f"filters are matched one to one and need the same shape; these have {tuple(one.shape)} and {tuple(other.shape)}."
        )
    cosines = _unit_rows(one) @ _unit_rows(other).T
    rows, columns = _assignment()(cosines, maximize=True)
    return Matching(tuple(int(column) for column in columns), read_only(cosines[rows, columns]))


@dataclass(frozen=True)
class LayerSimilarity:
    """One layer of two networks.

    Args:
        path: its path in both.
        cka: centered kernel alignment of its outputs for the same samples: 1 where they are equal up to rotation and scale, about 0
            where they are unrelated. None if its output is the same for all samples.
    """

    path: str
    cka: float | None


def layer_similarity(one: nn.Module, other: nn.Module, samples: Inputs) -> tuple[LayerSimilarity, ...]:
    """Centered kernel alignment of every layer that two networks share by path, in the order of computation.

    The linear kernel (Kornblith et al. 2019, arXiv:1905.00414), with the estimator of Song et al. 2012 that is not biased by
    few samples, as in Nguyen et al. 2021 (arXiv:2010.15327). Only the Gram matrices are kept, so the memory is that of the maps of one layer.

    Args:
        one, other: modules; layers that only one of them has are dropped.
        samples: scaled samples (N, C, *), the same for both; at least 4.

    Raises:
        UsageError: too few samples.

    >>> module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    >>> [(each.path, round(each.cka, 3)) for each in layer_similarity(module, module, torch.rand(20, 1, 2, 2))]
    [('0', 1.0), ('1', 1.0)]
    """
    return gram_similarity(gram_matrices(one, samples), gram_matrices(other, samples))


def gram_similarity(one: Mapping[str, Array], other: Mapping[str, Array]) -> tuple[LayerSimilarity, ...]:
    """``layer_similarity`` from the Gram matrices of both networks for the same samples, so that each network runs once.

    Args:
        one, other: the results of ``gram_matrices``; layers that only one of them has are dropped.
    """
    return tuple(LayerSimilarity(path, centered_kernel_alignment(one[path], other[path])) for path in one if path in other)


def centered_kernel_alignment(one: Array, other: Array) -> float | None:
    """Centered kernel alignment of two Gram matrices (N, N) of the same samples; None if one of them is the same for all samples.

    >>> kernel = np.outer([0.0, 1.0, 2.0, 3.0, 5.0], [0.0, 1.0, 2.0, 3.0, 5.0])
    >>> round(centered_kernel_alignment(kernel, 7 * kernel), 6)
    1.0
    """
    own, others = _hsic(one, one), _hsic(other, other)
    if own <= 1e-12 * _size(one) or others <= 1e-12 * _size(other):
        return None
    return _hsic(one, other) / float(np.sqrt(own * others))


def _size(kernel: Array) -> float:
    return float(np.square(kernel).sum()) or 1.0


def _hsic(one: Array, other: Array) -> float:
    """The unbiased Hilbert-Schmidt independence criterion of Song et al. 2012, equation 5."""
    num_samples = len(one)
    left, right = one - np.diag(np.diag(one)), other - np.diag(np.diag(other))
    total = float((left * right.T).sum())
    total += float(left.sum() * right.sum()) / ((num_samples - 1) * (num_samples - 2))
    total -= 2 * float(left.sum(0) @ right.sum(1)) / (num_samples - 2)
    return total / (num_samples * (num_samples - 3))


@torch.no_grad()
def gram_matrices(module: nn.Module, samples: Inputs) -> dict[str, Array]:
    """For each layer by its path the centered Gram matrix (N, N) of its outputs: products of samples with samples.

    Args:
        module: any module.
        samples: scaled samples (N, C, *); at least 4.

    Raises:
        UsageError: too few samples.

    >>> gram_matrices(nn.Sequential(nn.Conv2d(1, 2, 3)), torch.rand(5, 1, 8, 8))["0"].shape
    (5, 5)
    """
    module = plain_module(module)
    found: dict[str, Array] = {}

    def listen(call: LayerCall) -> None:
        values = call.output.detach()
        if len(values) == num_samples and values.is_floating_point():
            found[call.path] = _gram(values.flatten(1))

    with eval_mode(module):
        batch = as_batch(module, samples)
        num_samples = len(batch)
        refuse_too_few(num_samples)
        with hook_layers(module, listen):
            run(module, batch)
    return found


def refuse_too_few(num_samples: int) -> None:
    """Refuse too few samples for an estimate.

    Raises:
        UsageError: fewer than 4.
    """
    if num_samples < MIN_SAMPLES:
        raise UsageError(f"comparing layers needs at least {MIN_SAMPLES} samples, and there are {num_samples}.")


def _gram(values: Tensor) -> Array:
    """The centered Gram matrix (N, N) of (N, features), computed in parts of the features."""
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
    """The solver of the assignment problem of scipy, where it is installed."""
    try:
        from scipy.optimize import linear_sum_assignment
    except Exception as error:
        raise MissingExtraError.because(error, "scipy", "examine", "matched filters") from error
    return linear_sum_assignment


def mean_similarity(layers: Sequence[LayerSimilarity]) -> float | None:
    """Mean CKA of the layers that have one; None if none has."""
    known = [layer.cka for layer in layers if layer.cka is not None]
    return sum(known) / len(known) if known else None
