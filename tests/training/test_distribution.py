"""Several processes: the same training as one, decided and told by the first, and gone on with when one is lost."""

from __future__ import annotations

import copy
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed as dist
from torch import nn

import visus
from visus.errors import ProcessLostError, RecipeError, UsageError
from visus.networks import step_cost
from visus.networks.fast import autotuner, eligibility, fusion, is_sped_up, norms, speed_up, why_no_kernels
from visus.networks.fast.autotuner import ConvProblem, Plan
from visus.networks.fast.convolutions import PER_TAP_GEMM
from visus.networks.fast.windows import TapGeometry
from visus.networks.step_cost import StepConfig, StepCost
from visus.training import distribution
from visus.training.arithmetic import make_autotuner
from visus.training.distribution import ALONE, Group, join_group, refuse_shared_device, report_first_error
from visus.training.events import EpochDone, StepDone
from visus.training.gradients import average_gradients, seed_step
from visus.training.loop import TrainingLoop
from visus.training.norms import synchronize_batch_norms
from visus.training.recipe import Recipe
from visus.workbench.train.events import Prepared
from visus.workbench.train.processes import share_of
from visus.workbench.train.width_search import ALLOWANCE

with pytest.MonkeyPatch.context() as switch:  # the other tests train without them
    switch.delenv("VISUS_KERNELS", raising=False)
    WHY_NOT = why_no_kernels()
InProcesses = Callable[..., list[Any]]
NETWORK = "conv(4, 3, padding=1), norm, relu, globalpool, linear(classes)"
DROPPED = "conv(4, 3, padding=1), norm, relu, dropout(0.3), globalpool, linear(classes)"
WHITENED = "whiten, conv(6, 3, padding=1), norm, relu, globalpool, linear(classes)"


def weights_of(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "weights" / f"{which}.safetensors")


def largest_difference(first: Path, second: Path) -> float:
    one, two = weights_of(first), weights_of(second)
    assert one.keys() == two.keys(), "names do not change"
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def trained(squares: Path, recipe: Recipe, output: Path, network: str = NETWORK, stop_at: int = 0) -> list[Any]:
    """Rows of the epochs, and how many steps were told; the run ends after ``stop_at`` steps where that is not 0."""
    rows, steps = [], []

    def follow(event: object) -> None:
        if isinstance(event, EpochDone):
            rows.append(event.row)
        if isinstance(event, StepDone):
            steps.append(event)

    stop = (lambda: len(steps) == stop_at and join_group().is_first) if stop_at else None
    visus.train(squares, network, recipe, output=output, on_event=follow, should_stop=stop)
    return rows


