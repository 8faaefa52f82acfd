"""Reads files of ``torch.save`` as tensors, without running code in them; other files raise an error with a remedy.

PyTorch has two formats: a zip archive and, before version 1.6 or on request, a sequence of pickles.
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

STARTS: Final = (b"PK", b"\x80")  # first bytes of a zip archive and of a pickle
SAVE: Final = "Save the state dict alone: torch.save(network.state_dict(), FILE)."
_MAGIC: Final = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number in the first pickle of a file in the old format
_PICKLES: Final = 5  # number of pickles in the old format: magic number, version, machine, content, storage names
_PROTOCOL: Final = 2  # pickle protocol that PyTorch reads without running code
_NAMED: Final = re.compile(r"\bGLOBAL ([\w.]+)")
_DAMAGED: Final = "this file of torch.save is damaged or truncated. Use another copy of it."
_MAX_NAMED: Final = 5


def read_state_dict(path: Path) -> Any:
    """The content of a file that begins with one of ``STARTS``: tensors, numbers and strings in dicts and lists.

    Raises:
        WeightsError: the file is damaged, of another kind, or unreadable without running code in it.
        OSError: the file cannot be opened.
    """
    if message := _other_kind(path):
        raise WeightsError(message, where=str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the error below replaces PyTorch's warnings
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged bytes raise errors of any kind
            message = _explain(path, error)
    raise WeightsError(message, where=str(path))


def _other_kind(path: Path) -> str:
    """Error message for a file that resembles one of ``torch.save``; empty if it may be one."""
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
        return f"this is a zip archive of other files ({', '.join(names[:_MAX_NAMED])}), not a file of torch.save. {SAVE}"
    return ""


def _explain(path: Path, error: Exception) -> str:
    """Error message for an unreadable file; PyTorch's own message recommends options that would run the code."""
    pickles = _pickles(path)
    if not pickles:
        return _DAMAGED
    protocol = pickles[0][1]
    if protocol != _PROTOCOL:
        return (
            f"this file has pickle protocol {protocol}, and without running code in it PyTorch reads only protocol "
            f"{_PROTOCOL}. Save it again without pickle_protocol. {SAVE}"
        )
    if named := _NAMED.search(str(error)):
        return f"this file cannot be read without running code in it ({named[1]}). {SAVE}"
    return _DAMAGED


def _names(path: Path) -> list[str]:
    """File names in a zip archive; none if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except Exception:  # damaged bytes
        return []


def _pickles(path: Path) -> list[bytes]:
    """The pickles of a file as bytes, not run; none if they are damaged."""
    content = path.read_bytes()
    if not content.startswith(b"PK"):
        return _split_pickles(content, _PICKLES)
    name = next(name for name in _names(path) if name.endswith("/data.pkl"))
    try:
        with zipfile.ZipFile(path) as archive:
            return _split_pickles(archive.read(name), 1)
    except Exception:  # damaged bytes
        return []


def _split_pickles(content: bytes, number: int) -> list[bytes]:
    """The first ``number`` pickles of a file; none if one of them is damaged."""
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
