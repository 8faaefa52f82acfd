"""The parity gate: an engine must answer as the run did, for golden files and held-out samples, at every batch size.

It runs in a process of its own in which PyTorch cannot be imported: ``python -m visus.ship verify BUNDLE``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from visus.data.images import decode as images
from visus.data.ledger import Ledger
from visus.data.npy import from_npy_bytes
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import BundleError, ImageError, ParityError, UsageError, VisusError
from visus.evaluation.cluster_bootstrap import count_groups, write_interval
from visus.evaluation.test_time_augmentation import SURE
from visus.ship.answers import Answerer, shuffled
from visus.ship.engines import ENGINES, OpenEngine, format_of, open_engine
from visus.ship.files import BundleFiles
from visus.ship.layers import first_difference, logits_differ
from visus.ship.manifest import MANIFEST, TOLERANCES, Manifest
from visus.ship.proof import NORMALIZATION, Proof, digest_of, read_proof, traced_values
from visus.ship.tasks.registry import BUNDLE_TASKS
from visus.ship.tasks.single_label import softmax
from visus.ship.tasks.task import Answers
from visus.units import write_share

BATCHES: Final = (1, 2, 7, 64)
_ROUNDING: Final = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.05, "int8": 1.0}
"""A sample whose top two probabilities are within this of the threshold of unsure predictions may be averaged over views by one side only."""
SAME: Final = {"single-label": "same label", "multi-label": "same set", "regression": "same numbers"}
"""The heading of the share of samples with the run's prediction."""


@dataclass(frozen=True)
class Check:
    """One engine compared with the run.

    Attributes:
        engine, version, precision: the engine, and the precision of its arithmetic.
        optimized: whether the engine optimized the graph.
        num_golden, num_samples: golden files and held-out samples that were compared.
        batches: the sizes of the batches.
        agreement: share of the samples with the run's label, its set of labels, or its numbers up to the tolerance.
        max_difference, mean_difference: largest and mean difference of a probability; of numbers, in standard deviations of the training labels.
        score, score_low, score_high: the metric of the task on the held-out samples with its 95 % interval: the accuracy, the mean average precision, or
            the mean absolute error in standard deviations.
        run_score: the same of the run.
        tolerance: largest difference that is accepted; None for int8.
        task: what is predicted.
        num_groups: number of groups that the interval is over; None for independent samples.
    """

    engine: str
    version: str
    precision: str
    optimized: bool
    num_golden: int
    num_samples: int
    batches: tuple[int, ...]
    agreement: float
    max_difference: float
    mean_difference: float
    score: float
    score_low: float | None
    score_high: float | None
    run_score: float
    tolerance: float | None
    task: str = "single-label"
    num_groups: int | None = None

    def title(self) -> str:
        """The engine with its version and precision."""
        return f"{self.engine} {self.version}, {self.precision}" + ("" if self.optimized else ", graph as it is")

    @property
    def metric(self) -> str:
        """The metric of the score."""
        return BUNDLE_TASKS[self.task].metric

    def score_words(self) -> str:
        """The score with its interval."""
        return f"{self.write(self.score)} ({write_interval(self.score_low, self.score_high, self.write, self.num_groups)})"

    def write(self, score: float) -> str:
        """A score without its unit."""
        return BUNDLE_TASKS[self.task].write(score)

    def result(self) -> str:
        """The comparison without the engine. It has no interval, since it is no new measurement: the facts of the manifest have that of the run."""
        kind = BUNDLE_TASKS[self.task]
        return (
            f"{write_share(self.agreement)} of the {kind.agreement_words}; {kind.output} differ by up to {self.max_difference:.1e}{kind.unit}; "
            f"{self.metric} {self.write(self.score)}, the run {self.write(self.run_score)}{kind.unit}"
        )

    def sentence(self) -> str:
        """The comparison in one line."""
        return f"{self.title()}: {self.result()}"


