"""Sets of classes: read from the texts of labels, with what is suspicious about how they are written."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from visus.data.listed_names import write_names
from visus.data.tasks import SEPARATOR, SEPARATORS, find_separator, split_sets
from visus.errors import DataError
from visus.units import write_number_of

_QUOTED: Final = r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\""
_LIST: Final = re.compile(rf"[\[({{]\s*(?:(?:{_QUOTED})\s*(?:,\s*(?:{_QUOTED})\s*)*,?\s*)?[\])}}]")
_LOOKS_LIKE_LIST: Final = re.compile(r"\[.*\]|[({]\s*['\"].*[)}]", re.DOTALL)


def read_lists(cells: Sequence[str], samples: Sequence[str], where: str) -> tuple[list[str], tuple[str, ...]]:
    """The texts of labels, with those that Python wrote as lists as sets; and a note if there are any.

    Args:
        cells: the texts.
        samples: the name of each sample, for errors.
        where: the file or folder, for errors.

    Raises:
        DataError: a cell looks like a list, and its names are not in quotes with a comma between them.

    >>> read_lists(["['shoe', 'warm']", "[]"], ["1.png", "2.png"], "table.csv")[0]
    ['shoe|warm', '']
    """
    texts, written = [], []
    for cell, sample in zip(cells, samples, strict=True):
        if not _LOOKS_LIKE_LIST.fullmatch(cell):
            texts.append(cell)
            continue
        names = [ast.literal_eval(quoted) for quoted in re.findall(_QUOTED, cell)] if _LIST.fullmatch(cell) else None
        if names is None or any(SEPARATOR in name for name in names):
            raise DataError(
                f"the label of {sample} is {cell!r}, a list that cannot be read. Write the classes with ';' between them, such as shoe;warm.",
                where=where,
            )
        texts.append(SEPARATOR.join(names))
        written.append(cell)
    if not written:
        return texts, ()
    if any(
        each in text and not _LOOKS_LIKE_LIST.fullmatch(cell)
        for cell, text in zip(cells, texts, strict=True)
        for each in SEPARATORS
    ):
        other = next(
            cell for cell in cells if any(each in cell for each in SEPARATORS) and not _LOOKS_LIKE_LIST.fullmatch(cell)
        )
        raise DataError(
            f"some labels are written as lists, such as {written[0]!r}, and others with separators, such as {other!r}. Write all of them in one way.",
            where=where,
        )
    return texts, (
        f"{write_number_of(len(written), 'label')} written as lists, such as {written[0]!r}, are read as the classes in them.",
    )


def set_warnings(cells: Sequence[str]) -> list[str]:
    """Warnings about texts of sets that may be separated in another way than visus reads them.

    >>> set_warnings(["cat;dog", "dog", "old cat"])
    []
    >>> set_warnings(["cat;dog", "dog|cow"])
    ["classes are separated by '|', and class names contain another separator: 'cat;dog'. Write '|' everywhere if these are several classes."]
    """
    separator = find_separator(cells)
    names = list(dict.fromkeys(name for names in split_sets(cells) for name in names))
    mixed = [name for name in names if any(each in name for each in SEPARATORS)]
    warnings = []
    if mixed:
        warnings.append(
            f"classes are separated by {separator!r}, and class names contain another separator: {write_names(map(repr, mixed))}. "
            f"Write {separator!r} everywhere if these are several classes."
        )
    return warnings + _spaces_warning(names)


def _spaces_warning(names: Sequence[str]) -> list[str]:
    """A warning if at least half of the names with spaces are made of words of other names."""
    words = {name: set(name.split()) for name in names}
    seen = Counter(word for each in words.values() for word in each)
    several = [name for name in names if len(words[name]) > 1]
    shared = [name for name in several if all(seen[word] > 1 for word in words[name])]
    if not shared or len(shared) < 0.5 * len(several):
        return []
    return [
        f"spaces do not separate classes, so {write_names(map(repr, shared))} {'is one class' if len(shared) == 1 else 'are one class each'}, although "
        "other classes have the same words. If spaces separate the classes, write ';' instead of them."
    ]
