"""With a time limit and no network named, the widest ``compact`` that fits is trained, and the reason is told.

Step costs are made up, so that nothing depends on the speed of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import visus
from visus.design import resolve_network
from visus.design.families.compact import SCALES, compact
from visus.networks import step_cost
from visus.networks.step_cost import StepConfig, StepCost
from visus.progress import SILENT
from visus.training.distribution import ALONE
from visus.training.events import Pricing
from visus.training.recipe import Recipe
from visus.workbench.train import width_search
from visus.workbench.train.events import Prepared
from visus.workbench.train.width_search import ALLOWANCE, sentence, widest_within

pytestmark = pytest.mark.usefixtures("light_pages")

MACS = {0.25: 6, 0.5: 28, 1.0: 100, 1.5: 220, 2.0: 560}


@st.composite
def machines(draw: st.DrawFn) -> dict[float, float]:
    """Seconds at each scale: a wider network computes no slower for each multiply-add, and at most 1.5 times as fast."""
    rate, seconds = draw(st.floats(0.01, 10)), dict[float, float]()
    usual = draw(st.floats(0.1, 1_000))
    for scale in sorted(MACS):
        rate = draw(st.floats(0.5, 1)) if scale < 1 else 1.0 if scale == 1 else draw(st.floats(1, 1.5))
        seconds[scale] = usual * MACS[scale] / MACS[1.0] / rate
    return seconds


@given(machines(), st.floats(1, 1_000))
def test_the_widest_scale_that_fits_is_taken_and_has_a_price(seconds: dict[float, float], limit_s: float) -> None:
    asked: list[float] = []
    taken = widest_within(limit_s, MACS, lambda scale: asked.append(scale) or seconds[scale])  # type: ignore[func-returns-value]
    fitting = [scale for scale in MACS if seconds[scale] <= limit_s]
    assert taken == max(fitting, default=min(MACS))
    assert taken in asked


def test_what_cannot_fit_is_not_measured() -> None:
    asked: list[float] = []
    widest_within(20, MACS, lambda scale: asked.append(scale) or MACS[scale])  # type: ignore[func-returns-value]
    assert asked == [1.0, 0.25]


@pytest.mark.parametrize(
    ("limit_s", "taken", "known", "told"),
    [
        (60, 0.5, {1.0: 118, 0.5: 50}, "compact(scale=0.5): about 50 s for 29 epochs on this machine, and there are 60 s; compact(scale=1) would take about 1 min 58 s."),
        (20, 0.25, {1.0: 118, 0.25: 40}, "compact(scale=0.25): about 40 s for 29 epochs on this machine, and there are 20 s; nothing narrower is left, so the training ends with the time, and its schedule too."),
        (900, 2.0, {1.0: 118, 2.0: 600}, "compact(scale=2): about 10 min 00 s for 29 epochs on this machine, and there are 15 min 00 s; nothing wider is left."),
        (-73.2, 0.25, {1.0: 118, 0.25: 40}, "compact(scale=0.25): about 40 s for 29 epochs on this machine, and no time is left; nothing narrower is left, so the training ends with the time, and its schedule too."),
        (120, 1.0, {1.0: 118}, "compact(scale=1): about 1 min 58 s for 29 epochs on this machine, and there are 2 min 00 s; compact(scale=1.5) computes 2.2 times as much."),
    ],
)  # fmt: skip
def test_the_reason_has_its_figures(limit_s: float, taken: float, known: dict[float, float], told: str) -> None:
    assert sentence(limit_s, taken, known, MACS, 29) == told


# ---- in a training ----


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """200 gray images of 12 x 12 in two classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    images = rng.integers(0, 90, (200, 1, 12, 12), dtype=np.uint8) + (labels * 120).astype(np.uint8)[:, None, None, None]
    np.savez(tmp_path / "squares.npz", x=images, y=labels)
    return tmp_path / "squares.npz"


