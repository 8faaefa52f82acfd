"""The error family of visus: what went wrong, said so that a person can mend it.

Every error that a user can cause is one of these. The tree, with the exit code of the command line and the status over HTTP::

    VisusError                     1  500   never raised itself
    |-- UsageError                 2  422   an option, a name or a value that cannot be used
    |   |-- GeometryError          2  422   a window that does not fit its axis
    |   |-- DesignError            2  422   a design that is misspelled or impossible
    |   `-- RecipeError            2  422   a training setting that cannot be used
    |-- DataError                  1  422   a data set that cannot be used as it is
    |   `-- ImageError           1  415   one file that cannot be read as an image
    |-- RunError                   1  404   a run folder that is missing, incomplete or of another kind
    |   `-- WeightsError           1  409   weights or a checkpoint that do not fit the network
    |-- TrainingError              1  500   a training that cannot go on
    |   `-- ProcessLostError       1  500   one of several processes that is gone
    |-- StorageError               1  507   a disk that is full or not writable
    |-- CanceledError            130  499   work that was asked to stop and did
    `-- MissingExtraError          1  501   an optional package that is not installed
"""

from __future__ import annotations

import difflib
import importlib.util
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Self

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they turn the text that follows


class VisusError(Exception):
    """An error with a place and a sentence; ``str()`` gives ``place: sentence``.

    Args:
        message: what was found, what is needed and what to do.
        where: the place, such as a layer's path or a file; outer floors add theirs with ``within``.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return f"{printable(self.where)}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (type(self), self.message, self.where)

    def within(self, place: str) -> Self:
        """The same error, its place told from further outside: ``place`` stands before the present place."""
        self.where = f"{place}: {self.where}" if self.where else place
        return self


def _restored(kind: type[VisusError], message: str, where: str) -> VisusError:
    """Rebuild an error that crossed a process boundary."""
    return kind(message, where=where)


class UsageError(VisusError):
    """An option, a name or a value that cannot be used."""

    exit_code = 2
    http_status = 422


class GeometryError(UsageError):
    """A window that does not fit its axis."""


class DesignError(UsageError):
    """A design that is misspelled or impossible."""


class RecipeError(UsageError):
    """A training setting that cannot be used."""


class DataError(VisusError):
    """A data set that cannot be used as it is."""

    http_status = 422


class ImageError(DataError):
    """One file that cannot be read as an image, a signal or a volume."""

    http_status = 415


class RunError(VisusError):
    """A run folder that is missing, incomplete or of another kind."""

    http_status = 404


class WeightsError(RunError):
    """Weights or a checkpoint that do not fit the network."""

    http_status = 409


class TrainingError(VisusError):
    """A training that cannot go on."""


class ProcessLostError(TrainingError):
    """One of several processes of a training is gone."""


class StorageError(VisusError):
    """A disk that is full or a folder that cannot be written."""

    http_status = 507


class CanceledError(VisusError):
    """Work that was asked to stop and did."""

    exit_code = 130
    http_status = 499


class MissingExtraError(VisusError):
    """An optional package that is not installed."""

    http_status = 501

    @classmethod
    def because(cls, error: Exception, package: str, extra: str, purpose: str) -> MissingExtraError:
        """The sentence for a package whose import raised an error: it is not installed, or it is and does not load.

        A package that is damaged, or was built for another version of PyTorch, raises anything.

        >>> print(MissingExtraError.because(OSError("no such library"), "captum", "examine", "saliency maps"))
        saliency maps need the package captum, which does not load (OSError: no such library). Install it anew: pip install --force-reinstall captum
        """
        if isinstance(error, ModuleNotFoundError) and not _is_installed(package):
            return cls.of(package, extra, purpose)
        said = " ".join(str(error).split()).rstrip(".")
        return cls(
            f"{purpose} need the package {package}, which does not load ({type(error).__name__}: {said}). "
            f"Install it anew: pip install --force-reinstall {package}"
        )

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """The sentence for a missing package, with the pip line that brings it.

        >>> print(MissingExtraError.of("captum", "examine", "saliency maps"))
        saliency maps need the package captum, which is not installed. Install it with: pip install 'visus[examine]'
        """
        return cls(
            f"{purpose} need the package {package}, which is not installed. Install it with: pip install 'visus[{extra}]'"
        )


def _is_installed(package: str) -> bool:
    """Whether a package can be found, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def printable(name: str) -> str:
    r"""A name on one line, whatever a file is called: control characters, which could end a line or steer a terminal, are escaped.

    Letters of all scripts stay; so do the bytes of a name that is not UTF-8.

    >>> printable("new\nline\x1b[31m.png"), printable("\u732b.png") == "\u732b.png"
    ('new\\nline\\x1b[31m.png', True)
    """
    if name.isprintable():
        return name
    return "".join(_escaped(letter) if _steers(letter) else letter for letter in name)


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _steers(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in _DIRECTIONS


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that does not exist, with the closest one that does.

    Args:
        kind: what the name should have been, such as ``optimizer``.
        name: what was written.
        known: every name that exists; listed in alphabetical order.

    >>> unknown_name("optimizer", "adamv", ["sgd", "muon", "adamw"])
    "unknown optimizer 'adamv'. Did you mean 'adamw'? Known: adamw, muon, sgd."
    """
    names = sorted(known)
    guess = closest_name(name, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}."


def closest_name(name: str, known: Sequence[str]) -> str | None:
    """The one of ``known`` that ``name`` most likely meant, or None where none is near.

    >>> closest_name("maxpol", ["avgpool", "maxpool"])
    'maxpool'
    """
    folded = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def joined(messages: Sequence[str]) -> str:
    """Several independent mistakes as one message: one alone stays as it is, more are counted and listed by line.

    >>> print(joined(["no kernel", "no channels"]))
    2 mistakes:
      - no kernel
      - no channels
    """
    if len(messages) == 1:
        return messages[0]
    return "\n".join([f"{len(messages)} mistakes:", *(f"  - {message}" for message in messages)])
