"""The proof that a bundle holds: golden files and held-out samples, with the answers of the run.

- ``golden/``: files as people have them, and ``proof/golden.json`` with what each must become: decoded pixels, sample, label, answers.
- ``proof/*.npy``: held-out samples at the network's size, their labels, and the logits and answers of the run: probabilities, or numbers of regression.
- ``proof/layers.json`` and ``proof/layers.npy``: values of each layer for some samples, by which a difference is located.

Nothing here needs PyTorch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from visus.data.npy import from_npy_bytes, npy_bytes
from visus.data.plain_values import items, record, shown, text
from visus.data.preprocessing import Pixels
from visus.errors import BundleError, ImageError
from visus.ship.files import BundleFiles
from visus.ship.tasks.task import Answers, BundleTask, Groups

GOLDEN: Final = "proof/golden.json"
SAMPLES, LABELS = "proof/samples.npy", "proof/labels.npy"
GROUPS: Final = "proof/groups.npy"
"""The number of each sample's group, without its name; this file is there if a group has several samples."""
PLAIN_LOGITS, GOLDEN_SAMPLES = "proof/plain_logits.npy", "proof/golden_samples.npy"
LAYERS, LAYER_VALUES = "proof/layers.json", "proof/layers.npy"
NORMALIZATION: Final = "normalization"
"""The layer that scales the stored samples, before the network."""
NUM_TRACED: Final = 8
"""Samples whose layers are kept, evenly spaced among the held-out samples, which are sorted by class in many datasets."""
MAX_TRACED_VALUES: Final = 128
"""Values that are kept for each layer and sample; of a larger output, sums of its values under fixed random signs, so that every value counts."""


@dataclass(frozen=True)
class Golden:
    """One golden file.

    Args:
        path: its file in the bundle.
        kind: why it was chosen, such as ``16-bit`` or ``held-out``.
        decoded: SHA-256 of the decoded pixels, before any resizing; empty for arrays.
        actions: the changes that the ledger lists.
        label: the most probable class; the set of classes, or the numbers with their targets.
    """

    path: str
    kind: str
    decoded: str
    actions: tuple[str, ...]
    label: str


