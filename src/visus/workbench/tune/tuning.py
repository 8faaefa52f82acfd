"""``visus.tune``: searches the settings of a training over a stated space, on validation samples only, and trains the best."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from torch import nn

from visus.data.opened import Data
from visus.data.tasks import num_targets
from visus.design import Design
from visus.errors import CanceledError, UsageError
from visus.files import text_or_file
from visus.networks.fast.compiler import allow_compiling
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.training.arithmetic import uses_kernels
from visus.training.distribution import ALONE, join_group
from visus.training.recipe import Recipe
from visus.training.run_lock import training_lock
from visus.training.runs import RunFolder
from visus.units import read_duration, write_duration, write_number_of
from visus.workbench.modules import OBJECT_PREFIX, Network
from visus.workbench.running_command import running, running_command
from visus.workbench.runs.run import Run, load
from visus.workbench.runs.saved import apart_from_runs
from visus.workbench.screen import showing
from visus.workbench.train.ending import ending_s
from visus.workbench.train.events import Prepared
from visus.workbench.train.kernels_in_time import compile_kernels
from visus.workbench.train.own_functions import try_loss
from visus.workbench.train.planning import Asked, NewTraining, plan_new
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.train.training import carry_out, train
from visus.workbench.train.training import resume as resume_training
from visus.workbench.tune.events import SearchStarted, TrialDone
from visus.workbench.tune.final_run import FinalRun, over_limit_sentence, too_short
from visus.workbench.tune.result import Tuned, best_of
from visus.workbench.tune.search_folder import SearchFolder
from visus.workbench.tune.space import Choices, Space, default_space, refuse_contradictions
from visus.workbench.tune.study import Study, load_optuna
from visus.workbench.tune.trial import FINISHED, Trial
from visus.workbench.tune.trial_training import recipe_of, run_trial, training_s

MIN_TRAININGS: Final = 8
"""Number of trainings that fit into a time limit, unless the recipe sets the number of epochs."""
_NEEDED: Final = 3
"""Number of trainings that a time limit must have room for: the default, another, and that of the best."""
_WORTH: Final = 0.3
"""Share of the duration of a training below which no trial is started."""


def tune(
    data: Data | str | Path | None = None,
    network: Network | None = None,
    recipe: Recipe | None = None,
    *,
    space: Mapping[str, object] | Space | str | Path | None = None,
    time_limit: float | str | None = None,
    trials: int | None = None,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    output: str | Path = "runs",
    name: str | None = None,
    resume: str | Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    progress: bool | None = None,
) -> Tuned:
    """Search the settings of a training, on validation samples only, and train a run with the best ones.

    Trials are compared by the metric that selects the epoch: the accuracy, the mean average precision of sets of classes, the mean absolute error of
    numbers, or that of ``select`` in the recipe. Each trial is the training that ``visus.train`` would make, without scores and files. The first one has the default recipe, so the result is never worse
    on the validation set. Trials that lag behind the median of the others end early. The test set is read once, by the run at the end.

    Args:
        data: opened data, or its path; None for the images that come with visus.
        network, pretrained, weights: as for ``visus.train``.
        recipe: settings of every trial; what it sets is not searched.
        space: settings with their values: ``"0.01..0.3"`` or (low, high) for a range, a list for choices; or a YAML file of such; default: learning rates, weight
            decay, batch size, label smoothing and the augmentation, around their defaults.
        time_limit: limit of the whole search with the run at its end, in seconds or as ``"10m"``. Time for that run is reserved; it is not cut short. If
            the recipe sets no epochs, trials get so few that eight trainings fit. Default: none, so ``trials`` is needed.
        trials: number of trials, with those of a resumed search; default: as many as the time limit has room for.
        seed: seed of the search; the trainings have that of the recipe.
        output: parent folder of the search and of its run.
        name: name of the search; default: the name of the data and ``-tune``. The run has ``-best`` in its place.
        resume: folder of a search to go on with; it has its own network, recipe and space.
        cache_dir: another folder for the decoded samples.
        on_event: receives the events of ``visus.workbench.tune.events``, and those of the run at the end.
        should_stop: called after each step; True raises ``CanceledError``, and what was found is kept.
        progress: False shows nothing on stderr.

    Returns:
        The best settings, all trials, and the run.

    Raises:
        UsageError: a setting cannot be searched, the time limit is too short, or an argument contradicts ``resume``.
        MissingExtraError: optuna is not installed.
        CanceledError: ``should_stop`` returned True; the message says how to go on.
        DataError, DesignError, RecipeError, WeightsError, StorageError: as for ``visus.train``.
        TrainingError: no trial has finished.

    >>> import visus
    >>> found = visus.tune(
    ...     data,
    ...     "conv(4, 3), relu, globalpool, linear(classes)",
    ...     visus.Recipe(epochs=1),
    ...     space={"lr": "0.01..0.3"},
    ...     trials=2,
    ...     output=folder,
    ...     progress=False,
    ... )
    >>> len(found.trials), found.run.scores.num_samples
    (2, 12)
    """
    began = running_command().start()
    limit_s = check_limits(recipe, trials, time_limit)
    if not join_group().is_alone:
        raise UsageError("a search runs in one process. Start visus tune without torchrun.")
    load_optuna()
    given = Asked(data, apart_from_runs(network), recipe or Recipe(), pretrained, weights)
    with (
        showing(Monitor(on_event, should_stop), progress, is_first=True) as monitor,
        contextlib.ExitStack() as stack,
    ):
        stack.callback(allow_compiling)
        limit = TimeLimit(math.inf if limit_s is None else limit_s, began)
        if resume is None:
            stated = Space.read(space) if isinstance(space, (str, Path)) else space
            search = _new_search(given, stated, seed, Path(output), name, limit, trials, monitor)
        else:
            _refuse_with_resume(given, space, seed, name, output)
            search = _resumed_search(SearchFolder.open(resume), data, network, limit.end, trials, cache_dir, monitor)
        with training_lock(RunFolder(search.folder.path, {})):
            try:
                found = search.carry_out()
            except KeyboardInterrupt:
                raise KeyboardInterrupt(stopped_sentence(search.folder.path)) from None
        return dataclasses.replace(found, note=over_limit_sentence(limit_s, time.perf_counter() - began))


def stopped_sentence(folder: Path | None = None) -> str:
    """What is kept after Ctrl-C, and how to go on; ``folder`` is that of the search, None before it exists."""
    if folder is None:
        return "stopped before the search began: nothing is lost."
    return f"stopped; the trials that have ended are kept. To go on: {SearchFolder(folder).resume_call}"


def check_limits(recipe: Recipe | None, trials: int | None, time_limit: float | str | None) -> float | None:
    """The time limit of a search in seconds; None if there is none.

    Args:
        recipe, trials, time_limit: as for ``tune``.

    Raises:
        UsageError: there is no end, a number is out of range, or the recipe has a time limit of its own.
    """
    if recipe is not None and not isinstance(recipe, Recipe):
        raise UsageError(
            f"the recipe of a search must be a visus.Recipe, and not a {type(recipe).__name__}. Write visus.Recipe(epochs=3)."
        )
    if trials is None and time_limit is None:
        raise UsageError("a search needs an end: give a time limit such as 10m, a number of trials, or both.")
    if trials is not None and trials < 1:
        raise UsageError(f"the number of trials must be at least 1, not {trials}.")
    if recipe is not None and recipe.time_limit_s is not None:
        raise UsageError(
            "time_limit_s in the recipe of a search would end each trial at another step. Leave it out, and give the search its time limit."
        )
    if time_limit is None:
        return None
    seconds = read_duration(time_limit) if isinstance(time_limit, str) else float(time_limit)
    if not seconds > 0:
        raise UsageError(f"the time limit must be more than 0 seconds, not {seconds:g}.")
    return seconds


def _refuse_with_resume(asked: Asked, space: object, seed: int, name: str | None, output: str | Path) -> None:
    """Raise an error for arguments that a resumed search has itself.

    Raises:
        UsageError: some are given.
    """
    own = {
        "recipe": asked.recipe != Recipe(),
        "space": space is not None,
        "pretrained": asked.pretrained is not None,
        "weights": asked.weights is not None,
        "seed": seed != 0,
        "name": name is not None,
        "output": str(output) != "runs",
    }
    if isinstance(asked.network, (str, Design)):
        own["network"] = True
    if names := [word for word, is_given in own.items() if is_given]:
        raise UsageError(
            f"{', '.join(names)} cannot be given with resume: the search has its own. Leave it out, or start a new search."
        )


@dataclass(frozen=True, eq=False)
class _Search:
    """A search that is ready for its next trial.

    Args:
        folder: its folder.
        asked: what was asked for, with the opened data, and the recipe of every trial.
        planned: the prepared training.
        space: the searched settings.
        seed: seed of the search.
        end: value of ``time.perf_counter`` at which it ends.
        trials: number of trials; None for as many as possible.
        monitor: receives the events, and can cancel.
    """

    folder: SearchFolder
    asked: Asked
    planned: NewTraining
    space: Space
    seed: int
    end: float
    trials: int | None
    monitor: Monitor

    def carry_out(self) -> Tuned:
        """Make the trials, and the run with the best settings."""
        default = recipe_of(self.planned, self.asked.recipe, {})
        study = Study(self.folder.path, self.space, self.seed, {name: getattr(default, name) for name in self.space.names})
        while (proposal := self._next(study)) is not None:
            number = proposal.number
            trial = run_trial(
                self.planned,
                self.asked.recipe,
                number,
                proposal.settings,
                self.folder.path,
                proposal.is_behind,
                self._last_s(study) if number else math.inf,
                self.monitor,
            )
            if trial is None:
                raise CanceledError(
                    f"canceled in trial {number}; {write_number_of(number, 'trial')} before it {'is' if number == 1 else 'are'} kept. "
                    f"To go on: {self.folder.resume_call}",
                    where=str(self.folder.path),
                )
            if "loss" in self.space.names:  # the values of two losses cannot be compared
                trial = dataclasses.replace(trial, loss=math.nan)
            study.add(trial)
            is_best = self._write(study)
            data = self.planned.data
            self.monitor.emit(TrialDone(trial, is_best, num_targets(data.task, data.classes)))
        best = best_of(study.trials)
        recipe = self.asked.recipe.replace(**best.settings)
        return Tuned(self.folder.path, tuple(study.trials), recipe, self._train(best, recipe))

    def _next(self, study: Study) -> Any:
        """What to try next; None at the end of the search."""
        number = len(study.trials)
        if number and self.trials is not None and number >= self.trials:
            return None
        if number and time.perf_counter() + _WORTH * _typical_s(study.trials) >= self._last_s(study):
            return None
        return study.propose()

    def _last_s(self, study: Study) -> float:
        """Value of ``time.perf_counter`` at which the last trial ends, so that the run with the best settings fits."""
        if math.isinf(self.end):
            return math.inf
        epochs = recipe_of(self.planned, self.asked.recipe, best_of(study.trials).settings).epochs
        return self.end - _final_run(self.planned).reserved_s(epochs, study.trials)

    def _write(self, study: Study) -> bool:
        """Write what was found; whether the last trial is the best one."""
        finished = [trial for trial in study.trials if math.isfinite(trial.score)]
        best = best_of(study.trials) if any(trial.state == FINISHED for trial in finished) else None
        recipe = None if best is None else self.asked.recipe.replace(**best.settings)
        self.folder.write_found(study.trials, self.space.names, recipe)
        return best is not None and best.number == study.trials[-1].number

    def _train(self, best: Trial, recipe: Recipe) -> Run:
        """The run with the best settings: trained, resumed if it was stopped, or loaded if it is there."""
        facts = self.folder.read_facts()
        own = self.asked.network if isinstance(self.asked.network, nn.Module) else None
        made = facts.get("run")
        if made and made["trial"] == best.number and (folder := Path(made["folder"])).is_dir():
            if (folder / "scores.json").is_file():
                return load(folder, network=own)
            if RunFolder.open(folder).checkpoint.is_file():
                run = resume_training(folder, network=own, **self.monitor.keywords)
                return self._scored(run)

        def follow(event: object) -> None:
            if isinstance(event, Prepared):
                self.folder.write_facts(run={"trial": best.number, "folder": str(event.folder.resolve())})
            self.monitor.emit(event)

        with running(running_command().line):  # its times count from here
            run = train(
                self.planned.data,
                self.asked.network,
                recipe,
                pretrained=self.asked.pretrained,
                weights=self.asked.weights,
                output=self.folder.path.parent,
                name=f"{self.folder.path.name.removesuffix('-tune')}-best",
                on_event=follow,
                should_stop=self.monitor.should_stop,
                progress=False,
            )
        return self._scored(run)

    def _scored(self, run: Run) -> Run:
        """The run, if its training was not canceled.

        Raises:
            CanceledError: it was.
        """
        if not (run.folder / "scores.json").is_file():
            raise CanceledError(
                f"canceled while training {run.name} with the best settings. To go on: {self.folder.resume_call}",
                where=str(self.folder.path),
            )
        return run


def _final_run(planned: NewTraining) -> FinalRun:
    """The run at the end, with the measured seconds of its preparation."""
    times = planned.times
    return FinalRun(times.whole_s - times.parts.get("start and data", 0.0), ending_s(planned.data, planned.network))


def _typical_s(trials: list[Trial]) -> float:
    """Median duration of the finished trials, in seconds; 0 if there are none."""
    seconds = sorted(trial.seconds for trial in trials if trial.state == FINISHED)
    return seconds[len(seconds) // 2] if seconds else 0.0


def _new_search(
    asked: Asked,
    space: Mapping[str, object] | Space | None,
    seed: int,
    output: Path,
    name: str | None,
    limit: TimeLimit,
    trials: int | None,
    monitor: Monitor,
) -> _Search:
    """Prepare the training, decide space and epochs, and make the folder."""
    stated = space if isinstance(space, Space) or space is None else Space.of(space)
    if stated is not None:
        refuse_contradictions(stated, asked.recipe, is_pretrained=False)
    planned = _planned(asked, monitor)
    data = planned.data
    asked = dataclasses.replace(asked, data=data)
    if stated is not None:
        refuse_contradictions(stated, asked.recipe, is_pretrained=planned.start is not None)
    has_classes = data.task != "regression"
    found = stated or default_space(asked.recipe, planned.recipe, len(data.split("train")), has_classes=has_classes)
    _try_losses(found, planned)
    if not found.names:
        raise UsageError(
            "the recipe sets everything that a search varies by default. State a space, or leave settings out of the recipe."
        )
    folder = SearchFolder.create(output, name or f"{data.short_name}-tune")
    notes: tuple[str, ...] = ()
    try:
        if not math.isinf(limit.end):
            asked, notes = _with_epochs(asked, planned, found, folder, limit)
        facts = {
            "seed": seed,
            "pretrained": asked.pretrained,
            "weights": None if asked.weights is None else str(Path(asked.weights).resolve()),
        }
        folder.write_start(data, _text(asked.network), asked.recipe, found, facts)
    except BaseException:
        RunFolder(folder.path, {}).remove()
        raise
    monitor.emit(SearchStarted(folder.path, found.rows(planned.recipe), 0, notes))
    return _Search(folder, asked, planned, found, seed, limit.end, trials, monitor)


def _try_losses(space: Space, planned: NewTraining) -> None:
    """Try a person's own losses as the trials will use them, so that no trial fails by one. The loss of the recipe by itself is tried already.

    Raises:
        UsageError: one cannot be found or used.
    """
    searched = dict(space)
    # Whatever the strength, samples are mixed.
    mixing: dict[str, Any] = {name: 1.0 for name in ("mixup", "cutmix") if name in searched}
    losses = searched.get("loss", Choices((planned.recipe.loss,) if mixing else ()))
    for loss in losses.values if isinstance(losses, Choices) else ():
        try_loss(dataclasses.replace(planned.recipe, loss=loss, **mixing), planned.data)


def _resumed_search(
    folder: SearchFolder,
    place: Data | str | Path | None,
    network: Network | None,
    end: float,
    trials: int | None,
    cache_dir: str | Path | None,
    monitor: Monitor,
) -> _Search:
    """Prepare the training of an earlier search again.

    Raises:
        UsageError: the data is opened already; a search opens its own.
    """
    if isinstance(place, Data):
        raise UsageError("a resumed search opens its own data. Give the new path of its data, or leave it out.")
    facts = folder.read_facts()
    own = network if isinstance(network, nn.Module) else folder.network()
    data = folder.open_data(place, cache_dir, monitor)
    asked = Asked(data, own, folder.read_recipe(), facts["pretrained"], facts["weights"])
    planned = _planned(asked, monitor)
    space = folder.read_space()
    _try_losses(space, planned)
    study = Study(folder.path, space, facts["seed"], {name: getattr(planned.recipe, name) for name in space.names})
    monitor.emit(SearchStarted(folder.path, space.rows(planned.recipe), len(study.trials)))
    return _Search(folder, asked, planned, space, facts["seed"], end, trials, monitor)


def _planned(asked: Asked, monitor: Monitor) -> NewTraining:
    """The prepared training.

    Raises:
        UsageError: the data has no validation set, or nothing but the head would be trained.
    """
    planned = carry_out(plan_new(asked, TimeLimit(math.inf, time.perf_counter()), ALONE, monitor), monitor)
    planned.times.mark("preparation")
    if not len(planned.data.split("val")):
        raise UsageError(
            "a search compares trials on a validation set, and this data has none. Add one, or open the data with another split."
        )
    if not planned.recipe.epochs:
        reason = planned.recipe.reasons.get("epochs", "the recipe has epochs=0")
        raise UsageError(
            f"nothing but the head is trained here, so there is nothing to search: {reason}. Set the number of epochs in the recipe."
        )
    if uses_kernels(planned.machine, planned.recipe.kernels):
        compile_kernels(ALONE, monitor, can_skip=True)
    return planned


def _with_epochs(
    asked: Asked, planned: NewTraining, space: Space, folder: SearchFolder, limit: TimeLimit
) -> tuple[Asked, tuple[str, ...]]:
    """The recipe with so many epochs that ``MIN_TRAININGS`` fit into the time limit, and a note on them.

    A number of epochs that is set or searched stays.

    Raises:
        UsageError: the time limit has no room for the default, another trial, and the run at the end.
    """
    epochs = planned.recipe.epochs
    whole_s = training_s(planned, planned.recipe, folder.path)
    passed_s = time.perf_counter() - limit.began
    around_s = _final_run(planned).around_s
    room_s = limit.seconds - passed_s - around_s
    if math.isnan(whole_s) or MIN_TRAININGS * whole_s <= room_s:
        return asked, ()
    is_free = asked.recipe.epochs is None and "epochs" not in space.names
    fitting = max(1, math.floor(epochs * room_s / (MIN_TRAININGS * whole_s))) if is_free else epochs
    takes_s = whole_s * fitting / epochs
    if _NEEDED * takes_s > room_s:
        raise UsageError(too_short(limit, passed_s, around_s, _NEEDED, write_number_of(fitting, "epoch"), takes_s))
    if not is_free or fitting >= epochs:
        return asked, (
            f"a training takes about {write_duration(whole_s)} here, so the time limit has room for about {room_s / whole_s:.0f}.",
        )
    note = (
        f"a training of {epochs} epochs takes about {write_duration(whole_s)} here. Trials, and the run at the end, have {fitting}, so that "
        f"{MIN_TRAININGS} trainings fit into the time limit; epochs in the recipe sets another number."
    )
    return dataclasses.replace(asked, recipe=asked.recipe.replace(epochs=fitting)), (note,)


def _text(network: Network | None) -> str | None:
    """A network as text; the mark of a Python object where it has none."""
    if isinstance(network, nn.Module):
        return f"{OBJECT_PREFIX}{type(network).__module__}.{type(network).__qualname__}"
    if isinstance(network, Design):
        return network.text
    return None if network is None else text_or_file(network)
