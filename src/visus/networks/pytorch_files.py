"""What ``torch.save`` wrote, read as tensors alone: no code in a file is ever run, and what is no such file is told in one sentence.

This file knows PyTorch's two kinds of file, a zip archive and (before version 1.6, or where asked for) a row of pickles, and
what is easily taken for one.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any, Final

import torch

from visus.errors import WeightsError

STARTS: Final = (b"PK", b"\x80")  # of a zip archive, and of a pickle
SAVE: Final = "Save the state dict alone: torch.save(network.state_dict(), FILE)."
_MAGIC: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number in the first pickle of a file in the old format
_PICKLES: Final = 5  # of the old format: magic number, version, machine, content, names of the storages
_PROTOCOL: Final = 2  # of pickles that PyTorch reads without running code
_NAMED: Final = re.compile(r"\bGLOBAL ([\w.]+)")
_DAMAGED: Final = "this file of torch.save is damaged or cut short. Take another copy of it."
_MAX_NAMED: Final = 5


def read(path: Path) -> Any:
    """The content of a file that begins with one of ``STARTS``: tensors, numbers and texts in tables and lists.

    Raises:
        WeightsError: it is damaged, of another kind, or cannot be read without running code that is in it.
        OSError: it cannot be opened.
    """
    if told := _other_kind(path):
        raise WeightsError(told, where=str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch has to say of files that it cannot read well is told below
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes end in errors of any kind
            told = _told(path, error)
    raise WeightsError(told, where=str(path))


def _other_kind(path: Path) -> str:
    """What is said of a file that is easily taken for one of ``torch.save``; empty where it may be one."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start.startswith(b"PK"):
        is_cut = len(start) < len(start[:2] + _MAGIC)
        return "" if _MAGIC in start or is_cut else f"this is a pickle that torch.save did not write. {SAVE}"
    names = _names(path)
    if not names:
        return _DAMAGED
    if all(name.endswith(".npy") for name in names):
        shown = ", ".join(name.removesuffix(".npy") for name in names[:_MAX_NAMED])
        return (
            f"this is a NumPy file of arrays ({shown}), and safetensors or a state dict of PyTorch is needed. Write one from it: "
            "torch.save({name: torch.from_numpy(array) for name, array in numpy.load(NPZ).items()}, FILE)."
        )
    if any(name.endswith("/constants.pkl") for name in names):
        return (
            "this is a TorchScript archive, and safetensors or a state dict of PyTorch is needed. Write one from it: "
            "torch.save(torch.jit.load(ARCHIVE).state_dict(), FILE)."
        )
    if not any(name.endswith("/data.pkl") for name in names):
        return (
            f"this is a zip archive of other things ({', '.join(names[:_MAX_NAMED])}), and not a file of torch.save. {SAVE}"
        )
    return ""


def _told(path: Path, error: Exception) -> str:
    """Why a file could not be read, in one sentence; PyTorch's own speaks of switches that would run the code."""
    pickles = _pickles(path)
    if not pickles:
        return _DAMAGED
    protocol = pickles[0][1]
    if protocol != _PROTOCOL:
        return (
            f"this file was written with pickle protocol {protocol}, and without running code that may be in it PyTorch reads protocol "
            f"{_PROTOCOL} alone. Write it anew, without pickle_protocol. {SAVE}"
        )
    if named := _NAMED.search(str(error)):
        return f"this file cannot be read without running code that is in it (it names {named[1]}). {SAVE}"
    return _DAMAGED


def _names(path: Path) -> list[str]:
    """Names in a zip archive; none where it is no whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # damaged bytes
        return []


def _pickles(path: Path) -> list[bytes]:
    """The pickles of a file, not run; none where they cannot be found."""
    content = path.read_bytes()
    if not content.startswith(b"PK"):
        return _cut_apart(content, _PICKLES)
    name = next(name for name in _names(path) if name.endswith("/data.pkl"))
    try:
        with zipfile.ZipFile(path) as archive:
            return _cut_apart(archive.read(name), 1)
    except Exception:  # damaged bytes
        return []


def _cut_apart(content: bytes, number: int) -> list[bytes]:
    """So many pickles at the beginning of a file; none where one of them has no beginning or no end."""
    found, stream = [], io.BytesIO(content)
    for _ in range(number):
        began = stream.tell()
        try:
            for _ in pickletools.genops(stream):
                pass
        except Exception:  # damaged bytes
            return []
        found.append(content[began : stream.tell()])
    return found if all(pickled[:1] == b"\x80" for pickled in found) else []
