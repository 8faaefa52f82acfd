"""What visus needs of a network of another library: its module, its input, and its pretrained weights.

Each library is a subclass, registered in ``visus.networks.libraries.registry``.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError, closest_name
from visus.networks.initial_weights import Normalization
from visus.units import write_shape


@dataclass(frozen=True)
class LibraryInput:
    """The input of the pretrained weights of a network.

    Args:
        channels: number of channels.
        size: (height, width) in pixels; None if it is unknown.
        normalization: scaling of values from 0 to 255; None if it is unknown.
        is_fixed: whether the network accepts no other size.
    """

    channels: int
    size: tuple[int, int] | None
    normalization: Normalization | None
    is_fixed: bool = False

    def sentence(self) -> str:
        """The input in words, with the normalization of values from 0 to 1.

        >>> print(LibraryInput(3, (224, 224), Normalization.of_shares((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))).sentence())
        224 x 224 px, 3 channels, mean 0.5, 0.5, 0.5 and standard deviation 0.5, 0.5, 0.5 of values from 0 to 1
        """
        size = "any size" if self.size is None else f"{write_shape(self.size)} px"
        channels = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        if self.normalization is None:
            return f"{size}, {channels}, normalization unknown"
        mean, deviation = (
            ", ".join(f"{value / 255:.4g}" for value in each)
            for each in (self.normalization.offset, self.normalization.divisor)
        )
        return f"{size}, {channels}, mean {mean} and standard deviation {deviation} of values from 0 to 1"


@dataclass(frozen=True)
class LibraryNetwork(ABC):
    """A network of another library.

    Args:
        name: its name in the library, or a folder.
        config: its stored architecture, for libraries whose names do not define it; None if it is not known yet.
    """

    name: str
    config: Mapping[str, Any] | None = None

    prefix: ClassVar[str]
    """Text before the name, without the colon."""
    package: ClassVar[str]
    """The Python package."""
    example: ClassVar[str]
    """A name, for messages."""

    @property
    def asked(self) -> str:
        """The network as a person writes it."""
        return f"{self.prefix}:{self.name}"

    @property
    def text(self) -> str:
        """The text that rebuilds the network, without a hub and without files."""
        return self.asked

    @property
    def brings_weights(self) -> bool:
        """Whether the name is that of a folder with weights, which are then used without being asked for."""
        return False

    @property
    def has_fixed_size(self) -> bool:
        """Whether the network accepts one input size only."""
        return self.read_input().is_fixed

    @abstractmethod
    def names(self) -> list[str]:
        """The names of the library; empty if it has no list."""

    @abstractmethod
    def make(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """The network with random weights.

        Raises:
            UsageError: the name is unknown, or the network cannot be made for this input.
            MissingExtraError: the library is not installed.
        """

    @abstractmethod
    def read_input(self) -> LibraryInput:
        """The input of its pretrained weights; nothing is downloaded but a description of them.

        Raises:
            UsageError: the name is unknown, or its description cannot be reached.
            MissingExtraError: the library is not installed.
        """

    @abstractmethod
    def read_weights(self, input_shape: tuple[int, ...]) -> dict[str, Tensor]:
        """Its pretrained tensors by name, with the head of their training; the library may download them.

        Raises:
            UsageError: there are none, or they cannot be reached.
            MissingExtraError: the library is not installed.
        """

    def load(self) -> Any:
        """The Python package.

        Raises:
            MissingExtraError: it is not installed, or does not load.
        """
        try:
            with quiet():
                return self._import()
        except Exception as error:  # a damaged package, or one built for another PyTorch, may raise anything
            raise self._missing(error) from error

    @abstractmethod
    def _import(self) -> Any:
        """Import the Python package."""

    def _missing(self, error: Exception) -> MissingExtraError:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == self.package:
            return MissingExtraError(
                f"{self.asked} needs the package {self.package}, which is not installed. Install it with: pip install {self.package}"
            )
        reason = " ".join(str(error).split()).rstrip(".")
        return MissingExtraError(
            f"{self.asked} needs the package {self.package}, which does not load ({type(error).__name__}: {reason}). Install the build of it, and "
            "of torchvision, that belongs to this PyTorch."
        )

    def _unknown(self) -> UsageError:
        """The error for a name that the library does not have, with the closest one."""
        guess = closest_name(self.name, self.names())
        hint = f" Did you mean {self.prefix}:{guess}?" if guess else ""
        return UsageError(f"{self.package} has no network {self.name!r}.{hint} Its names: {self._listing}.")

    def _without_weights(self) -> UsageError:
        """The error for a network without pretrained weights."""
        return UsageError(
            f"{self.package} has no pretrained weights for {self.name}. Train it from new ones without --pretrained, or give a file with --weights FILE.",
            where=self.asked,
        )

    @property
    def _listing(self) -> str:
        """Where the names are listed."""
        return f"{self.package}.list_models()"

    def _not_made(self, error: Exception, input_shape: tuple[int, ...], num_classes: int) -> UsageError:
        """The error for a network that the library cannot make for this input."""
        reason = " ".join(str(error).split()).rstrip(".")
        return UsageError(
            f"{self.package} cannot make {self.name} for samples of {write_shape(input_shape)} and {num_classes} classes "
            f"({type(error).__name__}: {reason}). Give the size and the channels that it takes: {self.read_input().sentence()}.",
            where=self.asked,
        )

    def _not_reached(self, error: Exception, download: str, instead: str) -> UsageError:
        """The error for files that are not on this disk, while their place in the network cannot be reached."""
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        return UsageError(
            f"the files of these weights are not on this disk, and {self.package} cannot download them ({type(error).__name__}: {reason}). Download "
            f"them once where there is a network, with {download}; or {instead}.",
            where=self.asked,
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """A context in which a library neither warns, nor logs less than errors, nor prints to stdout."""
    loggers = [logging.getLogger(name) for name in ("timm", "torchvision", "transformers", "huggingface_hub")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)
