"""Intercepts every operator while a module runs, and annotates each tensor with its dependence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from visus.errors import VisusError
from visus.networks.trace.annotation import ANNOTATION, Annotation, Axes, annotation_of, axes_of, dependent_tensors, tensors
from visus.networks.trace.coordinates.dependence import Dependence, sees_nothing
from visus.networks.trace.coordinates.gaps import inexact
from visus.networks.trace.coordinates.mixing import hull
from visus.networks.trace.coordinates.unions import united
from visus.networks.trace.coordinates.writes import written
from visus.networks.trace.operators import Operator, operator_of
from visus.networks.trace.operators.recurrent import recurrent_operator
from visus.networks.trace.operators.registry import HULL, Call, Hull, NeedsValuesError, RuleError, ShapeFunction
from visus.networks.trace.operators.shapes import META
from visus.networks.trace.running import ModuleState

MAX_CONSTANT: Final = 1 << 16  # elements; constants up to this size are computed, so that lists of indices keep their values


class OperatorListener(Protocol):
    """Receives every call of an operator."""

    def on_dependent(self, call: Call, macs: int) -> None:
        """A call whose output depends on the input, and its multiply-adds."""

    def on_constant(self, inputs: list[Tensor], macs: int) -> None:
        """A call on tensors that do not depend on the input, and its multiply-adds."""


class TraceMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Annotates the output of every operator inside ``with``, and reports each call to a listener.

    Args:
        listener: receives the calls.
        state: the module's state, which keeps the values of parameters and buffers that are overwritten.
        with_data: whether tensors have data, so that the module can branch on values.
    """

    def __init__(self, listener: OperatorListener, state: ModuleState, with_data: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.listener = listener
        self.state = state
        self.with_data = with_data
        self.needs_data = False  # whether a list of indices had no values
        self.annotated: list[Tensor] = []  # tensors that were there before the run
        self.module: nn.Module | None = None

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def remove_annotations(self) -> None:
        """Removes the annotations from tensors that existed before the run."""
        for value in self.annotated:
            value.__dict__.pop(ANNOTATION, None)
        self.annotated.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operator = operator_of(func)
        if torch.is_inference_mode_enabled():  # in which torch dispatches whole layers
            with torch.inference_mode(False), torch.no_grad(), self:
                return func(*args, **kwargs)
        if operator.is_data_dependent and not self.with_data and _lacks_values(operator, args):
            raise NeedsValuesError(f"{operator.name} depends on values")
        first: Any = args[0] if args else None
        if axes_of(first) is None and next(dependent_tensors(args, kwargs), None) is None:
            return self._constant(operator, func, args, kwargs)
        if self.with_data:
            out = self._computed(operator, func, args, kwargs)
        elif operator.effect == "view":
            out = func(*(args if first.is_meta else _meta_like(args)), **kwargs)
        else:
            out = None
            if operator.shape is not None:
                out = args[0] if operator.effect == "in place" else _output_by(operator.shape, args, kwargs)
            if out is None:
                out = self._output_of_torch(operator, func, args, kwargs)
        call = Call(operator, func, args, kwargs, out, self.module)
        try:
            self._record(operator, call)
        except VisusError:
            raise
        except Exception as error:
            raise _rule_error(call, error) from error
        return out

    def as_one(self, func: Any, args: Any) -> Any:
        """The output of an operator that is one call here, though torch would dispatch the operators that it consists of."""
        with torch.inference_mode(False), torch.no_grad(), no_dispatch():
            return self.__torch_dispatch__(func, (), args)

    def _record(self, operator: Operator, call: Call) -> None:
        """Annotates the outputs of a call, and reports it."""
        args, out = call.args, call.out
        if operator.effect == "view":
            self._annotate_view(operator, call)
        else:
            found = self._dependence_of(operator, call)
            if operator.effect == "in place":
                origin = None if operator.copied_argument is None else annotation_of(args[operator.copied_argument])
                self._write(args[0], found[0] if isinstance(found, list) else found, origin)
            elif operator.effect == "out":
                self._write(
                    call.kwargs.get("out", out if isinstance(out, Tensor) else out[0]),
                    found[0] if isinstance(found, list) else found,
                )
            else:
                self._annotate(out, found)
        if not operator.is_counted:
            call.notes = (*call.notes, "not counted")
        self.listener.on_dependent(call, 0 if operator.macs is None else operator.macs(args, out))

    def _output_of_torch(self, operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:
        """The output without data, as torch computes its shape."""
        out = func(*_meta_like(args), **{key: _meta_like(value) for key, value in kwargs.items()})
        return args[0] if operator.effect == "in place" else out

    def _constant(self, operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:
        """A call that does not depend on the input."""
        inputs = list(tensors(args)) + list(tensors(kwargs.values()))
        out = self._constant_output(operator, func, args, kwargs, inputs)
        try:
            if inputs:
                self.listener.on_constant(inputs, 0 if operator.macs is None else operator.macs(args, out))
        except Exception as error:
            raise _rule_error(Call(operator, func, args, kwargs, out, self.module), error) from error
        return out

    def _constant_output(self, operator: Operator, func: Any, args: Any, kwargs: Any, inputs: list[Tensor]) -> Any:
        """The output: computed where it is small, so that its values are known."""
        if operator.effect == "view":
            out = func(*args, **kwargs)
            if inputs and not isinstance(args[0], nn.Parameter):
                call = Call(operator, func, args, kwargs, out, self.module)
                try:
                    self._annotate_view(operator, call)
                except Exception as error:
                    raise _rule_error(call, error) from error
            return out
        if self.with_data:
            return self._computed(operator, func, args, kwargs)
        if operator.effect in ("in place", "out") and any(self.state.owns(value) for value in inputs[:1]):
            return args[0]  # what belongs to the module stays as it is
        if (
            any(value.is_meta for value in inputs)
            or sum(value.numel() for value in inputs) > MAX_CONSTANT
            or (operator.is_random and inputs)
        ):
            out = (
                _output_by(operator.shape, args, kwargs) if operator.shape is not None and operator.effect == "new" else None
            )
            return self._output_of_torch(operator, func, args, kwargs) if out is None else out
        if inputs or operator.is_random:
            return self._computed(operator, func, args, kwargs)
        if kwargs.get("device") == META and not operator.is_uninitialized:
            shape = args[0] if args and isinstance(args[0], (list, tuple)) else ()
            if all(isinstance(length, int) for length in shape) and math.prod(shape) <= MAX_CONSTANT:
                return func(*args, **{**kwargs, "device": torch.device("cpu")})
        return func(*args, **kwargs)

    def _computed(self, operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:
        """The output with its values; those of parameters and buffers that are overwritten are saved."""
        for value in operator.written(args, kwargs):
            if self.state.owns(value):
                self.state.save(value)
        return func(*args, **kwargs)

    @staticmethod
    def _hull(call: Call) -> Axes:
        """Everything that the inputs depend on, for each axis."""
        paths = [(axes_of(value) or (), tuple(value.shape)) for value in call.dependent_tensors()]
        num_axes = len(paths[0][0])
        joined = [[term for axes, shape in paths for term in hull(axes[axis], shape)] for axis in range(num_axes)]
        return tuple(united(terms, ()) for terms in joined)

    def _dependence_of(self, operator: Operator, call: Call) -> Axes | list[Axes | None] | None:
        """What the output depends on; where no rule says, the hull of what the inputs depend on."""
        found: Any = HULL
        if isinstance(call.out, Tensor) and 0 in call.out.shape:
            found = tuple((Dependence.on_nothing(),) for _ in axes_of(next(call.dependent_tensors())) or ())
        elif operator.rule is not None:
            try:
                found = operator.rule(call)
            except Exception as error:
                raise _rule_error(call, error) from error
        self.needs_data |= call.needs_data
        if isinstance(found, Hull):
            whole = self._hull(call)
            call.is_hull = bool(whole) and not sees_nothing(whole)
            return [whole] * len(call.out) if isinstance(call.out, (list, tuple)) else whole
        if call.is_hull:
            if isinstance(found, list):
                return [None if axes is None else tuple(inexact(terms) for terms in axes) for axes in found]
            return tuple(inexact(terms) for terms in found)
        return found  # type: ignore[no-any-return]

    def _annotate(self, out: Any, found: Axes | list[Axes | None] | None) -> None:
        """Annotates the outputs with what they depend on."""
        if isinstance(out, Tensor):
            axes = found[0] if isinstance(found, list) else found
            setattr(out, ANNOTATION, Annotation(axes, tuple(out.shape)))
        elif isinstance(out, (list, tuple)):
            each = found if isinstance(found, list) else [found]
            for index, value in enumerate(out):
                if isinstance(value, Tensor) and index < len(each) and each[index] is not None:
                    setattr(value, ANNOTATION, Annotation(each[index], tuple(value.shape)))

    def _annotate_view(self, operator: Operator, call: Call) -> None:
        """Annotates views with what they depend on and what they are views of."""
        source = call.args[0]
        above = annotation_of(source)
        if above is None:
            above = Annotation(None, tuple(source.shape))
            setattr(source, ANNOTATION, above)
            self.annotated.append(source)
        axes = above.current()
        found = self._dependence_of(operator, call) if axes is not None else None
        outs = [call.out] if isinstance(call.out, Tensor) else list(call.out)
        for index, out in enumerate(outs):
            if out is source:
                continue
            own = found[index] if isinstance(found, list) else found
            replay, part = _replay(self, operator, call, above, index), _part(call, index)
            setattr(out, ANNOTATION, Annotation(own, tuple(out.shape), above, replay, part))

    def _write(self, target: Tensor, axes: Axes | None, origin: Annotation | None = None) -> None:
        """Annotates a tensor that was written into, and what it is a view of."""
        annotation = annotation_of(target)
        if annotation is None:
            annotation = Annotation(None, tuple(target.shape))
            setattr(target, ANNOTATION, annotation)
            self.annotated.append(target)
        if axes is annotation.current():
            return
        written(annotation, axes, origin)


class RecurrentLayers(TorchFunctionMode):
    """Makes a recurrent layer one call of a trace, where torch dispatches the operators of each of its time steps.

    Args:
        mode: the trace.
    """

    def __init__(self, mode: TraceMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        layer = None if kwargs else recurrent_operator(func, args)
        return func(*args, **(kwargs or {})) if layer is None else self.mode.as_one(layer, args)


def _output_by(shape: ShapeFunction, args: Any, kwargs: Any) -> Any:
    """The output by an operator's shape function; None if the arguments are too unusual for it, so that torch is asked."""
    try:
        return shape(args, kwargs)
    except (IndexError, TypeError, ValueError, AttributeError, RuntimeError, ZeroDivisionError):
        return None


def _lacks_values(operator: Operator, args: Any) -> bool:
    """Whether the values that an operator's output depends on are unknown."""
    read = tensors(args) if operator.read_arguments is None else operator.read_arguments(args)
    return any(value.is_meta for value in read)


def _rule_error(call: Call, error: Exception) -> RuleError:
    """The error for a rule that fails; a rule returns a hull for arguments that it cannot follow, so this is a fault of visus."""
    shapes = ", ".join(str(tuple(value.shape)) for value in tensors(call.args))
    return RuleError(
        f"the rule for {call.name} fails on tensors of shape {shapes}: {type(error).__name__}: {error}. "
        "This is a fault of visus, not of the module. Please report it with this line."
    )


def _replay(mode: TraceMode, operator: Operator, call: Call, above: Annotation, index: int) -> Callable[[Axes], Axes]:
    """A function from what the source of a view depends on to what the view depends on."""
    shape, out, args, func, kwargs = above.shape, call.out, call.args, call.func, call.kwargs

    def replay(axes: Axes) -> Axes:
        stand_in = torch.empty(shape, device=META)
        setattr(stand_in, ANNOTATION, Annotation(axes, shape))
        again = Call(operator, func, (stand_in, *args[1:]), kwargs, out, None)
        found = mode._dependence_of(operator, again)
        own = found[index] if isinstance(found, list) else found
        return own or ()

    return replay


def _part(call: Call, index: int) -> Callable[[Tensor], Tensor]:
    """A function from a tensor to the same view of it."""
    func, args, kwargs, several = call.func, call.args, call.kwargs, not isinstance(call.out, Tensor)

    def part(value: Tensor) -> Tensor:
        out = func(value, *args[1:], **kwargs)
        return out[index] if several else out  # type: ignore[no-any-return]

    return part


def _meta_like(value: Any) -> Any:
    """Arguments with every tensor that has data replaced by one that has none."""
    if isinstance(value, Tensor):
        if value.is_meta:
            return value
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
    if isinstance(value, (list, tuple)):
        return type(value)(_meta_like(each) for each in value)
    return value
