"""Any module to its account: one forward on tensors without data, receptive fields followed through every operation.

This file knows how a module is run so that it comes back untouched, and what is said when it cannot run. It must not know
rules, nor the text of designs.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from visus.design.account import Account, check_detail
from visus.design.flow import INPUT
from visus.errors import UsageError
from visus.networks.trace_calls import RuleError, axes_of, tensors
from visus.networks.trace_flows import flows_of_rows, give
from visus.networks.trace_memory import ModuleMemory
from visus.networks.trace_mode import Follower
from visus.networks.trace_rows import Recorder, layer_text, of_one_item
from visus.networks.trace_shapes import META
from visus.networks.trace_sight import Line, Sight


class TraceError(UsageError):
    """A module that fails on its input; ``account`` has the rows up to where it failed."""

    account: Account


def trace(module: nn.Module, input_shape: Sequence[int], *, detail: str = "layers", training: bool = False) -> Account:
    """The account of any module for one input: shapes, parameters, multiply-adds and receptive fields.

    The module runs once on tensors without data. A module that looks at values runs on random numbers instead. It comes back
    as it was: mode, hooks, weights, buffers, device and the state of all random generators.

    Args:
        module: the module; its forward takes one tensor.
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis.
        detail: ``layers`` gives a row for each call of a layer (a module without children), and for each operation outside of
            layers that joins paths, changes the receptive field, multiplies matrices or makes shares of features; a layer
            that is called again has ``#2`` behind its path. ``operations`` gives a row for each tensor that depends on the input.
        training: whether the module is run in training mode. Batch norms then see the whole batch: "batch-coupled".

    Returns:
        The account. Multiply-adds are those of convolutions and matrix products, attention included, as
        ``torch.utils.flop_counter`` counts them, and those of an LSTM, which that leaves out; a row noted as "not counted" has an
        operation that is none of torch's own, as in quantised layers, whose weights and multiply-adds are not known. A row whose operation has no rule is noted as "hull", and the boxes of all
        fields after it are marked as not exact: they may be larger than what is read. Where the textbook has no field, because
        positions do not follow each other evenly as after a roll of the flattened map, the row is noted as "size approximate":
        the boxes are exact, size is that of the largest. Where an axis has no dimension of its own, as in windows that were
        merged into the batch, the box is what all positions read together; the shape has the windows of one item in front.
        Where the last row does not tell of what the module returns, a row ``output`` is added; it is noted as "not traced" where
        no operation of torch leads to it from the input, as after a way through NumPy. Parameters that nothing used
        have a row noted as "not run", without a field.

    Raises:
        TraceError: the module fails on this input; ``account`` has the rows up to there.
        RuleError: a rule of visus fails, which is a fault of visus.
        UsageError: an argument cannot be used.

    >>> costs = trace(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)), (3, 32, 32))
    >>> [(row.path, row.layer, row.output_shape) for row in costs.rows[:2]]
    [('0', 'Conv2d(8, 3, padding=1)', (8, 32, 32)), ('1', 'ReLU', (8, 32, 32))]
    >>> costs.macs, costs.rows[-1].fields[0].size, costs.rows[-1].fields[0].box(0)
    (221184, 4, (0, 2))
    """
    shape = _checked(module, input_shape, detail)
    module = getattr(module, "_orig_mod", module)
    num_items = 2 if training else 1  # a batch norm in training mode refuses a single value
    outcome, wants_values = _attempt(module, shape, detail, training, num_items, with_data=False)
    if isinstance(outcome, _Failure) and outcome.is_single_value:  # so does a group norm in any mode
        num_items = 2
        outcome, wants_values = _attempt(module, shape, detail, training, num_items, with_data=False)
    if wants_values or isinstance(outcome, _Failure):
        better, _ = _attempt(module, shape, detail, training, num_items, with_data=True)
        outcome = better if isinstance(outcome, _Failure) or not isinstance(better, _Failure) else outcome
    if isinstance(outcome, _Failure):
        raise outcome.error from outcome.cause
    return outcome


def _checked(module: nn.Module, input_shape: Sequence[int], detail: str) -> tuple[int, ...]:
    """The shape as a tuple; raises where an argument cannot be used."""
    if not isinstance(module, nn.Module):
        raise UsageError(f"a module of torch is needed, not {type(module).__name__}. Give a torch.nn.Module.")
    check_detail(detail)
    shape = tuple(input_shape)
    if not shape or not all(isinstance(length, int) and length > 0 for length in shape):
        raise UsageError(f"the input shape is (channels, *spatial) in whole numbers from 1 on, not {shape}.")
    for path, values in module.named_parameters():
        if is_lazy(values):
            raise UsageError(
                "the weights have no shape before the module's first forward. Run it once, then trace it.", where=path
            )
    return shape


class _Failure:
    """A module that failed: what is said, and whether it needs more items.

    What fails on tensors without data is run again with data: it may look at values, or do what only these can. What fails
    there too is what torch says to the user.
    """

    def __init__(self, error: TraceError, cause: Exception) -> None:
        self.error, self.cause = error, cause
        self.is_single_value = "more than 1 value per channel" in str(cause).lower()


def _attempt(
    module: nn.Module, shape: tuple[int, ...], detail: str, training: bool, num_items: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """One run: the account or the failure, and whether a run with data would know more."""
    with torch.inference_mode(False):  # tensors made in inference mode are handed over in larger parts
        return _followed(module, shape, detail, training, num_items, with_data)


def _followed(
    module: nn.Module, shape: tuple[int, ...], detail: str, training: bool, num_items: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """As ``_attempt``, outside of inference mode."""
    recorder = Recorder(module, detail == "operations", num_items)
    follower = Follower(recorder, with_data)
    follower.own_storages = functools.cache(lambda: _own_storages(module))
    x = _input(module, (num_items, *shape), with_data)
    follower.mark(x, tuple(_seen_by_input(axis + 2, length) for axis, length in enumerate(shape[1:])))
    give(x, INPUT)
    try:
        with torch.no_grad(), _not_compiled(module), _kept(module, training), _hooked(recorder), follower:
            output = _run(module, x, with_data)
        ends = recorder.returned(output)
        returned = _shape_of(output, num_items)
    except RuleError:
        raise
    except Exception as error:
        return _Failure(_told(error, recorder, shape), error), False
    finally:
        follower.unmark()
    recorder.not_run()
    memory = ModuleMemory(module, shape)
    facts = Account(shape, returned, tuple(recorder.rows), memory)
    if detail == "layers":
        flows = functools.partial(flows_of_rows, tuple(recorder.noted), shape)
        facts = dataclasses.replace(facts, flows=flows, ends=ends)
    return facts, follower.wants_values


def _seen_by_input(dim: int, length: int) -> tuple[Line]:
    return (Line(Sight.of_input(length), dim, length),)


def _input(module: nn.Module, shape: tuple[int, ...], with_data: bool) -> Tensor:
    values = next((value for value in module.parameters() if value.is_floating_point()), None)
    dtype = torch.get_default_dtype() if values is None else values.dtype
    if not with_data:
        return torch.empty(shape, dtype=dtype, device=META)
    numbers = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return numbers.to(dtype).to("cpu" if values is None else values.device)


def _run(module: nn.Module, x: Tensor, with_data: bool) -> Any:
    if not with_data:
        return module(x)
    buffers = {name: values.clone() for name, values in module.named_buffers()}
    return torch.func.functional_call(module, buffers, (x,))


def _shape_of(output: Any, num_items: int) -> tuple[int, ...]:
    """Shape of the first tensor of an output, without the batch axis."""
    values = list(output.values()) if isinstance(output, dict) else [output]
    found = list(tensors(values))
    seeing = [value for value in found if axes_of(value) is not None]
    return of_one_item(tuple((seeing or found)[0].shape), num_items) if found else ()


def _told(error: Exception, recorder: Recorder, shape: tuple[int, ...]) -> TraceError:
    """The error with the module that failed and the rows up to it."""
    scope = recorder.stack[-1] if recorder.stack else None
    reached = of_one_item(scope.input_shape, recorder.num_items) if scope is not None and scope.input_shape else shape
    name = layer_text(scope.module) if scope is not None else "the module"
    sentence = str(error).strip().split("\n")[0].rstrip(".") or "no reason is given"
    place = _own_fault(error)
    told = TraceError(
        f"{name} fails on an input of shape {reached}: {type(error).__name__}: {sentence}. "
        "Give another input shape, or mend the module."
        if place is None
        else f"the code of {name} fails: {type(error).__name__}: {sentence}, at {place}. Mend it there; no input shape is at fault.",
        where=scope.path if scope is not None else "",
    )
    last = recorder.rows[-1].output_shape if recorder.rows else ()
    told.account = Account(shape, last, tuple(recorder.rows))
    return told


def _own_fault(error: Exception) -> str | None:
    """File and line of a mistake in the module's own code; None for what torch refuses and for what the module refuses itself."""
    if not isinstance(error, (KeyError, AttributeError, NameError, TypeError, ZeroDivisionError, ImportError)):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent):
        return None
    return f"{frames[-1].filename}, line {frames[-1].lineno}"


