"""Answers to the events of a training: stop, finish, scale the learning rate, save or keep weights."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Final

from visus.errors import StorageError, UsageError


@dataclass(frozen=True)
class Stop:
    """Ends the training after this event, with a checkpoint. The run has no scores; ``visus.resume`` goes on."""

    @property
    def sentence(self) -> str:
        """What it does, as a phrase."""
        return "stopped"


@dataclass(frozen=True)
class Finish:
    """Ends the training after this event as if its last epoch were done: it is validated, scored and reported."""

    @property
    def sentence(self) -> str:
        """What it does, as a phrase."""
        return "finished early"


@dataclass(frozen=True)
class ScaleLearningRate:
    """Multiplies every learning rate by ``factor`` from now on; factors of several answers multiply.

    Args:
        factor: above 0.

    Raises:
        UsageError: the factor is not a number above 0.

    >>> ScaleLearningRate(0.5).sentence
    'learning rate times 0.5'
    """

    factor: float

    def __post_init__(self) -> None:
        is_number = isinstance(self.factor, Real) and not isinstance(self.factor, bool)
        if not (is_number and 0 < self.factor < math.inf):
            raise UsageError(
                f"the factor of a learning rate must be a number above 0, such as 0.5, and not {self.factor!r}."
            )
        object.__setattr__(self, "factor", float(self.factor))  # numbers of NumPy are not written as JSON

    @property
    def sentence(self) -> str:
        """What it does, as a phrase."""
        return f"learning rate times {self.factor:g}"


@dataclass(frozen=True)
class SaveWeights:
    """Writes the weights of now to ``file``: those that an epoch would validate, which are the averaged ones where there is an average.

    Args:
        file: a safetensors file. An existing one is replaced, in one step, and a missing folder is made.

    Raises:
        UsageError: the file has another suffix.

    >>> SaveWeights("middle.safetensors").sentence
    'weights saved to middle.safetensors'
    """

    file: str | Path

    def __post_init__(self) -> None:
        if not isinstance(self.file, (str, Path)):
            raise UsageError(f"weights are saved to a path, such as 'middle.safetensors', and not to {self.file!r}.")
        file = Path(self.file)
        if file.name in ("", "..") or file.is_dir():
            raise UsageError(
                f"weights are saved to a file, such as 'middle.safetensors', and not to the folder {str(self.file)!r}."
            )
        if file.suffix != ".safetensors":
            raise UsageError(
                f"weights are saved as a safetensors file, and not as {file.name!r}. Name it {file.stem}.safetensors."
            )

    @property
    def sentence(self) -> str:
        """What it does, as a phrase."""
        return f"weights saved to {self.file}"

    def make_folder(self) -> None:
        """Make the folder of the file, and check that it can be written.

        Raises:
            StorageError: it cannot be made or written.
        """
        folder = Path(self.file).absolute().parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"weights cannot be saved here: {reason}. Choose a folder that can be written.", where=str(self.file)
            ) from error


@dataclass(frozen=True)
class KeepWeights:
    """Keeps the weights of the epoch that ended now as the best ones. No later epoch replaces them, unless it is kept too."""

    @property
    def sentence(self) -> str:
        """What it does, as a phrase."""
        return "weights kept"


Answer = Stop | Finish | ScaleLearningRate | SaveWeights | KeepWeights
KINDS: Final = {kind.__name__: kind for kind in (Stop, Finish, ScaleLearningRate, SaveWeights, KeepWeights)}
CHANGING: Final = (Finish, ScaleLearningRate, KeepWeights)
"""The answers that a resumed training must know."""


def to_text(answers: Sequence[Answer]) -> str:
    """The answers as JSON; ``from_text`` reads them back."""
    return json.dumps([{"answer": type(each).__name__} | asdict(each) for each in answers], default=str)


def from_text(text: str) -> list[Answer]:
    """The inverse of ``to_text``.

    >>> from_text(to_text([ScaleLearningRate(0.5), Stop()]))
    [ScaleLearningRate(factor=0.5), Stop()]
    """
    found: list[dict[str, Any]] = json.loads(text)
    return [KINDS[facts["answer"]](**{name: value for name, value in facts.items() if name != "answer"}) for facts in found]
