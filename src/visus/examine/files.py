"""Files that are whole or not there: what is written for people to open while a run goes on.

This file knows bytes and folders. It must not know what they say.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from visus.errors import StorageError


def write_whole(path: Path, content: bytes | str) -> None:
    """Put ``content`` at ``path`` so that a reader sees the old file or the new one, never a part.

    The bytes go to a temporary file beside it, are flushed to the disk, and then take the name in one step.
    Text is UTF-8 with the line ends that it has.

    Raises:
        StorageError: the folder is missing, is not writable, or its disk is full.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_mask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        reason = error.strerror or type(error).__name__
        raise StorageError(
            f"the file could not be written: {reason}. Free space there or make the folder writable.", where=str(path)
        ) from error


def _mask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