# ---- the same numbers as one process ----


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((5, 4), torch.contiguous_format),
        ((2, 4), torch.contiguous_format),
        ((5, 4, 7), torch.contiguous_format),
        ((5, 4, 3, 6), torch.contiguous_format),
        ((5, 4, 3, 6), torch.channels_last),
        ((4, 4, 3, 2, 5), torch.channels_last_3d),
    ],
)
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.long
def test_norms_of_slices_are_those_of_the_whole_batch_with_their_gradients(
    in_processes: InProcesses, shape: tuple[int, ...], layout: torch.memory_format, momentum: float | None
) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = (3 + 2 * torch.randn(shape, generator=generator)).contiguous(memory_format=layout)
    gradient = torch.randn(shape, generator=generator)
    kinds: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    norm = kinds[len(shape)](shape[1], momentum=momentum)
    nn.init.normal_(norm.weight, generator=generator)
    together = copy.deepcopy(norm)
    whole = maps.clone().requires_grad_()
    out = norm(whole)
    out.backward(gradient)

    def slice_of_it() -> list[torch.Tensor]:
        group = join_group()
        mine = slice(shape[0] * group.rank // group.size, shape[0] * (group.rank + 1) // group.size)
        part = maps[mine].contiguous(memory_format=layout).requires_grad_()
        with synchronize_batch_norms(together, is_alone=False):
            assert type(together) is not type(norm)
            found = together(part)
            found.backward(gradient[mine])
        assert type(together) is type(norm)
        assert part.grad is not None
        sums = [group.all_reduce(each.grad) for each in (together.weight, together.bias)]
        return [found.detach(), part.grad, *sums, together.running_mean, together.running_var]

    first, second = in_processes(2, slice_of_it)
    assert torch.allclose(torch.cat([first[0], second[0]]), out, atol=1e-5)
    assert whole.grad is not None
    assert torch.allclose(torch.cat([first[1], second[1]]), whole.grad, atol=1e-5)
    for found in (first, second):
        for value, expected in zip(
            found[2:], (norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var), strict=True
        ):
            assert torch.allclose(value, expected, atol=1e-5)


@pytest.mark.skipif(bool(WHY_NOT), reason=f"no compiled kernels: {WHY_NOT}")
@pytest.mark.parametrize("is_asked", [True, False], ids=["maps have gradients", "maps have none"])
@pytest.mark.parametrize("least", [0, 4 * 32 * 6 * 6], ids=["all joined", "the smaller slice not"])
def test_norms_of_slices_that_are_joined_with_activations_are_as_exact_as_those_of_the_whole_batch(
    in_processes: InProcesses, monkeypatch: pytest.MonkeyPatch, least: int, is_asked: bool
) -> None:
    monkeypatch.delenv("VISUS_KERNELS", raising=False)
    monkeypatch.setattr(eligibility, "MIN_VALUES", least)
    network = nn.Sequential(nn.BatchNorm2d(32), nn.GELU())
    generator = torch.Generator().manual_seed(0)
    nn.init.normal_(network[0].weight, generator=generator)
    maps = (3 + 2 * torch.randn(7, 32, 6, 6, generator=generator)).bfloat16().contiguous(memory_format=torch.channels_last)
    gradient = torch.randn(7, 32, 6, 6, generator=generator).bfloat16()

    def numbers(network: nn.Sequential, maps: torch.Tensor, gradient: torch.Tensor) -> list[torch.Tensor]:
        given = maps.detach().requires_grad_(is_asked)
        out = network(given)
        out.backward(gradient)
        of_maps = torch.zeros_like(maps) if given.grad is None else given.grad
        return [out.detach(), of_maps, *(each.grad for each in network.parameters()), *network.buffers()]

    def slice_of_it() -> tuple[bool, list[torch.Tensor]]:
        group = join_group()
        mine = slice(0, 4) if group.is_first else slice(4, 7)
        joined = []
        real = norms.norm_and_activation
        patch = pytest.MonkeyPatch()
        patch.setattr(eligibility, "MIN_VALUES", least)
        patch.setattr(fusion, "norm_and_activation", lambda *given: (joined.append(given), real(*given))[1])
        with synchronize_batch_norms(network, is_alone=False):
            found = numbers(speed_up(network), maps[mine], gradient[mine])
        return bool(joined), found[:2] + [group.all_reduce(each) for each in found[2:4]] + found[4:]

    (is_first_joined, first), (is_second_joined, second) = in_processes(2, slice_of_it)
    assert (is_first_joined, is_second_joined) == (True, least == 0)
    exact = numbers(copy.deepcopy(network).double(), maps.double(), gradient.double())
    whole = numbers(network, maps, gradient)
    found = [torch.cat(both) for both in zip(first[:2], second[:2], strict=True)] + first[2:]
    for mine, theirs, true in zip(found, whole, exact, strict=True):
        error, other = float((mine - true).double().norm()), float((theirs - true).double().norm())
        assert error <= max(1.5 * other, 1e-5 * float(true.double().norm()))
    for one, two in zip(first[4:], second[4:], strict=True):
        torch.testing.assert_close(one, two, rtol=0 if least == 0 else 1e-5, atol=0)


@pytest.mark.parametrize(
    ("num", "settings", "network"),
    [
        pytest.param(
            *(2, {"optimizer": "sgd", "class_weights": "balanced", "label_smoothing": 0.2, "clip_norm": 0.5}, NETWORK),
            marks=pytest.mark.slow,
        ),
        (2, {"optimizer": "sgd", "class_weights": "balanced", "mixup": 0.4, "cutmix": 1.0, "color": 0.2}, NETWORK),
        pytest.param(
            3, {"optimizer": "muon", "flip": "random", "translate": 0.2, "cutout": 0.3}, NETWORK, marks=pytest.mark.slow
        ),
        pytest.param(2, {"optimizer": "sgd", "zoom": 0.2, "progressive_resize": "1"}, WHITENED, marks=pytest.mark.slow),
    ],
)
@pytest.mark.long
def test_several_processes_train_as_one_does_with_the_whole_batch(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path, num: int, settings: dict[str, Any], network: str
) -> None:
    # Of whiten's constants by SGD alone: before a norm they have no gradient but rounding, and Adam makes full steps of that.
    recipe = quick.replace(batch_size=17, epochs=2, **settings)
    alone = trained(squares, recipe, tmp_path / "one", network)
    told = in_processes(num, trained, squares, recipe, tmp_path / "more", network)
    assert largest_difference(tmp_path / "one" / "squares", tmp_path / "more" / "squares") < 2e-5
    for rows in told:
        for row, expected in zip(rows, alone, strict=True):
            for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
                assert row[name] == pytest.approx(expected[name], abs=1e-5)
    clocks = [[row["elapsed_seconds"] for row in rows] for rows in told]
    assert all(clock == clocks[0] for clock in clocks), "the first one's clock is everybody's"


def test_evaluation_counts_each_sample_once(in_processes: InProcesses) -> None:
    rows = torch.arange(22.0).reshape(11, 2)

    def gathered() -> torch.Tensor:
        group = join_group()
        mine = share_of(group).of(11)
        return group.all_gather(rows[mine], mine, 11)

    assert all(torch.equal(found, rows) for found in in_processes(3, gathered))


@pytest.mark.slow
def test_a_validation_split_smaller_than_the_group_is_scored_by_all(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    def with_one_sample() -> list[Any]:
        before = TrainingLoop.__post_init__

        def fewer(self: TrainingLoop) -> None:
            self.validation = self.validation.slice(slice(0, 1))
            before(self)

        pytest.MonkeyPatch().setattr(TrainingLoop, "__post_init__", fewer)
        return trained(squares, quick.replace(epochs=1), tmp_path)

    first, second = in_processes(2, with_one_sample)
    assert first[0]["val_loss"] == second[0]["val_loss"] > 0


def test_processes_drop_other_values_and_the_same_again(in_processes: InProcesses) -> None:
    def dropped(step: int) -> torch.Tensor:
        seed_step(join_group(), 0, step)
        return torch.rand(4)

    first, second = in_processes(2, dropped, 3)
    assert not torch.equal(first, second)
    assert torch.equal(first, in_processes(2, dropped, 3)[0])
    assert not torch.equal(first, in_processes(2, dropped, 4)[0])


# ---- one decides ----


@pytest.mark.slow
def test_a_stopped_training_of_two_processes_goes_on_bit_for_bit(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    recipe = quick.replace(checkpoint_every_s=0.0)
    in_processes(2, trained, squares, recipe, tmp_path / "whole", DROPPED)
    in_processes(2, trained, squares, recipe, tmp_path / "stopped", DROPPED, 8)
    assert not (tmp_path / "stopped" / "squares" / "scores.json").exists()
    runs = in_processes(2, lambda: str(visus.resume(tmp_path / "stopped" / "squares").folder))
    assert runs == [str(tmp_path / "stopped" / "squares")] * 2
    for which in ("best", "last"):
        one, two = (weights_of(tmp_path / name / "squares", which) for name in ("whole", "stopped"))
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.long
def test_a_run_is_written_by_the_first_process_alone(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    def others_cannot_write() -> list[Any]:
        if not join_group().is_first:
            pytest.MonkeyPatch().delattr(os, "replace")  # by which every whole file gets its name
        return trained(squares, quick, tmp_path)

    first, second = in_processes(2, others_cannot_write)
    assert first == second
    assert [path.name for path in tmp_path.iterdir()] == ["squares"]
    assert {"scores.json", "report.html", "results.csv", "confusion.png"} <= {
        path.name for path in (tmp_path / "squares").iterdir()
    }


def test_all_compute_by_the_first_ones_choices(
    in_processes: InProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = ConvProblem((4, 64, 32, 32), (64, 64, 3, 3), TapGeometry((1, 1), (1, 1)), False, 1)
    monkeypatch.setenv("VISUS_CACHE", str(tmp_path))

    def planned() -> Plan:
        group = join_group()
        measured = Plan(weight_gradient=PER_TAP_GEMM if group.is_first else "oneDNN")
        pytest.MonkeyPatch().setattr(autotuner, "measured", lambda case: measured)
        own = ConvProblem((4 + group.rank, *case.maps[1:]), case.weight, case.window, False, 1)
        return make_autotuner(group, tmp_path / "arithmetic.json", 9).plan(own)

    assert in_processes(2, planned) == [Plan(weight_gradient=PER_TAP_GEMM)] * 2
    assert "5x64x32x32" in (tmp_path / "arithmetic.json").read_text()


@pytest.mark.slow
def test_all_train_the_network_that_the_first_one_measured(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(work: StepConfig, module: nn.Module, optimizer: torch.optim.Optimizer, until: float) -> StepCost:
        assert join_group().is_first
        assert work.batch_size == 8, "what one process has of a batch of 16"
        width = max(part.out_channels for part in module.modules() if isinstance(part, nn.Conv2d))
        return StepCost((0.0,), width / 32)

    monkeypatch.setenv("VISUS_CACHE", str(tmp_path / "cache"))

    def chosen() -> list[str]:
        pytest.MonkeyPatch().setattr(step_cost, "measured", measured)
        pytest.MonkeyPatch().setattr("visus.workbench.train.time_limit.TimeLimit.left", lambda self, ending_s: self.seconds)
        told: list[Any] = []
        recipe = quick.replace(epochs=2, learning_rate=None, time_limit_s=ALLOWANCE * 12 * 16 / 32)
        run = visus.train(squares, recipe=recipe, output=tmp_path / "runs", on_event=told.append)
        (prepared,) = (event for event in told if isinstance(event, Prepared))
        widths = [str(part.out_channels) for part in run.module.modules() if isinstance(part, nn.Conv2d)]
        return [prepared.network.asked, prepared.network.reason, *widths]

    first, second = in_processes(2, chosen)
    assert first == second
    assert first[0] == "compact(scale=0.5)"
    assert first[1].startswith("compact(scale=0.5): about ")


def test_a_network_that_computes_fast_is_unchanged_after_a_block_with_synchronized_batch_norms() -> None:
    network = speed_up(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()))
    before = [type(part) for part in network]
    with synchronize_batch_norms(network, is_alone=False):
        assert not is_sped_up(network)
    assert [type(part) for part in network] == before


# ---- errors ----


def test_more_processes_than_samples_in_a_batch_are_refused(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    errors = in_processes(2, trained, squares, quick.replace(batch_size=1), tmp_path)
    assert [type(error) for error in errors] == [RecipeError] * 2
    assert (
        str(errors[0])
        == "batches of 1 cannot be shared by 2 processes. Take a --batch-size of at least 2, or fewer processes."
    )
    assert not list(tmp_path.iterdir())


def test_more_processes_than_graphics_processors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refuse_shared_device(Group(0, 2, 0, 2), torch.device("cpu"))
    with pytest.raises(UsageError) as caught:
        refuse_shared_device(Group(0, 2, 0, 2), torch.device("cuda"))
    assert str(caught.value) == (
        "2 processes need a GPU each, and this machine has 1. Start 1 (torchrun --nproc-per-node 1), or use --device cpu."
    )


def test_an_error_of_any_process_is_reported_once_and_not_again_by_those_that_are_started_again(
    in_processes: InProcesses,
) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def failing() -> None:
        with report_first_error(join_group()):
            if join_group().rank == 1:
                raise RecipeError("a mistake.")
            join_group().barrier()

    first, second, third = in_processes(3, failing, store=store)
    assert (type(second), str(second)) == (RecipeError, "a mistake.")
    assert [each.code for each in (first, third)] == [1, 1]
    again = in_processes(3, failing, store=store)
    assert [(type(each), each.code) for each in again] == [(SystemExit, 2)] * 3


def test_an_error_of_all_processes_is_known_by_one(in_processes: InProcesses) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def failing() -> None:
        with report_first_error(join_group()):
            raise RecipeError("a mistake.")

    kinds = [type(each) for each in in_processes(3, failing, store=store)]
    assert sorted(kind.__name__ for kind in kinds) == ["RecipeError", "SystemExit", "SystemExit"]


@pytest.mark.slow
def test_a_lost_process_is_known_by_the_others_and_a_new_start_goes_on_to_the_same_weights(
    in_processes: InProcesses, squares: Path, quick: Recipe, tmp_path: Path
) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    recipe = quick.replace(checkpoint_every_s=0.0)
    in_processes(2, trained, squares, recipe, tmp_path / "whole", DROPPED)

    def killed(at_step: int) -> list[Any]:
        def follow(event: object) -> None:
            if isinstance(event, StepDone) and event.epoch == 1 and event.step == at_step and join_group().rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return [visus.train(squares, DROPPED, recipe, output=tmp_path / "killed", on_event=follow).folder]

    survivor, gone = in_processes(2, killed, 2, store=store)
    assert gone is None
    assert type(survivor) is ProcessLostError
    assert str(survivor) == (
        "another process of this training exited, and the others cannot continue without it. With torchrun --max-restarts 3, all of them "
        "restart and continue from the last checkpoint; else: visus.resume(folder)"
    )
    assert in_processes(2, killed, 99, store=store) == [[tmp_path / "killed" / "squares"]] * 2
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["squares"]
    one, two = weights_of(tmp_path / "whole" / "squares"), weights_of(tmp_path / "killed" / "squares")
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_processes_that_are_started_again_meet_each_other_and_not_those_that_are_gone(
    in_processes: InProcesses,
) -> None:
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    before = dist.init_process_group

    def late(*arguments: Any, **options: Any) -> None:
        time.sleep(0.5)  # so that the other one looks for this one's address before it is there
        before(*arguments, **options)

    def met() -> int:
        if os.environ["RANK"] == "0":
            pytest.MonkeyPatch().setattr(dist, "init_process_group", late)
        join_group().barrier()
        return join_group().round

    assert [in_processes(2, met, store=store) for _ in range(3)] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.long
def test_processes_that_do_not_come_are_reported(in_processes: InProcesses) -> None:
    def first_alone() -> None:
        pytest.MonkeyPatch().setattr(distribution, "RENDEZVOUS_TIMEOUT", timedelta(seconds=0.5))
        os.environ["WORLD_SIZE"] = "2"
        join_group()

    (error,) = in_processes(1, first_alone)
    assert (
        str(error)
        == "only 1 of 2 processes started within 0:00:00.500000. Read the output of the others, and start all processes again."
    )


@pytest.mark.slow
@pytest.mark.parametrize("num", [2, 3])
def test_a_process_that_is_killed_while_they_connect_ends_the_others(in_processes: InProcesses, num: int) -> None:
    def connecting() -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(distribution, "CONNECT_TIMEOUT", timedelta(seconds=1))
        if os.environ["RANK"] == str(num - 1):
            patch.setattr(dist, "init_process_group", lambda *given, **options: os.kill(os.getpid(), signal.SIGKILL))
        join_group()

    *others, gone = in_processes(num, connecting)
    assert gone is None
    assert [type(each) for each in others] == [ProcessLostError] * (num - 1)


@pytest.mark.slow
def test_connected_processes_wait_longer_for_each_other_than_for_their_connections(in_processes: InProcesses) -> None:
    def slow() -> bool:
        pytest.MonkeyPatch().setattr(distribution, "CONNECT_TIMEOUT", timedelta(seconds=1))
        group = join_group()
        time.sleep(1.5 if group.rank else 0)
        group.barrier()
        return True

    assert in_processes(2, slow) == [True, True]


def test_a_process_that_was_forked_within_a_lookup_of_a_name_ends(in_processes: InProcesses) -> None:
    def without_names() -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(distribution, "CONNECT_TIMEOUT", timedelta(seconds=0.2))
        patch.setattr(socket, "getnameinfo", lambda *_: time.sleep(60))  # as with the lock of a thread that is not there
        os.environ |= {"WORLD_SIZE": "2", "RANK": "1"}
        join_group()

    (error,) = in_processes(1, without_names)
    assert type(error) is ProcessLostError
    assert str(error) == (
        "this process was forked while its parent looked up a host name, so its own lookups never return. Start the processes of a training with "
        "torchrun, or with multiprocessing and the method 'spawn' or 'forkserver'."
    )


@pytest.mark.slow
def test_a_store_that_cannot_be_reached_or_opened_is_reported(in_processes: InProcesses) -> None:
    def second_alone() -> None:
        pytest.MonkeyPatch().setattr(distribution, "RENDEZVOUS_TIMEOUT", timedelta(seconds=0.5))
        os.environ |= {"WORLD_SIZE": "2", "RANK": "1", "MASTER_PORT": "9"}
        join_group()

    (error,) = in_processes(1, second_alone)
    assert type(error) is ProcessLostError
    assert str(error) == (
        "the first process of this training does not answer at 127.0.0.1:9 (MASTER_ADDR and MASTER_PORT). "
        "Read its output, and start all processes again."
    )
    taken = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def first_at(address: str, port: int) -> None:
        os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": address, "MASTER_PORT": str(port)}
        pytest.MonkeyPatch().setattr(distribution, "RENDEZVOUS_TIMEOUT", timedelta(seconds=0.5))
        join_group()

    (error,) = in_processes(1, first_at, "127.0.0.1", taken.port)
    assert (type(error), str(error)) == (
        UsageError,
        f"another program uses 127.0.0.1:{taken.port} (MASTER_ADDR and MASTER_PORT). Set MASTER_PORT to a free port.",
    )
    (error,) = in_processes(1, first_at, "192.0.2.1", 0)
    assert (type(error), str(error)) == (
        UsageError,
        "the first process cannot listen at 192.0.2.1:0 (MASTER_ADDR and MASTER_PORT). "
        "Set MASTER_ADDR to an address of its machine.",
    )


@pytest.mark.parametrize(
    ("name", "value", "least"), [("WORLD_SIZE", "two", 1), ("WORLD_SIZE", "0", 1), ("RANK", "-1", 0), ("MASTER_PORT", "", 0)]
)
def test_what_a_launcher_sets_wrongly_is_reported(in_processes: InProcesses, name: str, value: str, least: int) -> None:
    def wrong() -> None:
        os.environ |= {"WORLD_SIZE": "2", name: value}
        join_group()

    (error,) = in_processes(1, wrong)
    assert type(error) is UsageError
    assert str(error) == (
        f"the environment variable {name} is {value!r}, and a whole number of at least {least} is needed. "
        "torchrun sets it; unset RANK and WORLD_SIZE to train in one process."
    )


def test_a_number_of_a_process_beyond_their_count_is_reported(in_processes: InProcesses) -> None:
    def wrong() -> None:
        os.environ |= {"WORLD_SIZE": "2", "RANK": "2"}
        join_group()

    (error,) = in_processes(1, wrong)
    assert str(error) == (
        "RANK is 2 and WORLD_SIZE is 2: the processes are numbered from 0 to 1. "
        "torchrun sets both; unset them to train in one process."
    )


def test_a_process_by_itself_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert join_group() is ALONE
    assert ALONE.broadcast([1.0]) == [1.0]
    assert ALONE.broadcast_text("a") == "a"
    assert ALONE.recall("run") == ""
    rows = torch.ones(2, 3)
    assert ALONE.all_reduce(rows) is rows


# ---- as a person starts them ----


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes of torchrun in /proc")
def test_torchrun_goes_on_after_a_kill_with_one_log_and_the_same_weights(squares: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("epochs: 12\nbatch_size: 8\ncheckpoint_every_s: 0.2\nprecision: float32\n")

    def start(name: str) -> subprocess.Popen[str]:
        words = [
            "train",
            str(squares),
            "-m",
            DROPPED,
            "-c",
            str(tmp_path / "recipe.yaml"),
            "-o",
            str(tmp_path),
            "--name",
            name,
        ]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "3", "-m", "visus", *words]
        return subprocess.Popen(
            [sys.executable, *launcher], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )

    whole = start("whole")
    out, said = whole.communicate(timeout=300)
    assert (whole.returncode, out) == (0, f"{tmp_path / 'whole'}\n")
    for words in ("data      ", "network   ", "\n12/12 ", "report    "):
        assert said.count(words) == 1, said
    killed = start("killed")
    while not (tmp_path / "killed" / "results.csv").exists():
        assert killed.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    out, said = killed.communicate(timeout=300)
    assert (killed.returncode, out) == (0, f"{tmp_path / 'killed'}\n")
    assert said.count("resumed   in epoch") == 1
    for which in ("best", "last"):
        one, two = weights_of(tmp_path / "whole", which), weights_of(tmp_path / "killed", which)
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_pytorch_does_not_warn_of_the_layout_of_gradients(
    in_processes: InProcesses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUS_KERNELS", raising=False)
    maps = torch.randn(16, 96, 8, 8).contiguous(memory_format=torch.channels_last)

    def told() -> list[str]:
        pytest.MonkeyPatch().setattr(autotuner, "measured", lambda case: Plan(weight_gradient=PER_TAP_GEMM))
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(96, 256, 1, bias=False), nn.ReLU()).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        speed_up(module, autotuner.Autotuner(tmp_path / f"choices-{join_group().rank}.json"))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            network = average_gradients(module, join_group())
            with torch.autocast("cpu", torch.bfloat16):
                out = network(maps)
            out.float().sum().backward()
        return [str(each.message) for each in seen]

    assert in_processes(2, told) == [[], []]
