"""Advice on mistakes in the code of a module, which PyTorch does not report: samples of a batch that are mixed, layers that are not
registered or made in forward, and layers that are never called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus.design.account import Account
from visus.design.advice.cost import limited_output
from visus.design.advice.pieces import Advice, Remedy
from visus.networks.failures import flattened_batch
from visus.networks.own_code import layer_and_input
from visus.networks.trace.annotation import ANNOTATION, Annotation, annotation_of, axes_of, tensors
from visus.networks.trace.coordinates.dependence import Dependence
from visus.networks.trace.coordinates.fields import fields_of
from visus.networks.trace.mode import RecurrentLayers, TraceMode
from visus.networks.trace.operators.registry import Call
from visus.networks.trace.operators.shapes import META
from visus.networks.trace.rows import layer_text
from visus.networks.trace.running import ModuleState, attention_in_parts
from visus.tables import listed
from visus.units import write_count, write_number_of

_NUM_SAMPLES: Final = 2
_FLATTEN: Final = Remedy(
    "flatten with x.flatten(1), which keeps the samples apart, and size the next layer by what it then receives"
)
_MAX_TERMS: Final = 4  # of a sum that is written out
_OF_TORCH: Final = frozenset(vars(nn.Module()))  # the tables of hooks, parameters and so on that every module has
_MAY_BE_UNUSED: Final = (nn.Identity, nn.Softmax, nn.LogSoftmax, nn.modules.loss._Loss)
"""Layers without weights that a module may hold for its users, such as a softmax for predictions."""


def module_advice(module: nn.Module, costs: Account) -> tuple[Advice, ...]:
    """Advice on the code of a module; empty if there is none.

    Args:
        module: the module.
        costs: its account, with a row for each layer.

    >>> network = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (-1, 4)), nn.Linear(4, 3))
    >>> from visus.networks.trace import trace
    >>> [advice.kind for advice in module_advice(network, trace(network, (1, 2, 4)))]
    ['batch']
    """
    run = _Run(module)
    return (
        *_mixed_samples(run, costs),
        *_limited_output(run),
        *_made_in_forward(run),
        *unregistered(module),
        *_unused(run, costs),
    )


# ---- samples that are mixed ----


class _Run:
    """Runs a module on two samples without data, and follows which sample each value is computed from.

    Args:
        module: the module.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.paths = {each: path for path, each in module.named_modules()}
        self.running: list[nn.Module] = []
        self.called: set[nn.Module] = set()
        self.reshaped: tuple[str, tuple[int, ...]] = "", ()  # the layer from which rows are not samples, and its input
        self.failed: tuple[nn.Module | None, tuple[int, ...]] = None, ()  # the layer at which a batch failed, and its input
        self.made: dict[str, nn.Parameter] = {}  # the parameters that forward made, by path
        self.mixing = ""  # the first layer with an output that depends on both samples
        self.last = "", ""  # the layer and the name of the last operator
        self.last_output: Tensor | None = None
        self.remedy: Remedy | None = None  # against the first operator with such an output

    def output(self, input_shape: Sequence[int], *, training: bool = False) -> Tensor | None:
        """The first output that depends on the input; None if there is none, or if the module does not run without data."""
        known = {id(value) for value in self.module.parameters()}
        state = ModuleState(self.module)
        mode = TraceMode(self, state)
        values = next((each for each in self.module.parameters() if each.is_floating_point()), None)
        x = torch.empty(_NUM_SAMPLES, *input_shape, device=META, dtype=None if values is None else values.dtype)
        samples = Dependence.of_input(_NUM_SAMPLES, 0, x.dim())
        setattr(x, ANNOTATION, Annotation(((samples,),), tuple(x.shape)))
        try:
            with torch.inference_mode(False), state.unchanged(training=training), attention_in_parts(), torch.no_grad():
                handles = [handle for each in self.paths for handle in self._hooked(each)]
                try:
                    with mode, RecurrentLayers(mode):
                        output = self.module(x)
                    self.made |= {path: each for path, each in self.module.named_parameters() if id(each) not in known}
                finally:
                    for handle in handles:
                        handle.remove()
        except Exception as error:  # the account says what fails; here a module that needs data is not judged
            self.failed = layer_and_input(error, self.module)
            return None
        finally:
            mode.remove_annotations()
        found = tensors(list(output.values()) if isinstance(output, dict) else [output])
        self.last_output = next((each for each in found if axes_of(each)), None)
        return self.last_output

    def _hooked(self, module: nn.Module) -> Iterator[Any]:
        yield module.register_forward_pre_hook(self._begin)
        yield module.register_forward_hook(self._end, always_call=True)

    def _begin(self, module: nn.Module, args: Any) -> None:
        self.running.append(module)
        self.called.add(module)
        first = args[0] if args else None
        if module._modules or not isinstance(first, Tensor) or axes_of(first) is None:
            return
        if first.shape[:1] == (_NUM_SAMPLES,):
            self.reshaped = "", ()
        elif not self.reshaped[1]:
            self.reshaped = self.paths[module], tuple(first.shape)

    def _end(self, module: nn.Module, args: Any, output: Any) -> None:
        self.running.pop()

    def on_dependent(self, call: Call, macs: int) -> None:
        """Notes the last call, and the layer of the first call whose output depends on both samples."""
        self.last = (self.paths[self.running[-1]] if self.running else ""), call.name
        if self.remedy is None and any(_is_mixed(each) for each in tensors([call.out]) if annotation_of(each)):
            self.mixing = self.paths[self.running[-1]] if self.running else ""
            self.remedy = _kept_apart(call, self.running[-1] if self.running else None)

    def on_constant(self, inputs: list[Tensor], macs: int) -> None:
        """A call that does not depend on the input tells nothing of samples."""


