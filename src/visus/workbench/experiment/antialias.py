"""``visus experiment antialias``: trains a run's design with global pooling instead of flatten and blur pooling instead of
strides."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.errors import UsageError
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text
from visus.workbench.compare.comparison import Comparison
from visus.workbench.compare.runs import compare_trained
from visus.workbench.experiment.retraining import Retraining
from visus.workbench.runs.saved import SavedRun
from visus.workbench.runs.shift_remedies import antialiased_design
from visus.workbench.runs.shifts import ShiftReport, change_words, report_shifts


@dataclass(frozen=True, repr=False)
class Antialiased(Described):
    """A run and its antialiased design.

    Args:
        before, after: how the predictions of each change under shifts of the samples.
        comparison: both compared on the held-out samples.

    >>> antialiased.comparison.contenders[1].kind
    'global pooling instead of flatten'
    """

    before: ShiftReport
    after: ShiftReport
    comparison: Comparison

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        first, second = self.comparison.contenders
        rows = [
            (each.name, f"{found.write(found.value)}; {_kept(shifts)}")
            for each, shifts in ((first, self.before), (second, self.after))
            for found in [each.scores.headline]
        ]
        rows.append(("change", second.kind))
        rows.append(("difference", self.comparison.pairs[0].sentence(self.comparison.noun)))
        return f"Antialiasing of {first.name}", [*rows, ("next", ".before, .after, .comparison; .text() has all of it")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return tuple(self.comparison._tables())

    def text(self) -> Text:
        """Both reports on shifts, then the comparison.

        >>> antialiased.text()[0].startswith("moved: 12 of 12 images")
        True
        """
        changed = self.comparison.contenders[1]
        after = self.after.text(title=f"with {changed.kind}, {changed.folder}")
        return Text((*self.before.text(), *after, *self.comparison.text()))

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON.

        >>> list(antialiased.to_json())
        ['shifts', 'shifts_antialiased', 'comparison']
        """
        return {
            "shifts": self.before.to_json(),
            "shifts_antialiased": self.after.to_json(),
            "comparison": self.comparison.to_json(),
        }


def _kept(shifts: ShiftReport) -> str:
    """How many labels are kept, or how numbers change, under the first way to shift."""
    way = shifts.ways[0]
    found = change_words(way, shifts.targets)
    return f"{found} under shifts ({way.way})"


def compare_with_antialiased(
    run: SavedRun,
    *,
    output: Path | None = None,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Antialiased:
    """Train a run's design with global pooling instead of flatten and blur pooling instead of strides, and measure both.

    Args:
        run: the run; its network must be a design.
        output: parent folder of the new runs; default: that of the run.
        cache_dir: another folder for the decoded samples.
        on_event: receives the events of each training, and a ``Progress`` during other computations.
        should_stop: called after each step; True raises ``CanceledError``.

    Raises:
        UsageError: the design has no flatten and no stride to change.
    """
    changed = antialiased_design(run)
    if changed is None:
        raise UsageError(
            "this network has no flatten and no stride to change, or is not a design: there is nothing to train.",
            where=str(run.folder),
        )
    design, changes = changed
    monitor = Monitor(on_event, should_stop)
    data = run.open_data(cache_dir=cache_dir, **monitor.keywords)
    before = report_shifts(run, data, **monitor.keywords)
    other = Retraining(run, output, cache_dir, monitor).train_design(design, "antialiased")
    runs: list[tuple[SavedRun, str]] = [(run, "network"), (other, changes)]
    both = compare_trained(runs, cache_dir=cache_dir, monitor=monitor)
    return Antialiased(before, report_shifts(other, data, **monitor.keywords), both)
