"""``visus predict`` takes a bundle in place of a run, and imports no PyTorch for it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.commands import Call
from tests.workbench.brightness import Brightness, write_images

from visus.errors import CanceledError, UsageError
from visus.ship.engines import CLASSES
from visus.ship.files import is_bundle, write_bundle
from visus.ship.manifest import ANSWERS, FileFacts, Graph, Manifest, answers_digest, digest
from visus.workbench.runs.bulk.predicting import predict_to
from visus.workbench.ship.bundle import open_bundle

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from visus.cli import main; main()"


def brightness_bundle(path: Path) -> Path:
    """A bundle whose network computes ``Brightness``: -10 |mean / 255 - middle| for each class."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    make, helper = onnx.numpy_helper.from_array, onnx.helper
    constants = {
        "axes": np.array([1, 2, 3]),
        "divisor": np.float32([255]),
        "middle": np.float32([[0.2, 0.5, 0.8]]),
        "scale": np.float32([-10]),
    }
    steps = [
        ("Cast", ["samples"], "values"),
        ("ReduceMean", ["values", "axes"], "mean"),
        ("Reshape", ["mean", "column"], "flat"),
        ("Div", ["flat", "divisor"], "share"),
        ("Sub", ["share", "middle"], "difference"),
        ("Abs", ["difference"], "distance"),
        ("Mul", ["distance", "scale"], "logits"),
        ("Softmax", ["logits"], "probabilities"),
    ]
    constants["column"] = np.array([-1, 1])
    special: dict[str, dict[str, Any]] = {"Cast": {"to": onnx.TensorProto.FLOAT}, "Softmax": {"axis": 1}}
    nodes = [helper.make_node(kind, given, [out], **special.get(kind, {})) for kind, given, out in steps]
    of_floats = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3]) for name in ("logits", "probabilities")
    ]
    samples = helper.make_tensor_value_info("samples", onnx.TensorProto.UINT8, ["N", 1, 4, 4])
    graph = helper.make_graph(
        nodes, "brightness", [samples], of_floats, [make(np.asarray(value), name) for name, value in constants.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    answers = answers_digest(Brightness.preprocessing, 1.0, 0.0, "none")
    helper.set_model_props(model, {CLASSES: json.dumps(Brightness.classes), ANSWERS: answers})
    content = model.SerializeToString()
    facts = {"network.onnx": FileFacts(digest(content), len(content))}
    graphs = (Graph("onnx", "network.onnx"),)
    manifest = Manifest("brightness", "0", Brightness.classes, Brightness.preprocessing, 1.0, 0.0, "none", graphs, facts)
    write_bundle(path, manifest, {"network.onnx": content})
    return path


def visus(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a process in which PyTorch cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["bundle", pytest.param("bundle.zip", marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_bundle_predicts_where_a_run_does_without_pytorch(tmp_path: Path, name: str) -> None:
    bundle, images = brightness_bundle(tmp_path / name), write_images(tmp_path / "in", 40)
    assert is_bundle(bundle)
    answer = visus("predict", bundle, images, "--top", 2, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    table = visus("predict", bundle, images, "--top", 2, "--out", "t.csv", cwd=tmp_path)
    assert (table.returncode, table.stderr) == (0, "note: Probabilities are not calibrated, as in the run brightness.\n")
    assert (tmp_path / "t.csv").read_text() == answer.stdout
    predict_to(Brightness(), images, tmp_path / "other.csv", top=2, progress=False)
    with open(tmp_path / "t.csv", newline="") as one, open(tmp_path / "other.csv", newline="") as other:
        assert [(row["file"], row["label"]) for row in csv.DictReader(one)] == [
            (row["file"], row["label"]) for row in csv.DictReader(other)
        ]
    sorting = visus("predict", bundle, images, "--sort-into", "sorted", cwd=tmp_path)
    assert sorting.returncode == 0, sorting.stderr
    assert sorted(os.listdir(tmp_path / "sorted")) == ["dark", "light", "middle"]


@pytest.mark.slow
def test_options_of_runs_are_refused_for_a_bundle(tmp_path: Path) -> None:
    bundle, images = brightness_bundle(tmp_path / "bundle"), write_images(tmp_path / "in", 1)
    for words in (["--raw"], ["--device", "cpu"]):
        answer = visus("predict", bundle, images, *words, cwd=tmp_path)
        assert (answer.returncode, answer.stderr) == (2, f"error: {words[0]} cannot be given with a bundle. Leave it out.\n")


@pytest.mark.slow
def test_a_bundle_predicts_with_the_engine_the_precision_and_the_threads_that_are_named(tmp_path: Path) -> None:
    bundle, images = brightness_bundle(tmp_path / "bundle"), write_images(tmp_path / "in", 4)
    plain = visus("predict", bundle, images, cwd=tmp_path)
    named = visus(
        *("predict", bundle, images, "--engine", "onnxruntime", "--precision", "float32", "--threads", 1), cwd=tmp_path
    )
    assert (named.returncode, named.stdout) == (0, plain.stdout)
    for words, message in (
        (["--engine", "onnxruntim"], "unknown engine 'onnxruntim'. Did you mean 'onnxruntime'?"),
        (["--precision", "int8"], "Export the run again with --int8.\n"),
        (["--engine", "onnxruntime", "--precision", "int4"], "unknown precision of onnxruntime 'int4'."),
        (["--out", "t.csv", "--engine", "onnx"], "unknown engine 'onnx'."),
        (["--sort-into", "sorted", "--engine", "onnx"], "unknown engine 'onnx'."),
    ):
        answer = visus("predict", bundle, images, *words, cwd=tmp_path)
        assert answer.returncode != 0
        assert message in answer.stderr


def test_options_of_bundles_are_refused_for_a_run(
    visus_command: Call, run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visus.workbench.runs.run.load", None)  # refused before it is loaded
    for words in (["--engine", "openvino"], ["--precision", "int8"], ["--threads", "2"]):
        answer = visus_command("predict", run, photos, *words)
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == f"error: {words[0]} cannot be given with a run. Leave it out.\n"


def test_the_parts_of_a_bundle_are_those_of_its_engine_and_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "in", 200)
    bundle = open_bundle(brightness_bundle(tmp_path / "bundle"))
    again = bundle.reopen()
    assert (again.identity, again.num_threads) == (bundle.identity, bundle.num_threads)
    assert bundle.identity.startswith(f"{bundle.sha256} onnxruntime")
    asked = iter([False] * 5 + [True] * 9)
    monkeypatch.setattr("visus.workbench.runs.bulk.predicting.PART_SIZE", 64)
    with pytest.raises(CanceledError):
        bundle.predict_to(images, tmp_path / "t.csv", progress=False, should_stop=lambda: next(asked))
    with pytest.raises(UsageError, match="predictions of the bundle brightness, and not of the run brightness"):
        predict_to(Brightness(), images, tmp_path / "t.csv", progress=False)
