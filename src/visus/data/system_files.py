"""Files and folders that systems, disk stations and programs leave among images.

This file knows their names.
"""

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


def why_passed_over(name: str) -> str | None:
    """Why a file or folder is no part of any dataset; None where it may be.

    >>> why_passed_over("@eaDir"), why_passed_over("$RECYCLE.BIN"), why_passed_over("cats")
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
