"""Networks of torchvision, where it imports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from visus.caller import option
from visus.errors import UsageError
from visus.networks.initial_weights import Normalization
from visus.networks.libraries.library import LibraryInput, LibraryNetwork, quiet


@dataclass(frozen=True)
class TorchvisionNetwork(LibraryNetwork):
    """A network of ``torchvision.models``, such as ``torchvision:resnet18``."""

    prefix: ClassVar[str] = "torchvision"
    package: ClassVar[str] = "torchvision"
    example: ClassVar[str] = "resnet18"

    def names(self) -> list[str]:
        """The classification networks of torchvision."""
        models = self._models()
        found: list[str] = models.list_models(module=models)
        return found

    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network with random weights."""
        self._check_name()
        if input_shape[0] != 3:
            raise UsageError(
                f"networks of torchvision take 3 channels, and these samples have {input_shape[0]}. Read them in color: {option('channels', 3)}.",
                where=self.asked,
            )
        settings: dict[str, Any] = {"num_classes": num_classes}
        if self.name.startswith("vit_"):
            settings["image_size"] = input_shape[-1]
        try:
            with quiet():
                module: nn.Module = self._models().get_model(self.name, weights=None, **settings)
        except Exception as error:  # whatever the library raises
            raise self._not_made(error, input_shape, num_classes) from error
        return module

    def read_input(self) -> LibraryInput:
        """The input in the transforms of its weights."""
        self._check_name()
        seen = self._weights().transforms()
        normalization = Normalization.of_shares(tuple(seen.mean), tuple(seen.std))
        return LibraryInput(3, (seen.crop_size[0], seen.crop_size[0]), normalization, self.name.startswith("vit_"))

    def read_weights(self, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """The tensors of its default weights."""
        self._check_name()
        try:
            with quiet():
                return dict(self._weights().get_state_dict(progress=False, check_hash=True))
        except OSError as error:
            call = f"""python -c 'import torchvision; torchvision.models.get_model("{self.name}", weights="DEFAULT")'"""
            raise self._not_reached(error, call, "give a file of them with --weights FILE") from error

    def _import(self) -> Any:
        import torchvision.models

        return torchvision

    def _weights(self) -> Any:
        """The entry of its default weights."""
        return self._models().get_model_weights(self.name).DEFAULT

    def _check_name(self) -> None:
        if self.name not in self.names():
            raise self._unknown()

    def _models(self) -> Any:
        return self.load().models

    @property
    def _listing(self) -> str:
        return "torchvision.models.list_models(module=torchvision.models)"
