"""What a label is: one class, a set of classes, or numbers; and how a label is written as text.

Tables have a text for every label; arrays and programs have sets as tuples of classes (``visus.data.array_labels``). Labels become the array that the loss and the metrics of ``visus.evaluation.tasks`` read:

============  ==================================  ===================================================
task          text of a label                     array of n labels
============  ==================================  ===================================================
single-label  the class, ``cat``                  int64 (n,), index into the classes
multi-label   the classes, ``cat|dog``; may be    float32 (n, classes), 1 for each class of the label,
              empty                               else 0
regression    the numbers, ``12.5|3.0``           float64 (n, targets)
============  ==================================  ===================================================
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from visus.errors import UsageError, unknown_name

TaskName = Literal["single-label", "multi-label", "regression"]
Label: TypeAlias = int | str | tuple[str, ...]
"""A label before it is encoded: a whole number or text of one class, the text of a cell, or the classes of a set."""
TASKS: Final[tuple[TaskName, ...]] = get_args(TaskName)
SEPARATOR: Final = "|"
"""Between the classes or numbers of one label in its text."""
SEPARATORS: Final = (SEPARATOR, ";", ",")
"""Separators of the classes in a cell, in the order in which they are tried."""
_NUM_STRATA: Final = 5


def check_task(name: str) -> TaskName:
    """The task of this name.

    Raises:
        UsageError: there is none.
    """
    for each in TASKS:
        if name == each:
            return each
    raise UsageError(unknown_name("task", name, TASKS))


def find_separator(cells: Sequence[str]) -> str:
    """The first of ``|``, ``;`` and ``,`` that occurs in any cell; ``|`` if none does.

    >>> find_separator(["cat, dog", "cow; dog"])
    ';'
    """
    return next((each for each in SEPARATORS if any(each in cell for cell in cells)), SEPARATOR)


def split_sets(cells: Sequence[str]) -> list[tuple[str, ...]]:
    """The classes in each cell. The separator is the first of ``|``, ``;`` and ``,`` that occurs in any cell; spaces around a class are dropped.

    >>> split_sets(["cat; dog", "dog", ""])
    [('cat', 'dog'), ('dog',), ()]
    """
    separator = find_separator(cells)
    return [tuple(dict.fromkeys(name for part in cell.split(separator) if (name := part.strip()))) for cell in cells]


def encode_sets(sets: Sequence[Sequence[str]], classes: Sequence[str]) -> NDArray[np.float32]:
    """1 for each class of a label, else 0, as (n, classes).

    >>> encode_sets([("cat", "dog"), ()], ["cat", "dog"]).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    """
    place = {name: index for index, name in enumerate(classes)}
    found = np.zeros((len(sets), len(classes)), dtype=np.float32)
    for row, names in zip(found, sets, strict=True):
        row[[place[name] for name in names]] = 1
    return found


def label_text(label: Any, task: str, classes: Sequence[str], *, separator: str = SEPARATOR) -> str:
    """The text of one label.

    Args:
        label: an entry of the label array of its task.
        task: one of ``TASKS``.
        classes: the classes; of regression, the targets.
        separator: between classes or numbers.

    >>> label_text(np.array([1.0, 1.0]), "multi-label", ["cat", "dog"], separator=", ")
    'cat, dog'
    >>> label_text(np.array([12.5, 3.0]), "regression", ["x", "y"])
    '12.5|3.0'
    """
    if task == "multi-label":
        return separator.join(name for name, is_there in zip(classes, label, strict=True) if is_there)
    if task == "regression":
        return separator.join(repr(float(value)) for value in label)
    return classes[int(label)]


def count_labels(labels: NDArray[Any], num_outputs: int) -> NDArray[np.int64]:
    """The number of labels of each class; of numbers, the number of labels for each target.

    >>> count_labels(np.array([0, 2, 2]), 3).tolist()
    [1, 0, 2]
    """
    if labels.ndim == 1:
        return np.bincount(labels, minlength=num_outputs).astype(np.int64)
    if labels.dtype == np.float32:
        found: NDArray[np.int64] = labels.sum(axis=0).astype(np.int64)
        return found
    return np.full(num_outputs, len(labels), dtype=np.int64)


def num_targets(task: str, outputs: Sequence[str]) -> int:
    """The number of targets of regression; 1 for the other tasks, whose metrics are never averaged over targets.

    >>> num_targets("regression", ["age", "size"]), num_targets("multi-label", ["cat", "dog"])
    (2, 1)
    """
    return len(outputs) if task == "regression" else 1


def strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each label, equal for labels of one kind, which splits keep in proportion.

    It is the class; of a set of classes, its rarest class (the last number for the empty set); of numbers, the fifth of the first target's range of
    ranks.

    >>> strata(np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]], dtype=np.float32)).tolist()
    [1, 0, 2]
    >>> strata(np.array([[0.1], [0.2], [5.0], [9.0], [10.0]])).tolist()
    [0, 1, 2, 3, 4]
    """
    if labels.ndim == 1:
        return np.asarray(labels, dtype=np.int64)
    if labels.dtype == np.float32:
        counts = labels.sum(axis=0)
        rarity = np.where(labels > 0, counts.max(initial=0) + 1 - counts, 0)
        return np.asarray(np.where(labels.any(axis=1), rarity.argmax(axis=1), labels.shape[1]), dtype=np.int64)
    ranks = np.searchsorted(np.sort(labels[:, 0]), labels[:, 0], side="left")
    return np.asarray(ranks * _NUM_STRATA // max(1, len(labels)), dtype=np.int64)


def same_kind(labels: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each label, equal for the same class, the same set of classes, or numbers of the same fifth.

    >>> same_kind(np.array([[1.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=np.float32)).tolist()
    [1, 0, 1]
    """
    if labels.ndim == 2 and labels.dtype == np.float32:
        return np.asarray(np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1), dtype=np.int64)
    return strata(labels)


def looks_numeric(labels: Sequence[str]) -> bool:
    """Whether class names are rather measurements: numbers, most of which occur once.

    >>> looks_numeric(["1.25", "3.5", "2.75", "1.5"]), looks_numeric(["0", "1", "0", "1"])
    (True, False)
    """
    counts = Counter(labels)
    try:
        numbers = [float(each.replace(",", ".")) for each in counts]
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and len(counts) > 0.5 * len(labels)
