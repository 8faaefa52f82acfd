"""Where a difference begins: the first layer whose values differ from those of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from visus.data.preprocessing import Preprocessing
from visus.ship.answers import MAX_BATCH, shuffled
from visus.ship.engines import INPUT, LOGITS, onnx_session
from visus.ship.proof import Proof, traced_values

RELATIVE: Final = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.2, "int8": 0.5}
"""Largest difference of a value, relative to the root mean square of its layer, that is taken for rounding."""


def first_difference(
    graph: bytes, proof: Proof, preprocessing: Preprocessing, *, optimize: bool = False, precision: str = "float32"
) -> str:
    """The first layer of an ONNX graph whose values differ from the run's; empty if none does.

    Args:
        graph: the ONNX file.
        proof: has the run's values.
        preprocessing: of the samples.
        optimize: whether ONNX Runtime may optimize what is left to optimize.
        precision: of the graph.
    """
    layers = list(proof.layers)
    names = [proof.layers[layer] for layer in layers]
    session = onnx_session(with_outputs(graph, [name for name in names if name != LOGITS]), 1, optimize=optimize)
    found = session.run(names, {INPUT: shuffled(proof.traced_samples(), preprocessing)})
    for layer, value, expected in zip(layers, found, proof.layer_values, strict=True):
        actual = traced_values(value)
        scale = float(np.sqrt(np.nanmean(np.square(expected.astype(np.float64))))) or 1.0
        both = ~np.isnan(expected)
        if np.isnan(actual[both]).any() or np.abs(actual - expected)[both].max(initial=0) > RELATIVE[precision] * scale:
            return layer
    return ""


def logits_differ(graph: bytes, proof: Proof, preprocessing: Preprocessing, precision: str = "float32") -> bool:
    """Whether the logits of an ONNX graph, which ONNX Runtime does not optimize, differ from the run's for any sample."""
    session = onnx_session(graph, 1, optimize=False)
    samples = shuffled(proof.all_samples(), preprocessing)
    parts = [samples[start : start + MAX_BATCH] for start in range(0, len(samples), MAX_BATCH)]
    found = np.concatenate([session.run([LOGITS], {INPUT: part})[0] for part in parts])
    scale = float(np.sqrt(np.mean(np.square(proof.plain_logits.astype(np.float64))))) or 1.0
    return not np.abs(found - proof.plain_logits).max() <= RELATIVE[precision] * scale


def with_outputs(graph: bytes, names: Sequence[str]) -> bytes:
    """An ONNX file with inner values as further outputs.

    A message of Protocol Buffers may be continued: of fields that repeat, such as the outputs of a graph, those that come later are appended. So no
    package is needed that knows the format.

    >>> with_outputs(b"", ["a"]).hex()
    '3a0562030a0161'
    """
    outputs = b"".join(_field(12, _field(1, name.encode())) for name in names)  # GraphProto.output, ValueInfoProto.name
    return graph + _field(7, outputs)  # ModelProto.graph


def _field(number: int, content: bytes) -> bytes:
    """A field of length-delimited content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
