"""The rows of a trace: text, output, parameters, costs and fields for each layer or each call of an operator."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from torch import Tensor, nn

from visus.design.account import Row
from visus.design.flow import INPUT
from visus.design.table import PAIRS
from visus.errors import VisusError
from visus.geometry import Field
from visus.networks.trace.annotation import Axes, annotation_of, axes_of, tensors
from visus.networks.trace.coordinates.dependence import sees_nothing
from visus.networks.trace.coordinates.fields import are_approximate, fields_of, has_pairs
from visus.networks.trace.flows import (
    OperationRecord,
    RowRecord,
    propagate_producers,
    record_operation,
    record_row,
    set_producer,
    sources_of,
)
from visus.networks.trace.operators.registry import Call, RuleError
from visus.networks.trace.operators.shapes import bytes_of

_HOOK: Final = "visus.trace"  # the key of the hooks in a module's own tables, for as long as it is traced


class Scope:
    """A running module, with the totals of its operators so far."""

    __slots__ = (
        "aligned",
        "input_shape",
        "is_leaf",
        "macs",
        "module",
        "notes",
        "num_bytes",
        "num_parameters",
        "operations",
        "padded_px",
        "path",
        "unread_px",
    )

    def __init__(self, path: str, module: nn.Module, is_leaf: bool, input_shape: tuple[int, ...] | None) -> None:
        self.path, self.module, self.is_leaf, self.input_shape = path, module, is_leaf, input_shape
        self.macs = self.num_parameters = self.num_bytes = 0
        self.notes: dict[str, None] = {}
        self.aligned = True
        self.unread_px: tuple[int, ...] = ()
        self.padded_px: tuple[int, ...] = ()
        self.operations: list[OperationRecord] = []

    @property
    def is_pending(self) -> bool:
        """Whether costs were counted that belong to no row yet."""
        return bool(self.macs or self.num_parameters)


class Recorder:
    """Writes the rows of an account while a module runs.

    Args:
        module: the module.
        by_operation: whether to add a row for each call of an operator instead of each layer.
        num_samples: number of samples in the batch; multiply-adds are for one sample.
        has_other_inputs: whether there are inputs without recorded fields; tensors that depend only on these have no fields.
    """

    def __init__(self, module: nn.Module, by_operation: bool, num_samples: int, has_other_inputs: bool = False) -> None:
        self.rows: list[Row] = []
        self.row_records: list[RowRecord] = []  # where there is a row for each layer
        self.by_operation, self.num_samples, self.has_other_inputs = by_operation, num_samples, has_other_inputs
        self.modules = {_without_compiled(path): each for path, each in module.named_modules()}
        self.paths = {each: path for path, each in self.modules.items()}
        self.own = {each: (*each._parameters.values(), *each._buffers.values()) for each in self.modules.values()}
        self.uncounted = {id(values): values for own in self.own.values() for values in own if values is not None}
        self.stack: list[Scope] = []
        self.num_calls: dict[str, int] = {}
        self.function: tuple[str, int] | None = None  # the function of torch that runs, and the number of its calls before
        self.function_calls: dict[str, tuple[str, int]] = {}  # of each row of an operation, the function that computed it
        self.last: tuple[Axes, tuple[int, ...], tuple[Field, ...]] = (), (), ()
        self.last_is_approximate = False

    # ---- modules ----

    def hook(self) -> None:
        """Adds hooks to all modules."""
        for each in self.modules.values():
            hooks: Any = each._forward_pre_hooks
            hooks[_HOOK] = self.begin
            hooks.move_to_end(_HOOK, last=False)
            after: Any = each._forward_hooks
            after[_HOOK] = self.end

    def unhook(self) -> None:
        """Removes the hooks."""
        for each in self.modules.values():
            for hooks in (each._forward_pre_hooks, each._forward_hooks):
                table: Any = hooks
                table.pop(_HOOK, None)

    def begin(self, module: nn.Module, args: Any) -> None:
        """A module begins."""
        with _faults_of_visus(f"the row of {self.paths[module]}"):
            self._begin(module, args)

    def _begin(self, module: nn.Module, args: Any) -> None:
        is_leaf = not module._modules
        first = args[0] if args else None
        shape = tuple(first.shape) if isinstance(first, Tensor) else None
        scope = Scope(self.paths[module], module, is_leaf, shape)
        self._count_weights(scope, (value for value in self.own[module] if is_leaf or not isinstance(value, nn.Parameter)))
        self.stack.append(scope)

    def end(self, module: nn.Module, args: Any, output: Any) -> None:
        """A module ends: a layer gets its row."""
        with _faults_of_visus(f"the row of {self.paths[module]}"):
            self._end(module, output)

    def _end(self, module: nn.Module, output: Any) -> None:
        scope = self.stack.pop()
        while scope.module is not module and self.stack:
            scope = self.stack.pop()
        if isinstance(module, nn.Sequential) and not module._modules and self.paths[module] and not scope.is_pending:
            return  # an identity, such as the shortcut of a block
        if (scope.is_leaf and not self.by_operation) or scope.is_pending:
            self._add(self._numbered(scope.path), layer_text(module), output, scope)

    def _numbered(self, path: str) -> str:
        """The path, with a number where it was used before."""
        count = self.num_calls[path] = self.num_calls.get(path, 0) + 1
        return path if count == 1 else f"{path}#{count}"

    def _count_weights(self, scope: Scope, values: Iterable[Any]) -> None:
        """Counts the parameters and buffers that no row has counted yet."""
        for value in values:
            if value is not None and self.uncounted.pop(id(value), None) is not None:
                scope.num_bytes += bytes_of(value)
                if isinstance(value, nn.Parameter):
                    scope.num_parameters += value.numel()

    def _add(self, path: str, layer: str, output: Any, scope: Scope) -> None:
        out = _first_dependent(output)
        if out is None and not scope.is_pending:
            return
        shape: tuple[int, ...] = () if out is None else tuple(out.shape)
        axes = None if out is None else axes_of(out)
        fields = () if axes is None else self._fields(axes, shape)
        if axes and self.last_is_approximate:
            scope.notes["size approximate"] = None
        if axes and has_pairs(axes, shape):
            scope.notes[PAIRS] = None
        output_shape = of_one_sample(shape, self.num_samples)
        row = Row(
            path,
            layer,
            output_shape,
            scope.num_parameters,
            scope.macs,
            fields,
            scope.aligned,
            tuple(scope.notes),
            bytes_weights=scope.num_bytes,
            bytes_output=0 if out is None else out.element_size() * math.prod(output_shape),
            unread_px=scope.unread_px,
            is_approximate="size approximate" in scope.notes,
        )
        self.rows.append(row)
        if not self.by_operation:
            self.row_records.append(record_row(scope.operations, out))
            set_producer(output, len(self.rows) - 1)
        scope.macs = scope.num_parameters = scope.num_bytes = 0

    def _fields(self, axes: Axes, shape: tuple[int, ...]) -> tuple[Field, ...]:
        """The fields of a tensor; those of the row before where nothing changed, as through a norm."""
        if self.last[0] is not axes or self.last[1] != shape:
            fields = () if self.has_other_inputs and sees_nothing(axes) else fields_of(axes, shape)
            self.last = axes, shape, fields
            self.last_is_approximate = bool(fields) and are_approximate(axes, shape)
        return self.last[2]

    def finish(self, output: Any) -> tuple[int, ...]:
        """Finish the rows after the module's run. If no row has the returned tensor, as after a partial write, a row is
        added.

        Returns:
            The indices of the rows whose outputs the module returns.
        """
        with _faults_of_visus("the last row"):
            self._add_output(output)
            return self._ends(output)

    def _add_output(self, output: Any) -> None:
        out = _first_dependent(output)
        axes = None if out is None else axes_of(out)
        if out is None or axes is None:
            first = next(tensors(list(output.values()) if isinstance(output, dict) else [output]), None)
            if first is not None:
                shape = of_one_sample(tuple(first.shape), self.num_samples)
                self.rows.append(Row(self._numbered("output"), "output", shape, 0, 0, (), notes=("not traced",)))
                self.row_records.append(record_row((), None))
            return
        shape = tuple(out.shape)
        expected = of_one_sample(shape, self.num_samples), self._fields(axes, shape)
        last = self.rows[-1:] if self.by_operation else [self.rows[index] for index in sources_of(out) if index != INPUT]
        if not any((row.output_shape, row.fields) == expected and _same_intervals(row.fields, expected[1]) for row in last):
            self._add(self._numbered("output"), "output", output, Scope("output", nn.Identity(), True, None))

    @staticmethod
    def _ends(output: Any) -> tuple[int, ...]:
        outs = [
            value
            for value in tensors(list(output.values()) if isinstance(output, dict) else [output])
            if annotation_of(value)
        ]
        return tuple(sorted({index for out in outs if axes_of(out) is not None for index in sources_of(out)}))

    # ---- operations ----

    def on_dependent(self, call: Call, macs: int) -> None:
        """A call whose output depends on the input."""
        scope = self.stack[-1]
        macs //= self.num_samples
        if not self.by_operation:
            inputs = list(call.dependent_tensors())
            propagate_producers(call, inputs)
            if scope.is_leaf:
                scope.operations.append(record_operation(call, inputs))
        if scope.is_leaf and not self.by_operation:
            scope.macs += macs
            scope.aligned &= call.aligned or isinstance(scope.module, nn.RNNBase)  # its steps are no paths
            scope.padded_px = scope.padded_px or call.padded_px
            if call.unread_px and not scope.unread_px:
                added = scope.padded_px or (0,) * len(call.unread_px)
                scope.unread_px = tuple(max(0, num - more) for num, more in zip(call.unread_px, added, strict=True))
            for note in _notes(call):
                scope.notes[note] = None
            return
        if not scope.is_leaf:
            self._count_weights(scope, (value for value in tensors(call.args) if isinstance(value, nn.Parameter)))
        if self.by_operation or macs or scope.is_pending or _is_notable(call):
            self._add_operation(scope, call, macs)

    def on_constant(self, inputs: list[Tensor], macs: int) -> None:
        """A call on tensors independent of the input; its costs are added to the next row."""
        if self.stack:
            scope = self.stack[-1]
            scope.macs += macs
            self._count_weights(scope, (value for value in inputs if isinstance(value, nn.Parameter)))

    def _add_operation(self, scope: Scope, call: Call, macs: int) -> None:
        name = call.operator.label
        here = Scope(scope.path, scope.module, True, None)
        here.macs, here.num_parameters, here.num_bytes = macs + scope.macs, scope.num_parameters, scope.num_bytes
        here.aligned, here.unread_px, here.notes = call.aligned, call.unread_px, dict.fromkeys(_notes(call))
        here.operations.append(record_operation(call, list(call.dependent_tensors())))
        scope.macs = scope.num_parameters = scope.num_bytes = 0
        path = self._numbered(f"{scope.path}.{name}" if scope.path else name)
        outs = call.out if isinstance(call.out, (list, tuple)) and self.by_operation else [call.out]
        for index, out in enumerate(outs):
            if _first_dependent(out) is not None or here.is_pending:
                if index == 0 and self.function is not None:
                    self.function_calls[path] = self.function
                self._add(path if index == 0 else f"{path}[{index}]", name, out, here)

    @contextmanager
    def grouped(self, name: str, text: str, args: Any) -> Iterator[list[Any]]:
        """Adds one row for the calls inside ``with``, as for an einsum, which consists of several; not inside a layer, which has a row itself.

        Args:
            name: last part of the row's path.
            text: its layer.
            args: the arguments, whose parameters it counts.

        Yields:
            A list that receives the output.
        """
        output: list[Any] = []
        if self.by_operation or not self.stack or self.stack[-1].is_leaf:
            yield output
            return
        outer = self.stack[-1]
        path = f"{outer.path}.{name}" if outer.path else name
        scope = Scope(path, outer.module, True, None)
        scope.macs, scope.num_parameters, scope.num_bytes = outer.macs, outer.num_parameters, outer.num_bytes
        outer.macs = outer.num_parameters = outer.num_bytes = 0
        self._count_weights(scope, (value for value in tensors(args) if isinstance(value, nn.Parameter)))
        self.stack.append(scope)
        try:
            yield output
        finally:
            self.stack.pop()
        if _first_dependent(output) is not None:
            path = self._numbered(path)
            if self.function is not None:
                self.function_calls[path] = self.function
            self._add(path, text, output[0], scope)
        else:  # of weights alone: the next row counts it
            outer.macs, outer.num_parameters, outer.num_bytes = scope.macs, scope.num_parameters, scope.num_bytes

    def add_unused(self) -> None:
        """Adds rows for the parameters that were not used."""
        for path, module in self.modules.items():
            scope = Scope(path, module, True, None)
            self._count_weights(scope, self.own[module])
            if scope.num_bytes:
                counts = scope.num_parameters, 0
                self.rows.append(
                    Row(path, layer_text(module), (), *counts, (), notes=("not run",), bytes_weights=scope.num_bytes)
                )
                self.row_records.append(record_row((), None))


@contextmanager
def _faults_of_visus(what: str) -> Iterator[None]:
    """Errors while a row is written are faults of visus, and say so."""
    try:
        yield
    except VisusError:
        raise
    except Exception as error:
        raise RuleError(
            f"{what} cannot be written: {type(error).__name__}: {error}. "
            "This is a fault of visus, not of the module. Please report it with this line."
        ) from error


def _without_compiled(path: str) -> str:
    """A module's path without the wrappers of ``torch.compile``."""
    return ".".join(part for part in path.split(".") if part != "_orig_mod")


