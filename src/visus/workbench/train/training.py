"""From data and a network to a run folder with everything that a person needs to trust and use it: open, prepare, train, score, tell."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.errors import ProcessLostError, UsageError
from visus.evaluation.scores import Scores
from visus.networks.initial_weights import InitialWeights
from visus.networks.machine import Machine, choose, suited
from visus.networks.pretrained import backbone_of
from visus.training.checkpoints import read_position
from visus.training.distribution import Group, join
from visus.training.events import Event, Finished, StartScored, StepDone, Stopped
from visus.training.frozen import freeze
from visus.training.loop import Training
from visus.training.recipe import FIELDS, Recipe
from visus.training.resolve import PROGRESSIVE_SIZES, ResolvedRecipe, StartFacts
from visus.training.runs import RunFolder
from visus.units import write_duration, write_number_of, write_shape
from visus.workbench.module_checks import try_training
from visus.workbench.modules import BuiltNetwork, Network, make_network
from visus.workbench.progress import showing
from visus.workbench.report.measures import FinishedRun
from visus.workbench.report.reports import fit_calibration
from visus.workbench.runs.own_data import open_own_data, remember_place
from visus.workbench.runs.run import Run, load
from visus.workbench.train.ending import ending_s, remember_ending
from visus.workbench.train.mirroring import ask_mirroring, read_mirroring, write_mirroring
from visus.workbench.train.preparing import augmentation, class_weights, prepare, resolved, takes_smaller, whiten
from visus.workbench.train.processes import new_run, refuse_too_many, run_to_go_on_with, share_of
from visus.workbench.train.run_files import metadata, renew_environment, write_end, write_start
from visus.workbench.train.starts import Start, begin, choice_of, known_weights, probe, read_for, refit, suited_data
from visus.workbench.train.width_search import within_limit

CHANGEABLE_ON_RESUME = ("device", "time_limit_s", "checkpoint_every_s")


@dataclass(frozen=True)
class DataOpened:
    """The data is there, and the network; the first event of a training."""

    data: Data
    network: BuiltNetwork
    warnings: tuple[str, ...]
    start: Start | None = None


@dataclass(frozen=True)
class Prepared:
    """Everything is decided, and the run folder exists."""

    data: Data
    network: BuiltNetwork
    recipe: ResolvedRecipe
    machine: Machine
    folder: Path
    warnings: tuple[str, ...]
    start: Start | None = None
    mirroring: str = ""

    @property
    def changes(self) -> list[str]:
        """What is done to the training samples, in whole pixels."""
        said = augmentation(self.recipe).sentences(self.data.input_shape[1:])
        sides = self.recipe.sides
        if min(sides) < 1:
            sizes = [write_shape(max(1, round(side * length)) for length in self.data.input_shape[1:]) for side in sides]
            shares = [(size, len(list(equal)) / len(sizes)) for size, equal in itertools.groupby(sizes)]
            (first, share), *later = shares
            told = [f"{first} for {share:.0%} of the training", *(f"{size} for {share:.0%}" for size, share in later)]
            said.append(f"seen at {', then '.join(told)}".replace("%", " %") if later else f"seen at {first} throughout")
        elif self.recipe.optimizer == "muon" and not takes_smaller(
            self.network.module, self.data, Recipe(progressive_resize=PROGRESSIVE_SIZES)
        ):
            said.append("seen at their whole size throughout (the network takes no other)")
        return said

    @property
    def num_left_out(self) -> int:
        """Training samples that sit out each epoch, others each time, because they would not fill a batch."""
        num_samples, batch_size = len(self.data.split("train")), self.recipe.batch_size
        is_whole = self.recipe.sampling == "balanced" or not self.recipe.epochs
        return num_samples % batch_size if num_samples > batch_size and not is_whole else 0


@dataclass(frozen=True)
class Scored:
    """The trained network was scored; the last event of a training."""

    run: Run
    scores: Scores
    warnings: tuple[str, ...] = ()


OnEvent = Callable[[Event | DataOpened | Prepared | Scored], None]


def train(
    data: Data | str | Path | None = None,
    network: Network | None = None,
    recipe: Recipe | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    output: str | Path = "runs",
    name: str | None = None,
    on_event: OnEvent | None = None,
    should_stop: Callable[[], bool] | None = None,
    command: str = "",
    began_at: float | None = None,
    progress: bool | None = None,
) -> Run:
    """Train a network on data and leave a run folder.

    Processes that ``torchrun`` started train it together, each calling this with the same arguments; where they were started again, they go on.

    Args:
        data: opened data, or its path; None for the images that come with visus.
        network: a design, its text, a family call, ``package.module:callable``, or a module (trained in place); None for ``compact``, or for
            ``efficientnet_lite(0)`` where it starts from pretrained weights. With a time limit in the recipe, None is the widest ``compact`` that fits into it.
            A module that was trained already, and a callable whose weights do not depend on the random seed, are fine-tuned.
        recipe: how to train; None for the default.
        pretrained: True to start from the ImageNet weights of the extra ``visus[pretrained]``, False not to. None decides: for a path of photos
            (see ``BackboneChoice``), and for data that was opened for these weights, where no network was asked for.
        weights: a file of weights to start from, safetensors or a state dict, matched by name.
        output: folder of the runs.
        name: of the run; None for the name of the data. ``-2``, ``-3`` ... is added where it is taken.
        on_event: called with everything that happens.
        should_stop: asked after each step; True ends the training with a checkpoint, and the run is not scored.
        command: what was typed, for the report.
        began_at: value of ``time.perf_counter`` from which a time limit counts; None for now.
        progress: False shows nothing on stderr; None and True show how the training goes: a live line in a terminal or a notebook, a line for
            each epoch elsewhere. ``on_event`` is called all the same.

    Returns:
        The run, with the weights of the latest epoch within one standard error of the best validation accuracy, or those that it started from.

    Raises:
        DataError, DesignError, RecipeError: something that was given cannot be used.
        UsageError: pretrained weights and something that cannot go with them.
        WeightsError: weights that do not fit; each layer is named.
        TrainingError: the training diverged.
        StorageError: the disk is full.
    """
    began = time.perf_counter() if began_at is None else began_at
    if recipe is not None and not isinstance(recipe, Recipe):
        raise UsageError(
            f"the recipe must be a visus.Recipe, and not a {type(recipe).__name__}. Write visus.Recipe(epochs=3)."
        )
    group = join()
    if begun := run_to_go_on_with(group):
        own = network if isinstance(network, nn.Module) else None
        cache = data.store.folder.parent if isinstance(data, Data) else None
        return resume(begun, network=own, cache_dir=cache, on_event=on_event, should_stop=should_stop, progress=progress)
    with showing(on_event, progress, is_first=group.is_first) as (shown, decoding):
        return _train(
            data, network, recipe, pretrained, weights, output, name, shown, decoding, should_stop, command, began, group
        )


def _train(
    data: Data | str | Path | None,
    network: Network | None,
    recipe: Recipe | None,
    pretrained: bool | None,
    weights: str | Path | None,
    output: str | Path,
    name: str | None,
    tell: OnEvent,
    on_progress: Callable[[int, int], None],
    should_stop: Callable[[], bool] | None,
    command: str,
    began: float,
    group: Group,
) -> Run:
    """``train``, as one of the processes of a group, telling what happens."""
    given = recipe or Recipe()
    choice = choice_of(pretrained, network=network, file=weights)
    with group.local_first():
        opened = data if isinstance(data, Data) else open_data(data, suit=choice, on_progress=on_progress)
    if pretrained:
        opened = suited_data(opened)
    backbone = choice.backbone if choice is not None and read_for(opened) else None
    mirrors = ask_mirroring(given, opened, group)
    num_samples = len(opened.split("train"))
    made = make_network(
        backbone.design if network is None and backbone is not None else network,
        opened.input_shape,
        len(opened.classes),
        num_samples=num_samples,
        seed=given.seed,
    )
    initial = known_weights(network, made.module, opened, weights, backbone)
    start = None if initial is None else begin(made.module, initial, opened.classes)
    if initial is not None and backbone is None:
        opened, made = _scaled_as(initial, opened, made)
    tell(DataOpened(opened, made, (*opened.warnings, *made.warnings), start))
    machine = suited(choose(given.device, given.precision), made.module)
    first = resolved(given, opened, made.module, mirrors, StartFacts() if start is not None else None)
    made = _tried(made, opened, first, machine)
    facts = None
    if start is not None:
        start, facts = _probe(start, opened, made, given, machine, group, tell, is_mirrored=first.flip != "none")
    chosen = first if facts is None else resolved(given, opened, made.module, mirrors, facts)
    refuse_too_many(group, chosen, machine)
    if network is None and start is None and given.time_limit_s is not None:
        left = _Limit(given.time_limit_s, began).left(ending_s(opened, made))
        made, chosen = within_limit(made, given, left, opened, machine, group, mirrors, tell)
    folder = new_run(group, Path(output), name or opened.short_name, metadata(opened, made))
    write_start(folder, opened, made, chosen, machine, command)
    if start is not None:
        folder.write_json("start.json", start.to_json())
    if mirrors is not None:
        write_mirroring(folder, mirrors, opened.noun)
    limit = _Limit(chosen.time_limit_s, began)
    unbegun = Unbegun(folder, tell)
    with unbegun:
        return _carry_out(folder, opened, made, chosen, machine, start, False, limit, unbegun.tell, should_stop, group)


def _scaled_as(initial: InitialWeights, data: Data, made: BuiltNetwork) -> tuple[Data, BuiltNetwork]:
    """Data scaled as initial weights need it; where they do not say how, or it cannot be done, a warning."""
    plan = data.preprocessing
    if (
        initial.normalization is not None
        and plan.dtype == "uint8"
        and plan.channels == len(initial.normalization.offset)
        and len(plan.size) == 2
    ):
        return suited_data(data, initial.normalization), made
    if initial.file is None and initial.normalization is None:
        warning = (
            f"{initial.source} come without the scaling that they were trained with, so inputs are scaled by the training set. "
            "Name theirs on the module: module.normalization = (mean, std), of values from 0 to 1."
        )
        made = dataclasses.replace(made, warnings=(*made.warnings, warning))
    return data, made


def _probe(
    start: Start,
    data: Data,
    made: BuiltNetwork,
    given: Recipe,
    machine: Machine,
    group: Group,
    tell: OnEvent,
    *,
    is_mirrored: bool,
) -> tuple[Start, StartFacts]:
    """Fit the head of a network that knows something, and decide what is trained of the rest; the first process decides for all."""
    module = made.module.to(machine.device)
    with torch.random.fork_rng(devices=[]), group.all_local_threads():
        if group.is_first:
            found = probe(module, start, data, given, machine, tell, is_mirrored=is_mirrored)
            told = json.dumps([found.start.to_json(), dataclasses.asdict(found.facts)])
        else:
            told = ""
    stored, facts = json.loads(group.broadcast_text(told))
    return Start.from_json(stored), StartFacts(**facts)


@dataclass(frozen=True)
class _Limit:
    """The time limit of a whole command.

    Args:
        seconds: of the command; infinity for no limit.
        began: value of ``time.perf_counter`` when it began.
    """

    seconds: float
    began: float

    def warnings(self, ending_s: float) -> list[str]:
        """A sentence where no time is left for the training."""
        passed = time.perf_counter() - self.began
        if self.seconds - passed - ending_s >= 1:
            return []
        return [
            f"a limit of {write_duration(self.seconds)} leaves no time to train: {write_duration(passed)} have passed, and scoring and the report take about "
            f"{write_duration(ending_s)}. The training gets one second; give at least {write_duration(math.ceil(passed + ending_s + 1))}, and more to learn."
        ]

    def left(self, ending_s: float) -> float:
        """Seconds that are left for the training, where scoring and report will take ``ending_s``; at least one."""
        return max(1.0, self.seconds - (time.perf_counter() - self.began) - ending_s)


def resume(
    folder: str | Path,
    data: str | Path | None = None,
    *,
    network: nn.Module | None = None,
    changes: dict[str, Any] | None = None,
    cache_dir: str | Path | None = None,
    num_workers: int = 0,
    on_event: OnEvent | None = None,
    should_stop: Callable[[], bool] | None = None,
    began_at: float | None = None,
    progress: bool | None = None,
) -> Run:
    """Go on with a training that was stopped, in the same folder; on the same processor it ends as if it had never stopped.

    Args:
        folder: the run folder.
        data: where its data is now, if it was moved; the run remembers it.
        network: the module itself, for a run that was trained with a module object.
        changes: settings that may differ from the run's recipe: device, checkpoint_every_s, and time_limit_s, which then is the time from now on.
        cache_dir: another folder for the decoded samples.
        num_workers: decoding threads; 0 for one for each usable core.
        on_event, should_stop, began_at, progress: as for ``train``.

    Raises:
        RunError: no run, or nothing to go on from.
        DataError: the data has changed or is no longer there.
        UsageError: a change of a setting that is fixed for the run.
    """
    began = time.perf_counter() if began_at is None else began_at
    group = join()
    run = dataclasses.replace(RunFolder.open(Path(folder)), is_ours=group.is_first)
    fixed = [name for name in changes or {} if name not in CHANGEABLE_ON_RESUME]
    if fixed:
        raise UsageError(
            f"{', '.join(fixed)} cannot change while a training goes on: the run has its recipe. "
            f"Leave {'it' if len(fixed) == 1 else 'them'} out, or start a new run.",
            where=str(run.path),
        )
    run.remove_parts()
    start = _read_start(run)
    has_steps = start is None or run.checkpoint.is_file()  # the head is fitted before the first checkpoint
    position = read_position(run.checkpoint) if has_steps else None
    recipe = ResolvedRecipe.read(run.path / "recipe.yaml").replace(**changes or {})
    facts = run.read_json("data.json")
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    with group.local_first():
        opened = open_own_data(run.path, preprocessing, data, cache_dir=cache_dir, num_workers=num_workers)
    if group.is_first:
        remember_place(run.path, opened)
    made = make_network(
        run.read_text("design.txt").rstrip("\n") if network is None else network,
        opened.input_shape,
        len(opened.classes),
        num_samples=len(opened.split("train")),
        seed=recipe.seed,
    )
    machine = suited(choose(recipe.device, recipe.precision), made.module)
    if start is not None and not has_steps:
        _start_again(start, opened, made, network, recipe, machine)
    refuse_too_many(group, recipe, machine)
    made = _tried(made, opened, recipe, machine)
    if warning := renew_environment(run, recipe, machine):
        made = dataclasses.replace(made, warnings=(*made.warnings, warning))
    run = dataclasses.replace(run, metadata=metadata(opened, made))
    if position is not None and position.epoch >= recipe.epochs:
        told = (
            f"this training is finished, with all of its {write_number_of(recipe.epochs, 'epoch')}: nothing is trained, and scores and report are written "
            f"anew. To train its weights further, start a new run: visus train --weights {run.weights_file()} --epochs N"
        )
        made = dataclasses.replace(made, warnings=(*made.warnings, told))
    limit = _Limit(recipe.time_limit_s, began) if "time_limit_s" in (changes or {}) else None
    with showing(on_event, progress, is_first=group.is_first) as (tell, _):
        tell(DataOpened(opened, made, (*opened.warnings, *made.warnings), start))
        return _carry_out(run, opened, made, recipe, machine, start, has_steps, limit, tell, should_stop, group)


class Unbegun:
    """A block at whose end the folder of a new run is removed where an error came before the first step: there is nothing to go on from."""

    def __init__(self, folder: RunFolder, on_event: OnEvent | None) -> None:
        self._folder, self._on_event = folder, on_event
        self._has_steps = False

    def tell(self, event: Event | DataOpened | Prepared | Scored) -> None:
        """Pass an event on."""
        self._has_steps = self._has_steps or isinstance(event, StepDone)
        if self._on_event is not None:
            self._on_event(event)

    def __enter__(self) -> Unbegun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, place: object) -> None:
        is_over = isinstance(error, Exception) and not isinstance(
            error, ProcessLostError
        )  # those are started again, in this folder
        if is_over and not self._has_steps:
            self._folder.remove()


def _tried(made: BuiltNetwork, data: Data, recipe: ResolvedRecipe, machine: Machine) -> BuiltNetwork:
    """A person's own module after one step was tried on a copy of it, with what is to be told about it; other networks as they are."""
    if made.design is not None:
        return made
    module, batches = prepare(made.module, data, recipe, machine)
    told = try_training(module, next(batches.epoch(0)), len(data.classes), machine, made.asked)
    return dataclasses.replace(made, module=module, warnings=(*made.warnings, *told))


