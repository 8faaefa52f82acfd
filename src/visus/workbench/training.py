"""From data and a network to a run folder with everything that a person needs to trust and use it.

This file knows the order: open, prepare, train, score, tell. It must not know how progress is drawn.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.errors import UsageError
from visus.evaluation.scores import Scores
from visus.networks.machine import Machine, choose, suited
from visus.networks.pretrained import DESIGN
from visus.training.checkpoints import read_position
from visus.training.distribution import Group, join
from visus.training.events import Deepened, Event, Finished, StartScored, Stopped
from visus.training.fine_tuning import deepened, fine_tuning
from visus.training.frozen import freeze
from visus.training.loop import Training
from visus.training.recipe import CURRICULUM, FIELDS, LATER_SETTINGS, Recipe
from visus.training.runs import RunFolder
from visus.units import write_shape
from visus.workbench.inside import Scoring
from visus.workbench.mirroring import read_mirroring, with_mirroring, write_mirroring
from visus.workbench.modules import Made, Network, make_network
from visus.workbench.own_data import remember_place
from visus.workbench.preparing import augmentation, prepare, refuse_unusable, settled, takes_smaller, whiten
from visus.workbench.pretrained import FROZEN, Beginning, begin, choice_of, fit_new_head, read_for, suited_data
from visus.workbench.processes import new_run, refuse_too_many, run_to_go_on_with, share_of
from visus.workbench.rungs import within_limit
from visus.workbench.runs import Run, load, open_own_data
from visus.workbench.writing import metadata, renew_environment, write_end, write_start

CHANGEABLE_ON_RESUME = ("device", "time_limit_s", "checkpoint_every_s")


@dataclass(frozen=True)
class Prepared:
    """Everything is ready and the run folder exists; the first event of a training."""

    data: Data
    network: Made
    recipe: Recipe
    machine: Machine
    folder: Path
    warnings: tuple[str, ...]
    beginning: Beginning | None = None
    mirroring: str = ""

    @property
    def changes(self) -> list[str]:
        """What is done to the training items, in whole pixels."""
        said = augmentation(self.recipe).sentences(self.data.input_shape[1:])
        sides = self.recipe.sides
        if min(sides) < 1:
            sizes = [write_shape(max(1, round(side * length)) for length in self.data.input_shape[1:]) for side in sides]
            shares = [(size, len(list(equal)) / len(sizes)) for size, equal in itertools.groupby(sizes)]
            (first, share), *later = shares
            told = [f"{first} for {share:.0%} of the training", *(f"{size} for {share:.0%}" for size, share in later)]
            said.append(f"seen at {', then '.join(told)}".replace("%", " %") if later else f"seen at {first} throughout")
        elif self.recipe.optimizer == "muon" and not takes_smaller(
            self.network.module, self.data, Recipe(curriculum=CURRICULUM)
        ):
            said.append("seen at their whole size throughout (the network takes no other)")
        return said

    @property
    def num_left_out(self) -> int:
        """Training items that sit out each epoch, others each time, because they would not fill a batch."""
        num_items, batch_size = len(self.data.split("train")), self.recipe.batch_size or 1
        return num_items % batch_size if num_items > batch_size else 0


@dataclass(frozen=True)
class Scored:
    """The trained network was scored; the last event of a training."""

    run: Run
    scores: Scores


_NOTHING_KNOWN = "the recipe keeps layers as they are (frozen, norm_statistics), and this network is new: all of its layers are trained instead."
OnEvent = Callable[[Event | Prepared | Scored], None]


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
) -> Run:
    """Train a network on data and leave a run folder.

    Processes that ``torchrun`` started train it together, each calling this with the same arguments; where they were started again, they go on.

    Args:
        data: opened data, or its path; None for the pictures that come with visus.
        network: a design, its text, a family call, ``package.module:callable``, or a module (trained in place); None for ``compact``, or for
            ``efficientnet_lite(0)`` where it begins with pretrained weights. With a time limit in the recipe, None is the widest ``compact`` that fits into it.
        recipe: how to train; None for the default.
        pretrained: True to begin with the ImageNet weights of the extra ``visus[pretrained]``, False not to. None decides: for a path of few
            photos (see ``PretrainedChoice``), and for data that was opened for these weights, where no network was asked for.
        weights: a file of weights to begin with, safetensors or a state dict, matched by name.
        output: folder of the runs.
        name: of the run; None for the name of the data. ``-2``, ``-3`` ... is added where it is taken.
        on_event: called with everything that happens.
        should_stop: asked after each step; True ends the training with a checkpoint, and the run is not scored.
        command: what was typed, for the report.

    Returns:
        The run, with the weights of the latest epoch within one standard error of the best validation accuracy, or those that it began with.

    Raises:
        DataError, DesignError, RecipeError: something that was given cannot be used.
        UsageError: pretrained weights and something that cannot go with them.
        WeightsError: weights that do not fit; each layer is named.
        TrainingError: the training diverged.
        StorageError: the disk is full.
    """
    group = join()
    if begun := run_to_go_on_with(group):
        own = network if isinstance(network, nn.Module) else None
        cache = data.store.folder.parent if isinstance(data, Data) else None
        return resume(begun, network=own, cache_dir=cache, on_event=on_event, should_stop=should_stop)
    given = recipe or Recipe()
    choice = choice_of(pretrained, network=network, file=weights)
    with group.first_here():
        opened = data if isinstance(data, Data) else open_data(data, seed=given.seed, suit=choice)
    if pretrained:
        opened = suited_data(opened)
    knows = choice is not None and read_for(opened)
    num_items = len(opened.split("train"))
    given, mirrors = with_mirroring(given, opened, group)
    made = make_network(
        DESIGN if knows else network, opened.input_shape, len(opened.classes), num_items=num_items, seed=given.seed
    )
    beginning = begin(made.module, weights) if knows or weights is not None else None
    if beginning is not None and knows:
        decidable = tuple(name for name in ("epochs", "frozen", "learning_rate", "tta") if getattr(given, name) is None)
        beginning = dataclasses.replace(beginning, open_settings=decidable)
        given = fine_tuning(given, num_items, FROZEN)
    elif beginning is None and given.begins_with_weights:
        given = given.replace(frozen="", norm_statistics="batch")
        made = dataclasses.replace(made, warnings=(*made.warnings, _NOTHING_KNOWN))
    chosen = settled(given, opened, made.module)
    refuse_unusable(chosen, opened, made.module)
    machine = suited(choose(chosen.device, chosen.precision), made.module)
    refuse_too_many(group, chosen, machine)
    if network is None and beginning is None and given.time_limit_s is not None:
        made, chosen = within_limit(made, given, opened, machine, group, on_event or (lambda event: None))
    folder = new_run(group, Path(output), name or opened.short_name, metadata(opened, made))
    write_start(folder, opened, made, chosen, machine, command)
    if beginning is not None:
        folder.write_json("start.json", beginning.to_json())
    if mirrors is not None:
        write_mirroring(folder, mirrors, opened.noun)
    return _carry_out(folder, opened, made, chosen, machine, beginning, False, on_event, should_stop, group)


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
) -> Run:
    """Go on with a training that was stopped, in the same folder; on the same processor it ends as if it had never stopped.

    Args:
        folder: the run folder.
        data: where its data is now, if it was moved; the run remembers it.
        network: the module itself, for a run that was trained with a module object.
        changes: settings that may differ from the run's recipe: device, time_limit_s and checkpoint_every_s.
        cache_dir: another folder for the decoded items.
        num_workers: decoding threads; 0 for one for each usable core.
        on_event, should_stop: as for ``train``.

    Raises:
        RunError: no run, or nothing to go on from.
        DataError: the data has changed or is no longer there.
        UsageError: a change of a setting that is fixed for the run.
    """
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
    beginning = _read_beginning(run)
    has_steps = (
        beginning is None or run.checkpoint.is_file()
    )  # the head of pretrained weights is fitted before the first checkpoint
    if has_steps:
        read_position(run.checkpoint)
    recipe = Recipe.read(run.path / "recipe.yaml").replace(**changes or {})
    facts = run.read_json("data.json")
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    with group.first_here():
        opened = open_own_data(run.path, preprocessing, data, cache_dir=cache_dir, num_workers=num_workers)
    if group.is_first:
        remember_place(run.path, opened)
    made = make_network(
        network or run.read_text("design.txt").rstrip("\n"),
        opened.input_shape,
        len(opened.classes),
        num_items=len(opened.split("train")),
        seed=recipe.seed,
    )
    if beginning is not None and not has_steps:
        beginning = begin(made.module, beginning.file)
    machine = suited(choose(recipe.device, recipe.precision), made.module)
    refuse_too_many(group, recipe, machine)
    if warning := renew_environment(run, recipe, machine):
        made = dataclasses.replace(made, warnings=(*made.warnings, warning))
    run = dataclasses.replace(run, metadata=metadata(opened, made))
    return _carry_out(run, opened, made, recipe, machine, beginning, has_steps, on_event, should_stop, group)


def _read_beginning(run: RunFolder) -> Beginning | None:
    """The weights that a run began with; None where it began with new ones."""
    return Beginning.from_json(run.read_json("start.json")) if (run.path / "start.json").is_file() else None


def _carry_out(
    folder: RunFolder,
    data: Data,
    made: Made,
    recipe: Recipe,
    machine: Machine,
    beginning: Beginning | None,
    is_resumed: bool,
    on_event: OnEvent | None,
    should_stop: Callable[[], bool] | None,
    group: Group,
) -> Run:
    """Train, score and tell; of several processes, all train and the first one scores and tells."""
    tell = on_event or (lambda event: None)
    tell(
        Prepared(
            data, made, recipe, machine, folder.path, (*data.warnings, *made.warnings), beginning, read_mirroring(folder)
        )
    )
    last: Event | None = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        if beginning is not None and beginning.left_new and not is_resumed:
            module, _ = prepare(made.module, data, recipe, machine)
            with group.whole_machine():  # the others wait, and get what was fitted before the first step
                own_accuracy = fit_new_head(module, data, recipe, machine, tell) if group.is_first else 0.0
            (val_accuracy,) = group.numbers([own_accuracy])
            deeper = deepened(recipe, val_accuracy, beginning.open_settings)
            if deeper != recipe:
                recipe = deeper
                folder.write_text("recipe.yaml", recipe.to_yaml())
                tell(Deepened(val_accuracy, recipe.epochs or 0))
        training = _training(
            folder,
            data,
            made,
            recipe,
            machine,
            should_stop,
            group,
            is_new=not is_resumed and beginning is None,
            knows_answers=beginning is not None,
        )
        for event in training.events(resume=is_resumed):
            tell(event)
            if beginning is not None and isinstance(event, StartScored):
                folder.write_json("start.json", beginning.to_json() | {"val_accuracy": event.val_accuracy})
            last = event
    own = made.module if made.design is None else None
    if isinstance(last, Stopped) or not group.is_first:
        group.wait()  # until the first has written everything
    if isinstance(last, Stopped):
        return load(folder.path, network=own, device=recipe.device, which="last")
    run = load(folder.path, network=own, device=recipe.device)
    if not group.is_first:
        return run
    assert isinstance(last, Finished), "a training ends with one of two events"
    started = time.perf_counter()
    with group.whole_machine():
        answers = run.answers(data, data.scored_split)
        scoring_s = time.perf_counter() - started
        scores = run.score(data, data.scored_split, answers)
        finished = Scoring(run, data, made, answers, len(training.position.history), recipe.batch_size or 1, scoring_s)
        write_end(folder, data, made, recipe, scores, training, last, finished)
    group.wait()
    tell(Scored(run, scores))
    return run


def _training(
    folder: RunFolder,
    data: Data,
    made: Made,
    recipe: Recipe,
    machine: Machine,
    should_stop: Callable[[], bool] | None,
    group: Group,
    *,
    is_new: bool,
    knows_answers: bool,
) -> Training:
    """The training of a settled recipe."""
    module, batches = prepare(made.module, data, recipe, machine)
    batches = dataclasses.replace(batches, share=share_of(group))
    computed = whiten(module, data, recipe.seed, machine) if is_new else ()
    if computed:
        folder.write_json("whitening.json", [each.to_json() for each in computed])
    freeze(module, recipe.frozen or "")
    weights = _class_weights(data).to(machine.device) if recipe.class_weights == "balanced" else None
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
        knows_answers=knows_answers,
        group=group,
    )


def _class_weights(data: Data) -> torch.Tensor:
    """Weights in inverse proportion to the numbers of training items, with a mean over the items of 1."""
    counts = np.array(list(data.class_counts("train").values()), dtype=np.float64)
    return torch.tensor(counts.sum() / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)


def _fixed_settings(recipe: Recipe) -> str:
    """The settings that decide the weights, as text; those that came later are left out where they mean what was before."""
    fixed = {name: getattr(recipe, name) for name in FIELDS if name not in CHANGEABLE_ON_RESUME}
    plain = {name for name, value in LATER_SETTINGS.items() if fixed[name] == value}
    fixed["flip"] = {"random": True, "none": False}.get(str(recipe.flip), recipe.flip)
    return ", ".join(f"{name}={value}" for name, value in fixed.items() if name not in plain)
