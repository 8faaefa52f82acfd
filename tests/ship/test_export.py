"""Making a bundle: the gate decides, equal runs give equal bytes, and nothing of the machine is in it."""

from __future__ import annotations

import dataclasses
import getpass
import importlib.util
import json
import os
import re
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import visus
from visus.errors import DataError, MissingExtraError, ParityError, RunError, StorageError, UsageError
from visus.networks.trace import trace
from visus.ship import export as ship_export
from visus.ship.export import check_target, make_bundle
from visus.ship.files import BundleFiles
from visus.ship.proof import read_proof
from visus.tables import Table
from visus.units import write_count
from visus.workbench.ship import exporting

ONNX = ("onnx",)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- the gate ----


@pytest.mark.long
def test_what_the_gate_refuses_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter makes a mistake: one weight is another one."""
    export = ship_export.export_onnx

    def wrong(network: nn.Module, *arguments: Any) -> Any:
        with torch.no_grad():
            network.network[0].weight[0, 0, 0, 0] += 1  # type: ignore[index, union-attr]
        made = export(network, *arguments)  # type: ignore[arg-type]
        with torch.no_grad():
            network.network[0].weight[0, 0, 0, 0] -= 1  # type: ignore[index, union-attr]
        return made

    monkeypatch.setattr(ship_export, "export_onnx", wrong)
    target = tmp_path / "bundles" / "wrong"
    target.parent.mkdir()
    with pytest.raises(ParityError) as error:
        visus.load(run).export(target, formats=ONNX, progress=False)
    assert re.fullmatch(
        r"onnxruntime, float32, batches of 1: the exported network is refused, and nothing was written: a probability differs by \S+, and at most 1e-04 "
        r"is accepted\. The difference begins in network\.conv1( and network\.norm1)?\.",
        str(error.value),
    )
    assert list(target.parent.iterdir()) == []


@pytest.mark.long
def test_another_weight_in_the_file_of_weights_is_refused(
    source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = ship_export.safetensors.torch.save

    def wrong(tensors: dict[str, Tensor], *rest: Any) -> bytes:
        return save({**tensors, "1.bias": tensors["1.bias"] + 1e-6}, *rest)

    monkeypatch.setattr(ship_export.safetensors.torch, "save", wrong)
    with pytest.raises(ParityError) as error:
        make_bundle(source(nn.Sequential(nn.Flatten(), nn.Linear(300, 2))), tmp_path / "bundle", ONNX)
    assert (
        str(error.value)
        == "weights.safetensors: 1.bias: the exported network is refused, and nothing was written: the values in the file of weights are not those of the network."
    )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.long
def test_a_weight_that_is_not_in_its_file_is_refused(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = ship_export.safetensors.torch.save
    monkeypatch.setattr(
        ship_export.safetensors.torch, "save", lambda tensors, *rest: save({"1.bias": tensors["1.bias"]}, *rest)
    )
    with pytest.raises(ParityError) as error:
        make_bundle(source(nn.Sequential(nn.Flatten(), nn.Linear(300, 2))), tmp_path / "bundle", ONNX)
    assert error.value.message.endswith("this tensor is in the network or in its file of weights, and not in both.")
    assert error.value.where == "weights.safetensors: 1.weight"


@pytest.mark.long
def test_a_program_that_answers_otherwise_is_refused(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of ``torch.export`` was written and never compared."""
    save = torch.export.save

    def wrong(program: Any, *rest: Any, **options: Any) -> None:
        with torch.no_grad():
            next(each for each in program.state_dict.values() if each.ndim == 2)[0].add_(0.01)
        save(program, *rest, **options)

    monkeypatch.setattr(torch.export, "save", wrong)
    with pytest.raises(ParityError) as error:
        make_bundle(source(nn.Sequential(nn.Flatten(), nn.Linear(300, 2))), tmp_path / "bundle", ("onnx", "torch"))
    assert re.fullmatch(
        r"torch-program, float32, batches of 1: the exported network is refused, and nothing was written: a probability differs by \S+, and at most 1e-04 is accepted\.",
        str(error.value),
    )
    assert not (tmp_path / "bundle").exists()