@dataclass(frozen=True, eq=False)
class Proof:
    """Golden files and held-out samples with the answers of the run.

    Shape letters: G golden files, N samples, C channels, K classes, L layers.

    Args:
        golden: the golden files.
        golden_samples: what each becomes, (G, C, *).
        golden_answers: the run's answers, (G, K): calibrated probabilities, or numbers in the units of the labels.
        samples: held-out samples as stored, (N, C, *).
        labels: their labels, as in ``visus.data.tasks``.
        groups: the number of each sample's group, (N,); None if each is a group of its own.
        plain_logits: the network's logits without test-time augmentation, for the golden files and then the samples, (G + N, K).
        answers: the run's answers for the samples, (N, K).
        layers: layer -> name of its output in the ONNX graph, in the order of computing; a layer that the graph computes together with the one before
            it has both names, such as ``conv1 and norm1``.
        layer_values: the traced values of each layer for the traced samples, (L, samples, values); NaN where a layer has fewer.
    """

    golden: tuple[Golden, ...]
    golden_samples: Pixels
    golden_answers: Answers
    samples: Pixels
    labels: npt.NDArray[Any]
    groups: Groups | None
    plain_logits: npt.NDArray[np.float32]
    answers: Answers
    layers: Mapping[str, str]
    layer_values: npt.NDArray[np.float32]

    def traced_samples(self) -> Pixels:
        """The samples whose layers are kept, (samples, C, *)."""
        return self.samples[traced_places(len(self.samples))]

    def all_samples(self) -> Pixels:
        """The samples of the golden files, then the held-out ones, (G + N, C, *)."""
        return np.concatenate((self.golden_samples, self.samples))

    def all_answers(self) -> Answers:
        """The run's answers for ``all_samples``, (G + N, K)."""
        return np.concatenate((self.golden_answers, self.answers))

    def contents(self, task: BundleTask) -> dict[str, bytes]:
        """The files of the proof of a task, without the golden files themselves."""
        of_golden, of_samples = answer_paths(task)
        arrays: dict[str, npt.NDArray[Any]] = {
            GOLDEN_SAMPLES: self.golden_samples,
            of_golden: self.golden_answers,
            SAMPLES: self.samples,
            LABELS: self.labels,
            PLAIN_LOGITS: self.plain_logits,
            of_samples: self.answers,
            LAYER_VALUES: self.layer_values,
            **({} if self.groups is None else {GROUPS: self.groups}),
        }
        texts = {GOLDEN: [asdict(each) for each in self.golden], LAYERS: [list(each) for each in self.layers.items()]}
        return {
            **{path: (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode() for path, value in texts.items()},
            **{path: npy_bytes(array) for path, array in arrays.items()},
        }


def answer_paths(task: BundleTask) -> tuple[str, str]:
    """The files with the run's answers for the golden files and for the samples.

    >>> from visus.ship.tasks.registry import SINGLE_LABEL
    >>> answer_paths(SINGLE_LABEL)
    ('proof/golden_probabilities.npy', 'proof/probabilities.npy')
    """
    return f"proof/golden_{task.output}.npy", f"proof/{task.output}.npy"


def read_proof(files: BundleFiles) -> Proof:
    """The proof of a bundle.

    Raises:
        BundleError: a part is missing, damaged, or of another shape.
    """
    task = files.manifest.task
    of_golden, of_samples = answer_paths(task)
    for path in (
        GOLDEN,
        LAYERS,
        SAMPLES,
        LABELS,
        PLAIN_LOGITS,
        of_samples,
        GOLDEN_SAMPLES,
        of_golden,
        LAYER_VALUES,
    ):
        if path not in files.manifest.files:
            raise BundleError(
                f"{path} is missing, so this bundle cannot be verified. Export the run again.", where=str(files.path)
            )
    try:
        golden = tuple(_golden(files, each) for each in items(json.loads(files.read(GOLDEN)), GOLDEN))
        layers = {}
        for each in items(json.loads(files.read(LAYERS)), LAYERS):
            layer, value = items(each, LAYERS, 2)
            layers[text(layer, LAYERS)] = text(value, LAYERS)
        proof = Proof(
            golden,
            _array(files, GOLDEN_SAMPLES),
            _array(files, of_golden),
            _array(files, SAMPLES),
            _array(files, LABELS),
            _array(files, GROUPS) if GROUPS in files.manifest.files else None,
            _array(files, PLAIN_LOGITS),
            _array(files, of_samples),
            layers,
            _array(files, LAYER_VALUES),
        )
    except (ImageError, ValueError, MemoryError, RecursionError) as error:
        cause = str(error).split(". ")[0]
        raise BundleError(f"the proof is not readable ({cause}). Export the run again.", where=str(files.path)) from None
    classes, shape = len(files.manifest.classes), files.manifest.preprocessing.input_shape
    num_samples, num_golden = len(proof.labels) if proof.labels.ndim else 0, len(golden)
    if not num_samples:
        raise BundleError("the proof has no held-out samples. Export the run again.", where=f"{files.path}: {LABELS}")
    values_shape = (len(layers), min(NUM_TRACED, num_samples), MAX_TRACED_VALUES if layers else 0)
    wanted: dict[str, tuple[npt.NDArray[Any], tuple[int, ...]]] = {
        LABELS: (proof.labels, task.labels_shape(num_samples, classes)),
        LAYER_VALUES: (proof.layer_values, values_shape),
        GOLDEN_SAMPLES: (proof.golden_samples, (num_golden, *shape)),
        of_golden: (proof.golden_answers, (num_golden, classes)),
        SAMPLES: (proof.samples, (num_samples, *shape)),
        PLAIN_LOGITS: (proof.plain_logits, (num_golden + num_samples, classes)),
        of_samples: (proof.answers, (num_samples, classes)),
    }
    if proof.groups is not None:
        wanted[GROUPS] = (proof.groups, (num_samples,))
    for path, (array, expected) in wanted.items():
        if array.shape != expected:
            raise BundleError(
                f"this array has the shape {array.shape}, and {expected} is needed. Export the run again.",
                where=f"{files.path}: {path}",
            )
    _check_values(files, proof)
    return proof


def _golden(files: BundleFiles, value: Any) -> Golden:
    """One entry of ``GOLDEN``.

    Raises:
        ValueError: a field is missing, unknown or impossible; the message names it.
    """
    plain = record(value, GOLDEN, [each.name for each in fields(Golden)])
    texts = {name: text(plain[name], f"{GOLDEN}: {name}") for name in ("path", "kind", "decoded", "label")}
    actions = tuple(text(each, f"{GOLDEN}: actions") for each in items(plain["actions"], f"{GOLDEN}: actions"))
    if texts["path"] not in files.manifest.files or not texts["path"].startswith("golden/"):
        raise ValueError(f"{GOLDEN}: path is {shown(texts['path'])}, and a file of the bundle in golden/ is needed")
    return Golden(**texts, actions=actions)


def _check_values(files: BundleFiles, proof: Proof) -> None:
    """Refuse arrays whose values no run has.

    Raises:
        BundleError: a type is another one, a number is NaN, or a label or probability is out of range.
    """
    stored, task = files.manifest.preprocessing.dtype, files.manifest.task
    of_golden, of_samples = answer_paths(task)
    for path, array, dtype in (
        (LABELS, proof.labels, task.label_kind),
        (SAMPLES, proof.samples, stored),
        (GOLDEN_SAMPLES, proof.golden_samples, stored),
        (PLAIN_LOGITS, proof.plain_logits, "float32"),
        (of_samples, proof.answers, "float64"),
        (of_golden, proof.golden_answers, "float64"),
        (LAYER_VALUES, proof.layer_values, "float32"),
        *(() if proof.groups is None else ((GROUPS, proof.groups, "int64"),)),
    ):
        where = f"{files.path}: {path}"
        if array.dtype != np.dtype(dtype):
            raise BundleError(f"these values are {array.dtype}, and {dtype} is needed. Export the run again.", where=where)
        if path != LAYER_VALUES and not np.isfinite(array).all():
            raise BundleError("a value is NaN or infinite. Export the run again.", where=where)
        is_share = path in (of_golden, of_samples) and task.output == "probabilities"
        if is_share and array.size and not (array.min() >= 0 and array.max() <= 1):
            raise BundleError("a value is not between 0 and 1. Export the run again.", where=where)
        if path == LABELS and (problem := task.labels_problem(array, len(files.manifest.classes))):
            raise BundleError(f"{problem}. Export the run again.", where=where)


def digest_of(pixels: Pixels) -> str:
    """SHA-256 of an array's shape, data type and values."""
    head = f"{pixels.dtype.str} {pixels.shape} "
    return hashlib.sha256(head.encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def traced_places(num_samples: int) -> npt.NDArray[np.int64]:
    """The places of the samples whose layers are kept.

    >>> traced_places(500).tolist()
    [0, 71, 142, 213, 285, 356, 427, 499]
    """
    return np.unique(np.linspace(0, num_samples - 1, min(num_samples, NUM_TRACED)).astype(np.int64))


def traced_values(value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What is kept of one layer's output, (samples, ``MAX_TRACED_VALUES``); NaN where it has fewer values.

    An output with more values is cut into as many parts. The values of a part are added under random signs, the same each time, and divided by the square
    root of their number: one changed value changes its sum, and rounding hardly does.
    """
    flat = np.asarray(value, dtype=np.float32).reshape(len(value), -1)
    num_values = flat.shape[1]
    if num_values <= MAX_TRACED_VALUES:
        return np.pad(flat, ((0, 0), (0, MAX_TRACED_VALUES - num_values)), constant_values=np.nan)
    signs = np.random.default_rng(0).integers(0, 2, num_values, dtype=np.int8) * np.int8(2) - np.int8(1)
    starts = np.linspace(0, num_values, MAX_TRACED_VALUES + 1).astype(np.int64)
    sums = np.add.reduceat(flat * signs.astype(np.float64), starts[:-1], axis=1)
    return np.asarray(sums / np.sqrt(np.diff(starts)), dtype=np.float32)


def spread_over_classes(labels: Sequence[int] | npt.NDArray[np.int64], count: int) -> npt.NDArray[np.int64]:
    """Up to ``count`` places, taking the classes in turns, in the order of the samples.

    >>> spread_over_classes([0, 0, 0, 1, 1, 2], 4).tolist()
    [0, 1, 3, 5]
    """
    values = np.asarray(labels)
    turns = np.zeros(len(values), dtype=np.int64)
    for each in np.unique(values):
        places = np.flatnonzero(values == each)
        turns[places] = np.arange(len(places))
    return np.sort(np.lexsort((np.arange(len(values)), turns))[:count])


def _array(files: BundleFiles, path: str) -> Any:
    return from_npy_bytes(files.read(path)).copy()  # PyTorch takes no array that cannot be written to
