"""Making a bundle of a trained network: its graphs, its proof, and the gate that it must pass before it is written.

Shape letters: N samples, C channels, K classes, * the spatial axes.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from visus import __version__
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import (
    BundleError,
    MissingExtraError,
    ParityError,
    StorageError,
    UsageError,
    install_command,
    printable,
    unknown_name,
)
from visus.evaluation.calibration import Calibrator
from visus.evaluation.cluster_bootstrap import count_groups, group_numbers
from visus.evaluation.predictions import evaluation_mode, predict_logits
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.evaluation.tasks.prediction_intervals import Numbers
from visus.progress import SILENT, Monitor
from visus.ship.answers import shuffled
from visus.ship.engines import ENGINES, open_engine
from visus.ship.files import BundleFiles, foreign_file, write_bundle
from visus.ship.golden_files import GoldenFile
from visus.ship.graph import Deployed
from visus.ship.manifest import ANSWERS, TOLERANCES, FileFacts, Graph, Manifest, answers_digest, digest
from visus.ship.onnx_files import Exported, export_onnx
from visus.ship.other_process import check_in_other_process
from visus.ship.parity import Check, compare_engine, read_golden
from visus.ship.proof import Golden, Proof, read_proof, traced_places, traced_values
from visus.ship.quantize import INT8, MAX_LOSS, check_judgement, judged, quantized
from visus.ship.tasks.registry import SINGLE_LABEL
from visus.ship.tasks.task import BundleTask

FORMATS: Final = ("onnx", "openvino", "torch")
"""What can be exported beside the weights and the design, which are always there."""
_BATCH: Final = 64


@dataclass(frozen=True, eq=False)
class Exportable:
    """What a bundle is made of.

    Args:
        name: name of the run.
        network: the trained network, in float32 on the CPU.
        preprocessing: of its samples.
        classes: class names in the order of the outputs; of regression, the targets.
        calibrator: turns logits into the answers of the run.
        tta: test-time augmentation of the run.
        golden: golden files.
        samples: held-out samples as stored, (N, C, *).
        labels: their labels, as in ``visus.data.tasks``.
        texts: further files of the bundle, such as the ledger.
        documents: makes the files that tell of the bundle itself, such as the model card, from its manifest with the checks.
        facts: measurements for the manifest.
        license: the license of the network; empty if its owner stated none.
        calibration: training samples as stored, (N, C, *), for an int8 network; None for no int8 network.
        max_loss: largest loss of the int8 network by the metric of the task, from 0 to 1.
        task: what the outputs mean.
        groups: the group of each held-out sample; None without groups.
    """

    name: str
    network: nn.Module
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    calibrator: Calibrator | Sigmoid | Numbers
    tta: str
    golden: Sequence[GoldenFile]
    samples: Pixels
    labels: np.ndarray[Any, Any]
    texts: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    license: str = ""
    documents: Callable[[Manifest], Mapping[str, str]] | None = None
    calibration: Pixels | None = None
    max_loss: float = MAX_LOSS
    task: BundleTask = SINGLE_LABEL
    groups: Sequence[str] | None = None

    @property
    def temperature(self) -> float:
        """The divisor of the logits; 1 for regression."""
        return 1.0 if isinstance(self.calibrator, Numbers) else self.calibrator.temperature

    @property
    def smoothing(self) -> float:
        """The label smoothing that is inverted; 0 for all tasks but single labels."""
        return self.calibrator.smoothing if isinstance(self.calibrator, Calibrator) else 0.0

    def answers(self, logits: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The answers of the run (N, K) in float64, by its own calibrator."""
        exact = self.calibrator if isinstance(self.calibrator, Numbers) else self.calibrator.exact
        return np.asarray(exact(logits).numpy())


