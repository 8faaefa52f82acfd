"""Listening to a module's layers while it runs, without leaving a trace on it.

A layer is a module without children, as in ``visus.networks.trace``; each call of a layer has a path, and a layer that is
called again has ``#2`` behind its path. This file knows how a module is run so that it comes back untouched, and how a layer is
found by its path.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from traceback import clear_frames
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from visus.design.account import Account, Fields
from visus.errors import UsageError, closest_name, unknown_name
from visus.examine.layer_outputs import (
    ACTIVATION_FUNCTIONS,
    ACTIVE,
    LAYOUT,
    behind_activation,
    first_tensor,
    layout_of,
    with_first,
)
from visus.geometry import Field
from visus.networks.trace import trace

Array = npt.NDArray[Any]
Inputs = Tensor | Array
Box = tuple[tuple[int, int], ...]
"""First and last pixel on each axis of the input, both included."""

FUNCTION: Final = " + "  # between the path of a layer and the name of an activation function that follows it
_SHOWN: Final = 12
_NO_WEIGHTS: Final = (
    "the weights have no shape before the module's first forward. Run it once on a sample, then look into it."
)
_SCRIPTED: Final = "a TorchScript module runs outside of Python, so its layers cannot be listened to. Give the Python module that it was made from."


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer.

    Args:
        path: the layer's path; with ``#2`` behind it where the layer was called before.
        module: the layer.
        inputs: its arguments.
        output: the first tensor that it gave, channels moved to dimension 1: (samples, channels, *spatial).
        is_active: whether the output is behind an activation, with nothing but layers without weights in between.
    """

    path: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor
    is_active: bool = False


def unwrapped(module: nn.Module) -> nn.Module:
    """The module itself, where ``torch.compile`` stands around it; a copy where its weights were made in inference mode.

    Raises:
        UsageError: its weights are lazy, and were not made yet.
    """
    _refuse_lazy(module)
    inner = getattr(module, "_orig_mod", module)
    found = inner if isinstance(inner, nn.Module) else module
    if not any(values.is_inference() for values in (*found.parameters(), *found.buffers())):
        return found
    with torch.inference_mode(False):  # weights that were made in inference mode take no part in gradients; their copies do
        return copy.deepcopy(found)


def _refuse_lazy(module: nn.Module) -> None:
    for path, each in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(each):
            raise UsageError(_NO_WEIGHTS, where=path)


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """A context in which a module is in evaluation mode, its weights want no gradients, no layer overwrites its input, and none is compiled."""
    training, overwriting, wanting, compiled, scripted = [], [], [], [], []
    is_wrapped = False
    for part in module.modules():  # one walk, which a small network's forward is not much longer than
        facts = part.__dict__
        if facts.get("training"):
            training.append(facts)
        if facts.get("inplace") is True:
            overwriting.append(facts)
        if facts.get("_compiled_call_impl") is not None:
            compiled.append((facts, facts["_compiled_call_impl"]))
        is_wrapped = is_wrapped or "_orig_mod" in part._modules
        if isinstance(part, torch.jit.ScriptModule) and part.training:
            scripted.append(part)
        wanting += [values for values in part._parameters.values() if values is not None and values.requires_grad]
    try:
        for facts in training:
            facts["training"] = False
        for facts in overwriting:
            facts["inplace"] = False
        for facts, _ in compiled:
            facts["_compiled_call_impl"] = None
        for part in scripted:
            part.eval()
        for values in wanting:
            values.requires_grad_(False)
        # A compiled part would go on without the hooks that are set after its compilation.
        with torch.compiler.set_stance("force_eager") if is_wrapped else contextlib.nullcontext():
            yield
    finally:
        for facts in training:
            facts["training"] = True
        for facts in overwriting:
            facts["inplace"] = True
        for facts, call in compiled:
            facts["_compiled_call_impl"] = call
        for part in scripted:
            part.train()
        for values in wanting:
            values.requires_grad_(True)


