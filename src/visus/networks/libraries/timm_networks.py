"""Networks of timm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from visus.networks.initial_weights import Normalization
from visus.networks.libraries.library import LibraryInput, LibraryNetwork, quiet


@dataclass(frozen=True)
class TimmNetwork(LibraryNetwork):
    """A network of timm, such as ``timm:resnet18`` or, with the tag of its weights, ``timm:resnet18.a1_in1k``."""

    prefix: ClassVar[str] = "timm"
    package: ClassVar[str] = "timm"
    example: ClassVar[str] = "resnet18"

    def names(self) -> list[str]:
        """The architectures of timm."""
        found: list[str] = self.load().list_models()
        return found

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network with random weights."""
        return self._create(input_shape, num_classes=num_classes, pretrained=False)

    def read_input(self) -> LibraryInput:
        """The input in its ``pretrained_cfg``."""
        cfg = self._cfg()
        channels, *size = cfg.input_size
        return LibraryInput(
            channels, (size[0], size[1]), Normalization.of_shares(cfg.mean, cfg.std), bool(cfg.fixed_input_size)
        )

    def read_weights(self, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Its pretrained tensors; those of positions fit the size of the input."""
        cfg = self._cfg()
        if not cfg.has_weights:
            raise self._without_weights()
        try:
            module = self._create(input_shape, pretrained=True)
        except OSError as error:
            call = f"""python -c 'import timm; timm.create_model("{self.name}", pretrained=True)'"""
            raise self._not_reached(error, call, "give a file of them with --weights FILE") from error
        return dict(module.state_dict())

    def _import(self) -> Any:
        import timm

        return timm

    def _cfg(self) -> Any:
        timm = self.load()
        if not timm.is_model(self.name):
            raise self._unknown()
        cfg = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        if cfg is None:
            raise self._unknown()
        return cfg

    def _create(self, input_shape: tuple[int, ...], **settings: Any) -> nn.Module:
        timm, cfg = self.load(), self._cfg()
        if cfg.fixed_input_size and len(input_shape) == 3:
            settings["img_size"] = tuple(input_shape[1:])
        try:
            with quiet():
                module: nn.Module = timm.create_model(self.name, in_chans=input_shape[0], **settings)
        except OSError:
            raise
        except Exception as error:  # whatever the library raises
            raise self._not_made(error, input_shape, settings.get("num_classes", 0)) from error
        return module