def of_one_sample(shape: tuple[int, ...], num_samples: int) -> tuple[int, ...]:
    """A tensor's shape without the batch axis; if windows were merged into the batch, their number per sample comes first.

    >>> of_one_sample((2, 8, 32, 32), 2), of_one_sample((128, 49, 96), 2)
    ((8, 32, 32), (64, 49, 96))
    """
    if shape and shape[0] != num_samples and shape[0] % num_samples == 0:
        return (shape[0] // num_samples, *shape[1:])
    return shape[1:]


def _same_intervals(one: Iterable[Field], two: Iterable[Field]) -> bool:
    """Whether fields have the same interval at each position."""
    pairs = [(a.intervals, b.intervals) for a, b in zip(one, two, strict=True)]
    return all(a is b or (a is not None and b is not None and a.pairs() == b.pairs()) for a, b in pairs)


def _notes(call: Call) -> tuple[str, ...]:
    return (*call.notes, "hull") if call.is_hull else call.notes


def _is_notable(call: Call) -> bool:
    """Whether a call outside of layers joins paths, changes the field, or turns features into shares."""
    if call.is_hull or call.notes:
        return True
    if call.operator.kind == "move":
        return False
    out = _first_dependent(call.out)
    if out is None:
        return False
    if call.operator.kind == "softmax" and out.dim() == 2:
        return True
    inputs = list(call.dependent_tensors())
    if len(inputs) > 1:
        return True
    before, after = axes_of(inputs[0]), axes_of(out)
    if before is after or before is None or after is None:
        return False
    return fields_of(before, tuple(inputs[0].shape)) != fields_of(after, tuple(out.shape))


def _first_dependent(output: Any) -> Tensor | None:
    """The first tensor in an output that depends on the input."""
    if isinstance(output, Tensor):
        return output if axes_of(output) is not None else None
    if isinstance(output, dict):
        output = list(output.values())
    if isinstance(output, (list, tuple)):
        return next((found for value in output if (found := _first_dependent(value)) is not None), None)
    return None


# ---- the text of a layer ----


def layer_text(module: nn.Module) -> str:
    """The layer's class and its main arguments.

    >>> layer_text(nn.Conv2d(3, 64, 7, stride=2, padding=3)), layer_text(nn.ReLU(inplace=True))
    ('Conv2d(64, 7, stride=2, padding=3)', 'ReLU')
    """
    name = type(module).__name__
    if isinstance(module, nn.modules.conv._ConvNd):
        return f"{name}({', '.join(_convolution_parts(module))})"
    if isinstance(module, nn.Linear):
        return f"{name}({module.out_features}{'' if module.bias is not None else ', bias=False'})"
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return f"{name}({module.num_features})"
    if isinstance(module, nn.GroupNorm):
        return f"{name}({module.num_groups}, {module.num_channels})"
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        shape = tuple(module.normalized_shape)
        return f"{name}({shape[0] if len(shape) == 1 else shape})"
    if isinstance(module, nn.GELU):
        return name if module.approximate == "none" else f"{name}(approximate={module.approximate!r})"
    if isinstance(module, _NAME_ONLY) or module._modules:
        return name
    text = module.extra_repr()
    return f"{name}({text})" if text and "\n" not in text else name


_NAME_ONLY: Final = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.Hardsigmoid, nn.Identity, nn.Flatten, nn.Sigmoid)


def _convolution_parts(module: nn.modules.conv._ConvNd) -> Iterator[str]:
    yield str(module.out_channels)
    yield _short(module.kernel_size)
    for name, usual in (("stride", 1), ("padding", 0), ("dilation", 1), ("output_padding", 0)):
        value = getattr(module, name)
        if value != usual and value != (usual,) * len(module.kernel_size):
            yield f"{name}={value!r}" if isinstance(value, str) else f"{name}={_short(value)}"
    if module.groups != 1:
        yield f"groups={module.groups}"
    if module.bias is None:
        yield "bias=False"
    if module.padding_mode != "zeros":
        yield f"padding_mode={module.padding_mode!r}"


def _short(values: tuple[int, ...]) -> str:
    """One number where all are equal."""
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))
