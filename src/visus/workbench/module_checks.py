"""Checks of a user's module before a run starts: its inputs, its outputs and one training step."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from visus.data.batches import Batch
from visus.errors import UsageError, VisusError
from visus.evaluation.predictions import evaluation_mode
from visus.networks.failures import flattened_batch, remedy_for
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine
from visus.networks.own_code import (
    copied,
    describe_failure,
    describe_output,
    find_answers,
    give_shapes,
    layer_and_input,
    read_answers,
)
from visus.networks.states import state_of
from visus.tables import listed
from visus.training.loss import Loss
from visus.units import write_number_of, write_shape

SOFTMAX = "the network ends with a softmax, and the loss applies another one, which slows down learning. Leave it out; predictions are probabilities anyway."


def check_module(
    module: nn.Module, input_shape: tuple[int, ...], num_classes: int, name: str, seed: int = 0
) -> tuple[str, ...]:
    """Raise an error for a module that rejects these inputs or does not return one logit per class.

    Lazy parameters are initialized. A module that returns logits (samples, classes) among other outputs returns only the
    logits afterwards.

    Returns:
        Warnings for the user before training.

    Raises:
        UsageError: the module is unsuitable; the message says what is needed.
    """
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    known = _parameters_of(module)
    if device.type == "meta":
        raise UsageError(
            "this module is on the device meta, which has no values. Create it outside of torch.device('meta'), "
            "or give it weights with to_empty and its own initialization.",
            where=name,
        )
    try:
        give_shapes(module, input_shape, seed)
        with evaluation_mode(module), torch.no_grad():
            output = module(torch.zeros(2, *input_shape, device=device))
    except Exception as error:  # whatever a person's own code raises
        layer, reached = layer_and_input(error, module)
        received = f". Its input is {write_shape(reached)}" if reached and layer is not module else ""
        remedy = (
            _other_dtype(module)
            or _other_inputs(error, module)
            or flattened_batch(layer, reached, 2)
            or remedy_for(error, layer, reached[1:], num_samples=2)
            or _other_size(error, input_shape)
        )
        raise UsageError(
            f"this module cannot take an input of 2 x {write_shape(input_shape)}: {describe_failure(error, module)}{received}. {remedy}",
            where=name,
        ) from error
    _refuse_made_in_forward(module, known, name)
    found = find_answers(output, 2, num_classes)
    if found is None:
        raise UsageError(
            f"this module gives {_given(output)} for 2 samples, and 2 x {num_classes} is needed: "
            f"one number for each of the {num_classes} classes.",
            where=name,
        )
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise UsageError("this module has no trainable parameter.", where=name)
    answers, place = found
    warnings = []
    if not isinstance(output, Tensor) or output.dim() != 2:
        read_answers(module, num_classes)
        rest = f"{place} in it is trained and read, and the rest is dropped" if place else "its axes of length 1 are dropped"
        warnings.append(
            f"{name} returns {describe_output(output)}: {rest}. From now on, the module returns only these logits."
        )
    is_softmax = num_classes > 1 and bool((answers >= 0).all())
    if is_softmax and torch.allclose(answers.sum(1), torch.ones(2, dtype=answers.dtype, device=answers.device)):
        warnings.append(SOFTMAX)
    return tuple(warnings)


def try_training(
    module: nn.Module, batch: Batch, num_classes: int, machine: Machine, name: str, loss: Loss
) -> tuple[str, ...]:
    """Run the forward and backward pass of a training step on a copy, so that errors appear before a run folder exists.

    Args:
        module: on the machine's device. It does not change, except if it returns other outputs in training, such as
            auxiliary heads: then it returns only the logits afterwards.
        batch: training samples.
        num_classes: number of logits.
        machine: device and precision of the training.
        name: name of the module, for messages.
        loss: the loss of the training.

    Returns:
        Warnings for the user before training.

    Raises:
        UsageError: the step failed; the message names the error, the submodule and the line.
    """
    try:
        state_of(module)
        twin = copied(module).train()
    except UsageError as error:
        raise error.within(name) from None
    except Exception as error:  # whatever a person's own code raises: threads, files and locks cannot be copied
        message = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"this module cannot be copied ({type(error).__name__}: {message}), but visus averages and examines copies of it. "
            "Keep files, locks and generators outside of it, or give it a __deepcopy__.",
            where=name,
        ) from error
    before, known = set(twin.state_dict()), _parameters_of(twin)
    with torch.random.fork_rng(devices=[]), float32_where_needed(twin, machine.precision):
        torch.manual_seed(0)
        has_other_outputs, warnings = _try_passes(twin, batch, num_classes, machine, name, loss)
    _refuse_made_in_forward(twin, known, name)
    if appeared := sorted(set(twin.state_dict()) - before):
        more = ", ..." if len(appeared) > 3 else ""
        raise UsageError(
            f"{', '.join(appeared[:3])}{more} {'is' if len(appeared) == 1 else 'are'} made by the first forward pass of a training, where no optimizer "
            "and no file of weights knows of it. Make all parameters and buffers in __init__.",
            where=name,
        )
    if has_other_outputs:
        read_answers(module, num_classes)
    return warnings


def _other_dtype(module: nn.Module) -> str:
    """What to do about weights that are not float32; empty if all are."""
    found = {value.dtype for value in module.parameters() if value.is_floating_point()} - {torch.float32}
    if not found:
        return ""
    names = " and ".join(sorted(str(each).removeprefix("torch.") for each in found))
    return f"Its weights are {names}: call .float() on the module; visus chooses the precision of a training itself (--precision)."


def _other_inputs(error: Exception, module: nn.Module) -> str:
    """What to do about a forward that needs more than one input; empty if it does not."""
    if not isinstance(error, TypeError):
        return ""
    try:
        wanted = list(inspect.signature(module.forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return ""
    positional = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    more = [each.name for each in wanted if each.kind in positional and each.default is inspect.Parameter.empty]
    if not more:
        return ""
    return (
        f"visus trains modules with one input: wrap the module in one that makes {' and '.join(more)} itself, "
        f"or give {' and '.join(more)} a default."
    )


def _other_size(error: Exception, input_shape: tuple[int, ...]) -> str:
    """What to do about an error of unknown cause, which may come from the size of the samples."""
    if len(input_shape) != 3:
        return "Mend it there, or give another input shape."
    if "must match the size of tensor" in str(error):
        return "If the module is made for one image size, as with learned positions, give that size: --img-size PX."
    return "Mend it there, or give images of another size: --img-size PX."


def _parameters_of(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by path; one under two paths is there twice."""
    return dict(module.named_parameters(remove_duplicate=False))


