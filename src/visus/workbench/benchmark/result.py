"""The result of a benchmark: times of every way to compute a network and of every engine, and how far the outputs are from those of plain PyTorch."""

from __future__ import annotations

import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any, Final

from visus.ship.engine_times import EngineBenchmark
from visus.tables import Described, Table, Text, notes
from visus.units import write_number_of, write_shape, write_share

PREDICTION: Final = "prediction"
TRAINING: Final = "training step"
PLAIN: Final = "PyTorch, float32"
"""The way that all others are compared with: eager PyTorch in float32, without channels-last."""
MIN_RANKED_ROUNDS: Final = 3
"""Minimum number of rounds for a ranking: one or two rounds on a shared machine order the ways by chance."""


@dataclass(frozen=True)
class Timing:
    """The time of one kind of work, computed in one way.

    Args:
        way: the way to compute it, such as ``PyTorch, float32``.
        work: ``prediction`` or ``training step``.
        batch_size: number of samples of one call.
        seconds: seconds of one call in each round; the ways take turns, so the same round of two ways can be compared.

    >>> Timing("PyTorch, float32", "prediction", 32, (0.1, 0.2, 0.4)).batch_size
    32
    """

    way: str
    work: str
    batch_size: int
    seconds: tuple[float, ...]

    @property
    def samples_per_second(self) -> float:
        """Median over the rounds.

        >>> Timing("PyTorch, float32", "prediction", 32, (0.1, 0.2, 0.4)).samples_per_second
        160.0
        """
        return self.batch_size / statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Samples per second in the slowest and in the fastest round.

        >>> Timing("PyTorch, float32", "prediction", 32, (0.1, 0.2, 0.4)).spread
        (80.0, 320.0)
        """
        return self.batch_size / max(self.seconds), self.batch_size / min(self.seconds)

    def times_as_fast_as(self, other: Timing) -> float:
        """Ratio of the samples per second of two ways, medians of the rounds.

        >>> Timing("a", "prediction", 1, (1.0,)).times_as_fast_as(Timing("b", "prediction", 1, (3.0,)))
        3.0
        """
        return self.samples_per_second / other.samples_per_second

    def is_faster_than(self, other: Timing) -> bool:
        """Whether this way is faster in every round; the ways take turns, so each round of two ways can be compared.

        >>> Timing("a", "prediction", 1, (1.0, 1.0)).is_faster_than(Timing("b", "prediction", 1, (2.0, 0.9)))
        False
        """
        return all(own < its for own, its in zip(self.seconds, other.seconds, strict=True))

    def to_json(self) -> dict[str, Any]:
        """The times as plain data.

        >>> Timing("PyTorch, float32", "prediction", 32, (0.1, 0.2, 0.4)).to_json()["samples_per_second"]
        160.0
        """
        slowest, fastest = self.spread
        rates = {"samples_per_second": self.samples_per_second, "slowest": slowest, "fastest": fastest}
        return {**asdict(self), "seconds": list(self.seconds), **rates}


@dataclass(frozen=True)
class Agreement:
    """How far the outputs of one way are from those of plain PyTorch in float32.

    Args:
        way: the way to compute them.
        largest_difference: largest absolute difference of two outputs; NaN if an output is NaN.
        largest_output: largest absolute value of the plain outputs, for comparison.
        same_labels: share of the samples whose most probable class is the same; None if an output is no row of classes.

    >>> Agreement("PyTorch, bfloat16", 0.02, 4.0, 1.0).way
    'PyTorch, bfloat16'
    """

    way: str
    largest_difference: float
    largest_output: float
    same_labels: float | None

    @property
    def relative_difference(self) -> float:
        """The largest difference as a share of the largest output.

        >>> Agreement("PyTorch, bfloat16", 0.02, 4.0, 1.0).relative_difference
        0.005
        """
        if not self.largest_difference:
            return 0.0
        return self.largest_difference / self.largest_output if self.largest_output else math.inf

    def to_json(self) -> dict[str, Any]:
        """The agreement as plain data; a number that is NaN or infinite is None.

        >>> Agreement("PyTorch, bfloat16", 0.02, 4.0, 1.0).to_json()["same_labels"]
        1.0
        """
        facts = asdict(self) | {"relative_difference": self.relative_difference}
        return {name: None if isinstance(each, float) and not math.isfinite(each) else each for name, each in facts.items()}


@dataclass(frozen=True, repr=False)
class Benchmark(Described):
    """How fast a network is on this machine, in every way to compute it.

    Args:
        name: name of the network or run.
        input_shape: shape of a sample, (channels, *spatial).
        num_parameters: number of trained values.
        device: device of the computation.
        threads: number of PyTorch's threads.
        num_rounds: number of rounds that were measured.
        timings: one for each way, kind of work and batch size.
        agreements: one for each way, plain PyTorch first.
        samples: the samples whose outputs were compared, in words.
        left_out: ways and kinds of work that were not measured, with the reason.
        machine: facts about the machine; see ``visus.networks.machine.describe``.
        notes: remarks on the figures.
        engines: times and answers of the engines, for a run or a bundle; None if none was measured. A bundle has these alone.

    >>> measured.agreements[0]
    Agreement(way='PyTorch, float32', largest_difference=0.0, largest_output=..., same_labels=1.0)
    """

    name: str
    input_shape: tuple[int, ...]
    num_parameters: int
    device: str
    threads: int
    num_rounds: int
    timings: tuple[Timing, ...]
    agreements: tuple[Agreement, ...]
    samples: str
    left_out: tuple[tuple[str, str], ...]
    machine: dict[str, Any]
    notes: tuple[str, ...] = ()
    engines: EngineBenchmark | None = None

    @property
    def works(self) -> tuple[tuple[str, int], ...]:
        """What was measured: kinds of work with their batch sizes.

        >>> measured.works
        (('prediction', 1), ('prediction', 8), ('training step', 8))
        """
        return tuple(dict.fromkeys((each.work, each.batch_size) for each in self.timings))

    def timing(self, way: str, work: str, batch_size: int) -> Timing | None:
        """The times of one way and kind of work; None if it was not measured.

        >>> measured.timing("PyTorch, float32", "prediction", 8).batch_size
        8
        """
        wanted = (way, work, batch_size)
        return next((each for each in self.timings if (each.way, each.work, each.batch_size) == wanted), None)

    def fastest(self, work: str, batch_size: int) -> Timing:
        """The way with the most samples per second for one kind of work.

        >>> measured.fastest("prediction", 8).samples_per_second > 0
        True
        """
        chosen = [each for each in self.timings if (each.work, each.batch_size) == (work, batch_size)]
        return max(chosen, key=lambda each: each.samples_per_second)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        of_engines = self.engines._facts()[1][:-1] if self.engines is not None else []
        if not self.timings:
            title = f"Benchmark of {self.name}, {write_shape(self.input_shape)}"
            return title, [*of_engines, ("machine", self.machine["processor"]), ("next", ".engines; .text()")]
        rows = []
        for work, batch_size in self.works:
            best, plain = self.fastest(work, batch_size), self.timing(PLAIN, work, batch_size)
            shown, times = best, ""
            if plain is not None and not self.is_ranked:
                shown, times = plain, f" ({self._num_rounds()}: no ranking)"
            elif plain is not None and best.is_faster_than(plain):
                times = f", {best.times_as_fast_as(plain):.3g} times as fast as eager PyTorch in float32"
            rows.append((_work(work, batch_size), f"{shown.samples_per_second:,.0f} samples/s: {shown.way}{times}"))
        rows.append(("outputs", self._worst()))
        rows += of_engines
        rows.append(("machine", self._where()))
        return f"Benchmark of {self.name}, {write_shape(self.input_shape)}", [
            *rows,
            ("next", ".timings, .agreements; .text()"),
        ]

    @property
    def is_ranked(self) -> bool:
        """Whether there are enough rounds to say which way is the fastest.

        >>> measured.num_rounds, measured.is_ranked
        (2, False)
        """
        return self.num_rounds >= MIN_RANKED_ROUNDS

    def _num_rounds(self) -> str:
        return write_number_of(self.num_rounds, "round")

    def _ranking(self) -> list[str]:
        """A sentence for each kind of work: the fastest way, and how fast it is beside eager PyTorch."""
        if not self.is_ranked:
            return [f"{self._num_rounds()}: no ranking, which needs at least {MIN_RANKED_ROUNDS} rounds"]
        lines = []
        for work in self.works:
            best, plain = self.fastest(*work), self.timing(PLAIN, *work)
            if plain is None or best == plain:
                continue
            if best.is_faster_than(plain):
                lines.append(
                    f"{_work(*work)}: {best.way} is the fastest, {best.times_as_fast_as(plain):.3g} times as fast as eager PyTorch in float32 "
                    f"(samples per second, medians of {self._num_rounds()})"
                )
            else:
                lines.append(f"{_work(*work)}: no way is faster than eager PyTorch in float32 in every round")
        return lines

    def _worst(self) -> str:
        """The way whose outputs are farthest from those of plain PyTorch."""
        others = self.agreements[1:]
        if not others:
            return "plain PyTorch alone was measured"
        worst = max(others, key=lambda each: math.inf if math.isnan(each.largest_difference) else each.relative_difference)
        return f"differ from {PLAIN} by {_difference(worst)} at most ({worst.way}){_labels(worst)}"

    def _where(self) -> str:
        threads = f", {write_number_of(self.threads, 'thread')}" if self.device == "cpu" else ""
        return f"{self.device}{threads}; {self.machine['processor']}; torch {self.machine['packages']['torch']}"

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        own = (("samples per second, median and range of the rounds", self._rate_table()),) if self.timings else ()
        return (*own, *(self.engines._tables() if self.engines is not None else ()))

    def _rate_table(self) -> Table:
        by_way = {each.way: each for each in self.agreements}
        rows = []
        for way, agreement in by_way.items():
            cells = [_rate(self.timing(way, *work)) for work in self.works]
            labels = "-" if agreement.same_labels is None else write_share(agreement.same_labels)
            rows.append((way, *cells, _difference(agreement), labels))
        headings = ("way to compute", *(_work(*work) for work in self.works), "largest difference", "same label")
        return Table(tuple(rows), headings, tuple(range(1, len(headings))))

    def text(self) -> Text:
        """Samples per second of every way with the range of the rounds, how far its outputs are from plain PyTorch, and the machine.

        >>> measured.text()[1].headings[0]
        'way to compute'
        """
        of_engines = self.engines.text() if self.engines is not None else ()
        if not self.timings:
            return Text(of_engines)
        return Text(
            (
                f"{self.name}: {self.num_parameters:,} parameters, samples of {write_shape(self.input_shape)}",
                self._rate_table(),
                f"samples per second: median of {self._num_rounds()}, in brackets the slowest and the fastest; "
                "the ways take turns",
                f"largest difference and same label: outputs beside those of {PLAIN}, for {self.samples}; the difference as a share of "
                "the largest output",
                *self._ranking(),
                *(f"not measured: {what}: {why}" for what, why in self.left_out),
                f"machine: {self._where()}",
                *notes(self.notes),
                *of_engines,
            )
        )

    def to_json(self) -> dict[str, Any]:
        """All times, agreements and the machine as plain data.

        >>> measured.to_json()["input_shape"]
        [3, 8, 8]
        """
        return {
            "name": self.name,
            "input_shape": list(self.input_shape),
            "num_parameters": self.num_parameters,
            "device": self.device,
            "threads": self.threads,
            "num_rounds": self.num_rounds,
            "timings": [each.to_json() for each in self.timings],
            "agreements": [each.to_json() for each in self.agreements],
            "samples": self.samples,
            "left_out": [{"what": what, "reason": why} for what, why in self.left_out],
            "machine": self.machine,
            "notes": list(self.notes),
            "engines": None if self.engines is None else self.engines.to_json(),
        }


def _work(work: str, batch_size: int) -> str:
    return f"{work}, batch {batch_size:,}"


def _rate(timing: Timing | None) -> str:
    if timing is None:
        return "-"
    slowest, fastest = timing.spread
    return f"{timing.samples_per_second:,.0f} ({slowest:,.0f} to {fastest:,.0f})"


def _difference(agreement: Agreement) -> str:
    if not math.isfinite(agreement.largest_difference):
        return "NaN or infinite"
    return f"{100 * agreement.relative_difference:.2g} %"


def _labels(agreement: Agreement) -> str:
    return (
        "" if agreement.same_labels is None else f"; the same label for {write_share(agreement.same_labels)} of the samples"
    )