def check_bundle(
    files: BundleFiles, engines: Sequence[str] = (), precision: str = "float32", batches: Sequence[int] = BATCHES
) -> tuple[Check, ...]:
    """Compare every file with its hash, every golden file with its sample, and every engine with the run.

    Args:
        files: the bundle.
        engines: names of engines; default: each that is installed and whose network the bundle holds.
        precision: of the engines' arithmetic.
        batches: sizes of the batches.

    Returns:
        One comparison for each engine; ONNX Runtime is compared with and without its optimizations.

    Raises:
        BundleError: a file was changed, or the parts of the bundle contradict each other.
        ParityError: something differs from the run; the message says where.
        MissingExtraError: no engine is installed.
        UsageError: an engine is unknown, or a size of a batch is below 1.
    """
    for name in engines:
        format_of(name)
    for size in batches:
        if size < 1:
            raise UsageError(f"a batch of {size} samples cannot be computed. Use --batch with at least 1.")
    files.check()
    manifest = files.manifest
    if manifest.tolerances != TOLERANCES:
        raise BundleError(
            f"tolerances is {_written(manifest.tolerances)}, and {_written(TOLERANCES)} is needed. Export the run again.",
            where=f"{files.path}: {MANIFEST}",
        )
    proof = read_proof(files)
    check_classes(files, proof)
    check_golden_files(files, proof)
    check_normalization(files, proof)
    names = list(engines) or [
        each.name for each in ENGINES if each.is_installed and not each.needs_torch and each.is_held(manifest, precision)
    ]
    if not names:
        open_engine(files, precision=precision)  # says what is missing
    checks = []
    for name in names:
        for optimize in (True, False) if format_of(name) == "onnx" else (True,):
            engine = open_engine(
                files, name, precision, 1, optimize=optimize
            )  # one thread: most batches are too small for more
            checks.append(
                compare_engine(engine, manifest, proof, batches, optimize=optimize, graph=_graph(files, name, precision))
            )
    return tuple(checks)


def check_classes(files: BundleFiles, proof: Proof) -> None:
    """Compare the list of classes, or of targets, with the run's answers for the golden files. Its length fits, and engines compare it with their graph.

    Raises:
        BundleError: they contradict each other.
    """
    task, classes = files.manifest.task, files.manifest.classes
    for golden, answers in zip(proof.golden, proof.golden_answers, strict=True):
        named = task.label(answers, classes)
        if named != golden.label:
            raise BundleError(
                f"the list of {task.columns} was changed: the run called this file {golden.label or 'nothing'}, and the list calls it {named or 'nothing'}. Export "
                "the run again.",
                where=f"{files.path}: {golden.path}",
            )


def check_golden_files(files: BundleFiles, proof: Proof) -> None:
    """Read every golden file, and compare its pixels with those that the run reads.

    Raises:
        ParityError: decoding or resizing gives other pixels.
    """
    for golden, expected in zip(proof.golden, proof.golden_samples, strict=True):
        found, decoded, actions = read_golden(files.read(golden.path), golden.path, files.manifest.preprocessing)
        if np.array_equal(found, expected) and decoded == golden.decoded and actions == golden.actions:
            continue
        where = f"{files.path}: {golden.path} ({golden.kind})"
        size = int(np.abs(found.astype(np.float64) - expected).max()) if found.shape == expected.shape else None
        by = "" if size is None else f", by up to {size:,} levels"
        if decoded != golden.decoded or actions != golden.actions:
            did = (
                f"; the export noted {_listed(golden.actions)}, and here it is {_listed(actions)}"
                if actions != golden.actions
                else ""
            )
            raise ParityError(f"decoding gives other pixels than at the export{by}{did}. {_DECODER}", where=where)
        raise ParityError(
            f"resizing gives other pixels than at the export{by}. Use the version of visus that wrote this bundle.",
            where=where,
        )


def check_normalization(files: BundleFiles, proof: Proof) -> None:
    """Compare the normalization that the manifest states with the values that the run's network got.

    Raises:
        ParityError: offset or divisor differs.
    """
    layers = list(proof.layers)
    if NORMALIZATION not in layers:
        return
    preprocessing = files.manifest.preprocessing
    samples = shuffled(proof.traced_samples(), preprocessing)
    shape = (1, preprocessing.channels, *([1] * len(preprocessing.size)))
    offset, divisor = (np.reshape(each, shape) for each in (preprocessing.offset, preprocessing.divisor))
    expected = proof.layer_values[layers.index(NORMALIZATION)]
    with np.errstate(all="ignore"):  # forged numbers may overflow, and then differ
        found = traced_values(((samples - offset) / divisor).astype(np.float32))
        is_same = np.allclose(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)
    if not is_same:
        raise ParityError(
            "the normalization of the manifest gives other values than the run had: its offset or divisor was changed. Export the run again.",
            where=str(files.path),
        )


