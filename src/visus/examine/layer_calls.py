"""Listening to a module's layers while it runs, without leaving a trace on it.

A layer is a module without children, as in ``visus.networks.trace``; each call of a layer has a path, and a layer that is called again has ``#2``
behind its path. This file knows how a module is run so that it comes back untouched, and how a layer is found by its path. It must not
know what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from visus.design.account import Account, Fields
from visus.errors import UsageError, closest_name, unknown_name
from visus.geometry import Field
from visus.networks.trace import trace

Array = npt.NDArray[Any]
Inputs = Tensor | Array
Box = tuple[tuple[int, int], ...]
"""First and last pixel on each axis of the input, both included."""

_LAST: Final = "_visus_channels_last"  # the attribute of an output whose channels are its last dimension
_SHOWN: Final = 12


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Args:
        path: the layer's path; with ``#2`` behind it where the layer was called before.
        module: the layer.
        inputs: its arguments.
        output: the first tensor that it gave, channels moved to dimension 1: (items, channels, *spatial).
    """

    path: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, where ``torch.compile`` stands around it."""
    inner = getattr(module, "_orig_mod", module)
    return inner if isinstance(inner, nn.Module) else module


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """A context in which a module is in evaluation mode, its weights want no gradients and no layer overwrites its input."""
    training, overwriting, wanting = [], [], []
    for part in module.modules():  # one walk, which a small network's forward is not much longer than
        facts = part.__dict__
        if facts.get("training"):
            training.append(facts)
        if facts.get("inplace") is True:
            overwriting.append(facts)
        wanting += [values for values in part._parameters.values() if values is not None and values.requires_grad]
    try:
        for facts in training:
            facts["training"] = False
        for facts in overwriting:
            facts["inplace"] = False
        for values in wanting:
            values.requires_grad_(False)
        yield
    finally:
        for facts in training:
            facts["training"] = True
        for facts in overwriting:
            facts["inplace"] = True
        for values in wanting:
            values.requires_grad_(True)


class Ended(Exception):  # noqa: N818 - not an error: all that was wanted was heard
    """Raised by a listener to end the forward early."""


@contextmanager
def heard(module: nn.Module, listen: Callable[[Call], Tensor | None]) -> Iterator[None]:
    """A context in which ``listen`` is told of each call of a layer, in the order of computation.

    What ``listen`` returns takes the place of the layer's output; None leaves it. It may raise ``Ended``.
    """
    counts: dict[str, int] = {}

    def hook(path: str) -> Callable[..., Any]:
        def told(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            count = counts[path] = counts.get(path, 0) + 1
            first = first_tensor(output)
            if first is None:
                return None
            is_last = _note_channels(layer, args, first)
            call = Call(path if count == 1 else f"{path}#{count}", layer, args, first.movedim(-1, 1) if is_last else first)
            instead = listen(call)
            if instead is None or not is_last:
                return instead
            instead = instead.movedim(1, -1)
            setattr(instead, _LAST, True)
            return instead

        return told

    def begin(*_: Any) -> None:
        counts.clear()

    layers = [(path, part) for path, part in module.named_modules() if not part._modules]
    key: Any = object()  # of the hooks in the modules' own tables; torch's own way takes longer than a small network
    try:
        module._forward_pre_hooks[key] = begin
        for path, part in layers:
            part._forward_hooks[key] = hook(path)
        yield
    finally:
        module._forward_pre_hooks.pop(key, None)
        for _, part in layers:
            part._forward_hooks.pop(key, None)


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of an output, however deep in lists."""
    if isinstance(output, Tensor):
        return output
    parts = list(output.values()) if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)