def _is_mixed(value: Tensor) -> bool:
    """Whether one row of a tensor surely depends on both samples."""
    axes = axes_of(value)
    fields = fields_of(axes, tuple(value.shape)) if axes else ()
    return any(field.is_exact and (field.size > 1 or field.is_whole) for field in fields)


def _mixed_samples(run: _Run, costs: Account) -> Iterator[Advice]:
    """The outputs are not one for each sample, or depend on other samples."""
    output = run.output(costs.input_shape)
    if output is None:
        yield from _flattened_batch(run)
        return
    rows = output.shape[0] if output.dim() else 0
    if _is_mixed(output):
        where = "this layer" if run.mixing else "forward"
        sentence = (
            f"the output of a sample depends on the other samples of its batch: values of several samples meet in {where}."
        )
        yield Advice("batch", run.mixing, sentence, (run.remedy or _FLATTEN,), (run.mixing,) if run.mixing else ())
    elif rows > _NUM_SAMPLES and _samples_per_row(output) * rows == _NUM_SAMPLES:
        path, shape = run.reshaped
        sentence = f"the network returns {rows // _NUM_SAMPLES} rows for each sample, and the loss needs one."
        if len(shape) == 2:
            num, length = shape[0] // _NUM_SAMPLES, shape[1]
            sentence += (
                f" The values of a sample enter this layer as {num} rows of {length:,}; "
                f"{num} x {length:,} = {num * length:,} values belong into one row."
            )
        yield Advice("batch", path, sentence, (_FLATTEN,), (path,) if path else ())


def _limited_output(run: _Run) -> Iterator[Advice]:
    """The logits come out of an activation that is a function; ``run`` has run. Those of layers are seen in the account."""
    if run.last_output is None or run.last_output.dim() != 2:
        return
    path, operator = run.last
    name = operator.removesuffix("_")
    if type(run.module.get_submodule(path)).__name__.lower() == name:
        return
    if sentence := limited_output(name, run.last_output.shape[1]):
        yield Advice("output", "", sentence, (Remedy("return the values before it"),))


def _kept_apart(call: Call, layer: nn.Module | None) -> Remedy:
    """What keeps the samples apart, by the operator in which their values meet: a layer with weights reads a wrong reshape."""
    if "softmax" in call.name:
        return Remedy("apply the softmax with dim=1, over the classes; dim=0 is the batch")
    if layer is not None and any(True for _ in layer.parameters(recurse=False)):
        return _FLATTEN
    return Remedy("compute over dimensions from 1 on; dim=0 is the batch")


def _flattened_batch(run: _Run) -> Iterator[Advice]:
    """A batch fails although one sample passes: its batch axis was flattened away before a linear layer."""
    layer, shape = run.failed
    found = flattened_batch(layer, shape, _NUM_SAMPLES)
    if layer is None or found is None:
        return
    problem, _, remedy = found.partition(" Use ")
    path = run.paths.get(layer, "")
    sentence = f"one sample passes, but a batch of {_NUM_SAMPLES} fails in this layer. {problem}"
    yield Advice("batch", path, sentence, (Remedy(f"use {remedy.rstrip('.')}"),), (path,))


def _samples_per_row(output: Tensor) -> Any:
    """Samples per row of an output, such as 1/4; 0 if it is unknown."""
    axes = axes_of(output)
    field = fields_of(axes, tuple(output.shape))[0] if axes else None
    return field.stride if field is not None and field.is_exact else 0


# ---- layers that are not registered ----


