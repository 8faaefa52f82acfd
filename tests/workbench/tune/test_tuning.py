"""A search never reads the test set, is never worse than the default, and goes on after it was killed as if it had not been."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.levels import images, write_levels
from torch import nn

import visus
from visus.errors import CanceledError, DataError, MissingExtraError, RunError, TrainingError, UsageError
from visus.training.resolved_recipe import ResolvedRecipe
from visus.training.selection import SampleResults
from visus.workbench.train import preparing
from visus.workbench.tune import study as studies
from visus.workbench.tune import trial_training, tuning
from visus.workbench.tune.events import SearchStarted, TrialDone
from visus.workbench.tune.result import Tuned, best_of
from visus.workbench.tune.space import Space
from visus.workbench.tune.trial import FINISHED, Trial

DESIGN = "conv(4, 3), norm, relu, globalpool, linear(classes)"
RECIPE = visus.Recipe(epochs=2, batch_size=8, precision="float32", device="cpu")
SPACE = {"lr": "0.001..0.3", "label_smoothing": "0..0.3"}


@pytest.fixture(autouse=True)
def _light(light_pages: None) -> None:
    """Without the slow parts of a report."""


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("levels"))


def search(data: Any, output: Path, **changes: Any) -> Tuned:
    keywords: dict[str, Any] = {"space": SPACE, "trials": 4, "output": output, "progress": False}
    return visus.tune(data, changes.pop("network", DESIGN), changes.pop("recipe", RECIPE), **keywords | changes)


def timeless(trial: Trial) -> Trial:
    return dataclasses.replace(trial, seconds=0.0)


@pytest.mark.long
def test_the_test_set_is_not_read_before_the_run_at_the_end(
    levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = visus.open_data(levels, progress=False)
    tested = set(data.split("test").indices.tolist())
    reads: list[int] = []

    class Counted(np.ndarray):  # type: ignore[type-arg]
        def __getitem__(self, key: Any) -> Any:
            rows = np.atleast_1d(np.arange(len(self))[key[0] if isinstance(key, tuple) else key])
            reads.extend(row for row in rows.tolist() if row in tested)
            return np.asarray(self)[key]

    counted = dataclasses.replace(
        data, store=dataclasses.replace(data.store, pixels=np.asarray(data.store.pixels).view(Counted))
    )
    before: list[int] = []
    train = tuning.train

    def train_best(*given: Any, **named: Any) -> Any:
        before.append(len(reads))
        return train(*given, **named)

    monkeypatch.setattr(tuning, "train", train_best)
    search(counted, tmp_path)
    assert before == [0]
    assert reads, "the run at the end reads it, so reads are counted"


@pytest.mark.long
def test_the_run_is_the_best_trial_and_never_worse_than_the_default(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path)
    assert found.trials[0].settings == {}
    assert found.best_trial.accuracy >= found.trials[0].accuracy
    with (found.run.folder / "results.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val_accuracy"]) == pytest.approx(found.best_trial.accuracy, abs=1e-6)
    assert visus.Recipe.read(found.folder / "best.yaml") == found.best == RECIPE.replace(**found.best_trial.settings)
    with (found.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == [trial.state for trial in found.trials]
    assert Space.read(found.folder / "space.yaml") == Space.of(SPACE)
    for trial in found.trials[1:]:
        assert all(trial.settings[name] in values for name, values in Space.of(SPACE))


@pytest.mark.long
def test_the_steps_of_a_trial_are_sliced_as_those_of_a_training_with_its_settings(
    levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory: the account of the design says how much a step needs, for trials too."""
    monkeypatch.setattr(preparing, "memory_bytes", lambda: 100_000)
    recipes: list[ResolvedRecipe] = []
    make_job = trial_training._job

    def noted(planned: Any, recipe: ResolvedRecipe, *others: Any) -> Any:
        recipes.append(recipe)
        return make_job(planned, recipe, *others)

    monkeypatch.setattr(trial_training, "_job", noted)
    recipe = RECIPE.replace(batch_size=None, epochs=1)
    space = {"batch_size": [16, 32]}
    found = search(levels, tmp_path, recipe=recipe, space=space, trials=3)
    slices = {each.batch_size: each.accumulate for each in recipes}
    for batch_size, accumulate in slices.items():
        run = visus.train(
            levels, DESIGN, recipe.replace(batch_size=batch_size), output=tmp_path / f"{batch_size}", progress=False
        )
        assert ResolvedRecipe.read(run.folder / "recipe.yaml").accumulate == accumulate
    assert max(slices.values()) > 1
    best = ResolvedRecipe.read(found.run.folder / "recipe.yaml")
    assert best.accumulate == slices[best.batch_size]


