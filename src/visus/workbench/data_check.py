"""``visus check``: the contents, preprocessing and problems of a dataset, before any training."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from visus.data.opened import Data
from visus.data.samples import SPLITS
from visus.tables import Table, Text, notes
from visus.units import write_bytes, write_number_of, write_shape
from visus.workbench.training_lines import scaling


@dataclass(frozen=True, eq=False)
class DataCheck:
    """An opened dataset, with its check.

    Args:
        data: the opened data.
        begins: a sentence that names the initial weights of a training.
    """

    data: Data
    begins: str

    def text(self) -> Text:
        """Whether there are warnings, then classes and splits, changes to the samples, and the next step."""
        data = self.data
        found = write_number_of(len(data.warnings), "warning") if data.warnings else "no warnings"
        samples = f"{data.num_samples:,} {data.noun}s of {write_shape(data.input_shape)}"
        where = "" if data.given is None else f" {shlex.quote(str(data.given))}"
        return (
            f"{found}: {data.name} ({data.samples.kind}), {samples}, {write_number_of(len(data.classes), 'class', 'classes')}",
            *(f"warning: {warning}" for warning in data.warnings),
            self._class_table(),
            *data_notes(data),
            f"{scaling(data)}; decoded into {write_bytes(data.store.pixels.nbytes)} at {data.store.folder}",
            self.begins,
            f"next: visus train{where}",
        )

    def _class_table(self) -> Table:
        data = self.data
        counts = [data.class_counts(split) for split in SPLITS]
        rows = [(name, *(f"{each[name]:,}" for each in counts)) for name in data.classes]
        rows.append(("all", *(f"{len(data.split(split)):,}" for split in SPLITS)))
        return Table(tuple(rows), ("class", *SPLITS), (1, 2, 3))

    def to_json(self) -> dict[str, Any]:
        """The dataset as plain data."""
        data = self.data
        return {
            "name": data.name,
            "kind": data.samples.kind,
            "input_shape": list(data.input_shape),
            "normalize": data.preprocessing.normalize,
            "begins": self.begins,
            "classes": list(data.classes),
            "num_samples": {split: len(data.split(split)) for split in SPLITS},
            "class_counts": {split: data.class_counts(split) for split in SPLITS},
            "ledger": data.ledger.as_dict(),
            "warnings": list(data.warnings),
            "notes": list(data.samples.notes),
            "fingerprint": data.fingerprint,
            "cache": {"folder": str(data.store.folder), "bytes": int(data.store.pixels.nbytes)},
        }


def data_notes(data: Data) -> Text:
    """The notes on a dataset, and the preprocessing of its samples."""
    return (*notes(data.samples.notes), *(f"ledger: {sentence}" for sentence in data.ledger.sentences()))
