"""The parity gate: a fault anywhere from the file to the probability is refused, and its place is named."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.bundles import Forge

from visus.data.images import decode as image_decode
from visus.data.images import fit as image_fit
from visus.errors import BundleError, MissingExtraError, UsageError
from visus.ship import engines
from visus.ship.engines import open_engine
from visus.ship.export import openvino_files
from visus.ship.files import BundleFiles
from visus.ship.layers import with_outputs
from visus.ship.manifest import TOLERANCES, Graph
from visus.ship.parity import Check, check_bundle, checks_as_json, checks_from_json, compare_engine
from visus.ship.proof import MAX_TRACED_VALUES, read_proof, traced_values

BATCHES = (1, 7)


def refused(files: BundleFiles) -> str:
    """The sentence with which a bundle is refused, without the path of the bundle."""
    with pytest.raises(BundleError) as error:
        check_bundle(files, ["onnxruntime"], batches=BATCHES)
    return str(error.value).removeprefix(f"{files.path}: ")


def named(bundle: Path, kind: str) -> str:
    """The golden file of a kind, as a message names it."""
    (found,) = (each.path for each in read_proof(BundleFiles(bundle)).golden if each.kind == kind)
    return f"{found} ({kind})"


def edited(graph: bytes, weight: str, change: Callable[[Any], None]) -> bytes:
    """An ONNX file with a changed weight."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    for each in model.graph.initializer:
        if each.name == weight:
            values = numpy_helper.to_array(each).copy()
            change(values)
            each.CopyFrom(numpy_helper.from_array(values, weight))
            return model.SerializeToString()
    raise AssertionError(f"no {weight} among {[each.name for each in model.graph.initializer]}")


def npy(values: Any) -> bytes:
    """An array as a file."""
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def test_an_unchanged_bundle_passes_with_and_without_optimizations(bundle: Path) -> None:
    checks = check_bundle(BundleFiles(bundle), ["onnxruntime"])
    assert [(each.engine, each.optimized, each.batches) for each in checks] == [
        ("onnxruntime", True, (1, 2, 7, 64)),
        ("onnxruntime", False, (1, 2, 7, 64)),
    ]
    for each in checks:
        assert (each.num_golden, each.num_samples, each.agreement, each.score) == (20, 12, 1.0, each.run_score)
        assert 0 <= each.mean_difference <= each.max_difference <= 1e-5 < each.tolerance
        assert each.score_low < each.score <= each.score_high
    assert checks_from_json(checks_as_json(checks)) == checks


def test_a_check_says_its_result_in_one_line() -> None:
    check = Check("onnxruntime", "1.20", "float32", False, 20, 500, (1, 7), 1.0, 2e-7, 1e-8, 0.9, 0.87, 0.92, 0.9, 1e-4)
    assert check.sentence() == (
        "onnxruntime 1.20, float32, graph as it is: 100.0 % of the labels; probabilities differ by up to 2.0e-07; accuracy 90.0 %, the run 90.0 %"
    )


# ---- planted faults in the network ----


def double(values: Any) -> None:
    values *= 2


def shift(values: Any) -> None:
    values += 3


def change_one(values: Any) -> None:
    values.flat[5] += 0.5


@pytest.mark.parametrize(
    ("weight", "change", "place"),
    [
        ("normalization.offset", shift, "normalization"),
        ("normalization.divisor", double, "normalization"),
        ("network.conv1.weight", change_one, "network.conv1"),
        ("network.linear1.weight", change_one, "network.linear1"),
    ],
)
def test_a_changed_number_of_the_network_is_refused_with_its_layer(
    bundle: Path, forge: Forge, weight: str, change: Callable[[Any], None], place: str
) -> None:
    graph = edited(BundleFiles(bundle).read("network.onnx"), weight, change)
    said = refused(forge({"network.onnx": graph}))
    assert said.startswith("onnxruntime, float32, batches of 1: a probability differs by ")
    assert "at most 1e-04 is accepted. The difference begins in " in said
    assert said.rpartition("The difference begins in ")[2].startswith(place)


