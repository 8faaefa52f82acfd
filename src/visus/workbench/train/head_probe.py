"""Fits and cross-validates the head of a pretrained network on the features of all samples, before the training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from visus.data.batches import Part, batches_in_order, random_stream
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.evaluation.metric_names import DEFAULT_METRICS
from visus.evaluation.metrics import METRICS
from visus.evaluation.predictions import evaluation_mode
from visus.evaluation.tasks.registry import task_of
from visus.evaluation.tasks.task import Task
from visus.networks import weights
from visus.networks.fast import Autotuner, is_sped_up, slow_down, speed_up
from visus.networks.fast.autotuner import TUNING_SHARE
from visus.networks.machine import Machine, freed_memory_kept, memory_format
from visus.networks.own_code import copied
from visus.networks.step_cost import training_passes
from visus.progress import SILENT, Monitor, Progress
from visus.timing import timed
from visus.training.arithmetic import WITHOUT_KERNELS, uses_kernels
from visus.training.events import HeadFitted
from visus.training.facts import HeadScore, StartFacts
from visus.training.fine_tuning import plan
from visus.training.frozen import keep_statistics
from visus.training.head_losses import head_loss_of
from visus.training.heads import cross_validate, fit_head, set_head
from visus.training.recipe import Recipe
from visus.training.resolve import FINE_TUNING_BATCH
from visus.training.selection import SIGNIFICANCE, SampleResults, is_more_often_right, paired_z
from visus.workbench.runs.out_of_fold import OutOfFold, network_digest
from visus.workbench.train.preparing import class_weights
from visus.workbench.train.starts import Start

FEATURES_BATCH = 32
HEAD_SHARE: Final = 0.5
"""Largest share of a time limit's remaining time that the features for the head may take."""
MIN_FITTED: Final = 64
"""Number of training samples on which the head is fitted in any case, if there are as many."""


