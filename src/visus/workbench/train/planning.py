"""The plan of a new training: data opened, network built, recipe resolved, before its run folder and its first step."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from visus.data.motions import MotionTest
from visus.data.opened import Data, open_data
from visus.errors import UsageError, WeightsError
from visus.evaluation.tasks.registry import task_of
from visus.networks.fast.compiler import allow_compiling
from visus.networks.initial_weights import InitialWeights
from visus.networks.libraries.registry import library_network
from visus.networks.machine import Machine, choose, suited
from visus.progress import Monitor, Progress
from visus.training.arithmetic import uses_kernels
from visus.training.distribution import Group
from visus.training.facts import StartFacts
from visus.training.frozen import matching
from visus.training.loss import Loss
from visus.training.recipe import Recipe
from visus.training.resolved_recipe import ResolvedRecipe
from visus.workbench.module_checks import try_training
from visus.workbench.modules import BuiltNetwork, Network, make_network
from visus.workbench.running_command import running_command
from visus.workbench.runs.out_of_fold import OutOfFold
from visus.workbench.runs.saved import apart_from_runs
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.earlier_runs import EarlierRun
from visus.workbench.train.ending import ending_s
from visus.workbench.train.events import DataOpened, Planned
from visus.workbench.train.head_probe import probe
from visus.workbench.train.kernels_in_time import compile_kernels, kernels_in_time
from visus.workbench.train.library_starts import LibraryChoice, random_library_note
from visus.workbench.train.mirroring import ask_mirroring, motion_warnings
from visus.workbench.train.network_advice import advised
from visus.workbench.train.own_functions import (
    object_warnings,
    own_loss,
    selecting_metric,
    try_loss,
    try_metric,
    try_transform,
)
from visus.workbench.train.preparing import augmentation, prepare, resolved, training_part
from visus.workbench.train.processes import refuse_too_many
from visus.workbench.train.starts import (
    BackboneChoice,
    Start,
    begin,
    choice_of,
    known_weights,
    noted,
    random_weights_note,
    read_for,
    size_warnings,
    suited_data,
    trained_note,
    unused_weights_note,
)
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.train.width_search import within_limit


@dataclass(frozen=True)
class Asked:
    """What a person asked for; the fields are arguments of ``train``.

    Args:
        began: value of ``time.perf_counter`` when the command began.
    """

    data: Data | str | Path | None
    network: Network | None
    recipe: Recipe
    pretrained: bool | None
    weights: str | Path | None
    output: Path = Path("runs")
    name: str | None = None
    began: float = field(default_factory=time.perf_counter)

    @classmethod
    def of(
        cls,
        data: Data | str | Path | None,
        network: Network | None,
        recipe: Recipe | None,
        *,
        pretrained: bool | None,
        weights: str | Path | None,
        output: str | Path,
        name: str | None,
    ) -> Asked:
        """The arguments of ``train``, checked.

        Raises:
            UsageError: an argument has the place or the form of another.
        """
        began = running_command().start()
        if isinstance(network, Recipe):
            raise UsageError(
                "this is a recipe in the place of the network. Write recipe=: visus.train(data, recipe=visus.Recipe(...))."
            )
        if recipe is not None and not isinstance(recipe, Recipe):
            raise UsageError(
                f"the recipe must be a visus.Recipe, and not a {type(recipe).__name__}. Write visus.Recipe(epochs=3)."
            )
        if name is not None and ("/" in name or "\\" in name):
            raise UsageError(
                f"the name of a run is one word without / and \\, and not {name!r}. Give the folder apart, with output= or --output."
            )
        return cls(data, network, recipe or Recipe(), pretrained, weights, Path(output), name, began)


@dataclass(frozen=True, eq=False)
class NewTraining:
    """A new training with everything decided, before its run folder and its first step.

    Args:
        data: the opened data.
        network: the network with its initial weights.
        recipe: the resolved recipe.
        machine: device and precision.
        start: the source of the initial weights; None for random ones.
        mirrors: the test of mirroring by nearest neighbors; None if not made.
        out_of_fold: the predictions of the fitted head out of fold; None if there are none.
        given: the recipe as given.
        times: how long the parts of the command took so far.
    """

    data: Data
    network: BuiltNetwork
    recipe: ResolvedRecipe
    machine: Machine
    start: Start | None
    mirrors: MotionTest | None
    out_of_fold: OutOfFold | None
    given: Recipe
    times: CommandTimes


def plan_new(asked: Asked, limit: TimeLimit, group: Group, monitor: Monitor) -> Generator[object, None, NewTraining]:
    """Open the data, build the network, and decide everything; yields what happens, and returns the plan.

    Raises:
        DataError, DesignError, RecipeError, UsageError, WeightsError: as for ``train``.
    """
    asked = dataclasses.replace(asked, network=apart_from_runs(asked.network))
    earlier = EarlierRun.of(asked.weights)
    network = earlier.network() if asked.network is None and earlier is not None else asked.network
    weights = asked.weights if earlier is None else earlier.file
    given, note = asked.recipe, ""
    times = CommandTimes(limit.began)
    allow_compiling()
    choice = choice_of(asked.pretrained, network=network, file=asked.weights)
    yield Progress("opening the data", 0)
    with group.local_first():
        data = open_for(asked.data, choice, earlier, monitor)
        if earlier is not None and not isinstance(asked.data, Data):
            data = earlier.in_its_split(data)
    times.mark("start and data")
    data = scaled_for(data, choice, is_pretrained=bool(asked.pretrained))
    backbone = choice.backbone if isinstance(choice, BackboneChoice) and read_for(data) else None
    given, warnings = kernels_in_time(given, limit, group, monitor, times)
    yield Progress("testing whether mirrored samples keep their class", 0)
    mirrors = ask_mirroring(given, data, group)
    made = make_network(
        backbone.design if network is None and backbone is not None else network,
        data.input_shape,
        len(data.classes),
        num_samples=len(data.split("train")),
        seed=given.seed,
    )
    if group.is_first:
        warnings = (*warnings, *object_warnings(given), *motion_warnings(given, data))
    made = dataclasses.replace(made, warnings=(*made.warnings, *warnings))
    matching(made.module, given.frozen or "")  # a wrong name is refused before anything is computed
    if network is not None:
        made = advised(made, data.input_shape, len(data.classes))
    initial = known_weights(network, made.module, data, weights, backbone, asked.pretrained)
    try:
        start = None if initial is None else begin(made.module, initial, data.classes)
    except WeightsError as error:
        raise error if earlier is None else earlier.explained(error, data, is_network_taken=asked.network is None) from None
    out_of_fold: OutOfFold | None = None
    if initial is not None and backbone is None:
        data, made = _scaled_as(initial, data, made)
    if backbone is not None:
        made = dataclasses.replace(made, warnings=(*made.warnings, *size_warnings(data, backbone)))
    if choice is not None:
        start_note = data.note
    elif start is None:
        start_note = unused_weights_note(data) or _random_note(asked, data, made)
    else:
        start_note = trained_note(network) if weights is None else ""
    if earlier is not None:
        asked_for, learned = earlier.asked if asked.network is None else made.asked, earlier.count_learned(data)
        made = dataclasses.replace(made, asked=asked_for, warnings=(*made.warnings, *earlier.warnings(data, learned)))
        start_note = earlier.sentence(data, learned, is_network_taken=asked.network is None)
    yield DataOpened(data, made, (*data.warnings, *made.warnings), start, start_note)
    machine = suited(choose(given.device, given.precision), made.module)
    recipe = resolved(given, data, made.module, mirrors, StartFacts() if start is not None else None, made.design)
    try_metric(
        selecting_metric(recipe, data.task), data
    )  # names that cannot be found are refused before anything is computed
    try_loss(recipe, data)
    augmentation(recipe, data)
    with group.local_first():
        training_part(data, recipe, monitor)  # decoded once; it is in the cache then
    try_transform(recipe, data)
    made = tried(made, data, recipe, machine)
    if start is not None:
        times.mark("preparation")
        left_s = math.inf if given.time_limit_s is None else limit.left(ending_s(data, made))
        is_mirrored = recipe.flip != "none"
        if uses_kernels(machine, recipe.kernels):
            compile_kernels(group, monitor, can_skip=True)
        start, facts, out_of_fold = _probe(
            start, data, made, given, machine, group, monitor, is_mirrored=is_mirrored, left_s=left_s
        )
        recipe, note = resolved(given, data, made.module, mirrors, facts, made.design), facts.note
        times.mark("head")
    refuse_too_many(group, recipe, machine)
    if network is None and start is None and given.time_limit_s is not None:
        times.mark("preparation")
        left_s = limit.left(ending_s(data, made))
        made, recipe = within_limit(made, given, left_s, data, machine, group, mirrors, monitor)
        times.mark("width")
    yield Planned(data, made, recipe, machine, start, mirrors.sentence(data.noun) if mirrors else "", note)
    return NewTraining(data, made, recipe, machine, start, mirrors, out_of_fold, given, times)


def open_for(
    given: Data | str | Path | None,
    choice: BackboneChoice | LibraryChoice | None,
    earlier: EarlierRun | None,
    monitor: Monitor,
) -> Data:
    """The data of a training, read as the weights that it starts from need it; opened data as it is.

    Args:
        given: opened data, or its path; None for the images that come with visus.
        choice: the choice of pretrained weights (``choice_of``).
        earlier: the run whose weights the training starts from; None for others.
        monitor: receives the progress, and can stop.

    Raises:
        DataError: the data cannot be used.
    """
    if isinstance(given, Data):
        return given
    chooser = choice if earlier is None else earlier.input_spec
    return noted(open_data(given, choose_input=chooser, **monitor.keywords), choice)


def scaled_for(data: Data, choice: BackboneChoice | LibraryChoice | None, *, is_pretrained: bool) -> Data:
    """Data with the scaling that the chosen pretrained weights need.

    Args:
        data: opened data.
        choice: the choice of pretrained weights.
        is_pretrained: whether a person asked for them.

    Raises:
        UsageError: the weights do not fit the data.
    """
    if isinstance(choice, LibraryChoice):
        return choice.suited(data)
    return suited_data(data) if is_pretrained else data


def _random_note(asked: Asked, data: Data, made: BuiltNetwork) -> str:
    """The note on the random weights of a design, where a person named it and did not choose on pretrained weights; else empty."""
    line = running_command().line
    words = line.split()
    is_command = "visus" in words and words[words.index("visus") :][1:2] == ["train"]
    is_chosen = asked.pretrained is not None or asked.recipe.optimizer == "muon"  # which pretrained weights exclude
    is_asked = is_command if line else not isinstance(asked.data, Data)
    if asked.network is None or is_chosen or not is_asked:
        return ""
    if (library := library_network(asked.network)) is not None:
        return random_library_note(library)
    if made.design is None:
        return ""
    return random_weights_note(data, asked.network, line)


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
        remedy = (
            "Name theirs on the module: module.normalization = (mean, std), of values from 0 to 1."
            if library_network(made.text) is None
            else "Put the preprocessor_config.json of their training into the folder."
        )
        warning = f"{initial.source} come without the scaling that they were trained with, so inputs are scaled by the training set. {remedy}"
        made = dataclasses.replace(made, warnings=(*made.warnings, warning))
    return data, made


def _probe(
    start: Start,
    data: Data,
    made: BuiltNetwork,
    given: Recipe,
    machine: Machine,
    group: Group,
    monitor: Monitor,
    *,
    is_mirrored: bool,
    left_s: float,
) -> tuple[Start, StartFacts, OutOfFold | None]:
    """Fit the head of a pretrained network, and decide which other layers are trained; the first process decides for all.

    Only the first process has the out-of-fold predictions.
    """
    module = made.module.to(machine.device)
    out_of_fold: OutOfFold | None = None
    with torch.random.fork_rng(devices=[]), group.all_local_threads():
        if group.is_first:
            found = probe(module, start, data, given, machine, monitor, is_mirrored=is_mirrored, left_s=left_s)
            out_of_fold = found.out_of_fold
            decided = json.dumps([found.start.to_json(), dataclasses.asdict(found.facts)])
        else:
            decided = ""
    stored, facts = json.loads(group.broadcast_text(decided))
    return Start.from_json(stored), StartFacts(**facts), out_of_fold


def tried(made: BuiltNetwork, data: Data, recipe: ResolvedRecipe, machine: Machine) -> BuiltNetwork:
    """A person's own module after one step was tried on a copy of it, with its warnings; other networks as they are."""
    if made.design is not None:
        return made
    module, batches = prepare(made.module, data, recipe, machine)
    loss = Loss(task=task_of(data), own=own_loss(recipe))
    warnings = try_training(module, next(batches.epoch(0)), len(data.classes), machine, made.asked, loss)
    return dataclasses.replace(made, module=module, warnings=(*made.warnings, *warnings))


def with_warning(made: BuiltNetwork, warning: str) -> BuiltNetwork:
    """A network with one more warning, unless it is empty."""
    return dataclasses.replace(made, warnings=(*made.warnings, warning)) if warning else made
