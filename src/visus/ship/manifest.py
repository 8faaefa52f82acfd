"""The manifest of a bundle: what it holds, as plain data, and its text in ``bundle.json``."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from visus.data.preprocessing import Preprocessing
from visus.errors import BundleError, RunError, printable
from visus.evaluation.test_time_augmentation import VIEWS

FORMAT: Final = "visus bundle"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "bundle.json"
DESIGN: Final = "design.txt"
"""The design of the network, or the callable that made it."""
DIGEST: Final = "bundle.sha256"
"""The SHA-256 of the manifest, so that a changed byte in the manifest is found as well. It is the identity of a bundle."""

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
        classes: class names in the order of the outputs.
        preprocessing: how a file or an array becomes a sample for the network.
        temperature: divisor of the logits.
        smoothing: label smoothing that is inverted after the softmax.
        tta: the test-time augmentation of the run.
        graphs: the forms of the network.
        files: each file with its hash.
        license: the license of the network, as its owner stated it; empty if none was stated.
        facts: measurements of the run: scores with intervals, parameters, multiply-adds, receptive field.
        checks: the results of the checks of the export, one for each engine.
        tolerances: the largest difference of a probability for each precision.
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
        plain = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(self)}
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_manifest(text: str) -> Manifest:
    """The manifest of ``bundle.json``.

    Raises:
        BundleError: the text is not the manifest of a bundle, or of a newer version.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"this is not JSON ({error}). Export the run again.", where=MANIFEST) from None
    if not isinstance(plain, dict) or plain.pop("format", None) != FORMAT:
        raise BundleError('this is not the manifest of a bundle: its field "format" is another one.', where=MANIFEST)
    version = plain.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise BundleError(
            f"this bundle has the format {version!r}, and this version of visus reads format {FORMAT_VERSION}. Export the run again, or use "
            "the version of visus that wrote it.",
            where=MANIFEST,
        )
    known = {each.name for each in fields(Manifest)}
    if plain.keys() != known:
        odd = ", ".join(sorted(plain.keys() ^ known))
        raise BundleError(f"these fields are missing or unknown: {odd}. Export the run again.", where=MANIFEST)
    try:
        manifest = Manifest(
            name=_text(plain["name"]),
            visus=_text(plain["visus"]),
            classes=tuple(map(_text, _list(plain["classes"]))),
            preprocessing=Preprocessing.from_dict(plain["preprocessing"]),
            temperature=float(plain["temperature"]),
            smoothing=float(plain["smoothing"]),
            tta=_text(plain["tta"]),
            graphs=tuple(Graph(**{key: _text(value) for key, value in each.items()}) for each in _list(plain["graphs"])),
            files={_path(path): FileFacts(**facts) for path, facts in plain["files"].items()},
            license=_text(plain["license"]),
            facts=dict(plain["facts"]),
            checks=tuple(dict(each) for each in _list(plain["checks"])),
            tolerances={name: float(value) for name, value in plain["tolerances"].items()},
        )
    except (TypeError, ValueError, OverflowError, AttributeError, KeyError, RunError) as error:
        raise BundleError(
            f"a field has another type than expected ({error}). Export the run again.", where=MANIFEST
        ) from None
    for path, facts in manifest.files.items():
        if not (
            isinstance(facts.sha256, str)
            and _SHA256.fullmatch(facts.sha256)
            and type(facts.num_bytes) is int
            and facts.num_bytes >= 0
        ):
            raise BundleError("this file has no valid hash and size in the manifest. Export the run again.", where=path)
    for graph in manifest.graphs:
        if graph.path not in manifest.files:
            raise BundleError(
                "the manifest lists this network, and not its file. Export the run again.", where=printable(graph.path)
            )
    if (
        not 0 < manifest.temperature < math.inf
        or not 0 <= manifest.smoothing <= 1
        or manifest.tta not in VIEWS
        or not manifest.classes
        or len(set(manifest.classes)) != len(manifest.classes)
    ):
        raise BundleError(
            "the calibration, the test-time augmentation or the list of classes is impossible. Export the run again.",
            where=MANIFEST,
        )
    return manifest


def digest(content: bytes | str) -> str:
    """The SHA-256 of a file's content, as hexadecimal digits."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def is_inner_path(path: str) -> bool:
    """Whether a path lies within the bundle: plain names joined by ``/``, none of which begins with a dot.

    >>> is_inner_path("golden/00.jpg"), is_inner_path("../weights"), is_inner_path("/etc/passwd"), is_inner_path("a//b")
    (True, False, False, False)
    """
    return _PATH.fullmatch(path) is not None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _path(path: str) -> str:
    if not is_inner_path(path):
        raise BundleError(
            "this path leads out of the bundle, or has letters that no bundle uses. Do not use this bundle.",
            where=printable(path),
        )
    return path