@dataclass(frozen=True, eq=False)
class StartProbe:
    """How well a pretrained network predicts with only its head trained.

    Args:
        facts: facts that determine the recipe.
        start: the start, with the score of its head.
        seconds: duration of the probe.
        out_of_fold: the cross-validated predictions for the training samples; None if no head was fitted on all of them, and for other tasks than
            one class for each sample.
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
    left_s: float = math.inf,
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
        left_s: seconds that a time limit leaves for the head and the fine-tuning; the head uses fewer samples if it would take more than half of them.
    """
    began = time.perf_counter()
    skipped_by = WITHOUT_KERNELS if uses_kernels(machine, recipe.kernels) else ()
    training, validation = data.split("train"), data.split("val")
    if machine.channels_last and len(data.input_shape) > 2:
        module.to(memory_format=memory_format(len(data.input_shape) + 1))  # type: ignore[call-overload]
    reader = _Features(module, machine, monitor, is_fast=recipe.kernels == "auto", until=began + TUNING_SHARE * left_s)
    needs_held = not start.left_new  # to judge the network's own head
    views, places = 2 if is_mirrored else 1, np.arange(len(training))
    if math.isfinite(left_s) and len(training):
        monitor.emit(Progress("timing the network", 0, skipped_by=skipped_by))
        monitor.check("timing the network")
        affordable = HEAD_SHARE * left_s / reader.sample_s(training, data.preprocessing) - needs_held * len(validation)
        views, places = _affordable(len(training), views, affordable, recipe.seed)
    fitted_on = training if len(places) == len(training) else _chosen(training, places)
    reader.total = len(fitted_on) * views + needs_held * len(validation)
    found = [reader.of(fitted_on, data.preprocessing, is_mirrored=bool(turn)) for turn in range(views)]
    held = reader.of(validation, data.preprocessing) if needs_held and len(validation) else None
    labels = torch.from_numpy(fitted_on.labels)
    task = task_of(data)
    own = None if start.left_new else _answers(task, [found[0].logits, *([held.logits] if held else [])], labels, validation)
    head = reader.head
    if head is None:  # no linear layer makes the answers
        facts = plan(recipe, None, len(validation), len(training))
        start = dataclasses.replace(start, can_predict=not start.left_new)
        return StartProbe(facts, start, time.perf_counter() - began)
    loss, features = head_loss_of(task), torch.stack([each.features for each in found])
    num_outputs, targets = len(data.classes), loss.targets(labels)
    balance = class_weights(data) if recipe.class_weights == "balanced" else None
    groups = data.groups_of("train")
    chosen_groups = None if groups is None else [groups[place] for place in places.tolist()]
    judged = cross_validate(
        features, targets, num_outputs, balance, loss=loss, groups=chosen_groups, seed=recipe.seed, monitor=monitor
    )
    monitor.step("fitting the last layer", 0)
    fitted = fit_head(features, targets, num_outputs, judged.decay, balance, loss=loss)
    keeps_own = False
    if own is not None:
        new = judged.logits if held is None else torch.cat([judged.logits, fitted.logits(held.features)])
        keeps_own = not _is_surely_better(own, _answers(task, [new], labels, validation))
    if not keeps_own:
        set_head(head, fitted)
    score = _score(task, judged.logits[judged.places], labels[judged.places])
    if keeps_own and held is not None:  # it may have been trained on the training samples
        score = _score(task, held.logits, torch.from_numpy(validation.labels))
    start = dataclasses.replace(start, has_own_head=keeps_own, head=score)
    # Weights with a head for these classes may have been trained on these samples: out of fold, they are still too confident.
    digest = network_digest(module) if start.left_new else ""
    is_whole = len(fitted_on) == len(training) and task.name == "single-label"
    out_of_fold = OutOfFold(judged.logits, labels, digest) if is_whole else None
    facts = plan(recipe, score, len(validation), len(training))
    if math.isfinite(left_s) and (facts.epochs if recipe.epochs is None else recipe.epochs) != 0:
        monitor.emit(Progress("timing a step of fine-tuning", 0, skipped_by=skipped_by))
        monitor.check("timing a step of fine-tuning")
        reader.until = time.perf_counter() + TUNING_SHARE * max(0.0, began + left_s - time.perf_counter())
        step_s = reader.step_s(training, data.preprocessing, recipe.batch_size or FINE_TUNING_BATCH)
        in_time = max(0.0, left_s - (time.perf_counter() - began)) / step_s
        facts = plan(recipe, score, len(validation), len(training), in_time)
    seconds = time.perf_counter() - began
    used = (len(fitted_on), len(training), _next_step(recipe, facts))
    monitor.emit(
        HeadFitted(views, judged.decay, score.value, score.num_samples, seconds, keeps_own, *used, metric=score.metric)
    )
    return StartProbe(facts, start, seconds, out_of_fold)


def _affordable(num_training: int, views: int, num_affordable: float, seed: int) -> tuple[int, npt.NDArray[np.int64]]:
    """Number of views and places of the training samples for a number of forward passes: first one view, then fewer samples."""
    if num_training * views <= num_affordable:
        return views, np.arange(num_training)
    num_kept = min(num_training, max(MIN_FITTED, math.floor(num_affordable)))
    drawn = torch.randperm(num_training, generator=random_stream(seed, "head"))[:num_kept]
    return 1, drawn.sort().values.numpy()


def _chosen(part: Part, places: npt.NDArray[np.int64]) -> Part:
    """Some samples of a split."""
    names = tuple(part.names[place] for place in places.tolist())
    return Part(part.name, part.pixels, part.indices[places], part.labels[places], names)


def _next_step(recipe: Recipe, facts: StartFacts) -> str:
    """What follows the head, in a few words."""
    epochs = facts.epochs if recipe.epochs is None else recipe.epochs
    if epochs == 0:
        return "scoring, since nothing else is trained"
    return f"fine-tuning of {'the layers that are not frozen' if recipe.frozen else 'all layers'}, from this head"


def refit(module: nn.Module, start: Start, data: Data, recipe: Recipe, machine: Machine, *, is_mirrored: bool) -> None:
    """Fit the head as ``probe`` did, in place, for a training that was killed before its first checkpoint."""
    probe(module, start, data, recipe, machine, SILENT, is_mirrored=is_mirrored)


def _answers(task: Task, logits: list[Tensor], labels: Tensor, validation: Part) -> SampleResults:
    """How training and validation samples are answered, in this order."""
    rows = torch.cat(logits)
    whole = torch.cat([labels, torch.from_numpy(validation.labels)])[: len(rows)]
    is_right = task.is_right(rows, whole)
    found = () if is_right is None else tuple(is_right.tolist())
    return SampleResults(found, tuple(task.fair_losses(rows, whole).tolist()))


