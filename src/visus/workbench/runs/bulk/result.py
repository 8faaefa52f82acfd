"""What a bulk prediction wrote: counts, speed, changes made to the samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from visus.data.ledger import Ledger
from visus.errors import printable
from visus.tables import Described, Table, Text
from visus.units import write_duration, write_number_of

_MAX_LABELS: Final = 20


@dataclass(frozen=True, repr=False)
class BulkPredictions(Described):
    """A table of predictions that was written.

    Args:
        out: the table.
        num_samples: number of its rows.
        num_errors: rows without a prediction; their column ``error`` has the reason.
        labels: number of rows of each label, the most frequent first. Of sets, a row counts for each of its classes; of numbers there are none.
        num_kept: rows that earlier, stopped calls had predicted.
        seconds: duration of this call's predictions.
        changes: changes made to the samples: count, and first names, of each.
        notes: remarks on the probabilities.

    >>> BulkPredictions(Path("new.csv"), 1_000, 2, {"cat": 998}, 0, 4.0)
    1,000 samples in new.csv
      errors  2 rows
      speed   250 samples/s
    """

    out: Path
    num_samples: int
    num_errors: int
    labels: Mapping[str, int]
    num_kept: int = 0
    seconds: float = 0.0
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def samples_per_second(self) -> float | None:
        """Samples per second of this call; None if it predicted none.

        >>> BulkPredictions(Path("new.csv"), 1_000, 0, {"cat": 1_000}, 600, 4.0).samples_per_second
        100.0
        """
        num_new = self.num_samples - self.num_kept
        return num_new / self.seconds if num_new and self.seconds else None

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("errors", write_number_of(self.num_errors, "row"))]
        if self.num_kept:
            rows.append(("kept", f"{write_number_of(self.num_kept, 'row')} of earlier calls"))
        if rate := self.samples_per_second:
            rows.append(("speed", f"{rate:,.0f} samples/s"))
        return f"{write_number_of(self.num_samples, 'sample')} in {printable(str(self.out))}", rows

    def text(self) -> Text:
        """The number of rows of each label, errors, speed, and the changes made to the samples.

        >>> print(BulkPredictions(Path("new.csv"), 3, 1, {"cat": 2}, seconds=1.0).text())
        3 samples in new.csv; 1 has no prediction: see the column error
        label  samples
        cat          2
        predicted 3 samples in 1 s: 3 samples/s
        """
        title = self._facts()[0]
        if self.num_errors:
            title += f"; {self.num_errors:,} {'has' if self.num_errors == 1 else 'have'} no prediction: see the column error"
        shown = list(self.labels.items())[:_MAX_LABELS]
        blocks: list[str | Table] = [title]
        if shown:
            blocks.append(Table(tuple((printable(name), f"{count:,}") for name, count in shown), ("label", "samples"), (1,)))
        if len(self.labels) > len(shown):
            blocks.append(f"... and {write_number_of(len(self.labels) - len(shown), 'label')} more")
        if rate := self.samples_per_second:
            num_new = self.num_samples - self.num_kept
            kept = f"; {self.num_kept:,} were predicted by earlier calls" if self.num_kept else ""
            blocks.append(
                f"predicted {write_number_of(num_new, 'sample')} in {write_duration(self.seconds)}: {rate:,.0f} samples/s{kept}"
            )
        return Text(blocks)

    def sentences(self) -> list[str]:
        """The notes, and the changes made to the samples. Unreadable samples are in the table.

        >>> BulkPredictions(Path("new.csv"), 3, 0, {"cat": 3}, changes={"cropped": {"count": 1, "samples": ["a.jpg"]}}).sentences()
        ['ledger: 1 image was cropped to the center (a.jpg).']
        """
        told = {action: entry for action, entry in self.changes.items() if action != "unreadable"}
        return [
            *(f"note: {note}" for note in self.notes),
            *(f"ledger: {each}" for each in Ledger.from_dict(told).sentences()),
        ]

    def to_json(self) -> dict[str, Any]:
        """The result as plain data.

        >>> BulkPredictions(Path("new.csv"), 3, 1, {"cat": 2}).to_json()["errors"]
        1
        """
        return {
            "out": str(self.out),
            "samples": self.num_samples,
            "errors": self.num_errors,
            "labels": dict(self.labels),
            "kept": self.num_kept,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
            "ledger": dict(self.changes),
            "notes": list(self.notes),
        }
