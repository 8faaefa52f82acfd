"""Steps in slices: the same gradients as whole steps, chosen by themselves where memory is short, and told."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import visus
from visus.data.batches import Batch
from visus.errors import RecipeError, TrainingError
from visus.events import Finished, StepDivided, StepDone, Stop
from visus.training.checkpoints import read_position
from visus.training.distribution import Group
from visus.training.facts import DataFacts, NetworkFacts
from visus.training.loss import Loss
from visus.training.memory import has_batch_norms, is_out_of_memory
from visus.training.recipe import Recipe
from visus.training.resolve import resolve
from visus.training.steps import TrainingSteps
from visus.workbench.train.processes import refuse_too_many

pytestmark = pytest.mark.usefixtures("light_pages")

WITHOUT_NORMS = "conv(4, 3, padding=1), relu, globalpool, linear(classes)"
WITH_NORMS = "conv(4, 3, padding=1), norm, relu, dropout(0.2), globalpool, linear(classes)"
InProcesses = Callable[..., list[Any]]


def weights_of(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights" / f"{which}.safetensors")


def largest_difference(one: Path, two: Path) -> float:
    first, second = weights_of(one), weights_of(two)
    return max(float((first[name].double() - second[name].double()).abs().max()) for name in first)


@given(st.integers(1, 9), st.integers(1, 12), st.booleans(), st.floats(0, 0.5), st.integers(0, 99))
def test_gradients_of_slices_add_up_to_those_of_the_batch(
    num_samples: int, count: int, is_weighted: bool, smoothing: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    layer = nn.Linear(3, 4).double()
    labels = torch.randint(0, 4, (num_samples,), generator=draw)
    batch = Batch(torch.randn(num_samples, 3, generator=draw, dtype=torch.float64), labels, 0)
    loss = Loss(smoothing, torch.rand(4, generator=draw).double() + 0.1 if is_weighted else None)

    def gradients(slices: list[Batch]) -> list[torch.Tensor]:
        layer.zero_grad()
        for each in slices:
            loss.mean(layer(each.inputs), each.labels, each.all_labels).backward()  # type: ignore[no-untyped-call]
        return [parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None]

    slices = batch.slices(count)
    assert len(slices) == min(count, num_samples)
    assert torch.equal(torch.cat([each.labels for each in slices]), labels)
    assert {each.num_samples for each in slices} == {num_samples}
    for whole, parts in zip(gradients([batch]), gradients(slices), strict=True):
        assert torch.allclose(whole, parts, rtol=1e-12, atol=1e-14)


def test_every_field_with_a_value_for_each_sample_is_sliced() -> None:
    @dataclasses.dataclass(frozen=True, repr=False)
    class Mixed(Batch):
        share: torch.Tensor | None = None
        factor: torch.Tensor | None = None

    batch = Mixed(torch.zeros(4, 1), torch.arange(4), 2, share=torch.arange(4) / 4, factor=torch.ones(1))
    first, second = batch.slices(2)
    assert (first.share.tolist(), second.share.tolist(), second.factor, second.step) == (
        [0, 0.25],
        [0.5, 0.75],
        batch.factor,
        2,
    )  # type: ignore[attr-defined]


@pytest.mark.parametrize("settings", [{}, {"class_weights": "balanced"}, {"clip_norm": 0.1}])
def test_a_training_in_slices_is_that_of_whole_steps_without_norms(
    settings: dict[str, Any], squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    recipe = quick.replace(**settings)
    whole = visus.train(squares, WITHOUT_NORMS, recipe, output=tmp_path, progress=False)
    slices = visus.train(squares, WITHOUT_NORMS, recipe.replace(accumulate=3), output=tmp_path, progress=False)
    assert largest_difference(whole.folder, slices.folder) < 2e-5
    for one, two in zip(whole.history, slices.history, strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-4)
    assert slices.recipe.accumulate == 3


@pytest.mark.slow
def test_processes_in_slices_train_as_one_process(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    whole = visus.train(squares, WITHOUT_NORMS, quick, output=tmp_path / "one", progress=False)

    def train() -> None:
        visus.train(squares, WITHOUT_NORMS, quick.replace(accumulate=2), output=tmp_path / "two", progress=False)

    assert in_processes(2, train) == [None, None]
    assert largest_difference(whole.folder, tmp_path / "two" / "squares") < 2e-5


class Short:
    """Memory for so many samples of a step: larger forward passes in training mode fail as PyTorch's do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, num_samples: int, error: Exception) -> None:
        self.seen: list[int] = []
        self.num_samples = num_samples
        whole = nn.Linear.forward

        def forward(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
            if module.training and torch.is_grad_enabled():
                self.seen.append(len(x))
                if len(x) > self.num_samples:
                    raise error
            return whole(module, x)

        monkeypatch.setattr(nn.Linear, "forward", forward)


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
    ),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.long