def _own_storages(module: nn.Module) -> set[int]:
    found = set()
    for values in (*module.parameters(), *module.buffers()):
        found.add(int(values.untyped_storage()._cdata))
    return found


@contextmanager
def _hooked(recorder: Recorder) -> Iterator[None]:
    recorder.hook()
    try:
        yield
    finally:
        recorder.unhook()


@contextmanager
def _not_compiled(module: nn.Module) -> Iterator[None]:
    """Parts that ``torch.compile`` compiled are run as they were before, since nothing can be followed through compiled code."""
    if not any(type(part).__name__ == "OptimizedModule" for part in module.modules()):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def _kept(module: nn.Module, training: bool) -> Iterator[None]:
    """The module in one mode; it and all random generators come back as they were."""
    before = [_state(each) for each in module.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()
    for each in module.modules():
        each.__dict__["training"] = training
    try:
        yield
    finally:
        for state in before:
            _give_back(*state)
        torch.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])


_Held = list[tuple[Any, Any]]


def _state(module: nn.Module) -> tuple[nn.Module, dict[str, Any], _Held]:
    """A module's attributes, and what its own lists and tables hold: a forward may keep what it computed in any of them."""
    attributes = dict(module.__dict__)
    return module, attributes, [(each, each.copy()) for each in attributes.values() if isinstance(each, (dict, list, set))]


def _give_back(module: nn.Module, attributes: dict[str, Any], held: _Held) -> None:
    """Put back what ``_state`` found."""
    module.__dict__.clear()
    module.__dict__.update(attributes)
    for container, content in held:
        container.clear()
        if isinstance(container, list):
            container.extend(content)
        else:
            container.update(content)
