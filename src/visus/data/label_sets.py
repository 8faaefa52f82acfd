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


def read_sets(
    labels: Sequence[str | tuple[str, ...]], samples: Sequence[str], where: str
) -> tuple[list[tuple[str, ...]], tuple[str, ...], list[str]]:
    """The classes of each label, notes on how texts were read, and warnings about them.

    Args:
        labels: texts of sets; or sets, which stay as they are.
        samples: the name of each sample, for errors.
        where: the file or folder, for errors.

    Raises:
        DataError: as for ``read_cells``.

    >>> read_sets(["cat;dog", ("a;b",)], ["1", "2"], "")[0]
    [('cat', 'dog'), ('a;b',)]
    """
    texts = [(label, sample) for label, sample in zip(labels, samples, strict=True) if isinstance(label, str)]
    cells = [cell for cell, _ in texts]
    read, notes = read_cells(cells, [sample for _, sample in texts], where)
    sets = iter(read)
    warnings = [] if notes else set_warnings(cells)
    return [next(sets) if isinstance(label, str) else tuple(label) for label in labels], notes, warnings


def write_cells(sets: Sequence[Sequence[str]]) -> list[str]:
    """Texts that ``read_cells`` reads as these sets: with ``|`` between the classes, or as lists if a name could be read in another way.

    >>> write_cells([("cat", "dog"), ()]), write_cells([("cat, small", "dog"), ()])
    (['cat|dog', ''], ["['cat, small', 'dog']", '[]'])
    """
    names = {name for each in sets for name in each}
    is_plain = not any(_LOOKS_LIKE_LIST.fullmatch(name) or any(each in name for each in SEPARATORS) for name in names)
    return [SEPARATOR.join(each) if is_plain else repr(list(each)) for each in sets]


def read_cells(cells: Sequence[str], samples: Sequence[str], where: str) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The sets in cells of a table: separated (``visus.data.tasks.split_sets``), or lists that Python wrote; and a note if there are any lists.

    Args:
        cells: the texts.
        samples: the name of each sample, for errors.
        where: the file or folder, for errors.

    Raises:
        DataError: a cell looks like a list, and its names are not in quotes with a comma between them.

    >>> read_cells(["['shoe', 'warm']", "[]"], ["1.png", "2.png"], "table.csv")[0]
    [('shoe', 'warm'), ()]
    """
    sets: list[tuple[str, ...]] = []
    written = []
    for cell, sample in zip(cells, samples, strict=True):
        if not _LOOKS_LIKE_LIST.fullmatch(cell):
            sets.append((cell.strip(),) if cell.strip() else ())
            continue
        names = [ast.literal_eval(quoted) for quoted in re.findall(_QUOTED, cell)] if _LIST.fullmatch(cell) else None
        if names is None:
            raise DataError(
                f"the label of {sample} is {cell!r}, a list that cannot be read. Write the classes with ';' between them, such as shoe;warm.",
                where=where,
            )
        sets.append(tuple(dict.fromkeys(stripped for name in names if (stripped := name.strip()))))
        written.append(cell)
    if not written:
        return split_sets(cells), ()
    others = [cell for cell in cells if any(each in cell for each in SEPARATORS) and not _LOOKS_LIKE_LIST.fullmatch(cell)]
    if others:
        other = others[0]
        raise DataError(
            f"some labels are written as lists, such as {written[0]!r}, and others with separators, such as {other!r}. Write all of them in one way.",
            where=where,
        )
    return sets, (
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