def test_swapped_channels_inside_the_network_are_refused(bundle: Path, forge: Forge) -> None:
    """BGR for RGB in the first convolution."""

    def swap(values: Any) -> None:
        values[:] = values[:, ::-1].copy()

    graph = edited(BundleFiles(bundle).read("network.onnx"), "network.conv1.weight", swap)
    assert "The difference begins in network.conv1" in refused(forge({"network.onnx": graph}))


def test_another_temperature_is_refused(bundle: Path, forge: Forge) -> None:
    other = BundleFiles(bundle).manifest.temperature * 1.2
    said = refused(forge(temperature=other))
    assert said.startswith("onnxruntime, float32, batches of 1: a probability differs by ")
    assert said.endswith(
        " is accepted, though the logits agree: the difference begins in the calibration (temperature and softmax)."
    )


@pytest.mark.parametrize("field", ["temperature", "smoothing", "tta", "preprocessing"])
def test_a_forged_fact_that_decides_answers_is_refused_at_the_opening(bundle: Path, forge: Forge, field: str) -> None:
    manifest = BundleFiles(bundle).manifest
    swapped = dataclasses.replace(manifest.preprocessing, offset=tuple(each + 1 for each in manifest.preprocessing.offset))
    other = {"temperature": 1.7, "smoothing": 0.3, "tta": "flip", "preprocessing": swapped}[field]
    files = forge(signed=False, **{field: other})
    with pytest.raises(BundleError) as error:
        open_engine(files)
    assert str(error.value) == (
        f"{files.path}: the task, preprocessing, temperature, smoothing or tta of the manifest was changed: the network was exported with other ones. "
        "Export the run again."
    )


def test_a_network_without_its_notes_or_for_other_samples_is_refused_at_the_opening(bundle: Path, forge: Forge) -> None:
    import onnx

    manifest = BundleFiles(bundle).manifest
    wider = dataclasses.replace(manifest.preprocessing, size=(20, 30))
    files = forge(preprocessing=wider)
    with pytest.raises(BundleError) as error:
        open_engine(files)
    found = " x ".join(map(str, manifest.preprocessing.input_shape))
    assert str(error.value) == (
        f"{files.path}: the network reads uint8 samples of {found}, and the manifest says uint8 samples of 3 x 20 x 30. Export the run again."
    )
    model = onnx.load_from_string(BundleFiles(bundle).read("network.onnx"))
    del model.metadata_props[:]
    with pytest.raises(BundleError) as error:
        open_engine(forge({"network.onnx": model.SerializeToString()}))
    assert str(error.value).endswith(
        "the network of this bundle is damaged: it does not name its classes and its calibration. Export the run again."
    )


def test_tolerances_of_the_bundle_are_not_believed(bundle: Path, forge: Forge) -> None:
    needed = "bfloat16 0.01, float16 0.01, float32 0.0001"
    for forged, found in (({}, "empty"), ({**TOLERANCES, "float32": 1.0}, "bfloat16 0.01, float16 0.01, float32 1")):
        files = forge(tolerances=forged, temperature=BundleFiles(bundle).manifest.temperature * 1.5)
        assert refused(files) == f"bundle.json: tolerances is {found}, and {needed} is needed. Export the run again."
        engine = open_engine(files)
        with pytest.raises(BundleError, match="a probability differs by"):
            compare_engine(engine, files.manifest, read_proof(files), BATCHES)


def test_an_engine_is_compared_with_nan_as_with_a_difference(bundle: Path) -> None:
    files = BundleFiles(bundle)
    proof = read_proof(files)
    spoiled = np.full_like(proof.plain_logits, np.nan)
    with pytest.raises(BundleError, match=r"a probability differs by nan, and at most 1e-04 is accepted\.$"):
        compare_engine(open_engine(files), files.manifest, dataclasses.replace(proof, plain_logits=spoiled), BATCHES)
    spoiled = np.full_like(proof.answers, np.nan)
    with pytest.raises(BundleError, match="differs by nan, and at most 1e-04 is accepted"):
        compare_engine(open_engine(files), files.manifest, dataclasses.replace(proof, answers=spoiled), BATCHES)


