"""The engines of a bundle: each answers as the run did, in the precision that was asked for, and is opened only where it may be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.ship import tiny_bundles

from visus.errors import BundleError, MissingExtraError, ParityError, UsageError
from visus.ship.engine_times import score
from visus.ship.engines import ENGINES, EngineKind, check_against, check_precision, open_engine, precisions_of
from visus.ship.files import BundleFiles, write_bundle
from visus.ship.manifest import Graph
from visus.ship.proof import read_proof

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

KINDS = {each.name: each for each in ENGINES}


@pytest.fixture(scope="module")
def files() -> Any:
    return tiny_bundles.opened()


@pytest.fixture(autouse=True)
def _same_threads() -> Any:
    """Engines of PyTorch set its number of threads for the whole process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch", "torch-channels-last", "torch-program"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_engine_answers_as_the_run_in_float32(files: Any, name: str, threads: int) -> None:
    engine = open_engine(files, name, "float32", threads)
    assert (engine.name, engine.precision, engine.num_threads) == (name, "float32", threads)
    found = score(engine, files.manifest, read_proof(files), (7, 64) if threads == 1 else (64,))
    assert found.refusal == ""
    assert (found.check.agreement, found.check.score) == (1.0, 1.0)
    assert found.check.max_difference < 1e-5


def test_openvino_computes_in_float32_where_it_is_asked_to(files: Any) -> None:
    engine: Any = open_engine(files, "openvino", "float32", 1)
    assert precisions_of(engine._compiled) == {"f32"}


def test_every_engine_refuses_a_forged_temperature_when_it_is_opened(files: Any, tmp_path: Path) -> None:
    contents = {name: files.read(name) for name in files.manifest.files}
    write_bundle(tmp_path / "forged", replace(files.manifest, temperature=1.7), contents)
    for name in ("onnxruntime", "openvino", "torch", "torch-channels-last", "torch-program"):
        with pytest.raises(
            BundleError, match="the task, preprocessing, temperature, smoothing or tta of the manifest was changed"
        ):
            open_engine(BundleFiles(tmp_path / "forged"), name, "float32", 1)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_is_real_and_within_its_tolerance_or_refused(files: Any, precision: str) -> None:
    engine, refusal = _opened_or_refused(files, precision)
    if engine is None:
        assert refusal == f"OpenVINO computes in f32 on this processor, and not in {precision}. Use another precision."
        return
    assert {"bfloat16": "bf16", "float16": "f16"}[precision] in precisions_of(engine._compiled)
    found = score(engine, files.manifest, read_proof(files))
    assert found.refusal == ""
    assert found.check.tolerance == 1e-2
    assert 0 < found.check.max_difference <= 1e-2


def _opened_or_refused(files: Any, precision: str) -> tuple[Any, str]:
    try:
        return open_engine(files, "openvino", precision, 1), ""
    except UsageError as error:
        return None, str(error)


class _Planned:
    """A compiled network of OpenVINO whose plan computes convolutions in some precisions."""

    def __init__(self, *precisions: str) -> None:
        self._precisions = precisions

    def get_runtime_model(self) -> Any:
        def operation(kind: str, precision: str) -> Any:
            notes = {"layerType": kind, "runtimePrecision": precision}
            return SimpleNamespace(
                get_rt_info=lambda: {key: SimpleNamespace(astype=lambda _, v=v: v) for key, v in notes.items()}
            )

        listed = [operation("Convolution", each) for each in self._precisions] + [operation("Softmax", "f32")]
        return SimpleNamespace(get_ordered_ops=lambda: listed)


def test_another_precision_than_the_one_asked_for_is_refused() -> None:
    check_precision(_Planned("f32", "f32"), "float32")
    check_precision(_Planned("bf16", "f32"), "bfloat16")
    check_precision(_Planned("u8"), "int8")
    check_precision(_Planned(), "float32")
    for planned, asked, said in [
        (_Planned("f32", "bf16"), "float32", "bf16, f32"),
        (_Planned("f16"), "float32", "f16"),
        (_Planned("f32"), "bfloat16", "f32"),
        (_Planned("f32"), "int8", "f32"),
    ]:
        with pytest.raises(UsageError) as caught:
            check_precision(planned, asked)
        assert (
            str(caught.value) == f"OpenVINO computes in {said} on this processor, and not in {asked}. Use another precision."
        )


def test_the_weights_of_openvino_are_stored_in_float32(files: Any) -> None:
    text = files.read("openvino/network.xml").decode()
    kinds = set(re.findall(r'element_type="(\w+)"', text))
    assert "f32" in kinds
    assert not kinds & {"f16", "bf16"}
    num_weights = sum(each.size for each in _weights(files))
    assert len(files.read("openvino/network.bin")) >= 4 * num_weights


def _weights(files: Any) -> list[np.ndarray[Any, Any]]:
    import safetensors.numpy

    tensors = safetensors.numpy.load(files.read("weights.safetensors"))
    return [value for name, value in tensors.items() if "conv" in name or "linear" in name]


