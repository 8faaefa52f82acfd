"""Trackers: what they have is read back, no epoch twice, and nothing that they raise ends a training."""

from __future__ import annotations

import importlib
import json
import math
import re
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tests.levels import write_levels
from tests.workbench.conftest import open_task

import visus
from visus.errors import MissingExtraError, UsageError
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import score_numbers
from visus.events import EpochDone, Scored, StepDone, Stop, Tracked
from visus.progress import Monitor
from visus.training.recipe import Recipe
from visus.workbench.trackers import tracking
from visus.workbench.trackers.mlflow import MLflow
from visus.workbench.trackers.tensorboard import TensorBoard
from visus.workbench.trackers.tracking import TRACKERS, known_trackers

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3), relu, globalpool, linear(classes)"
RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.01, precision="float32", device="cpu")
TOLERANCE = 1e-4  # results.csv has six digits, and TensorBoard 32 bits


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_levels(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def tensorboard_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(folder / "trackers" / "tensorboard"), purge_orphaned_data=True)
    found.Reload()
    return {tag: [(each.step, each.value) for each in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def mlflow_run(folder: Path) -> tuple[Any, Any]:
    from visus.workbench.trackers.mlflow import _quiet

    with _quiet():
        mlflow = pytest.importorskip("mlflow")
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{(folder / 'trackers' / 'mlflow.db').as_posix()}")
        (experiment,) = (each for each in client.search_experiments() if each.name == "visus")
        (run,) = client.search_runs([experiment.experiment_id])
        return client, run


def mlflow_history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    client, run = mlflow_run(folder)
    return {
        name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def needs(name: str) -> None:
    for module in TRACKERS[name].modules:
        pytest.importorskip(module)


HISTORIES: dict[str, Callable[[Path], dict[str, list[tuple[int, float]]]]] = {
    "tensorboard": tensorboard_history,
    "mlflow": mlflow_history,
}


@pytest.mark.parametrize(
    ("tracker", "train_loss", "val_accuracy", "accuracy"),
    [
        ("tensorboard", "loss/train", "accuracy/val", "accuracy/test"),
        pytest.param("mlflow", "train_loss", "val_accuracy", "test_accuracy", marks=pytest.mark.slow),
    ],
)
def test_every_epoch_and_the_scores_are_there(
    tracker: str, train_loss: str, val_accuracy: str, accuracy: str, file: Path, tmp_path: Path
) -> None:
    needs(tracker)
    events: list[object] = []
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, track=tracker, on_event=events.append, progress=False)
    history = HISTORIES[tracker](run.folder)
    for tag, column in ((train_loss, "train_loss"), (val_accuracy, "val_accuracy"), ("learning_rate", "learning_rate")):
        expected = [(number, row[column]) for number, row in enumerate(run.history, 1)]
        assert [step for step, _ in history[tag]] == [1, 2, 3]
        assert all(
            math.isclose(one, two, rel_tol=TOLERANCE) for (_, one), (_, two) in zip(history[tag], expected, strict=True)
        )
    assert [(step, pytest.approx(value)) for step, value in history[accuracy]] == [(3, run.scores.accuracy)]
    (tracked,) = (event for event in events if isinstance(event, Tracked))
    assert tracked.tracker == TRACKERS[tracker].title
    assert str(run.folder / "trackers") in tracked.place
    assert isinstance(events[-1], Scored)


class Recorder:
    """A tracker that keeps the scores."""

    place = ""

    def score(self, scores: Mapping[str, float], report: Path) -> None:
        self.scores = dict(scores)

    def close(self, *, is_finished: bool) -> None:
        pass


def test_the_final_errors_of_every_target_are_tracked(tmp_path: Path) -> None:
    labels, outputs = torch.tensor([[1.0, 2.0, 3.0], [4.0, 6.0, 8.0]]), torch.zeros(2, 3)
    names = ("size [mm]", "size (mm)", "âge")
    several = score_numbers(Regression(names, (0.0,) * 3, (1.0,) * 3), outputs, labels, IntervalFit(), split="test")
    tracker = Recorder()
    following = tracking.Tracking((), Monitor())
    following._trackers["mlflow"] = cast(Any, tracker)
    following.follow(Scored(cast(Any, SimpleNamespace(folder=tmp_path)), several))
    found = tracker.scores
    first, second, third = several.targets
    assert found["test_mae_size_mm_"] == first.mae
    assert found["test_rmse_size_mm__2"] == second.rmse
    assert found["test_r2__ge"] == third.r2
    one = score_numbers(Regression(("age",), (0.0,), (1.0,)), outputs[:, :1], labels[:, :1], IntervalFit(), split="test")
    found = tracking.numbers(tracking.final_scores(one), "test_")
    assert (found["test_mae"], found["test_rmse"], found["test_r2"]) == (2.5, one.targets[0].rmse, one.targets[0].r2)


@pytest.mark.parametrize(("task", "counted"), [("multi-label", {"num_classes": 2}), ("regression", {"num_targets": 2})])
def test_outputs_are_counted_as_classes_or_as_targets(task: str, counted: dict[str, int], tmp_path: Path) -> None:
    event = SimpleNamespace(
        data=open_task(task, tmp_path), recipe=SimpleNamespace(request=RECIPE), network=SimpleNamespace(asked=NETWORK)
    )
    found = tracking.settings_of(cast(Any, event))
    assert {name: found[name] for name in ("num_classes", "num_targets") if name in found} == counted


def test_tensorboard_has_the_resolved_recipe(file: Path, tmp_path: Path) -> None:
    needs("tensorboard")
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, track=["tensorboard"], progress=False)
    found = module.EventAccumulator(str(run.folder / "trackers" / "tensorboard"))
    found.Reload()
    text = found.Tensors("recipe/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| weight_decay | {run.recipe.weight_decay} |" in text
    assert f"| network | {NETWORK} |" in text
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"label_smoothing" in content


@pytest.mark.slow
def test_mlflow_has_the_resolved_recipe_and_the_report(file: Path, tmp_path: Path) -> None:
    needs("mlflow")
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, track="mlflow", progress=False)
    client, tracked = mlflow_run(run.folder)
    assert tracked.data.params["weight_decay"] == str(run.recipe.weight_decay)
    assert tracked.data.params["network"] == NETWORK
    assert tracked.info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(tracked.info.run_id)] == ["report.html"]


