"""Export to ONNX by ``torch.export``, with a batch of any size, and without anything that tells of the machine that exported."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from visus.errors import MissingExtraError, UsageError, install_command
from visus.ship.engines import CLASSES, INPUT, LOGITS
from visus.ship.graph import Deployed
from visus.ship.manifest import ANSWERS

OPSET: Final = 18
BATCH: Final = "batch"
"""The name of the axis of the samples."""
LAYER: Final = "visus.layer"
"""The metadata of a node that names the layer which it belongs to."""
_REQUIREMENTS: Final = ("onnx>=1.18", "onnxscript>=0.5")


@dataclass(frozen=True, eq=False)
class Exported:
    """A network as a program of ``torch.export`` and as ONNX.

    Args:
        program: the program.
        onnx: the ONNX file.
        values: layer -> name of its output in the ONNX graph, in the order of computing.
        joined: layer -> the layer before it that the graph computes together with it, such as a convolution and its batch norm.
    """

    program: torch.export.ExportedProgram
    onnx: bytes
    values: dict[str, str]
    joined: dict[str, str]


def export_onnx(
    deployed: Deployed, example: Tensor, classes: Sequence[str], answers: str, output: str = "probabilities"
) -> Exported:
    """Export a network to ONNX.

    Args:
        deployed: the network.
        example: stored samples (2, C, *): with one, the exporter would take the batch for a constant.
        classes: class names, stored in the graph.
        answers: ``manifest.answers_digest`` of the bundle, stored in the graph.
        output: name of the graph's output beside the logits.

    Raises:
        MissingExtraError: ``onnx`` or ``onnxscript`` is not installed.
        UsageError: the network cannot be exported; the message says why.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            f"an export to ONNX needs two packages. Install them: {install_command(*_REQUIREMENTS)}"
        ) from None
    with _quiet():
        try:
            _check_output(deployed, example)
            program = torch.export.export(
                deployed, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
            )
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT],
                output_names=[LOGITS, output],
                opset_version=OPSET,
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except UsageError:
            raise
        except Exception as error:  # the exporter raises whatever the network's own code does
            raise UsageError(f"this network cannot be exported: {_first_line(error)}. {_REMEDY}") from error
        assert made is not None, "a program was exported"
        stream = io.BytesIO()
        made.save(stream)  # type: ignore[arg-type]
    model = onnx.load_from_string(stream.getvalue())
    values, joined = _keep_layers_only(model.graph, output)
    del model.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "visus", "", ""
    model.metadata_props.add(key=CLASSES, value=json.dumps(list(classes), ensure_ascii=False))
    model.metadata_props.add(key=ANSWERS, value=answers)
    return Exported(program, model.SerializeToString(deterministic=True), values, joined)


def _check_output(deployed: Deployed, example: Tensor) -> None:
    """Refuse a network whose output is something other than logits.

    Raises:
        UsageError: it is.
    """
    with torch.no_grad():
        output = deployed.network(deployed.normalization(example))
    if not isinstance(output, Tensor):
        raise UsageError(
            f"this network cannot be exported: its forward returns a {type(output).__name__}, and one tensor of logits (samples, classes) is needed."
        )


_REMEDY = (
    "A network is exported if its forward depends on the shapes of tensors and not on their values: replace Python's if and for over values "
    "by operations of PyTorch."
)


def _keep_layers_only(graph: Any, output: str) -> tuple[dict[str, str], dict[str, str]]:
    """Replace the exporter's notes, which hold source lines and paths, by the layer of each node; ``values`` and ``joined`` of ``Exported``."""
    values: dict[str, str] = {}
    joined: dict[str, str] = {}
    weights = {each.name for each in graph.initializer}
    for node in graph.node:
        notes = {each.key: each.value for each in node.metadata_props}
        del node.metadata_props[:]
        node.doc_string = ""
        layer = _layer(notes.get("namespace", ""))
        if layer:
            node.metadata_props.add(key=LAYER, value=layer)
            if node.output[0] != output:
                values[layer] = node.output[0]
            owner = next((name.rpartition(".")[0] for name in node.input[1:2] if name in weights and "." in name), layer)
            if owner != layer:
                joined[layer] = owner
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param  # such as s98, made up by torch.export
    for each in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del each.metadata_props[:]
        each.doc_string = ""
        axes = each.type.tensor_type.shape.dim if hasattr(each, "type") else ()
        for axis in axes:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", BATCH, axis.dim_param)
    del graph.metadata_props[:]
    graph.doc_string = ""
    return values, joined


def _layer(namespace: str) -> str:
    """The path of the innermost module in the exporter's namespace of a node, such as ``network.conv1``; empty for the root.

    >>> _layer(": visus.ship.graph.Deployed/network: Sequential/network.norm1: BatchNorm2d/relu: aten.relu.default")
    'network.norm1'
    """
    paths = [part.partition(":")[0].strip() for part in namespace.split("/")[1:-1]]
    return paths[-1] if paths else ""


def _first_line(error: BaseException) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return f"{type(cause).__name__}: {lines[0].rstrip('.')}" if lines else type(cause).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """A block without the exporter's warnings, log lines and listings of the graph; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
