"""A time limit on a slow machine: every phase of a training keeps to what is left, and the time is told with its parts."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import visus
from visus.networks import weights
from visus.networks.fast.compiler import TOO_LATE
from visus.progress import SILENT, Monitor, Progress
from visus.training import step_times
from visus.training.distribution import ALONE
from visus.training.events import HeadFitted, Pricing, StepDone
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.training.steps import TrainingSteps
from visus.training.validation import Validation
from visus.workbench.report import reports
from visus.workbench.report.measures import LATE
from visus.workbench.runs import mistakes
from visus.workbench.train import head_probe, job, kernels_in_time, planning, training
from visus.workbench.train import resumed as resumed_trainings
from visus.workbench.train.command_times import CommandTimes
from visus.workbench.train.events import Planned, Prepared, Scored
from visus.workbench.train.head_probe import _affordable, probe
from visus.workbench.train.starts import Start
from visus.workbench.train.time_limit import TimeLimit
from visus.workbench.train.width_search import SEARCH_SHARE

DESIGN = "conv(4, 3), norm, relu, globalpool, linear(classes)"
LIMIT_S = 100.0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes functions slow: each call moves the clock forward, and nothing waits."""
    real, late_s = time.perf_counter, [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: real() + late_s[0])

    def make_slow(place: Any, name: str, seconds: float) -> None:
        original = getattr(place, name)

        def run(*given: Any, **named: Any) -> Any:
            late_s[0] += seconds
            return original(*given, **named)

        monkeypatch.setattr(place, name, run)

    return make_slow