def test_the_export_says_how_a_run_in_bfloat16_differs(run: Path, bundle: Path) -> None:
    trained = visus.load(run)
    proof = read_proof(BundleFiles(bundle))

    class InBfloat16:
        machine = SimpleNamespace(precision="bfloat16")
        preprocessing = trained.preprocessing

        def logits(self, batches: list[Tensor]) -> Tensor:
            return torch.cat(batches)

        def probabilities(self, logits: Tensor) -> Tensor:
            assert len(logits) == len(proof.samples)
            return torch.from_numpy(proof.answers) + torch.tensor([0.0025, -0.0025])

    assert exporting._run_difference(InBfloat16(), bundle) == (  # type: ignore[arg-type]
        "computes in bfloat16 on this machine, and the bundle in float32: 100.0 % of the labels; probabilities differ by up to 2.5e-03"
    )
    InBfloat16.machine.precision = "float32"
    assert exporting._run_difference(InBfloat16(), bundle) == ""  # type: ignore[arg-type]


# ---- the place ----


def test_a_place_that_is_taken_is_refused_before_any_work(tmp_path: Path, bundle: Path) -> None:
    taken = "there is something at this path already. Choose another path, or replace it with --force."
    other = "this folder is no bundle, so it is not replaced. Choose another path."
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"photo")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "link.zip").symlink_to(tmp_path / "file.txt")
    (tmp_path / "link").symlink_to(bundle)
    for place, force, said in (
        (bundle, False, taken),
        (tmp_path / "photos", False, taken),
        (tmp_path / "photos", True, other),
        (tmp_path / "file.txt", True, "this is no bundle, so it is not replaced. Choose another path."),
        (tmp_path / "link.zip", True, "this is no bundle, so it is not replaced. Choose another path."),
        (tmp_path / "link", True, "this is no bundle, so it is not replaced. Choose another path."),
    ):
        with pytest.raises(UsageError) as error:
            check_target(place, force=force)
        assert str(error.value) == f"{place}: {said}"
    for place in (bundle, tmp_path / "empty"):
        check_target(place, force=True)
    check_target(tmp_path / "new")
    assert (tmp_path / "photos" / "dear.jpg").read_bytes() == b"photo"


def test_force_replaces_nothing_but_a_bundle(tmp_path: Path, bundle: Path) -> None:
    with zipfile.ZipFile(tmp_path / "thesis.zip", "w") as thesis:
        thesis.writestr("thesis.txt", "years of work")
    shutil.copytree(bundle, tmp_path / "noted")
    (tmp_path / "noted" / "notes.txt").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bundle.json").write_text("{}")
    foreign = "this file is not of the bundle, and would be lost. Move it, or choose another path for the bundle."
    for place, said in (
        ("thesis.zip", "thesis.zip: this is no bundle, so it is not replaced. Choose another path."),
        ("noted", f"noted: notes.txt: {foreign}"),
        ("other", "other: this folder is no bundle, so it is not replaced. Choose another path."),
    ):
        with pytest.raises(UsageError) as error:
            check_target(tmp_path / place, force=True)
        assert str(error.value) == f"{tmp_path}/{said}"
    (tmp_path / "noted" / "notes.txt").unlink()
    (tmp_path / "noted" / "design.txt").unlink()
    check_target(tmp_path / "noted", force=True)  # a damaged bundle is replaced


def test_a_name_of_another_archive_is_refused(tmp_path: Path) -> None:
    for name, ending in (("x.tar.gz", ".gz"), ("x.TGZ", ".tgz"), ("x.7z", ".7z")):
        with pytest.raises(UsageError) as error:
            check_target(tmp_path / name)
        assert str(error.value) == (
            f"{tmp_path / name}: a bundle is a folder or a zip file, and {ending} is the ending of another archive. End the name with .zip, or without "
            "an ending."
        )
    for name in ("x.zip", "x", "resnet.v1"):
        check_target(tmp_path / name)


