"""The bundle of a run: what ``visus export`` and ``run.export`` do."""

from __future__ import annotations

import copy
import csv
import importlib.util
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from visus.caller import is_command, resume_call
from visus.data.opened import Data
from visus.data.preprocessing import Pixels
from visus.data.samples import ImageFiles
from visus.data.tasks import strata
from visus.errors import OPTIONAL_PACKAGES, RunError, UsageError, VisusError, install_command
from visus.evaluation.tasks.regression import Regression
from visus.networks.trace import trace
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.ship.bill_of_materials import SBOM, bill_of_materials, installed
from visus.ship.engine_times import measure_engines
from visus.ship.export import FORMATS, Exportable, check_target, make_bundle
from visus.ship.files import BundleFiles
from visus.ship.golden_files import GoldenFile, golden_images, golden_rows
from visus.ship.manifest import DESIGN, FileFacts, Manifest, digest, metric_field, run_score
from visus.ship.parity import Check
from visus.ship.proof import read_proof, spread_over_classes
from visus.ship.quantize import INT8, MAX_LOSS, Int8, check_number
from visus.ship.tasks.multi_label import MultiLabelBundle
from visus.ship.tasks.registry import BUNDLE_TASKS, SINGLE_LABEL
from visus.ship.tasks.regression import RegressionBundle
from visus.ship.tasks.task import BundleTask
from visus.tables import Described, Table, Text
from visus.training.runs import RunFolder
from visus.units import write_bytes, write_number_of, write_share
from visus.workbench.runs.predict import RunPredictor
from visus.workbench.runs.saved import SavedRun, unfinished_notes
from visus.workbench.ship.card import CardTexts, bundle_card

NUM_GOLDEN: Final = 20
NUM_SAMPLES: Final = 500
NUM_CALIBRATION: Final = 500
"""Training samples for the calibration of an int8 network; fewer if the run has fewer, and never below ``MIN_SAMPLES``."""
OPENVINO_MISSING: Final = f"without openvino, which is not installed ({install_command(*OPTIONAL_PACKAGES['openvino'])})"
MAX_SAMPLE_BYTES: Final = 128 * 2**20
"""Held-out samples in a bundle have at most this size together; where 500 are larger, there are fewer."""
_MAX_CANDIDATES: Final = 400
_BATCH: Final = 64


@dataclass(frozen=True, eq=False, repr=False)
class Export(Described):
    """A bundle that was written.

    Attributes:
        path: the folder or zip file.
        manifest: what it holds.
        sha256: the SHA-256 of its manifest, which identifies it.
        int8_gain: samples per second of the int8 network beside float32 on this machine, with one thread; None without an int8 network.
        run_difference: how ``run.predict`` differs on this machine, where it does not compute in float32, in words; otherwise empty.
        checks: each engine compared with the run.

    >>> exported.text()[0]
    'Bundle levels'
    """

    path: Path
    manifest: Manifest
    sha256: str
    int8_gain: float | None = None
    run_difference: str = ""

    @property
    def checks(self) -> tuple[Check, ...]:
        """Each engine compared with the run.

        >>> [(each.engine, each.optimized, each.agreement) for each in exported.checks]
        [('onnxruntime', True, 1.0), ('onnxruntime', False, 1.0)]
        """
        return tuple(Check(**{**each, "batches": tuple(each["batches"])}) for each in self.manifest.checks)

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        title, rows = self._parts()
        return title, [*rows, ("identity", f"sha256 {self.sha256}"), ("next", self._next_steps()[0])]

    def _parts(self) -> tuple[str, list[tuple[str, str]]]:
        size = sum(each.num_bytes for each in self.manifest.files.values())
        formats = ", ".join(dict.fromkeys(each.format for each in self.manifest.graphs))
        golden = sum(path.startswith("golden/") for path in self.manifest.files)
        rows = [
            ("network", formats),
            *([("", OPENVINO_MISSING)] if "openvino" not in formats and "openvino" not in usual_formats() else []),
            (f"{BUNDLE_TASKS[self.manifest.task.name].metric} of the run", run_score(self.manifest)),
            *((each.title(), each.result()) for each in self.checks),
            *([("run.predict", self.run_difference)] if self.run_difference else []),
            *self._int8_rows(),
            (
                "your data",
                f"{write_number_of(golden, 'file')} and {self.checks[0].num_samples:,} held-out samples are in the bundle, for the check",
            ),
            ("bundle", f"{self.path} ({write_bytes(size)})"),
        ]
        return f"Bundle {self.manifest.name}", rows

    def _next_steps(self) -> list[str]:
        """What checks the bundle, predicts with it, and serves it."""
        typed, place = shlex.quote(str(self.path)), repr(str(self.path))
        commands = [f"visus verify {typed}", f"visus predict {typed} FILES...", f"visus serve {typed}"]
        python = f"visus.verify({place}), visus.open_bundle({place}).predict(files), visus.serve({place})"
        return commands if is_command() else [python]

    def _int8_rows(self) -> list[tuple[str, str]]:
        if INT8 not in self.manifest.facts or self.int8_gain is None:
            return []
        gain = f"{self.int8_gain:.3g} times as fast as float32 with one thread, medians by turns"
        return [("int8", Int8(**self.manifest.facts[INT8]).sentence()), ("", gain)]

    def text(self) -> Text:
        """The bundle as a table of facts, its identity, and what to do next.

        >>> exported.text()[1].rows[0]
        ('network', 'onnx, safetensors')
        """
        title, rows = self._parts()
        table = Table(tuple(rows), ("part", "result"))
        return Text((title, table, f"sha256 {self.sha256}", *(f"next: {each}" for each in self._next_steps())))

    def to_json(self) -> dict[str, Any]:
        """The bundle as plain data.

        >>> exported.to_json()["manifest"]["classes"]
        ['0', '1', '2']
        """
        return {
            "bundle": str(self.path),
            "sha256": self.sha256,
            "manifest": json.loads(self.manifest.text()),
            "int8_gain": self.int8_gain,
            "run_difference": self.run_difference,
        }


