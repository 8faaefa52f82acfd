"""Templates: for each filter the patches of the data with the highest activations.

A patch is cut to the exact receptive field of its unit: whatever replaces the rest of the sample, the activation stays the same up to
rounding. Shape letters: N samples, C channels, * spatial axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.data.batches import Part, batches_in_order
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError, unknown_layer
from visus.examine.layer_calls import (
    Array,
    Box,
    Inputs,
    LayerCall,
    StopForward,
    TracedFields,
    as_batch,
    as_batches,
    called_layers,
    crop_to_box,
    eval_mode,
    hook_layers,
    output_of,
    plain_module,
    read_only,
    run,
    select_layers,
    to_array,
)
from visus.tables import ShortFields

BATCH_SIZE = 128


@dataclass(frozen=True, eq=False, repr=False)
class Template(ShortFields):
    """One unit with a high activation.

    Args:
        sample: index of the sample, in the order in which samples were given.
        position: position of the unit in the map of its layer; empty if the layer has no map.
        value: its activation.
        box: its exact receptive field, first and last pixel on each axis; None if it reads only padding.
        patch: the scaled pixels inside the box, (channels, *).
    """

    sample: int
    position: tuple[int, ...]
    value: float
    box: Box | None
    patch: Array

    def pasted_into(self, surroundings: Array) -> Array:
        """A sample with the patch at its position and everything else from ``surroundings``, (channels, *)."""
        made = np.array(surroundings, dtype=self.patch.dtype)
        if self.box is not None:
            made[(slice(None), *(slice(first, last + 1) for first, last in self.box))] = self.patch
        return made


@dataclass(frozen=True, eq=False, repr=False)
class LayerTemplates(ShortFields):
    """One layer.

    Args:
        path: the layer's path.
        channels: for each channel its units with the highest activations, the highest first.
    """

    path: str
    channels: tuple[tuple[Template, ...], ...]


@dataclass(frozen=True, eq=False, repr=False)
class Templates(ShortFields):
    """The layers in the order of computation.

    Args:
        num_samples: samples that were searched.
        layers: one for each requested layer.
    """

    num_samples: int
    layers: tuple[LayerTemplates, ...]

    def __getitem__(self, path: str) -> LayerTemplates:
        """The layer of a path.

        Raises:
            UsageError: the layer does not exist.
        """
        for each in self.layers:
            if each.path == path:
                return each
        raise UsageError(unknown_layer(path, [each.path for each in self.layers]))


def templates(
    module: nn.Module,
    inputs: Part | Inputs | Iterable[Inputs],
    layers: str | Sequence[str] | None = None,
    *,
    top: int = 9,
    per_sample: int = 1,
    preprocessing: Preprocessing | None = None,
) -> Templates:
    """For every filter the patches of the data with the highest activations, found in one pass.

    Only samples of the current best patches are kept in memory (none of a split, which is read again). Of equals the first one stays.
    An activation of 0 after a ReLU means that nothing in the data activates the filter.

    Args:
        module: any module.
        inputs: a split with its ``preprocessing``, scaled samples (N, C, *), or batches of them.
        layers: paths of layers; None for all.
        top: maximum number for each channel.
        per_sample: maximum number of them from one sample.
        preprocessing: the preprocessing of the split.

    Raises:
        UsageError: no samples, no such layer, or a number below 1.

    >>> module = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    >>> _ = module.weight.fill_(2.0)
    >>> samples = torch.arange(8.0).reshape(2, 1, 2, 2)
    >>> best = templates(module, samples, top=1)[""].channels[0][0]
    >>> best.sample, best.position, best.value, best.box, best.patch.tolist()
    (1, (1, 1), 14.0, ((1, 1), (1, 1)), [[[7.0]]])
    """
    for name, number in (("top", top), ("per_sample", per_sample)):
        if number < 1:
            raise UsageError(f"{name} must be at least 1, not {number}.")
    module = plain_module(module)
    search = _Search(module, top, per_sample, keeps_samples=not isinstance(inputs, Part))
    with eval_mode(module), torch.no_grad():
        for batch in _batches(module, inputs, preprocessing):
            search.look(batch, layers)
    if not search.num_samples:
        raise UsageError("templates need at least one sample, and there is none.")
    if isinstance(inputs, Part):
        assert preprocessing is not None, "a split without its preprocessing was refused"
        return search.results(lambda sample: preprocessing.scaled(inputs.rows(np.array([sample])))[0].numpy())
    return search.results(lambda sample: search.samples[sample])


def _batches(
    module: nn.Module, inputs: Part | Inputs | Iterable[Inputs], preprocessing: Preprocessing | None
) -> Iterator[Tensor]:
    if not isinstance(inputs, Part):
        yield from as_batches(module, inputs)
        return
    if preprocessing is None:
        raise UsageError("the samples of a split are not normalized: give its preprocessing too.")
    for batch in batches_in_order(inputs, preprocessing, BATCH_SIZE):
        yield as_batch(module, batch)


class _Search:
    """The units with the highest activations of each channel so far."""

    def __init__(self, module: nn.Module, top: int, per_sample: int, keeps_samples: bool) -> None:
        self.module, self.top, self.per_sample, self.keeps_samples = module, top, per_sample, keeps_samples
        self.num_samples = 0
        self.input_shape: tuple[int, ...] = ()
        self.wanted: list[str] | None = None
        self.best: dict[str, _Best] = {}
        self.samples: dict[int, Array] = {}

    def look(self, batch: Tensor, layers: str | Sequence[str] | None) -> None:
        """Run one batch."""
        self.input_shape = tuple(batch.shape[1:])
        if self.wanted is None and layers is not None:
            self.wanted = select_layers(layers, called_layers(self.module, batch[:1]))
        last = self.wanted[-1] if self.wanted else None

        def listen(call: LayerCall) -> None:
            if self.wanted is None or call.path in self.wanted:
                best = self.best.setdefault(call.path, _Best(tuple(call.output.shape[2:]), self.top, self.per_sample))
                best.add(call.output, self.num_samples)
            if call.path == last:
                raise StopForward

        with hook_layers(self.module, listen):
            run(self.module, batch)
        if self.keeps_samples:
            self._keep(batch)
        self.num_samples += len(batch)

    def _keep(self, batch: Tensor) -> None:
        """Keep the samples of the current best units, and no others."""
        needed = {sample for best in self.best.values() for sample in best.samples.flatten().tolist()}
        self.samples = {sample: values for sample, values in self.samples.items() if sample in needed}
        for index in range(len(batch)):
            if self.num_samples + index in needed:
                self.samples[self.num_samples + index] = batch[index].cpu().numpy().copy()

    def results(self, sample_of: Callable[[int], Array]) -> Templates:
        """All templates with their boxes and patches; a patch is a view of its sample."""
        traced = TracedFields(self.module, self.input_shape)
        read: dict[int, Array] = {}
        layers = []
        for path, best in self.best.items():
            channels = []
            for units in best.units():
                made = []
                for sample, position, value in units:
                    if sample not in read:
                        read[sample] = read_only(sample_of(sample))
                    box = traced.box(path, position, best.spatial)
                    made.append(Template(sample, position, value, box, crop_to_box(read[sample], box)))
                channels.append(tuple(made))
            layers.append(LayerTemplates(path, tuple(channels)))
        return Templates(self.num_samples, tuple(layers))


class _Best:
    """The best units of one layer: (rank, channel) arrays of values, samples and flat positions."""

    def __init__(self, spatial: tuple[int, ...], top: int, per_sample: int) -> None:
        self.spatial, self.top, self.per_sample = spatial, top, per_sample
        self.values = self.samples = self.places = torch.empty(0)

    def add(self, maps: Tensor, first_sample: int) -> None:
        """Merge with the maps of a batch, (N, C, *)."""
        flat = maps.flatten(2) if maps.dim() > 2 else maps.unsqueeze(2)
        if self.per_sample == 1:
            values, places = (each.unsqueeze(2) for each in flat.max(2))
        else:
            values, places = flat.topk(min(self.per_sample, flat.shape[2]), 2)
        values, places = (each.transpose(1, 2).flatten(0, 1).cpu() for each in (values, places))
        samples = torch.arange(first_sample, first_sample + len(maps)).repeat_interleave(len(values) // len(maps))
        samples = samples.unsqueeze(1).expand_as(places)
        if self.values.numel():
            values, places, samples = (
                torch.cat(pair) for pair in ((self.values, values), (self.places, places), (self.samples, samples))
            )
        order = values.argsort(stable=True, dim=0, descending=True)[: self.top]
        self.values, self.places, self.samples = (each.gather(0, order) for each in (values, places, samples))

    def units(self) -> Iterator[list[tuple[int, tuple[int, ...], float]]]:
        """For each channel (sample, position, value) of its best units."""
        values, samples, places = to_array(self.values), to_array(self.samples), to_array(self.places)
        positions = np.stack(np.unravel_index(places, self.spatial or (1,)), -1)
        for channel in range(values.shape[1]):
            yield [
                (
                    int(samples[rank, channel]),
                    tuple(int(index) for index in positions[rank, channel]) if self.spatial else (),
                    float(values[rank, channel]),
                )
                for rank in range(len(values))
            ]


def unit_values(module: nn.Module, inputs: Inputs, layer: str, channel: int, position: Sequence[int] = ()) -> Array:
    """The activation of one unit for each sample, (N,): a template is correct if its patch alone has its value.

    Raises:
        UsageError: the layer does not exist.

    >>> module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    >>> unit_values(module, torch.rand(4, 1, 8, 8), "0", channel=1, position=(0, 0)).shape
    (4,)
    """
    module = plain_module(module)
    with eval_mode(module), torch.no_grad():
        output = output_of(module, as_batch(module, inputs), layer)
    place: tuple[Any, ...] = (slice(None), channel, *position)
    return to_array(output[place].clone())
