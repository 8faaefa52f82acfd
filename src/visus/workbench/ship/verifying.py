"""The check of a bundle: what ``visus verify`` and ``visus.verify`` do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visus.progress import Monitor, OnEvent, ShouldStop
from visus.ship.engines import format_of
from visus.ship.files import BundleFiles
from visus.ship.other_process import check_in_other_process
from visus.ship.parity import SAME, Check, check_bundle
from visus.ship.tasks.registry import BUNDLE_TASKS, SINGLE_LABEL
from visus.tables import Described, Table, Text
from visus.units import write_number_of, write_share


@dataclass(frozen=True, repr=False)
class Verification(Described):
    """A bundle that answers as its run did.

    Attributes:
        path: the bundle.
        name: name of the run.
        sha256: the SHA-256 of the manifest, which identifies the bundle.
        num_files: number of its files, each of which has the hash of the manifest.
        checks: each engine compared with the run.
        not_compared: files with the network that no engine of this check reads. Their hashes are right.

    >>> verified.text()[0]
    'Bundle levels: it answers as the run did'
    """

    path: Path
    name: str
    sha256: str
    num_files: int
    checks: tuple[Check, ...]
    not_compared: tuple[str, ...] = ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        first = self.checks[0]
        rows = [
            ("files", f"{write_number_of(self.num_files, 'file')}, each with its SHA-256"),
            (
                "compared",
                f"{write_number_of(first.num_golden, 'golden file')} and {first.num_samples:,} held-out samples, in batches of {_listed(first.batches)}",
            ),
            *((each.title(), each.result()) for each in self.checks),
            *([("not compared", self._left())] if self.not_compared else []),
            ("identity", f"sha256 {self.sha256}"),
        ]
        return f"Bundle {self.name}: it answers as the run did", rows

    def text(self) -> Text:
        """The comparison as a sentence and a table.

        >>> verified.text()[2].rows[0][1]
        '100.0 %'
        """
        title, _ = self._facts()
        first = self.checks[0]
        compared = (
            f"{write_number_of(self.num_files, 'file')} with the right SHA-256; {write_number_of(first.num_golden, 'golden file')} and "
            f"{first.num_samples:,} held-out samples compared, in batches of {_listed(first.batches)}; the run has {self._of_run()} on them."
        )
        rows = tuple(
            (each.title(), write_share(each.agreement), f"{each.max_difference:.1e}", each.score_words())
            for each in self.checks
        )
        table = Table(rows, ("engine", SAME[first.task], "largest difference", first.metric), (1, 2))
        left = (f"not compared: {self._left()}",) if self.not_compared else ()
        return Text((title, compared, table, *left, f"sha256 {self.sha256}"))

    def _of_run(self) -> str:
        """The metric of the run on the samples; the accuracy needs no name."""
        first = self.checks[0]
        value, kind = first.write(first.run_score), BUNDLE_TASKS[first.task]
        if first.task == SINGLE_LABEL.name:
            return value
        return f"a {first.metric} of {value}{kind.unit and f'{kind.unit} of the training labels'}"

    def _left(self) -> str:
        return f"{', '.join(self.not_compared)} (read by other engines; their SHA-256 is right)"

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data.

        >>> verified.to_json()["checks"][0]["batches"]
        [1, 2, 7, 64]
        """
        checks = [{**vars(each), "batches": list(each.batches)} for each in self.checks]
        return {
            "bundle": str(self.path),
            "name": self.name,
            "sha256": self.sha256,
            "num_files": self.num_files,
            "checks": checks,
            "not_compared": list(self.not_compared),
        }


def verify(
    bundle: str | Path,
    *,
    engines: Sequence[str] = (),
    precision: str = "float32",
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Verification:
    """Check that a bundle answers as its run did, in a process without PyTorch.

    Every file is compared with its hash, every golden file is read and compared with the sample that the run reads, and every engine answers golden
    files and held-out samples in batches of 1, 2, 7 and 64, with and without the engine's optimizations.

    Args:
        bundle: its folder or zip file.
        engines: ``onnxruntime`` or ``openvino``; default: each that is installed and whose network the bundle holds.
        precision: of the engines' arithmetic.
        progress: False shows nothing on stderr.
        on_event: receives a ``Progress`` when the check begins.
        should_stop: called when the check begins; True raises ``CanceledError``.

    Raises:
        BundleError: it is no bundle, or a file was added, removed or changed.
        ParityError: something differs from the run; the message says where.
        MissingExtraError: no engine is installed.

    >>> visus.verify(exported.path).name
    'levels'
    """
    path = Path(bundle).expanduser()
    with _following(progress, Monitor(on_event, should_stop)) as monitor:
        monitor.step("verifying", 0)
        files = BundleFiles(path)
        if "torch" in sys.modules:
            checks = check_in_other_process(path, engines, precision)
        else:
            checks = check_bundle(files, engines, precision)
    compared = {format_of(each.engine) for each in checks}
    left = tuple(each.path for each in files.manifest.graphs if each.format not in compared and each.precision == precision)
    return Verification(path, files.manifest.name, files.digest, len(files.manifest.files), checks, left)


def _following(progress: bool | None, monitor: Monitor) -> Any:
    """The live line; nothing where rich is not installed."""
    import contextlib

    try:
        from visus.workbench.live_line import following
    except ImportError:
        return contextlib.nullcontext(monitor)
    return following("verifying", monitor, progress)


def _listed(batches: Sequence[int]) -> str:
    return f"{', '.join(map(str, batches[:-1]))} and {batches[-1]}" if len(batches) > 1 else str(batches[0])
