"""Folds: each sample is predicted by the network that did not learn from it, and a kill changes nothing."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands import SMALL, Call, StopAfter
from torch import nn

import visus
from visus.data.absent_classes import AbsentClasses
from visus.data.opened import open_data
from visus.errors import DataError, RunError, UsageError, VisusError
from visus.progress import Progress
from visus.workbench.folds.plan import without_former_warnings
from visus.workbench.folds.result import CrossValidation
from visus.workbench.train.events import FoldBegun, FoldsBegun, FoldsScored, Scored
from visus.workbench.train.stop_on_signal import StopOnSignal

RECIPE = visus.Recipe(epochs=3, batch_size=8, precision="float32", learning_rate=0.02)
NETWORK = SMALL[1]
FILES = ("summary.json", "out_of_fold.csv", "folds.csv", "report.html")


@pytest.fixture(scope="module", autouse=True)
def _light_reports() -> Iterator[None]:
    """Reports without maps and drawings, as ``light_pages`` makes them, for the fixtures of this module too."""
    from visus.workbench.report import measures as report_measures
    from visus.workbench.train import run_files

    def left_out(*_: Any) -> None:
        raise VisusError("left out in this test.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_measures, "_saliencies", left_out)
        for name in ("draw_confusion", "draw_curves"):
            patch.setattr(run_files, name, lambda *_: None)
        yield


@pytest.fixture(scope="module")
def crossed(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Three folds of sixty photos."""
    return visus.cross_validate(
        photos, NETWORK, RECIPE, folds=3, output=tmp_path_factory.mktemp("crossed"), name="three", progress=False
    )


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{run.name} {name}": tensor
        for run in CrossValidation(folder).runs()
        for name, tensor in run.module.state_dict().items()
    }


def assert_same_result(one: Path, other: Path) -> None:
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    for name in FILES:
        assert (one / name).read_text().replace(one.name, "") == (other / name).read_text().replace(other.name, ""), name


# ---- what it is ----


def test_each_sample_is_predicted_once_by_the_network_that_did_not_learn_from_it(crossed: CrossValidation) -> None:
    rows = rows_of(crossed.out_of_fold)
    assert len(rows) == 60 == len({row["sample"] for row in rows})
    for number, run in enumerate(crossed.runs(), start=1):
        split = {row["sample"]: row["split"] for row in rows_of(run.folder / "split.csv")}
        own = {row["sample"] for row in rows if row["fold"] == str(number)}
        assert own == {sample for sample, name in split.items() if name == "test"}
        assert sorted(split.values()).count("val") == 4
        assert json.loads((run.folder / "data.json").read_text())["fold"] == [number, 3]


def test_out_of_fold_predictions_are_those_of_the_runs(crossed: CrossValidation, photos: Path) -> None:
    rows = rows_of(crossed.out_of_fold)
    for number, run in enumerate(crossed.runs(), start=1):
        own = [row for row in rows if row["fold"] == str(number)]
        expected = list(run.predict([photos / row["sample"] for row in own], top=2))
        assert [row["prediction"] for row in own] == [each.label for each in expected]
        for row, each in zip(own, expected, strict=True):
            shares = dict(zip(each.labels, each.probabilities, strict=True))
            assert float(row["probability:dark"]) == pytest.approx(shares["dark"], abs=1e-5)


def test_the_figures_follow_from_the_predictions(crossed: CrossValidation) -> None:
    rows = rows_of(crossed.out_of_fold)
    right = [row["label"] == row["prediction"] for row in rows]
    assert crossed.scores.accuracy == sum(right) / 60
    assert (crossed.scores.num_samples, crossed.scores.split) == (60, "out-of-fold")
    shares = [
        np.mean([one for one, row in zip(right, rows, strict=True) if row["fold"] == str(number)]) for number in (1, 2, 3)
    ]
    assert [each.value for each in crossed.folds] == pytest.approx(shares)
    assert crossed.mean == pytest.approx(np.mean(shares))
    assert crossed.spread == pytest.approx(np.std(shares, ddof=1))
    assert [(each.num_train, each.num_val, each.num_samples) for each in crossed.folds] == [(36, 4, 20)] * 3
    for each, run in zip(crossed.folds, crossed.runs(), strict=True):
        assert each.value == run.scores.accuracy
    assert json.loads((crossed.folder / "summary.json").read_text()) == crossed.to_json()


