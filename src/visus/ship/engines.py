"""The engines that compute a bundle, with their number of threads and their precision always stated. Only those of PyTorch import it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from visus.data.preprocessing import Pixels
from visus.errors import BundleError, MissingExtraError, ParityError, UsageError, VisusError, install_command, unknown_name
from visus.limits import usable_cores
from visus.ship.answers import Logits
from visus.ship.files import BundleFiles
from visus.ship.manifest import ANSWERS, TOLERANCES, Manifest

INPUT: Final = "samples"
LOGITS: Final = "logits"
"""The first output of every graph; the second is the ``output`` of its task, such as ``probabilities``."""
FASTEST: Final = "fastest"
"""The name of the engine that was measured to be the fastest on this machine."""
CLASSES: Final = "visus.classes"
"""The field of a graph's metadata that lists its classes."""
_DTYPE_OF: Final = {"tensor(float)": "float32", "tensor(double)": "float64"}
"""Types whose names differ between ONNX Runtime and NumPy."""


class OpenEngine(Protocol):
    """An engine with a network: computes logits, and the answers of its task, for stored samples."""

    name: str
    precision: str
    num_threads: int
    version: str

    def run(self, samples: Pixels) -> tuple[Logits, npt.NDArray[Any]]:
        """Logits and answers (N, classes) for stored samples (N, C, *): probabilities, or the numbers of regression."""

    def logits(self, samples: Pixels) -> Logits:
        """The logits alone."""


@dataclass(frozen=True)
class EngineKind:
    """One engine.

    Args:
        name: its name in options and results.
        package: the Python package.
        requirement: what to install.
        precisions: the precisions that it can be asked for.
        open: opens a network: files, precision, number of threads, whether the engine may optimize the graph.
        format: the format of the network that it reads.
        is_present: whether the machine has what it needs beside its package.
        compiles: whether it compiles for a minute or more when it first computes.
        runs_code: whether its file may hold code that runs when it is loaded, so that it is opened only on request.
    """

    name: str
    package: str
    requirement: str
    precisions: tuple[str, ...]
    open: Callable[[BundleFiles, str, int, bool], OpenEngine]
    format: str = "onnx"
    is_present: Callable[[], bool] = lambda: True
    compiles: bool = False
    runs_code: bool = False

    @property
    def is_installed(self) -> bool:
        """Whether the package is there, and what it needs."""
        return importlib.util.find_spec(self.package) is not None and self.is_present()

    @property
    def needs_torch(self) -> bool:
        """Whether it is PyTorch that computes."""
        return self.package == "torch"

    def is_held(self, manifest: Manifest, precision: str) -> bool:
        """Whether a bundle has the network that it reads for a precision: int8 has one of its own."""
        held = (self.format, "int8" if precision == "int8" else "float32")
        return precision in self.precisions and any((each.format, each.precision) == held for each in manifest.graphs)


class _OnnxRuntime:
    """ONNX Runtime on the CPU. It computes in the precision of the graph, and so in the one that was asked for."""

    name = "onnxruntime"

    def __init__(self, files: BundleFiles, precision: str, num_threads: int, optimize: bool) -> None:
        self.precision, self.num_threads = precision, num_threads
        graph = files.manifest.graph("onnx", precision)
        self._session = onnx_session(files.read(graph.path), num_threads, optimize=optimize)
        notes = self._session.get_modelmeta().custom_metadata_map
        _compare_notes(notes.get(CLASSES), notes.get(ANSWERS), files)
        (read,) = (each for each in self._session.get_inputs() if each.name == INPUT)
        _compare_input(read.shape, _DTYPE_OF.get(read.type, read.type[len("tensor(") : -1]), files)
        self._outputs = [LOGITS, files.manifest.task.output]
        self.version = _version("onnxruntime")

    def run(self, samples: Pixels) -> tuple[Logits, npt.NDArray[Any]]:
        logits, answers = self._session.run(self._outputs, {INPUT: samples})
        return logits, answers

    def logits(self, samples: Pixels) -> Logits:
        (logits,) = self._session.run([LOGITS], {INPUT: samples})
        return np.asarray(logits)