_DECODER = "Install the versions of Pillow and simplejpeg that the model card names"


def read_golden(content: bytes, path: str, preprocessing: Preprocessing) -> tuple[Pixels, str, tuple[str, ...]]:
    """A golden file through the one door of visus: its sample (C, *), the SHA-256 of its decoded pixels, and the changes of the ledger.

    Raises:
        ParityError: the file cannot be read.
    """
    ledger = Ledger()
    try:
        if path.endswith(".npy"):
            row = from_npy_bytes(content)
            sample, decoded = preprocessing.fit_row(row, ledger, path), ""
        else:
            sample = preprocessing.read_image(content, ledger, name=path)
            decoded = digest_of(images.decode(content, name=path).pixels)
    except (ImageError, ValueError) as error:
        said = error.message if isinstance(error, ImageError) else str(error)
        raise ParityError(f"this golden file cannot be read here: {said}", where=path) from None
    return sample, decoded, tuple(ledger.as_dict())


def compare_engine(
    engine: OpenEngine,
    manifest: Manifest,
    proof: Proof,
    batches: Sequence[int] = BATCHES,
    *,
    optimize: bool = True,
    graph: bytes | None = None,
    is_judged: bool = True,
) -> Check:
    """Compare an engine with the run, by ``TOLERANCES``; those of the manifest are not believed.

    Args:
        engine: the engine.
        manifest, proof: of the bundle.
        batches: sizes of the batches.
        optimize: whether the engine optimized the graph, for the result.
        graph: the ONNX file, in which a difference is located.
        is_judged: whether differences above the tolerance are refused.

    Raises:
        ParityError: it answers differently; the message names the part or the layer where the difference begins.
    """
    tolerance, task = TOLERANCES.get(engine.precision) if is_judged else None, manifest.task
    differences, agreements, of_samples = [], [], list[Answers]()
    samples, expected = proof.all_samples(), proof.all_answers()
    num_golden = len(proof.golden)
    for size in batches:
        where = f"{engine.name}, {engine.precision}, batches of {size}"
        try:
            _check_plain(engine, manifest, proof, size, tolerance)
            found = Answerer(engine, manifest, size)(samples)
        except VisusError as error:
            raise _located(error.within(where), graph, proof, manifest, engine, optimize) from None
        except Exception as error:  # an engine raises what its own language has
            raise ParityError(
                f"the engine stopped: {str(error).splitlines()[0] if str(error) else type(error).__name__}", where=where
            ) from error
        compared = ~_near_the_threshold(proof, manifest, engine.precision)
        difference = task.differences(found, expected).max(axis=1)
        same = task.agree(found, expected, tolerance)
        if tolerance is not None and not (difference[compared].max(initial=0) <= tolerance and same[compared].all()):
            worst = int(np.where(compared, difference, -1).argmax())
            sample = proof.golden[worst].path if worst < num_golden else f"sample {worst - num_golden}"
            raise ParityError(
                f"{task.noun} of {sample} differs by {difference[worst]:.1e}{task.unit}, and at most {tolerance:.0e} is accepted, though the network's "
                f"own outputs agree: test-time augmentation or {_step(manifest)} differs.",
                where=where,
            )
        differences.append(difference)
        agreements.append(same)
        of_samples.append(found[num_golden:])
    score = task.score(of_samples, proof.labels, proof.groups)
    return Check(
        engine.name,
        engine.version,
        engine.precision,
        optimize,
        num_golden,
        len(proof.labels),
        tuple(batches),
        float(np.mean(agreements)),
        float(np.max(differences)),
        float(np.mean(differences)),
        score.value,
        score.low,
        score.high,
        task.score([proof.answers], proof.labels).value,
        tolerance,
        task.name,
        count_groups(proof.groups),
    )