@pytest.mark.long
def test_slow_phases_end_within_the_limit(photos: Path, tmp_path: Path, slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (planning, job):
        monkeypatch.setattr(place, "ending_s", lambda data, made: 20.0)
    weights.save(visus.network(DESIGN, (3, 10, 10), 5), tmp_path / "five.safetensors")
    slow(head_probe._Features, "_answer", 2.0)
    slow(head_probe._Features, "step_s", 5.0)
    slow(step_times, "time_step", 10.0)
    slow(TrainingSteps, "take", 1.0)
    slow(Validation, "validate", 2.0)
    slow(reports, "answers_of", 10.0)
    slow(mistakes, "answers_of", 10.0)
    slow(job, "answers_with_plain", 10.0)
    seen: list[Any] = []
    recipe = Recipe(epochs=500, batch_size=8, precision="float32", time_limit_s=LIMIT_S)
    begin = {"weights": tmp_path / "five.safetensors", "output": tmp_path, "progress": False, "on_event": seen.append}
    began = time.perf_counter()
    run = visus.train(photos, DESIGN, recipe, **begin)
    assert 0.7 * LIMIT_S < time.perf_counter() - began < LIMIT_S + 8
    inside = json.loads((run.folder / "inside.json").read_text())
    assert {name for name, why in inside["missing"].items() if why == LATE} == {"alike", "shifts", "saliency"}
    assert LATE in (run.folder / "report.html").read_text("utf-8")
    (scored,) = (event for event in seen if isinstance(event, Scored))
    assert list(scored.times.parts) == ["start and data", "preparation", "head", "training", "scoring", "report"]
    assert scored.times.whole_s == pytest.approx(time.perf_counter() - began, abs=3)
    assert scored.times.parts["head"] >= 8


@pytest.mark.slow
def test_a_slow_width_phase_is_stopped(tmp_path: Path, slow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass of a measured step takes 4 s of the clock: measuring one width would take minutes."""
    for place in (planning, job):
        monkeypatch.setattr(place, "ending_s", lambda data, made: 10.0)
    monkeypatch.setenv("VISUS_CACHE", str(tmp_path / "cache"))
    labels = np.arange(200) % 2
    images = np.random.default_rng(0).integers(0, 255, (200, 1, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "squares.npz", x=images, y=labels)
    slow(nn.Module, "zero_grad", 4.0)
    slow(TrainingSteps, "take", 1.0)
    seen: list[Any] = []
    recipe = Recipe(epochs=500, batch_size=90, precision="float32", time_limit_s=LIMIT_S)
    began = time.perf_counter()
    run = visus.train(tmp_path / "squares.npz", recipe=recipe, output=tmp_path, progress=False, on_event=seen.append)
    assert time.perf_counter() - began < LIMIT_S + 8
    (scored,) = (event for event in seen if isinstance(event, Scored))
    share_s = SEARCH_SHARE * (LIMIT_S - 10)
    assert scored.times.parts["width"] < share_s + 4 + 2  # a pass that was begun is ended
    assert scored.times.parts["training"] > 0.3 * LIMIT_S
    (planned,) = (event for event in seen if isinstance(event, Planned))
    assert planned.network.reason.endswith("(estimated, to save time).")
    assert [event.network for event in seen if isinstance(event, Pricing)] == ["compact(scale=1)", "compact(scale=0.25)"]
    assert json.loads((run.folder / "data.json").read_text())["network"] == "compact(scale=0.25)"


@pytest.mark.parametrize(
    ("limit_s", "precision", "kernels", "is_late", "allowed_s", "used"),
    [
        (60.0, "bfloat16", "auto", True, 0.0, "pytorch"),
        (60.0, "bfloat16", "auto", False, 0.0, "auto"),  # compiled earlier
        (400.0, "bfloat16", "auto", True, 200.0, "pytorch"),
        (400.0, "bfloat16", "auto", False, 200.0, "auto"),
        (400.0, "bfloat16", "pytorch", True, 0.0, "pytorch"),
        (400.0, "float32", "auto", True, 0.0, "auto"),
        (math.inf, "bfloat16", "auto", True, None, "auto"),
    ],
)
def test_kernels_are_compiled_only_where_the_limit_leaves_time(
    monkeypatch: pytest.MonkeyPatch,
    limit_s: float,
    precision: str,
    kernels: str,
    is_late: bool,
    allowed_s: float | None,
    used: str,
) -> None:
    allowed: list[float] = []
    monkeypatch.setattr(kernels_in_time, "allow_compiling", allowed.append)
    monkeypatch.setattr(kernels_in_time, "why_no_kernels", lambda: TOO_LATE if is_late else "")
    limit, times = TimeLimit(limit_s, time.perf_counter()), CommandTimes()
    given = Recipe(device="cpu", precision=precision, kernels=kernels)
    found, warnings = kernels_in_time.kernels_in_time(given, limit, ALONE, SILENT, times)
    assert found == given.replace(kernels=used)
    assert allowed == ([] if allowed_s is None else [pytest.approx(allowed_s, abs=1)])
    assert list(times.parts) == (["kernels"] if allowed_s else [])
    assert [each[:36] for each in warnings] == (["the kernels of visus are not compiled"[:36]] if used != kernels else [])


@pytest.mark.parametrize(
    ("changes", "allowed_s", "reason", "num_told"),
    [
        ({}, None, "", 0),
        ({"time_limit_s": 60.0}, 0.0, TOO_LATE, 1),
        ({"time_limit_s": 60.0}, 0.0, "", 0),
        ({"time_limit_s": 400.0}, 200.0, TOO_LATE, 1),
    ],
)
@pytest.mark.long
def test_the_time_limit_of_a_resumed_training_bounds_the_compiling_too(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    allowed_s: float | None,
    reason: str,
    num_told: int,
) -> None:
    seen, allowed = list[Any](), list[float]()
    for place in (planning, resumed_trainings, training, step_times):
        monkeypatch.setattr(place, "uses_kernels", lambda machine, setting: True)
    monkeypatch.setattr(kernels_in_time, "why_no_kernels", lambda: reason)
    monkeypatch.setattr(kernels_in_time, "allow_compiling", allowed.append)
    recipe = Recipe(epochs=1, batch_size=8, precision="float32")
    visus.train(
        photos,
        DESIGN,
        recipe,
        output=tmp_path,
        progress=False,
        on_event=seen.append,
        should_stop=lambda: any(isinstance(event, StepDone) for event in seen),
    )
    (begun,) = (event for event in seen if isinstance(event, Prepared))
    skipped = {event.stage: event.skipped_by for event in seen if isinstance(event, Progress)}
    assert skipped["timing the kernels and a step"] == ("kernels", "pytorch")
    assert skipped["compiling the kernels, once on this machine"] == ("kernels", "pytorch")
    seen.clear()
    visus.resume(begun.folder, changes=changes, on_event=seen.append, progress=False)
    (resumed,) = (event for event in seen if isinstance(event, Prepared))
    assert allowed == ([] if allowed_s is None else [pytest.approx(allowed_s, abs=5)])
    assert sum("are not compiled here yet" in warning for warning in resumed.warnings) == num_told
    assert resumed.recipe.kernels == "auto", "a run keeps its recipe"
    assert {event.skipped_by for event in seen if isinstance(event, Progress)} == {()}
    (scored,) = (event for event in seen if isinstance(event, Scored))
    assert ("kernels" in scored.times.parts) == bool(allowed_s)


def test_the_phases_of_the_head_are_named_and_counted(photos: Path) -> None:
    seen: list[Any] = []
    data = visus.open_data(photos)
    machine = visus.networks.machine.choose("cpu", "float32")
    start = Start("new weights", None, "", ("linear1.weight",))
    module, recipe = visus.network(DESIGN, data.input_shape, 2), Recipe(epochs=2, precision="float32", kernels="pytorch")
    probe(module, start, data, recipe, machine, Monitor(seen.append), is_mirrored=False, left_s=1000.0)
    stages = list(dict.fromkeys(event.stage for event in seen if isinstance(event, Progress)))
    assert stages == [
        "timing the network",
        "computing features",
        "cross-validating the last layer",
        "fitting the last layer",
        "timing a step of fine-tuning",
    ]


def test_the_time_of_the_head_holds_the_step_that_is_timed(photos: Path, slow: Any) -> None:
    slow(head_probe._Features, "step_s", 50.0)
    seen: list[Any] = []
    data = visus.open_data(photos)
    module, recipe = visus.network(DESIGN, data.input_shape, 2), Recipe(epochs=2, precision="float32", kernels="pytorch")
    machine, start = visus.networks.machine.choose("cpu", "float32"), Start("new weights", None, "", ("linear1.weight",))
    probe(module, start, data, recipe, machine, Monitor(seen.append), is_mirrored=False, left_s=1000.0)
    (fitted,) = (event for event in seen if isinstance(event, HeadFitted))
    assert fitted.seconds >= 50


def test_a_head_that_would_take_too_long_is_fitted_on_fewer_samples(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = visus.open_data(photos)
    monkeypatch.setattr(head_probe, "MIN_FITTED", 8)
    monkeypatch.setattr(head_probe._Features, "sample_s", lambda self, part, preprocessing: 1.0)
    monkeypatch.setattr(head_probe._Features, "step_s", lambda self, part, preprocessing, batch_size: 0.5)
    recipe = Recipe(precision="float32", kernels="pytorch")
    machine = visus.networks.machine.choose("cpu", "float32")
    start = Start("new weights", None, "", ("linear1.weight",))
    for left_s, used, views in ((40.0, 20, 1), (2 * 43.0, 43, 1), (4 * 43.0, 43, 2), (1.0, 8, 1)):
        seen: list[Any] = []
        module = visus.network(DESIGN, data.input_shape, 2)
        found = probe(module, start, data, recipe, machine, Monitor(seen.append), is_mirrored=True, left_s=left_s)
        (fitted,) = (event for event in seen if isinstance(event, HeadFitted))
        assert (fitted.num_fitted, fitted.num_training, fitted.num_views) == (used, 43, views)
        assert found.start.head is not None
        assert found.start.head.num_samples == used
        assert found.facts.epochs == 0


def test_views_are_given_up_before_samples() -> None:
    assert [(views, len(places)) for views, places in (_affordable(100, 2, each, 0) for each in (250, 150, 70, 3))] == [
        (2, 100),
        (1, 100),
        (1, 70),
        (1, 64),
    ]
    _, places = _affordable(100, 2, 70, 0)
    assert np.array_equal(np.unique(places), places)


def test_the_parts_of_the_time_add_up_and_are_kept(run: Path, tmp_path: Path) -> None:
    folder = RunFolder.open(run)
    kept = json.loads((run / "times.json").read_text())
    assert list(kept) == ["start and data", "preparation", "training", "scoring", "report"]
    found = CommandTimes.read(folder)
    assert found is not None
    assert found.whole_s == pytest.approx(sum(kept.values()) - kept["report"])
    row = f'Command until this report</th><td class="words">{found.sentence().partition(":")[0]}<'
    assert row in (run / "report.html").read_text("utf-8")


def test_the_note_on_small_images_is_shown_from_python_too(photos: Path, tmp_path: Path, capsys: Any) -> None:
    class EnoughError(Exception):
        pass

    def stop(event: object) -> None:
        if isinstance(event, Prepared):
            raise EnoughError

    with pytest.raises(EnoughError):
        visus.train(photos, output=tmp_path, on_event=stop, recipe=Recipe(epochs=1))
    assert (
        "note      ImageNet weights are not used: they are the default for images of at least 128 px"
        in capsys.readouterr().err
    )
