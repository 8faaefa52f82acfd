"""Arrays, tensors and lists that a program gives, as arrays of numbers or texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.data.listed_names import write_names
from visus.errors import DataError, UsageError
from visus.units import write_number_of

LABELS: Final = ("y", "y_train", "y_val", "y_test")
"""The names of labels among the arrays of ``visus.open_data`` and of its files."""
_NEEDED: Final = {
    "classes": "Class names are a list of texts, in the order of the labels.",
    "groups": "A group is a whole number or a text.",
}
_PLAIN_MODES: Final = ("1", "L", "RGB", "F", "I", "I;16", "I;16L", "I;16B", "I;16N")
"""The modes of Pillow whose values are levels of gray, or of red, green and blue."""
_NEEDED_LABELS: Final = (
    "Labels are whole numbers or texts; lists of classes (multi-label); or numbers, as many for each sample (regression)."
)


def given_array(value: Any, name: str) -> NDArray[Any]:
    """An array, a tensor of any device or a sequence as an array of numbers or texts with at least one axis.

    Args:
        value: what was given.
        name: its name, which selects the sentence of an error.

    Raises:
        UsageError: it holds something else, or values of several kinds or shapes.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        is_wider = str(value.dtype) == "torch.bfloat16"  # NumPy has no such type; float32 holds each of its values exactly
        value = (value.float() if is_wider else value).numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O" and array.ndim == 1:
            array = np.asarray(_of_one_kind(array, name))
    except ValueError:  # rows of several shapes
        raise _unfit(name, " has rows of several lengths") from None
    if array.ndim == 0:
        raise _unfit(name, f" is of the type {type(value).__name__}")
    if array.dtype.kind not in "biufU":
        raise _unfit(name, f" holds values of the type {array.dtype}")
    return array


def refuse_other_modes(samples: Any, name: str) -> None:
    """Raise an error for a list of Pillow's images with other values than levels of gray, or of red, green and blue: a palette, opacity, inks.

    Raises:
        UsageError: it holds one.
    """
    for place, each in enumerate(samples if isinstance(samples, (list, tuple)) else ()):
        mode = getattr(each, "mode", None)
        if isinstance(mode, str) and hasattr(each, "convert") and mode not in _PLAIN_MODES:
            raise UsageError(
                f"{name}[{place}] is an image of Pillow in the mode {mode}, which has other values than levels of gray, or of red, green and blue. Convert it: "
                f"[each.convert('RGB') for each in {name}]."
            )


def plain_labels(labels: Any, name: str, what: str = "label") -> Any:
    """Labels or groups as they are, but tables, columns and categories of pandas as arrays, and a column (n, 1) of objects as (n,).

    Args:
        labels: as a program gives them.
        name: their name, for errors.
        what: what one of them is, for errors.

    Raises:
        DataError: some are missing: None, NaN among texts or in a table of several columns, or the missing values of pandas.
    """
    if len(columns := list(getattr(labels, "columns", ()))) > 1 and hasattr(labels, "isna"):
        absent = labels.isna().to_numpy()
        _refuse_missing(
            [f"{name}[{row}] ({columns[int(absent[row].argmax())]})" for row in np.flatnonzero(absent.any(1))],
            len(labels),
            what,
        )
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    elif hasattr(labels, "categories"):
        labels = np.asarray(labels)
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "O" and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    is_objects = isinstance(labels, np.ndarray) and labels.dtype.kind == "O"
    rows = list(labels) if is_objects or isinstance(labels, (list, tuple)) else []
    if not all(isinstance(each, (int, float)) for each in rows):  # NaN among numbers is refused by the task
        _refuse_missing([f"{name}[{place}]" for place, each in enumerate(rows) if is_missing(each)], len(rows), what)
    return labels


def is_missing(label: Any) -> bool:
    """Whether a label is None, NaN or a missing value of pandas.

    >>> is_missing(float("nan")), is_missing(0)
    (True, False)
    """
    return label is None or (isinstance(label, float) and label != label) or type(label).__name__ in ("NAType", "NaTType")


