"""Hooks on the layers of a module, set for one forward pass and removed after it.

A layer is a module without children, as in ``visus.networks.trace``; each call of a layer has a path, and the second call of a layer has
``#2`` behind its path.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
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
from visus.errors import UsageError, VisusError, unknown_layer
from visus.examine.layer_outputs import (
    ACTIVATION_FUNCTIONS,
    ACTIVE,
    LAYOUT,
    all_tensors,
    first_tensor,
    is_after_activation,
    output_layout,
    with_first,
)
from visus.geometry import Field
from visus.networks.trace import trace
from visus.networks.trace.function_calls import FunctionCalls

Array = npt.NDArray[Any]
Inputs = Tensor | Array
FunctionCall = tuple[str, int]
"""A function of torch, and the number of its calls before, as in ``Account.function_calls``."""
Box = tuple[tuple[int, int], ...]
"""First and last pixel on each axis of the input, both included."""

FUNCTION: Final = " + "  # between the path of a layer and the name of an activation function that follows it
_NO_WEIGHTS: Final = "its weights have no shape before the first forward pass. Run the module once on a sample first."
_SCRIPTED: Final = (
    "a TorchScript module runs outside of Python, so its layers take no hooks. Give the Python module that it was made from."
)


@dataclass(frozen=True, eq=False)
class LayerCall:
    """One call of a layer.

    Args:
        path: the layer's path; with ``#2`` is appended if the layer was called before.
        module: the layer.
        inputs: its arguments.
        output: the first tensor of its output, channels moved to dimension 1: (samples, channels, *spatial).
        is_active: whether the output comes from an activation, with nothing but layers without weights in between.
        operation: name of the operation, if this is one outside of layers, such as ``add``; ``module`` is then the whole module.
    """

    path: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor
    is_active: bool = False
    operation: str = ""


def plain_module(module: nn.Module) -> nn.Module:
    """The module inside of ``torch.compile``; a copy where its weights were made in inference mode.

    Raises:
        UsageError: its weights are lazy and not yet initialized.
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
def eval_mode(module: nn.Module) -> Iterator[None]:
    """A context in which a module is in evaluation mode, without gradients of its weights, without in-place layers and not compiled."""
    training, inplace, with_gradient, compiled, scripted = [], [], [], [], []
    is_wrapped = False
    for part in module.modules():  # one walk, which a small network's forward is not much longer than
        facts = part.__dict__
        if facts.get("training"):
            training.append(facts)
        if facts.get("inplace") is True:
            inplace.append(facts)
        if facts.get("_compiled_call_impl") is not None:
            compiled.append((facts, facts["_compiled_call_impl"]))
        is_wrapped = is_wrapped or "_orig_mod" in part._modules
        if isinstance(part, torch.jit.ScriptModule) and part.training:
            scripted.append(part)
        with_gradient += [values for values in part._parameters.values() if values is not None and values.requires_grad]
    try:
        for facts in training:
            facts["training"] = False
        for facts in inplace:
            facts["inplace"] = False
        for facts, _ in compiled:
            facts["_compiled_call_impl"] = None
        for part in scripted:
            part.eval()
        for values in with_gradient:
            values.requires_grad_(False)
        # A compiled part would go on without the hooks that are set after its compilation.
        with torch.compiler.set_stance("force_eager") if is_wrapped else contextlib.nullcontext():
            yield
    finally:
        for facts in training:
            facts["training"] = True
        for facts in inplace:
            facts["inplace"] = True
        for facts, call in compiled:
            facts["_compiled_call_impl"] = call
        for part in scripted:
            part.train()
        for values in with_gradient:
            values.requires_grad_(True)


