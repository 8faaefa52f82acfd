"""One small bundle, and a way to forge another one whose hashes are right."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Forge = Callable[..., Any]


@pytest.fixture(scope="session")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the small run, with the network as ONNX."""
    pytest.importorskip("onnxscript")
    import visus

    target = tmp_path_factory.mktemp("bundles") / "small"
    return visus.load(run).export(target, formats=["onnx"], progress=False).path


@pytest.fixture
def forge(bundle: Path, tmp_path: Path) -> Forge:
    """``forge({"design.txt": b""}, temperature=2.0)``: the bundle with other files and other fields of the manifest, and hashes that fit them.

    Its ONNX file notes the forged preprocessing and calibration as well, unless ``signed=False``: then an engine refuses it when it is opened.
    """
    import onnx

    from visus.ship.files import BundleFiles, write_bundle
    from visus.ship.manifest import ANSWERS, FileFacts, answers_digest, digest

    def make(changed: Mapping[str, bytes] = {}, *, signed: bool = True, **fields: Any) -> BundleFiles:
        files = BundleFiles(bundle)
        contents = {path: files.read(path) for path in files.manifest.files} | changed
        made = dataclasses.replace(files.manifest, **fields)
        if signed and "network.onnx" not in changed:
            model = onnx.load_from_string(contents["network.onnx"])
            (note,) = (each for each in model.metadata_props if each.key == ANSWERS)
            note.value = answers_digest(made.preprocessing, made.temperature, made.smoothing, made.tta, made.task)
            contents["network.onnx"] = model.SerializeToString(deterministic=True)
        facts = {path: FileFacts(digest(content), len(content)) for path, content in sorted(contents.items())}
        write_bundle(tmp_path / "forged", dataclasses.replace(made, **{"files": facts, **fields}), contents)
        return BundleFiles(tmp_path / "forged")

    return make
