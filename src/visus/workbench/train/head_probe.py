"""Fits and cross-validates the head of a pretrained network on the features of all samples, before the training."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.evaluation.predictions import evaluation_mode
from visus.networks import weights
from visus.networks.fast import is_sped_up, slow_down, speed_up
from visus.networks.machine import Machine, freed_memory_kept, memory_format
from visus.progress import SILENT, Monitor
from visus.training.events import HeadFitted
from visus.training.fine_tuning import plan
from visus.training.heads import cross_validate, fit_head, set_head
from visus.training.loss import calibrated_losses
from visus.training.recipe import Recipe
from visus.training.resolve import StartFacts
from visus.training.selection import SampleResults, is_more_often_right
from visus.workbench.runs.out_of_fold import OutOfFold, network_digest
from visus.workbench.train.preparing import class_weights
from visus.workbench.train.starts import Start

FEATURES_BATCH = 32


@dataclass(frozen=True, eq=False)
class StartProbe:
    """The accuracy of a pretrained network with only its head trained.

    Args:
        facts: facts that determine the recipe.
        start: the start, with the accuracy of its head.
        seconds: duration of the probe.
        out_of_fold: the cross-validated predictions for the training samples; None if no head was fitted.
    """

    facts: StartFacts
    start: Start
    seconds: float
    out_of_fold: OutOfFold | None = None


def probe(
    module: nn.Module,
    start: Start,
    data: Data,
    recipe: Recipe,
    machine: Machine,
    monitor: Monitor,
    *,
    is_mirrored: bool,
) -> StartProbe:
    """Fit the head in place on the features of each sample, and score it on samples that it was not fitted on.

    An existing head is replaced only if the fitted one is significantly better; no other layer changes.

    Args:
        module: the network, on the machine's device.
        start: the initial weights.
        data: opened data.
        recipe: the recipe as given.
        machine: device and precision.
        monitor: receives the progress, and can cancel.
        is_mirrored: whether each training sample is also used mirrored.
    """
    began = time.perf_counter()
    training, validation = data.split("train"), data.split("val")
    views = 2 if is_mirrored else 1
    is_fast = recipe.kernels == "auto"
    if machine.channels_last and len(data.input_shape) > 2:
        module.to(memory_format=memory_format(len(data.input_shape) + 1))  # type: ignore[call-overload]
    reader = _Features(module, machine, len(training) * views + len(validation), monitor, is_fast=is_fast)
    found = [reader.of(training, data.preprocessing, is_mirrored=bool(turn)) for turn in range(views)]
    held = reader.of(validation, data.preprocessing) if len(validation) else None
    labels = torch.from_numpy(training.labels)
    own = None if start.left_new else _answers([found[0].logits, *([held.logits] if held else [])], labels, validation)
    head = reader.head
    if head is None:  # no linear layer makes the answers
        return StartProbe(plan(recipe, None, 0, len(validation)), start, time.perf_counter() - began)
    num_classes, features = len(data.classes), torch.stack([each.features for each in found])
    balance = class_weights(data) if recipe.class_weights == "balanced" else None
    judged = cross_validate(features, labels, num_classes, balance, groups=data.groups_of("train"), seed=recipe.seed)
    fitted = fit_head(features, labels, num_classes, judged.decay, balance)
    keeps_own = False
    if own is not None:
        new = judged.logits if held is None else torch.cat([judged.logits, fitted.logits(held.features)])
        keeps_own = not is_more_often_right(own, _answers([new], labels, validation))
    if not keeps_own:
        set_head(head, fitted)
    accuracy, num_samples = judged.accuracy, len(judged.is_right)
    if keeps_own and held is not None:  # it may have been trained on the training samples
        accuracy, num_samples = (
            _answers([held.logits], torch.from_numpy(validation.labels), validation).accuracy,
            len(validation),
        )
    start = dataclasses.replace(start, has_own_head=keeps_own, accuracy=accuracy, num_samples=num_samples)
    # Weights with a head for these classes may have been trained on these samples: out of fold, they are still too confident.
    out_of_fold = OutOfFold(judged.logits, labels, network_digest(module) if start.left_new else "")
    seconds = time.perf_counter() - began
    monitor.emit(HeadFitted(views, judged.decay, accuracy, num_samples, seconds, keeps_own))
    return StartProbe(plan(recipe, accuracy, num_samples, len(validation)), start, seconds, out_of_fold)


def refit(module: nn.Module, start: Start, data: Data, recipe: Recipe, machine: Machine, *, is_mirrored: bool) -> None:
    """Fit the head as ``probe`` did, in place, for a training that was killed before its first checkpoint."""
    probe(module, start, data, recipe, machine, SILENT, is_mirrored=is_mirrored)


def _answers(logits: list[Tensor], labels: Tensor, validation: Part) -> SampleResults:
    """How training and validation samples are answered, in this order."""
    rows = torch.cat(logits)
    whole = torch.cat([labels, torch.from_numpy(validation.labels)])[: len(rows)]
    losses = calibrated_losses(rows, whole)
    return SampleResults(tuple((rows.argmax(1) == whole).tolist()), tuple(losses.tolist()))


@dataclass(frozen=True, eq=False)
class _Seen:
    """Features (N, F) and logits (N, C) of the samples of a set; no features where no linear layer makes the answers."""

    features: Tensor
    logits: Tensor


class _Features:
    """The input of a network's head, and the network's output, for every sample of a set, in evaluation mode."""

    def __init__(self, module: nn.Module, machine: Machine, total: int, monitor: Monitor, *, is_fast: bool) -> None:
        self.module, self.machine, self.total, self.monitor, self.is_fast = module, machine, total, monitor, is_fast
        found = weights.head_of(module)
        self.head = found[1] if found else None
        self.done = 0

    def of(self, part: Part, preprocessing: Preprocessing, *, is_mirrored: bool = False) -> _Seen:
        """In the order of the set."""
        given: list[Tensor] = []
        made: list[Tensor] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            given.append(inputs[0].detach().float().cpu())
            made.append(output.detach().float().cpu())

        hook = self.head.register_forward_hook(keep) if self.head is not None else None
        answers: list[Tensor] = []
        was_fast = is_sped_up(self.module)
        if self.is_fast:
            speed_up(self.module)
        try:
            with evaluation_mode(self.module), torch.no_grad(), freed_memory_kept():
                for batch in batches_in_order(part, preprocessing, FEATURES_BATCH):
                    answers.append(self._answer(batch.flip(-1) if is_mirrored else batch))
                    self.done += len(batch)
                    self.monitor.step("computing features", self.done, self.total)
        finally:
            if hook is not None:
                hook.remove()
            if self.is_fast and not was_fast:
                slow_down(self.module)
        logits = torch.cat(answers)
        is_head = len(made) == len(answers) and all(
            each.ndim == 2 and torch.allclose(each, answer, atol=1e-4) for each, answer in zip(made, answers, strict=True)
        )
        if not is_head:
            self.head = None
        return _Seen(torch.cat(given) if is_head else logits[:, :0], logits)

    def _answer(self, batch: Tensor) -> Tensor:
        machine = self.machine
        layout = memory_format(batch.dim()) if machine.channels_last else torch.preserve_format
        with machine.autocast():
            output = self.module(batch.to(device=machine.device, memory_format=layout))
        answer: Tensor = output.detach().float().cpu()
        return answer
