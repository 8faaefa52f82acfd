"""Int8 networks: calibrated on training samples, really computed in int8, the same bytes again, and refused above a stated loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.ship import tiny_bundles

import visus
from visus.errors import MissingExtraError, ParityError, UsageError
from visus.evaluation.paired import difference_interval
from visus.ship import export, quantize
from visus.ship.engines import open_engine, precisions_of
from visus.ship.files import BundleFiles
from visus.ship.manifest import Graph
from visus.ship.parity import check_bundle
from visus.ship.quantize import MIN_SAMPLES, Int8, judged, quantized

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

METHODS = [pytest.param("nncf", marks=pytest.mark.slow), "onnxruntime"]
ENGINE_OF = {"nncf": "openvino", "onnxruntime": "onnxruntime"}


def contents() -> dict[str, bytes]:
    files = tiny_bundles.opened()
    return {name: files.read(name) for name in files.manifest.files}


@pytest.fixture(scope="module")
def make() -> Callable[[str], tuple[Graph, dict[str, bytes]]]:
    """The int8 form of the small bundle by a method; each is made once."""
    made: dict[str, tuple[Graph, dict[str, bytes]]] = {}

    def by(method: str) -> tuple[Graph, dict[str, bytes]]:
        if method == "nncf":
            pytest.importorskip("nncf")
        if method not in made:
            held = contents()
            made[method] = quantized(held["network.onnx"], held, tiny_bundles.samples(MIN_SAMPLES, 5), method)
        return made[method]

    return by


@pytest.mark.parametrize("method", METHODS)
def test_an_int8_network_is_computed_in_int8_and_answers_nearly_as_the_run(make: Any, method: str, tmp_path: Path) -> None:
    graph, new = make(method)
    assert graph.precision == "int8"
    files = tiny_bundles.changed(tmp_path / "bundle", new, (graph,))
    engine: Any = open_engine(files, precision="int8", num_threads=1)
    assert (engine.name, engine.precision) == (ENGINE_OF[method], "int8")
    if method == "nncf":
        assert precisions_of(engine._compiled) <= {"u8", "i8"}
    else:
        import onnx

        model = onnx.load_from_string(new[graph.path])
        scaled = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
        heavy = [node for node in model.graph.node if node.op_type in {"Conv", "Gemm", "MatMul"}]
        assert heavy
        assert all(set(node.input[:2]) <= scaled for node in heavy)
    found = judged(files, MIN_SAMPLES, max_loss=0.1)
    assert found.score > 0.9
    assert found.run_score == 1.0
    assert found.loss == pytest.approx(found.run_score - found.score)
    assert found.loss_low <= found.loss <= found.loss_high
    assert found.score_low < found.score <= found.score_high
    (check, *_) = check_bundle(files, precision="int8", batches=(7,))
    assert (check.precision, check.tolerance) == ("int8", None)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_network_and_samples_give_the_same_bytes(make: Any, method: str) -> None:
    held = contents()
    assert quantized(held["network.onnx"], held, tiny_bundles.samples(MIN_SAMPLES, 5), method) == make(method)


def test_a_lost_accuracy_is_measured_in_pairs_and_refused(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, new = make("onnxruntime")
    files = tiny_bundles.changed(tmp_path / "bundle", new, (graph,))
    proof = quantize.read_proof(files)
    num_wrong = 16

    class Answers:
        """The run's answers, but for the first samples."""

        def __init__(self, *_: object) -> None:
            pass

        def __call__(self, samples: Any) -> Any:
            found = proof.answers.copy()
            found[:num_wrong] = np.roll(found[:num_wrong], 1, axis=1)
            return found

    monkeypatch.setattr(quantize, "Answerer", Answers)
    share, total = num_wrong / len(proof.labels), len(proof.labels)
    found = judged(files, 300, max_loss=share)
    low, high = difference_interval(total - num_wrong, num_wrong, 0, 0)
    assert (found.loss, found.loss_low, found.loss_high) == pytest.approx((share, -high, -low))
    with pytest.raises(ParityError) as caught:
        judged(files, 300)
    assert str(caught.value) == (
        "the int8 network loses too much accuracy, so nothing was written. onnxruntime, int8: accuracy 87.5 % (80.7 % to 92.2 %), the run 100.0 %; loss "
        f"12.5 points ({-100 * high:.1f} to {-100 * low:.1f}), at most 1 is accepted. Accept a larger loss with --max-loss, or export without --int8"
    )