def test_unknown_formats_and_empty_checks_are_refused(run: Path, tmp_path: Path) -> None:
    trained = visus.load(run)
    with pytest.raises(UsageError, match=r"unknown format 'onx'\. Did you mean 'onnx'\?"):
        trained.export(tmp_path / "a", formats=["onx"], progress=False)
    for fields in ({"num_samples": 0}, {"num_golden": 0}):
        with pytest.raises(
            UsageError, match=r"the check of a bundle needs at least one held-out sample and one golden file\."
        ):
            trained.export(tmp_path / "a", progress=False, **fields)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_bundle_is_replaced_as_a_whole(run: Path, bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "old"
    shutil.copytree(bundle, target)
    made = visus.load(run).export(
        target, formats=ONNX, num_samples=5, num_golden=3, license="MIT", force=True, progress=False
    )
    files = BundleFiles(target)
    files.check()
    assert (made.sha256, made.manifest.license) == (files.digest, "MIT")
    assert len([path for path in files.manifest.files if path.startswith("golden/")]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert made.text()[0] == f"Bundle {run.name}"
    assert made.to_json()["sha256"] == files.digest


def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ship_export, "write_bundle", full)
    with pytest.raises(StorageError) as error:
        ship_export._write(tmp_path / "bundle", None, {})  # type: ignore[arg-type]
    assert str(error.value) == (
        f"{tmp_path / 'bundle'}: the bundle cannot be written (No space left on device). Free some space, or choose another path."
    )
    assert list(tmp_path.iterdir()) == []


# ---- the bytes ----


@pytest.mark.slow
def test_equal_runs_give_equal_bytes_in_folder_and_zip_file(run: Path, bundle: Path, tmp_path: Path) -> None:
    made = visus.load(run).export(tmp_path / "again.zip", formats=ONNX, progress=False)
    with zipfile.ZipFile(made.path) as opened:
        inside = {name: opened.read(name) for name in opened.namelist()}
    assert inside == files_of(bundle)
    assert made.sha256 == BundleFiles(bundle).digest


FOREIGN = re.compile(rb"/(?:tmp|home|root|work|usr|Users|opt)/|[A-Z]:\\\\|site-packages|\d\d:\d\d:\d\d|20\d\d-\d\d-\d\dT")


def foreign(files: dict[str, bytes], *more: str) -> list[str]:
    """What is in the files of a bundle that tells of the machine: paths, the user, times."""
    words = [word.encode() for word in {getpass.getuser(), os.uname().nodename, *more} if len(word) > 3]
    found = []
    for name, content in files.items():
        if name.startswith("golden/"):
            continue  # a person's own files, as they are
        found += [f"{name}: {content[max(0, each.start() - 40) : each.end() + 40]!r}" for each in FOREIGN.finditer(content)]
        found += [f"{name}: {word!r}" for word in words if word in content]
    return found


def test_nothing_of_the_machine_is_in_a_bundle(run: Path, bundle: Path) -> None:
    assert foreign({"a": b"open " + b"/home" + b"/me/photos"})
    assert foreign(files_of(bundle), str(run), str(Path.cwd())) == []


# ---- networks that cannot be exported ----


class Branching(nn.Module):
    """Its ``forward`` depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(300, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)) if x.mean() > 0 else -self.linear(x.flatten(1))


class Paired(Branching):
    """It returns two tensors."""

    def forward(self, x: Tensor) -> Any:
        return self.linear(x.flatten(1)), x


@pytest.fixture
def source(run: Path) -> Any:
    """What a bundle is made of, with another network."""
    import numpy as np

    from visus.evaluation.calibration import Calibrator
    from visus.ship.export import Exportable
    from visus.ship.golden_files import golden_rows

    trained = visus.load(run)
    rows = np.random.default_rng(0).integers(0, 256, (4, 3, 10, 10), dtype=np.uint8)

    def make(network: nn.Module) -> Exportable:
        golden = golden_rows(rows, 2, (10, 10), are_images=False)
        labels = np.array([0, 1, 0, 1])
        return Exportable(
            "own", network.eval(), trained.preprocessing, trained.classes, Calibrator(), "none", golden, rows, labels, {}
        )

    return make


def test_a_network_that_depends_on_values_gets_one_clear_sentence(
    source: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as error:
        make_bundle(source(Branching()), tmp_path / "own", "onnx")
    assert capfd.readouterr() == ("", "")
    said = str(error.value)
    assert said.startswith("this network cannot be exported: ")
    assert said.endswith(
        "A network is exported if its forward depends on the shapes of tensors and not on their values: replace Python's if and for over values by "
        "operations of PyTorch."
    )
    assert len(said) < 500
    assert "\n" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_returns_several_tensors_is_named(source: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        make_bundle(source(Paired()), tmp_path / "own", ONNX)
    assert str(error.value) == (
        "this network cannot be exported: its forward returns a tuple, and one tensor of logits (samples, classes) is needed."
    )


class Shared(nn.Module):
    """Two layers that share their weights, a buffer, dropout, a layer that is called twice, and a loop over shapes."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3, padding=1)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.tensor([0.5, 1.0, 2.0]).view(1, 3, 1, 1))
        self.dropout = nn.Dropout(0.5)
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x) * self.scale).relu()
        x = self.dropout(self.second(x))
        parts = [x[..., column].mean(-1) for column in range(x.shape[-1])]
        return self.linear(torch.stack(parts).mean(0))


