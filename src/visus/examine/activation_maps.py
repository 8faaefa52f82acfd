"""Activations of every layer for given samples: feature maps, the share of zeros, dead and sparse filters.

Shape letters: N samples, C channels, * the spatial axes of a map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from visus.design.account import Fields
from visus.errors import UsageError, unknown_layer
from visus.examine.layer_calls import (
    Array,
    FunctionCall,
    Inputs,
    LayerCall,
    StopForward,
    TracedFields,
    as_batches,
    called_layers,
    eval_mode,
    find_operations,
    hook_layers,
    plain_module,
    read_only,
    run,
    select_layers,
    to_array,
)
from visus.networks.trace.rows import layer_text
from visus.tables import ShortFields

SPARSE = 0.95
"""A filter is called sparse where at least this share of its units, over positions and samples, is 0."""


@dataclass(frozen=True, eq=False, repr=False)
class ChannelStatistics(ShortFields):
    """Statistics of each channel over positions and samples.

    Args:
        zero_share: share of units that are exactly 0.
        lowest, highest, mean: values over the units.
    """

    zero_share: Array
    lowest: Array
    highest: Array
    mean: Array


@dataclass(frozen=True, eq=False, repr=False)
class Activation(ShortFields):
    """One call of a layer.

    Args:
        path: the layer's path; ``#2`` is appended if the layer was called before.
        layer: the definition of the layer, such as ``Conv2d(8, 3, padding=1)``.
        shape: ``(channels, *spatial)`` of one sample.
        values: the maps, (N, C, *); None if only statistics were kept.
        traced: receptive fields of the layers; the module is traced at their first use.
        known: the statistics, where they were computed already.
    """

    path: str
    layer: str
    shape: tuple[int, ...]
    values: Array | None
    traced: TracedFields
    known: ChannelStatistics | None = None

    @property
    def fields(self) -> Fields:
        """The receptive field on each axis of the input; none if the layer does not depend on the input."""
        return self.traced.fields(self.path)

    @cached_property
    def statistics(self) -> ChannelStatistics:
        """Statistics of each channel."""
        if self.known is not None or self.values is None:
            assert self.known is not None, "statistics are computed where maps are not kept"
            return self.known
        tally = _Tally(self.path, self.layer, self.shape)
        tally.add(torch.tensor(self.values))
        return tally.statistics()

    @property
    def zero_share(self) -> Array:
        """For each channel the share of its units, over positions and samples, that are exactly 0."""
        return self.statistics.zero_share

    @property
    def is_rectified(self) -> bool:
        """Whether no value of the whole layer is below 0, as after a ReLU."""
        return bool(self.statistics.lowest.min() >= 0)

    @property
    def dead(self) -> tuple[int, ...]:
        """Channels that are never positive, in a layer without negative values.

        A layer with negative values has no dead channels: see ``never_positive``.
        """
        return self.never_positive if self.is_rectified else ()

    @property
    def never_positive(self) -> tuple[int, ...]:
        """Channels that are never positive over the given samples, in any layer."""
        return tuple(int(channel) for channel in np.flatnonzero(self.statistics.highest <= 0))

    @property
    def sparse(self) -> tuple[int, ...]:
        """Channels that are 0 in at least 95 % of their units, and not dead."""
        dead = set(self.dead)
        return tuple(int(channel) for channel in np.flatnonzero(self.zero_share >= SPARSE) if int(channel) not in dead)


@dataclass(frozen=True, eq=False, repr=False)
class Activations(ShortFields):
    """The layers in the order of computation.

    Args:
        input_shape: ``(channels, *spatial)`` of one sample.
        num_samples: number of samples.
        layers: one for each call of a layer.
    """

    input_shape: tuple[int, ...]
    num_samples: int
    layers: tuple[Activation, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """Their paths."""
        return tuple(each.path for each in self.layers)

    def __getitem__(self, path: str) -> Activation:
        """The layer of a path.

        Raises:
            UsageError: the layer does not exist.
        """
        for each in self.layers:
            if each.path == path:
                return each
        raise UsageError(unknown_layer(path, self.paths))


def activations(
    module: nn.Module,
    inputs: Inputs | Iterable[Inputs],
    layers: str | Sequence[str] | None = None,
    *,
    summary_only: bool = False,
) -> Activations:
    """The feature maps of every layer, in the order of computation, with receptive fields, zeros and dead filters.

    The module runs once over each sample, in evaluation mode, and is restored.

    Args:
        module: any module that takes one tensor.
        inputs: scaled samples (N, C, *), or batches of them, such as those of ``visus.data.batches.batches_in_order``.
        layers: paths of layers; None for all. The forward pass stops after the last of them.
        summary_only: keep only statistics, so that a whole split takes the memory of one batch.

    Returns:
        The layers; their arrays are read-only.

    Raises:
        UsageError: no sample was given, or there is no such layer.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU())
    >>> seen = activations(module, torch.zeros(5, 1, 8, 8))
    >>> [(each.path, each.shape, each.fields[0].size) for each in seen.layers]
    [('0', (2, 8, 8), 3), ('1', (2, 8, 8), 3)]
    """
    module = plain_module(module)
    tallies: dict[str, _Tally] = {}
    wanted: list[str] | None = None
    operations: dict[str, FunctionCall] = {}
    shape: tuple[int, ...] = ()
    num_samples = 0
    with eval_mode(module), torch.no_grad():
        for batch in as_batches(module, inputs):
            shape = tuple(batch.shape[1:])
            if wanted is None and layers is not None:
                operations = find_operations(module, shape, layers)
                wanted = select_layers(layers, called_layers(module, batch[:1], operations))
            num_samples += len(batch)
            _run_batch(module, batch, wanted, operations, tallies, summary_only)
    if not num_samples:
        raise UsageError("at least one sample is needed, and there is none.")
    traced = TracedFields(module, shape)
    return Activations(shape, num_samples, tuple(tally.result(traced, summary_only) for tally in tallies.values()))


def _run_batch(
    module: nn.Module,
    batch: Tensor,
    wanted: list[str] | None,
    operations: Mapping[str, FunctionCall],
    tallies: dict[str, _Tally],
    summary_only: bool,
) -> None:
    """One forward pass; it is repeated with copies where the module wrote into a map that was kept."""
    for copies in (False, True):
        kept: dict[str, tuple[Tensor, int]] = {}
        with hook_layers(module, _listener(wanted, tallies, kept, summary_only, copies), operations=operations):
            run(module, batch)
        if all(values._version == version for values, version in kept.values()):
            break
    for path, (values, _) in kept.items():
        tallies[path].parts.append(values)


def _listener(
    wanted: list[str] | None,
    tallies: dict[str, _Tally],
    kept: dict[str, tuple[Tensor, int]],
    summary_only: bool,
    copies: bool,
) -> Callable[[LayerCall], None]:
    last = wanted[-1] if wanted else None

    def listen(call: LayerCall) -> None:
        if wanted is None or call.path in wanted:
            if call.path not in tallies:
                tallies[call.path] = _Tally(
                    call.path, call.operation or layer_text(call.module), tuple(call.output.shape[1:])
                )
            if summary_only:
                tallies[call.path].add(call.output)
            else:
                values = call.output.clone() if copies else call.output
                kept[call.path] = values, values._version
        if call.path == last:
            raise StopForward

    return listen


class _Tally:
    """The maps of one layer, or its statistics, accumulated over batches."""

    def __init__(self, path: str, layer: str, shape: tuple[int, ...]) -> None:
        self.path, self.layer, self.shape = path, layer, shape
        self.parts: list[Tensor] = []
        self.num_units = 0
        self.zeros: Array = np.zeros(shape[0], dtype=np.int64)
        self.total: Array = np.zeros(shape[0])
        self.lowest: Array = np.full(shape[0], np.inf)
        self.highest: Array = np.full(shape[0], -np.inf)

    def add(self, values: Tensor) -> None:
        """Accumulate the maps of one batch."""
        flat = values.flatten(2) if values.dim() > 2 else values.unsqueeze(2)
        num_units = flat.shape[0] * flat.shape[2]
        lowest, highest = torch.aminmax(flat, dim=2)
        self.lowest = np.minimum(self.lowest, lowest.amin(0).double().cpu().numpy())
        self.highest = np.maximum(self.highest, highest.amax(0).double().cpu().numpy())
        self.zeros += num_units - flat.count_nonzero((0, 2)).cpu().numpy()
        self.total += flat.sum(2).double().sum(0).cpu().numpy()
        self.num_units += num_units

    def statistics(self) -> ChannelStatistics:
        """The statistics of all batches."""
        return ChannelStatistics(
            read_only(self.zeros / self.num_units),
            read_only(self.lowest),
            read_only(self.highest),
            read_only(self.total / self.num_units),
        )

    def result(self, traced: TracedFields, summary_only: bool) -> Activation:
        """The layer."""
        if summary_only:
            return Activation(self.path, self.layer, self.shape, None, traced, self.statistics())
        values = self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts)
        return Activation(self.path, self.layer, self.shape, to_array(values), traced)