def _check_plain(engine: OpenEngine, manifest: Manifest, proof: Proof, size: int, tolerance: float | None) -> None:
    """Compare the outputs of the graph for each sample, without test-time augmentation.

    Raises:
        ParityError: they differ.
    """
    samples = shuffled(proof.all_samples(), manifest.preprocessing)
    parts = [engine.run(samples[start : start + size]) for start in range(0, len(samples), size)]
    logits = np.concatenate([part[0] for part in parts])
    answers = np.concatenate([part[1] for part in parts])
    if logits.shape != proof.plain_logits.shape:
        raise ParityError(f"the outputs have the shape {logits.shape}, and {proof.plain_logits.shape} is needed.")
    if not np.isfinite(logits).all():
        raise ParityError("an output is NaN or infinite.")
    if tolerance is None:
        return
    task, expected = manifest.task, manifest.answers(proof.plain_logits)
    worst = float(task.differences(manifest.answers(logits), expected).max())
    if not worst <= tolerance:  # NaN too
        raise ParityError(f"{task.noun} differs by {worst:.1e}{task.unit}, and at most {tolerance:.0e} is accepted.")
    worst = float((task.differences(answers, expected) - task.rounding(expected)).max())
    if not worst <= tolerance:
        raise ParityError(
            f"{task.noun} differs by {worst:.1e}{task.unit}, and at most {tolerance:.0e} is accepted, though the logits agree: the difference begins "
            f"in the {task.last_step}."
        )


def _located(
    error: VisusError, graph: bytes | None, proof: Proof, manifest: Manifest, engine: OpenEngine, optimize: bool
) -> VisusError:
    """The error with the layer where the difference begins, if a graph is given."""
    if graph is None or _step(manifest) in error.message or not isinstance(error, ParityError):
        return error
    precision = engine.precision if engine.precision == "int8" else "float32"
    try:
        layer = first_difference(graph, proof, manifest.preprocessing, precision=precision)
    except Exception:  # the ONNX file does not open, or has no such values: a forged proof names others
        return error
    if layer:
        place = f"The difference begins in {layer}."
    elif logits_differ(graph, proof, manifest.preprocessing, precision):
        place = "The difference is in the graph, though each of its layers agrees for the traced samples."
    else:
        by = "the optimizations of " if optimize else ""
        place = f"Every layer of the graph agrees by itself, so it comes from {by}{engine.name}."
    return ParityError(f"{error.message.rstrip('.')}. {place}", where=error.where)


def _step(manifest: Manifest) -> str:
    """The last step of a graph, without its details: the difference is not in a layer where a message names it."""
    return manifest.task.last_step.partition(" (")[0]


def _near_the_threshold(proof: Proof, manifest: Manifest, precision: str) -> npt.NDArray[np.bool_]:
    """Mask (golden files, then samples) of those that rounding may give other views."""
    if not manifest.tta.startswith("unsure:"):
        return np.zeros(len(proof.plain_logits), dtype=np.bool_)
    probabilities = np.sort(softmax(proof.plain_logits.astype(np.float64)), axis=1)
    gap = probabilities[:, -1] - probabilities[:, -2] if probabilities.shape[1] > 1 else np.ones(len(probabilities))
    return np.asarray(np.abs(gap - SURE) < _ROUNDING[precision])


def _graph(files: BundleFiles, engine: str, precision: str) -> bytes | None:
    """The ONNX file in which a difference is located."""
    wanted = precision if precision == "int8" and format_of(engine) == "onnx" else "float32"
    for graph in files.manifest.graphs:
        if (graph.format, graph.precision) == ("onnx", wanted):
            return files.read(graph.path)
    return None


def _written(tolerances: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in sorted(tolerances.items())) or "empty"


def _listed(actions: Sequence[str]) -> str:
    return ", ".join(actions) or "nothing"


def checks_as_json(checks: Sequence[Check]) -> str:
    """The comparisons as JSON."""
    return json.dumps([asdict(each) for each in checks], allow_nan=False)


def checks_from_json(text: str) -> tuple[Check, ...]:
    """The inverse of ``checks_as_json``."""
    return tuple(Check(**{**each, "batches": tuple(each["batches"])}) for each in json.loads(text))