@pytest.mark.long
def test_the_losses_that_decide_between_equal_accuracies_have_no_label_smoothing(levels: Path, tmp_path: Path) -> None:
    recipe = RECIPE.replace(epochs=20, learning_rate=0.1)
    found = search(levels, tmp_path, recipe=recipe, space={"label_smoothing": [0.29, 0.3]}, trials=3)
    smoothed = 0.8 * math.log(1 / 0.8) + 0.2 * math.log(1 / 0.1)  # the lowest loss with a smoothing of 0.3: 0.64
    assert {trial.accuracy for trial in found.trials} == {1.0}
    assert all(trial.loss < 0.25 < smoothed for trial in found.trials)
    rows = list(csv.DictReader((found.run.folder / "results.csv").read_text().splitlines()))
    if found.best_trial.number:
        assert float(rows[-1]["val_loss"]) > 0.6, "the loss of the training has the smoothing"


@pytest.mark.long
def test_values_of_two_losses_are_not_compared(levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylosses.py").write_text(
        "import torch.nn.functional as F\n"
        "def plain(outputs, labels):\n    return F.cross_entropy(outputs, labels, reduction='none')\n"
        "def half(outputs, labels):\n    return 0.5 * plain(outputs, labels)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = search(levels, tmp_path, space={"loss": ["mylosses:plain", "mylosses:half"]}, trials=3)
    assert all(math.isnan(trial.loss) for trial in found.trials)
    assert {row[2] for row in found.table().rows} == {"-"}


@pytest.mark.long
def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "_NUM_UNPRUNED", 1)
    x, y = images(240)
    levels = tmp_path / "levels.npz"
    np.savez(levels, x=x, y=y)
    wide: dict[str, Any] = {
        "recipe": RECIPE.replace(epochs=3, optimizer="adamw", ema_decay=0.0),
        "space": {"lr": "1e-7..0.3"},
        "trials": 7,
    }
    whole = search(levels, tmp_path / "whole", **wide)

    class Killed(BaseException):
        pass

    def kill(event: object) -> None:
        if isinstance(event, TrialDone) and event.trial.number == 5:
            raise Killed

    with pytest.raises(Killed):
        search(levels, tmp_path / "killed", on_event=kill, **wide)
    again = visus.tune(resume=tmp_path / "killed" / "levels-tune", trials=7, progress=False)
    assert [timeless(trial) for trial in again.trials] == [timeless(trial) for trial in whole.trials]
    assert again.best == whole.best
    assert any(trial.state != FINISHED for trial in whole.trials), "so that pruning was resumed too"
    one, other = ((each.run.folder / "weights" / "best.safetensors").read_bytes() for each in (again, whole))
    assert one == other


@pytest.mark.long
def test_a_search_without_trials_left_returns_its_run(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path, trials=2)
    again = visus.tune(resume=found.folder, trials=2, progress=False)
    assert again.run.folder == found.run.folder
    assert len(again.trials) == 2


@pytest.mark.long
def test_a_canceled_search_says_how_to_go_on(levels: Path, tmp_path: Path) -> None:
    events: list[object] = []
    with pytest.raises(CanceledError) as caught:
        search(
            levels, tmp_path, on_event=events.append, should_stop=lambda: any(isinstance(each, TrialDone) for each in events)
        )
    folder = tmp_path / "levels-tune"
    assert (
        str(caught.value)
        == f"{folder}: canceled in trial 1; 1 trial before it is kept. To go on: visus.tune(resume={str(folder)!r})"
    )
    assert visus.tune(resume=folder, trials=1, progress=False).trials[0].state == FINISHED


@pytest.mark.long
def test_a_run_that_was_canceled_is_resumed(levels: Path, tmp_path: Path) -> None:
    events: list[object] = []

    def is_training_the_best() -> bool:
        return sum(isinstance(each, TrialDone) for each in events) == 2 and type(events[-1]).__name__ == "StepDone"

    with pytest.raises(CanceledError, match=r"canceled while training levels-best with the best settings\. To go on: "):
        search(levels, tmp_path, trials=2, on_event=events.append, should_stop=is_training_the_best)
    again = visus.tune(resume=tmp_path / "levels-tune", trials=2, progress=False)
    assert again.run.name == "levels-best"
    assert again.run.scores.num_samples == 12