@contextmanager
def gradients() -> Iterator[None]:
    """A context in which gradients can be had, inside ``torch.no_grad`` and ``torch.inference_mode`` too."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class Ended(Exception):  # noqa: N818 - not an error: all that was wanted was heard
    """Raised by a listener to end the forward early."""


@contextmanager
def heard(module: nn.Module, listen: Callable[[LayerCall], Tensor | None], *, functions: bool = False) -> Iterator[None]:
    """A context in which ``listen`` is told of each call of a layer, in the order of computation.

    What ``listen`` returns takes the place of the layer's output; None leaves it. It may raise ``Ended``.

    Args:
        module: the module.
        listen: what is told of a call.
        functions: tell of activation functions too, such as ``F.relu``, that follow a layer outside of layers; their path is the layer's with
            the function's name.

    Raises:
        UsageError: a part of the module is a TorchScript module.
    """
    layers = [(path, part) for path, part in module.named_modules() if not part._modules]
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise UsageError(_SCRIPTED, where=path) if path else UsageError(_SCRIPTED)
    ear = _Ear(listen, functions)
    key: Any = object()  # of the hooks in the modules' own tables; torch's own way takes longer than a small network
    try:
        module._forward_pre_hooks[key] = ear.begin
        for path, part in layers:
            part._forward_hooks[key] = ear.hook(path)
            if functions and part is not module:
                part._forward_pre_hooks[key] = ear.enter
        with _Functions(ear) if functions else contextlib.nullcontext():
            yield
    finally:
        module._forward_pre_hooks.pop(key, None)
        for _, part in layers:
            part._forward_hooks.pop(key, None)
            part._forward_pre_hooks.pop(key, None)


class _Ear:
    """The hooks that tell a listener of calls."""

    def __init__(self, listen: Callable[[LayerCall], Tensor | None], follows: bool) -> None:
        self.listen, self.follows = listen, follows
        self.counts: dict[str, int] = {}
        self.last: tuple[str, nn.Module, torch.Size, tuple[int, ...] | None] | None = None
        self.depth = 0

    def begin(self, *_: Any) -> None:
        """A new forward of the whole module."""
        self.counts.clear()
        self.last, self.depth = None, 0

    def enter(self, *_: Any) -> None:
        """A layer begins, whose own functions are not told of."""
        self.depth += 1

    def hook(self, path: str) -> Callable[..., Any]:
        """The hook of one layer."""

        def told(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            self.depth = max(0, self.depth - 1)
            first = first_tensor(output)
            named = self._named(path)
            if first is None:
                return None
            layout = layout_of(layer, args, first)
            self.last = named, layer, first.shape, layout
            is_active = self.follows and behind_activation(layer, args)
            instead = self._tell(named, layer, args, first, layout, is_active)
            return None if instead is None else with_first(output, instead)

        return told

    def _named(self, path: str) -> str:
        count = self.counts[path] = self.counts.get(path, 0) + 1
        return path if count == 1 else f"{path}#{count}"

    def function(self, name: str, given: Tensor, output: Any) -> Any:
        """An activation function outside of layers."""
        is_told = self.last is not None and not self.depth and isinstance(output, Tensor) and output is not given
        if not is_told or self.last is None or output.shape != self.last[2]:
            return output
        path, layer, _, layout = self.last
        instead = self._tell(self._named(f"{path}{FUNCTION}{name}"), layer, (given,), output, layout, is_active=True)
        return output if instead is None else instead

    def _tell(
        self,
        path: str,
        layer: nn.Module,
        args: tuple[Any, ...],
        first: Tensor,
        layout: tuple[int, ...] | None,
        is_active: bool,
    ) -> Tensor | None:
        """What takes the place of the first tensor of an output, its dimensions as they were."""
        values = first if layout is None else first.permute(layout)
        instead = self.listen(LayerCall(path, layer, args, values, is_active))
        if instead is not None and layout is not None:
            instead = instead.permute(tuple(layout.index(axis) for axis in range(len(layout))))
        for told in (first, instead):
            if told is not None:
                setattr(told, ACTIVE, is_active)
                if layout is not None:
                    setattr(told, LAYOUT, layout)
        return instead


class _Functions(TorchFunctionMode):
    """Tells of activation functions while a module runs."""

    def __init__(self, ear: _Ear) -> None:
        super().__init__()
        self.ear = ear

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = ACTIVATION_FUNCTIONS.get(func) if isinstance(func, Hashable) else None
        if name is None or not args or not isinstance(args[0], Tensor):
            return output
        return self.ear.function(name, args[0], output)


def run(module: nn.Module, batch: Tensor) -> Any:
    """The module's output; None where a listener ended the forward."""
    try:
        return module(batch)
    except Ended as ended:
        clear_frames(ended.__traceback__)  # which hold maps that nobody needs any more
        return None