def usual_formats() -> tuple[str, ...]:
    """The formats that an export writes by default: all whose packages are installed.

    >>> usual_formats()[0]
    'onnx'
    """
    has_openvino = importlib.util.find_spec("openvino") is not None
    return tuple(each for each in FORMATS if each != "openvino" or has_openvino)


def export_run(
    run: SavedRun,
    path: str | Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    num_samples: int = NUM_SAMPLES,
    num_golden: int = NUM_GOLDEN,
    license: str = "",
    intended_use: str = "",
    ethical_considerations: str = "",
    int8: bool = False,
    max_loss: float = MAX_LOSS,
    force: bool = False,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Export:
    """Write the bundle of a run; the arguments are those of ``Run.export``."""
    monitor = Monitor(on_event, should_stop)
    target = Path(f"{run.name}-bundle" if path is None else path).expanduser()
    check_target(target, force=force)
    if num_samples < 1 or num_golden < 1:
        raise UsageError("the check of a bundle needs at least one held-out sample and one golden file.")
    if unfinished_notes(run):
        raise RunError(
            f"this training was stopped before its end, so it cannot be exported. Resume it with {resume_call(run.folder)}.",
            where=str(run.folder),
        )
    facts = _facts_of(run)
    data = run.open_data(cache_dir=cache_dir, progress=False, **monitor.keywords)
    split = data.scored_split
    part = data.split(split)
    if not len(part):
        raise RunError(
            "the data of this run has no held-out samples, so an export cannot be checked. Train with a test split.",
            where=str(run.folder),
        )
    bytes_each = max(1, part.pixels[:1].nbytes)
    places = spread_over_classes(strata(part.labels), min(num_samples, max(1, MAX_SAMPLE_BYTES // bytes_each)))
    source = Exportable(
        name=run.name,
        network=copy.deepcopy(run.module).float().cpu().eval(),
        preprocessing=run.preprocessing,
        classes=run.classes,
        calibrator=run.calibrator(),
        tta=run.recipe.tta or "none",
        golden=_golden_files(run, data, split, num_golden),
        samples=np.ascontiguousarray(part.pixels[part.indices[places]]),
        labels=part.labels[places],
        groups=None if (groups := data.groups_of(split)) is None else [groups[place] for place in places],
        texts=_texts(run),
        facts=facts,
        license=license,
        documents=lambda manifest: _documents(run, manifest, CardTexts(intended_use, ethical_considerations)),
        calibration=_calibration_samples(data) if int8 else None,
        max_loss=max_loss,
        task=task_of_bundle(run),
    )
    manifest, identity = make_bundle(
        source, target, usual_formats() if formats is None else formats, force=force, monitor=monitor
    )
    gain = _int8_gain(target, manifest, monitor) if int8 else None
    return Export(target, manifest, identity, gain, _run_difference(run, target))


def task_of_bundle(run: SavedRun) -> BundleTask:
    """What the outputs of a run mean, with its thresholds or intervals.

    >>> task_of_bundle(run)
    SingleLabelBundle()
    """
    decision = RunPredictor(run, raw=False).decision
    if isinstance(run.task, Regression):
        return RegressionBundle(run.task.mean, run.task.std, decision.half_widths)
    return MultiLabelBundle(decision.thresholds) if decision.task == "multi-label" else SINGLE_LABEL


def _run_difference(run: SavedRun, bundle: Path) -> str:
    """How the answers of ``run.predict`` on this machine differ from those of the bundle, if they are not computed in float32."""
    if run.machine.precision == "float32":
        return ""
    files = BundleFiles(bundle)
    proof, task = read_proof(files), files.manifest.task
    starts = range(0, len(proof.samples), _BATCH)
    batches = [run.preprocessing.scaled(torch.from_numpy(proof.samples[start : start + _BATCH])) for start in starts]
    found = run.probabilities(run.logits(batches)).numpy()
    same = float(task.agree(found, proof.answers, None).mean())
    return (
        f"computes in {run.machine.precision} on this machine, and the bundle in float32: {write_share(same)} of the {task.agreement_words}; "
        f"{task.output} differ by up to {float(task.differences(found, proof.answers).max()):.1e}{task.unit}"
    )


def _calibration_samples(data: Data) -> Pixels:
    """Training samples for the calibration of an int8 network, as stored, the classes in turns."""
    part = data.split("train")
    check_number(len(part))
    return np.ascontiguousarray(part.pixels[part.indices[spread_over_classes(strata(part.labels), NUM_CALIBRATION)]])


def _int8_gain(bundle: Path, manifest: Manifest, monitor: Monitor) -> float:
    """Samples per second of the int8 network beside those of float32, in the same engine with one thread, by turns."""
    engine = str(manifest.facts[INT8]["engine"])
    found = measure_engines(
        BundleFiles(bundle),
        engines=(engine,),
        precisions=("float32", "int8"),
        batch_sizes=(1, 8),
        threads=(1,),
        rounds=5,
        monitor=monitor,
    )
    return found.rate(engine, "int8", 1) / found.rate(engine, "float32", 1)


def _golden_files(run: SavedRun, data: Data, split: str, count: int) -> list[GoldenFile]:
    """Golden files of the held-out samples."""
    samples = data.samples
    indices = np.flatnonzero(samples.splits == split)
    indices = indices[spread_over_classes(strata(samples.labels[indices]), _MAX_CANDIDATES)]
    if isinstance(samples.reader, ImageFiles):
        noted = _noted(run)
        return golden_images(
            ((samples.reader.path(int(index)), noted.get(samples.names[index], ())) for index in indices),
            count,
            run.preprocessing.size,
        )
    rows = [np.asarray(samples.reader.read(int(index))) for index in indices[:count]]
    return golden_rows(rows, count, run.preprocessing.size, are_images=run.preprocessing.is_image_like)


def _noted(run: SavedRun) -> dict[str, list[str]]:
    """Name of a sample -> the actions that the ledger of the run lists for it."""
    noted: dict[str, list[str]] = {}
    with (run.folder / "ledger.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file):
            if len(row) >= 2:
                noted.setdefault(row[1], []).append(row[0])
    return noted


def _texts(run: SavedRun) -> dict[str, str]:
    """The files of a run that go into its bundle as they are."""
    folder = RunFolder.open(run.folder)
    found = {name: folder.read_text(name) for name in _COPIED if (run.folder / name).is_file()}
    if (run.folder / _LEDGER).is_file() and (run.folder / _LEDGER).stat().st_size <= _MAX_LEDGER_BYTES:
        found[_LEDGER] = folder.read_text(_LEDGER)
    return found


_COPIED: Final = (DESIGN, "ledger.json")
_LEDGER: Final = "ledger.csv"
_MAX_LEDGER_BYTES: Final = 2**20
"""A ledger of files in a bundle has at most this size."""


def _documents(run: SavedRun, manifest: Manifest, texts: CardTexts) -> dict[str, str]:
    """The model card, and the list of what is in the bundle."""
    packages = installed()
    card = bundle_card(run, manifest, packages, texts)
    files = {**manifest.files, CARD: FileFacts(digest(card), len(card.encode()))}
    return {CARD: card, SBOM: bill_of_materials(replace(manifest, files=files), packages)}


CARD: Final = "README.md"


def _facts_of(run: SavedRun) -> dict[str, object]:
    """Measurements of the run for the manifest."""
    scores, metric = run.scores, metric_field(run.task.name)
    found = scores.headline  # of several targets, the error of the first
    return {
        metric: found.value,
        f"{metric}_low": found.low,
        f"{metric}_high": found.high,
        **({} if scores.num_groups is None else {"num_groups": scores.num_groups}),
        "num_scored": scores.num_samples,
        "num_parameters": sum(each.numel() for each in run.module.parameters()),
        **_costs_of(run),
    }


def _costs_of(run: SavedRun) -> dict[str, object]:
    """Multiply-adds of one sample, and the receptive field (one length for each spatial axis) of the last map; None where it is the whole input."""
    try:
        account = trace(run.module, run.preprocessing.input_shape)
    except VisusError:  # a module that only runs on real samples is exported all the same
        return {"macs": None, "receptive_field": None}
    fields = [row.fields for row in account.rows if row.fields and all(field.stride for field in row.fields)]
    return {"macs": account.macs, "receptive_field": [field.size for field in fields[-1]] if fields else None}