def test_values_of_the_proof_that_no_run_has_are_refused(bundle: Path, forge: Forge) -> None:
    proof = read_proof(BundleFiles(bundle))
    for path, values, said in (
        ("labels", proof.labels + 1000, "a value is not between 0 and 1. Export the run again."),
        ("labels", proof.labels.astype(np.float64), "these values are float64, and int64 is needed. Export the run again."),
        ("plain_logits", np.full_like(proof.plain_logits, np.nan), "a value is NaN or infinite. Export the run again."),
        ("probabilities", proof.answers + 1, "a value is not between 0 and 1. Export the run again."),
        ("samples", proof.samples.astype(np.int16), "these values are int16, and uint8 is needed. Export the run again."),
    ):
        assert refused(forge({f"proof/{path}.npy": npy(values)})) == f"proof/{path}.npy: {said}"


def test_a_proof_without_samples_is_refused(forge: Forge) -> None:
    assert refused(forge({"proof/labels.npy": npy(np.zeros(0, dtype=np.int64))})) == (
        "proof/labels.npy: the proof has no held-out samples. Export the run again."
    )


def test_a_forged_list_of_layers_hides_no_difference(bundle: Path, forge: Forge) -> None:
    files = BundleFiles(bundle)
    layers = json.loads(files.read("proof/layers.json"))
    layers[-1][1] = "no such value"
    graph = edited(files.read("network.onnx"), "network.linear1.weight", change_one)
    said = refused(forge({"network.onnx": graph, "proof/layers.json": json.dumps(layers).encode()}))
    assert re.fullmatch(
        r"onnxruntime, float32, batches of 1: a probability differs by \S+, and at most 1e-04 is accepted\.", said
    )


def test_a_forged_list_of_golden_files_is_refused(bundle: Path, forge: Forge) -> None:
    golden = json.loads(BundleFiles(bundle).read("proof/golden.json"))
    needed = "and a file of the bundle in golden/ is needed"
    for forged, said in (
        ({}, "proof/golden.json is an object of 0, and a list is needed"),
        ([{**golden[0], "path": 5}], "proof/golden.json: path is 5, and text in Unicode is needed"),
        (
            [{**golden[0], "path": "../../etc/passwd"}],
            f"proof/golden.json: path is '../../etc/passwd', {needed}",
        ),
        ([{**golden[0], "path": "design.txt"}], f"proof/golden.json: path is 'design.txt', {needed}"),
        ([{**golden[0], "more": 1}], "proof/golden.json has the unknown 'more'"),
    ):
        text = json.dumps(forged).encode()
        assert refused(forge({"proof/golden.json": text})) == f"the proof is not readable ({said}). Export the run again."
    assert refused(forge({"proof/golden.json": b"[" * 200_000})).startswith("the proof is not readable (")


def test_another_label_smoothing_is_refused(forge: Forge) -> None:
    assert refused(forge(smoothing=0.3)).endswith("the difference begins in the calibration (temperature and softmax).")


@pytest.mark.parametrize("tta", ["flip", "shift"])
def test_another_test_time_augmentation_is_refused(forge: Forge, tta: str) -> None:
    said = refused(forge(tta=tta))
    assert said.startswith("onnxruntime, float32, batches of 1: a probability of ")
    assert said.endswith(
        " is accepted, though the network's own outputs agree: test-time augmentation or calibration differs."
    )


def test_other_answers_of_the_run_are_refused(bundle: Path, forge: Forge) -> None:
    plain = read_proof(BundleFiles(bundle)).plain_logits
    said = refused(forge({"proof/plain_logits.npy": npy(plain[::-1])}))
    assert said.endswith("The difference is in the graph, though each of its layers agrees for the traced samples.")


