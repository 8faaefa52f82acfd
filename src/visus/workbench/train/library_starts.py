"""Training that starts from the pretrained weights of a network of another library: their choice, their input, and the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import nn

from visus.caller import option
from visus.data.opened import Data
from visus.data.survey import InputSpec, Survey
from visus.errors import UsageError
from visus.networks import initial_weights
from visus.networks.initial_weights import InitialWeights
from visus.networks.libraries.library import LibraryInput, LibraryNetwork
from visus.units import write_number_of, write_shape


class LibraryChoice:
    """The input of a network of another library; ``open_data`` calls it after reading the image headers.

    Args:
        library: the network.
        is_start: whether a training starts from trained weights, which need their own scaling; else only the size counts.
        channels: the requested number of channels; None if not set.

    Attributes:
        note: what was taken from the configuration of the network.
    """

    def __init__(self, library: LibraryNetwork, *, is_start: bool, channels: int | None = None) -> None:
        self.library, self.is_start, self._channels = library, is_start, channels
        self.input: LibraryInput = library.read_input()
        self.note = f"read as the weights of {library.asked} need it: {self.input.sentence()}" if is_start else ""

    def __call__(self, seen: Survey) -> InputSpec | None:
        own, size = self.input, seen.wanted_size or self.input.size
        if size is None or len(size) != 2:
            return None
        if not self.is_start:
            if seen.wanted_size is None:
                self.note = f"read at {write_shape(size)} px, the size of {self.library.asked}"
            return InputSpec(self._channels or (3 if seen.has_color else 1), (size[0], size[1]), (), ())
        if seen.wanted_size is not None and own.size is not None and tuple(size) != own.size:
            self.note = f"{self.note}; here at {write_shape(size)} px, as asked for"
        offset, divisor = ((), ()) if own.normalization is None else (own.normalization.offset, own.normalization.divisor)
        return InputSpec(own.channels, (size[0], size[1]), offset, divisor)

    def suited(self, data: Data) -> Data:
        """Opened data with the scaling of the weights, at its present size, and a note on both.

        Raises:
            UsageError: the data is not images with the number of channels of the weights and values from 0 to 255.
        """
        is_told = self.library.asked in data.note  # it was opened for this network
        if not self.is_start:
            return data if is_told else dataclasses.replace(data, note="")
        plan, normalization = data.preprocessing, self.input.normalization
        if len(plan.size) != 2 or plan.channels != self.input.channels or plan.dtype != "uint8":
            remedy = f"train from new weights: {option('pretrained', False)}"
            if data.samples.reader.kind == "images":  # arrays have their own number of channels
                remedy = f"give {option('channels', self.input.channels)}, or {remedy}"
            raise UsageError(
                f"the weights of {self.library.asked} need images of {write_number_of(self.input.channels, 'channel')} with values from 0 to 255, and these are "
                f"{plan.noun}s with {write_number_of(plan.channels, 'channel')} of {plan.dtype}. "
                f"{remedy[0].upper()}{remedy[1:]}."
            )
        if normalization is None or (plan.offset, plan.divisor) == (normalization.offset, normalization.divisor):
            return data if is_told else dataclasses.replace(data, note=self.note)
        scaling = {"normalize": "fixed", "offset": normalization.offset, "divisor": normalization.divisor}
        if self.input.size is not None and plan.size != self.input.size:
            self.note = f"{self.note}; this data was opened at {write_shape(plan.size)} px"
        preprocessing = dataclasses.replace(plan, **scaling)  # type: ignore[arg-type]
        return dataclasses.replace(data, preprocessing=preprocessing, note=self.note)


def library_choice(
    library: LibraryNetwork, wanted: bool | None, file: object, *, channels: int | None, normalize: str | None
) -> LibraryChoice | None:
    """The choice of a library's input; None if the training starts from new weights, and the network accepts any size.

    Args:
        library: the network.
        wanted: True for ``--pretrained``, False for ``--no-pretrained``, None for neither.
        file: other requested weights.
        channels, normalize: as for ``open_data``; None if not set.

    Raises:
        UsageError: an option contradicts the weights.
    """
    if wanted and file is not None:
        raise UsageError(
            f"the pretrained weights of {library.asked} and other weights exclude each other. Leave one of the two out."
        )
    if not is_pretrained(library, wanted) and file is None:
        return LibraryChoice(library, is_start=False, channels=channels) if library.has_fixed_size else None
    choice = LibraryChoice(library, is_start=True)
    if channels not in (None, choice.input.channels):
        raise UsageError(
            f"the weights of {library.asked} need {write_number_of(choice.input.channels, 'channel')}, and not {channels}. Leave {option('channels')} out."
        )
    if normalize is not None:
        raise UsageError(
            f"the weights of {library.asked} have their own scaling, so normalize={normalize} cannot be used. Leave it out."
        )
    return choice


def is_pretrained(library: LibraryNetwork, wanted: bool | None) -> bool:
    """Whether a training starts from the library's own weights: if they are wanted, or if its name is a folder that has them."""
    return library.brings_weights if wanted is None else wanted


def library_weights(
    library: LibraryNetwork, module: nn.Module, input_shape: tuple[int, ...], file: str | Path | None, wanted: bool | None
) -> InitialWeights | None:
    """The weights that a network of another library starts from: a file's or the library's; None for new ones.

    Raises:
        WeightsError: the file cannot be read.
        UsageError: the library has no weights, or cannot reach them.
    """
    if file is not None:
        found = initial_weights.from_file(file).named_as(module)
        return (
            found
            if found.normalization is not None
            else dataclasses.replace(found, normalization=library.read_input().normalization)
        )
    if not is_pretrained(library, wanted):
        return None
    tensors = library.read_weights(input_shape)
    return InitialWeights(f"the pretrained weights of {library.asked}", tensors, library.read_input().normalization)


def random_library_note(library: LibraryNetwork) -> str:
    """The note for a network of another library with new weights."""
    return f"{library.asked} starts from random weights. With those that {library.package} has for it: {option('pretrained', True)}"