def _refuse_missing(missing: Sequence[str], number: int, what: str) -> None:
    if missing:
        is_one = len(missing) == 1
        raise DataError(
            f"{write_number_of(len(missing), what)} of {number:,} {'is' if is_one else 'are'} missing: {write_names(missing)}. "
            f"Give each sample a {what}, or leave {'it' if is_one else 'them'} out."
        )


def columns_of(labels: Any) -> list[str]:
    """The names of the columns of a table of pandas with several columns; empty for other labels, and for columns that only have numbers 0, 1, 2, ...

    Raises:
        UsageError: two columns have one name, or a name is neither a text nor a whole number.
    """
    columns = list(getattr(labels, "columns", ())) if hasattr(labels, "to_numpy") else []
    if len(columns) < 2 or columns == list(range(len(columns))):
        return []
    if odd := [each for each in columns if not isinstance(each, (str, int, np.integer))]:
        raise UsageError(f"a column of the labels is called {odd[0]!r}, and a name is a text or a whole number. Rename it.")
    names = [str(each) for each in columns]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two columns of the labels are called {repeated[0]!r}. Rename one.")
    return names


def common_columns(given: Mapping[str, Any]) -> list[str]:
    """The names of the columns of all labels that are tables of pandas; empty if none is.

    Args:
        given: name -> labels.

    Raises:
        UsageError: they differ, or other labels stand beside a table.
    """
    found = {name: columns_of(labels) for name, labels in given.items()}
    first = next((name for name, columns in found.items() if columns), "")
    for name, columns in found.items() if first else ():
        if columns != found[first]:
            what = f"the columns of {name} are {write_names(columns)}" if columns else f"{name} has no columns with names"
            raise UsageError(
                f"{what}, and those of {first} are {write_names(found[first])}. Give the same columns in the same order."
            )
    return found[first] if first else []


def in_order(labels: Any, names: Sequence[str]) -> Any:
    """The columns of a table of pandas in the order of the names; other labels, and columns of which no name is known, as they are.

    Raises:
        UsageError: some are known, and others are not, or are absent.
    """
    columns = columns_of(labels)
    if not set(columns) & set(names):
        return labels
    if sorted(columns) != sorted(names):
        raise UsageError(f"the columns of the labels are {write_names(columns)}, and needed are {write_names(names)}.")
    return labels.iloc[:, [columns.index(name) for name in names]]


def class_list(value: Any) -> NDArray[Any]:
    """The class names that a program gives, as an array of texts.

    Raises:
        UsageError: they are no texts.
    """
    array = given_array(value, "classes")
    if array.dtype.kind != "U" and array.size:
        raise _unfit("classes", f" holds values of the type {array.dtype}")
    return array


def _of_one_kind(array: NDArray[Any], name: str) -> list[Any]:
    """The values of an array of objects (n,) that are all texts, all numbers or all rows.

    Raises:
        UsageError: they are something else, or of several kinds.
    """
    values: list[Any] = array.tolist()
    kinds: tuple[tuple[type, ...], ...] = ((str,), (int, float, np.number, np.bool_), (list, tuple, np.ndarray))
    kind = next((each for each in kinds if values and isinstance(values[0], each)), ())
    odd = next((place for place, each in enumerate(values) if not isinstance(each, kind)), None)
    if odd is not None:
        raise _unfit(name, f"[{odd}] is {values[odd]!r}")
    return values


def _unfit(name: str, found: str) -> UsageError:
    """The error for samples, labels, groups or class names that are no array of numbers or texts."""
    if name not in (*LABELS, "labels", *_NEEDED):
        return UsageError(
            f"{name} is no array of numbers or texts. Samples of several shapes cannot be stacked: pad or cut signals to one length; save images as files, "
            "or give a dataset that returns images of Pillow."
        )
    return UsageError(f"{'class_names' if name == 'classes' else name}{found}. {_NEEDED.get(name, _NEEDED_LABELS)}")