def make_bundle(
    source: Exportable, path: Path, formats: Sequence[str] = FORMATS, *, force: bool = False, monitor: Monitor = SILENT
) -> tuple[Manifest, str]:
    """Export a network, check it in a process without PyTorch, and write it only if it answers as the run does.

    Args:
        source: the network and its proof.
        path: a folder that does not exist yet, or a file that ends with ``.zip``.
        formats: one or several of ``FORMATS``; ``onnx`` is always there, since the gate needs it.
        force: replace a bundle that is there.
        monitor: follows the work.

    Returns:
        The manifest, and its SHA-256.

    Raises:
        UsageError: a format is unknown, something is at ``path``, the network cannot be exported, or the held-out samples are too few.
        MissingExtraError: a package for the export is missing.
        ParityError: an engine answers differently, or a part does not fit; nothing is written.
    """
    check_target(path, force=force)
    formats = (formats,) if isinstance(formats, str) else formats
    for each in formats:
        if each not in FORMATS:
            raise UsageError(unknown_name("format", each, FORMATS))
    labels = np.asarray(source.labels, dtype=source.task.label_kind)
    if problem := source.task.labels_problem(labels, len(source.classes)):
        raise UsageError(f"the export cannot be checked: {problem}. Compare more held-out samples, or hold out more data.")
    if source.calibration is not None:
        check_judgement(len(source.samples), source.max_loss)
    monitor.step("exporting", 0, 3)
    calibration = source.temperature, source.smoothing
    network = Deployed(source.network, source.preprocessing, *calibration, source.task)
    example = torch.from_numpy(np.ascontiguousarray(source.samples[:1])).repeat(
        2, *([1] * len(source.preprocessing.input_shape))
    )
    answers = answers_digest(source.preprocessing, *calibration, source.tta, source.task)
    exported = export_onnx(network, example, source.classes, answers, source.task.output)
    proof = make_proof(source, network, exported)
    contents = {f"golden/{each.name}": each.content for each in source.golden}
    contents |= {name: text.encode() for name, text in source.texts.items()}
    contents |= proof.contents(source.task)
    graphs = list(_write_graphs(source, exported, formats, contents, answers))
    if source.calibration is not None:
        monitor.step("quantizing", 0, 3)
        graph, made = quantized(exported.onnx, contents, shuffled(source.calibration, source.preprocessing))
        contents |= made
        graphs.append(graph)
    manifest = Manifest(
        name=source.name,
        visus=__version__,
        classes=source.classes,
        preprocessing=source.preprocessing,
        temperature=source.temperature,
        smoothing=source.smoothing,
        tta=source.tta,
        graphs=tuple(graphs),
        files=_facts_of(contents),
        license=source.license,
        facts=source.facts,
        tolerances=TOLERANCES,
        task=source.task,
    )
    monitor.step("checking", 1, 3)
    with tempfile.TemporaryDirectory(prefix="visus-export-", dir=_existing_parent(path)) as folder:
        trial = Path(folder, "bundle")
        write_bundle(trial, manifest, contents)
        try:
            checks = check_in_other_process(trial) + _check_in_pytorch(BundleFiles(trial), source.network)
            if source.calibration is not None:
                checks += check_in_other_process(trial, precision="int8")
                judgement = judged(BundleFiles(trial), len(source.calibration), source.max_loss)
                manifest = replace(manifest, facts={**manifest.facts, INT8: judgement.to_json()})
        except BundleError as error:
            raise ParityError(
                f"the exported network is refused, and nothing was written: {error.message}", where=error.where
            ) from None
    manifest = replace(manifest, checks=tuple(vars(each) for each in checks))
    if source.documents is not None:
        contents |= {name: text.encode() for name, text in source.documents(manifest).items()}
        manifest = replace(manifest, files=_facts_of(contents))
    monitor.step("writing", 2, 3)
    return manifest, _write(path, manifest, contents)