@pytest.fixture
def priced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[StepConfig]:
    """What was measured; a step costs the third of a second for each channel of the widest convolution, whatever is in it."""
    works: list[StepConfig] = []

    def measured(work: StepConfig, module: torch.nn.Module, optimizer: torch.optim.Optimizer, until: float) -> StepCost:
        works.append(work)
        width = max(part.out_channels for part in module.modules() if isinstance(part, torch.nn.Conv2d))
        return StepCost((0.0,), width / 3)

    monkeypatch.setenv("VISUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(step_cost, "measured", measured)
    monkeypatch.setattr("visus.workbench.train.time_limit.TimeLimit.left", lambda self, ending_s: self.seconds)
    monkeypatch.setattr(width_search.WidthSearch, "_spent_s", lambda self: 0.0)
    return works


def trained(data: Path, recipe: Recipe, **more: Any) -> tuple[visus.Run, list[Any]]:
    told: list[Any] = []
    run = visus.train(data, recipe=recipe, output=data.parent / "runs", on_event=told.append, **more)
    return run, told


def quick(**changes: Any) -> Recipe:
    return Recipe(epochs=1, batch_size=90, precision="float32", **changes)


def fitting(num_channels: int, num_steps: int) -> float:
    """The limit, in seconds, into which a network fits whose widest convolution has so many channels."""
    return ALLOWANCE * num_channels / 3 * num_steps


@pytest.mark.parametrize(("width", "scale"), [(32, 0.25), (64, 0.5), (128, 1), (129, 1), (192, 1.5), (600, 2), (999, 2)])
def test_the_training_has_the_widest_network_that_fits(
    squares: Path, priced: list[StepConfig], width: int, scale: float
) -> None:
    data = visus.open_data(squares)
    recipe = quick(time_limit_s=fitting(width, 1))
    usual = width_search.make_network(None, data.input_shape, 2, num_samples=162)
    made, settled = width_search.within_limit(usual, recipe, fitting(width, 1), data, rungs_machine(), ALONE, None, SILENT)
    assert made.design == resolve_network(
        f"compact(scale={scale})", input_shape=data.input_shape, num_classes=2, num_samples=162
    )
    assert made.asked == ("compact" if scale == 1 else f"compact(scale={scale})")
    assert made.reason.startswith(f"compact(scale={scale}): about ")
    assert settled.epochs == 1
    assert [work.batch_size for work in priced] == [90] * len(priced)


def rungs_machine() -> Any:
    from visus.networks.machine import choose

    return choose("cpu", "float32")


@pytest.mark.long
def test_the_run_keeps_the_network_and_the_reason_and_goes_on_with_it(squares: Path, priced: list[StepConfig]) -> None:
    recipe = quick(time_limit_s=fitting(64, 1))
    stopped, told = trained(squares, recipe, should_stop=lambda: True)
    assert [event.network for event in told if isinstance(event, Pricing)] == ["compact(scale=1)", "compact(scale=0.5)"]
    (prepared,) = (event for event in told if isinstance(event, Prepared))
    reason = "compact(scale=0.5): about 27 s for 1 epoch on this machine, and there are 26.7 s; compact(scale=1) would take about 53 s."
    assert prepared.network.reason == reason
    assert prepared.network.text == (stopped.folder / "design.txt").read_text()
    priced.clear()
    run = visus.resume(stopped.folder)
    assert not priced
    facts = json.loads((run.folder / "data.json").read_text())
    assert (facts["network"], facts["network_reason"]) == ("compact(scale=0.5)", reason)
    told_there = f"Its width was chosen for the time limit: {reason}"
    assert told_there in (run.folder / "README.md").read_text()
    assert told_there in (run.folder / "report.html").read_text()


@pytest.mark.long
def test_a_second_training_measures_nothing(squares: Path, priced: list[StepConfig]) -> None:
    recipe = quick(time_limit_s=fitting(64, 1))
    first, _ = trained(squares, recipe, should_stop=lambda: True)
    priced.clear()
    second, told = trained(squares, recipe, should_stop=lambda: True)
    assert not priced
    assert not [event for event in told if isinstance(event, Pricing)]
    names = ("design.txt", "recipe.yaml")
    assert [(first.folder / name).read_text() for name in names] == [(second.folder / name).read_text() for name in names]


@pytest.mark.parametrize(
    ("network", "limit_s"),
    [("compact", 1.0), ("compact(scale=2)", 1.0), (None, None)],
    ids=["named", "named wide", "no limit"],
)
def test_a_named_network_and_a_training_without_limit_stay_as_they_are(
    squares: Path, priced: list[StepConfig], network: str | None, limit_s: float | None
) -> None:
    run, told = trained(squares, quick(time_limit_s=limit_s), network=network, should_stop=lambda: True)
    expected = resolve_network(network or "compact", input_shape=(1, 12, 12), num_classes=2, num_samples=162)
    assert (run.folder / "design.txt").read_text() == expected.text + "\n"
    assert json.loads((run.folder / "data.json").read_text())["network_reason"] == ""
    assert not priced
    assert not [event for event in told if isinstance(event, Pricing)]


@pytest.mark.long
def test_the_weights_of_the_usual_scale_are_those_without_a_limit(squares: Path, priced: list[StepConfig]) -> None:
    runs = [
        trained(squares, quick(time_limit_s=limit_s), should_stop=lambda: True)[0] for limit_s in (fitting(128, 1), None)
    ]
    one, two = (run.module.state_dict() for run in runs)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_network_whose_step_does_not_fit_into_the_memory_is_no_rung(
    squares: Path, priced: list[StepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(width_search, "memory_bytes", lambda: 1_000_000)
    run, _ = trained(squares, quick(time_limit_s=fitting(999, 1)), should_stop=lambda: True)
    reason = json.loads((run.folder / "data.json").read_text())["network_reason"]
    assert (
        reason
        == "compact(scale=1): about 53 s for 1 epoch on this machine, and there are 6 min 56 s; nothing wider is left."
    )


@pytest.mark.long
def test_no_scale_wider_than_the_cap_is_taken(
    squares: Path, priced: list[StepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(width_search, "WIDEST", 1.5)
    run, _ = trained(squares, quick(time_limit_s=fitting(999, 1)), should_stop=lambda: True)
    assert json.loads((run.folder / "data.json").read_text())["network"] == "compact(scale=1.5)"


def test_a_scale_that_does_not_take_the_persons_curriculum_is_no_rung(
    squares: Path, priced: list[StepConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = visus.open_data(squares)
    fewest = min(rung.made.num_parameters for rung in width_search._usable(Recipe(), data, rungs_machine(), ALONE, None))

    def takes_smaller(module: torch.nn.Module, *_: Any) -> bool:
        return sum(values.numel() for values in module.parameters()) > fewest

    monkeypatch.setattr(width_search, "takes_smaller", takes_smaller)
    for progressive_resize, expected in (("0.75, 1", [0.5, 1.0, 1.5, 2.0]), (None, list(SCALES))):
        found = width_search._usable(
            Recipe(time_limit_s=9, progressive_resize=progressive_resize), data, rungs_machine(), ALONE, None
        )
        assert [rung.scale for rung in found] == expected


@pytest.mark.long
def test_the_command_line_reports_the_reason(
    squares: Path, priced: list[StepConfig], visus_command: Callable[..., Any]
) -> None:
    words = ("--epochs", 1, "-b", 90, "--precision", "float32", "-o", squares.parent / "runs")
    answer = visus_command("train", squares, "--time-limit", "27s", *words)
    assert answer.code == 0
    assert "measuring once how long compact(scale=0.5) takes on this machine\n" in answer.err
    assert (
        "width     compact(scale=0.5): about 27 s for 1 epoch on this machine, and there are 27 s; compact(scale=1) would take about 53 s.\n"
        in answer.err
    )
    assert "network   compact(scale=0.5), " in answer.err


@pytest.mark.parametrize(
    ("limit_s", "slow_s", "measured", "scale", "said"),
    [
        (fitting(64, 1) + 20, 20.0, [1.0], 0.25, "(estimated, to save time)."),  # 0.5 is estimated to be too slow
        (4.0, 20.0, [], 0.25, ": the narrowest, since 4 s leave no time to measure a step."),
        (fitting(128, 1) + 20, 20.0, [1.0], 1.0, "as much."),
    ],
)
def test_a_slow_machine_ends_the_search_before_the_time_is_used_up(
    squares: Path,
    priced: list[StepConfig],
    monkeypatch: pytest.MonkeyPatch,
    limit_s: float,
    slow_s: float,
    measured: list[float],
    scale: float,
    said: str,
) -> None:
    """Each measurement takes ``slow_s`` seconds of the clock."""
    monkeypatch.setattr(width_search.WidthSearch, "_spent_s", lambda self: slow_s * len(priced))
    data = visus.open_data(squares)
    recipe = quick(time_limit_s=limit_s)
    usual = width_search.make_network(None, data.input_shape, 2, num_samples=162)
    made, _ = width_search.within_limit(usual, recipe, limit_s, data, rungs_machine(), ALONE, None, SILENT)
    assert len(priced) == len(measured)
    assert made.reason.startswith(f"compact(scale={scale:g}): ")
    assert made.reason.endswith(said)


def test_the_docstring_of_compact_lists_its_scales() -> None:
    *others, widest = (f"{scale:g}" for scale in SCALES)
    assert f"scale: {', '.join(others)} or {widest}." in (compact.__doc__ or "")