def _note_channels(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> bool:
    """Whether channels are the last dimension: after a linear layer or a layer norm of a map, and what follows element by element."""
    if output.dim() < 3:
        return False
    before = first_tensor(args)
    follows = before is not None and not layer._parameters and before.shape == output.shape and hasattr(before, _LAST)
    is_last = follows or isinstance(layer, (nn.Linear, nn.LayerNorm))
    if is_last:
        setattr(output, _LAST, True)
    return is_last


def run(module: nn.Module, batch: Tensor) -> Any:
    """The module's output; None where a listener ended the forward."""
    try:
        return module(batch)
    except Ended:
        return None


def output_of(module: nn.Module, batch: Tensor, layer: str) -> Tensor:
    """The output of one call of a layer, with the gradients that are on; nothing after it is computed.

    Raises:
        UsageError: there is no such layer.
    """
    found: list[Tensor] = []

    def listen(call: Call) -> None:
        if call.path == layer:
            found.append(call.output)
            raise Ended

    with heard(module, listen):
        run(module, batch)
    if not found:
        raise UsageError(unknown_layer(layer, called_layers(module, batch[:1])))
    return found[0]


@torch.no_grad()
def called_layers(module: nn.Module, batch: Tensor) -> list[str]:
    """The paths of all calls of layers, in the order of computation."""
    paths: list[str] = []
    with heard(module, lambda call: paths.append(call.path)), at_rest(module):
        run(module, batch)
    return paths


def unknown_layer(name: str, known: Sequence[str]) -> str:
    """The sentence for a layer that is not there; a long list of layers is cut."""
    if len(known) <= _SHOWN:
        return unknown_name("layer", name, known)
    guess = closest_name(name, sorted(known))
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown layer {name!r}.{hint} There are {len(known)}, from {known[0]} to {known[-1]}; visus summary lists them."


def chosen_layers(wanted: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The layers that are wanted, in the order of computation; all where none is named.

    Raises:
        UsageError: a layer that is not there.
    """
    if wanted is None:
        return list(known)
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in known:
            raise UsageError(unknown_layer(name, known))
    return [path for path in known if path in names]


def as_batch(module: nn.Module, inputs: Inputs) -> Tensor:
    """Inputs (items, channels, *spatial) as a tensor where the module is; an array is copied only where it must be.

    Raises:
        UsageError: there is no item.
    """
    batch = inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.ascontiguousarray(inputs))
    if batch.dim() < 2 or not len(batch):
        raise UsageError(
            f"inputs of shape (items, channels, *spatial) with at least one item are needed, not {tuple(batch.shape)}."
        )
    convolutions = [part for part in module.modules() if isinstance(part, nn.modules.conv._ConvNd)]
    ranks = {len(part.kernel_size) for part in convolutions}
    if ranks == {batch.dim() - 1} and convolutions[0].in_channels == batch.shape[0]:
        raise UsageError(
            f"this is one item of the shape {tuple(batch.shape)}, and items are needed: give it as inputs[None]."
        )
    values = next((each for each in module.parameters() if each.is_floating_point()), None)
    return batch.detach() if values is None else batch.detach().to(device=values.device, dtype=values.dtype)


def one_item(module: nn.Module, item: Inputs) -> Tensor:
    """One item (channels, *spatial), or a batch of one, as a batch of one.

    Raises:
        UsageError: several items.
    """
    batch = torch.as_tensor(item)
    batch = as_batch(module, batch)
    if len(batch) != 1:
        raise UsageError(f"one item is needed, with its items axis, and {len(batch)} were given. Give inputs[:1].")
    return batch


def as_batches(module: nn.Module, inputs: Inputs | Iterable[Inputs]) -> Iterator[Tensor]:
    """One batch, or several taken one by one."""
    if isinstance(inputs, (Tensor, np.ndarray)):
        yield as_batch(module, inputs)
    else:
        for batch in inputs:
            if len(batch):
                yield as_batch(module, batch)


@dataclass(frozen=True, eq=False)
class Sights:
    """What each layer sees of the input. The module is traced when this is first asked for.

    Args:
        module: any module.
        input_shape: ``(channels, *spatial)`` of one item.
    """

    module: nn.Module
    input_shape: tuple[int, ...]

    @cached_property
    def account(self) -> Account:
        """The module's account for this input."""
        return trace(self.module, self.input_shape)

    @cached_property
    def _fields(self) -> dict[str, Fields]:
        return {row.path: row.fields for row in self.account.rows}

    def fields(self, path: str) -> Fields:
        """The receptive field of a layer on each axis; none where the layer does not depend on the input."""
        return self._fields.get(path, ())

    def box(self, path: str, position: Sequence[int], spatial: Sequence[int]) -> Box | None:
        """The pixels that the unit at a position really reads: first and last on each axis; None where it reads none.

        Args:
            position: of the unit in the layer's map.
            spatial: lengths of that map's axes.
        """
        fields = self.fields(path)
        each_axis = len(fields) == len(spatial) and all(
            field.reads is not None and len(field.reads) in (1, length)
            for field, length in zip(fields, spatial, strict=True)
        )
        found = [field.box(position[axis]) if each_axis else _all_of(field) for axis, field in enumerate(fields)]
        return None if any(ends is None for ends in found) else tuple(ends for ends in found if ends is not None)


def _all_of(field: Field) -> tuple[int, int] | None:
    """What all positions together read."""
    return field.over().box(0)


def cut(item: Array, box: Box | None) -> Array:
    """The pixels of an item (channels, *spatial) inside a box; without any where there is no box."""
    if box is None:
        return item[(slice(None), *(slice(0, 0) for _ in item.shape[1:]))]
    return item[(slice(None), *(slice(first, last + 1) for first, last in box))]


def frozen(values: Array) -> Array:
    """The array, no longer to be written to."""
    values.setflags(write=False)
    return values


def to_array(values: Tensor) -> Array:
    """A tensor as an array that cannot be written to; it shares the tensor's memory where it can."""
    values = values.detach()
    if values.dtype == torch.bfloat16:
        values = values.float()
    return frozen(values.cpu().numpy())


def position_in(spatial: Sequence[int], position: Sequence[int] | None, layer: str) -> tuple[int, ...]:
    """A position of a map; its middle where none is given.

    Raises:
        UsageError: there is no such position.
    """
    if position is None:
        return tuple(length // 2 for length in spatial)
    place = tuple(int(index) for index in position)
    if place and not spatial:
        raise UsageError("this layer has no map, so its units have no position. Leave it out.", where=layer)
    if len(place) != len(spatial) or not all(0 <= index < length for index, length in zip(place, spatial, strict=True)):
        raise UsageError(f"the map has the size {tuple(spatial)}, and position {place} was asked for.", where=layer)
    return place


def channel_in(num_channels: int, channel: int, layer: str) -> int:
    """A channel of a map.

    Raises:
        UsageError: there is no such channel.
    """
    if not 0 <= channel < num_channels:
        raise UsageError(
            f"there are {num_channels} channels, and channel {channel} was asked for: they are counted from 0.", where=layer
        )
    return channel
