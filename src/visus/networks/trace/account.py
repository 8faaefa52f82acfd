"""Any module to its account: one forward on tensors without data, receptive fields followed through every operation.

This file knows how a module is run so that it comes back untouched, and what is said when it cannot run.
"""

from __future__ import annotations

import dataclasses
import functools
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from visus.design.account import Account, Row, check_detail
from visus.design.flow import INPUT
from visus.errors import UsageError
from visus.networks.trace.calls import Axes, RuleError, axes_of, tensors
from visus.networks.trace.coordinates.dependence import Dependence
from visus.networks.trace.flows import flows_of_rows, give
from visus.networks.trace.inputs import Inputs, check_num_inputs, possible_inputs, shapes_of
from visus.networks.trace.memory import ModuleMemory
from visus.networks.trace.mode import TraceMode
from visus.networks.trace.operators.shapes import META
from visus.networks.trace.rows import Recorder, layer_text, of_one_sample
from visus.networks.trace.running import attention_in_parts, unchanged


class TraceError(UsageError):
    """A module that fails on its input; ``account`` has the rows up to where it failed."""

    account: Account


def trace(
    module: nn.Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    detail: str = "layers",
    training: bool = False,
) -> Account:
    """The account of any module for one input: shapes, parameters, multiply-adds and receptive fields.

    The module runs once on tensors without data. A module that looks at values runs on random numbers instead. It comes back
    as it was: mode, hooks, weights, buffers, device and the state of all random generators.

    Args:
        module: the module; its forward takes tensors.
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis; a list of shapes for several inputs. Fields are
            those of the first input and of all of its size, which count as one image; of other inputs no field is told. Where the
            module does not run in the dtype of its first weight, those of its other weights and integers are tried, and the first
            row says which one it was.
        detail: ``layers`` gives a row for each call of a layer (a module without children), and for each operation outside of
            layers that joins paths, changes the receptive field, multiplies matrices or makes shares of features; a layer
            that is called again has ``#2`` behind its path. ``operations`` gives a row for each tensor that depends on the input.
        training: whether the module is run in training mode. Batch norms then see the whole batch: "batch-coupled".

    Returns:
        The account. Multiply-adds are those of convolutions and matrix products, attention included, as
        ``torch.utils.flop_counter`` counts them, and those of an LSTM, which that leaves out; a row noted as "not counted" has an
        operation that is none of torch's own, as in quantized layers, whose weights and multiply-adds are not known. A row whose operation has no rule is noted as "hull", and the boxes of all
        fields after it are marked as not exact: they may be larger than what is read. Where there is no theoretical field, because
        positions do not follow each other evenly as after a roll of the flattened map, the row is noted as "size approximate":
        the boxes are exact, size is that of the largest. Where an axis has no dimension of its own, as in windows that were
        merged into the batch, the box is what all positions read together; the shape has the windows of one sample in front.
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
    >>> costs.macs, costs.rows[-1].fields[0].size, costs.rows[-1].fields[0].interval(0)
    (221184, 4, (0, 2))
    """
    shapes = _checked(module, input_shape, detail)
    module = getattr(module, "_orig_mod", module)
    check_num_inputs(module, shapes)
    first: Account | _Failure | None = None
    for inputs in possible_inputs(module, shapes):
        outcome = _of_inputs(module, inputs, detail, training)
        if isinstance(outcome, Account):
            return outcome
        first = first or outcome
    assert isinstance(first, _Failure), "there is always one input to try"
    raise first.error from first.cause


def _of_inputs(module: nn.Module, inputs: Inputs, detail: str, training: bool) -> Account | _Failure:
    """The account on inputs of these dtypes: without data where that says it all, else with data."""
    num_samples = 2 if training else 1  # a batch norm in training mode refuses a single value
    outcome, needs_data = _attempt(module, inputs, detail, training, num_samples, with_data=False)
    if isinstance(outcome, _Failure) and outcome.is_single_value:  # so does a group norm in any mode
        num_samples = 2
        outcome, needs_data = _attempt(module, inputs, detail, training, num_samples, with_data=False)
    if needs_data or isinstance(outcome, _Failure):
        better, _ = _attempt(module, inputs, detail, training, num_samples, with_data=True)
        outcome = better if isinstance(outcome, _Failure) or not isinstance(better, _Failure) else outcome
    return outcome


