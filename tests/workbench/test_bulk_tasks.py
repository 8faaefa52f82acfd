"""Bulk prediction of sets of classes and of numbers: each cell is that of ``run.predict``, whatever stops the call."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.commands import Call
from tests.workbench.brightness import Brightness, write_images
from tests.workbench.conftest import TaskRuns, task_arrays
from tests.workbench.test_bulk import StopError, bulk_command, kill_when, stop_after

from visus.errors import UsageError
from visus.workbench.runs.bulk.predicting import predict_to
from visus.workbench.runs.bulk.rows import Columns
from visus.workbench.runs.prediction import Decision
from visus.workbench.runs.predictions import predict_with

QUIET: dict[str, Any] = {"progress": False}
TASKS = ["multi-label", "regression"]
DECISIONS = {
    "multi-label": Decision("multi-label", (0.3, 0.4, 0.35)),
    "regression": Decision("regression", half_widths=(0.5, 1.0, 2.0)),
}


class Other(Brightness):
    """The numbers of ``Brightness`` as those of another task."""

    def __init__(self, decision: Decision, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.decision = decision


def rows(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, and one file that is none."""
    folder = write_images(tmp_path_factory.mktemp("bulk-tasks") / "in", 60)
    (folder / "000007.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_each_row_is_the_prediction_of_the_run(task: str, task_runs: TaskRuns, tmp_path: Path) -> None:
    run = task_runs(task)[0]
    np.save(tmp_path / "new.npy", task_arrays(1, 40)[0])
    found = run.predict_to(tmp_path / "new.npy", tmp_path / "t.csv", **QUIET)
    answers = list(run.predict(tmp_path / "new.npy", **QUIET))
    shares = run.calibrator()(run.logits(run.preprocessing.scaled(_stored(tmp_path / "new.npy"))))
    table = rows(tmp_path / "t.csv")
    assert [row["file"] for row in table] == [each.file for each in answers]
    for row, answer, numbers in zip(table, answers, shares.tolist(), strict=True):
        if task == "multi-label":
            assert row["labels"] == "|".join(answer.labels)
            given = [float(row[f"probability:{name}"]) for name in run.classes]
            np.testing.assert_allclose(given, numbers, atol=1e-6)
        else:
            for each, value in zip(answer.numbers, numbers, strict=True):
                cells = [float(row[head]) for head in (each.name, f"{each.name}_low", f"{each.name}_high")]
                np.testing.assert_allclose(cells, [each.value, each.low, each.high], rtol=1e-8)
                assert each.value == pytest.approx(value)
    counts = Counter(name for answer in answers for name in answer.labels)
    assert dict(found.labels) == dict(counts)
    assert (found.num_samples, found.num_errors) == (40, 0)


def _stored(path: Path) -> Any:
    import torch

    return torch.from_numpy(np.load(path)[:, None])


@pytest.mark.parametrize("task", TASKS)
def test_all_kinds_of_tables_have_the_same_cells(task: str, images: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for out in ("t.csv", "t.parquet", "t"):
        predict_to(Other(DECISIONS[task]), images, tmp_path / out, part_size=16, **QUIET)
    whole = parquet.read_table(tmp_path / "t.parquet")
    assert whole.equals(parquet.read_table(tmp_path / "t"))
    text = rows(tmp_path / "t.csv")
    assert whole.column_names == list(text[0]) == list(Columns(1, Brightness.classes, task).names)
    digits = "{:.9g}" if task == "regression" else "{:.6f}"
    cells = [
        {
            key: ""
            if value is None
            else value
            if isinstance(value, str)
            else digits.format(round(value, 7) if task != "regression" else value)
            for key, value in row.items()
        }
        for row in whole.to_pylist()
    ]
    assert cells == text
    broken = whole.to_pylist()[7]
    assert broken.pop("error").startswith("the file holds text")
    assert broken.pop("file").endswith("000007.png")
    assert set(broken.values()) == {None}


def test_a_number_without_interval_has_empty_ends(images: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for out in ("t.csv", "t.parquet"):
        predict_to(Other(Decision("regression")), images, tmp_path / out, **QUIET)
    row = rows(tmp_path / "t.csv")[0]
    assert (row["dark_low"], row["dark_high"]) == ("", "")
    assert float(row["dark"]) == pytest.approx(parquet.read_table(tmp_path / "t.parquet")["dark"][0].as_py())
    assert parquet.read_table(tmp_path / "t.parquet")["dark_low"].null_count == 60


@given(task=st.sampled_from(TASKS), chunk=st.integers(1, 9), stops=st.lists(st.integers(0, 12), max_size=3))
@settings(max_examples=12)
@pytest.mark.long
def test_a_table_is_the_same_however_often_its_call_stops(images: Path, task: str, chunk: int, stops: list[int]) -> None:
    decision = DECISIONS[task]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "t.csv")
        for batches in stops:
            try:
                predict_to(Other(decision, chunk=chunk), images, out, part_size=10, on_event=stop_after(batches), **QUIET)
            except StopError:
                continue
            out.unlink()
        found = predict_to(Other(decision, chunk=chunk), images, out, part_size=10, **QUIET)
        predict_to(Other(decision, chunk=chunk), images, Path(folder, "whole.csv"), part_size=10, **QUIET)
        assert out.read_bytes() == Path(folder, "whole.csv").read_bytes()
        answers = list(predict_with(Other(decision), images, (), progress=False))
        assert found.num_errors == 1
        if task == "multi-label":
            assert [row["labels"] for row in rows(out)] == ["|".join(each.labels) for each in answers]
        else:
            assert [row["light"] for row in rows(out) if row["light"]] == [
                f"{each.numbers[2].value:.9g}" for each in answers if each.numbers
            ]


@pytest.mark.parametrize("task", [pytest.param(TASKS[0], marks=pytest.mark.slow), TASKS[1]])
@pytest.mark.long
def test_a_killed_process_leaves_the_same_bytes(task: str, images: Path, tmp_path: Path) -> None:
    import subprocess

    from tests.workbench.test_bulk import ROOT

    out, parts = tmp_path / "t.csv", tmp_path / "t.csv.parts"
    kill_when(bulk_command(images, out, 16, 0.3, task), parts, 1)
    assert not out.exists()
    subprocess.run(bulk_command(images, out, 16, 0, task), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(
        bulk_command(images, tmp_path / "whole.csv", 16, 0, task), cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert len(rows(out)) == 60


@pytest.mark.parametrize(
    ("task", "keywords", "message"),
    [
        (
            "multi-label",
            {"top": 2},
            "a prediction of multi-label has all classes that reach their threshold, so top has no effect. Leave it out.",
        ),
        (
            "multi-label",
            {"probabilities": True},
            "a table of multi-label has the probability of each class anyway, so probabilities has no effect. Leave it out.",
        ),
        (
            "regression",
            {"probabilities": True},
            "a table of regression has no probabilities, so probabilities has no effect. Leave it out.",
        ),
    ],
)
def test_options_that_have_no_effect_are_refused(
    task: str, keywords: dict[str, Any], message: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        predict_to(Other(DECISIONS[task]), images, tmp_path / "t.csv", **keywords, **QUIET)
    assert str(caught.value) == message


@pytest.mark.long
def test_parts_of_another_threshold_are_refused(
    task_runs: TaskRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visus.evaluation.tasks.label_thresholds import ThresholdFit
    from visus.workbench.runs.saved import SavedRun

    run = task_runs("multi-label")[0]
    np.save(tmp_path / "new.npy", task_arrays(1, 1200)[0])
    with pytest.raises(StopError):
        run.predict_to(tmp_path / "new.npy", tmp_path / "t.csv", on_event=stop_after(4), **QUIET)
    monkeypatch.setattr(SavedRun, "calibration", ThresholdFit(1.0, (0.9, 0.9)))
    with pytest.raises(UsageError, match="before it was changed, or with other options"):
        run.predict_to(tmp_path / "new.npy", tmp_path / "t.csv", **QUIET)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_the_command_writes_the_table(task: str, task_runs: TaskRuns, tmp_path: Path, visus_command: Call) -> None:
    run = task_runs(task)[0]
    np.save(tmp_path / "new.npy", task_arrays(2, 10)[0])
    answer = visus_command("predict", run.folder, tmp_path / "new.npy", "--out", tmp_path / "t.csv", "-q")
    assert answer.code == 0, answer.err
    assert answer.out.startswith(f"10 samples in {tmp_path / 't.csv'}")
    assert ("label  samples" in answer.out) == (task == "multi-label")
    printed = visus_command("predict", run.folder, tmp_path / "new.npy", "-q", "--json").out
    table = rows(tmp_path / "t.csv")
    for row, each in zip(table, json.loads(printed), strict=True):
        if task == "multi-label":
            assert row["labels"] == "|".join(label["label"] for label in each["labels"])
        else:
            assert float(row[each["numbers"][0]["target"]]) == pytest.approx(each["numbers"][0]["value"])
