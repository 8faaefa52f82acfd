"""The effective receptive field: how much each pixel really moves a unit (Luo et al. 2016, arXiv:1701.04128).

Where the receptive field says which pixels a unit can read, the effective one says how strongly: the root of the mean over
samples of the squared gradient of the unit, summed over the input's channels. This file knows units, gradients and their mean
squares.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.examine.effective_rules import Measured, Measuring, Replaced
from visus.examine.layer_calls import (
    Array,
    Box,
    Inputs,
    TracedFields,
    as_batches,
    at_rest,
    channel_in,
    first_weights,
    frozen,
    output_of,
    position_in,
    run,
    unwrapped,
)

NOISE_SAMPLES = 16
HALVES_NEED = 8
_NO_PLACE: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class EffectiveField:
    """How strongly each pixel moves a unit.

    Args:
        layer: path of the unit's layer.
        channel: its channel; None for all of them, their mean squares added.
        position: its place in the map.
        strength: (*spatial) of the input, the root of the mean square of the gradient: change of the unit for a change of the pixel by 1.
        num_samples: samples whose gradients were taken; 0 where none were.
        agreement: the cosine of the field of every other sample with that of the rest, so that the whole is surer than this; None
            where fewer than 8 samples were sampled.
        sights: what the layers see; traced when it is first asked for.
        spatial: lengths of the axes of the layer's map.
    """

    layer: str
    channel: int | None
    position: tuple[int, ...]
    strength: Array
    sights: TracedFields
    spatial: tuple[int, ...]
    num_samples: int = 0
    agreement: float | None = None

    @cached_property
    def box(self) -> Box | None:
        """The pixels that the unit really reads, first and last on each axis; None where it reads none."""
        return self.sights.box(self.layer, self.position, self.spatial)

    @property
    def center_px(self) -> tuple[float, ...]:
        """Middle of the squared strength on each axis, in pixels."""
        return tuple(float(profile @ np.arange(len(profile))) for profile in self._profiles())

    @property
    def deviation_px(self) -> tuple[float, ...]:
        """Standard deviation of the squared strength on each axis, in pixels; the theoretical field is often many times wider."""
        spreads = []
        for profile, center in zip(self._profiles(), self.center_px, strict=True):
            spreads.append(math.sqrt(float(profile @ np.square(np.arange(len(profile)) - center))))
        return tuple(spreads)

    def cosine(self, other: EffectiveField) -> float:
        """How alike two maps are: 1 for equal shapes, whatever their scales."""
        return _cosine(self.strength, other.strength)

    def _profiles(self) -> list[Array]:
        energy = np.square(self.strength)
        energy = energy / (energy.sum() or 1.0)
        axes = range(energy.ndim)
        return [energy.sum(axis=tuple(each for each in axes if each != axis)) for axis in axes]


@dataclass(frozen=True, eq=False)
class Rates:
    """How often each gate of a module is open on given samples, and how its other derivatives are spread: measured once, used for every unit.

    Args:
        input_shape: ``(channels, *spatial)`` of one sample.
        num_samples: samples that were looked at.
        measured: for each function that is not linear, in the order of calls.
    """

    input_shape: tuple[int, ...]
    num_samples: int
    measured: tuple[Measured, ...]


def measured_rates(module: nn.Module, inputs: Inputs | Iterable[Inputs]) -> Rates:
    """The rates of a module's gates over given samples, by one forward.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *), or batches of them.

    Raises:
        UsageError: no samples, or a function whose derivative cannot be told place by place.
    """
    module = unwrapped(module)
    known: list[Measured] = []
    num_samples, shape = 0, _NO_PLACE
    with at_rest(module), torch.no_grad():
        for batch in as_batches(module, inputs):
            measuring = Measuring(known)
            given = measuring.mark(batch.clone())
            with measuring:
                run(module, given)
            num_samples, shape = num_samples + len(batch), tuple(batch.shape[1:])
    if not num_samples:
        raise UsageError("rates are measured on at least one sample, and there is none.")
    return Rates(shape, num_samples, tuple(known))


def effective_field(
    module: nn.Module,
    inputs: Inputs | Iterable[Inputs] | tuple[int, ...] | Rates,
    layer: str,
    position: Sequence[int] | None = None,
    channel: int | None = None,
) -> EffectiveField:
    """The effective field of a unit by one backward pass, without noise, from the rates of the gates.

    The mean square of the gradient is carried through the network backwards: weights and gains squared, each gate at its measured rate, a
    maximum as the mean of its taps, sums added. For one channel the mean of the gradient goes along in a second pass, since
    what all samples agree on adds up with its sign.

    Like the theory of Luo et al. this takes gates for independent of each other. That holds for new networks: the cosine with 200
    samples was at least 0.998 for all channels together, and 0.98 to 0.997 for single ones (medians of each network). In a trained
    network gates open together, and gradients add up that the theory takes for unrelated: the cosine was 0.92 to 0.98, and 0.95
    for single channels (``benchmarks/looking_inside.py``, small networks trained on Fashion-MNIST). No theory of independent
    gates does much better: with every gate of such networks drawn on its own, and nothing else approximated, it was 0.973 to 0.995.
    So take the map of a trained network for a sketch, its scale too. Where it must be right, ``effective_field_sampled`` with
    ``until=0.98`` took 48 to 200 samples, and its cosine with 200 others was 0.990 to 0.995.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *) or batches of them on which rates are measured; or ``(channels, *spatial)``, for samples of
            normal noise; or rates that ``measured_rates`` gave, which saves their time for each further unit.
        layer: path of the unit's layer.
        position: its place in the map; None for the middle.
        channel: its channel; None for all of them.

    Raises:
        UsageError: no such layer, position or channel; a function on the way whose squared gradient is not known.

    >>> module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
    >>> field = effective_field(module, (1, 9, 9), "2")
    >>> field.box, field.strength.shape, bool((field.strength[:2] == 0).all())
    (((2, 6), (2, 6)), (9, 9), True)
    """
    module = unwrapped(module)
    rates = _rates(module, inputs)
    known = list(rates.measured)
    with at_rest(module):
        values = first_weights(module)
        values = torch.empty(0) if values is None else values
        x = torch.zeros(1, *rates.input_shape, dtype=values.dtype, device=values.device)
        means, through_gates = torch.zeros_like(x), []
        if channel is not None:
            with Replaced(known, "mean") as mean:
                unit, place, spatial = _unit(module, x.requires_grad_(True), layer, position, channel)
            means, *through_gates = torch.autograd.grad(
                unit.sum(), [x, *mean.random], allow_unused=True, materialize_grads=True
            )
        x = x.detach()
        with Replaced(known, "square") as square:
            unit, place, spatial = _unit(module, x.requires_grad_(True), layer, position, channel)
        if channel is not None:  # what is random begins at the gates that the unit's gradient passes
            terms = zip(square.random, through_gates, strict=True)
            unit = sum(((varied * gradient.square()).sum() for varied, gradient in terms), torch.zeros(()))
        squares = _gradient(unit.sum(), x) + means.square()
    strength = squares[0].sum(0).clamp_min(0).sqrt()
    sights = TracedFields(module, rates.input_shape)
    return EffectiveField(layer, channel, place, frozen(strength.double().cpu().numpy()), sights, spatial)


def effective_field_sampled(
    module: nn.Module,
    inputs: Inputs | Iterable[Inputs],
    layer: str,
    position: Sequence[int] | None = None,
    channel: int | None = None,
    *,
    until: float | None = None,
    seed: int = 0,
) -> EffectiveField:
    """The effective field of a unit over given samples, by one backward pass for each.

    All channels together are sampled by a sum of them with random signs, whose squared gradient is in the mean the sum of theirs.

    Args:
        module: any module.
        inputs: scaled samples (N, C, *), or batches of them.
        layer: path of the unit's layer.
        position: its place in the map; None for the middle.
        channel: its channel; None for all of them.
        until: stop as soon as ``agreement`` is at least this, looked at after every 8 samples; None to go through all.
        seed: of the signs.

    Raises:
        UsageError: no samples; no such layer, position or channel.
    """
    module = unwrapped(module)
    if until is not None and not 0 < until < 1:
        raise UsageError(f"until is a cosine between 0 and 1, such as 0.99, and not {until}.")
    generator = torch.Generator().manual_seed(seed)
    halves: list[Tensor] = []
    num_samples = 0
    agreement: float | None = None
    place, spatial, shape = _NO_PLACE, _NO_PLACE, _NO_PLACE
    with at_rest(module):
        for batch in _small_batches(as_batches(module, inputs), until is not None):
            shape = tuple(batch.shape[1:])
            x = batch.clone().requires_grad_(True)
            unit, place, spatial = _unit(module, x, layer, position, channel)
            signs = torch.randint(0, 2, unit.shape, generator=generator).to(unit) * 2 - 1
            squares = _gradient((unit * signs).sum(), x).double().square().sum(1)
            even, odd = squares[num_samples % 2 :: 2].sum(0), squares[1 - num_samples % 2 :: 2].sum(0)
            halves = [halves[0] + even, halves[1] + odd] if halves else [even, odd]
            num_samples += len(batch)
            if num_samples >= HALVES_NEED:
                agreement = _cosine(*(each.sqrt().cpu().numpy() for each in halves))
            if until is not None and agreement is not None and agreement >= until:
                break
    if not num_samples:
        raise UsageError("an effective field is sampled on at least one sample, and there is none.")
    strength = ((halves[0] + halves[1]) / num_samples).sqrt().cpu().numpy()
    return EffectiveField(
        layer, channel, place, frozen(strength), TracedFields(module, shape), spatial, num_samples, agreement
    )


def _rates(module: nn.Module, inputs: Inputs | Iterable[Inputs] | tuple[int, ...] | Rates) -> Rates:
    if isinstance(inputs, Rates):
        return inputs
    if isinstance(inputs, tuple) and all(isinstance(length, int) for length in inputs):
        return measured_rates(module, torch.randn(NOISE_SAMPLES, *inputs, generator=torch.Generator().manual_seed(0)))
    return measured_rates(module, inputs)  # type: ignore[arg-type]


def _unit(
    module: nn.Module, x: Tensor, layer: str, position: Sequence[int] | None, channel: int | None
) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """(samples, channels) of a layer at a place (of one channel, or of all); the place; and the lengths of the layer's map."""
    output = output_of(module, x, layer)
    spatial = tuple(output.shape[2:])
    place = position_in(spatial, position, layer)
    channels = slice(None)
    if channel is not None:
        channels = slice(channel_in(output.shape[1], channel, layer), channel + 1)
    index: tuple[Any, ...] = (slice(None), channels, *place)
    return output[index], place, spatial


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """The gradient to the input; zeros where the value does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    return torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)[0]


def _small_batches(batches: Iterator[Tensor], small: bool) -> Iterator[Tensor]:
    for batch in batches:
        for start in range(0, len(batch), HALVES_NEED if small else len(batch)):
            yield batch[start : start + HALVES_NEED] if small else batch


def _cosine(one: Array, other: Array) -> float:
    length = math.sqrt(float(np.square(one).sum()) * float(np.square(other).sum()))
    return float((one * other).sum()) / length if length else 0.0
