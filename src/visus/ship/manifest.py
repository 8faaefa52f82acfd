"""The manifest of a bundle: what it holds, as plain data, and its text in ``bundle.json``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

import numpy.typing as npt

from visus.data.plain_values import items, number, positive, record, shown, text, whole
from visus.data.preprocessing import Preprocessing
from visus.errors import BundleError, printable
from visus.evaluation.cluster_bootstrap import write_interval
from visus.evaluation.test_time_augmentation import VIEWS
from visus.ship.tasks.registry import BUNDLE_TASKS, SINGLE_LABEL, task_from_plain
from visus.ship.tasks.task import Answers, BundleTask

FORMAT: Final = "visus bundle"
FORMAT_VERSION: Final = 3
SINGLE_LABEL_VERSION: Final = 2
"""The version before there were several tasks, which is read as well: a bundle of it predicts one class for each sample."""
MANIFEST: Final = "bundle.json"
DESIGN: Final = "design.txt"
"""The design of the network, or the callable that made it."""
DIGEST: Final = "bundle.sha256"
"""The SHA-256 of the manifest, so that a changed byte in the manifest is found as well. It is the identity of a bundle."""

ANSWERS: Final = "visus.answers"
"""The field of a network's metadata with its ``answers_digest``."""
TOLERANCES: Final = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
"""Largest difference of a probability for each precision; int8 is judged by the metric of its task."""

_PATH: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileFacts:
    """The SHA-256 and the size of one file."""

    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class Graph:
    """One form of the network.

    Args:
        format: ``onnx``, ``openvino``, ``torch`` (a program of ``torch.export``) or ``safetensors`` (weights, with the design as text).
        path: its file in the bundle.
        precision: ``float32``, ``float16``, ``bfloat16`` or ``int8``.
    """

    format: str
    path: str
    precision: str = "float32"


@dataclass(frozen=True)
class Manifest:
    """Everything that is known of a bundle, except the contents of its files.

    Args:
        name: the name of the run.
        visus: the version that wrote it.
        classes: class names in the order of the outputs; of regression, the targets.
        preprocessing: how a file or an array becomes a sample for the network.
        temperature: divisor of the logits.
        smoothing: label smoothing that is inverted after the softmax.
        tta: the test-time augmentation of the run.
        graphs: the forms of the network.
        files: each file with its hash.
        license: the license of the network, as its owner stated it; empty if none was stated.
        facts: measurements of the run: scores with intervals and the number of groups that these are over, parameters, multiply-adds, receptive field.
        checks: the results of the checks of the export, one for each engine.
        tolerances: the largest difference of a probability for each precision; of a number, in standard deviations of the training labels.
        task: what the outputs mean.
    """

    name: str
    visus: str
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float
    smoothing: float
    tta: str
    graphs: tuple[Graph, ...]
    files: Mapping[str, FileFacts]
    license: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    checks: tuple[Mapping[str, Any], ...] = ()
    tolerances: Mapping[str, float] = field(default_factory=dict)
    task: BundleTask = SINGLE_LABEL

    def answers(self, logits: npt.NDArray[Any]) -> Answers:
        """Probabilities, or numbers in the units of the labels, for logits (N, classes)."""
        return self.task.answers(logits, self.temperature, self.smoothing)

    def graph(self, format: str, precision: str = "float32") -> Graph:
        """The form of the network in a format.

        Raises:
            BundleError: the bundle does not hold it.
        """
        for each in self.graphs:
            if (each.format, each.precision) == (format, precision):
                return each
        option = "--int8" if precision == "int8" else f"--format {format}"
        held = ", ".join(f"{each.format} ({each.precision})" for each in self.graphs)
        raise BundleError(
            f"this bundle has no network in {format} ({precision}). It has {held}. Export the run again with {option}."
        )

    def text(self) -> str:
        """The manifest as JSON; ``read_manifest`` reads it back unchanged."""
        plain = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self), "task": self.task.to_json()}
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(content: str) -> Manifest:
    """The manifest of ``bundle.json``.

    Raises:
        BundleError: the text is not the manifest of a bundle, or of a newer version.
    """
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"this is not JSON ({error}). Export the run again.", where=MANIFEST) from None
    if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
        raise BundleError('this is not the manifest of a bundle: its field "format" is another one.', where=MANIFEST)
    version = plain.pop("format_version", None)
    if type(version) is not int or version not in (SINGLE_LABEL_VERSION, FORMAT_VERSION):
        raise BundleError(
            f"this bundle has the format {shown(version)}, and this version of visus reads formats {SINGLE_LABEL_VERSION} and {FORMAT_VERSION}. "
            "Export the run again, or use the version of visus that wrote it.",
            where=MANIFEST,
        )
    try:
        return _manifest(_of_single_labels(plain) if version == SINGLE_LABEL_VERSION else plain)
    except ValueError as error:
        raise BundleError(f"{error}. Export the run again.", where=MANIFEST) from None


