"""Int8 networks by post-training calibration: NNCF on OpenVINO's form, or the static quantizer of ONNX Runtime on the ONNX graph.

Both need training samples only to see the range of each activation; no weight is trained. What int8 costs is judged on held-out samples.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from visus.data.preprocessing import Pixels
from visus.errors import MissingExtraError, ParityError, UsageError, install_command, unknown_name
from visus.evaluation.cluster_bootstrap import count_groups, write_interval
from visus.ship.answers import Answerer
from visus.ship.engines import INPUT, open_engine
from visus.ship.files import BundleFiles
from visus.ship.manifest import Graph
from visus.ship.proof import read_proof
from visus.ship.tasks.registry import BUNDLE_TASKS

MIN_SAMPLES: Final = 300
"""Training samples that a calibration needs at least."""
MIN_JUDGED: Final = 100
"""Held-out samples that an int8 network is judged on at least: with fewer, a loss of a point cannot be seen."""
MAX_LOSS: Final = 0.01
INT8: Final = "int8"
"""Where the facts of the manifest have the comparison of the int8 network."""
METHODS: Final = ("nncf", "onnxruntime")
_REQUIREMENTS: Final = ("openvino>=2025.0", "nncf>=2.14")
_BATCH: Final = 10
_NETWORK: Final = "openvino/network.xml"
_MADE_UP: Final = re.compile(r"(.*)_\d+")


@dataclass(frozen=True)
class Int8:
    """The int8 network of a bundle beside the run, on the held-out samples of the bundle.

    The metric is that of the task: the accuracy, the mean average precision (both from 0 to 1), or the mean absolute error in standard deviations of the
    training labels.

    Attributes:
        engine: what computes it.
        num_calibration: training samples that its calibration saw.
        num_samples: held-out samples that were compared.
        score, score_low, score_high: its metric with the 95 % interval.
        run_score: the metric of the run.
        loss, loss_low, loss_high: by how much the metric is worse than that of the run, with the 95 % interval of the paired comparison.
        max_loss: the loss above which it is refused.
        task: what is predicted.
        num_groups: number of groups that the intervals are over; None for independent samples.
    """

    engine: str
    num_calibration: int
    num_samples: int
    score: float
    score_low: float | None
    score_high: float | None
    run_score: float
    loss: float
    loss_low: float | None
    loss_high: float | None
    max_loss: float
    task: str = "single-label"
    num_groups: int | None = None

    def sentence(self) -> str:
        """The comparison in one line.

        >>> Int8("openvino", 300, 500, 0.8, 0.76, 0.83, 0.804, 0.004, -0.004, 0.012, 0.01).sentence()
        'openvino, int8: accuracy 80.0 % (76.0 % to 83.0 %), the run 80.4 %; loss 0.4 points (-0.4 to 1.2), at most 1 is accepted'
        """
        kind = BUNDLE_TASKS[self.task]
        of_score = write_interval(self.score_low, self.score_high, kind.write, self.num_groups)
        of_loss = write_interval(self.loss_low, self.loss_high, kind.write_loss, self.num_groups)
        return (
            f"{self.engine}, int8: {kind.metric} {kind.write(self.score)} ({of_score}), the run {kind.write(self.run_score)}; "
            f"loss {kind.write_loss(self.loss)} {kind.loss_unit} ({of_loss}), at most {kind.loss_scale * self.max_loss:g} is accepted"
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data; it depends on the run alone, and not on the speed of a machine."""
        return asdict(self)


def check_number(num_samples: int) -> None:
    """Refuse a calibration on too few training samples.

    Raises:
        UsageError: there are fewer than ``MIN_SAMPLES``.
    """
    if num_samples < MIN_SAMPLES:
        raise UsageError(
            f"the calibration of an int8 network needs at least {MIN_SAMPLES} training samples, and there are {num_samples}. Train on more data, or "
            "export without int8."
        )


def check_judgement(num_samples: int, max_loss: float) -> None:
    """Refuse to judge an int8 network on too few held-out samples, or by a loss that is not from 0 to 1.

    Raises:
        UsageError: there are fewer than ``MIN_JUDGED``, or ``max_loss`` is not from 0 to 1.
    """
    if not 0 <= max_loss <= 1:
        raise UsageError(f"max_loss is {max_loss:g}, and a number from 0 to 1 is needed, such as 0.01.")
    if num_samples < MIN_JUDGED:
        raise UsageError(
            f"an int8 network is judged on at least {MIN_JUDGED} held-out samples, and there are {num_samples:,}. Use --samples {MIN_JUDGED} or more, "
            "hold out more data, or export without --int8."
        )