def _checked(module: nn.Module, input_shape: Sequence[Any], detail: str) -> tuple[tuple[int, ...], ...]:
    """The shapes of the inputs; raises where an argument cannot be used."""
    if not isinstance(module, nn.Module):
        raise UsageError(f"a module of torch is needed, not {type(module).__name__}. Give a torch.nn.Module.")
    check_detail(detail)
    shapes = shapes_of(input_shape)
    for path, values in module.named_parameters():
        if is_lazy(values):
            raise UsageError(
                "the weights have no shape before the module's first forward. Run it once, then trace it.", where=path
            )
    return shapes


class _Failure:
    """A module that failed: what is said, and whether it needs more samples.

    What fails on tensors without data is run again with data: it may look at values, or do what only these can. What fails
    there too is what torch says to the user.
    """

    def __init__(self, error: TraceError, cause: Exception) -> None:
        self.error, self.cause = error, cause
        self.is_single_value = "more than 1 value per channel" in str(cause).lower()


def _attempt(
    module: nn.Module, inputs: Inputs, detail: str, training: bool, num_samples: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """One run: the account or the failure, and whether a run with data would know more."""
    with torch.inference_mode(False):  # tensors made in inference mode are handed over in larger parts
        return _followed(module, inputs, detail, training, num_samples, with_data)


def _followed(
    module: nn.Module, inputs: Inputs, detail: str, training: bool, num_samples: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """As ``_attempt``, outside of inference mode."""
    recorder = Recorder(module, detail == "operations", num_samples, len(inputs.shapes) > 1)
    follower = TraceMode(recorder, with_data)
    follower.own_storages = functools.cache(lambda: _own_storages(module))
    given = inputs.make(num_samples, _device_of(module) if with_data else META)
    shape = inputs.shapes[0]
    for x in given:
        follower.mark(x, _seen_by_input(tuple(x.shape[1:]), shape))
        give(x, INPUT)
    try:
        with unchanged(module, training=training), attention_in_parts(), torch.no_grad(), _hooked(recorder), follower:
            output = _run(module, given, with_data)
        ends = recorder.returned(output)
        returned = _shape_of(output, num_samples)
    except RuleError:
        raise
    except Exception as error:
        return _Failure(_told(error, recorder, shape), error), False
    finally:
        follower.unmark()
    recorder.not_run()
    rows = _with_note(recorder.rows, inputs.note)
    facts = Account(shape, returned, tuple(rows), ModuleMemory(module, inputs))
    if detail == "layers" and all(len(other) == len(shape) and other[1:] == shape[1:] for other in inputs.shapes):
        flows = functools.partial(flows_of_rows, tuple(recorder.noted), shape)
        facts = dataclasses.replace(facts, find_flows=flows, ends=ends)
    return facts, follower.needs_data


def _with_note(rows: Sequence[Row], note: str) -> list[Row]:
    """The rows, with a note at the first."""
    if not note or not rows:
        return list(rows)
    return [dataclasses.replace(rows[0], notes=(*rows[0].notes, note)), *rows[1:]]


def _seen_by_input(own: tuple[int, ...], shape: tuple[int, ...]) -> Axes:
    """What an input sees of the axes of the first: its own positions where their sizes are the same, else nothing."""
    if len(own) == len(shape) and own[1:] == shape[1:]:
        return tuple((Dependence.of_input(length, axis + 2, len(shape) + 1),) for axis, length in enumerate(shape[1:]))
    return tuple((Dependence.on_nothing(),) for _ in shape[1:])


def _device_of(module: nn.Module) -> torch.device:
    return next((value.device for value in module.parameters() if value.is_floating_point()), torch.device("cpu"))


def _run(module: nn.Module, given: tuple[Tensor, ...], with_data: bool) -> Any:
    if not with_data or isinstance(module, torch.jit.ScriptModule):
        return module(*given)
    buffers = {name: values.clone() for name, values in module.named_buffers()}
    return torch.func.functional_call(module, buffers, given)


def _shape_of(output: Any, num_samples: int) -> tuple[int, ...]:
    """Shape of the first tensor of an output, without the batch axis."""
    values = list(output.values()) if isinstance(output, dict) else [output]
    found = list(tensors(values))
    seeing = [value for value in found if axes_of(value) is not None]
    return of_one_sample(tuple((seeing or found)[0].shape), num_samples) if found else ()


def _told(error: Exception, recorder: Recorder, shape: tuple[int, ...]) -> TraceError:
    """The error with the module that failed and the rows up to it."""
    scope = recorder.stack[-1] if recorder.stack else None
    reached = of_one_sample(scope.input_shape, recorder.num_samples) if scope is not None and scope.input_shape else shape
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
