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
    """``forge({"design.txt": b""}, temperature=2.0)``: the bundle with other files and other fields of the manifest, and hashes that fit them."""
    from visus.ship.files import BundleFiles, write_bundle
    from visus.ship.manifest import FileFacts, digest

    def make(changed: Mapping[str, bytes] = {}, **fields: Any) -> BundleFiles:
        files = BundleFiles(bundle)
        contents = {path: files.read(path) for path in files.manifest.files} | changed
        facts = {path: FileFacts(digest(content), len(content)) for path, content in sorted(contents.items())}
        write_bundle(tmp_path / "forged", dataclasses.replace(files.manifest, **{"files": facts, **fields}), contents)
        return BundleFiles(tmp_path / "forged")

    return make