def _is_surely_better(own: SampleResults, fitted: SampleResults) -> bool:
    """Whether a fitted head is significantly better than a network's own: more often right, or where nothing is right, with lower losses."""
    if own.is_right:
        return is_more_often_right(own, fitted)
    return paired_z(own.losses, fitted.losses) <= SIGNIFICANCE


def _score(task: Task, outputs: Tensor, labels: Tensor) -> HeadScore:
    """The main metric of the task on some samples."""
    metric, is_right = METRICS[DEFAULT_METRICS[task.name]], task.is_right(outputs, labels)
    share = None if is_right is None else float(is_right.double().mean())
    return HeadScore(metric.name, metric.compute(task, outputs, labels), len(labels), share)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Features (N, F) and logits (N, C) of the samples of a set; no features where no linear layer makes the answers."""

    features: Tensor
    logits: Tensor


class _Features:
    """The input of a network's head, and the network's output, for every sample of a set, in evaluation mode."""

    def __init__(
        self, module: nn.Module, machine: Machine, monitor: Monitor, *, is_fast: bool, until: float = math.inf
    ) -> None:
        self.module, self.machine, self.monitor, self.is_fast = module, machine, monitor, is_fast
        self.until = until  # no algorithm of a convolution is measured after it
        found = weights.head_of(module)
        self.head = found[1] if found else None
        self.done = self.total = 0
        self._autotuner: Autotuner | None = None

    def sample_s(self, part: Part, preprocessing: Preprocessing) -> float:
        """Seconds of a forward pass for one sample, timed on a batch after another one."""
        first = _chosen(part, np.arange(min(FEATURES_BATCH, len(part))))
        seconds = 0.0
        with self._computing():
            for _ in range(2):
                began = time.perf_counter()
                for batch in batches_in_order(first, preprocessing, FEATURES_BATCH):
                    self._answer(batch)
                seconds = time.perf_counter() - began
        return max(seconds / len(first), 1e-9)

    def step_s(self, part: Part, preprocessing: Preprocessing, batch_size: int) -> float:
        """Seconds of forward and backward pass of one step, timed on a copy after another one; a tiny number if the copy cannot be trained."""
        first = _chosen(part, np.arange(min(batch_size, len(part))))
        seconds = 0.0
        try:
            twin = copied(self.module).train()
            keep_statistics(twin)
            if self.is_fast:
                speed_up(twin, Autotuner(until=self.until))
            inputs = torch.cat(list(batches_in_order(first, preprocessing, batch_size))).to(self.machine.device)
            layout = memory_format(inputs.dim()) if self.machine.channels_last else torch.preserve_format
            step = training_passes(twin, inputs.contiguous(memory_format=layout), self.machine)
            for _ in range(2):
                seconds = timed(step, self.machine.wait)
        except Exception:  # a person's own module may raise anything; the first real step will report it
            return 1e-9
        return max(seconds, 1e-9)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """A context in which the network is in evaluation mode, with the fastest kernels if asked for."""
        was_fast = is_sped_up(self.module)
        if self.is_fast:
            self._autotuner = self._autotuner or Autotuner(until=self.until)
            speed_up(self.module, self._autotuner)
        try:
            with evaluation_mode(self.module), torch.no_grad(), freed_memory_kept():
                yield
        finally:
            if self.is_fast and not was_fast:
                slow_down(self.module)

    def of(self, part: Part, preprocessing: Preprocessing, *, is_mirrored: bool = False) -> _Seen:
        """In the order of the set."""
        given: list[Tensor] = []
        made: list[Tensor] = []

        def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            given.append(inputs[0].detach().float().cpu())
            made.append(output.detach().float().cpu())

        hook = self.head.register_forward_hook(keep) if self.head is not None else None
        answers: list[Tensor] = []
        try:
            with self._computing():
                for batch in batches_in_order(part, preprocessing, FEATURES_BATCH):
                    answers.append(self._answer(batch.flip(-1) if is_mirrored else batch))
                    self.done += len(batch)
                    self.monitor.step("computing features", self.done, self.total)
        finally:
            if hook is not None:
                hook.remove()
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
