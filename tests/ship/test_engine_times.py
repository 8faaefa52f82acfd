"""Engines are measured in turns and compared with the run; the fastest within its tolerance is measured once and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ship import tiny_bundles

import visus
from visus.errors import UsageError
from visus.ship import engine_times, fastest
from visus.ship.engine_times import EngineBenchmark, EngineScore, EngineTime, measure_engines
from visus.ship.engines import open_engine
from visus.ship.parity import Check
from visus.timing import every_call, take_turns

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

FAST = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def files() -> Any:
    return tiny_bundles.opened()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_CACHE", str(tmp_path / "cache"))


# ---- times ----


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_numpys_by_nearest_rank(seconds: list[float], percentile: int) -> None:
    found = EngineTime("engine", "float32", 1, 1, (tuple(seconds),)).latency(percentile)
    assert found == np.percentile(seconds, percentile, method="inverted_cdf")


@given(st.lists(st.lists(st.floats(1e-6, 10), min_size=1, max_size=5), min_size=1, max_size=5), st.integers(1, 64))
def test_latencies_rise_and_the_rate_is_that_of_the_median_call(rounds: list[list[float]], size: int) -> None:
    time = EngineTime("engine", "float32", 1, size, tuple(map(tuple, rounds)))
    calls = [each for calls in rounds for each in calls]
    assert min(calls) <= time.latency(50) <= time.latency(95) <= time.latency(99) <= max(calls)
    assert time.samples_per_second == pytest.approx(size / np.median(calls))


def test_every_call_is_kept_and_untimed_calls_come_first() -> None:
    said: list[str] = []
    found = every_call([lambda: said.append("a"), lambda: said.append("b")], rounds=2, calls=[2, 1], untimed_calls=1)
    assert "".join(said) == "aaabb" + "bbaaa"
    assert [[len(calls) for calls in each] for each in found] == [[2, 2], [1, 1]]


def test_turns_count_the_median_of_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visus.timing.every_call", lambda *_, **__: [[(3.0, 1.0, 2.0)], [(5.0,)]])
    assert take_turns([int, int]) == [[2.0], [5.0]]


# ---- benchmark ----


def test_each_engine_has_a_time_for_each_batch_and_number_of_threads(files: Any) -> None:
    found = measure_engines(files, engines=FAST, precisions=("float32",), batch_sizes=(1, 3), threads=(1, 2), rounds=1)
    assert [(each.engine, each.threads, each.batch_size) for each in found.times] == [
        (engine, threads, size) for size in (1, 3) for engine in FAST for threads in (1, 2)
    ]
    assert [(each.check.engine, each.is_within, each.check.score) for each in found.scores] == [
        (name, True, 1.0) for name in FAST
    ]
    assert found.num_rounds == 1
    assert found.left_out == ()
    text = str(found.text())
    assert "1 round: no ranking, which needs at least 3 rounds" in text
    rows = found.text()[1].rows  # type: ignore[union-attr]
    assert [row[:3] for row in rows[:2]] == [("onnxruntime, float32", "1", "1"), ("openvino, float32", "1", "1")]
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["times"][0]["latency_ms"].keys() == {"p50", "p95", "p99"}
    assert plain["scores"][1]["is_within"] is True


def test_an_engine_that_may_run_code_or_compiles_is_measured_on_request_only(files: Any) -> None:
    found = measure_engines(files, precisions=("float32",), batch_sizes=(1,), threads=(1,), rounds=1)
    left = dict(found.left_out)
    assert left["torch-program"] == "PyTorch may execute what its file holds; name it if you trust the bundle"
    assert left["torch-compiled"] == "it compiles for a minute or more; ask for it with --compile"
    assert {each.engine for each in found.times} == {"onnxruntime", "openvino", "torch", "torch-channels-last"}
    assert [
        each.engine
        for each in measure_engines(files, engines=("torch-program",), batch_sizes=(1,), threads=(1,), rounds=1).times
    ] == ["torch-program"]
    trusted = measure_engines(files, precisions=("float32",), batch_sizes=(1,), threads=(1,), rounds=1, trusted=True)
    assert "torch-program" in {each.engine for each in trusted.times}


def test_an_unknown_engine_is_answered_with_the_known_ones(files: Any) -> None:
    with pytest.raises(UsageError) as caught:
        measure_engines(files, engines=("openvin",))
    assert str(caught.value).startswith("unknown engine 'openvin'. Did you mean 'openvino'?")


class _Wrong:
    """An engine whose answers are those of another one, turned by one class."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.name, self.precision, self.num_threads, self.version = (
            engine.name,
            engine.precision,
            engine.num_threads,
            engine.version,
        )

    def run(self, samples: Any) -> Any:
        return tuple(np.roll(each, 1, axis=1) for each in self._engine.run(samples))

    def logits(self, samples: Any) -> Any:
        return self.run(samples)[0]