def test_a_step_that_does_not_fit_is_taken_again_in_slices_and_told(
    error: Exception, squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_out_of_memory(error)
    asked = visus.train(squares, WITH_NORMS, quick.replace(accumulate=4), output=tmp_path, progress=False)
    memory = Short(monkeypatch, 4, error)
    events: list[object] = []
    run = visus.train(squares, WITH_NORMS, quick, output=tmp_path, progress=False, on_event=events.append)
    assert max(memory.seen[-40:]) == 4
    told = [event for event in events if isinstance(event, StepDivided)]
    assert told == [StepDivided(4, 16, True, 0, 0)]
    assert told[-1].sentence == (
        "a step of 16 samples does not fit into memory, so each step is computed in 4 slices; "
        "the gradients are those of the whole batch, except that batch norms use the statistics of a slice"
    )
    # Buffers and random numbers are those of before the failed attempts: all bits are those of a training that was asked for slices.
    assert largest_difference(asked.folder, run.folder) == 0
    (change,) = json.loads((run.folder / "changes.json").read_text())
    assert (change["what"], change["place"]) == ("steps computed in 4 slices, as memory needs", "before the first step")
    assert "steps computed in 4 slices, as memory needs before the first step" in (run.folder / "report.html").read_text()


@pytest.mark.long
def test_a_resumed_training_goes_on_in_slices(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Short(monkeypatch, 8, MemoryError())
    whole = visus.train(squares, WITH_NORMS, quick, output=tmp_path, progress=False)
    seen = 0

    def stop(event: object) -> Stop | None:
        nonlocal seen
        seen += isinstance(event, StepDone)
        return Stop() if isinstance(event, StepDone) and seen == 7 else None

    cut = visus.train(squares, WITH_NORMS, quick, output=tmp_path, progress=False, on_event=stop)
    assert read_position(cut.folder / "checkpoint" / "last.safetensors").num_slices == 2
    memory.num_samples = 100  # on a larger machine: the numbers stay
    assert largest_difference(whole.folder, visus.resume(cut.folder, progress=False).folder) == 0


def test_a_step_that_does_not_fit_in_the_smallest_slices_is_refused(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Short(monkeypatch, 1, MemoryError())
    with pytest.raises(TrainingError, match="it does not fit into memory"):
        visus.train(squares, WITH_NORMS, quick, output=tmp_path, progress=False)


def test_only_norms_that_use_the_batch_are_told() -> None:
    assert not has_batch_norms(nn.Sequential(nn.LayerNorm(3)))


def bytes_of_step(num_samples: int, optimizer: str) -> int:
    return 100 * num_samples


@pytest.mark.parametrize(("memory_bytes", "slices"), [(10_000, 1), (6_400, 1), (6_399, 2), (1_600, 4), (1, 32)])
def test_slices_follow_from_memory_and_have_two_samples_at_least(memory_bytes: int, slices: int) -> None:
    network = NetworkFacts(step_bytes=bytes_of_step, memory_bytes=memory_bytes)
    decided = resolve(Recipe(batch_size=64), DataFacts(7_200, (1, 28, 28)), network)
    assert decided.accumulate == slices
    assert ("accumulate" in decided.reasons) == (slices > 1)
    asked = resolve(Recipe(batch_size=64, accumulate=8), DataFacts(7_200, (1, 28, 28)), network)
    assert asked.accumulate == 8


def test_a_design_that_needs_more_than_the_machine_is_computed_in_slices(
    squares: Path, tmp_path: Path, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = visus.summary(WITH_NORMS, (1, 8, 8), 3).bytes_training(16, "adamw")
    monkeypatch.setattr("visus.workbench.train.preparing.memory_bytes", lambda: needed - 1)
    run = visus.train(squares, WITH_NORMS, quick.replace(epochs=1, optimizer="adamw"), output=tmp_path, progress=False)
    assert run.recipe.accumulate == 2
    assert "here: a step of 16 samples may need more than the " in (run.folder / "recipe.yaml").read_text()


def test_more_slices_than_samples_are_refused(quick: Recipe) -> None:
    expected = "accumulate=9 divides batches of 8 into more slices than samples. Take at most 8, or larger batches."
    with pytest.raises(RecipeError, match=f"^{re.escape(expected)}$"):
        resolve(Recipe(batch_size=8, accumulate=9), DataFacts(100, (1, 28, 28)), NetworkFacts())
    recipe = resolve(Recipe(batch_size=8, accumulate=5), DataFacts(100, (1, 28, 28)), NetworkFacts())
    expected = (
        "accumulate=5 divides the 4 samples of a process into more slices than samples. Take at most 4, or fewer processes."
    )
    with pytest.raises(RecipeError, match=f"^{re.escape(expected)}$"):
        refuse_too_many(Group(0, 2), recipe, visus.networks.machine.choose("cpu"))


# ---- float16 ----


def test_float16_trains_with_scaled_gradients(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    whole = visus.train(squares, WITHOUT_NORMS, quick, output=tmp_path, progress=False)
    half = visus.train(squares, WITHOUT_NORMS, quick.replace(precision="float16"), output=tmp_path, progress=False)
    assert [*half.history][-1]["train_loss"] == pytest.approx([*whole.history][-1]["train_loss"], rel=0.02)
    assert read_position(half.folder / "checkpoint" / "last.safetensors").loss_scale["scale"] > 0
    assert read_position(whole.folder / "checkpoint" / "last.safetensors").loss_scale == {}


@pytest.mark.parametrize("num_steps", [2, 6])
def test_float16_resumes_bit_for_bit_with_its_scale(
    num_steps: int, squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    construct = torch.amp.GradScaler.__init__

    def grow_soon(self: torch.amp.GradScaler, device: str, *, enabled: bool) -> None:
        construct(self, device, enabled=enabled, growth_interval=2)

    monkeypatch.setattr(torch.amp.GradScaler, "__init__", grow_soon)
    recipe = quick.replace(precision="float16", clip_norm=1.0)
    asked = iter(range(1, 100))
    whole = visus.train(squares, WITH_NORMS, recipe, output=tmp_path, progress=False)
    cut = visus.train(
        squares, WITH_NORMS, recipe, output=tmp_path, progress=False, should_stop=lambda: next(asked) >= num_steps
    )
    resumed = visus.resume(cut.folder, progress=False)
    assert largest_difference(whole.folder, resumed.folder) == 0
    ends = [read_position(run.folder / "checkpoint" / "last.safetensors") for run in (whole, resumed)]
    assert ends[0].loss_scale == ends[1].loss_scale
    assert ends[0].loss_scale["scale"] > 65_536


def test_steps_with_infinite_gradients_are_skipped_counted_and_told(
    squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, calls = TrainingSteps._add_gradients, iter(range(100))

    def overflow(self: TrainingSteps, *given: Any) -> Any:
        found = whole(self, *given)
        if next(calls) in (1, 4):
            parameter = next(self.module.parameters())
            assert parameter.grad is not None
            parameter.grad.fill_(math.inf)
        return found

    monkeypatch.setattr(TrainingSteps, "_add_gradients", overflow)
    events: list[object] = []
    run = visus.train(
        squares, WITHOUT_NORMS, quick.replace(precision="float16"), output=tmp_path, progress=True, on_event=events.append
    )
    assert [event.num_skipped for event in events if isinstance(event, Finished)] == [2]
    assert "2 steps skipped (infinite gradients in float16)" in capsys.readouterr().err
    assert (
        "computed in float16, with 2 steps skipped because gradients were infinite"
        in (run.folder / "report.html").read_text()
    )
    assert all(bool(torch.isfinite(value).all()) for value in weights_of(run.folder).values())


# ---- on a GPU ----


@pytest.mark.gpu
def test_a_step_that_does_not_fit_a_gpu_is_taken_in_slices(squares: Path, tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=64, precision="float32", device="cuda", optimizer="adamw")
    whole = visus.train(squares, WITHOUT_NORMS, recipe, output=tmp_path, progress=False)
    kept = torch.cuda.memory_reserved()
    torch.cuda.set_per_process_memory_fraction(1.0)
    wide = "conv(2048, 3, padding=1), relu, conv(64, 1), relu, globalpool, linear(classes)"
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (kept + 90 * 2**20) / total))
    try:
        events: list[object] = []
        run = visus.train(squares, wide, recipe, output=tmp_path, progress=False, on_event=events.append)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert free > 0
    assert whole.scores.num_samples == run.scores.num_samples
    assert [event for event in events if isinstance(event, StepDivided)]


@pytest.mark.gpu
def test_float16_trains_on_a_gpu(squares: Path, quick: Recipe, tmp_path: Path) -> None:
    recipe = quick.replace(device="cuda")
    whole = visus.train(squares, WITHOUT_NORMS, recipe, output=tmp_path, progress=False)
    half = visus.train(squares, WITHOUT_NORMS, recipe.replace(precision="float16"), output=tmp_path, progress=False)
    assert [*half.history][-1]["train_loss"] == pytest.approx([*whole.history][-1]["train_loss"], rel=0.05)
