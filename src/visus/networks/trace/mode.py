"""Follows every operation of a module while it runs on tensors without data, and notes what each tensor sees of the input.

This file knows how operations are intercepted: which are answered, which write into others, which are views, which have no
rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from visus.errors import VisusError
from visus.networks.trace.calls import (
    HULL,
    MARK,
    RULES,
    Annotation,
    Axes,
    Call,
    Hull,
    NeedsValuesError,
    Rule,
    RuleError,
    axes_of,
    mark_of,
    meta_like,
    seeing,
    tensors,
)
from visus.networks.trace.coordinates.dependence import Dependence, sees_nothing
from visus.networks.trace.coordinates.gaps import inexact
from visus.networks.trace.coordinates.reductions import hull
from visus.networks.trace.coordinates.unions import united
from visus.networks.trace.coordinates.writes import written
from visus.networks.trace.operators import rules as trace_rules
from visus.networks.trace.operators import views as trace_views
from visus.networks.trace.operators import windows as trace_windows
from visus.networks.trace.operators.shapes import COSTS, META, SHAPE_FUNCTIONS, UNCOUNTED, Answer

_RULES = (trace_rules, trace_views, trace_windows)  # their rules are entered by being imported

SMALL: Final = 1 << 16  # constants of so many elements are computed, so that lists of places keep their values


@dataclass(frozen=True)
class Operation:
    """What is known of an operation of torch.

    Args:
        name: without the underscore of those that work in place.
        rule: what its output sees; None where no rule is known.
        answer: the shape of its output; None where torch is asked.
        cost: multiply-adds; None where it has none.
        kind: ``view``, ``in place``, ``out`` for one that writes into an argument of that name, or ``plain``.
        is_random: whether it draws random numbers.
        looks: whether a number that it gives, or the shape of its output, depends on values.
        is_counted: whether its multiply-adds are known, or it has none.
    """

    name: str
    rule: Rule | None
    answer: Answer | None
    cost: Callable[..., int] | None
    kind: str
    is_random: bool
    looks: bool
    is_counted: bool


_OPERATIONS: dict[Any, Operation] = {}


def operation(func: Any) -> Operation:
    """What is known of an operation; worked out once."""
    found = _OPERATIONS.get(func)
    if found is None:
        found = _OPERATIONS[func] = _describe(func)
    return found


def _describe(func: Any) -> Operation:
    schema = func._schema
    full = schema.name.split("::")[-1]
    is_own = schema.name.startswith("aten::")
    kind = "plain"
    written_arguments = [each for each in schema.arguments if each.alias_info is not None and each.alias_info.is_write]
    if written_arguments:
        kind = "in place" if written_arguments[0].name in ("self", "input") and full.endswith("_") else "out"
        if kind == "out" and not any(each.is_out for each in written_arguments):
            kind = "plain"  # such as running values of a batch norm
    elif any(each.alias_info is not None for each in schema.returns):
        kind = "view"
    name = full[:-1] if kind == "in place" else full
    rule = RULES.get(name) if is_own else None
    if rule is None and is_own and trace_rules.is_pointwise(func):
        rule = trace_rules.pointwise
    is_random = torch.Tag.nondeterministic_seeded in func.tags
    plain = kind in ("plain", "in place") and is_own
    looks = torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags
    answer, cost = SHAPE_FUNCTIONS.get(name) if plain else None, COSTS.get(name) if is_own else None
    is_counted = cost is not None or (is_own and name not in UNCOUNTED) or schema.name.startswith("prims::")
    return Operation(name, rule, answer, cost, kind, is_random, looks, is_counted)


class Watcher(Protocol):
    """Is told of operations as they are computed."""

    def computed(self, call: Call, macs: int) -> None:
        """An operation whose output depends on the input, and its multiply-adds."""

    def constant(self, given: list[Tensor], macs: int) -> None:
        """An operation on tensors that do not depend on the input, and its multiply-adds."""


class TraceMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every operation inside ``with``, and tells ``watcher`` of each.

    Args:
        watcher: is told of each operation.
        with_data: whether tensors have data, so that the module can look at values.
    """

    def __init__(self, watcher: Watcher, with_data: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.watcher = watcher
        self.with_data = with_data
        self.needs_data = False  # whether a list of places was met whose values are unknown without data
        self.marked: list[Tensor] = []
        self.module: nn.Module | None = None
        self.own_storages: Callable[[], set[int]] = set

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def mark(self, value: Tensor, axes: Axes | None) -> None:
        """Note what a new tensor sees."""
        setattr(value, MARK, Annotation(axes, tuple(value.shape)))

    def unmark(self) -> None:
        """Take the marks from tensors that were there before."""
        for value in self.marked:
            value.__dict__.pop(MARK, None)
        self.marked.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        known = _OPERATIONS.get(func) or operation(func)
        if torch.is_inference_mode_enabled():  # there, torch hands over layers whole that are followed in parts
            with torch.inference_mode(False), torch.no_grad(), self:
                return func(*args, **kwargs)
        if known.looks and not self.with_data and _is_blind(known, args):
            raise NeedsValuesError(f"{known.name} depends on values")
        first: Any = args[0] if args else None
        if axes_of(first) is None and next(seeing(args, kwargs), None) is None:
            return self._constant(known, func, args, kwargs)
        if self.with_data:
            out = func(*args, **kwargs)
        elif known.kind == "view":
            out = func(*(args if first.is_meta else meta_like(args)), **kwargs)
        else:
            out = None
            if known.answer is not None:
                out = args[0] if known.kind == "in place" else _answered(known.answer, args, kwargs)
            if out is None:
                out = self._asked(known, func, args, kwargs)
        call = Call(known.name, func, args, kwargs, out, self.module)
        try:
            self._followed(known, call)
        except VisusError:
            raise
        except Exception as error:
            raise _fault(call, error) from error
        return out

    def _followed(self, known: Operation, call: Call) -> None:
        """Mark what came out of an operation, and tell the watcher."""
        args, out = call.args, call.out
        if known.kind == "view":
            self._follow_view(known, call)
        else:
            found = self._ruled(known, call)
            if known.kind == "in place":
                origin = mark_of(args[1]) if known.name == "copy" else None
                self._write(args[0], found[0] if isinstance(found, list) else found, origin)
            elif known.kind == "out":
                self._write(
                    call.kwargs.get("out", out if isinstance(out, Tensor) else out[0]),
                    found[0] if isinstance(found, list) else found,
                )
            else:
                self._place(out, found)
        if not known.is_counted:
            call.notes = (*call.notes, "not counted")
        self.watcher.computed(call, 0 if known.cost is None else known.cost(args, out))

    def _asked(self, known: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """The output as torch makes it of tensors without data."""
        out = func(*meta_like(args), **{key: meta_like(value) for key, value in kwargs.items()})
        return args[0] if known.kind == "in place" else out

    def _constant(self, known: Operation, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation on what does not depend on the input."""
        given = list(tensors(args)) + list(tensors(kwargs.values()))
        out = self._constant_output(known, func, args, kwargs, given)
        try:
            if given:
                self.watcher.constant(given, 0 if known.cost is None else known.cost(args, out))
        except Exception as error:
            raise _fault(Call(known.name, func, args, kwargs, out, self.module), error) from error
        return out

    def _constant_output(self, known: Operation, func: Any, args: Any, kwargs: Any, given: list[Tensor]) -> Any:
        """The output: computed where it is small, so that its values are known."""
        if known.kind == "view":
            out = func(*args, **kwargs)
            if given and not isinstance(args[0], nn.Parameter):
                call = Call(known.name, func, args, kwargs, out, self.module)
                try:
                    self._follow_view(known, call)
                except Exception as error:
                    raise _fault(call, error) from error
            return out
        if known.kind in ("in place", "out") and any(_storage(value) in self.own_storages() for value in given[:1]):
            return args[0]  # what belongs to the module stays as it is
        if self.with_data:
            return func(*args, **kwargs)
        if (
            any(value.is_meta for value in given)
            or sum(value.numel() for value in given) > SMALL
            or (known.is_random and given)
        ):
            out = _answered(known.answer, args, kwargs) if known.answer is not None and known.kind == "plain" else None
            return self._asked(known, func, args, kwargs) if out is None else out
        if given or known.is_random:
            return func(*args, **kwargs)
        if kwargs.get("device") == META and known.name not in ("empty", "empty_strided"):
            shape = args[0] if args and isinstance(args[0], (list, tuple)) else ()
            if all(isinstance(length, int) for length in shape) and math.prod(shape) <= SMALL:
                return func(*args, **{**kwargs, "device": torch.device("cpu")})
        return func(*args, **kwargs)

    @staticmethod
    def _hull(call: Call) -> Axes:
        """All that the inputs saw, for each axis."""
        paths = [(axes_of(value) or (), tuple(value.shape)) for value in call.seeing()]
        num_axes = len(paths[0][0])
        seen = [[term for axes, shape in paths for term in hull(axes[axis], shape)] for axis in range(num_axes)]
        return tuple(united(terms, ()) for terms in seen)

    def _ruled(self, known: Operation, call: Call) -> Axes | list[Axes | None] | None:
        """What the output sees; the hull of all that was seen where no rule says."""
        found: Any = HULL
        if isinstance(call.out, Tensor) and 0 in call.out.shape:
            found = tuple((Dependence.on_nothing(),) for _ in axes_of(next(call.seeing())) or ())
        elif known.rule is not None:
            try:
                found = known.rule(call)
            except Exception as error:
                raise _fault(call, error) from error
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

    def _place(self, out: Any, found: Axes | list[Axes | None] | None) -> None:
        """Mark the outputs with what they see."""
        if isinstance(out, Tensor):
            axes = found[0] if isinstance(found, list) else found
            setattr(out, MARK, Annotation(axes, tuple(out.shape)))
        elif isinstance(out, (list, tuple)):
            each = found if isinstance(found, list) else [found]
            for index, value in enumerate(out):
                if isinstance(value, Tensor) and index < len(each) and each[index] is not None:
                    setattr(value, MARK, Annotation(each[index], tuple(value.shape)))

    def _follow_view(self, known: Operation, call: Call) -> None:
        """Mark the views with what they see and where they came from."""
        source = call.args[0]
        above = mark_of(source)
        if above is None:
            above = Annotation(None, tuple(source.shape))
            setattr(source, MARK, above)
            self.marked.append(source)
        axes = above.current()
        found = self._ruled(known, call) if axes is not None else None
        outs = [call.out] if isinstance(call.out, Tensor) else list(call.out)
        for index, out in enumerate(outs):
            if out is source:
                continue
            own = found[index] if isinstance(found, list) else found
            replay, part = _replayed(self, known, call, above, index), _part(call, index)
            setattr(out, MARK, Annotation(own, tuple(out.shape), above, replay, part))

    def _write(self, target: Tensor, axes: Axes | None, origin: Annotation | None = None) -> None:
        """Values written into a tensor, and into what it is a view of."""
        mark = mark_of(target)
        if mark is None:
            mark = Annotation(None, tuple(target.shape))
            setattr(target, MARK, mark)
            self.marked.append(target)
        if axes is mark.current():
            return
        written(mark, axes, origin)


def _answered(answer: Answer, args: Any, kwargs: Any) -> Any:
    """The answer to an operation's shape; None where the arguments are too unusual for it, so that torch is asked."""
    try:
        return answer(args, kwargs)
    except (IndexError, TypeError, ValueError, AttributeError, RuntimeError, ZeroDivisionError):
        return None


def _is_blind(known: Operation, args: Any) -> bool:
    """Whether the values that an operation looks at are unknown; lists of places give a known shape, masks do not."""
    if known.name in ("index", "_unsafe_index"):
        return any(value.is_meta and value.dtype in (torch.bool, torch.uint8) for value in tensors(args[1]))
    return any(value.is_meta for value in tensors(args))


def _fault(call: Call, error: Exception) -> RuleError:
    """What is said of a rule that fails: rules give a hull where they do not know the arguments, so this is a fault of visus."""
    shapes = ", ".join(str(tuple(value.shape)) for value in tensors(call.args))
    return RuleError(
        f"the rule for {call.name} fails on tensors of shape {shapes}: {type(error).__name__}: {error}. "
        "This is a fault of visus, not of the module. Please report it with this line."
    )


def _replayed(follower: TraceMode, known: Operation, call: Call, above: Annotation, index: int) -> Callable[[Axes], Axes]:
    """Gives what a view sees from what its source sees, later."""
    shape, out, args, func, kwargs = above.shape, call.out, call.args, call.func, call.kwargs

    def replay(axes: Axes) -> Axes:
        stand_in = torch.empty(shape, device=META)
        setattr(stand_in, MARK, Annotation(axes, shape))
        again = Call(known.name, func, (stand_in, *args[1:]), kwargs, out, None)
        found = follower._ruled(known, again)
        own = found[index] if isinstance(found, list) else found
        return own or ()

    return replay


def _part(call: Call, index: int) -> Callable[[Tensor], Tensor]:
    """Gives the view of a tensor, as torch makes it."""
    func, args, kwargs, several = call.func, call.args, call.kwargs, not isinstance(call.out, Tensor)

    def part(value: Tensor) -> Tensor:
        out = func(value, *args[1:], **kwargs)
        return out[index] if several else out  # type: ignore[no-any-return]

    return part


def _storage(value: Tensor) -> int:
    try:
        return int(value.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return 0
