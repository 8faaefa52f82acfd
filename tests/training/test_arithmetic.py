"""Other arithmetic in the middle of a training: it is said, and what the run began with is kept for when it goes on there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import visus
from visus.networks.fast import Autotuner, Plan, autotuner
from visus.networks.fast.autotuner import ConvProblem
from visus.networks.fast.convolutions import ONEDNN, WINOGRAD
from visus.networks.fast.windows import TapGeometry
from visus.networks.machine import Machine
from visus.training.arithmetic import rounding, rounding_differs
from visus.training.recipe import Recipe
from visus.workbench.train.events import Prepared

pytestmark = pytest.mark.usefixtures("light_pages")

NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"
CASE = ConvProblem((64, 64, 16, 16), (64, 64, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1)


def test_a_plan_that_cannot_be_carried_out_here_stays_on_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = Plan(WINOGRAD, WINOGRAD, WINOGRAD)
    monkeypatch.setattr(autotuner, "kernels", lambda: object())
    monkeypatch.setattr(autotuner, "measured", lambda case: began)
    record = tmp_path / "arithmetic.json"
    assert Autotuner(tmp_path / "here.json", record).plan(CASE) == began
    written = record.read_bytes()
    monkeypatch.setattr(autotuner, "kernels", lambda: None)
    monkeypatch.setattr(autotuner, "measured", lambda case: Plan())
    elsewhere = Autotuner(tmp_path / "there.json", record)
    assert [elsewhere.plan(CASE), elsewhere.plan(CASE)] == [Plan(ONEDNN, ONEDNN, ONEDNN)] * 2
    assert record.read_bytes() == written
    monkeypatch.setattr(autotuner, "kernels", lambda: object())
    assert Autotuner(tmp_path / "here.json", record).plan(CASE) == began


def test_a_training_that_goes_on_with_other_kernels_says_so(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    stops = iter([False, False, True])
    run = visus.train(squares, NETWORK, quick, output=tmp_path, should_stop=lambda: next(stops))
    file = run.folder / "environment.json"
    here = json.loads(file.read_text())
    assert here["rounding"]["kernels"] == "PyTorch's own"  # float32
    began = here | {"rounding": here["rounding"] | {"processor": "Elder", "kernels": "those of visus (00ff)"}}
    file.write_text(json.dumps(began))
    for _ in range(2):  # the second time as well: it was begun there
        stops, seen = iter([False, True]), list[object]()
        visus.resume(run.folder, on_event=seen.append, should_stop=lambda stops=stops: next(stops))
        (prepared,) = (event for event in seen if isinstance(event, Prepared))
        assert prepared.warnings[-1] == (
            f"this run began with other arithmetic (processor: Elder, now {here['processor']}; kernels: those of visus (00ff), now PyTorch's "
            "own), so its result will differ in rounding from that of a training without interruption. Go on where it began for the same "
            "numbers."
        )
    file.write_text(json.dumps(here))
    seen = []
    visus.resume(run.folder, on_event=seen.append)
    assert next(event for event in seen if isinstance(event, Prepared)).warnings == ()


def test_kernels_count_where_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.training.arithmetic.kernels", lambda: object())
    fast, slow = (Machine(torch.device("cpu"), precision, True, "") for precision in ("bfloat16", "float32"))
    used = [rounding(machine, how)["kernels"] for machine, how in ((fast, "auto"), (fast, "pytorch"), (slow, "auto"))]
    assert used[0].startswith("those of visus (")
    assert used[1:] == ["PyTorch's own"] * 2
    assert rounding_differs(rounding(fast, "auto"), rounding(fast, "auto")) == ""
    assert rounding_differs({}, rounding(fast, "auto")) == "", "runs of before do not tell"