def output_of(module: nn.Module, batch: Tensor, layer: str) -> Tensor:
    """The output of one call of a layer, with the gradients that are on; nothing after it is computed.

    Raises:
        UsageError: there is no such layer.
    """
    found: list[Tensor] = []

    def listen(call: LayerCall) -> None:
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
    """Inputs (samples, channels, *spatial) as a tensor where the module is; an array is copied only where it must be.

    Raises:
        UsageError: there is no sample.
    """
    batch = inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.ascontiguousarray(inputs))
    if batch.dim() < 2 or not len(batch):
        raise UsageError(
            f"inputs of shape (samples, channels, *spatial) with at least one sample are needed, not {tuple(batch.shape)}."
        )
    convolutions = [part for part in module.modules() if isinstance(part, nn.modules.conv._ConvNd)]
    ranks = {len(part.kernel_size) for part in convolutions}
    if ranks == {batch.dim() - 1} and convolutions[0].in_channels == batch.shape[0]:
        raise UsageError(
            f"this is one sample of the shape {tuple(batch.shape)}, and samples are needed: give it as inputs[None]."
        )
    _refuse_lazy(module)
    values = first_weights(module)
    with torch.inference_mode(False):
        batch = batch.detach() if values is None else batch.detach().to(device=values.device, dtype=values.dtype)
        return batch.clone() if batch.is_inference() else batch


def first_weights(module: nn.Module) -> Tensor | None:
    """The weights of the first layer that has some, by whose dtype a module reads its input; else its first parameter; None where it has none."""
    first = None
    for part in module.modules():
        for values in part._parameters.values():
            if values is not None and values.is_floating_point():
                if not part._modules:
                    return values
                first = values if first is None else first
    return first


def one_sample(module: nn.Module, sample: Inputs) -> Tensor:
    """One sample (channels, *spatial), or a batch of one, as a batch of one.

    Raises:
        UsageError: several samples.
    """
    batch = torch.as_tensor(sample)
    batch = as_batch(module, batch)
    if len(batch) != 1:
        raise UsageError(f"one sample is needed, with its samples axis, and {len(batch)} were given. Give inputs[:1].")
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
class TracedFields:
    """What each layer sees of the input. The module is traced when this is first asked for.

    Args:
        module: any module.
        input_shape: ``(channels, *spatial)`` of one sample.
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
            field.intervals is not None and len(field.intervals) in (1, length)
            for field, length in zip(fields, spatial, strict=True)
        )
        found = [field.interval(position[axis]) if each_axis else _all_of(field) for axis, field in enumerate(fields)]
        return None if any(ends is None for ends in found) else tuple(ends for ends in found if ends is not None)


def _all_of(field: Field) -> tuple[int, int] | None:
    """What all positions together read."""
    return field.hull().interval(0)


def cut(sample: Array, box: Box | None) -> Array:
    """The pixels of a sample (channels, *spatial) inside a box; without any where there is no box."""
    if box is None:
        return sample[(slice(None), *(slice(0, 0) for _ in sample.shape[1:]))]
    return sample[(slice(None), *(slice(first, last + 1) for first, last in box))]


def frozen(values: Array) -> Array:
    """The array, no longer to be written to."""
    values.setflags(write=False)
    return values


def to_array(values: Tensor) -> Array:
    """A tensor as an array that cannot be written to; it shares the tensor's memory where it can."""
    values = values.detach()
    if values.dtype in (torch.bfloat16, torch.float16):
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
