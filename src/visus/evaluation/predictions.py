"""A network's answers for batches of samples.

This file knows how to run any module over batches without disturbing it.

The answer for a sample does not depend on the other samples of its batch: normalization uses its stored statistics and
dropout is off. What remains is rounding, since PyTorch may order its sums differently for another batch size: about 1e-6 of
the size of the logits in float32, and about 4e-3 in bfloat16, which keeps 8 bits. In bfloat16 two close logits can round to
the same value; the class that stands first in the class list is then the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
) -> Tensor:
    """The module's output for every sample of every batch, in order and each sample once.

    The module runs in evaluation mode and without gradients. Afterwards, also after an error, each of its submodules is in
    the mode in which it was found.

    Args:
        module: takes (samples, channels, *spatial) and gives (samples, classes); already on ``device``.
        batches: tensors of scaled values, of any and of different lengths; taken one by one.
        device: where the batches are computed; they may come from elsewhere.
        precision: ``"float32"`` or ``"bfloat16"``.
        channels_last: lay the batches out with channels last. Only speed depends on it.
        tta: the views of each sample whose outputs are averaged (``visus.evaluation.test_time_augmentation``). Those that only unsure samples get are asked for in
            batches of such samples, so that an image at the border of being sure may fall on either side of it by rounding.

    Returns:
        float32 logits on the CPU, (samples, classes).

    Raises:
        DataError: there was no sample.
        UsageError: the module gave something other than one row for each sample, or there are no such views.
    """
    place = torch.device(device)
    first, second = stages(tta)

    def answers(batch: Tensor, kind: str) -> Tensor:
        layout = memory_format(batch.dim()) if channels_last else torch.preserve_format
        total: Tensor | None = None
        for view, weight in views(batch, kind):
            output = _answer(module, view.to(memory_format=layout), place, precision)
            _check_output(output, batch, parts)
            part = output.float() if weight == 1 else output.float() * weight
            total = part if total is None else total + part
        assert total is not None, "there is always one view"
        return total.cpu()

    parts: list[Tensor] = []
    with evaluation_mode(module):
        again = _Again(lambda batch: answers(batch, str(second)))
        for batch in batches:
            if not len(batch):
                continue
            batch = batch.to(device=place)
            found = answers(batch, first)
            if second is not None:
                again.take(batch, unsure(found), sum(map(len, parts)))
            parts.append(found)
        if not parts:
            raise DataError("there is nothing to predict: no samples were given.")
        return again.put_into(torch.cat(parts))


def _answer(module: nn.Module, batch: Tensor, device: torch.device, precision: str) -> Any:
    """What a module gives for a batch.

    Raises:
        UsageError: what a person's own module raised, and where in it.
    """
    try:
        with torch.no_grad(), autocast(device, precision):  # not inference mode: a module may keep a tensor for its training
            return module(batch)
    except VisusError:
        raise
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(
            f"the network stopped on a batch of {write_shape(batch.shape)}: {describe_failure(error, module)}."
        ) from error


class _Again:
    """Samples that are looked at once more, in batches of their own.

    Args:
        answers: gives the second answers of a batch.
    """

    def __init__(self, answers: Callable[[Tensor], Tensor]) -> None:
        self._answers = answers
        self._waiting: list[Tensor] = []
        self._places: list[Tensor] = []
        self._found: list[Tensor] = []

    def take(self, batch: Tensor, chosen: Tensor, num_before: int) -> None:
        """Keep the chosen samples of a batch, the first of which is number ``num_before``; those of a whole batch are answered at once."""
        self._waiting.append(batch[chosen.to(batch.device)])
        self._places.append(chosen.nonzero().flatten() + num_before)
        if sum(map(len, self._waiting)) >= len(batch):
            self._answer(len(batch))

    def put_into(self, logits: Tensor) -> Tensor:
        """The logits with the second answers in their places."""
        self._answer(sum(map(len, self._waiting)))
        if self._found:
            logits[torch.cat(self._places)] = torch.cat(self._found)
        return logits

    def _answer(self, num_together: int) -> None:
        waiting, self._waiting = self._waiting, []
        if sum(map(len, waiting)):
            together = torch.cat(waiting)
            self._found.extend(self._answers(some) for some in torch.split(together, num_together))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """A context in which ``module`` is in evaluation mode; every submodule then returns to the mode in which it was."""
    was_training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in was_training:
            part.training = training


def top_k(probabilities: Tensor, classes: Sequence[str], k: int = 1) -> list[list[tuple[str, float]]]:
    """The ``k`` most probable classes of each sample, the most probable first.

    Equal probabilities keep the order of ``classes``. Where there are fewer than ``k`` classes, all are given.

    Args:
        probabilities: (samples, classes).
        classes: the name of each column.
        k: how many; at least 1.

    Raises:
        UsageError: ``k`` is less than 1, or the columns are not the classes.

    >>> top_k(torch.tensor([[0.1, 0.7, 0.2]]), ["bag", "boot", "coat"], k=2)
    [[('boot', 0.7), ('coat', 0.2)]]
    """
    if k < 1:
        raise UsageError(f"top-k needs k of at least 1, not {k}.")
    if probabilities.dim() != 2 or probabilities.shape[1] != len(classes):
        raise UsageError(f"probabilities of shape {tuple(probabilities.shape)} do not fit {len(classes)} classes.")
    values, places = torch.sort(probabilities, dim=1, descending=True, stable=True)
    rows = zip(places[:, :k].tolist(), values[:, :k].tolist(), strict=True)
    # Seven digits are what float32 holds: 0.7 is then written 0.7.
    return [[(classes[place], round(value, 7)) for place, value in zip(*row, strict=True)] for row in rows]


def _check_output(output: object, batch: Tensor, earlier: list[Tensor]) -> None:
    """Refuse an output that is not one row of logits for each sample of the batch."""
    if not isinstance(output, Tensor):
        raise UsageError(
            f"the network gave a {type(output).__name__}, where a tensor of shape (samples, classes) is needed."
        )
    num_classes = earlier[0].shape[1] if earlier else None
    wrong = output.dim() != 2 or output.shape[0] != len(batch)
    if wrong or (num_classes is not None and output.shape[1] != num_classes):
        needed = f"({len(batch)}, {num_classes if num_classes is not None else 'classes'})"
        raise UsageError(
            f"the network gave a tensor of shape {tuple(output.shape)} for a batch of shape {tuple(batch.shape)}, "
            f"where {needed} is needed."
        )