@pytest.fixture
def wrong_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO answers wrongly, and in no time."""

    def open(files: Any, name: str, precision: str, threads: int) -> Any:
        engine = open_engine(files, name, precision, threads)
        return _Wrong(engine) if name == "openvino" else engine

    def measure(works: Any, **_: Any) -> Any:
        return [[(seconds,)] * 3 for seconds in (1.0, 0.1)[: len(works)]]

    monkeypatch.setattr(engine_times, "open_engine", open)
    monkeypatch.setattr(engine_times, "every_call", measure)


@pytest.mark.usefixtures("wrong_openvino")
def test_a_wrong_engine_is_measured_and_never_the_fastest(files: Any) -> None:
    found = measure_engines(files, engines=FAST, precisions=("float32",), batch_sizes=(1,), threads=(1,), rounds=3)
    right, wrong = found.scores
    assert (right.is_within, wrong.is_within, wrong.check.score) == (True, False, 0.0)
    assert "a probability differs by" in wrong.refusal
    assert found.fastest().check.engine == "onnxruntime"
    assert f"outside its tolerance: {wrong.refusal}" in str(found.text())


@pytest.mark.usefixtures("wrong_openvino")
def test_without_an_engine_within_its_tolerance_nothing_is_the_fastest(files: Any) -> None:
    found = measure_engines(files, engines=("openvino",), precisions=("float32",), batch_sizes=(1,), threads=(1,), rounds=1)
    with pytest.raises(UsageError) as caught:
        found.fastest()
    reason = found.scores[0].refusal.rstrip(".")
    assert (
        str(caught.value)
        == f"no engine answers within its tolerance on this machine ({reason}). Install onnxruntime or openvino."
    )


def test_the_table_says_that_int8_is_judged_by_its_accuracy() -> None:
    checks = [
        Check("openvino", "1", precision, True, 2, 3, (1,), 1.0, 5e-2, 1e-2, 0.9, 0.8, 1.0, 0.9, 1e-4)
        for precision in ("float32", "int8", "bfloat16")
    ]

    def measured(*scores: EngineScore) -> EngineBenchmark:
        return EngineBenchmark("it", "0", (1, 4, 4), 1, (), scores, (), "a processor")

    text = measured(*map(EngineScore, checks[:2]), EngineScore(checks[2], "it differs")).text()
    assert [row[3] for row in text[3].rows] == ["yes", "by accuracy", "no"]  # type: ignore[union-attr]
    said = "; int8 is judged by its accuracy when it is exported (--max-loss), and not by this difference"
    assert str(text[4]).endswith(f"exempt{said}")
    assert said not in str(measured(EngineScore(checks[0])).text())


def test_a_bundle_is_measured_by_the_public_function(files: Any) -> None:
    found = visus.benchmark(files.path, threads=1, batch_size=2, rounds=1, engines=["onnxruntime"])
    assert (found.name, found.timings, found.input_shape) == ("tiny", (), (3, 8, 8))
    assert found.engines is not None
    assert [(each.engine, each.batch_size) for each in found.engines.times] == [("onnxruntime", 1), ("onnxruntime", 2)]
    assert str(found.text()).startswith("tiny: engines, samples of 3 x 8 x 8")
    assert "measured  onnxruntime in float32" in repr(found)
    assert found.to_json()["engines"]["name"] == "tiny"
    with pytest.raises(UsageError) as caught:
        visus.benchmark(files.path, (3, 8, 8))
    assert str(caught.value) == "input_shape cannot be given with a bundle, which has its own. Leave it out."
    with pytest.raises(UsageError) as caught:
        visus.benchmark("linear(classes)", (3, 8, 8), 2, engines=["openvino"])
    assert str(caught.value) == "engines compute a run or a bundle, and this is a network. Train it first."


# ---- the fastest ----


def test_the_fastest_engine_is_measured_once_and_said(files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    times = {("onnxruntime", "float32"): 1.0, ("openvino", "float32"): 0.25}
    times |= {("openvino", "bfloat16"): 0.5, ("openvino", "float16"): 0.5}  # where the processor has them

    def measure(works: Any, **_: Any) -> Any:
        return [[(times[found],)] * 3 for found in chosen * 3]

    chosen: list[tuple[str, str]] = []

    def open(files: Any, name: str, precision: str, threads: int) -> Any:
        engine = open_engine(files, name, precision, threads)
        chosen.append((name, precision))
        return engine

    monkeypatch.setattr(engine_times, "open_engine", open)
    monkeypatch.setattr(engine_times, "every_call", measure)
    first = visus.open_bundle(files.path, engine="fastest", threads=1)
    assert (first.engine.name, first.engine.precision) == ("openvino", "float32")
    assert f"the fastest of {len(chosen)} measured on this machine, 4 times as fast as the slowest" in repr(first)
    (kept,) = (tmp_path / "cache" / "engines").iterdir()
    monkeypatch.setattr(fastest, "measure_engines", lambda *_, **__: pytest.fail("it was measured before"))
    assert repr(visus.open_bundle(files.path, engine="fastest", threads=1)) == repr(first)
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "engine": "onnxruntime"}))
    assert visus.open_bundle(files.path, engine="fastest", threads=1).engine.name == "onnxruntime"


def test_a_choice_belongs_to_bundle_machine_threads_precision_and_versions(
    files: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def path(of: Any = files, precision: str = "", threads: int = 1) -> Path:
        return fastest._path(of, ["onnxruntime"], precision, threads)

    found = {
        path(),
        path(threads=2),
        path(precision="float32"),
        path(tiny_bundles.changed(tmp_path / "other", {"more.txt": b"more"})),
    }
    assert path() in found
    monkeypatch.setattr(fastest, "processor_name", lambda: "another processor")
    found.add(path())
    monkeypatch.setattr(fastest, "_version", lambda name: "another version")
    found.add(path())
    assert len(found) == 6


@pytest.mark.long
def test_a_damaged_choice_is_measured_again(files: Any) -> None:
    path = fastest._path(files, ["onnxruntime", "openvino"], "float32", 1)
    path.parent.mkdir(parents=True)
    path.write_text('{"engine": 7')
    choice = fastest.fastest_engine(files, "float32", 1)
    assert choice.num_measured == 2
    assert json.loads(path.read_text())["engine"] == choice.engine