@pytest.mark.parametrize("tracker", ["tensorboard", pytest.param("mlflow", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_killed", [False, True])
def test_a_resumed_training_goes_on_in_the_same_place_with_no_epoch_twice(
    tracker: str, is_killed: bool, file: Path, tmp_path: Path
) -> None:
    needs(tracker)

    def cut(event: object) -> object:
        if is_killed and isinstance(event, EpochDone) and event.epoch == 1:
            raise RuntimeError("killed between the end of an epoch and its checkpoint")
        return Stop() if isinstance(event, StepDone) and event.epoch == 2 else None

    if is_killed:
        with pytest.raises(RuntimeError):
            visus.train(file, NETWORK, RECIPE, output=tmp_path, track=tracker, on_event=cut, progress=False)
    else:
        visus.train(file, NETWORK, RECIPE, output=tmp_path, track=tracker, on_event=cut, progress=False)
    (folder,) = tmp_path.iterdir()
    before = json.loads((folder / "trackers.json").read_text())
    assert before[tracker]["num_epochs"] == 2
    run = visus.resume(folder, progress=False)
    assert json.loads((folder / "trackers.json").read_text())[tracker] == before[tracker] | {"num_epochs": 3}
    history = HISTORIES[tracker](run.folder)
    assert [step for step, _ in history["loss/train" if tracker == "tensorboard" else "train_loss"]] == [1, 2, 3]


@pytest.mark.slow
def test_wandb_writes_offline_and_resumes_under_its_name(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    events: list[object] = []

    def follow(event: object) -> object:
        events.append(event)
        return Stop() if isinstance(event, EpochDone) and event.epoch == 0 else None

    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, track="wandb", on_event=follow, progress=False)
    run = visus.resume(run.folder, on_event=events.append, progress=False)
    own = json.loads((run.folder / "trackers.json").read_text())["wandb"]
    files = sorted((run.folder / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    assert [each.name for each in files] == [f"run-{own['id']}.wandb"] * 2
    rows = [row for each in files for row in wandb_history(each)]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert [float(row["train_loss"]) for row in rows] == pytest.approx(
        [row["train_loss"] for row in run.history], rel=TOLERANCE
    )
    assert [event.place for event in events if isinstance(event, Tracked)][-1] == (
        f"offline; upload it with: wandb sync {run.folder / 'trackers' / 'wandb'}/offline-run-*-{own['id']}"
    )


def wandb_history(file: Path) -> list[dict[str, str]]:
    """The rows of the history in a file of W&B: records in the log format of LevelDB, in blocks of 32 KiB, after a header of 7 bytes."""
    records = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content, place, whole, rows = file.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        if 32_768 - place % 32_768 < 7:
            place += 32_768 - place % 32_768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = records.Record()
            record.ParseFromString(whole)
            whole = b""
            if record.HasField("history"):
                rows.append({item.key or ".".join(item.nested_key): item.value_json for item in record.history.item})
    return rows


@pytest.mark.parametrize("method", ["begin", "log", "score", "close"])
def test_a_tracker_that_fails_is_told_once_and_the_training_goes_on(
    method: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("tensorboard")

    def fail(self: TensorBoard, *given: object, **named: object) -> None:
        raise OSError("no space left\non the server.")

    monkeypatch.setattr(TensorBoard, method, fail)
    events: list[object] = []
    run = visus.train(file, NETWORK, RECIPE, output=tmp_path, track="tensorboard", on_event=events.append, progress=False)
    assert run.scores.num_samples == 12
    assert [event for event in events if isinstance(event, Tracked)] == [
        Tracked(
            "TensorBoard",
            "",
            "TensorBoard stopped tracking this run (OSError: no space left on the server). The training goes on without it.",
        )
    ]


@pytest.mark.long
def test_a_missing_package_is_one_sentence_before_anything_is_computed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "alembic", None)
    monkeypatch.setattr("visus.errors._is_installed", lambda package: False)
    with pytest.raises(MissingExtraError) as caught:
        visus.train(file, NETWORK, RECIPE, output=tmp_path / "runs", track="mlflow", progress=False)
    assert str(caught.value).startswith("runs tracked by MLflow need the package ")
    assert str(caught.value).endswith(
        "which is not installed. Install it with: pip install 'mlflow-skinny>=3' 'sqlalchemy>=2' 'alembic>=1.13'"
    )
    assert not (tmp_path / "runs").exists()


def test_an_unknown_tracker_is_refused_with_the_closest_name(file: Path) -> None:
    expected = "unknown tracker 'tensorbord'. Did you mean 'tensorboard'? Known: mlflow, tensorboard, wandb."
    for make in (
        known_trackers,
        lambda track: visus.train(file, track=track),
        lambda track: visus.Training(file, track=track),
    ):
        with pytest.raises(UsageError, match=f"^{re.escape(expected)}$"):
            make("tensorbord")


@pytest.mark.long
def test_a_server_of_mlflow_takes_the_place_of_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    server = f"sqlite:///{(tmp_path / 'elsewhere.db').as_posix()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    tracker = MLflow()
    (tmp_path / "trackers").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("visus.workbench.trackers.mlflow._quiet", _refused)
        with pytest.raises(ZeroDivisionError):
            tracker.begin(tracking.TrackedRun("photos", tmp_path / "trackers", {}))
    assert tracker.place == f"mlflow ui --backend-store-uri {server}"


def _refused() -> object:
    raise ZeroDivisionError


def test_every_tracker_is_an_extra() -> None:
    from visus.errors import OPTIONAL_PACKAGES

    assert set(TRACKERS) <= set(OPTIONAL_PACKAGES)