ODD_NAMES = ('a "quoted"\nname, \\ and <b>', "na\u00efve \u6f22\u5b57")


@pytest.mark.long
def test_shared_weights_buffers_dropout_and_odd_class_names_are_exported(source: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = dataclasses.replace(source(Shared()), classes=ODD_NAMES)
    manifest, _ = make_bundle(made, tmp_path / "own", ONNX)
    assert [each["agreement"] for each in manifest.checks] == [1.0, 1.0]
    assert made.network.first.weight is made.network.second.weight
    opened = visus.open_bundle(tmp_path / "own", engine="onnxruntime")
    assert opened.classes == ODD_NAMES
    assert {each.label for each in opened.predict(made.samples, progress=False)} <= set(ODD_NAMES)


def test_missing_packages_are_named_with_their_command(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError) as error:
        make_bundle(source(Shared()), tmp_path / "own", ONNX)
    assert str(error.value) == (
        "an export to ONNX needs two packages. Install them: pip install 'onnx>=1.18' 'onnxscript>=0.5'"
    )
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError) as error:
        ship_export.openvino_files(b"")
    assert str(error.value) == "an export to OpenVINO needs a package. Install it: pip install 'openvino>=2025.0'"


# ---- runs ----


def test_a_run_without_held_out_samples_is_not_exported(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting.SavedRun, "open_data", lambda *_, **__: Empty())
    with pytest.raises(RunError) as error:
        exporting.export_run(visus.load(run), tmp_path / "bundle")
    assert str(error.value) == (
        f"{run}: the data of this run has no held-out samples, so an export cannot be checked. Train with a test split."
    )


class Empty:
    """Data without held-out samples."""

    scored_split = "test"

    def split(self, name: str) -> tuple[()]:
        """Nothing."""
        return ()


def test_a_run_whose_data_has_moved_names_the_place(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    facts = json.loads((moved / "data.json").read_text("utf-8"))
    (moved / "data.json").write_text(json.dumps({**facts, "path": str(tmp_path / "gone")}))
    with pytest.raises(DataError) as error:
        visus.load(moved).export(tmp_path / "bundle", formats=ONNX, progress=False)
    assert str(tmp_path / "gone") in str(error.value)
    assert not (tmp_path / "bundle").exists()


def test_a_training_that_was_stopped_is_not_exported(run: Path, tmp_path: Path) -> None:
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    for name in ("scores.json", "report.html"):
        (stopped / name).unlink()
    with pytest.raises(RunError) as error:
        visus.load(stopped).export(tmp_path / "bundle", formats=ONNX, progress=False)
    assert str(error.value).startswith(
        f"{stopped}: this training was stopped before its end, so it cannot be exported. Resume it with "
    )
    assert not (tmp_path / "bundle").exists()


@pytest.mark.long
def test_without_openvino_the_other_formats_are_written_and_it_is_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name))
    made = visus.load(run).export(tmp_path / "bundle", num_samples=4, num_golden=2, progress=False)
    assert [each.format for each in made.manifest.graphs] == ["onnx", "torch", "safetensors"]
    facts = made.text()[1]
    assert isinstance(facts, Table)
    assert ("", "without openvino, which is not installed (pip install 'openvino>=2025.0')") in facts.rows


def test_every_axis_of_unknown_length_in_the_graph_is_called_batch(bundle: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_from_string(BundleFiles(bundle).read("network.onnx")).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    names = {axis.dim_param for value in values for axis in value.type.tensor_type.shape.dim if axis.dim_param}
    assert {value.type.tensor_type.shape.dim[0].dim_param for value in (*graph.input, *graph.output)} == {"batch"}
    assert all(re.fullmatch(r"batch|\d+\*batch|batch\*\d+", each) for each in names), names


def test_the_manifest_has_the_costs_of_the_network_and_the_field_of_its_last_map(run: Path, bundle: Path) -> None:
    trained, facts = visus.load(run), BundleFiles(bundle).manifest.facts
    account = trace(trained.module, trained.preprocessing.input_shape)
    assert (facts["macs"], facts["num_parameters"]) == (account.macs, account.num_parameters)
    last = [row for row in account.rows if row.layer.startswith("Conv")][-1]
    assert facts["receptive_field"] == [field.size for field in last.fields]
    assert f"{write_count(account.macs)} multiply-adds" in repr(visus.open_bundle(bundle))