def unregistered(module: nn.Module) -> Iterator[Advice]:
    """Advice on layers and parameters in plain lists, tuples and dicts; the module is not run.

    >>> network = nn.Module()
    >>> network.layers = [nn.Linear(4, 3)]
    >>> [advice.path for advice in unregistered(network)]
    ['layers']
    """
    known = {id(value) for value in module.parameters()}
    for path, owner in module.named_modules():
        for name, value in vars(owner).items():
            if name in _OF_TORCH or not isinstance(value, (list, tuple, dict)):
                continue
            found = [each for each in _held(value) if _trained(each, known)]
            if not found:
                continue
            sizes = [_trained(each, known) for each in found]
            holds_layers = any(isinstance(each, nn.Module) for each in found)
            kind, one = type(value).__name__, len(found) == 1
            better = f"nn.{'Module' if holds_layers else 'Parameter'}{'Dict' if isinstance(value, dict) else 'List'}"
            terms = f"{' + '.join(f'{size:,}' for size in sizes)} = " if 1 < len(sizes) <= _MAX_TERMS else ""
            sentence = (
                f"a plain {kind} holds {write_number_of(len(found), 'layer' if holds_layers else 'parameter')} with {terms}{sum(sizes):,} "
                f"{'parameters' if holds_layers else 'values'}. PyTorch does not see {'it' if one else 'them'} there: "
                f"no optimizer updates {'it' if one else 'them'}, and no weights file holds {'it' if one else 'them'}."
            )
            place = f"{path}.{name}" if path else name
            yield Advice("unregistered", place, sentence, (Remedy(f"use {better} instead of the {kind}"),), (place,))


def _made_in_forward(run: _Run) -> Iterator[Advice]:
    """Layers and parameters that the forward pass makes."""
    if not run.made:
        return
    paths = tuple(dict.fromkeys(path.rpartition(".")[0] or path for path in run.made))
    num = sum(value.numel() for value in run.made.values())
    sentence = (
        f"forward makes {listed(list(run.made))} ({num:,} values): no optimizer updates a parameter that a forward pass makes, "
        "and no weights file fits the module before it ran."
    )
    remedy = Remedy(
        "make the layer in __init__, and only call it in forward; nn.LazyLinear finds the size of its input itself"
    )
    yield Advice("unregistered", paths[0], sentence, (remedy,), paths)


def _held(value: object) -> Iterator[nn.Module | nn.Parameter]:
    """The layers and parameters in nested lists, tuples and dicts, each once."""
    waiting, seen = [value], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, (nn.Module, nn.Parameter)):
            yield each
        elif isinstance(each, (list, tuple)):
            waiting.extend(each)
        elif isinstance(each, Mapping):
            waiting.extend(each.values())


def _trained(held: nn.Module | nn.Parameter, known: set[int]) -> int:
    """Number of values that should be trained and are not registered."""
    values = held.parameters() if isinstance(held, nn.Module) else (held,)
    return sum(value.numel() for value in values if value.requires_grad and id(value) not in known)


# ---- layers that are never called ----


def _unused(run: _Run, costs: Account) -> Iterator[Advice]:
    """Layers that the forward pass never calls and whose weights it never reads, in training neither."""
    if not run.called:
        return
    unread = {row.path for row in costs.rows if "not run" in row.notes}
    found = _outermost_unused(run, unread)
    if not found:
        return
    if run.output(costs.input_shape, training=True) is None:
        return
    found = _outermost_unused(run, unread)
    if not found:
        return
    one = len(found) == 1
    texts = [_layer_and_size(run.module.get_submodule(path)) for path in found]
    named = listed([f"{path} ({text})" for path, text in zip(found, texts, strict=True)], 240)
    sentence = f"the forward pass never calls {f'this layer ({texts[0]})' if one else f'{len(found)} layers: {named}'}."
    remedy = Remedy(f"call {'it' if one else 'them'} in forward, or remove {'it' if one else 'them'}")
    yield Advice("unused", found[0], sentence, (remedy,), tuple(found))


def _layer_and_size(module: nn.Module) -> str:
    num = sum(value.numel() for value in module.parameters())
    return layer_text(module) + (f", {write_count(num)} parameters" if num else "")


def _outermost_unused(run: _Run, unread: set[str]) -> list[str]:
    """Paths of the modules of which nothing was called or read, without those inside of others."""

    def is_unused(module: nn.Module) -> bool:
        if module in run.called:
            return False
        if module._modules:
            return all(is_unused(each) for each in module.children())
        if any(True for _ in module.parameters(recurse=False)):
            return run.paths[module] in unread
        is_idle = isinstance(module, nn.modules.dropout._DropoutNd) and not module.p
        return not is_idle and not isinstance(module, (*_MAY_BE_UNUSED, nn.ModuleList, nn.ModuleDict))

    found: list[str] = []
    for module, path in run.paths.items():
        is_inside = any(path.startswith(f"{outer}.") for outer in found)
        if path and not is_inside and is_unused(module):
            found.append(path)
    return found
