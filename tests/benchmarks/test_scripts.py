"""The scripts of ``benchmarks/`` that measure speed: their sums, what they read of other programs, and what they refuse."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peers.benchmark import Benchmark, Plan, Raced
from peers.curves import Curve, Point
from peers.entries import read_contestants
from peers.task import Task
from visus.networks.trace import trace
from visus.networks.trace.operators import operator_of
from visus.training.recipe import Recipe

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
MODULES = (
    "measuring",
    "file_to_probability",
    "first_number",
    "plain_pytorch",
    "records_on_gpu",
    "throughput",
    "time_to_accuracy",
    "cifar10_94",
    "trace_speed",
)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that gives a script as a module."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in MODULES:
        sys.modules.pop(name, None)


# ---- sums ----


def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says(scripts: Any) -> None:
    mean_of = scripts("measuring").mean_of
    rng = np.random.default_rng(0)
    found = [mean_of(list(rng.normal(3, 2, 5))) for _ in range(2000)]
    covered = sum(one.low <= 3 <= one.high for one in found) / len(found)
    assert 0.935 < covered < 0.965


def test_a_single_value_has_no_interval(scripts: Any, tmp_path: Path) -> None:
    measuring = scripts("measuring")
    one = measuring.mean_of([2.0])
    assert (one.mean, one.num) == (2.0, 1)
    assert math.isnan(one.low)
    measuring.write_result(tmp_path / "new" / "result.json", {"rows": [one.to_json()]})
    assert '"low": null' in (tmp_path / "new" / "result.json").read_text()


def test_a_ratio_is_the_same_read_from_either_side(scripts: Any) -> None:
    ratio_of = scripts("measuring").ratio_of
    above, below = [2.0, 3.0, 5.0], [4.0, 5.0, 12.0]
    one, other = ratio_of(above, below), ratio_of(below, above)
    assert one.mean == pytest.approx(1 / other.mean)
    assert (one.low, one.high) == (pytest.approx(1 / other.high), pytest.approx(1 / other.low))


def test_the_networks_have_the_sizes_that_are_published(scripts: Any) -> None:
    plain = scripts("plain_pytorch")
    airbench, resnet = plain.Airbench94(), plain.resnet18_small()
    assert airbench(torch.zeros(2, 3, 32, 32)).shape == resnet(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert sum(each.numel() for each in resnet.parameters()) == 11_173_962
    filters = sum(each.numel() for each in airbench.parameters() if each.ndim == 4 and each.requires_grad)
    assert filters == 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)


def test_a_step_costs_what_was_published(scripts: Any) -> None:
    # 708 million operations for the airbench94 network, two for a multiply-add, 3,329 for ResNet-18 with the small stem
    count = scripts("throughput").count_macs
    assert 2 * count("airbench94") == pytest.approx(708e6, rel=0.02)
    assert 2 * count("resnet18") == pytest.approx(3329e6, rel=0.02)


# ---- other programs' words ----

AIRBENCH = """----------------------------------------------------------------------------
|  run     |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |
----------------------------------------------------------------------------
|  warmup  |      0  |     0.1010  |   0.1000  |               |        4.0000  |
|          |   eval  |     0.1010  |   0.1000  |       0.1000  |        9.0000  |
|       0  |      7  |     0.9710  |   0.9300  |               |        2.4000  |
|          |   eval  |     0.9710  |   0.9330  |       0.9405  |        2.5900  |
|       1  |      7  |     0.9700  |   0.9310  |               |        2.4100  |
|          |   eval  |     0.9700  |   0.9320  |       0.9398  |        2.6100  |
Mean: 0.9402    Std: 0.0005
"""
FULCRUM = """[build] e1 on some GPU in 71.2s
[trial 1/3 id=0] train=1.9000s honest=1.9700s acc=0.9391
[trial 2/3 id=1] train=1.7600s honest=1.8200s acc=0.9404
[trial 3/3 id=2] train=1.7700s honest=1.8300s acc=0.9411
"""


def test_final_rows_of_airbench_are_read_without_the_warm_up(scripts: Any) -> None:
    rows = list(scripts("records_on_gpu").airbench_rows(AIRBENCH.splitlines()))
    assert rows == [(2.59, 0.9405), (2.61, 0.9398)]


def test_trials_of_fulcrum_are_read_without_the_first(scripts: Any) -> None:
    assert list(scripts("records_on_gpu").fulcrum_rows(FULCRUM.splitlines())) == [(1.82, 0.9404), (1.83, 0.9411)]


def test_trainings_of_visus_are_read_without_the_first(scripts: Any) -> None:
    lines = ["talk", *(f'{{"seed": {seed}, "seconds": {1.5 + seed}, "accuracy": 0.94}}' for seed in range(3))]
    assert list(scripts("records_on_gpu").visus_rows(lines)) == [(2.5, 0.94), (3.5, 0.94)]


def test_a_block_stops_its_program_after_its_runs(scripts: Any, tmp_path: Path) -> None:
    records = scripts("records_on_gpu")
    (tmp_path / "other.py").write_text(f"import time\nprint({FULCRUM!r}, flush=True)\ntime.sleep(60)\n")
    rows, all_in_s = records.run_block("fulcrum", [sys.executable, str(tmp_path / "other.py")], 2, tmp_path)
    assert rows == [(1.82, 0.9404), (1.83, 0.9411)]
    assert 0 < all_in_s < 30


def test_a_block_that_ends_early_is_reported_with_its_words(scripts: Any, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("raise SystemExit('no paper')\n")
    with pytest.raises(SystemExit) as stop:
        scripts("records_on_gpu").run_block("airbench", [sys.executable, str(tmp_path / "other.py")], 2, tmp_path)
    assert stop.value.code == "airbench gave 0 runs of 2; the end of what it said:\nno paper\n"


def test_the_table_of_records_holds_the_goal_against_each(scripts: Any) -> None:
    records = scripts("records_on_gpu")

    def found(seconds: float) -> Any:
        return records.Found([[(seconds, 0.941), (seconds + 0.02, 0.939)] for _ in range(3)], [60.0, 61.0, 62.0])

    table = records.tabulate({"airbench": found(2.6), "fulcrum": found(1.8), "visus": found(1.7)})
    assert table["visus_to"]["airbench"]["mean"] == pytest.approx(1.71 / 2.61, rel=1e-4)
    assert table["is_reached"] is True
    assert records.tabulate({"airbench": found(2.6), "fulcrum": found(1.6), "visus": found(1.7)})["is_reached"] is False
    assert "| visus | 6 | 94.00 % (" in records.markdown(table)


def test_the_images_for_the_records_are_those_of_the_data(scripts: Any, photos: Path, tmp_path: Path) -> None:
    scripts("records_on_gpu").write_images(str(photos), tmp_path)
    train, test = (torch.load(tmp_path / "cifar10" / f"{name}.pt", weights_only=True) for name in ("train", "test"))
    assert train["images"].shape == (48, 10, 10, 3)
    assert train["images"].dtype == torch.uint8
    assert (len(test["labels"]), test["classes"]) == (12, ["dark", "light"])
    light = train["images"].float().mean((1, 2, 3)) > 125
    assert (light.long() == train["labels"]).all()


# ---- what is refused ----


def words_of(*words: str) -> tuple[int, str]:
    """Exit code and last line of a call of ``records_on_gpu.py``."""
    answer = subprocess.run(
        [sys.executable, str(FOLDER / "records_on_gpu.py"), *words], capture_output=True, text=True, check=False
    )
    return answer.returncode, answer.stderr.strip().splitlines()[-1]


def test_nothing_to_stand_next_to_visus_is_a_mistake_of_usage(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    records = scripts("records_on_gpu")
    for words, said in (
        (["cifar"], "give at least one of --airbench, --hiverge and --fulcrum to stand beside visus"),
        (["cifar", "--airbench", "a.py", "--runs", "55"], "--runs 55 must be a multiple of --block 10"),
    ):
        monkeypatch.setattr(sys, "argv", ["records_on_gpu.py", *words])
        with pytest.raises(SystemExit) as stop:
            records.read_options()
        assert stop.value.code == 2
        assert capsys.readouterr().err.strip().endswith(said)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_machine_without_a_gpu_is_reported_in_one_sentence() -> None:
    code, said = words_of("cifar", "--airbench", "a.py")
    assert code == 1
    assert said == f"records_on_gpu.py needs a CUDA device, and PyTorch {torch.__version__} finds none here."


def test_a_path_with_nothing_at_it_is_reported(scripts: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        scripts("records_on_gpu").bring(str(tmp_path / "absent.py"), tmp_path, "airbench")
    assert str(stop.value.code).endswith(
        "absent.py: there is nothing at this path. Give the path or the address of what is to be run."
    )


# ---- time to accuracy and 94 % ----


def raced(name: str, seconds: float | None) -> Raced:
    """A contestant that reached 0.9 then, or never."""
    one = next(each for each in read_contestants("pytorch,keras") if each.peer == name)
    points = (Point(1, seconds, 0.1, 0.95),) if seconds else ()
    return Raced(one, (Curve(0, 1.0, 100.0, "schedule", points),))


@pytest.mark.parametrize(
    ("keras_s", "pytorch_s", "factor", "is_bound"),
    [(30.0, 50.0, 10.0, False), (None, 24.0, 8.0, False), (None, None, 200.0, True)],
)
def test_the_verdict_is_about_the_best_of_the_others(
    scripts: Any, keras_s: float | None, pytorch_s: float | None, factor: float, is_bound: bool
) -> None:
    result = Benchmark(
        Plan(0.9, (), time_limit_s=600.0),
        (raced("visus", 3.0), raced("pytorch", pytorch_s), raced("keras", keras_s)),
        (),
        {},
        Path(),
    )
    found = scripts("time_to_accuracy").verdict(result)
    assert found["times_faster"] == pytest.approx(factor)
    assert (found["is_lower_bound"], found["is_reached"]) == (is_bound, factor >= 10)


def test_results_of_other_seeds_are_joined_and_of_other_machines_are_not(scripts: Any, tmp_path: Path) -> None:
    script = scripts("time_to_accuracy")
    equal = dict.fromkeys(("time_limit_s", "device", "threads", "network", "recipe", "machine"), 1)
    tables = []
    for seed, seconds in ((0, 3.0), (1, 5.0)):
        facts = {**equal, "target": 0.9, "data": {"name": "set"}, "seeds": [seed], "command": f"seed {seed}"}
        plan = Plan(0.9, (), (seed,), time_limit_s=600.0)
        tables.append(
            Benchmark(plan, (raced("visus", seconds), raced("pytorch", 10 * seconds)), (), facts, Path()).to_json()
        )
    script.write(script.joined(tables), tmp_path / "both.json")
    both = json.loads((tmp_path / "both.json").read_text())
    assert (both["seeds"], both["command"]) == ([0, 1], ["seed 0", "seed 1"])
    assert (both["verdict"]["visus_s"], both["verdict"]["times_faster"]) == (4.0, pytest.approx(10.0))
    assert (tmp_path / "both.png").is_file()
    with pytest.raises(SystemExit) as stop:
        script.joined([tables[0], {**tables[1], "threads": 2}])
    assert stop.value.code == "these results differ in threads, and cannot be joined."
    with pytest.raises(SystemExit) as stop:
        script.joined([tables[0], {**tables[1], "contestants": tables[1]["contestants"][::-1]}])
    assert stop.value.code == "these results have other contestants or versions, and cannot be joined."


def test_choosing_on_train_never_holds_a_test_image(
    scripts: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import visus

    script = scripts("cifar10_94")
    monkeypatch.setattr(script, "HELD_OUT", 10)
    data = visus.open_data(photos)
    path = script.write_arrays(data, "train", tmp_path)
    test = data.split("test")
    forbidden = {sample.tobytes() for sample in np.ascontiguousarray(test.pixels[test.indices].transpose(0, 2, 3, 1))}
    with np.load(path) as arrays:
        parts = [{sample.tobytes() for sample in arrays[f"{name}_images"]} for name in ("train", "test")]
    assert [len(part) for part in parts] == [38, 10]
    assert not parts[0] & parts[1]
    assert not (parts[0] | parts[1]) & forbidden
    again = visus.open_data(path)
    assert len(again.split("test")) == 10


def test_a_plain_epoch_is_timed(scripts: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "train_samples.npy", np.zeros((16, 3, 32, 32), dtype=np.uint8))
    np.save(tmp_path / "train_labels.npy", np.arange(16) % 10)
    assert scripts("cifar10_94").plain_epoch(tmp_path, 16) > 0


def test_a_training_for_94_gets_the_recipe_and_the_network_that_were_chosen(
    scripts: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script, asked = scripts("cifar10_94"), []

    def timed_run(task: dict[str, Any], limits: object, folder: Path) -> tuple[Curve, dict[str, str]]:
        asked.append(Task(**task))
        return Curve(3, 1.0, 9.0, "schedule", (Point(10, 5.0, 1.0, 0.94),), ""), {}

    monkeypatch.setattr(script, "timed_run", timed_run)
    recipe = Recipe.read(FOLDER / "cifar10_94.yaml")
    chosen = Namespace(model=None, time_limit=60.0, threads=1)
    found = script.measure_visus("data", 3, chosen, recipe.to_yaml(), tmp_path)
    assert Recipe.from_yaml(asked[0].recipe) == recipe
    assert asked[0].design == "compact"
    assert (found["accuracy"], found["whole_s"]) == (0.94, 6.0)


def test_a_trace_without_shape_functions_has_the_same_rows(scripts: Any) -> None:
    trace_speed = scripts("trace_speed")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.MaxPool2d(2))
    convolution, before = torch.ops.aten.convolution.default, trace(module, (3, 9, 9))
    with trace_speed.without_shape_functions():
        assert operator_of(convolution).shape is None
        assert trace(module, (3, 9, 9)).rows == before.rows
    assert operator_of(convolution).shape is not None
    found = trace_speed.measure_shape_functions("small", module, (3, 9, 9), runs=3)
    assert found["times_as_long_without"] == round(found["trace_without_shape_functions_ms"] / found["trace_ms"], 2)


# ---- the first number ----


def test_the_first_number_is_found_on_a_screen(scripts: Any) -> None:
    seen = scripts("first_number").seen
    assert seen(b"data      photos: 2 classes; 3 x 10 x 10 images") == {"data"}
    assert seen(b"\r\x1b[2K\x1b[2mloss 2.310 before the first step\x1b[0m") == {"loss"}
    assert seen(b"epoch 1/32  6 % of the training  loss 1.659") == {"loss", "step"}
    assert seen(b"\r\n1/32         80.2 %  1.2526") == {"row"}
    assert seen(b"epoch   validation    loss  training") == set()


def test_a_command_that_ends_before_its_first_number_is_reported(scripts: Any, tmp_path: Path) -> None:
    script = scripts("first_number")
    with pytest.raises(RuntimeError, match="the command ended before 'loss': data      x"):
        script.wait_for([sys.executable, "-c", "print('data      x')"], {}, tmp_path, "loss")
    found, cpu_s = script.wait_for([sys.executable, "-c", "print('loss 2', flush=True); input()"], {}, tmp_path, "loss")
    assert found.keys() == {"loss"}
    assert 0 < cpu_s < 5


# ---- file to probability ----


def test_the_rate_of_openvinos_tool_is_read_from_its_last_lines(scripts: Any) -> None:
    read_rate = scripts("file_to_probability").read_rate
    assert read_rate("[ INFO ]    Max:           112.33 ms\n[ INFO ] Throughput:   683.94 FPS\n") == 683.94
    with pytest.raises(SystemExit, match="the tool of OpenVINO printed no throughput: no such file"):
        read_rate("no such file")


def test_the_ratios_are_medians_of_the_ratios_within_a_round(scripts: Any) -> None:
    rates = {
        "visus": [8.0, 80.0, 4.0],
        "decoding": [40.0, 400.0, 40.0],
        "OpenVINO's tool": [10.0, 100.0, 10.0],
        "eager PyTorch": [2.0, 10.0, 2.0],
    }
    found = scripts("file_to_probability").ratios(rates)
    assert found["of tool and decoding"] == pytest.approx(
        1.0
    )  # 1 / 8 = 1 / 40 + 1 / 10, whatever the machine does in a round
    assert found["times eager PyTorch"] == pytest.approx(4.0)


def test_eager_pytorch_reads_files_as_the_bundle_does(scripts: Any, tmp_path: Path) -> None:
    script = scripts("file_to_probability")
    files = script.make_images(tmp_path, 3)
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4)).eval()
    found = script.eager_pytorch(files, module, 32, 2)
    from visus.data.ledger import Ledger
    from visus.data.preprocessing import Preprocessing

    preprocessing = Preprocessing("images", 3, (32, 32), "squash", "uint8", "fixed", script.MEAN, script.DEVIATION)
    read = [preprocessing.read_image(each.read_bytes(), Ledger(), name=each.name) for each in files]
    samples = torch.stack([torch.from_numpy(each) for each in read])
    with torch.no_grad():
        expected = torch.softmax(module(preprocessing.scaled(samples)), dim=1)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)