def test_a_difference_of_the_engine_alone_is_laid_to_the_engine(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that computes the right graph wrongly, as an optimization with a mistake does."""
    run = engines._OnnxRuntime.run

    def wrong(engine: Any, samples: Any) -> Any:
        logits, probabilities = run(engine, samples)
        return logits + np.arange(logits.shape[1], dtype=np.float32), probabilities

    monkeypatch.setattr(engines._OnnxRuntime, "run", wrong)
    assert refused(BundleFiles(bundle)).endswith(
        "Every layer of the graph agrees by itself, so it comes from the optimizations of onnxruntime."
    )


@given(st.integers(1, 5_000), st.data())
def test_one_changed_value_of_a_layer_is_seen_in_what_is_kept_of_it(size: int, data: Any) -> None:
    values = np.random.default_rng(size).normal(size=(2, size)).astype(np.float32)
    changed = values.copy()
    changed[1, data.draw(st.integers(0, size - 1))] += 0.1
    before, after = traced_values(values), traced_values(changed)
    assert before.shape == (2, MAX_TRACED_VALUES)
    np.testing.assert_array_equal(before[0], after[0])
    assert np.nanmax(np.abs(before[1] - after[1])) > 0.01
    assert np.isnan(before).sum() == 2 * max(0, MAX_TRACED_VALUES - size)


def test_a_network_that_gives_nan_is_refused(bundle: Path, forge: Forge) -> None:
    def spoil(values: Any) -> None:
        values[:] = np.nan

    graph = edited(BundleFiles(bundle).read("network.onnx"), "network.linear1.weight", spoil)
    assert refused(forge({"network.onnx": graph})) == (
        "onnxruntime, float32, batches of 1: an output is NaN or infinite. The difference begins in network.linear1."
    )


# ---- planted faults in front of the network ----


def test_an_exif_record_that_is_ignored_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decode, "_turned", lambda values, orientation: values)
    assert refused(BundleFiles(bundle)).startswith(
        f"{named(bundle, 'turned by EXIF')}: decoding gives other pixels than at the export, by up to "
    )


def test_an_exif_record_that_is_not_read_is_named(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_decode, "_orientation", lambda image: (1, False))
    said = refused(BundleFiles(bundle))
    assert (
        "; the export noted turned upright by its EXIF orientation, and here it is nothing. Install the versions of" in said
    )
    assert said.endswith("Install the versions of Pillow and simplejpeg that the model card names")


def test_blue_for_red_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = image_decode._decode

    def swapped(*arguments: Any) -> Any:
        found = decode(*arguments)
        return dataclasses.replace(found, pixels=found.pixels[::-1])

    monkeypatch.setattr(image_decode, "_decode", swapped)
    assert refused(BundleFiles(bundle)).startswith(
        "golden/00.png (held-out): decoding gives other pixels than at the export, by up to "
    )


def test_the_resizing_of_pillow_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resize(pixels: Any, size: tuple[int, int]) -> Any:
        return np.stack([np.asarray(Image.fromarray(each).resize(size[::-1], Image.Resampling.BILINEAR)) for each in pixels])

    monkeypatch.setattr(image_fit, "resample", resize)
    said = refused(BundleFiles(bundle))
    assert said == (
        f"{named(bundle, 'noise, a little larger than a sample')}: resizing gives other pixels than at the export, by up to 1 levels. Use the version of "
        "visus that wrote this bundle."
    )


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_another_way_to_fit_an_image_is_refused(bundle: Path, forge: Forge, mode: str) -> None:
    other = dataclasses.replace(BundleFiles(bundle).manifest.preprocessing, resize_mode=mode)
    assert refused(forge(preprocessing=other)).startswith(f"{named(bundle, 'huge')}: ")


@pytest.mark.parametrize("field", ["offset", "divisor"])
def test_another_mean_or_divisor_in_the_manifest_is_refused(bundle: Path, forge: Forge, field: str) -> None:
    facts = BundleFiles(bundle).manifest.preprocessing
    other = dataclasses.replace(facts, **{field: tuple(each + 1 for each in getattr(facts, field))})
    assert refused(forge(preprocessing=other)) == (
        "the normalization of the manifest gives other values than the run had: its offset or divisor was changed. Export the run again."
    )


def test_a_golden_file_that_cannot_be_read_is_named(forge: Forge) -> None:
    assert refused(forge({"golden/13.png": b"no image"})).startswith("golden/13.png: this golden file cannot be read here: ")


# ---- forged parts that contradict each other ----


def test_a_forged_list_of_classes_is_refused(bundle: Path, forge: Forge) -> None:
    classes = BundleFiles(bundle).manifest.classes
    assert refused(forge(classes=classes[::-1])) == (
        "golden/00.png: the list of classes was changed: the run called this file dark, and the list calls it light. Export the run again."
    )
    assert refused(forge(classes=(*classes, "more"))).endswith(
        "proof/golden_probabilities.npy: this array has the shape (20, 2), and (20, 3) is needed. Export the run again."
    )


def test_a_forged_list_of_classes_with_forged_labels_is_refused(bundle: Path, forge: Forge) -> None:
    files = BundleFiles(bundle)
    names = dict(zip(files.manifest.classes, files.manifest.classes[::-1], strict=True))
    golden = [{**each, "label": names[each["label"]]} for each in json.loads(files.read("proof/golden.json"))]
    forged = forge({"proof/golden.json": json.dumps(golden).encode()}, classes=files.manifest.classes[::-1])
    assert refused(forged) == (
        "the list of classes was changed: the network names other classes than the manifest. Export the run again."
    )


def test_a_network_that_is_none_is_refused(forge: Forge) -> None:
    said = refused(forge({"network.onnx": b"no network"}))
    assert said.startswith("onnxruntime cannot open the network of this bundle: ")
    assert said.endswith(". Export the run again.")


def test_a_network_that_reads_other_files_is_refused(bundle: Path, forge: Forge, tmp_path: Path) -> None:
    """An ONNX file may keep its weights in other files; in a bundle it may not."""
    import onnx

    model = onnx.load_from_string(BundleFiles(bundle).read("network.onnx"))
    secret = tmp_path / "secret"
    weight = next(each for each in model.graph.initializer if each.name == "network.conv1.weight")
    secret.write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=str(secret))
    assert refused(forge({"network.onnx": model.SerializeToString()})).startswith(
        "onnxruntime cannot open the network of this bundle: "
    )


def test_an_engine_that_stops_is_an_error(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(engine: Any, samples: Any) -> Any:
        raise RuntimeError("out of memory\nin line 5")

    monkeypatch.setattr(engines._OnnxRuntime, "run", stop)
    assert refused(BundleFiles(bundle)) == "onnxruntime, float32, batches of 1: the engine stopped: out of memory"


def test_a_network_with_another_number_of_outputs_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = engines._OnnxRuntime.run
    monkeypatch.setattr(engines._OnnxRuntime, "run", lambda engine, samples: [each[:, :1] for each in run(engine, samples)])
    assert ": the outputs have the shape (32, 1), and (32, 2) is needed." in refused(BundleFiles(bundle))


def test_a_precision_that_the_processor_lacks_is_refused(
    bundle: Path, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO would compute in another precision, and say nothing."""
    pytest.importorskip("openvino")
    made = openvino_files(BundleFiles(bundle).read("network.onnx"))
    graphs = (*BundleFiles(bundle).manifest.graphs, Graph("openvino", "openvino/network.xml"))
    files = forge(made, graphs=graphs)
    assert open_engine(files, "openvino").precision == "float32"
    monkeypatch.setattr("visus.ship.engines.precisions_of", lambda compiled: {"bf16"})
    with pytest.raises(UsageError) as error:
        open_engine(files, "openvino")
    assert str(error.value) == "OpenVINO computes in bf16 on this processor, and not in float32. Use another precision."


@pytest.mark.parametrize("path", ["proof/samples.npy", "proof/layers.npy", "proof/labels.npy"])
def test_a_part_of_the_proof_with_another_shape_is_refused(forge: Forge, path: str) -> None:
    said = refused(forge({path: npy(np.zeros((3, 2)))}))
    assert "this array has the shape (3, 2), and (" in said


def test_a_damaged_proof_is_refused(forge: Forge) -> None:
    assert refused(forge({"proof/samples.npy": b"nothing"})).startswith("the proof is not readable (")
    pickled = io.BytesIO()
    np.save(pickled, np.array([{}], dtype=object), allow_pickle=True)
    assert "(an array of plain numbers in the byte order of this machine is needed)" in refused(
        forge({"proof/samples.npy": pickled.getvalue()})
    )


def test_a_bundle_without_its_proof_cannot_be_verified(bundle: Path, forge: Forge) -> None:
    manifest = BundleFiles(bundle).manifest
    assert "proof/samples.npy" in manifest.files
    with pytest.raises(BundleError) as error:
        read_proof(Without(BundleFiles(bundle), "proof/samples.npy"))  # type: ignore[arg-type]
    assert str(error.value).endswith(
        "proof/samples.npy is missing, so this bundle cannot be verified. Export the run again."
    )


class Without:
    """The files of a bundle without one of them."""

    def __init__(self, files: BundleFiles, path: str) -> None:
        kept = {name: facts for name, facts in files.manifest.files.items() if name != path}
        self.path, self.read, self.manifest = files.path, files.read, dataclasses.replace(files.manifest, files=kept)


# ---- engines ----


def test_unknown_engines_and_precisions_are_answered(bundle: Path) -> None:
    files = BundleFiles(bundle)
    with pytest.raises(UsageError, match=r"unknown engine 'onxruntime'\. Did you mean 'onnxruntime'\?"):
        open_engine(files, "onxruntime")
    for name in ("onnx", "fastest"):
        with pytest.raises(UsageError, match=f"unknown engine '{name}'.* Known: onnxruntime, onnxruntime-cuda, openvino"):
            check_bundle(files, [name])
    for size in (0, -3):
        with pytest.raises(UsageError) as error:
            check_bundle(files, batches=(7, size))
        assert str(error.value) == f"a batch of {size} samples cannot be computed. Use --batch with at least 1."
    with pytest.raises(UsageError, match="unknown precision of onnxruntime 'float8'"):
        open_engine(files, "onnxruntime", "float8")
    with pytest.raises(BundleError, match=r"this bundle has no network in onnx \(int8\)"):
        open_engine(files, "onnxruntime", "int8")


def test_a_missing_engine_is_named_with_its_command(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = tuple(dataclasses.replace(each, package=f"no_{each.package}") for each in engines.ENGINES)
    monkeypatch.setattr(engines, "ENGINES", absent)
    with pytest.raises(MissingExtraError) as error:
        open_engine(BundleFiles(bundle))
    assert str(error.value) == (
        "no engine is installed that can compute this bundle. Install one: pip install 'onnxruntime>=1.20'"
    )
    with pytest.raises(MissingExtraError) as error:
        open_engine(BundleFiles(bundle), "openvino")
    assert str(error.value) == "openvino is not installed. Install it: pip install 'openvino>=2025.0'"


def test_threads_and_precision_are_those_that_were_asked_for(bundle: Path) -> None:
    engine = open_engine(BundleFiles(bundle), num_threads=3)
    assert (engine.name, engine.precision, engine.num_threads) == ("onnxruntime", "float32", 3)
    assert open_engine(BundleFiles(bundle)).num_threads >= 1


def test_inner_values_can_be_added_as_outputs(bundle: Path) -> None:
    import onnx

    graph = BundleFiles(bundle).read("network.onnx")
    assert [each.name for each in onnx.load_from_string(with_outputs(graph, ["a" * 300])).graph.output] == [
        *("logits", "probabilities", "a" * 300)
    ]
