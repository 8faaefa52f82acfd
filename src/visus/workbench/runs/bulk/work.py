"""The prediction of one part, in this process or in another one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from visus.data.ledger import Ledger
from visus.workbench.runs.bulk.inputs import Chunk, ListReader
from visus.workbench.runs.bulk.parts import PartFacts, PartsFolder, Plan
from visus.workbench.runs.bulk.rows import Rows, rows_of
from visus.workbench.runs.bulk.tables import TableFormat
from visus.workbench.runs.predict_inputs import Sample
from visus.workbench.runs.predictions import Predictor, answer_chunk


class BulkPredictor(Predictor, Protocol):
    """A predictor that other processes can open as well."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def identity(self) -> str:
        """A hash over all that decides its answers."""

    @property
    def reopen(self) -> Callable[[], BulkPredictor]:
        """Opens it in another process; can be pickled."""


@dataclass(frozen=True)
class Job:
    """Everything that a process needs to predict the parts of a table, besides the network. Can be pickled.

    Args:
        out: the table.
        plan: what all parts have in common.
        table: writes the rows.
    """

    out: Path
    plan: Plan
    table: TableFormat


OnSamples = Callable[[int], None]


class Worker:
    """Predicts parts; of their samples, only one batch of the predictor is decoded at a time.

    Args:
        job: what all parts have in common.
        predictor: predicts.
        on_samples: receives the number of samples of each batch after it was predicted.
    """

    def __init__(self, job: Job, predictor: Predictor, on_samples: OnSamples = lambda _: None) -> None:
        self._job, self._predictor, self._on_samples = job, predictor, on_samples
        self._folder = PartsFolder(job.out)
        self._reader = ListReader(self._folder.list, predictor.preprocessing)

    def predict(self, chunk: Chunk) -> PartFacts:
        """Predict the samples of a chunk, and write its part.

        Raises:
            StorageError: the part cannot be written.
        """
        samples = self._reader.samples(chunk)
        found: list[Rows] = []
        ledger = Ledger()
        while batch := list(itertools.islice(samples, self._predictor.chunk)):
            found.append(self._batch(batch, ledger))
            self._on_samples(len(batch))
        rows = Rows.joined(found)
        changes = {
            action: {"count": facts["count"], "samples": facts["samples"]} for action, facts in ledger.as_dict().items()
        }
        num_errors = sum(error is not None for error in rows.errors)
        facts = PartFacts(chunk.number, len(rows.files), num_errors, dict(sorted(rows.labels.items())), changes)
        self._folder.write(self._job.plan, chunk, facts, self._job.table.part(rows))
        return facts

    def _batch(self, batch: list[Sample], ledger: Ledger) -> Rows:
        answers = answer_chunk(self._predictor, batch, ledger)
        return rows_of(
            self._job.table.columns,
            self._predictor.decision,
            self._predictor.classes,
            [sample.name for sample in batch],
            answers.outcomes,
            answers.probabilities,
        )


Schedule = Callable[[Job, Any, Iterable[Chunk], OnSamples], Iterator[PartFacts]]
"""Predicts the parts of chunks, in any order: job, predictor, chunks, and a function that receives numbers of predicted samples."""


def predict_here(job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples) -> Iterator[PartFacts]:
    """Predict the parts one after the other in this process."""
    worker = Worker(job, predictor, on_samples)
    return map(worker.predict, chunks)