def test_ctrl_c_says_what_is_kept(levels: Path, tmp_path: Path) -> None:
    def interrupt(event: object) -> None:
        if isinstance(event, TrialDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        search(levels, tmp_path, on_event=interrupt)
    folder = tmp_path / "levels-tune"
    assert str(caught.value) == f"stopped; the trials that have ended are kept. To go on: visus.tune(resume={str(folder)!r})"


def test_a_module_is_not_trained_before_the_run_at_the_end(levels: Path, tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    changed: list[bool] = []

    def compare(event: object) -> None:
        if isinstance(event, TrialDone):
            changed.append(any(not value.equal(before[name]) for name, value in module.state_dict().items()))

    found = search(levels, tmp_path, network=module, trials=2, on_event=compare)
    assert changed == [False, False]
    with pytest.raises(UsageError) as caught:
        visus.tune(resume=found.folder, trials=3, progress=False)
    assert str(caught.value) == (
        f"{found.folder}: the network of this search was a Python object (torch.nn.modules.container.Sequential). Give the same object: "
        f"visus.tune(network=..., resume={str(found.folder)!r})."
    )


def test_a_failed_trial_does_not_end_the_search(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path, recipe=RECIPE.replace(ema_decay=0.9), space={"final_ema": [0.0, 0.1]}, trials=5)
    states = [trial.state for trial in found.trials]
    assert states == ["finished", "failed"]  # 0 is the default
    assert (
        found.trials[1].reason
        == "ema_decay=0.9 averages all steps, and final_ema=0.1 averages the last ones; only one average is possible."
    )


@pytest.mark.long
def test_a_small_space_of_choices_is_tried_once(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path, space={"optimizer": "adamw,sgd"}, trials=9)
    assert [trial.settings for trial in found.trials] in (
        [{}, {"optimizer": "adamw"}, {"optimizer": "sgd"}],
        [{}, {"optimizer": "sgd"}, {"optimizer": "adamw"}],
    )


@pytest.mark.slow
def test_a_time_limit_shortens_trials_and_ends_the_search(
    levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training takes 8 s and its report 2 s, on a clock that only the trials move."""
    now, events = [1_000.0], list[Any]()
    monkeypatch.setattr(tuning, "training_s", lambda *_: 8.0)
    monkeypatch.setattr(tuning, "ending_s", lambda *_: 2.0)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])
    real = tuning.run_trial

    def timed(*given: Any) -> Trial | None:
        trial = real(*given[:6], math.inf, given[7])
        assert trial is not None
        now[0] += 4.0
        return dataclasses.replace(trial, seconds=4.0)

    monkeypatch.setattr(tuning, "run_trial", timed)
    found = search(
        levels,
        tmp_path,
        recipe=RECIPE.replace(epochs=None),
        trials=None,
        time_limit=34.5,
        on_event=events.append,
        space=SPACE,
    )
    (started,) = (each for each in events if isinstance(each, SearchStarted))
    assert found.best.epochs is not None
    assert started.notes[0].startswith(
        "a training of 48 epochs takes about 8 s here. Trials, and the run at the end, have 24, so that 8 trainings fit"
    )
    assert (
        len(found.trials) == 7
    )  # of 4 s each; the run at the end has another 4 s, and its report 2 s, with a quarter in reserve
    assert found.note == ""


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"trials": None}, "a search needs an end: give a time limit such as 10m, a number of trials, or both."),
        ({"trials": 0}, "the number of trials must be at least 1, not 0."),
        ({"time_limit": -1}, "the time limit must be more than 0 seconds, not -1."),
        (
            {"recipe": RECIPE.replace(time_limit_s=9)},
            "time_limit_s in the recipe of a search would end each trial at another step. Leave it out, and give the search its time limit.",
        ),
        (
            {"recipe": "recipe.yaml"},
            "the recipe of a search must be a visus.Recipe, and not a str. Write visus.Recipe(epochs=3).",
        ),
        (
            {"resume": "x", "seed": 1, "name": "y"},
            "recipe, space, seed, name, output, network cannot be given with resume: the search has its own. Leave it out, or start a new search.",
        ),
        (
            {
                "space": None,
                "recipe": visus.Recipe(
                    epochs=1, batch_size=8, learning_rate=0.1, label_smoothing=0.0, weight_decay=0.1
                ).replace(head_lr=1.0, bias_lr=0.1, translate=0.0, cutout=0.0),
            },
            "the recipe sets everything that a search varies by default. State a space, or leave settings out of the recipe.",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(levels: Path, tmp_path: Path, keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        search(levels, tmp_path, **keywords)
    assert str(caught.value) == message
    assert not list(tmp_path.iterdir())


def test_a_time_limit_without_room_is_refused(levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "training_s", lambda *_: 100.0)
    monkeypatch.setattr(tuning, "ending_s", lambda *_: 60.0)
    with pytest.raises(UsageError) as caught:
        search(levels, tmp_path, time_limit=60)
    text = str(caught.value)
    assert text.startswith("the time limit of 1 min 00 s is too short: start and preparation took ")
    assert (
        " are reserved for preparation, scores and report of the run at the end. That leaves 0 s for trainings. A training of 2 epochs takes about 1 min 40 s "
        "here, and a search needs 3 of them at least. Give at least 6 min" in text
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_search_that_exceeds_its_time_limit_prints_so(
    levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "training_s", lambda *_: 0.001)
    monkeypatch.setattr(tuning, "ending_s", lambda *_: 0.0)
    real = tuning.train

    def slow(*given: Any, **named: Any) -> Any:
        moved[0] = 95.0
        return real(*given, **named)

    moved, clock = [0.0], time.perf_counter
    monkeypatch.setattr(tuning, "train", slow)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock() + moved[0])
    found = search(levels, tmp_path, trials=1, time_limit=90)
    assert found.note.startswith("the search took 1 min ")
    assert found.note.endswith(
        ", longer than its time limit of 1 min 30 s: trial 0 and the run at the end are never cut short."
    )
    assert found.note in found.text()
    assert search(levels, tmp_path, trials=1).note == ""


def test_data_without_validation_is_refused(tmp_path: Path) -> None:
    x, y = images(12)
    np.savez(tmp_path / "few.npz", x_train=x[:6], y_train=y[:6], x_test=x[6:], y_test=y[6:])
    data = visus.open_data(tmp_path / "few.npz", progress=False)
    empty = dataclasses.replace(
        data,
        samples=dataclasses.replace(
            data.samples, splits=np.where(data.samples.splits == "val", "train", data.samples.splits)
        ),
    )
    with pytest.raises(UsageError) as caught:
        search(empty, tmp_path / "out")
    assert (
        str(caught.value)
        == "a search compares trials on a validation set, and this data has none. Add one, or open the data with another split."
    )


def test_a_head_alone_is_not_searched(levels: Path, tmp_path: Path) -> None:
    run = visus.train(levels, DESIGN, RECIPE, output=tmp_path / "runs", progress=False)
    with pytest.raises(UsageError) as caught:
        search(levels, tmp_path / "out", network=None, weights=run.folder, recipe=visus.Recipe(epochs=0))
    assert str(caught.value) == (
        "nothing but the head is trained here, so there is nothing to search: the recipe has epochs=0. Set the number of epochs in the recipe."
    )


@pytest.mark.long
def test_pretrained_weights_are_searched_from_one_head(levels: Path, tmp_path: Path) -> None:
    run = visus.train(levels, DESIGN, RECIPE, output=tmp_path / "runs", progress=False)
    found = search(levels, tmp_path / "out", network=None, weights=run.folder, space={"lr": "0.0001..0.1"}, trials=2)
    assert found.best_trial.accuracy >= found.trials[0].accuracy
    assert (found.run.folder / "start.json").is_file()


@pytest.mark.long
def test_a_resumed_search_opens_its_own_data(levels: Path, tmp_path: Path) -> None:
    moved = shutil.copy(levels, tmp_path / "levels.npz")
    found = search(moved, tmp_path / "out", trials=1)
    with pytest.raises(UsageError) as caught:
        visus.tune(visus.open_data(moved, progress=False), resume=found.folder, trials=2)
    assert str(caught.value) == "a resumed search opens its own data. Give the new path of its data, or leave it out."
    new = shutil.move(moved, tmp_path / "new.npz")
    with pytest.raises(DataError) as gone:
        visus.tune(resume=found.folder, trials=2)
    assert str(gone.value) == (
        f"{moved}: the data of this search is no longer there. If it was moved, name its new place: visus.tune(new_path, resume=...)."
    )
    assert len(visus.tune(new, resume=found.folder, trials=2, progress=False).trials) == 2
    x, y = images()
    np.savez(new, x=x + 1, y=y)
    with pytest.raises(DataError) as changed:
        visus.tune(new, resume=found.folder, trials=3)
    assert "this data has changed since the search began, so its trials cannot be compared. Start a new search." in str(
        changed.value
    )


def test_a_folder_that_is_no_search_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").touch()
    with pytest.raises(RunError) as caught:
        visus.tune(resume=tmp_path, trials=1)
    assert str(caught.value) == (
        f"{tmp_path}: this is not the folder of a search: search.json is missing. A run is resumed with visus.resume."
    )


def test_damaged_files_are_reported(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path, trials=1)
    (found.folder / studies.FILE).write_bytes(b"no database" * 100)
    with pytest.raises(RunError) as caught:
        visus.tune(resume=found.folder, trials=2, progress=False)
    assert (
        str(caught.value) == f"{found.folder}: study.db cannot be read (DatabaseError). Put it back, or start a new search."
    )
    (found.folder / "search.json").write_text("{")
    with pytest.raises(RunError, match=r"search.json is damaged\. Put it back, or start a new search\."):
        visus.tune(resume=found.folder, trials=2, progress=False)


def test_a_missing_package_is_one_sentence(levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(MissingExtraError) as caught:
        search(levels, tmp_path)
    assert "searches of settings need the package optuna, which" in str(caught.value)


def test_a_search_runs_in_one_process(levels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = dataclasses.replace(tuning.ALONE)
    monkeypatch.setattr(type(group), "is_alone", property(lambda _: False))
    with pytest.raises(UsageError) as caught:
        search(levels, tmp_path)
    assert str(caught.value) == "a search runs in one process. Start visus tune without torchrun."


# ---- results ----


def mean_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, labels)


def loss_of_each(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def detached_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return mean_loss(outputs.detach(), labels)


def test_own_losses_are_tried_as_the_trials_use_them_before_the_first(levels: Path, tmp_path: Path) -> None:
    refused = {
        (
            "mean_loss",
            "mixup",
        ): "mixup and cutmix weight the loss of each sample by its own share, and the own loss returned one number for ",
        ("detached_loss", "lr"): "the own loss returned numbers without a gradient, ",
    }
    for (name, more), message in refused.items():
        with pytest.raises(UsageError) as caught:
            search(levels, tmp_path, space={"loss": [loss_of_each, globals()[name]], more: "0.1..0.3"}, trials=2)
        assert str(caught.value).startswith(message)
    assert not list(tmp_path.glob("**/trials.csv"))


def trial(number: int, accuracy: float, loss: float = 1.0, state: str = FINISHED, reason: str = "") -> Trial:
    return Trial(number, {"learning_rate": 0.1} if number else {}, state, accuracy, loss, 2, 1.0, 100, reason)


def test_the_best_trial_has_finished_and_the_first_of_equal_ones_wins() -> None:
    assert best_of([trial(0, 0.5), trial(1, 0.9, state="ended early"), trial(2, 0.6), trial(3, 0.6)]).number == 2
    assert best_of([trial(0, 0.6), trial(1, 0.6, 0.9)]).number == 1
    with pytest.raises(TrainingError) as caught:
        best_of([trial(0, math.nan, state="failed", reason="the loss became nan.")])
    assert str(caught.value) == "no trial has finished: the loss became nan. Give a longer time limit, or another recipe."


def test_trials_survive_their_database() -> None:
    for each in (trial(0, 0.5), trial(3, math.nan, math.nan, "failed", "why")):
        assert repr(Trial.from_json(json.loads(json.dumps(each.to_json())))) == repr(each)


def test_chance_is_told(levels: Path, tmp_path: Path) -> None:
    found = search(levels, tmp_path, trials=1)
    assert found.sentences() == (
        f"1 trial; best: trial 0 with {visus.units.write_share(found.trials[0].accuracy)} of 5 validation samples, the default recipe: no other settings were better.",
    )
    better = dataclasses.replace(found, trials=(trial(0, 0.5), trial(1, 0.9), trial(2, 0.2, state="ended early")))
    assert better.sentences() == (
        "3 trials (1 ended early); best: trial 1 with 90.0 % of 100 validation samples, 40.0 points above the default recipe (50.0 %). That is more than "
        "twice the standard error of such a difference (5.9 points).",
        "The best of 2 validation accuracies is too high by chance, and the more trials, the more so. Only the run's own accuracy is an estimate.",
    )
    nearly = dataclasses.replace(found, trials=(trial(0, 0.5), trial(1, 0.55)))
    assert "less than twice the standard error" in nearly.sentences()[0]
    assert SampleResults((True,), (0.1,)).accuracy == 1
