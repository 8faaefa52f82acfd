"""A bundle that is opened: the answers of its run, without PyTorch and without the packages that only a training needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from tests.commands import Call

import visus
from visus.caller import called_by_command
from visus.cli.show import show
from visus.errors import BundleError, RunError
from visus.ship import other_process
from visus.ship.files import BundleFiles
from visus.ship.other_process import check_in_other_process

ABSENT = ("torch", "simplejpeg", "platformdirs", "yaml", "rich", "safetensors", "matplotlib")
CHILD = """
import json, sys
for name in {absent!r}:
    sys.modules[name] = None
import visus
bundle = visus.open_bundle(sys.argv[1], threads=1)
found = list(bundle.predict(sys.argv[2:], top=2, progress=False))
checks = bundle.verify(engines=["onnxruntime"], progress=False)
print(json.dumps({{
    "files": [each.file for each in found],
    "labels": [each.labels for each in found],
    "probabilities": [each.probabilities for each in found],
    "errors": [each.error for each in found],
    "agreement": [each.agreement for each in checks.checks],
    "loaded": sorted(name for name in {absent!r} if sys.modules.get(name) is not None),
    "text": repr(bundle),
}}))
"""


def in_child(*words: object) -> Any:
    """What the bundle answers in a process in which the packages cannot be imported."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    command = [sys.executable, "-W", "error", "-c", CHILD.format(absent=ABSENT), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def odd_photos(photos: Path, tmp_path: Path) -> list[Path]:
    """A folder, a large JPEG that EXIF turns, a gray image, a file that is no image, and one that is not there."""
    rng = np.random.default_rng(1)
    turned = Image.fromarray(rng.integers(0, 256, (300, 200, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", quality=90, exif=exif)
    Image.fromarray(rng.integers(0, 256, (40, 50), dtype=np.uint8)).save(tmp_path / "gray.png")
    (tmp_path / "text.jpg").write_text("no image")
    return [photos / "dark", *(tmp_path / name for name in ("turned.jpg", "gray.png", "text.jpg", "none.png"))]


@pytest.mark.long
def test_a_bundle_answers_as_its_run_without_the_packages_of_a_training(
    run: Path, bundle: Path, odd_photos: list[Path]
) -> None:
    expected = list(visus.load(run).predict(odd_photos, top=2, progress=False))
    found = in_child(bundle, *odd_photos)
    assert found["loaded"] == []
    assert found["agreement"] == [1.0, 1.0]
    assert found["files"] == [each.file for each in expected]
    assert found["labels"] == [list(each.labels) for each in expected]
    assert found["errors"] == [each.error for each in expected]
    assert sum(error is not None for error in found["errors"]) == 2
    for mine, its in zip(found["probabilities"], expected, strict=True):
        np.testing.assert_allclose(mine, its.probabilities, atol=1e-5)
    assert len(found["files"]) == 34
    assert "onnxruntime" in found["text"]


def test_arrays_and_images_of_pillow_are_answered_as_by_the_run(run: Path, bundle: Path) -> None:
    trained, opened = visus.load(run), visus.open_bundle(bundle)
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (5, 10, 10, 3), dtype=np.uint8)
    picture = Image.fromarray(rng.integers(0, 256, (30, 20, 3), dtype=np.uint8))
    for asked in (array, [picture], [array[0], picture]):
        mine, its = list(opened.predict(asked, progress=False)), list(trained.predict(asked, progress=False))
        assert len(mine) == len(asked)
        assert [each.label for each in mine] == [each.label for each in its]
        np.testing.assert_allclose([each.probability for each in mine], [each.probability for each in its], atol=1e-5)
    assert opened.classes == trained.classes
    assert opened.preprocessing == trained.preprocessing


def test_what_a_bundle_shows(bundle: Path) -> None:
    opened = visus.open_bundle(bundle, threads=1)
    title, rows = opened._facts()
    assert title == f"Bundle {opened.manifest.name}: 2 classes"
    assert dict(rows)["identity"] == f"sha256 {opened.sha256}"
    assert "float32, 1 thread" in dict(rows)["engine"]
    assert "95 %" not in title


def test_a_changed_bundle_is_not_opened(bundle: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    (copy / "design.txt").write_bytes((copy / "design.txt").read_bytes()[:-1] + b" ")
    for use in (visus.open_bundle, visus.verify):
        with pytest.raises(BundleError) as error:
            use(copy)
        assert str(error.value).endswith(
            "design.txt: this file was changed after the export: its SHA-256 differs. Export the run again."
        )


def test_a_check_that_ends_without_a_word_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_process.sys, "executable", "/bin/false")
    with pytest.raises(BundleError) as error:
        check_in_other_process(bundle)
    assert str(error.value) == f"{bundle}: the process that checks it ended with the exit code 1: it said nothing"


@pytest.mark.long
def test_the_commands_export_and_verify(visus_command: Call, run: Path, tmp_path: Path) -> None:
    target = tmp_path / "bundle.zip"
    made = visus_command("export", run, "-o", target, "--format", "onnx", "--samples", 5, "--golden", 2, "--json")
    assert made.code == 0
    facts = json.loads(made.out)
    assert (facts["bundle"], facts["manifest"]["name"]) == (str(target), run.name)
    again = visus_command("export", run, "-o", target)
    assert (again.code, again.out) == (2, "")
    assert "replace it with --force" in " ".join(again.err.split())
    checked = visus_command("verify", target, "--json")
    assert json.loads(checked.out)["sha256"] == facts["sha256"] == BundleFiles(target).digest


def test_commands_for_runs_say_that_they_were_given_a_bundle(visus_command: Call, bundle: Path, tmp_path: Path) -> None:
    packed = zipped(bundle, tmp_path / "b.zip")
    for place, kind in ((bundle, "a bundle"), (packed, "a zip file, as bundles are")):
        for command in ("export", "evaluate", "report"):
            answer = visus_command(command, place)
            assert (answer.code, answer.out) == (1, "")
            assert answer.err == (
                f"error: {place}: this is {kind}, and a run folder is needed. Give the run that it was exported from.\n"
            )


def test_loading_a_bundle_as_a_run_names_how_it_is_opened(bundle: Path) -> None:
    with pytest.raises(RunError) as caught:
        visus.load(bundle)
    assert str(caught.value) == (
        f"{bundle}: this is a bundle, and a run folder is needed. Write visus.open_bundle({str(bundle)!r}), or give the run that it was exported from."
    )


def zipped(bundle: Path, target: Path) -> Path:
    """A zip file of a bundle's folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(bundle).as_posix())
    return target


@pytest.mark.slow
def test_an_export_names_the_next_commands_and_its_whole_identity_in_80_columns(
    visus_command: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made = visus.load(run).export("a b.zip", formats=["onnx"], num_samples=4, num_golden=1, progress=False)
    in_python = "visus.verify('a b.zip'), visus.open_bundle('a b.zip').predict(files), visus.serve('a b.zip')"
    assert made.text()[2:] == (f"sha256 {made.sha256}", f"next: {in_python}")
    assert dict(made._facts()[1])["next"] == in_python
    with called_by_command():
        steps = made.text()[3:]
    assert steps == ("next: visus verify 'a b.zip'", "next: visus predict 'a b.zip' FILES...", "next: visus serve 'a b.zip'")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("visus.cli.show.console", lambda: Console(force_terminal=True, width=80, color_system=None))
    for text in (made.text(), visus.verify("a b.zip").text()):
        show(text)
        lines = capsys.readouterr().out.splitlines()
        assert f"sha256 {made.sha256}" in lines
        assert all(len(line) <= 80 for line in lines)