def quantized(
    onnx: bytes, openvino: Mapping[str, bytes], samples: Pixels, method: str = ""
) -> tuple[Graph, dict[str, bytes]]:
    """The int8 form of a network.

    Args:
        onnx: its ONNX file, in float32.
        openvino: files of the bundle by name, OpenVINO's among them if it has that form.
        samples: training samples as the graph reads them, (N, C, *), at least ``MIN_SAMPLES``.
        method: of ``METHODS``; default: ``nncf`` if it is installed and OpenVINO's form is there.

    Returns:
        Its entry of the manifest, and its files.

    Raises:
        UsageError: there are too few samples, or the method is unknown or does not fit.
        MissingExtraError: a package is missing.
    """
    check_number(len(samples))
    if method and method not in METHODS:
        raise UsageError(unknown_name("way to quantize", method, METHODS))
    if not method:
        method = "nncf" if _NETWORK in openvino and _is_installed("nncf") and _is_installed("openvino") else "onnxruntime"
    if method == "onnxruntime":
        if not _is_installed("onnxruntime"):
            raise MissingExtraError(f"an int8 network needs two packages. Install them: {install_command(*_REQUIREMENTS)}")
        return Graph("onnx", "network-int8.onnx", "int8"), {"network-int8.onnx": _by_onnxruntime(onnx, samples)}
    if not (_is_installed("nncf") and _is_installed("openvino")):
        raise MissingExtraError(
            f"an int8 network by NNCF needs two packages. Install them: {install_command(*_REQUIREMENTS)}"
        )
    if _NETWORK not in openvino:
        raise UsageError("NNCF quantizes OpenVINO's form of the network. Export it as well: --format openvino.")
    return Graph("openvino", "openvino/int8.xml", "int8"), _by_nncf(openvino, samples)


def judged(files: BundleFiles, num_calibration: int, max_loss: float = MAX_LOSS) -> Int8:
    """Compare the int8 network of a bundle with the run, on the held-out samples of the bundle.

    Args:
        files: the bundle.
        num_calibration: training samples that its calibration saw.
        max_loss: largest loss that is accepted, from 0 to 1; of regression, in standard deviations of the training labels.

    Raises:
        ParityError: the loss is larger.
        UsageError: there are fewer than ``MIN_JUDGED`` held-out samples, or ``max_loss`` is not from 0 to 1.
    """
    proof, manifest = read_proof(files), files.manifest
    check_judgement(len(proof.labels), max_loss)
    engine = open_engine(files, precision="int8")
    task, labels = manifest.task, proof.labels
    found = Answerer(engine, manifest)(proof.samples)
    score, loss = task.score([found], labels, proof.groups), task.loss(proof.answers, found, labels, proof.groups)
    result = Int8(
        engine.name,
        num_calibration,
        len(labels),
        *(score.value, score.low, score.high),
        task.score([proof.answers], labels).value,
        *(loss.value, loss.low, loss.high),
        max_loss,
        task.name,
        count_groups(proof.groups),
    )
    if not result.loss <= max_loss:
        what = "is too far from the labels" if task.name == "regression" else f"loses too much {task.metric}"
        raise ParityError(f"the int8 network {what}, so nothing was written. {result.sentence()}. {_REMEDY}")
    return result


_REMEDY: Final = "Accept a larger loss with --max-loss, or export without --int8"


def _by_nncf(openvino_files: Mapping[str, bytes], samples: Pixels) -> dict[str, bytes]:
    nncf = import_nncf()
    import openvino

    model = openvino.Core().read_model(openvino_files[_NETWORK], openvino_files["openvino/network.bin"])
    data = nncf.Dataset([samples[place : place + 1] for place in range(len(samples))])
    with _quiet():
        made = nncf.quantize(model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(samples))
        del made.rt_info["nncf"]  # the settings of the quantization, and nothing that an engine reads
    with tempfile.TemporaryDirectory(prefix="visus-int8-") as folder:
        _name_by_place(made)
        target = Path(folder, "int8.xml")
        openvino.serialize(made, str(target), str(target.with_suffix(".bin")))
        return {f"openvino/{name}": Path(folder, name).read_bytes() for name in ("int8.xml", "int8.bin")}


def _name_by_place(model: Any) -> None:
    """Rename the operations that the library named by a counter of the process, so that the same network gives the same bytes."""
    for place, operation in enumerate(model.get_ordered_ops()):
        match = _MADE_UP.fullmatch(operation.get_friendly_name())
        if match and match[1] == operation.get_type_name():
            operation.set_friendly_name(f"{match[1]}_at_{place}")


def import_nncf() -> Any:
    """NNCF, which counts its users over the network unless ``NNCF_CI`` is set when it is imported."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        with _quiet():
            import nncf

            nncf.set_log_level(logging.ERROR)
        return nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]


def _by_onnxruntime(graph: bytes, samples: Pixels) -> bytes:
    """Convolutions and matrix products between quantizers, with a scale for each channel of a weight.

    Weights have 7 bits: processors without VNNI add pairs of 8-bit products in 16 bits, which 8 bits overflow.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc,unused-ignore]
        def __init__(self) -> None:
            self._batches = iter([samples[start : start + _BATCH] for start in range(0, len(samples), _BATCH)])

        def get_next(self) -> Any:
            batch = next(self._batches, None)
            return None if batch is None else {INPUT: np.ascontiguousarray(batch)}

    with _quiet(), tempfile.TemporaryDirectory(prefix="visus-int8-") as folder:
        target = Path(folder, "network.onnx")
        quantize_static(
            onnx.load_from_string(graph),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm", "MatMul"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        made = onnx.load(str(target))
    made.producer_name, made.producer_version = "visus", ""
    return bytes(made.SerializeToString(deterministic=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block without the log lines, warnings and progress bars of a library; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
