"""A forged manifest whose hashes are right: it is refused in one sentence, or the bundle works."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ship import tiny_bundles

from visus.errors import BundleError
from visus.ship.engines import open_engine
from visus.ship.files import BundleFiles
from visus.ship.manifest import DIGEST, MANIFEST, digest
from visus.ship.parity import check_bundle
from visus.workbench.ship.bundle import Bundle

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ODD = (None, True, False, 0, -1, 5, 0.5, 1e308, 1e-320, 10**400, float("nan"), float("inf"), "", "zz", "\ud800", [], {}, [1])
NUMBERS = st.one_of(st.integers(), st.floats(), st.integers(0, 1000))
TEXTS = st.one_of(
    st.text(max_size=5), st.sampled_from(["onnx", "torch", "int8", "float16", "flip", "crop", "array", "\ud800"])
)
VALUES = st.one_of(
    st.sampled_from(ODD),
    st.recursive(
        st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=6,
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*path, key)
        yield from places(each, (*path, key))


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("forged") / "tiny"
    shutil.copytree(tiny_bundles.bundle(), target)
    return target


def text() -> str:
    """The manifest of the bundle, with results of a check."""
    plain = json.loads((tiny_bundles.bundle() / MANIFEST).read_text())
    numbers = ("agreement", "max_difference", "mean_difference", "score", "score_low", "score_high", "run_score")
    plain["checks"] = [
        {
            **dict.fromkeys(numbers, 0.5),
            **dict.fromkeys(("engine", "version", "precision"), "a"),
            "num_golden": 2,
            "num_samples": 9,
            "batches": [1],
            "optimized": True,
            "tolerance": 1e-4,
            "task": "single-label",
        }
    ]
    plain["facts"] |= {"macs": 5, "receptive_field": [3, 3]}
    return json.dumps(plain)


def with_value(folder: Path, path: tuple[Any, ...], value: Any) -> Path:
    """The folder with another value in its manifest, and the hash of that."""
    plain: Any = json.loads(text())
    at(plain, path)[path[-1]] = value
    return written(folder, plain)


def without(folder: Path, path: tuple[Any, ...]) -> Path:
    """The folder without a field of its manifest."""
    plain: Any = json.loads(text())
    del at(plain, path)[path[-1]]
    return written(folder, plain)


def at(plain: Any, path: tuple[Any, ...]) -> Any:
    """What holds the value at a path."""
    for key in path[:-1]:
        plain = plain[key]
    return plain


def written(folder: Path, plain: Any) -> Path:
    """The folder with a manifest, and the hash of that."""
    content = json.dumps(plain).encode()
    (folder / MANIFEST).write_bytes(content)
    (folder / DIGEST).write_text(f"{digest(content)}  {MANIFEST}\n")
    return folder


def use(folder: Path) -> None:
    """Open, print, predict and verify."""
    files = BundleFiles(folder)
    bundle = Bundle(files, open_engine(files, num_threads=1))
    repr(bundle).encode()
    files.manifest.text().encode()
    bundle.predict(tiny_bundles.samples(2, 7), progress=False)
    check_bundle(files, ["onnxruntime"], batches=(64,))


def sentence(action: Callable[[Path], object], folder: Path) -> str:
    """What an action says of a bundle that it refuses; empty if it accepts it."""
    try:
        action(folder)
    except BundleError as error:
        return str(error)
    return ""


def is_one_sentence(said: str, folder: Path) -> bool:
    """Whether it names the bundle, fits on a few lines of a terminal, and can be printed."""
    return said.startswith(f"{folder}: ") and "\n" not in said and len(said) < 400 and said.isprintable()


@given(st.data())
def test_any_value_of_a_manifest_that_is_replaced_is_refused_or_does_no_harm(forged: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(places(json.loads(text())), key=str)))
    said = sentence(use, with_value(forged, path, data.draw(VALUES)))
    assert not said or is_one_sentence(said, forged)


@pytest.mark.parametrize("value", ODD, ids=lambda value: repr(value)[:9])
def test_an_odd_value_anywhere_in_a_manifest_is_refused_in_one_sentence_or_accepted(forged: Path, value: Any) -> None:
    for path in places(json.loads(text())):
        said = sentence(BundleFiles, with_value(forged, path, value))
        assert not said or is_one_sentence(said, forged), path


def test_a_manifest_without_any_of_its_fields_is_refused(forged: Path) -> None:
    for path in places(json.loads(text())):
        if isinstance(path[-1], str) and path[-1] not in ("precision", "shuffle_seed", "macs", "receptive_field"):
            assert is_one_sentence(sentence(use, without(forged, path)), forged), path


def test_an_unchanged_manifest_is_accepted(forged: Path) -> None:
    assert sentence(use, with_value(forged, ("license",), "")) == ""
