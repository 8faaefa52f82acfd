"""PyTorch as an engine of bundles: as it is, with channels-last maps, compiled, or as the program of ``torch.export``.

The first three build the design of the bundle, which is parsed and never executed, and load its weights from safetensors. A program of ``torch.export`` is
another matter: PyTorch's own reader may execute what such a file holds, so visus opens one only on request.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import nn

from visus.data.preprocessing import Pixels
from visus.design import parse
from visus.errors import DesignError, UsageError
from visus.networks import build
from visus.networks.machine import autocast, memory_format
from visus.networks.weights import fit_weights
from visus.ship.answers import Logits
from visus.ship.files import BundleFiles
from visus.ship.graph import Deployed
from visus.ship.manifest import ANSWERS, DESIGN

_CPU: Final = torch.device("cpu")


class TorchEngine:
    """A module of PyTorch that maps stored samples to logits and answers, on the CPU.

    PyTorch has one number of threads for the whole process: each call sets it.

    Args:
        name: name of the engine.
        module: returns logits and answers, as ``Deployed``.
        precision: ``float32``, or ``bfloat16`` by PyTorch's autocast.
        num_threads: threads of one prediction.
        channels_last: whether maps are channels-last.
    """

    def __init__(self, name: str, module: Any, precision: str, num_threads: int, *, channels_last: bool = False) -> None:
        self.name, self.precision, self.num_threads = name, precision, num_threads
        self.version = importlib.metadata.version("torch")
        self._module, self._channels_last = module, channels_last

    def run(self, samples: Pixels) -> tuple[Logits, npt.NDArray[Any]]:
        """Logits and answers (N, classes) for stored samples (N, C, *)."""
        if torch.get_num_threads() != self.num_threads:
            torch.set_num_threads(self.num_threads)
        with torch.inference_mode(), autocast(_CPU, self.precision):
            batch = torch.from_numpy(np.ascontiguousarray(samples))
            if self._channels_last:
                batch = batch.contiguous(memory_format=memory_format(batch.ndim))
            logits, answers = self._module(batch)
        is_wide = answers.dtype == torch.float64
        return logits.float().numpy(), (answers if is_wide else answers.float()).numpy()

    def logits(self, samples: Pixels) -> Logits:
        """The logits alone."""
        return self.run(samples)[0]


def open_torch(files: BundleFiles, name: str, precision: str, num_threads: int) -> TorchEngine:
    """Open a bundle in PyTorch.

    Args:
        files: the bundle.
        name: ``torch``, ``torch-channels-last``, ``torch-compiled`` or ``torch-program``.
        precision: of the arithmetic.
        num_threads: threads of one prediction.

    Raises:
        UsageError: the network is a module of its author's own, of which the bundle has no design.
        BundleError: the bundle does not hold the network in this form.
    """
    if name == "torch-program":
        graph = files.manifest.graph("torch")
        notes = {ANSWERS: ""}
        program = torch.export.load(io.BytesIO(files.read(graph.path)), extra_files=notes)
        files.check_answers(notes[ANSWERS])
        return TorchEngine(name, program.module(), precision, num_threads)
    module: Any = _deployed(files)
    if name == "torch-compiled":
        module = torch.compile(module)
    channels_last = name == "torch-channels-last"
    if channels_last:
        module = module.to(memory_format=memory_format(len(files.manifest.preprocessing.size) + 2))
    return TorchEngine(name, module, precision, num_threads, channels_last=channels_last)


def network_of(files: BundleFiles) -> nn.Module:
    """The network of a bundle, built from its design and its weights. It takes normalized samples, and returns logits.

    Raises:
        BundleError: the manifest states another preprocessing or calibration than the weights.
        UsageError: the network is a module of its author's own, of which the bundle has no design.
    """
    manifest = files.manifest
    weights = files.read(manifest.graph("safetensors").path)
    files.check_answers(_noted(weights))
    text = files.read(DESIGN) if DESIGN in manifest.files else b""
    try:
        design = parse(text.decode().strip())
        network = build(design, manifest.preprocessing.input_shape, len(manifest.classes))
    except (DesignError, UnicodeDecodeError):
        raise UsageError(
            "the network of this bundle is a module of its author's own, which PyTorch cannot build from a design. Use engine onnxruntime or "
            "openvino; or torch-program, if you trust the bundle.",
            where=str(files.path),
        ) from None
    fit_weights(network, safetensors.torch.load(weights))
    return network.eval()


def _deployed(files: BundleFiles) -> nn.Module:
    """The network of a bundle between its normalization and its calibration."""
    manifest = files.manifest
    return Deployed(network_of(files), manifest.preprocessing, manifest.temperature, manifest.smoothing, manifest.task)


def _noted(weights: bytes) -> str | None:
    """The digest in the header of a file of safetensors: 8 bytes with the length of the JSON that follows."""
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    noted = header.get("__metadata__", {}).get(ANSWERS)
    return noted if isinstance(noted, str) else None