def _start_again(
    start: Start, data: Data, made: BuiltNetwork, network: nn.Module | None, recipe: ResolvedRecipe, machine: Machine
) -> None:
    """Bring a network to where the training was before its first step, in place."""
    text = made.asked if network is None else network
    initial = known_weights(text, made.module, data, start.file, backbone_of(made.asked))
    if initial is not None:
        begin(made.module, initial)
    module = made.module.to(machine.device)
    with torch.random.fork_rng(devices=[]):
        refit(module, start, data, recipe.request, machine, is_mirrored=recipe.flip != "none")


def _read_start(run: RunFolder) -> Start | None:
    """The weights that a run started from; None where these were new."""
    return Start.from_json(run.read_json("start.json")) if (run.path / "start.json").is_file() else None


def _carry_out(
    folder: RunFolder,
    data: Data,
    made: BuiltNetwork,
    recipe: ResolvedRecipe,
    machine: Machine,
    start: Start | None,
    is_resumed: bool,
    limit: _Limit | None,
    tell: OnEvent,
    should_stop: Callable[[], bool] | None,
    group: Group,
) -> Run:
    """Train, score and tell; of several processes, all train and the first one scores and tells.

    Args:
        limit: of the command; None for the one that the training had before.
    """
    warnings = (*data.warnings, *made.warnings)
    budget_s = None
    if limit is not None:
        ending = 0.0 if math.isinf(limit.seconds) else ending_s(data, made)
        budget_s = limit.left(ending)
        warnings = (*warnings, *limit.warnings(ending))
    tell(Prepared(data, made, recipe, machine, folder.path, warnings, start, read_mirroring(folder)))
    last: Event | None = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        training = _training(
            folder,
            data,
            made,
            recipe,
            machine,
            should_stop,
            group,
            is_new=not is_resumed and start is None,
            has_trained_head=start is not None,
            budget_s=budget_s,
        )
        for event in training.events(resume=is_resumed):
            tell(event)
            if start is not None and isinstance(event, StartScored):
                folder.write_json("start.json", start.to_json() | {"val_accuracy": event.val_accuracy})
            last = event
    own = made.module if made.design is None else None
    if isinstance(last, Stopped) or not group.is_first:
        group.barrier()  # until the first has written everything
    if isinstance(last, Stopped):
        return load(folder.path, network=own, device=recipe.device, which="last")
    run = load(folder.path, network=own, device=recipe.device)
    if not group.is_first:
        return run
    assert isinstance(last, Finished), "a training ends with one of two events"
    started = time.perf_counter()
    with group.all_local_threads():
        answers = run.answers(data, data.scored_split)
        scoring_s = time.perf_counter() - started
        fit_calibration(run, data, answers)
        scores = run.score(data, data.scored_split, answers)
        finished = FinishedRun(run, data, made, answers, len(training.position.history), recipe.batch_size, scoring_s)
        missing = write_end(folder, data, made, recipe, scores, training, last, finished)
        remember_ending(data, made, time.perf_counter() - started)
    group.barrier()
    tell(Scored(run, scores, missing))
    return run


