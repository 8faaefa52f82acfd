"""The files of a bundle: what was added, removed or changed is found, and nothing leads out of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visus.data.preprocessing import Preprocessing
from visus.errors import BundleError
from visus.evaluation.test_time_augmentation import VIEWS
from visus.ship import files as bundle_files
from visus.ship.files import BundleFiles, write_bundle
from visus.ship.manifest import DIGEST, MANIFEST, FileFacts, Graph, Manifest, digest, read_manifest

CONTENTS = {"design.txt": b"linear(classes)\n", "golden/00.png": b"an image", "network.onnx": b"a graph"}
CHANGED = "this file was changed after the export: its SHA-256 differs. Export the run again."
OUTSIDE = "this path leads out of the bundle, or has letters that no bundle uses. Do not use this bundle."
NO_BUNDLE = "this is neither the folder nor the zip file of a bundle. Make one with: visus export RUN"


def manifest(**fields: Any) -> Manifest:
    """The manifest of ``CONTENTS``."""
    plain: dict[str, Any] = {
        "name": "small",
        "visus": "0.1.0",
        "classes": ("cat", "dog"),
        "preprocessing": Preprocessing(
            "images", 3, (10, 10), "squash", "uint8", "fixed", (1.0,) * 3, (2.0,) * 3, None, None
        ),
        "temperature": 1.5,
        "smoothing": 0.1,
        "tta": "unsure:flip",
        "graphs": (Graph("onnx", "network.onnx"),),
        "files": {path: FileFacts(digest(content), len(content)) for path, content in CONTENTS.items()},
        "facts": {
            "accuracy": 0.5,
            "accuracy_low": 0.4,
            "accuracy_high": 0.6,
            "num_scored": 90,
            "num_parameters": 70,
            "macs": None,
        },
        "tolerances": {"float32": 1e-4},
    }
    return Manifest(**{**plain, **fields})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle that is a folder."""
    write_bundle(tmp_path / "small", manifest(), CONTENTS)
    return tmp_path / "small"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The same as a zip file."""
    write_bundle(tmp_path / "small.zip", manifest(), CONTENTS)
    return tmp_path / "small.zip"


def refused(path: Path) -> str:
    """The sentence with which a bundle is refused, without the path of the bundle."""
    with pytest.raises(BundleError) as error:
        BundleFiles(path).check()
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_a_manifest_reads_back_unchanged() -> None:
    assert read_manifest(manifest().text()) == manifest()


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_every_file_reads_back_unchanged(kind: str, request: pytest.FixtureRequest) -> None:
    files = BundleFiles(request.getfixturevalue(kind))
    files.check()
    assert {path: files.read(path) for path in files.manifest.files} == CONTENTS
    assert files.manifest == manifest()
    assert files.digest == digest(manifest().text())


def test_folder_and_zip_file_hold_the_same_bytes(folder: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        inside = {name: opened.read(name) for name in opened.namelist()}
    assert inside == {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_bytes_of_a_zip_file_depend_on_its_contents_alone(archive: Path, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again.zip", manifest(), CONTENTS)
    assert archive.read_bytes() == (tmp_path / "again.zip").read_bytes()


# ---- one changed byte ----


def test_a_changed_byte_in_any_file_of_a_bundle_is_found(bundle: Path, tmp_path: Path) -> None:
    names = [path.relative_to(bundle).as_posix() for path in sorted(bundle.rglob("*")) if path.is_file()]
    assert {"bundle.json", "bundle.sha256", "network.onnx", "weights.safetensors", "proof/golden.json"} <= set(names)
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    for name in names:
        whole = (copy / name).read_bytes()
        for place in {0, len(whole) // 2, len(whole) - 1} if name != DIGEST else {0, 63}:
            (copy / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            assert refused(copy) == f"{MANIFEST if name == DIGEST else name}: {CHANGED}", (name, place)
        (copy / name).write_bytes(whole)
    BundleFiles(copy).check()


def test_a_changed_byte_in_a_zip_file_is_found(archive: Path) -> None:
    whole = archive.read_bytes()
    place = whole.index(b"a graph")
    archive.write_bytes(whole[:place] + b"A" + whole[place + 1 :])
    assert refused(archive) == (
        "network.onnx: this file cannot be read (Bad CRC-32 for file 'network.onnx'). Copy the bundle again."
    )


def test_a_file_of_another_length_is_found_before_it_is_read(folder: Path) -> None:
    (folder / "design.txt").write_bytes(bytes(20_000))
    assert refused(folder) == "design.txt: this file has 19.5 KiB, and the manifest says 16 bytes. Export the run again."


# ---- forged zip files ----


def zipped(path: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], bool] | None = None) -> Path:
    """A zip file of ``CONTENTS``; ``change`` may write an entry itself and then returns True."""
    text = manifest().text()
    every = {MANIFEST: text.encode(), DIGEST: f"{digest(text)}  {MANIFEST}\n".encode(), **CONTENTS}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name, content in every.items():
            entry = zipfile.ZipInfo(name)
            if change is None or not change(target, entry, content):
                target.writestr(entry, content)
    return path


def test_a_path_out_of_a_zip_file_is_refused(tmp_path: Path) -> None:
    for name in ("../outside", "golden/../../outside", "/etc/passwd", "C:\\outside", "golden//00.png", ".hidden", "golden/"):
        path = zipped(tmp_path / "bad.zip")
        with zipfile.ZipFile(path, "a") as target:
            target.writestr(name, b"")
        assert refused(path) == f"{name}: {OUTSIDE}"


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    def change(target: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> bool:
        if entry.filename == "design.txt":
            entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        return False

    path = zipped(tmp_path / "bad.zip", change)
    assert refused(path) == "design.txt: this is a symbolic link or no plain file. Do not use this bundle."


def test_a_compressed_file_is_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    def change(target: zipfile.ZipFile, entry: zipfile.ZipInfo, content: bytes) -> bool:
        if entry.filename == "network.onnx":
            target.writestr(entry, bytes(50_000_000), zipfile.ZIP_DEFLATED)
        return entry.filename == "network.onnx"

    path = zipped(tmp_path / "bomb.zip", change)
    assert path.stat().st_size < 100_000
    assert refused(path) == (
        "network.onnx: this file is compressed or encrypted, and the files of a bundle are stored as they are. Do not use this bundle."
    )


def test_a_stated_size_that_is_none_is_refused(archive: Path) -> None:
    """The directory of the zip file says that a stored file becomes larger than it is."""
    whole = archive.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        start = opened.start_dir
    place = whole.index(b"network.onnx", start) - 46 + 24  # the size after unpacking, in the entry of the directory
    archive.write_bytes(whole[:place] + (2**30).to_bytes(4, "little") + whole[place + 4 :])
    assert "compressed or encrypted" in refused(archive)


def test_a_file_that_is_twice_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "bad.zip")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as target:
        target.writestr("network.onnx", b"another")
    assert refused(path) == "network.onnx: this file is in the zip file twice. Do not use this bundle."


def test_what_is_no_zip_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("hello")
    assert refused(tmp_path / "text.zip") == NO_BUNDLE
    (tmp_path / "cut.zip").write_bytes(zipped(tmp_path / "whole.zip").read_bytes()[:-30])
    assert refused(tmp_path / "cut.zip") == "this zip file is damaged or cut off. Copy the bundle again."
    assert refused(tmp_path / "none.zip") == "there is no such bundle."
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as target:
        target.writestr("photo.jpg", b"")
    assert refused(tmp_path / "other.zip") == f"bundle.json is missing. T{NO_BUNDLE[1:]}"


def test_too_many_files_are_refused(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_files, "MAX_FILES", 4)
    assert refused(zipped(tmp_path / "many.zip")) == f"this zip file has more than 4 files. T{NO_BUNDLE[1:]}"
    assert refused(folder) == f"this folder has more than 4 files. T{NO_BUNDLE[1:]}"


# ---- forged folders ----


def test_a_link_in_a_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    said = "this is a symbolic link, and a bundle holds plain files only. Do not use this bundle."
    (tmp_path / "secret").write_bytes(CONTENTS["design.txt"])
    (folder / "design.txt").unlink()
    (folder / "design.txt").symlink_to(tmp_path / "secret")
    assert refused(folder) == f"design.txt: {said}"
    (folder / "design.txt").unlink()
    shutil.move(folder / "golden", tmp_path / "golden")
    (folder / "golden").symlink_to(tmp_path / "golden")
    assert refused(folder) == f"golden: {said}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_refused(folder: Path) -> None:
    (folder / "design.txt").unlink()
    os.mkfifo(folder / "design.txt")
    assert refused(folder) == "design.txt: this is no plain file. Do not use this bundle."


def test_a_file_that_is_not_listed_is_refused(folder: Path) -> None:
    (folder / "golden" / "more.py").write_text("print()")
    assert refused(folder) == (
        "golden/more.py: this file is not listed in the manifest. Remove it, or export the run again."
    )


def test_a_file_that_the_manifest_does_not_list_is_not_read(folder: Path) -> None:
    with pytest.raises(BundleError) as error:
        BundleFiles(folder).read("../../etc/passwd")
    assert str(error.value) == (
        f"{folder}: ../../etc/passwd: this file is not listed in the manifest. Export the run again."
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_or_a_device_in_the_place_of_a_bundle_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    (tmp_path / "link.zip").symlink_to("/dev/zero")
    for name in ("pipe.zip", "link.zip"):
        assert refused(tmp_path / name) == f"this is a pipe or a device. T{NO_BUNDLE[1:]}"


def test_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "golden" / "00.png").unlink()
    assert refused(folder) == "golden/00.png: this file is listed in the manifest and missing. Export the run again."


def test_a_file_that_is_removed_after_the_opening_is_named(folder: Path) -> None:
    files = BundleFiles(folder)
    (folder / "design.txt").unlink()
    with pytest.raises(BundleError) as error:
        files.check()
    assert str(error.value) == f"{folder}: design.txt: this file cannot be read (No such file or directory)."


def test_a_folder_without_a_manifest_is_no_bundle(folder: Path, tmp_path: Path) -> None:
    (folder / DIGEST).unlink()
    assert refused(folder) == f"bundle.sha256 is missing. T{NO_BUNDLE[1:]}"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path / "empty") == f"bundle.json is missing. T{NO_BUNDLE[1:]}"


# ---- forged manifests, with hashes that fit ----


def with_text(folder: Path, text: str | bytes) -> Path:
    """The folder with another manifest."""
    content = text.encode() if isinstance(text, str) else text
    (folder / MANIFEST).write_bytes(content)
    (folder / DIGEST).write_text(f"{digest(content)}  {MANIFEST}\n")
    return folder


def with_fields(folder: Path, **fields: Any) -> Path:
    """The folder with other fields in its manifest."""
    return with_text(folder, json.dumps({**json.loads(manifest().text()), **fields}))


def test_a_huge_manifest_is_refused_before_it_is_read(folder: Path) -> None:
    with (folder / MANIFEST).open("wb") as file:
        file.truncate(17 * 2**20)
    assert refused(folder) == "bundle.json: this has 17.0 MiB, and at most 16.0 MiB are read."


HASH = {"sha256": "0" * 64, "num_bytes": 1}
PREPROCESSING = manifest().preprocessing.to_dict()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"format_version": 1},
            "bundle.json: this bundle has the format 1, and this version of visus reads formats 2 and 3. Export the run again, or use the version of visus "
            "that wrote it.",
        ),
        ({"format": "zip"}, 'bundle.json: this is not the manifest of a bundle: its field "format" is another one.'),
        ({"more": 1}, "bundle.json: the manifest has the unknown 'more'. Export the run again."),
        *(
            ({field: value}, f"bundle.json: {field} is {shown}, and {needed} is needed. Export the run again.")
            for field, value, shown, needed in (
                ("temperature", 0, "0", "a finite number from 1e-06 to 1e+06"),
                ("temperature", -1.0, "-1.0", "a finite number from 1e-06 to 1e+06"),
                ("temperature", float("nan"), "nan", "a finite number from 1e-06 to 1e+06"),
                ("temperature", float("inf"), "inf", "a finite number from 1e-06 to 1e+06"),
                ("temperature", True, "true", "a finite number from 1e-06 to 1e+06"),
                ("temperature", "warm", "'warm'", "a finite number from 1e-06 to 1e+06"),
                ("smoothing", 1.5, "1.5", "a finite number from 0 to 1"),
                ("tta", "spin", "'spin'", f"one of {', '.join(VIEWS)}"),
                ("name", "a\ud800", "'a\\ud800'", "text in Unicode"),
                ("classes", "cat", "'cat'", "a list"),
                ("classes", [1], "1", "text in Unicode"),
                ("facts", [], "a list of 0", "an object"),
                ("checks", {}, "an object of 0", "a list"),
                ("preprocessing", [], "a list of 0", "an object"),
            )
        ),
        *(
            ({"preprocessing": {**PREPROCESSING, field: value}}, f"bundle.json: {said}. Export the run again.")
            for field, value, said in (
                ("divisor", ["a"] * 3, "preprocessing.divisor is 'a', and a finite number above 0 is needed"),
                ("divisor", [1] * 7, "preprocessing.divisor is a list of 7, and a list of 3 is needed"),
                ("divisor", [0] * 3, "preprocessing.divisor is 0, and a finite number above 0 is needed"),
                ("offset", [10**400] * 3, f"preprocessing.offset is 1{'0' * 39}..., and a finite number is needed"),
                ("size", ["a", "b"], "preprocessing.size is 'a', and a whole number from 1 to 16,777,216 is needed"),
                ("size", [8] * 4, "preprocessing.size is a list of 4, and 1 to 3 lengths are needed"),
                ("dtype", "evil", "preprocessing.dtype is 'evil', and a type of numbers such as uint8 is needed"),
                ("dtype", "int8", "preprocessing.kind is 'images', and so two lengths and uint8 are needed"),
                ("kind", "zz", "preprocessing.kind is 'zz', and one of images, array is needed"),
                ("normalize", "z", "preprocessing.normalize is 'z', and one of mean-deviation, min-max, fixed is needed"),
                ("layout", 5, "preprocessing.layout is 5, and text in Unicode is needed"),
                ("layout", "xy", "preprocessing.layout is 'xy', and letters such as NHWC are needed"),
                ("more", 5, "preprocessing has the unknown 'more'"),
            )
        ),
        (
            {"classes": ["cat", "cat"]},
            "bundle.json: classes is a list of 2, and different names, at least one, are needed. Export the run again.",
        ),
        (
            {"classes": []},
            "bundle.json: classes is a list of 0, and different names, at least one, are needed. Export the run again.",
        ),
        ({"facts": {"accuracy": 1}}, "bundle.json: facts lacks 'accuracy_high'. Export the run again."),
        (
            {"graphs": [{"format": "onnx", "path": []}]},
            "bundle.json: graphs.path is a list of 0, and text in Unicode is needed. Export the run again.",
        ),
        (
            {"graphs": [{"format": "onnx", "path": "a", "more": ""}]},
            "bundle.json: graphs has the unknown 'more'. Export the run again.",
        ),
        (
            {"graphs": [{"format": "torch", "path": "network.onnx"}]},
            "bundle.json: graphs has no network in onnx (float32), and every bundle has one. Export the run again.",
        ),
        (
            {"tolerances": {"float32": 0}},
            "bundle.json: tolerances.float32 is 0, and a finite number above 0 is needed. Export the run again.",
        ),
        (
            {"graphs": [{"format": "onnx", "path": "other.onnx"}]},
            "other.onnx: the manifest lists this network, and not its file. Export the run again.",
        ),
        ({"files": {"../outside": HASH}}, f"../outside: {OUTSIDE}"),
        ({"files": {"/etc/passwd": HASH}}, f"/etc/passwd: {OUTSIDE}"),
        ({"files": {"a\x1b[2J": HASH}}, f"a\\x1b[2J: {OUTSIDE}"),
        (
            {"files": {"design.txt": {"sha256": "0", "num_bytes": 1}}},
            "design.txt: this file has no valid hash and size in the manifest. Export the run again.",
        ),
        (
            {"files": {"design.txt": {"sha256": "0" * 64, "num_bytes": -1}}},
            "design.txt: this file has no valid hash and size in the manifest. Export the run again.",
        ),
    ],
)
def test_a_forged_field_of_the_manifest_is_refused(folder: Path, fields: dict[str, Any], said: str) -> None:
    assert refused(with_fields(folder, **fields)) == said


def test_a_manifest_that_is_no_text_is_refused(folder: Path) -> None:
    assert refused(with_text(folder, "[]")) == (
        'bundle.json: this is not the manifest of a bundle: its field "format" is another one.'
    )
    assert refused(with_text(folder, b"\xff")) == "bundle.json: this is not UTF-8. Export the run again."
    assert refused(with_text(folder, "{")) == (
        "bundle.json: this is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). Export the run again."
    )
    assert refused(with_text(folder, "[" * 200_000)).startswith("bundle.json: this is not JSON (")


def test_a_network_that_the_bundle_lacks_is_named(folder: Path) -> None:
    with pytest.raises(BundleError) as error:
        BundleFiles(folder).manifest.graph("openvino")
    assert str(error.value) == (
        "this bundle has no network in openvino (float32). It has onnx (float32). Export the run again with --format openvino."
    )
