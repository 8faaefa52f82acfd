"""Networks of Hugging Face's transformers: a folder of ``save_pretrained``, or a name of the hub."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from torch import Tensor, nn

from visus.errors import UsageError
from visus.networks.initial_weights import Normalization
from visus.networks.libraries.library import LibraryInput, LibraryNetwork, quiet
from visus.networks.own_code import read_answers

_CONFIG: Final = "config.json"
_PROCESSOR: Final = "preprocessor_config.json"
_LABELS: Final = (
    "id2label",
    "label2id",
    "num_labels",
    "_name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
)
"""What is not part of an architecture."""


@dataclass(frozen=True)
class TransformersNetwork(LibraryNetwork):
    """A network for images of transformers, such as ``hf:folder`` or ``hf:microsoft/resnet-18``. Its text has the whole architecture."""

    prefix: ClassVar[str] = "hf"
    package: ClassVar[str] = "transformers"
    example: ClassVar[str] = "FOLDER"

    @property
    def text(self) -> str:
        """The name, and the architecture as JSON below it."""
        return f"{self.asked}\n{json.dumps(dict(self._architecture()), sort_keys=True)}"

    @property
    def brings_weights(self) -> bool:
        """Whether the name is a folder with weights."""
        folder = Path(self.name)
        return folder.is_dir() and any(folder.glob("*.safetensors"))

    def names(self) -> list[str]:
        """None: the names are those of the hub."""
        return []

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network with random weights."""
        facts = dict(self._architecture())
        if "num_channels" in facts:
            facts["num_channels"] = input_shape[0]
        if isinstance(facts.get("image_size"), int) and len(input_shape) == 3 and input_shape[1] == input_shape[2]:
            facts["image_size"] = input_shape[1]
        mapping, models = self._part("CONFIG_MAPPING", "transformers.models.auto.configuration_auto"), self._models()
        try:
            with quiet():
                config = mapping[facts["model_type"]].from_dict(facts | {"num_labels": num_classes})
                module: nn.Module = models.from_config(config)
        except Exception as error:  # whatever the library raises
            raise self._not_made(error, input_shape, num_classes) from error
        read_answers(module, num_classes)  # its output has the logits among others
        return module

    def read_input(self) -> LibraryInput:
        """The input in its image processor; the size of its architecture if there is none."""
        facts, seen = self._architecture(), self._processor()
        channels = int(facts.get("num_channels", 3))
        own = facts.get("image_size")
        own = (own, own) if isinstance(own, int) else tuple(own) if isinstance(own, (list, tuple)) else None
        if seen is None:
            return LibraryInput(channels, own, None, own is not None)
        return LibraryInput(channels, _size(seen) or own, _normalization(seen, channels), own is not None)

    def read_weights(self, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The tensors of the folder, or of the hub."""
        models = self._models()
        try:
            with quiet(), _without_progress_bar():
                module = models.from_pretrained(self.name)
        except OSError as error:
            if Path(self.name).is_dir():
                raise UsageError(
                    "this folder has no weights. Save them with model.save_pretrained(FOLDER), or start from new ones: --no-pretrained.",
                    where=self.asked,
                ) from error
            raise self._from_hub(error) from error
        except Exception as error:  # whatever the library raises
            reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
            raise UsageError(
                f"transformers cannot read these weights as a classifier of images ({type(error).__name__}: {reason}).",
                where=self.asked,
            ) from error
        return dict(module.state_dict())

    def _import(self) -> Any:
        import transformers

        return transformers

    def _architecture(self) -> Mapping[str, Any]:
        """What decides the layers of the network.

        Raises:
            UsageError: there is none, or it is none for images.
        """
        if self.config is not None:
            return self.config
        configs = self._part("AutoConfig")
        try:
            with quiet():
                config = configs.from_pretrained(self.name)
        except Exception as error:  # whatever the library raises
            if Path(self.name).is_dir():
                raise UsageError(
                    f"this folder has no {_CONFIG} that transformers can read ({type(error).__name__}). Save the network with model.save_pretrained(FOLDER).",
                    where=self.asked,
                ) from error
            raise self._from_hub(error) from error
        if type(config) not in self._part("MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING"):
            raise UsageError(
                f"{config.model_type} of transformers has no classifier of images. Give one that has, such as resnet, convnext, vit or swin.",
                where=self.asked,
            )
        facts: dict[str, Any] = json.loads(config.to_json_string(use_diff=True))
        return {name: value for name, value in facts.items() if name not in _LABELS} | {"model_type": config.model_type}

    def _processor(self) -> Mapping[str, Any] | None:
        """The description of its image processor; None if there is none."""
        self.load()
        file: Any = Path(self.name) / _PROCESSOR
        if not Path(self.name).is_dir():
            cached = self._part("cached_file", "transformers.utils")
            try:
                with quiet():
                    file = cached(self.name, _PROCESSOR)
            except OSError:
                return None
        try:
            found = json.loads(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _from_hub(self, error: Exception) -> UsageError:
        call = f"hf download {self.name} --local-dir FOLDER"
        return self._not_reached(error, call, "give a folder that model.save_pretrained(FOLDER) wrote: hf:FOLDER")

    def _models(self) -> Any:
        return self._part("AutoModelForImageClassification")

    def _part(self, name: str, module: str = "transformers") -> Any:
        """A part of the library, which imports it when it is first used.

        Raises:
            MissingExtraError: the library is not installed, or the part does not load.
        """
        self.load()
        try:
            with quiet():
                return getattr(importlib.import_module(module), name)
        except Exception as error:  # a part that needs another package
            raise self._missing(error) from error


@contextlib.contextmanager
def _without_progress_bar() -> Iterator[None]:
    """A context in which transformers shows no progress of its own."""
    logging = importlib.import_module("transformers.utils.logging")
    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_shown:
            logging.enable_progress_bar()


def _size(seen: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size of an image after an image processor."""
    crop = seen.get("crop_size") if seen.get("do_center_crop") else None
    for each in (crop, seen.get("size")):
        if isinstance(each, int):
            return each, each
        if isinstance(each, Mapping) and {"height", "width"} <= set(each):
            return int(each["height"]), int(each["width"])
        if isinstance(each, Mapping) and "shortest_edge" in each:
            return int(each["shortest_edge"]), int(each["shortest_edge"])
    return None


def _normalization(seen: Mapping[str, Any], channels: int) -> Normalization:
    """The normalization of values from 0 to 255 of an image processor."""
    factor = float(seen.get("rescale_factor", 1 / 255)) if seen.get("do_rescale", True) else 1.0
    is_normalized = seen.get("do_normalize", True) and seen.get("image_mean") and seen.get("image_std")
    mean = [float(each) for each in seen["image_mean"]] if is_normalized else [0.0] * channels
    deviation = [float(each) for each in seen["image_std"]] if is_normalized else [1.0] * channels
    return Normalization(tuple(each / factor for each in mean), tuple(each / factor for each in deviation))
