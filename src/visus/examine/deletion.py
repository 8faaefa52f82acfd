"""Deletion and insertion curves: the score while pixels are removed or added, for many pixel orders at once.

Shape letters: N samples, C channels, * spatial axes, K orders, P pixels, S steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.evaluation.calibration import UNCALIBRATED, Calibrator
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.examine.layer_calls import Array, eval_mode
from visus.examine.saliency_types import TargetScores, Unit, class_scores

AT_ONCE: Final = 64
_MAX_VALUES: Final = 2**22  # input values of one forward


def step_counts(num_pixels: int, steps: int) -> Array:
    """Number of removed pixels at each step, from none to all.

    >>> step_counts(9, 4).tolist()
    [0, 2, 4, 7, 9]
    """
    counts: Array = np.unique(np.linspace(0, num_pixels, steps + 1).round().astype(int))
    return counts


def random_orders(rng: np.random.Generator, num_samples: int, num_pixels: int) -> Array:
    """A random order of the pixels for each sample, (N, P)."""
    orders: Array = rng.permuted(np.tile(np.arange(num_pixels), (num_samples, 1)), axis=1)
    return orders


def orders_of(maps: Array, rng: np.random.Generator) -> Array:
    """The pixels of each map (N, *), the highest first; pixels of equal saliency in random order."""
    values = maps.reshape(len(maps), -1)
    shuffled = random_orders(rng, *values.shape)
    ranked = np.argsort(-np.take_along_axis(values, shuffled, axis=1), axis=1, kind="stable")
    orders: Array = np.take_along_axis(shuffled, ranked, axis=1)
    return orders


@torch.no_grad()
def masked_scores(
    module: nn.Module,
    batch: Tensor,
    target: tuple[int, ...] | Unit,
    orders: Sequence[Array],
    counts: Array,
    fill: float | Tensor = 0.0,
    calibrator: Calibrator | Sigmoid = UNCALIBRATED,
) -> Array:
    """The score of each sample while pixels are removed, and while they are added: (K, 2, S, N).

    The score is the probability of the class, or the value of the unit. The scores with all pixels and with none are computed once.

    Args:
        module: the module.
        batch: scaled samples (N, C, *).
        target: a class for each sample, or a unit.
        orders: K orders of the pixels, (N, P) each.
        counts: (S,) number of pixels that are removed, or added, at each step.
        fill: the value of a removed pixel: one number, or (N, C, *).
        calibrator: turns outputs into probabilities.
    """
    num_samples, num_pixels = len(batch), orders[0].shape[1]
    plain = torch.as_tensor(fill, dtype=batch.dtype, device=batch.device).expand_as(batch)
    found = np.zeros((len(orders), 2, len(counts), num_samples))
    with eval_mode(module):
        whole, nothing = (_scores(module, each, target, np.arange(num_samples), calibrator) for each in (batch, plain))
        for place, order in enumerate(orders):
            ranks = torch.from_numpy(np.argsort(order, axis=1)).to(batch.device).reshape(num_samples, 1, *batch.shape[2:])
            wanted: list[tuple[int, int, int]] = []
            for step, count in enumerate(counts):
                for row in (0, 1):
                    gone = int(count) if row == 0 else num_pixels - int(count)
                    if gone == 0:
                        found[place, row, step] = whole
                    elif gone == num_pixels:
                        found[place, row, step] = nothing
                    else:
                        wanted += [(row, step, sample) for sample in range(num_samples)]
            size = max(1, min(AT_ONCE, _MAX_VALUES // batch[0].numel()))
            for start in range(0, len(wanted), size):
                rows, steps, samples = (np.array(each) for each in zip(*wanted[start : start + size], strict=True))
                limits = torch.from_numpy(counts[steps]).to(batch.device).reshape(-1, *[1] * (batch.dim() - 1))
                is_first = ranks[samples] < limits
                is_gone = is_first ^ torch.from_numpy(rows == 1).to(batch.device).reshape(limits.shape)
                x = torch.where(is_gone, plain[samples], batch[samples])
                found[place, rows, steps, samples] = _scores(module, x, target, samples, calibrator)
    return found


def _scores(
    module: nn.Module, x: Tensor, target: tuple[int, ...] | Unit, samples: Array, calibrator: Calibrator | Sigmoid
) -> Array:
    """The probability of each row's class, or the value of the unit."""
    if isinstance(target, Unit):
        values: Any = TargetScores(module, x, target).scores(x)
    else:
        logits, _ = class_scores(module(x))
        assert logits is not None, "a map of a class was made of this module"
        classes = torch.tensor(target)[torch.from_numpy(samples)]
        values = calibrator(logits.cpu()).gather(1, classes[:, None])[:, 0]
    return np.asarray(values.float().cpu().numpy())


def areas_under(curves: Array, counts: Array) -> Array:
    """The areas (..., N) under curves (..., S, N) over the share of pixels."""
    areas: Array = np.trapezoid(curves, counts / counts[-1], axis=-2)
    return areas