def test_a_network_of_the_authors_own_code_is_never_built_from_a_bundle(tmp_path: Path) -> None:
    for text in (None, b"os:getcwd\n", b"object: own.module\n"):
        target = tmp_path / str(text)[:4].strip("b'")
        files = tiny_bundles.changed(target, {} if text is None else {"design.txt": text}, without=("design.txt",))
        with pytest.raises(UsageError) as caught:
            open_engine(files, "torch")
        assert str(caught.value) == (
            f"{target}: the network of this bundle is a module of its author's own, which PyTorch cannot build from a design. Use engine onnxruntime "
            "or openvino; or torch-program, if you trust the bundle."
        )


def test_without_a_name_the_first_engine_without_torch_is_opened(files: Any) -> None:
    assert open_engine(files, num_threads=1).name == "onnxruntime"
    try:
        found = open_engine(files, precision="bfloat16", num_threads=1).name
    except UsageError as error:  # on a processor on which OpenVINO computes in float32 whatever is asked
        found = str(error)
    assert found in ("openvino", "OpenVINO computes in f32 on this processor, and not in bfloat16. Use another precision.")


def test_int8_needs_a_network_of_its_own(files: Any) -> None:
    assert not KINDS["openvino"].is_held(files.manifest, "int8")
    with pytest.raises(BundleError) as caught:
        open_engine(files, precision="int8")
    assert str(caught.value) == (
        "this bundle has no network in onnx (int8). It has onnx (float32), openvino (float32), torch (float32), safetensors (float32). Export the run "
        "again with --int8."
    )


def test_an_engine_without_its_package_is_answered_with_the_command(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visus.ship.engines.ENGINES", (EngineKind("fast", "no_such_package", "fast>=1", ("float32",), KINDS["torch"].open),)
    )
    with pytest.raises(MissingExtraError) as caught:
        open_engine(files, "fast")
    assert str(caught.value) == "fast is not installed. Install it: pip install 'fast>=1'"


def test_a_machine_without_an_engine_is_answered_with_one_to_install(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EngineKind, "is_installed", property(lambda kind: kind.needs_torch))
    with pytest.raises(MissingExtraError) as caught:
        open_engine(files)
    assert str(caught.value) == (
        "no engine is installed that can compute this bundle. Install one: pip install 'onnxruntime>=1.20'"
    )


# ---- CUDA ----


class _Fixed:
    """An engine with fixed answers."""

    precision, num_threads, version = "float32", 1, "1"

    def __init__(self, name: str, probability: float) -> None:
        self.name, self._probability = name, probability

    def run(self, samples: Any) -> Any:
        answers = np.full((len(samples), 2), self._probability, dtype=np.float32)
        return answers, answers

    def logits(self, samples: Any) -> Any:
        return self.run(samples)[0]


def test_cuda_is_used_only_if_it_answers_as_the_cpu(files: Any) -> None:
    right = _Fixed("onnxruntime", 0.5)
    check_against(_Fixed("onnxruntime-cuda", 0.50001), right, files.manifest, (2, 3, 8, 8))
    for wrong in (0.6, float("nan")):
        with pytest.raises(ParityError) as caught:
            check_against(_Fixed("onnxruntime-cuda", wrong), right, files.manifest, (2, 3, 8, 8))
        size = f"{abs(np.float32(wrong) - np.float32(0.5)):.1e}"
        assert str(caught.value) == (
            f"onnxruntime-cuda and onnxruntime answer differently here: a probability differs by {size}, and at most 1e-04 is accepted. "
            "Use engine onnxruntime."
        )


def test_a_cuda_provider_that_falls_back_to_the_cpu_is_refused(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visus.ship.engines.onnx_session", lambda *_, **__: SimpleNamespace(get_providers=lambda: ["CPUExecutionProvider"])
    )
    with pytest.raises(UsageError) as caught:
        KINDS["onnxruntime-cuda"].open(files, "float32", 1, True)
    assert str(caught.value) == "ONNX Runtime fell back to the CPU: its CUDA provider did not start. Use engine onnxruntime."


def test_an_unknown_precision_is_named_with_those_of_every_installed_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    files = SimpleNamespace(manifest=SimpleNamespace(graphs=[Graph("onnx", "network.onnx")]))

    def refusal(precision: str, installed: set[str]) -> str:
        monkeypatch.setattr(EngineKind, "is_installed", property(lambda kind: kind.name in installed))
        with pytest.raises(UsageError) as caught:
            open_engine(files, precision=precision)  # type: ignore[arg-type]
        return str(caught.value)

    both = {"onnxruntime", "openvino", "torch"}
    assert refusal("fp16", both) == "unknown precision 'fp16'. Known: bfloat16, float16, float32, int8."
    assert refusal("fp16", {"onnxruntime"}) == "unknown precision 'fp16'. Known: float32, int8."
    assert refusal("float16", both) == (
        "float16 is computed by openvino, and this bundle has no network for it. Export the run again with --format openvino."
    )