def _of_single_labels(plain: dict[str, Any]) -> dict[str, Any]:
    """A manifest of ``SINGLE_LABEL_VERSION`` in the present form: its metric is the accuracy.

    Raises:
        ValueError: it has a field of later versions.
    """
    record(plain, "the manifest", (), [each.name for each in fields(Manifest) if each.name != "task"])

    def renamed(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = {name: name.replace("accuracy", "score") for name in (*_SHARES, "run_accuracy")}
        return {**{names.get(name, name): each for name, each in value.items()}, "task": SINGLE_LABEL.name}

    found = {**plain, "task": SINGLE_LABEL.to_json()}
    if isinstance(plain.get("checks"), list):
        found["checks"] = [renamed(each) for each in plain["checks"]]
    if isinstance(plain.get("facts"), dict) and "int8" in plain["facts"]:
        found["facts"] = {**plain["facts"], "int8": renamed(plain["facts"]["int8"])}
    return found


def _manifest(plain: dict[str, Any]) -> Manifest:
    """The manifest of plain data that may hold anything.

    Raises:
        BundleError: a path leads out of the bundle, or a file has no valid hash.
        ValueError: a field is missing, unknown or impossible; the message names it.
    """
    record(plain, "the manifest", [each.name for each in fields(Manifest)])
    classes = tuple(text(each, "classes") for each in items(plain["classes"], "classes"))
    if not classes or len(set(classes)) != len(classes):
        raise ValueError(f"classes is {shown(classes)}, and different names, at least one, are needed")
    task = task_from_plain(plain["task"])
    manifest = Manifest(
        name=text(plain["name"], "name"),
        visus=text(plain["visus"], "visus"),
        classes=classes,
        preprocessing=Preprocessing.from_plain(plain["preprocessing"], "preprocessing."),
        temperature=float(number(plain["temperature"], "temperature", *_TEMPERATURES)),
        smoothing=float(number(plain["smoothing"], "smoothing", 0, 1)),
        tta=text(plain["tta"], "tta", VIEWS if task == SINGLE_LABEL else _VIEWS_OF_ALL),
        graphs=tuple(map(_graph, items(plain["graphs"], "graphs"))),
        files={_path(path): _file(path, each) for path, each in record(plain["files"], "files", (), None).items()},
        license=text(plain["license"], "license"),
        facts=_facts(plain["facts"], task.name),
        checks=tuple(_check(each, task.name) for each in items(plain["checks"], "checks")),
        tolerances={
            text(name, "tolerances", PRECISIONS): float(positive(value, f"tolerances.{name}"))
            for name, value in record(plain["tolerances"], "tolerances", (), PRECISIONS).items()
        },
        task=task,
    )
    task.check(len(classes), manifest.temperature, manifest.smoothing)
    if not any((each.format, each.precision) == ("onnx", "float32") for each in manifest.graphs):
        raise ValueError("graphs has no network in onnx (float32), and every bundle has one")
    for graph in manifest.graphs:
        if graph.path not in manifest.files:
            raise BundleError(
                "the manifest lists this network, and not its file. Export the run again.", where=printable(graph.path)
            )
    return manifest


FORMATS: Final = ("onnx", "openvino", "torch", "safetensors")
PRECISIONS: Final = ("float32", "float16", "bfloat16", "int8")
_TEMPERATURES: Final = (1e-6, 1e6)
_VIEWS_OF_ALL: Final = tuple(each for each in VIEWS if not each.startswith("unsure:"))
"""Test-time augmentation that needs no two most probable classes."""
_SHARES: Final = ("accuracy", "accuracy_low", "accuracy_high")
_SCORES: Final = ("score", "score_low", "score_high", "run_score")
_INT8: Final = (*_SCORES, "loss", "loss_low", "loss_high", "max_loss")
_CHECK: Final = ("agreement", "max_difference", "mean_difference", *_SCORES)
"""Fields of ``parity.Check`` that are finite numbers."""


def _graph(value: Any) -> Graph:
    plain = record(value, "graphs", ("format", "path"), ("precision",))
    return Graph(
        text(plain["format"], "graphs.format", FORMATS),
        text(plain["path"], "graphs.path"),
        text(plain.get("precision", "float32"), "graphs.precision", PRECISIONS),
    )


def _file(path: str, value: Any) -> FileFacts:
    if isinstance(value, dict) and value.keys() == {"sha256", "num_bytes"}:
        sha256, num_bytes = value["sha256"], value["num_bytes"]
        if isinstance(sha256, str) and _SHA256.fullmatch(sha256) and type(num_bytes) is int and 0 <= num_bytes < 2**63:
            return FileFacts(sha256, num_bytes)
    raise BundleError("this file has no valid hash and size in the manifest. Export the run again.", where=path)


def metric_field(task: str) -> str:
    """The field of the facts with the main metric of a task; the ends of its interval have ``_low`` and ``_high`` behind its name.

    >>> metric_field("multi-label")
    'mean_average_precision'
    """
    return BUNDLE_TASKS[task].metric.replace(" ", "_")


def run_score(manifest: Manifest) -> str:
    """The main metric with its interval; an error in the units of the labels, that of the first target."""
    name, facts, task = metric_field(manifest.task.name), manifest.facts, manifest.task
    interval = write_interval(facts[f"{name}_low"], facts[f"{name}_high"], task.write, facts.get("num_groups"))
    target = f" of {manifest.classes[0]}" if task.output == "numbers" else ""
    return f"{task.write(facts[name])}{target} ({interval}) on {facts['num_scored']:,} samples"


def _facts(value: Any, task: str) -> dict[str, Any]:
    """The measurements of a run, all of them or none."""
    metric = metric_field(task)
    shares = (metric, f"{metric}_low", f"{metric}_high")
    needed = (*shares, "num_scored", "num_parameters") if value else ()
    plain = record(value, "facts", needed, ("num_groups", "macs", "receptive_field", "int8"))
    _numbers(plain, needed[:3], "facts", task, 0, *(() if task == "regression" else (1,)))
    for name in needed[3:]:
        whole(plain[name], f"facts.{name}")
    if "num_groups" in plain:
        whole(plain["num_groups"], "facts.num_groups", 1)
    if plain.get("macs") is not None:
        whole(plain["macs"], "facts.macs")
    if plain.get("receptive_field") is not None:
        for each in items(plain["receptive_field"], "facts.receptive_field"):
            number(each, "facts.receptive_field", 0)
    if "int8" in plain:
        int8 = record(
            plain["int8"], "facts.int8", ("engine", "num_calibration", "num_samples", "task", *_INT8), ("num_groups",)
        )
        text(int8["engine"], "facts.int8.engine")
        text(int8["task"], "facts.int8.task", (task,))
        for name in ("num_calibration", "num_samples"):
            whole(int8[name], f"facts.int8.{name}")
        _numbers(int8, _INT8, "facts.int8", task)
        _groups(int8, "facts.int8")
    return plain


def _check(value: Any, task: str) -> dict[str, Any]:
    """One result of a check: the fields of ``parity.Check``."""
    texts, wholes = ("engine", "version", "precision"), ("num_golden", "num_samples")
    plain = record(value, "checks", (*texts, *wholes, *_CHECK, "optimized", "batches", "tolerance", "task"), ("num_groups",))
    text(plain["task"], "checks.task", (task,))
    for name in texts:
        text(plain[name], f"checks.{name}")
    for name in wholes:
        whole(plain[name], f"checks.{name}")
    _numbers(plain, _CHECK, "checks", task)
    _groups(plain, "checks")
    for each in items(plain["batches"], "checks.batches"):
        whole(each, "checks.batches", 1)
    if not isinstance(plain["optimized"], bool):
        raise ValueError(f"checks.optimized is {shown(plain['optimized'])}, and true or false is needed")
    if plain["tolerance"] is not None:
        number(plain["tolerance"], "checks.tolerance", 0)
    return plain


def _numbers(plain: Mapping[str, Any], names: Sequence[str], where: str, task: str, *bounds: float) -> None:
    """Refuse measurements that are no finite numbers within the bounds; None stands for a bound of an error on samples of one group, which has no interval.

    Raises:
        ValueError: a value is another one; the message names it.
    """
    for name in names:
        if not (plain[name] is None and task == "regression" and name.endswith(("_low", "_high"))):
            number(plain[name], f"{where}.{name}", *bounds)


def _groups(plain: Mapping[str, Any], where: str) -> None:
    """Refuse a number of groups below 1; None stands for independent samples.

    Raises:
        ValueError: it is another value; the message names it.
    """
    if plain.get("num_groups") is not None:
        whole(plain["num_groups"], f"{where}.num_groups", 1)


def answers_digest(
    preprocessing: Preprocessing, temperature: float, smoothing: float, tta: str, task: BundleTask = SINGLE_LABEL
) -> str:
    """The SHA-256 of the facts that decide the answers beside the network. The network names it, so that a change of the manifest is found.

    The single-label task adds nothing to it, so that it is that of ``SINGLE_LABEL_VERSION``.
    """
    plain: dict[str, Any] = {
        **preprocessing.to_dict(),
        "offset": [float(each) for each in preprocessing.offset],
        "divisor": [float(each) for each in preprocessing.divisor],
        "temperature": float(temperature),
        "smoothing": float(smoothing),
        "tta": tta,
        **({} if task == SINGLE_LABEL else {"task": task.to_json()}),
    }
    return digest(json.dumps(plain, sort_keys=True))


def digest(content: bytes | str) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def is_inner_path(path: str) -> bool:
    """Whether a path lies within the bundle: plain names joined by ``/``, none of which begins with a dot.

    >>> is_inner_path("golden/00.jpg"), is_inner_path("../weights"), is_inner_path("/etc/passwd"), is_inner_path("a//b")
    (True, False, False, False)
    """
    return _PATH.fullmatch(path) is not None


def _path(path: str) -> str:
    if not is_inner_path(path):
        raise BundleError(
            "this path leads out of the bundle, or has letters that no bundle uses. Do not use this bundle.",
            where=printable(path),
        )
    return path
