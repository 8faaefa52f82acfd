"""Names of files and folders that operating systems, network drives and programs leave among images."""

from __future__ import annotations

import re

_THUMBNAILS = re.compile(
    r"@eadir|\.?@__thumb|\.thumbnails?|\.thumb|thumbs\.db(:encryptable)?|ehthumbs(_vista)?\.db|synophoto_.*|synothumb.*|zbthumbnail\.info|"
    r"pspbrwse\.jbf|.*\.(lrdata|lrprev|lrcat-data|cocatalogdb|cot)|\.picasaoriginals|picasa\.ini"
)
_TRASH = re.compile(
    r"\$recycle\.bin|recycler|recycled|#recycle|@recycle|\.trash(es)?(-\d+)?|\.trashed-.*|lost\+found|lost\.dir|found\.\d{3}"
)
_SYSTEM = re.compile(
    r"__macosx|desktop\.ini|system volume information|icon\r|#snapshot|@recently-snapshot|@tmp|\$av_.*|~\$.*|.*~|__pycache__|node_modules|"
    r".*\.(crdownload|part|partial)"
)


def reason_to_ignore(name: str) -> str | None:
    """The reason to ignore a file or folder in a dataset; None for other names.

    >>> reason_to_ignore("@eaDir"), reason_to_ignore("$RECYCLE.BIN"), reason_to_ignore("cats")
    ('thumbnails of a system or a program', 'the trash of a system', None)
    """
    lower = name.lower()
    if _THUMBNAILS.fullmatch(lower):
        return "thumbnails of a system or a program"
    if _TRASH.fullmatch(lower):
        return "the trash of a system"
    if name.startswith(".") or _SYSTEM.fullmatch(lower):
        return "hidden, or of the system"
    return None
