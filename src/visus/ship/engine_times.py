"""How fast and how right each engine is on this machine: measured in turns, and compared with the answers of the run.

Nothing here needs PyTorch; its engines are measured where it is installed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from visus.data.preprocessing import Pixels
from visus.errors import ParityError, UsageError, VisusError, unknown_name
from visus.limits import processor_name, usable_cores
from visus.progress import SILENT, Monitor
from visus.ship.answers import shuffled
from visus.ship.engines import ENGINES, EngineKind, OpenEngine, open_engine
from visus.ship.files import BundleFiles
from visus.ship.manifest import Manifest
from visus.ship.parity import SAME, Check, compare_engine
from visus.ship.proof import Proof, read_proof
from visus.ship.tasks.registry import BUNDLE_TASKS, SINGLE_LABEL
from visus.ship.tasks.task import BundleTask
from visus.tables import Described, Table, Text
from visus.timing import every_call, timed
from visus.units import write_number_of, write_shape, write_share

BATCH_SIZES: Final = (1, 8, 64)
ROUNDS: Final = 7
MAX_CALLS: Final = 100
ROUND_S: Final = 0.05
"""A short call is repeated in a round until it fills this time."""
MIN_RANKED_ROUNDS: Final = 3
"""Minimum number of rounds for a ranking, as for the ways of PyTorch."""
COMPARED_BATCHES: Final = (64,)
_OF_INT8: Final = "; int8 is judged by its {metric} when it is exported (--max-loss), and not by this difference"
PERCENTILES: Final = (50, 95, 99)


@dataclass(frozen=True)
class EngineTime:
    """The time of one engine for batches of one size.

    Args:
        engine: its name.
        precision: of its arithmetic.
        threads: of one prediction.
        batch_size: samples of one call.
        seconds: seconds of every call, round by round; the engines take turns, so the same round of two engines can be compared.

    >>> EngineTime("openvino", "float32", 1, 8, ((0.1, 0.2), (0.4, 0.2))).samples_per_second
    40.0
    """

    engine: str
    precision: str
    threads: int
    batch_size: int
    seconds: tuple[tuple[float, ...], ...]

    @property
    def calls(self) -> tuple[float, ...]:
        """Seconds of every call, the fastest first.

        >>> EngineTime("openvino", "float32", 1, 8, ((0.1, 0.2), (0.4, 0.2))).calls
        (0.1, 0.2, 0.2, 0.4)
        """
        return tuple(sorted(each for calls in self.seconds for each in calls))

    @property
    def samples_per_second(self) -> float:
        """Of the median call.

        >>> EngineTime("openvino", "float32", 1, 1, ((0.1,), (0.5,), (0.2,))).samples_per_second
        5.0
        """
        return self.batch_size / statistics.median(self.calls)

    def latency(self, percentile: float) -> float:
        """Seconds within which this percentage of the calls ends: the smallest such call (nearest rank).

        With fewer than 100 calls, the 99th percentile is the slowest call.

        >>> EngineTime("openvino", "float32", 1, 1, ((0.1, 0.2), (0.3, 0.4))).latency(50)
        0.2
        """
        calls = self.calls
        return calls[max(0, math.ceil(percentile / 100 * len(calls)) - 1)]

    def to_json(self) -> dict[str, Any]:
        """The time as plain data.

        >>> EngineTime("openvino", "float32", 1, 1, ((0.25,),)).to_json()["latency_ms"]
        {'p50': 250.0, 'p95': 250.0, 'p99': 250.0}
        """
        latency = {f"p{percentile}": 1000 * self.latency(percentile) for percentile in PERCENTILES}
        plain = {name: value for name, value in asdict(self).items() if name != "seconds"}
        return {
            **plain,
            "samples_per_second": self.samples_per_second,
            "latency_ms": latency,
            "num_calls": len(self.calls),
            "seconds": [statistics.median(each) for each in self.seconds],
        }


@dataclass(frozen=True)
class EngineScore:
    """The answers of one engine beside those of the run.

    Args:
        check: the comparison.
        refusal: why the engine is not within the tolerance; empty if it is.
    """

    check: Check
    refusal: str = ""

    @property
    def is_within(self) -> bool:
        """Whether every answer is within the tolerance of its precision; int8 is judged by its metric, when it is made."""
        return not self.refusal

    def within_words(self) -> str:
        """The cell of the column within tolerance."""
        if self.refusal:
            return "no"
        return f"by {self.check.metric}" if self.check.precision == "int8" else "yes"


@dataclass(frozen=True, repr=False)
class EngineBenchmark(Described):
    """How fast and how right each engine is on this machine.

    Attributes:
        name: name of the bundle.
        sha256: identity of the bundle.
        input_shape: shape of a sample, (channels, *spatial).
        num_rounds: number of rounds that were measured.
        times: one for each engine, precision, number of threads and batch size.
        scores: one for each engine and precision.
        left_out: engines that were not measured, with the reason.
        processor: name of the processor.
    """

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    num_rounds: int
    times: tuple[EngineTime, ...]
    scores: tuple[EngineScore, ...]
    left_out: tuple[tuple[str, str], ...]
    processor: str

    def time(self, engine: str, precision: str, threads: int, batch_size: int) -> EngineTime | None:
        """The time of one engine; None if it was not measured."""
        wanted = (engine, precision, threads, batch_size)
        return next(
            (each for each in self.times if (each.engine, each.precision, each.threads, each.batch_size) == wanted), None
        )

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads that were measured."""
        return tuple(sorted({each.threads for each in self.times}))

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes that were measured."""
        return tuple(sorted({each.batch_size for each in self.times}))

    def rate(self, engine: str, precision: str, threads: int) -> float:
        """Samples per second of an engine: the geometric mean over the batch sizes."""
        times = [each for each in self.times if (each.engine, each.precision, each.threads) == (engine, precision, threads)]
        return math.exp(statistics.fmean(math.log(each.samples_per_second) for each in times)) if times else 0.0

    def fastest(self, threads: int | None = None) -> EngineScore:
        """Of the engines within their tolerance, the one with the most samples per second: the geometric mean over the batch sizes.

        Args:
            threads: the number of threads; default: the largest that was measured.

        Raises:
            UsageError: no engine is within its tolerance.
        """
        chosen = threads or max(self.threads, default=1)
        rates = {each: self.rate(each.check.engine, each.check.precision, chosen) for each in self.scores if each.is_within}
        if not any(rates.values()):
            reasons = [f"{what}: {reason}" for what, reason in self.left_out]
            reasons += [each.refusal for each in self.scores if each.refusal]
            why = "; ".join(reason.rstrip(".") for reason in reasons) or "none was measured"
            raise UsageError(
                f"no engine answers within its tolerance on this machine ({why}). Install onnxruntime or openvino."
            )
        return max(rates, key=rates.__getitem__)

    def text(self) -> Text:
        """Two tables: throughput and latency of each engine, and its answers beside those of the run."""
        score = self.scores[0].check if self.scores else None
        has_int8 = any(each.check.precision == "int8" for each in self.scores)
        compared = "" if score is None else f" for {score.num_golden + score.num_samples:,} samples of the bundle"
        return Text(
            (
                f"{self.name}: engines, samples of {write_shape(self.input_shape)}",
                self._time_table(),
                f"latency in milliseconds: 50 %, 95 % and 99 % of the calls end within it; {write_number_of(self.num_rounds, 'round')}, the engines take "
                "turns; of fewer than 100 calls, the 99 % is the slowest",
                self._score_table(),
                f"{self._compared_words()}: beside the run{compared}; tolerance: 1e-4 for float32, 1e-2 for float16 and bfloat16{self._exempt()}"
                f"{_OF_INT8.format(metric=self._task.metric) if has_int8 else ''}",
                *self._sentences(),
                f"machine: {self.processor}",
            )
        )

    @property
    def _task(self) -> type[BundleTask]:
        return BUNDLE_TASKS[self.scores[0].check.task if self.scores else SINGLE_LABEL.name]

    def _compared_words(self) -> str:
        """What the columns of the answers compare."""
        if self._task.output == "numbers":
            return f"same numbers, up to the tolerance, largest difference and {self._task.metric} in standard deviations of the training labels"
        of = "" if self._task.name == SINGLE_LABEL.name else " of labels"
        return f"{SAME[self._task.name]}{of} and largest difference of a probability"

    def _exempt(self) -> str:
        is_single = self._task.name == SINGLE_LABEL.name
        return "; samples at the threshold of test-time augmentation are exempt" if is_single else ""

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (
            ("engines: samples per second, latency in milliseconds", self._time_table()),
            ("engines: answers", self._score_table()),
        )

    def _sentences(self) -> Iterator[str]:
        if self.num_rounds < MIN_RANKED_ROUNDS:
            yield f"{write_number_of(self.num_rounds, 'round')}: no ranking, which needs at least {MIN_RANKED_ROUNDS} rounds"
        for threads in self.threads if self.num_rounds >= MIN_RANKED_ROUNDS else ():
            with_words = write_number_of(threads, "thread")
            if any(each.is_within for each in self.scores):
                best = self.fastest(threads).check
                first = next(each.check for each in self.scores if each.is_within)
                factor = self.rate(best.engine, best.precision, threads) / (
                    self.rate(first.engine, first.precision, threads) or math.inf
                )
                than = "" if best == first else f", {factor:.3g} times as fast as {first.engine} in {first.precision}"
                yield f"{with_words}: {best.engine} in {best.precision} is the fastest within its tolerance{than} (geometric mean over the batches)"
        for score in self.scores:
            if score.refusal:
                yield f"outside its tolerance: {score.refusal}"
        for what, why in self.left_out:
            yield f"not measured: {what}: {why}"

    def _time_table(self) -> Table:
        rows = [
            (
                f"{each.engine}, {each.precision}",
                str(each.threads),
                str(each.batch_size),
                f"{each.samples_per_second:,.0f}",
                *(f"{1000 * each.latency(percentile):,.2f}" for percentile in PERCENTILES),
                f"{len(each.calls):,}",
            )
            for each in sorted(self.times, key=lambda each: (each.threads, each.batch_size))
        ]
        headings = ("engine", "threads", "batch", "samples/s", "p50", "p95", "p99", "calls")
        return Table(tuple(rows), headings, tuple(range(1, len(headings))))

    def _score_table(self) -> Table:
        rows = [
            (
                f"{each.check.engine} {each.check.version}, {each.check.precision}",
                write_share(each.check.agreement),
                f"{each.check.max_difference:.1e}",
                each.within_words(),
                each.check.score_words(),
                each.check.write(each.check.run_score),
            )
            for each in self.scores
        ]
        headings = ("engine", SAME[self._task.name], "largest difference", "within tolerance", self._task.metric, "the run")
        return Table(tuple(rows), headings, (1, 2, 5))

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = []
        for threads in self.threads if self.num_rounds >= MIN_RANKED_ROUNDS else ():
            if any(each.is_within for each in self.scores):
                best = self.fastest(threads).check
                rate = self.rate(best.engine, best.precision, threads)
                rows.append(
                    (write_number_of(threads, "thread"), f"{best.engine}, {best.precision}: {rate:,.0f} samples per second")
                )
        rows += [
            ("measured", ", ".join(dict.fromkeys(f"{each.check.engine} in {each.check.precision}" for each in self.scores))),
            *([("not measured", ", ".join(what for what, _ in self.left_out))] if self.left_out else []),
            ("next", ".times, .scores, .fastest(); .text()"),
        ]
        return f"Engines of {self.name} on this machine", rows

    def to_json(self) -> dict[str, Any]:
        """All times and scores as plain data."""
        return {
            "name": self.name,
            "sha256": self.sha256,
            "input_shape": list(self.input_shape),
            "num_rounds": self.num_rounds,
            "times": [each.to_json() for each in self.times],
            "scores": [
                {
                    **asdict(each.check),
                    "batches": list(each.check.batches),
                    "is_within": each.is_within,
                    "refusal": each.refusal,
                }
                for each in self.scores
            ],
            "left_out": [{"what": what, "reason": why} for what, why in self.left_out],
            "processor": self.processor,
        }


def measure_engines(
    files: BundleFiles,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = (),
    batch_sizes: Sequence[int] = BATCH_SIZES,
    threads: Sequence[int] = (),
    rounds: int = ROUNDS,
    time_limit_s: float | None = None,
    compile: bool = False,
    trusted: bool = False,
    monitor: Monitor = SILENT,
) -> EngineBenchmark:
    """Measure every engine that is installed and whose network the bundle holds, and compare its answers with those of the run.

    Args:
        files: the bundle.
        engines: names of engines; default: all.
        precisions: precisions; default: all of each engine.
        batch_sizes: samples of one call.
        threads: numbers of threads; default: one, and all.
        rounds: number of rounds, in which the engines take turns.
        time_limit_s: no further round begins after so many seconds; one round is measured in any case.
        compile: also the engines that compile, for a minute or more.
        trusted: also the engines whose file may hold code that runs: for a bundle that this process wrote.
        monitor: follows the work.

    Raises:
        UsageError: a name is unknown.
    """
    began = time.perf_counter()
    chosen = list(_chosen(engines))
    proof, manifest = read_proof(files), files.manifest
    samples = shuffled(proof.all_samples(), manifest.preprocessing)
    counts = tuple(threads) or tuple(sorted({1, usable_cores()}))
    left_out: list[tuple[str, str]] = []
    scores: list[EngineScore] = []
    opened: list[OpenEngine] = []
    with _torch_threads_kept():
        for kind in chosen:
            if why := _why_not(kind, compile=compile, trusted=trusted, is_named=bool(engines)):
                left_out.append((kind.name, why))
                continue
            for precision in kind.precisions:
                if (precisions and precision not in precisions) or (
                    not kind.is_held(manifest, precision) and precision == "int8"
                ):
                    continue
                monitor.step(f"opening {kind.name}", 0)
                try:
                    ready = [open_engine(files, kind.name, precision, each) for each in counts]
                    scores.append(score(ready[-1], manifest, proof))
                    opened += ready
                except Exception as error:  # an engine raises what its own language has
                    left_out.append((f"{kind.name}, {precision}", _first_line(error)))
        jobs = [(engine, _batch(samples, size)) for size in batch_sizes for engine in opened]
        until = None if time_limit_s is None else began + time_limit_s
        found = _measure(jobs, rounds, until, monitor)
    times = [
        EngineTime(engine.name, engine.precision, engine.num_threads, len(batch), tuple(seconds))
        for (engine, batch), seconds in zip(jobs, found, strict=True)
    ]
    return EngineBenchmark(
        manifest.name,
        files.digest,
        manifest.preprocessing.input_shape,
        len(found[0]) if found else 0,
        tuple(times),
        tuple(scores),
        tuple(left_out),
        processor_name(),
    )


def score(engine: OpenEngine, manifest: Manifest, proof: Proof, batches: Sequence[int] = COMPARED_BATCHES) -> EngineScore:
    """The answers of an engine beside those of the run; outside the tolerance too."""
    try:
        return EngineScore(compare_engine(engine, manifest, proof, batches))
    except ParityError as error:
        return EngineScore(compare_engine(engine, manifest, proof, batches, is_judged=False), str(error))


def _chosen(engines: Sequence[str]) -> Iterator[EngineKind]:
    kinds = {each.name: each for each in ENGINES}
    for name in engines:
        if name not in kinds:
            raise UsageError(unknown_name("engine", name, kinds))
    return (each for each in ENGINES if not engines or each.name in engines)


def _why_not(kind: EngineKind, *, compile: bool, trusted: bool, is_named: bool) -> str:
    """Why an engine is not measured; empty if it is."""
    if importlib.util.find_spec(kind.package) is None:
        return f"{kind.package} is not installed"
    if not kind.is_installed:
        return "this machine has no CUDA device, or ONNX Runtime was installed without CUDA"
    if kind.compiles and not compile and not is_named:
        return "it compiles for a minute or more; ask for it with --compile"
    if kind.runs_code and not trusted and not is_named:
        return "PyTorch may execute what its file holds; name it if you trust the bundle"
    return ""


def _measure(
    jobs: Sequence[tuple[OpenEngine, Pixels]], rounds: int, until: float | None, monitor: Monitor
) -> list[list[tuple[float, ...]]]:
    works = [functools.partial(engine.run, batch) for engine, batch in jobs]
    calls = []
    for work in works:
        work()
        calls.append(max(1, min(MAX_CALLS, math.ceil(ROUND_S / max(timed(work), 1e-9)))))
    total, done = rounds * len(jobs), 0

    def after_each() -> None:
        nonlocal done
        done += 1
        monitor.step("measuring engines", done, total)

    return every_call(works, rounds=rounds, until=until, calls=calls, untimed_calls=1, after_each=after_each)


def _batch(samples: Pixels, size: int) -> Pixels:
    """The first samples, repeated where there are fewer."""
    return np.ascontiguousarray(samples[np.arange(size) % len(samples)])


def _first_line(error: Exception) -> str:
    words = error.message if isinstance(error, VisusError) else str(error)
    return words.splitlines()[0] if words else type(error).__name__


@contextlib.contextmanager
def _torch_threads_kept() -> Iterator[None]:
    """A block after which PyTorch has its number of threads again, if it was imported: its engines set it for the whole process."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 0
    try:
        yield
    finally:
        if torch:
            torch.set_num_threads(before)
