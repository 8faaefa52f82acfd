"""The account of any module. The module runs on tensors without data; the rule of each operator computes the dependence of
its output."""

from __future__ import annotations

import dataclasses
import functools
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from visus.design.account import Account, Row, check_detail
from visus.design.flow import INPUT
from visus.errors import UsageError
from visus.networks.failures import remedy_for
from visus.networks.own_code import line_of_code
from visus.networks.trace.annotation import ANNOTATION, Annotation, Axes, axes_of, tensors
from visus.networks.trace.coordinates.dependence import Dependence
from visus.networks.trace.flows import flows_of_rows, set_producer
from visus.networks.trace.function_calls import FunctionCalls
from visus.networks.trace.inputs import Inputs, check_num_inputs, possible_inputs, shapes_of
from visus.networks.trace.memory import ModuleMemory
from visus.networks.trace.mode import RecurrentLayers, TraceMode
from visus.networks.trace.operators.registry import RuleError
from visus.networks.trace.operators.shapes import META
from visus.networks.trace.rows import Recorder, layer_text, of_one_sample
from visus.networks.trace.running import ModuleState, attention_in_parts


class TraceError(UsageError):
    """The module fails on its input; ``account`` has the rows up to where it failed."""

    account: Account


def trace(
    module: nn.Module,
    input_shape: Sequence[int] | Sequence[Sequence[int]],
    *,
    detail: str = "layers",
    training: bool = False,
) -> Account:
    """The account of any module for one input: shapes, parameters, multiply-adds and receptive fields.

    The module runs on tensors without data. It runs again if the first dtype or a batch of one fails, and on random numbers
    if it branches on values. Its state is restored: mode, hooks, parameters, buffers, attributes, device and all random
    generators, including those of accelerators.

    Args:
        module: the module; its forward takes tensors.
        input_shape: ``(channels, *spatial)`` or ``(features,)``, without the batch axis; a list of shapes for several
            inputs. Fields are computed for the first input and all inputs of its size, which count as one image; other
            inputs have no fields. If the module does not run in the dtype of its first weight, other weights' dtypes and
            integers are tried; the first row notes the one used.
        detail: ``layers`` has a row for each call of a layer (a module without children), and for each call of an operator outside of
            layers that joins paths, changes the receptive field, multiplies matrices or applies a softmax to features; a
            layer that is called again has ``#2`` after its path. ``operations`` has a row for each tensor that depends on
            the input.
        training: whether the module runs in training mode. Batch norms then see the whole batch: "batch-coupled".

    Returns:
        The account. Multiply-adds are those of convolutions and matrix products, attention included, as
        ``torch.utils.flop_counter`` counts them, and those of an LSTM, which it omits. A row noted as "not counted" has an
        operator outside of torch's own, as in quantized layers, with unknown weights and multiply-adds. A row whose operator
        has no rule is noted as "hull", and the boxes of all
        fields after it are marked as not exact: they may be larger than what is read. If positions are unevenly spaced, as
        after a roll of the flattened map, there is no theoretical field. The row is then noted as "size approximate": the
        boxes are exact, and size is that of the largest. If an axis has no dimension of its own, as after merging windows
        into the batch, the box is the union over all positions. The shape then starts with the windows of one sample.
        If the last row is not the module's output, a row ``output`` is added. It is noted as "not traced" if no operator of
        torch connects it to the input, as after a detour through NumPy. Unused parameters have a row noted as "not run",
        without a field.

    Raises:
        TraceError: the module fails on this input; ``account`` has the rows up to there.
        RuleError: a rule of visus fails, which is a bug in visus.
        UsageError: an argument is invalid.

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
    """The account for inputs of these dtypes: without data where that is enough, else with data."""
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
    """A run that failed: the error, and whether the module needs more samples.

    A module that fails on tensors without data is run again with data: it may branch on values. If that fails too, its error is the
    user's.
    """

    def __init__(self, error: TraceError, cause: Exception) -> None:
        self.error, self.cause = error, cause
        self.is_single_value = "more than 1 value per channel" in str(cause).lower()


def _attempt(
    module: nn.Module, inputs: Inputs, detail: str, training: bool, num_samples: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """One run: the account or the failure, and whether a run with data would find more."""
    with torch.inference_mode(False):  # in which torch dispatches whole layers
        return _trace_once(module, inputs, detail, training, num_samples, with_data)


def _trace_once(
    module: nn.Module, inputs: Inputs, detail: str, training: bool, num_samples: int, with_data: bool
) -> tuple[Account | _Failure, bool]:
    """As ``_attempt``, outside of inference mode."""
    recorder = Recorder(module, detail == "operations", num_samples, len(inputs.shapes) > 1)
    state = ModuleState(module)
    mode = TraceMode(recorder, state, with_data)
    batch = inputs.make(num_samples, _device_of(module) if with_data else META)
    shape = inputs.shapes[0]
    for x in batch:
        setattr(x, ANNOTATION, Annotation(_axes_of_input(tuple(x.shape[1:]), shape), tuple(x.shape)))
        set_producer(x, INPUT)
    try:
        with (
            state.unchanged(training=training),
            attention_in_parts(),
            torch.no_grad(),
            _hooked(recorder),
            mode,
            RecurrentLayers(mode),
            _Composite(recorder),
        ):
            output = module(*batch)
        ends = recorder.finish(output)
        returned = _shape_of(output, num_samples)
    except RuleError:
        raise
    except Exception as error:
        return _Failure(_trace_error(error, recorder, shape), error), False
    finally:
        mode.remove_annotations()
    recorder.add_unused()
    rows = _with_note(recorder.rows, inputs.note)
    facts = Account(shape, returned, tuple(rows), ModuleMemory(module, inputs), function_calls=recorder.function_calls)
    if detail == "layers" and all(len(other) == len(shape) and other[1:] == shape[1:] for other in inputs.shapes):
        flows = functools.partial(flows_of_rows, tuple(recorder.row_records), shape)
        facts = dataclasses.replace(facts, find_flows=flows, ends=ends)
    return facts, mode.needs_data


def _with_note(rows: Sequence[Row], note: str) -> list[Row]:
    """The rows, with a note at the first."""
    if not note or not rows:
        return list(rows)
    return [dataclasses.replace(rows[0], notes=(*rows[0].notes, note)), *rows[1:]]


def _axes_of_input(own: tuple[int, ...], shape: tuple[int, ...]) -> Axes:
    """What an input depends on along the axes of the first: its own positions where their sizes are the same, else nothing."""
    if len(own) == len(shape) and own[1:] == shape[1:]:
        return tuple((Dependence.of_input(length, axis + 2, len(shape) + 1),) for axis, length in enumerate(shape[1:]))
    return tuple((Dependence.on_nothing(),) for _ in shape[1:])


def _device_of(module: nn.Module) -> torch.device:
    return next((value.device for value in module.parameters() if value.is_floating_point()), torch.device("cpu"))


def _shape_of(output: Any, num_samples: int) -> tuple[int, ...]:
    """Shape of the first tensor of an output, without the batch axis."""
    values = list(output.values()) if isinstance(output, dict) else [output]
    found = list(tensors(values))
    dependent_tensors = [value for value in found if axes_of(value) is not None]
    return of_one_sample(tuple((dependent_tensors or found)[0].shape), num_samples) if found else ()


def _trace_error(error: Exception, recorder: Recorder, shape: tuple[int, ...]) -> TraceError:
    """The error, with the module that failed and the rows up to it."""
    scope = recorder.stack[-1] if recorder.stack else None
    reached = of_one_sample(scope.input_shape, recorder.num_samples) if scope is not None and scope.input_shape else shape
    name = layer_text(scope.module) if scope is not None else "the module"
    sentence = str(error).strip().split("\n")[0].rstrip(".") or "no reason is given"
    place = line_of_code(error)
    at = f", at {place}" if place else ""
    remedy = remedy_for(error, scope.module if scope is not None else None, reached, num_samples=recorder.num_samples)
    remedy = remedy or f"Give another input shape, or mend {'that line' if place else 'the module'}."
    failed = TraceError(
        f"the code of {name} fails: {type(error).__name__}: {sentence}{at}. Mend it there; no input shape is at fault."
        if place and _is_mistake_in_code(error)
        else f"{name} fails on an input of shape {reached}: {type(error).__name__}: {sentence}{at}. {remedy}",
        where=scope.path if scope is not None else "",
    )
    last = recorder.rows[-1].output_shape if recorder.rows else ()
    failed.account = Account(shape, last, tuple(recorder.rows))
    return failed


def _is_mistake_in_code(error: Exception) -> bool:
    """Whether it is a mistake in the module's own code: no error of torch, and none that the module raises on purpose."""
    if not isinstance(error, (KeyError, AttributeError, NameError, TypeError, ZeroDivisionError, ImportError)):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and not Path(frames[-1].filename).is_relative_to(Path(torch.__file__).parent)


class _Composite(TorchFunctionMode):
    """Gives an einsum one row with its equation: torch dispatches only the products and permutations that it consists of.

    It also counts the calls of each function, so that an operation of the account can be found again in another run.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder, self.calls = recorder, FunctionCalls()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.recorder.function = self.calls.next_call(func)
        if func is not torch.functional.einsum or not args or not isinstance(args[0], str):
            return func(*args, **(kwargs or {}))
        with self.recorder.grouped("einsum", f"einsum({args[0].replace(' ', '')})", args[1:]) as output:
            output.append(func(*args, **(kwargs or {})))
        return output[0]


@contextmanager
def _hooked(recorder: Recorder) -> Iterator[None]:
    recorder.hook()
    try:
        yield
    finally:
        recorder.unhook()