def _refuse_made_in_forward(module: nn.Module, known: Mapping[str, nn.Parameter], name: str) -> None:
    """Raise an error for parameters that a forward pass made: they are not the same objects as those before it.

    Raises:
        UsageError: there are some; the message names them.
    """
    made = [path for path, value in _parameters_of(module).items() if known.get(path) is not value]
    if made:
        raise UsageError(
            f"forward makes {listed(made)}: no optimizer updates a parameter that a forward pass makes, and each load of the run would draw other "
            "values. Make the layer in __init__, and only call it in forward (nn.LazyLinear finds the size of its input itself).",
            where=name,
        )


def _try_passes(
    twin: nn.Module, batch: Batch, num_classes: int, machine: Machine, name: str, loss: Loss
) -> tuple[bool, tuple[str, ...]]:
    """Run one step; whether the module returns more than its logits, and the warnings."""
    num_samples = len(batch.labels)
    called: set[nn.Module] = set()
    parts = [] if _is_compiled(twin) else list(twin.modules())
    hooks = [part.register_forward_pre_hook(lambda part, _: called.add(part)) for part in parts]
    try:
        with machine.autocast():
            output = twin(batch.inputs)
    except Exception as error:  # whatever a person's own code raises
        if _is_about_memory_or_batch(error):
            return False, ()  # the first step says it, with what to do
        raise UsageError(f"this module fails in training: {describe_failure(error, twin)}.", where=name) from error
    finally:
        for hook in hooks:
            hook.remove()
    found = find_answers(output, num_samples, num_classes)
    if found is None:
        raise UsageError(
            f"in training, this module gives {_given(output)} for {num_samples} samples, and {num_samples} x {num_classes} is needed: "
            f"one number for each of the {num_classes} classes.",
            where=name,
        )
    answers, place = found
    _try_answering(twin, batch, machine, name)
    if not answers.requires_grad:
        raise UsageError(
            "in training, the output of this module does not depend on any trainable parameter: it is detached, "
            "or computed under torch.no_grad.",
            where=name,
        )
    try:
        loss.mean(answers.float(), batch.labels).backward()  # type: ignore[no-untyped-call]
    except VisusError:
        raise
    except Exception as error:  # whatever a person's own code raises
        if _is_about_memory_or_batch(error):
            return False, ()
        raise UsageError(
            f"this module fails in the backward pass of a training: {describe_failure(error, twin)}.", where=name
        ) from error
    warnings = []
    if place:
        warnings.append(
            f"in training, {name} returns {describe_output(output)}: {place} in it is trained; its other outputs are ignored."
        )
    return bool(place), (*warnings, *_without_gradient(twin, called or set(twin.modules())))


def _is_compiled(module: nn.Module) -> bool:
    """Whether a part of a module is compiled by ``torch.compile``, which cannot trace a hook that notes calls."""
    return any(type(part).__name__ == "OptimizedModule" for part in module.modules())


def _without_gradient(module: nn.Module, called: Collection[nn.Module]) -> tuple[str, ...]:
    """A warning about trainable parameters that the backward pass gave no gradient; none if there are no such parameters.

    Layers that were never called are left out: the advice on the network names them.
    """
    trained = [(path, value) for path, value in module.named_parameters() if value.requires_grad]
    owners = {path: module.get_submodule(path.rpartition(".")[0]) for path, _ in trained}
    missed = [path for path, value in trained if value.grad is None and owners[path] in called]
    if not missed:
        return ()
    one = len(missed) == 1
    return (
        f"no gradient reaches {write_number_of(len(missed), 'parameter tensor')} of {len(trained)} ({listed(missed)}): training leaves "
        f"{'it' if one else 'them'} at {'its' if one else 'their'} initial values. Look for detach, .data or torch.no_grad after "
        f"{'it' if one else 'them'} in forward, or use {'it' if one else 'them'} there; if this is meant, set requires_grad = False.",
    )


def _try_answering(twin: nn.Module, batch: Batch, machine: Machine, name: str) -> None:
    """Let it answer as it will for validation: after training steps, in the machine's precision."""
    try:
        with evaluation_mode(twin), torch.no_grad(), machine.autocast():
            twin(batch.inputs)
    except Exception as error:  # whatever a person's own code raises
        hint = " Train it in float32: --precision float32." if "bfloat16" in str(error).lower() else ""
        raise UsageError(
            f"this module fails on training samples: {describe_failure(error, twin)}.{hint}", where=name
        ) from error


def _given(output: object) -> str:
    """The shape of an output, or its kind where it has none."""
    return (write_shape(output.shape) or "one number") if isinstance(output, Tensor) else type(output).__name__


def _is_about_memory_or_batch(error: Exception) -> bool:
    message = str(error)
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "allocate memory" in message
        or "more than 1 value per channel" in message
    )