def _check_in_pytorch(files: BundleFiles, network: nn.Module) -> tuple[Check, ...]:
    """Compare what only PyTorch reads: the weights with those of the network, and the program of ``torch.export`` with the run.

    Raises:
        ParityError: something differs.
    """
    path = files.manifest.graph("safetensors").path
    weights, expected = safetensors.torch.load(files.read(path)), network.state_dict()
    for name in sorted(weights.keys() ^ expected.keys()):
        raise ParityError(
            "this tensor is in the network or in its file of weights, and not in both.", where=f"{path}: {name}"
        )
    for name, tensor in expected.items():
        if not torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(weights[name])):
            raise ParityError("the values in the file of weights are not those of the network.", where=f"{path}: {name}")
    if not any(each.format == "torch" for each in files.manifest.graphs):
        return ()
    engine = open_engine(files, "torch-program", num_threads=torch.get_num_threads())
    return (compare_engine(engine, files.manifest, read_proof(files)),)


def _facts_of(contents: Mapping[str, bytes]) -> dict[str, FileFacts]:
    return {name: FileFacts(digest(content), len(content)) for name, content in sorted(contents.items())}


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse a path where a bundle cannot be written.

    Raises:
        UsageError: its ending is that of another archive, something is there that is no bundle or may not be replaced, or a file in the bundle there is
            not of the bundle.
    """
    if (ending := path.suffix.lower()) in _OTHER_ARCHIVES:
        raise UsageError(
            f"a bundle is a folder or a zip file, and {ending} is the ending of another archive. End the name with .zip, or without an ending.",
            where=str(path),
        )
    if not os.path.lexists(path):
        return
    if not force:
        raise UsageError(
            "there is something at this path already. Choose another path, or replace it with --force.", where=str(path)
        )
    is_folder = path.is_dir() and not path.is_symlink()
    if is_folder and not any(path.iterdir()):
        return
    try:
        foreign = foreign_file(path)
    except BundleError:
        what = "this folder is no bundle" if is_folder else "this is no bundle"
        raise UsageError(f"{what}, so it is not replaced. Choose another path.", where=str(path)) from None
    if foreign is not None:
        raise UsageError(
            "this file is not of the bundle, and would be lost. Move it, or choose another path for the bundle.",
            where=f"{path}: {printable(foreign)}",
        )


_OTHER_ARCHIVES: Final = (".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")


def make_proof(source: Exportable, network: Deployed, exported: Exported) -> Proof:
    """The answers of the run for the golden files and the held-out samples, and the values of each layer."""
    golden, rows = [], []
    for each in source.golden:
        sample, decoded, actions = read_golden(each.content, each.name, source.preprocessing)
        golden.append((each, decoded, actions))
        rows.append(sample)
    samples = np.concatenate((np.stack(rows), source.samples)) if rows else source.samples
    scaled = [
        source.preprocessing.scaled(torch.from_numpy(samples[start : start + _BATCH]))
        for start in range(0, len(samples), _BATCH)
    ]
    logits = predict_logits(source.network, scaled, tta=source.tta)
    plain = predict_logits(source.network, scaled)
    answers = source.answers(logits)
    named = tuple(
        Golden(f"golden/{each.name}", each.kind, decoded, actions, source.task.label(answer, source.classes))
        for (each, decoded, actions), answer in zip(golden, answers, strict=False)
    )
    layers = _traced_layers(
        network, exported.values, torch.from_numpy(source.samples[traced_places(len(source.samples))]), source.preprocessing
    )
    return Proof(
        named,
        samples[: len(rows)],
        answers[: len(rows)],
        source.samples,
        np.asarray(source.labels, dtype=source.task.label_kind),
        None if count_groups(source.groups) is None else group_numbers(source.groups or ()),
        plain.numpy(),
        answers[len(rows) :],
        {_named(layer, exported.joined): exported.values[layer] for layer in layers},
        np.stack(list(layers.values()))
        if layers
        else np.empty((0, len(traced_places(len(source.samples))), 0), dtype=np.float32),
    )


def _named(layer: str, joined: Mapping[str, str]) -> str:
    return f"{joined[layer]} and {layer}" if layer in joined else layer


def _traced_layers(
    network: Deployed, values: Mapping[str, str], samples: Tensor, preprocessing: Preprocessing
) -> dict[str, np.ndarray[Any, Any]]:
    """Some output values of each layer that is called once and whose output is in the ONNX graph, for the first samples."""
    modules = dict(network.named_modules())
    found: dict[str, list[Tensor]] = {layer: [] for layer in values if layer in modules}
    hooks = [
        modules[layer].register_forward_hook(
            lambda _module, _inputs, output, layer=layer: found[layer].append(output) if isinstance(output, Tensor) else None
        )
        for layer in found
    ]
    try:
        with torch.no_grad(), evaluation_mode(network):
            network(preprocessing.shuffled(samples))
    finally:
        for hook in hooks:
            hook.remove()
    return {
        layer: traced_values(outputs[0].float().numpy())
        for layer, outputs in found.items()
        if len(outputs) == 1 and outputs[0].shape[0] == len(samples)
    }


def _write_graphs(
    source: Exportable, exported: Exported, formats: Sequence[str], contents: dict[str, bytes], answers: str
) -> Iterator[Graph]:
    """Add the files of the network to ``contents``, each with the digest ``answers`` in it; yields each form."""
    writers: dict[str, Callable[[], dict[str, bytes]]] = {
        "onnx": lambda: {"network.onnx": exported.onnx},
        "openvino": lambda: openvino_files(exported.onnx),
        "torch": lambda: {"network.pt2": _program(exported, answers)},
    }
    for format in dict.fromkeys(("onnx", *formats)):
        made = writers[format]()
        contents |= made
        yield Graph(format, next(iter(made)))
    tensors = {name: tensor.detach().contiguous() for name, tensor in source.network.state_dict().items()}
    contents["weights.safetensors"] = safetensors.torch.save(_unshared(tensors), {ANSWERS: answers})
    yield Graph("safetensors", "weights.safetensors")


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with memory of its own: layers may share weights, and safetensors refuses that."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def _program(exported: Exported, answers: str) -> bytes:
    """A program of ``torch.export`` as a file, without lines and paths of source code, and without the example of a sample."""
    program = exported.program
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    program._example_inputs = None
    stream = io.BytesIO()
    torch.export.save(program, stream, extra_files={ANSWERS: answers})
    return stream.getvalue()


def openvino_files(onnx: bytes) -> dict[str, bytes]:
    """OpenVINO's form of an ONNX graph, with its weights in float32.

    Raises:
        MissingExtraError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError:
        requirement = next(each.requirement for each in ENGINES if each.name == "openvino")
        raise MissingExtraError(
            f"an export to OpenVINO needs a package. Install it: {install_command(requirement)}"
        ) from None
    model = openvino.Core().read_model(onnx)
    for number, operation in enumerate(model.get_ordered_ops()):
        if _COUNTED.fullmatch(operation.get_friendly_name()):  # OpenVINO counts them over the whole process
            operation.set_friendly_name(f"{operation.get_type_name()}_{number}")
    with tempfile.TemporaryDirectory(prefix="visus-openvino-") as folder:
        target = Path(folder, "network.xml")
        openvino.serialize(model, str(target), str(target.with_suffix(".bin")))
        return {f"openvino/{name}": Path(folder, name).read_bytes() for name in ("network.xml", "network.bin")}


_COUNTED: Final = re.compile(r"[A-Z][A-Za-z0-9]*_\d+")


def _write(path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> str:
    """Write a bundle beside its place, then move it there."""
    if path.suffix.lower() == ".zip":
        return write_bundle(path, manifest, contents)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=_existing_parent(path)) as folder:
            trial = Path(folder, "bundle")
            identity = write_bundle(trial, manifest, contents)
            BundleFiles(trial).check()
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                shutil.move(str(path), str(Path(folder, "replaced")))
            os.replace(trial, path)
            return identity
    except OSError as error:
        raise StorageError(
            f"the bundle cannot be written ({error.strerror or error}). Free some space, or choose another path.",
            where=str(path),
        ) from None


def _existing_parent(path: Path) -> Path:
    """The nearest folder above a path that exists, so that a move is on one disk."""
    parent = path.absolute().parent
    while not parent.is_dir():
        parent = parent.parent
    return parent