def test_an_int8_network_is_judged_on_enough_samples_by_a_share(tmp_path: Path) -> None:
    source = tiny_bundles.source(calibration=tiny_bundles.samples(1, 5))
    few = replace(source, samples=source.samples[:99], labels=source.labels[:99])
    with pytest.raises(UsageError) as caught:
        export.make_bundle(few, tmp_path / "few")
    assert str(caught.value) == (
        "an int8 network is judged on at least 100 held-out samples, and there are 99. Use --samples 100 or more, hold out more data, or export "
        "without --int8."
    )
    for share in (5, -0.1, float("nan")):
        with pytest.raises(UsageError) as caught:
            export.make_bundle(replace(source, max_loss=share), tmp_path / "few")
        assert str(caught.value) == (f"max_loss is {share:g}, and a number from 0 to 1 is needed, such as 0.01.")


def test_a_calibration_needs_enough_training_samples() -> None:
    with pytest.raises(UsageError) as caught:
        quantized(b"", {}, tiny_bundles.samples(MIN_SAMPLES - 1, 5))
    assert str(caught.value) == (
        "the calibration of an int8 network needs at least 300 training samples, and there are 299. Train on more data, or export without int8."
    )


def test_a_method_that_is_unknown_or_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = tiny_bundles.samples(MIN_SAMPLES, 5)
    with pytest.raises(UsageError) as caught:
        quantized(b"", {}, samples, "onnxruntim")
    assert str(caught.value) == "unknown way to quantize 'onnxruntim'. Did you mean 'onnxruntime'? Known: nncf, onnxruntime."
    monkeypatch.setattr(quantize, "_is_installed", lambda package: True)
    with pytest.raises(UsageError) as caught:
        quantized(b"", {}, samples, "nncf")
    assert str(caught.value) == "NNCF quantizes OpenVINO's form of the network. Export it as well: --format openvino."
    monkeypatch.setattr(quantize, "_is_installed", lambda package: False)
    with pytest.raises(MissingExtraError) as caught:
        quantized(b"", {}, samples)
    assert (
        str(caught.value) == "an int8 network needs two packages. Install them: pip install 'openvino>=2025.0' 'nncf>=2.14'"
    )
    with pytest.raises(MissingExtraError) as caught:
        quantized(b"", {}, samples, "nncf")
    assert (
        str(caught.value)
        == "an int8 network by NNCF needs two packages. Install them: pip install 'openvino>=2025.0' 'nncf>=2.14'"
    )


def test_the_comparison_is_plain_data() -> None:
    found = Int8("openvino", 300, 500, 0.8, 0.76, 0.83, 0.804, 0.004, -0.004, 0.012, 0.01)
    assert Int8(**found.to_json()) == found


@pytest.mark.slow
def test_a_bundle_is_written_with_its_int8_network_or_not_at_all(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    calibration = tiny_bundles.samples(MIN_SAMPLES, 5)
    with pytest.raises(ParityError, match="the int8 network loses too much accuracy, so nothing was written"):
        export.make_bundle(tiny_bundles.source(calibration=calibration, max_loss=0.0), tmp_path / "refused")
    assert list(tmp_path.iterdir()) == []
    manifest, _ = export.make_bundle(tiny_bundles.source(calibration=calibration, max_loss=0.2), tmp_path / "made")
    assert ("openvino", "openvino/int8.xml", "int8") in [
        (each.format, each.path, each.precision) for each in manifest.graphs
    ]
    assert [each["engine"] for each in manifest.checks if each["precision"] == "int8"] == ["openvino"]
    assert Int8(**manifest.facts["int8"]).num_calibration == MIN_SAMPLES
    assert BundleFiles(tmp_path / "made").manifest.text() == manifest.text()


def test_a_run_with_few_training_samples_is_refused_before_the_export(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.load(run).export(tmp_path / "bundle", int8=True)
    assert str(caught.value).startswith(
        "the calibration of an int8 network needs at least 300 training samples, and there are "
    )
    assert list(tmp_path.iterdir()) == []
