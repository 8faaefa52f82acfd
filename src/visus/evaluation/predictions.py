"""Predictions of a network for batches of samples.

The prediction for a sample does not depend on its batch: batch norms use stored statistics, and dropout is off. Only rounding differs, since PyTorch may
add in another order for another batch size: about 1e-6 of the logits' size in float32, and 4e-3 in bfloat16, which has 8 bits. If two logits round to the
same value, the first class in the class list is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from visus.errors import DataError, UsageError, VisusError
from visus.evaluation.test_time_augmentation import stages, unsure, views
from visus.networks.machine import autocast, memory_format
from visus.networks.own_code import describe_failure
from visus.units import write_shape


def predict_logits(
    module: nn.Module,
    batches: Iterable[Tensor],
    *,
    device: torch.device | str = "cpu",
    precision: str = "float32",
    channels_last: bool = False,
    tta: str = "none",
    on_first_pass: Callable[[Tensor], None] | None = None,
) -> Tensor:
    """The logits of every sample, in order.

    The module runs in evaluation mode and without gradients. Afterwards, even after an error, each submodule returns to its mode.

    Args:
        module: maps (samples, channels, *spatial) to (samples, classes); already on ``device``.
        batches: preprocessed samples; batches may have different lengths.
        device: device of the module; the batches may be on another one.
        precision: ``"float32"`` or ``"bfloat16"``.
        channels_last: whether to convert the batches to channels-last, for speed.
        tta: test-time augmentation (``visus.evaluation.test_time_augmentation``). With ``unsure:``, unsure samples form batches of their own, so
            rounding may decide about a sample at the threshold.
        on_first_pass: receives the logits (samples, classes) before those of unsure samples are replaced; only with ``unsure:``.

    Returns:
        Logits (samples, classes), float32, on the CPU.

    Raises:
        DataError: there is no sample.
        UsageError: the module does not return one row per sample, or ``tta`` is unknown.
    """
    target = torch.device(device)
    first, second = stages(tta)

    def averaged_logits(batch: Tensor, kind: str) -> Tensor:
        layout = memory_format(batch.dim()) if channels_last else torch.preserve_format
        total: Tensor | None = None
        for view, weight in views(batch, kind):
            output = _run(module, view.to(memory_format=layout), target, precision)
            _check_output(output, batch, parts)
            part = output.float() if weight == 1 else output.float() * weight
            total = part if total is None else total + part
        assert total is not None, "there is at least one view"
        return total.cpu()

    parts: list[Tensor] = []
    with evaluation_mode(module):
        second_pass = _SecondPass(lambda batch: averaged_logits(batch, str(second)))
        for batch in batches:
            if not len(batch):
                continue
            batch = batch.to(device=target)
            logits = averaged_logits(batch, first)
            if second is not None:
                second_pass.add(batch, unsure(logits), sum(map(len, parts)))
            parts.append(logits)
        if not parts:
            raise DataError("there is nothing to predict: no samples were given.")
        logits = torch.cat(parts)
        if on_first_pass is not None and second is not None:
            on_first_pass(logits.clone())
        return second_pass.replace_in(logits)


def _run(module: nn.Module, batch: Tensor, device: torch.device, precision: str) -> Any:
    """Output of a module for a batch.

    Raises:
        UsageError: the module raised an exception; the message says where.
    """
    try:
        with (
            torch.no_grad(),
            autocast(device, precision),
        ):  # not inference mode: a module may store a tensor for its training
            return module(batch)
    except VisusError:
        raise
    except Exception as error:  # a person's own code may raise anything
        raise UsageError(
            f"the network stopped on a batch of {write_shape(batch.shape)}: {describe_failure(error, module)}."
        ) from error


class _SecondPass:
    """Collects samples for a second prediction, in batches of their own.

    Args:
        predict: computes the second logits of a batch.
    """

    def __init__(self, predict: Callable[[Tensor], Tensor]) -> None:
        self._predict = predict
        self._waiting: list[Tensor] = []
        self._places: list[Tensor] = []
        self._logits: list[Tensor] = []

    def add(self, batch: Tensor, mask: Tensor, first_index: int) -> None:
        """Collect the samples of a batch that ``mask`` (N,) selects; predict when there are enough for a batch."""
        self._waiting.append(batch[mask.to(batch.device)])
        self._places.append(mask.nonzero().flatten() + first_index)
        if sum(map(len, self._waiting)) >= len(batch):
            self._predict_waiting(len(batch))

    def replace_in(self, logits: Tensor) -> Tensor:
        """Put the second logits in their places."""
        self._predict_waiting(sum(map(len, self._waiting)))
        if self._logits:
            logits[torch.cat(self._places)] = torch.cat(self._logits)
        return logits

    def _predict_waiting(self, batch_size: int) -> None:
        waiting, self._waiting = self._waiting, []
        if sum(map(len, waiting)):
            samples = torch.cat(waiting)
            self._logits.extend(self._predict(part) for part in torch.split(samples, batch_size))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """A block in which ``module`` is in evaluation mode; afterwards every submodule returns to its mode."""
    was_training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in was_training:
            part.training = training


def _check_output(output: object, batch: Tensor, earlier: list[Tensor]) -> None:
    """Raise unless the output has one row of logits per sample."""
    if not isinstance(output, Tensor):
        raise UsageError(
            f"the network returned a {type(output).__name__}, and a tensor of shape (samples, classes) is needed."
        )
    num_classes = earlier[0].shape[1] if earlier else None
    wrong = output.dim() != 2 or output.shape[0] != len(batch)
    if wrong or (num_classes is not None and output.shape[1] != num_classes):
        needed = f"({len(batch)}, {num_classes if num_classes is not None else 'classes'})"
        raise UsageError(
            f"the network returned a tensor of shape {tuple(output.shape)} for a batch of shape {tuple(batch.shape)}, "
            f"and {needed} is needed."
        )