def test_the_text_has_the_folds_the_spread_and_the_caveat(crossed: CrossValidation) -> None:
    text = str(crossed.text())
    assert "out-of-fold accuracy: " in text
    assert f"mean accuracy {100 * crossed.mean:.1f} %" in text
    assert "The networks of the folds share most of their training samples, so the interval is somewhat too narrow" in text
    assert " held out " in text
    assert repr(crossed).startswith("Cross-validation three: 3 folds, 2 classes")
    page = (crossed.folder / "report.html").read_text()
    assert 'href="fold3/report.html"' in page
    assert (crossed.folder / "fold3" / "report.html").is_file()
    assert "http" not in page.replace("http-equiv", "")


def test_the_networks_of_the_folds_answer_together(crossed: CrossValidation, photos: Path, visus_command: Call) -> None:
    answer = visus_command("predict", crossed.folder, photos / "dark", "--json")
    expected = list(crossed.ensemble().predict(photos / "dark"))
    assert [each["probability"] for each in json.loads(answer.out)] == [each.probability for each in expected]
    own = [list(run.predict(photos / "dark", top=2)) for run in crossed.runs()]
    shares = np.mean([[dict(zip(p.labels, p.probabilities, strict=True))["dark"] for p in each] for each in own], axis=0)
    together = [
        dict(zip(p.labels, p.probabilities, strict=True))["dark"] for p in crossed.ensemble().predict(photos / "dark", top=2)
    ]
    assert together == pytest.approx(shares, abs=1e-6)
    assert "Probabilities are the mean over 3 networks: fold1, fold2, fold3." in " ".join(answer.err.split())


def test_samples_are_decoded_once(photos: Path, tmp_path: Path) -> None:
    stages: list[Progress] = []
    visus.cross_validate(
        photos,
        NETWORK,
        visus.Recipe(epochs=1, batch_size=8),
        folds=2,
        output=tmp_path,
        progress=False,
        on_event=lambda event: stages.append(event) if isinstance(event, Progress) and event.stage == "decoding" else None,
    )
    folders = {
        json.loads((tmp_path / photos.name / f"fold{number}" / "data.json").read_text())["decoded"]["folder"]
        for number in (1, 2)
    }
    assert len(folders) == 1
    assert len([each for each in stages if each.is_done]) <= 1


def test_a_run_of_a_fold_opens_its_own_data_again(crossed: CrossValidation) -> None:
    run = crossed.runs()[1]
    assert run.evaluate().accuracy == run.scores.accuracy
    assert run.open_data().samples.warnings == ()
    assert [len(run.open_data().split(name)) for name in ("train", "val", "test")] == [36, 4, 20]


# ---- a test set ----