def _training(
    folder: RunFolder,
    data: Data,
    made: BuiltNetwork,
    recipe: ResolvedRecipe,
    machine: Machine,
    should_stop: Callable[[], bool] | None,
    group: Group,
    *,
    is_new: bool,
    has_trained_head: bool,
    budget_s: float | None,
) -> Training:
    """The training of a resolved recipe."""
    module, batches = prepare(made.module, data, recipe, machine)
    batches = dataclasses.replace(batches, share=share_of(group))
    computed = whiten(module, data, recipe.seed, machine) if is_new else ()
    if computed:
        folder.write_json("whitening.json", [each.to_json() for each in computed])
    freeze(module, recipe.frozen)
    weights = class_weights(data).to(machine.device) if recipe.class_weights == "balanced" else None
    identity = {"design": made.text.strip(), "data set": data.fingerprint, "recipe": _fixed_settings(recipe)}
    stop = should_stop or (lambda: False)
    return Training(
        module,
        batches,
        data.split("val"),
        recipe,
        machine,
        folder,
        identity,
        weights,
        stop,
        has_trained_head=has_trained_head,
        group=group,
        budget_s=budget_s,
    )


def _fixed_settings(recipe: ResolvedRecipe) -> str:
    """The settings that decide the weights, as text."""
    return ", ".join(f"{name}={getattr(recipe, name)}" for name in FIELDS if name not in CHANGEABLE_ON_RESUME)