def onnx_session(
    graph: bytes, num_threads: int, *, optimize: bool = True, providers: Sequence[Any] = ("CPUExecutionProvider",)
) -> Any:
    """A session of ONNX Runtime for a graph in memory, on the CPU unless other providers are named."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # builds for Windows have some
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = num_threads, 1
    options.log_severity_level = 3
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=list(providers))


class _OnnxRuntimeCuda(_OnnxRuntime):
    """ONNX Runtime on a CUDA device, in real float32 and not in TF32; it answers some samples as the CPU does before it is used."""

    name = "onnxruntime-cuda"

    def __init__(self, files: BundleFiles, precision: str, num_threads: int, optimize: bool) -> None:
        self.precision, self.num_threads = precision, num_threads
        graph = files.read(files.manifest.graph("onnx", precision).path)
        providers = [(CUDA, {"use_tf32": "0"}), "CPUExecutionProvider"]
        self._session = onnx_session(graph, num_threads, optimize=optimize, providers=providers)
        if CUDA not in self._session.get_providers():
            raise UsageError("ONNX Runtime fell back to the CPU: its CUDA provider did not start. Use engine onnxruntime.")
        self._outputs = [LOGITS, files.manifest.task.output]
        self.version = _version_of_onnxruntime()
        shape = (_NUM_CHECKED, *files.manifest.preprocessing.input_shape)
        check_against(self, _OnnxRuntime(files, precision, num_threads, optimize), files.manifest, shape)


CUDA: Final = "CUDAExecutionProvider"
_NUM_CHECKED: Final = 8


def _version_of_onnxruntime() -> str:
    import onnxruntime  # its package with CUDA has another name

    return str(onnxruntime.__version__)


def has_cuda() -> bool:
    """Whether this ONNX Runtime was built with CUDA."""
    import onnxruntime

    return CUDA in onnxruntime.get_available_providers()


def check_against(engine: OpenEngine, reference: OpenEngine, manifest: Manifest, shape: tuple[int, ...]) -> None:
    """Compare an engine with another one on random samples of a shape (N, C, *).

    Raises:
        ParityError: an answer differs by more than the tolerance.
    """
    dtype = np.dtype(manifest.preprocessing.dtype)
    numbers = np.random.default_rng(0)
    samples = (
        numbers.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
        if dtype.kind in "iu"
        else numbers.standard_normal(shape).astype(dtype)
    )
    task = manifest.task
    found, expected = engine.run(samples)[1], reference.run(samples)[1]
    accepted = TOLERANCES.get(engine.precision, 1.0)
    worst = float(task.differences(found, expected).max())
    if not worst <= accepted:  # NaN too
        raise ParityError(
            f"{engine.name} and {reference.name} answer differently here: {task.noun} differs by {worst:.1e}{task.unit}, and at most "
            f"{accepted:.0e} is accepted. Use engine {reference.name}."
        )


class _OpenVino:
    """OpenVINO on the CPU, with the precision of its arithmetic set: by itself it takes bfloat16 wherever the processor has it."""

    name = "openvino"

    def __init__(self, files: BundleFiles, precision: str, num_threads: int, optimize: bool) -> None:
        import openvino  # never its converter: that one counts its users over the network

        held = "int8" if precision == "int8" else "float32"
        graph = files.manifest.graph("openvino", held)
        core = openvino.Core()
        hint = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}[precision]
        settings: Mapping[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": num_threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        model = core.read_model(files.read(graph.path), files.read(graph.path.removesuffix(".xml") + ".bin"))
        notes = {
            name: model.get_rt_info(["framework", name]).astype(str)
            for name in (CLASSES, ANSWERS)
            if model.has_rt_info(["framework", name])
        }
        _compare_notes(notes.get(CLASSES), notes.get(ANSWERS), files)
        read = model.input(INPUT)
        sizes = [each.get_length() if each.is_static else None for each in read.get_partial_shape()]
        _compare_input(sizes, read.get_element_type().to_dtype().name, files)
        self._compiled = core.compile_model(model, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._output = files.manifest.task.output
        check_precision(self._compiled, precision)
        self.precision, self.num_threads = precision, num_threads
        self.version = _version("openvino")

    def run(self, samples: Pixels) -> tuple[Logits, npt.NDArray[Any]]:
        found = self._request.infer({INPUT: samples}, share_inputs=True, share_outputs=False)
        return np.asarray(found[LOGITS], dtype=np.float32), np.asarray(found[self._output])

    def logits(self, samples: Pixels) -> Logits:
        return self.run(samples)[0]


def _compare_notes(classes: str | None, answers: str | None, files: BundleFiles) -> None:
    """Compare what a graph notes of its classes, preprocessing and calibration with the manifest.

    Raises:
        BundleError: they differ, or the graph has no such notes.
    """
    if classes is None or answers is None:
        raise BundleError(
            "the network of this bundle is damaged: it does not name its classes and its calibration. Export the run again.",
            where=str(files.path),
        )
    of = files.manifest.task.columns
    if json.loads(classes) != list(files.manifest.classes):
        raise BundleError(
            f"the list of {of} was changed: the network names other {of} than the manifest. Export the run again.",
            where=str(files.path),
        )
    files.check_answers(answers)


def _compare_input(shape: Sequence[Any], dtype: str, files: BundleFiles) -> None:
    """Compare the samples that a graph reads, (N, C, *), with those of the manifest.

    Raises:
        BundleError: their shape or type differs.
    """
    expected = files.manifest.preprocessing
    if tuple(shape[1:]) == expected.input_shape and np.dtype(dtype) == np.dtype(expected.dtype):
        return
    raise BundleError(
        f"the network reads {dtype} samples of {' x '.join(map(str, shape[1:]))}, and the manifest says {expected.dtype} samples of "
        f"{' x '.join(map(str, expected.input_shape))}. Export the run again.",
        where=str(files.path),
    )


_COMPUTED_IN: Final = {"float32": {"f32"}, "bfloat16": {"bf16"}, "float16": {"f16"}, "int8": {"i8", "u8"}}
_HEAVY: Final = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}
"""The operations of OpenVINO that hold almost all multiply-adds of a network."""


def check_precision(compiled: Any, precision: str) -> None:
    """Read from OpenVINO's own plan in which precision it computes convolutions and matrix products.

    Raises:
        UsageError: it is another one than was asked for.
    """
    found = precisions_of(compiled)
    wanted = _COMPUTED_IN[precision]
    if found and not (found <= wanted if precision == "float32" else found & wanted):
        raise UsageError(
            f"OpenVINO computes in {', '.join(sorted(found))} on this processor, and not in {precision}. Use another precision."
        )


def precisions_of(compiled: Any) -> set[str]:
    """The precisions in which a compiled network of OpenVINO computes its convolutions and matrix products, such as ``f32`` or ``bf16``."""
    notes = [operation.get_rt_info() for operation in compiled.get_runtime_model().get_ordered_ops()]
    return {str(each["runtimePrecision"].astype(str)) for each in notes if str(each["layerType"].astype(str)) in _HEAVY}


def _of_torch(kind: str) -> Callable[[BundleFiles, str, int, bool], OpenEngine]:
    def open(files: BundleFiles, precision: str, num_threads: int, optimize: bool) -> OpenEngine:
        from visus.ship.torch_engines import open_torch

        return open_torch(files, kind, precision, num_threads)

    return open


_TORCH: Final = "torch>=2.11,<2.14"

ENGINES: Final = (
    EngineKind("onnxruntime", "onnxruntime", "onnxruntime>=1.20", ("float32", "int8"), _OnnxRuntime),
    EngineKind(
        "openvino", "openvino", "openvino>=2025.0", ("float32", "bfloat16", "float16", "int8"), _OpenVino, "openvino"
    ),
    EngineKind(
        "onnxruntime-cuda", "onnxruntime", "onnxruntime-gpu>=1.20", ("float32",), _OnnxRuntimeCuda, is_present=has_cuda
    ),
    EngineKind("torch", "torch", _TORCH, ("float32",), _of_torch("torch"), "safetensors"),
    EngineKind(
        "torch-channels-last", "torch", _TORCH, ("float32", "bfloat16"), _of_torch("torch-channels-last"), "safetensors"
    ),
    EngineKind("torch-compiled", "torch", _TORCH, ("float32",), _of_torch("torch-compiled"), "safetensors", compiles=True),
    EngineKind("torch-program", "torch", _TORCH, ("float32",), _of_torch("torch-program"), "torch", runs_code=True),
)
"""Every engine, in the order of preference where nothing was measured. A further engine is one more entry."""


def open_engine(
    files: BundleFiles, name: str = "", precision: str = "float32", num_threads: int | None = None, *, optimize: bool = True
) -> OpenEngine:
    """Open the network of a bundle in an engine.

    Args:
        files: the bundle.
        name: the engine; default: the first that is installed and whose network the bundle holds.
        precision: the precision of the arithmetic.
        num_threads: threads of one prediction; default: one for each core.
        optimize: whether the engine may optimize the graph.

    Raises:
        UsageError: the engine or its precision is unknown, or the processor lacks the precision.
        MissingExtraError: the engine is not installed.
        BundleError: the bundle does not hold the network in the engine's format, or the engine cannot open it.
    """
    kinds = {each.name: each for each in ENGINES}
    if name and name not in kinds:
        raise UsageError(unknown_name("engine", name, kinds))
    kind = kinds[name] if name else _preferred(files.manifest, precision)
    if not kind.is_installed:
        raise MissingExtraError(f"{kind.name} is not installed. Install it: {install_command(kind.requirement)}")
    if precision not in kind.precisions:
        raise UsageError(_unknown_precision(kind if name else None, precision))
    try:
        return kind.open(files, precision, num_threads or usable_cores(), optimize)
    except VisusError:
        raise
    except Exception as error:  # an engine raises what its own language has
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BundleError(
            f"{kind.name} cannot open the network of this bundle: {said.rstrip('.')}. Export the run again.",
            where=str(files.path),
        ) from error


def _unknown_precision(kind: EngineKind | None, precision: str) -> str:
    """The message for a precision that an engine does not have, or that no installed engine has if none was named."""
    if kind is not None:
        return unknown_name(f"precision of {kind.name}", precision, kind.precisions)
    installed = [each for each in ENGINES if each.is_installed and not each.needs_torch]
    having = [each for each in installed if precision in each.precisions]
    if having:
        formats = " or ".join(dict.fromkeys(f"--format {each.format}" for each in having))
        return (
            f"{precision} is computed by {' or '.join(each.name for each in having)}, and this bundle has no network for it. "
            f"Export the run again with {formats}."
        )
    return unknown_name("precision", precision, {each for kind in installed for each in kind.precisions})


def _preferred(manifest: Manifest, precision: str) -> EngineKind:
    """The first engine without PyTorch that is installed and computes the bundle in a precision."""
    held = {each.format for each in manifest.graphs}
    able = [each for each in ENGINES if each.is_installed and each.format in held and not each.needs_torch]
    if not able:
        raise MissingExtraError(
            f"no engine is installed that can compute this bundle. Install one: {install_command(ENGINES[0].requirement)}"
        )
    suited = [each for each in able if each.is_held(manifest, precision)]
    return (suited or [each for each in able if precision in each.precisions] or able)[0]


def format_of(engine: str) -> str:
    """The format that an engine reads.

    Raises:
        UsageError: the engine is unknown.
    """
    formats = {each.name: each.format for each in ENGINES}
    if engine not in formats:
        raise UsageError(unknown_name("engine", engine, formats))
    return formats[engine]


def _version(package: str) -> str:
    return importlib.metadata.version(package)