@pytest.fixture(scope="module")
def with_test(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    data = visus.open_data(photos, test=0.2, val=0.2)
    output = tmp_path_factory.mktemp("apart")
    return visus.cross_validate(data, NETWORK, RECIPE, folds=2, output=output, name="apart", progress=False)


def test_a_test_set_is_in_no_fold_and_no_run_reads_it(with_test: CrossValidation, photos: Path) -> None:
    data = visus.open_data(photos, test=0.2, val=0.2)
    test = set(data.split("test").names)
    assert {row["sample"] for row in rows_of(with_test.folder / "folds.csv") if row["fold"] == "test"} == test
    assert not test & {row["sample"] for row in rows_of(with_test.out_of_fold)}
    for run in with_test.runs():
        split = {row["sample"]: row["split"] for row in rows_of(run.folder / "split.csv")}
        assert {sample for sample, name in split.items() if not name} == test
        assert list(split.values()).count("val") == 5  # a fifth of the 24 of the other fold
        own = run.open_data()
        assert own.num_samples == 48
        predictions = run.predict([photos / sample for sample in sorted(test)])
        list(predictions)
        assert "learned from" not in predictions.ledger.counts


def test_the_mean_of_the_networks_is_scored_on_the_test_set_at_the_end(with_test: CrossValidation, photos: Path) -> None:
    scores = with_test.test_scores
    assert scores is not None
    assert (scores.num_samples, scores.num_learned) == (12, 0)
    data = visus.open_data(photos, test=0.2, val=0.2)
    answers = with_test.ensemble().predict([photos / sample for sample in data.split("test").names])
    labels = [data.classes[label] for label in data.split("test").labels]
    assert scores.num_right == sum(each.label == label for each, label in zip(answers, labels, strict=True))
    assert "test set, mean of the 2 networks: " in str(with_test.text())
    notes = json.loads((with_test.folder / "fold1" / "data.json").read_text())["notes"]
    assert notes[-1].endswith("12 samples of the test set are left out.")
    assert with_test.scores.num_samples == 48


def test_the_split_of_the_data_is_respected_and_its_validation_set_is_in_the_folds(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(90) % 2
    x = random.integers(0, 90, (90, 8, 8, 3), dtype=np.uint8) + (80 * labels).astype(np.uint8)[:, None, None, None]
    splits = ["train"] * 60 + ["val"] * 10 + ["test"] * 20
    np.savez(tmp_path / "own.npz", x=x, y=labels, splits=splits, groups=[f"g{place // 2}" for place in range(90)])
    found = visus.cross_validate(tmp_path / "own.npz", NETWORK, RECIPE, folds=2, output=tmp_path / "runs", progress=False)
    assert found.scores.num_samples == 70
    assert found.scores.num_groups == 35
    assert found.test_scores is not None
    assert (found.test_scores.num_samples, found.test_scores.num_groups) == (20, 10)
    assert "over 35 groups" in str(found.text())
    assert found.runs()[0].open_data().samples.warnings == ()
    fold_of = {row["sample"]: (row["fold"], row["group"]) for row in rows_of(found.folder / "folds.csv")}
    assert len({group for _, group in fold_of.values()}) == len(set(fold_of.values()))  # no group is in two folds


def with_absences(folder: Path, split: str) -> visus.Data:
    """Data that defines a test or validation set without samples of the third class."""
    x = np.random.default_rng(0).integers(0, 255, (48, 8, 8, 3), dtype=np.uint8)
    y = np.arange(48) % 3
    splits = np.where((np.arange(48) >= 30) & (y < 2), split, "train")
    np.savez(folder / f"{split}.npz", x=x, y=y, splits=splits)
    return open_data(folder / f"{split}.npz")


@pytest.mark.parametrize(("split", "is_kept"), [("test", True), ("val", False)])
def test_a_warning_about_a_split_that_the_folds_replace_is_dropped_whatever_its_words(
    split: str, is_kept: bool, tmp_path: Path
) -> None:
    """A test set that the data defines is in no fold, so what is missing there is still missing."""
    data = with_absences(tmp_path, split)
    assert data.samples.warnings == (f"{split} has no sample of 1 class: 2.",)
    reworded = AbsentClasses(split, ["2"], "which is said in other words")
    for warning in (data.samples.warnings[0], reworded):
        worded = dataclasses.replace(data, samples=dataclasses.replace(data.samples, warnings=("another one.", warning)))
        assert without_former_warnings(worded).samples.warnings == ("another one.", *([warning] if is_kept else []))


def test_a_warning_about_a_test_set_that_nobody_asked_for_is_dropped(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (48, 8, 8, 3), dtype=np.uint8)
    y, groups = np.arange(48) // 40, [str(number) if number < 40 else "one" for number in range(48)]
    np.savez(tmp_path / "data.npz", x=x, y=y, groups=groups)
    data = open_data(tmp_path / "data.npz")
    assert [warning.split(" has ")[0] for warning in data.samples.warnings if " has no sample of " in warning] == [
        "test",
        "val",
    ]
    kept = [warning for warning in data.samples.warnings if " has no sample of " not in warning]
    assert list(without_former_warnings(data).samples.warnings) == kept


# ---- kills ----


@pytest.mark.parametrize("num_steps", [0, 11, 12, 24, 35])
@pytest.mark.long
def test_a_stopped_one_that_resumes_has_the_result_of_an_uninterrupted_one(
    crossed: CrossValidation, photos: Path, tmp_path: Path, num_steps: int
) -> None:
    """Each fold has 12 steps: the stops are in all folds, after the first step of one, and after the last."""
    stop = StopAfter(num_steps)
    stopped = visus.cross_validate(
        photos,
        NETWORK,
        RECIPE,
        folds=3,
        output=tmp_path,
        name="stopped",
        progress=False,
        on_event=stop.follow,
        should_stop=stop,
    )
    assert not stopped.is_finished
    with pytest.raises(RunError) as caught:
        _ = stopped.scores
    assert str(caught.value) == (
        f"{stopped.folder}: this cross-validation was stopped before its end, so it has no result. Go on with: "
        f"visus.resume('{stopped.folder}')"
    )
    resumed: Any = visus.resume(stopped.folder, progress=False)
    assert isinstance(resumed, CrossValidation)
    assert_same_result(crossed.folder, resumed.folder)


def test_finished_folds_are_kept_and_a_fold_before_its_first_step_begins_again(
    crossed: CrossValidation, tmp_path: Path
) -> None:
    """A kill after a folder is made and before its checkpoint; and one between the scores and the report."""
    copy = tmp_path / "killed"
    shutil.copytree(crossed.folder, copy)
    before = (copy / "fold1" / "weights" / "best.safetensors").stat().st_mtime_ns
    for name in ("summary.json", "report.html", "out_of_fold.csv", "fold2/README.md", "fold2/report.html"):
        (copy / name).unlink()
    for name in ("checkpoint", "weights", "scores.json", "README.md"):
        path = copy / "fold3" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    numbers = []
    resumed: Any = visus.resume(
        copy, progress=False, on_event=lambda event: numbers.append(event.number) if isinstance(event, FoldBegun) else None
    )
    assert numbers == [2, 3]
    assert (copy / "fold1" / "weights" / "best.safetensors").stat().st_mtime_ns == before
    assert (copy / "fold2" / "report.html").is_file()
    assert_same_result(crossed.folder, resumed.folder)


def test_a_finished_one_that_is_resumed_trains_nothing(crossed: CrossValidation, tmp_path: Path) -> None:
    copy = tmp_path / "again"
    shutil.copytree(crossed.folder, copy)
    (copy / "report.html").unlink()
    events: list[object] = []
    visus.resume(copy, progress=False, on_event=events.append)
    assert not any(isinstance(event, (FoldBegun, Scored)) for event in events)
    assert isinstance(events[-1], FoldsScored)
    assert_same_result(crossed.folder, copy)


def test_moved_data_is_named_once_and_changed_data_is_refused(
    crossed: CrossValidation, photos: Path, tmp_path: Path
) -> None:
    copy, moved = tmp_path / "again", tmp_path / "photos"
    shutil.copytree(crossed.folder, copy)
    shutil.copytree(photos, moved)
    (copy / "summary.json").unlink()
    shutil.rmtree(copy / "fold3")
    facts = json.loads((copy / "folds.json").read_text())
    gone = str(tmp_path / "gone")
    (copy / "folds.json").write_text(json.dumps(facts | {"data": facts["data"] | {"path": gone}}))
    with pytest.raises(DataError) as caught:
        visus.resume(copy, progress=False)
    assert str(caught.value) == (
        f"{gone}: the data of this cross-validation is no longer there. If it was moved, name its new place: visus.resume('{copy}', new_path)"
    )
    assert visus.resume(copy, moved, progress=False).scores.num_samples == 60
    assert json.loads((copy / "folds.json").read_text())["data"]["path"] == str(moved)
    (moved / "dark" / "00.png").unlink()
    (copy / "summary.json").unlink()
    with pytest.raises(DataError) as caught:
        visus.resume(copy, progress=False)
    assert str(caught.value).startswith(
        f"{moved}: this data has changed since the cross-validation began, so its folds no longer fit ("
    )
    assert str(caught.value).endswith("Put the data back, or train the folds again.")


# ---- settings ----


def test_a_time_limit_is_divided_and_said(photos: Path, tmp_path: Path) -> None:
    shares: list[str] = []
    found = visus.cross_validate(
        photos,
        NETWORK,
        RECIPE.replace(time_limit_s=60),
        folds=2,
        output=tmp_path,
        progress=False,
        on_event=lambda event: shares.append(event.share) if isinstance(event, FoldBegun) else None,
    )
    assert all(each.endswith(" of the time limit") for each in shares)
    limits = [run.recipe.time_limit_s or 0 for run in found.runs()]
    assert 25 < limits[0] < 30
    assert limits[0] < limits[1] < 60  # the second fold has what the first one left


@pytest.mark.slow
def test_a_time_limit_gives_all_folds_the_network_of_the_first(photos: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(time_limit_s=6, batch_size=8, precision="float32")
    found = visus.cross_validate(photos, None, recipe, folds=2, pretrained=False, output=tmp_path, progress=False)
    texts = {(run.folder / "design.txt").read_text() for run in found.runs()}
    assert len(texts) == 1


class Flat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(batch.mean(dim=(2, 3)))
        return found


def test_a_module_is_copied_for_each_fold(photos: Path, tmp_path: Path) -> None:
    module = Flat()
    before = module.head.weight.detach().clone()
    stop = StopAfter(10)
    stopped = visus.cross_validate(
        photos, module, RECIPE, folds=2, output=tmp_path, progress=False, on_event=stop.follow, should_stop=stop
    )
    assert torch.equal(module.head.weight, before)
    with pytest.raises(UsageError) as caught:
        visus.resume(stopped.folder, progress=False)
    assert str(caught.value) == (
        f"{stopped.folder}: this cross-validation trains a Python object, which no file can make again. Give the same one, untrained: "
        f"visus.resume('{stopped.folder}', network=...)."
    )
    events: list[object] = []
    visus.resume(stopped.folder, network=module, progress=False, on_event=events.append)
    assert isinstance(events[-1], FoldsScored)
    assert torch.equal(module.head.weight, before)
    runs = CrossValidation(stopped.folder).runs(network=module)
    assert not torch.equal(runs[0].module.head.weight, runs[1].module.head.weight)
    assert torch.equal(module.head.weight, before)


def test_what_cannot_be_cross_validated_is_refused_before_anything_is_written(
    crossed: CrossValidation, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        visus.cross_validate(photos, NETWORK, RECIPE, folds=61, output=tmp_path / "runs", progress=False)
    assert str(caught.value) == (
        f"{photos}: folds=61: there are only 60 samples or groups of samples that can be in different folds. Take fewer folds."
    )
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UsageError) as caught:
        visus.cross_validate(photos, NETWORK, {"epochs": 1}, progress=False)  # type: ignore[arg-type]
    assert str(caught.value) == "the recipe must be a visus.Recipe, and not a dict. Write visus.Recipe(epochs=3)."
    with pytest.raises(UsageError) as caught:
        visus.resume(crossed.folder, changes={"epochs": 9}, progress=False)
    assert str(caught.value) == (
        f"{crossed.folder}: epochs cannot change in a resumed cross-validation, whose folds have one recipe. Leave it out, or start a new one."
    )
    with pytest.raises(UsageError) as caught:
        visus.resume(crossed.folder, network=Flat(), progress=False)
    assert str(caught.value) == f"{crossed.folder}: network: this cross-validation has its own network. Leave it out."
    with pytest.raises(RunError) as caught:
        visus.load(crossed.folder)
    assert str(caught.value) == (
        f"{crossed.folder}: this is a cross-validation, with a run for each fold in fold1, fold2 and so on. Give one of these, or all together: "
        f"visus.ensemble('{crossed.folder}')."
    )
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(RunError) as caught:
        _ = CrossValidation(tmp_path).scores
    assert str(caught.value) == f"{tmp_path}: summary.json is damaged. Write it again with: visus.resume('{tmp_path}')"
    (tmp_path / "folds.json").write_text("{}")
    with pytest.raises(RunError) as caught:
        visus.resume(tmp_path, progress=False)
    assert str(caught.value) == f"{tmp_path}: folds.json is missing or damaged. Put it back, or train the folds again."


def test_several_processes_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from visus.workbench.folds import cross_validation

    class Pair:
        is_alone = False

    monkeypatch.setattr(cross_validation, "join_group", Pair)
    with pytest.raises(UsageError) as caught:
        visus.cross_validate(photos, NETWORK, RECIPE, output=tmp_path, progress=False)
    assert str(caught.value) == (
        "folds are trained by one process, one after the other. Start it without torchrun, or train without folds."
    )


def test_a_stop_names_the_folder_of_all_folds(tmp_path: Path) -> None:
    stop = StopOnSignal()
    stop.follow(FoldsBegun(tmp_path, 3))
    assert stop.sentence() == (
        f"stopped; all up to the last checkpoint is safe, and finished folds are kept. next: visus.resume('{tmp_path}')"
    )


def test_a_note_says_that_the_validation_set_of_the_data_is_in_the_folds(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (60, 3, 8, 8), dtype=np.uint8)
    labels, parts = np.arange(60) % 3, {"train": slice(40), "val": slice(40, 50), "test": slice(50, 60)}
    arrays = {f"{kind}_{name}": values[part] for name, part in parts.items() for kind, values in (("x", x), ("y", labels))}
    np.savez(tmp_path / "split.npz", **arrays)
    stop, notes = StopAfter(1), list[str]()

    def follow(event: object) -> None:
        stop.follow(event)
        notes.extend(event.notes if isinstance(event, FoldsBegun) else [])

    keywords: dict[str, Any] = {"output": tmp_path, "name": "two", "folds": 2, "progress": False}
    visus.cross_validate(
        tmp_path / "split.npz", NETWORK, visus.Recipe(epochs=1), should_stop=stop, on_event=follow, **keywords
    )
    note = "the validation set that the data defines (10 images) is in the folds too: each fold has a validation set of its own."
    assert notes[1] == note
    assert notes[2].startswith("10 images of the test set are in no fold: ")
    in_folds = [row["fold"] for row in rows_of(tmp_path / "two" / "folds.csv")]
    assert sorted(in_folds) == [*["1"] * 25, *["2"] * 25, *["test"] * 10]
    visus.resume(tmp_path / "two", progress=False)
    assert note in (tmp_path / "two" / "report.html").read_text(encoding="utf-8")


# ---- the command ----


@pytest.mark.long
def test_the_command_trains_resumes_and_prints_the_result(
    crossed: CrossValidation, photos: Path, tmp_path: Path, visus_command: Call
) -> None:
    words = [
        "-m",
        NETWORK,
        "--epochs",
        3,
        "-b",
        8,
        "--precision",
        "float32",
        "--lr",
        "0.02",
        "-o",
        tmp_path,
        "--name",
        "three",
    ]
    answer = visus_command("train", photos, *words, "--folds", 3, "--json")
    assert answer.code == 0
    found = json.loads(answer.out)
    assert found["run"] == str(tmp_path / "three")
    assert_same_result(crossed.folder, tmp_path / "three")
    said = " ".join(answer.err.split())
    assert "60 images in 3 folds." in said
    assert "every image is in a fold, since no test set was asked for. --test 0.2 keeps a test set apart." in said
    assert "2 of 3" in said
    assert "result out of fold: " in said
    again = visus_command("train", "--resume", tmp_path / "three", "-q")
    assert (again.code, again.out.strip()) == (0, str(tmp_path / "three"))
    refused = visus_command("train", "--resume", tmp_path / "three", "--folds", 4)
    assert (refused.code, "--folds cannot be given with --resume" in refused.err) == (2, True)
    assert visus_command("train", photos, "--folds", 1).code == 2
    shown = visus_command("evaluate", tmp_path / "three")
    assert shown.code == 1
    assert "visus predict takes all" in " ".join(shown.err.split())


@pytest.mark.slow
def test_another_seed_of_the_split_makes_other_folds(photos: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8)
    one, other = (
        visus.cross_validate(
            open_data(photos, split_seed=seed), NETWORK, recipe, folds=2, output=tmp_path, name=f"s{seed}", progress=False
        )
        for seed in (0, 1)
    )
    assert (one.folder / "folds.csv").read_text() != (other.folder / "folds.csv").read_text()