@contextmanager
def enable_gradients() -> Iterator[None]:
    """A context in which gradients are computed, inside ``torch.no_grad`` and ``torch.inference_mode`` too."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class StopForward(Exception):  # noqa: N818 - not an error: the rest of the forward pass is not needed
    """Raised by a hook to end the forward pass early."""


@contextmanager
def hook_layers(
    module: nn.Module,
    listen: Callable[[LayerCall], Tensor | None],
    *,
    functions: bool = False,
    operations: Mapping[str, FunctionCall] | None = None,
) -> Iterator[None]:
    """A context in which ``listen`` is called after each call of a layer, in the order of computation.

    The tensor that ``listen`` returns replaces the output of the layer; None keeps it. It may raise ``StopForward``.

    Args:
        module: the module.
        listen: the hook.
        functions: call it after activation functions too, such as ``F.relu``, that follow a layer outside of layers; their path is that of the
            layer with the name of the function.
        operations: call it after these operations outside of layers too, by path, as ``find_operations`` returns them.

    Raises:
        UsageError: a part of the module is a TorchScript module.
    """
    layers = [(path, part) for path, part in module.named_modules() if not part._modules]
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise UsageError(_SCRIPTED, where=path) if path else UsageError(_SCRIPTED)
    hooks = _Hooks(listen, functions)
    key: Any = object()  # of the hooks in the modules' own tables: register_forward_hook takes longer than a small network
    try:
        module._forward_pre_hooks[key] = hooks.begin
        for path, part in layers:
            part._forward_hooks[key] = hooks.hook(path)
            if functions and part is not module:
                part._forward_pre_hooks[key] = hooks.enter
        with (
            _Functions(hooks) if functions else contextlib.nullcontext(),
            _Operations(hooks, module, operations) if operations else contextlib.nullcontext(),
        ):
            yield
    finally:
        module._forward_pre_hooks.pop(key, None)
        for _, part in layers:
            part._forward_hooks.pop(key, None)
            part._forward_pre_hooks.pop(key, None)


class _Hooks:
    """The hooks of one forward pass, which call the listener."""

    def __init__(self, listen: Callable[[LayerCall], Tensor | None], follows: bool) -> None:
        self.listen, self.follows = listen, follows
        self.counts: dict[str, int] = {}
        self.last: tuple[str, nn.Module, torch.Size, tuple[int, ...] | None] | None = None
        self.depth = 0
        self.calls = FunctionCalls()
        self.is_listening = False

    def begin(self, *_: Any) -> None:
        """The forward pass of the whole module begins."""
        self.counts.clear()
        self.calls.counts.clear()
        self.last, self.depth = None, 0

    def enter(self, *_: Any) -> None:
        """A layer begins; functions inside it are not reported."""
        self.depth += 1

    def hook(self, path: str) -> Callable[..., Any]:
        """The forward hook of one layer."""

        def after_call(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            self.depth = max(0, self.depth - 1)
            first = first_tensor(output)
            named = self._named(path)
            if first is None:
                return None
            layout = output_layout(layer, args, first)
            self.last = named, layer, first.shape, layout
            is_active = self.follows and is_after_activation(layer, args)
            replaced = self._call(named, layer, args, first, layout, is_active)
            return None if replaced is None else with_first(output, replaced)

        return after_call

    def _named(self, path: str) -> str:
        count = self.counts[path] = self.counts.get(path, 0) + 1
        return path if count == 1 else f"{path}#{count}"

    def function(self, name: str, given: Tensor, output: Any) -> Any:
        """An activation function outside of layers."""
        is_reported = self.last is not None and not self.depth and isinstance(output, Tensor) and output is not given
        if not is_reported or self.last is None or output.shape != self.last[2]:
            return output
        path, layer, _, layout = self.last
        replaced = self._call(self._named(f"{path}{FUNCTION}{name}"), layer, (given,), output, layout, is_active=True)
        return output if replaced is None else replaced

    def operation(self, path: str, name: str, module: nn.Module, args: Any, output: Any) -> Any:
        """An operation outside of layers."""
        first = first_tensor(output)
        if first is None:
            return output
        sources = [value for value in all_tensors(args) if value.shape == first.shape]
        layout = next((found for value in sources if (found := getattr(value, LAYOUT, None)) is not None), None)
        replaced = self._call(path, module, tuple(args), first, layout, is_active=False, operation=name)
        return output if replaced is None else with_first(output, replaced)

    def _call(
        self,
        path: str,
        layer: nn.Module,
        args: tuple[Any, ...],
        first: Tensor,
        layout: tuple[int, ...] | None,
        is_active: bool,
        operation: str = "",
    ) -> Tensor | None:
        """The tensor that replaces the first one of an output, in its original layout; None if the listener returns none."""
        self.is_listening = True
        try:
            values = first if layout is None else first.permute(layout)
            replaced = self.listen(LayerCall(path, layer, args, values, is_active, operation))
        finally:
            self.is_listening = False
        if replaced is not None and layout is not None:
            replaced = replaced.permute(tuple(layout.index(axis) for axis in range(len(layout))))
        for tensor in (first, replaced):
            if tensor is not None:
                setattr(tensor, ACTIVE, is_active)
                if layout is not None:
                    setattr(tensor, LAYOUT, layout)
        return replaced


class _Functions(TorchFunctionMode):
    """Reports activation functions while a module runs."""

    def __init__(self, hooks: _Hooks) -> None:
        super().__init__()
        self.hooks = hooks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = ACTIVATION_FUNCTIONS.get(func) if isinstance(func, Hashable) else None
        if name is None or not args or not isinstance(args[0], Tensor):
            return output
        return self.hooks.function(name, args[0], output)


class _Operations(TorchFunctionMode):
    """Reports operations outside of layers while a module runs, by the functions of torch that compute them."""

    def __init__(self, hooks: _Hooks, module: nn.Module, operations: Mapping[str, FunctionCall]) -> None:
        super().__init__()
        self.hooks, self.module = hooks, module
        self.paths = {call: path for path, call in operations.items()}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.hooks.is_listening:
            return func(*args, **(kwargs or {}))
        path = self.paths.get(self.hooks.calls.next_call(func))
        output = func(*args, **(kwargs or {}))
        if path is None:
            return output
        name = path.rpartition(".")[2].partition("#")[0]
        return self.hooks.operation(path, name, self.module, args, output)


def find_operations(module: nn.Module, input_shape: Sequence[int], names: str | Sequence[str]) -> dict[str, FunctionCall]:
    """Those of these names that are operations outside of layers, such as ``layers.2.add``, with the functions that compute them.

    The module is traced if a name is not that of a module. Empty for names that nothing has, and for a module that cannot be traced.

    >>> class Doubled(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.conv1 = nn.Conv2d(1, 1, 1)
    ...     def forward(self, x):
    ...         return x + self.conv1(x)
    >>> find_operations(Doubled(), (1, 4, 4), ["add", "conv1"])
    {'add': ('add', 0)}
    """
    wanted = [names] if isinstance(names, str) else list(names)
    parts = {path for path, _ in module.named_modules()}
    if all(FUNCTION in name or name.partition("#")[0] in parts for name in wanted):
        return {}
    try:
        known = trace(module, input_shape).function_calls
    except VisusError:
        return {}
    return {path: known[path] for path in wanted if path in known}


def run(module: nn.Module, batch: Tensor) -> Any:
    """The output of the module; None if a hook ended the forward pass."""
    try:
        return module(batch)
    except StopForward as stopped:
        clear_frames(stopped.__traceback__)  # they hold maps that are no longer needed
        return None


def output_of(module: nn.Module, batch: Tensor, layer: str, operations: Mapping[str, FunctionCall] | None = None) -> Tensor:
    """The output of one call of a layer, or of an operation outside of layers, with gradients where they are enabled; nothing after it is
    computed.

    Args:
        module: the module.
        batch: its input.
        layer: path of the layer or operation.
        operations: those of ``find_operations``; None to find them.

    Raises:
        UsageError: the layer does not exist.
    """
    found: list[Tensor] = []
    operations = find_operations(module, tuple(batch.shape[1:]), layer) if operations is None else operations

    def listen(call: LayerCall) -> None:
        if call.path == layer:
            found.append(call.output)
            raise StopForward

    with hook_layers(module, listen, operations=operations):
        run(module, batch)
    if not found:
        raise UsageError(unknown_layer(layer, called_layers(module, batch[:1])))
    return found[0]


@torch.no_grad()
def called_layers(module: nn.Module, batch: Tensor, operations: Mapping[str, FunctionCall] | None = None) -> list[str]:
    """The paths of all calls of layers, and of these operations, in the order of computation."""
    paths: list[str] = []
    with hook_layers(module, lambda call: paths.append(call.path), operations=operations), eval_mode(module):
        run(module, batch)
    return paths


def select_layers(names: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """The layers with these names, in the order of computation; all if ``names`` is None.

    Raises:
        UsageError: an unknown layer.
    """
    if names is None:
        return list(known)
    selected = [names] if isinstance(names, str) else list(names)
    for name in selected:
        if name not in known:
            raise UsageError(unknown_layer(name, known))
    return [path for path in known if path in selected]


def as_batch(module: nn.Module, inputs: Inputs) -> Tensor:
    """Inputs (samples, channels, *spatial) as a tensor on the device and of the dtype of the module; copied only where necessary.

    Raises:
        UsageError: there is no sample.
    """
    batch = inputs if isinstance(inputs, Tensor) else torch.from_numpy(np.ascontiguousarray(inputs))
    if batch.dim() < 2 or not len(batch):
        raise UsageError(
            f"inputs need the shape (samples, channels, *spatial) and at least one sample, not {tuple(batch.shape)}."
        )
    convolutions = [part for part in module.modules() if isinstance(part, nn.modules.conv._ConvNd)]
    ranks = {len(part.kernel_size) for part in convolutions}
    if ranks == {batch.dim() - 1} and convolutions[0].in_channels == batch.shape[0]:
        raise UsageError(
            f"these inputs of shape {tuple(batch.shape)} are one sample without a batch axis. Give inputs[None]."
        )
    _refuse_lazy(module)
    values = first_weights(module)
    with torch.inference_mode(False):
        batch = batch.detach() if values is None else batch.detach().to(device=values.device, dtype=values.dtype)
        return batch.clone() if batch.is_inference() else batch


def first_weights(module: nn.Module) -> Tensor | None:
    """The weights of the first layer that has any, whose dtype the input must have; else the first parameter; None if there is none."""
    first = None
    for part in module.modules():
        for values in part._parameters.values():
            if values is not None and values.is_floating_point():
                if not part._modules:
                    return values
                first = values if first is None else first
    return first


def one_sample(module: nn.Module, sample: Inputs) -> Tensor:
    """Convert one sample (channels, *spatial) or a batch of one to a batch of one.

    Raises:
        UsageError: several samples.
    """
    batch = torch.as_tensor(sample)
    batch = as_batch(module, batch)
    if len(batch) != 1:
        raise UsageError(f"one sample is needed, with its batch axis, and {len(batch)} were given. Give inputs[:1].")
    return batch


def as_batches(module: nn.Module, inputs: Inputs | Iterable[Inputs]) -> Iterator[Tensor]:
    """An iterator over one batch or several."""
    if isinstance(inputs, (Tensor, np.ndarray)):
        yield as_batch(module, inputs)
    else:
        for batch in inputs:
            if len(batch):
                yield as_batch(module, batch)


@dataclass(frozen=True, eq=False)
class TracedFields:
    """The receptive fields of the layers of a module, which is traced at their first use.

    Args:
        module: any module.
        input_shape: ``(channels, *spatial)`` of one sample.
    """

    module: nn.Module
    input_shape: tuple[int, ...]

    @cached_property
    def account(self) -> Account:
        """The account of the module for this input."""
        return trace(self.module, self.input_shape)

    @cached_property
    def _fields(self) -> dict[str, Fields]:
        return {row.path: row.fields for row in self.account.rows}

    def fields(self, path: str) -> Fields:
        """The receptive field of a layer on each axis; none if the layer does not depend on the input."""
        return self._fields.get(path, ())

    def box(self, path: str, position: Sequence[int], spatial: Sequence[int]) -> Box | None:
        """The exact receptive field of the unit at a position: first and last pixel on each axis; None if it reads no pixel.

        Args:
            position: position of the unit in the layer's map.
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
    """The pixels that all positions together read."""
    return field.hull().interval(0)


def crop_to_box(sample: Array, box: Box | None) -> Array:
    """The pixels of a sample (channels, *spatial) inside a box; none if there is no box."""
    if box is None:
        return sample[(slice(None), *(slice(0, 0) for _ in sample.shape[1:]))]
    return sample[(slice(None), *(slice(first, last + 1) for first, last in box))]


def read_only(values: Array) -> Array:
    """The array itself, made read-only."""
    values.setflags(write=False)
    return values


def to_array(values: Tensor) -> Array:
    """A tensor as a read-only array, which shares its memory where possible."""
    values = values.detach()
    if values.dtype in (torch.bfloat16, torch.float16):
        values = values.float()
    return read_only(values.cpu().numpy())


def resolve_position(spatial: Sequence[int], position: Sequence[int] | None, layer: str) -> tuple[int, ...]:
    """A position of a map; its middle for None.

    Raises:
        UsageError: the position does not exist.
    """
    if position is None:
        return tuple(length // 2 for length in spatial)
    place = tuple(int(index) for index in position)
    if place and not spatial:
        raise UsageError("this layer has no feature map, so its units have no position. Leave it out.", where=layer)
    if len(place) != len(spatial) or not all(0 <= index < length for index, length in zip(place, spatial, strict=True)):
        raise UsageError(f"the feature map has the size {tuple(spatial)}; position {place} does not exist.", where=layer)
    return place


def check_channel(num_channels: int, channel: int, layer: str) -> int:
    """Check that a layer has a channel, and return it.

    Raises:
        UsageError: the channel does not exist.
    """
    if not 0 <= channel < num_channels:
        raise UsageError(
            f"there are {num_channels} channels, counted from 0; channel {channel} does not exist.", where=layer
        )
    return channel
