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


def refuse_converted_images(samples: Any, name: str) -> None:
    """Raise an error for a list of Pillow's images whose values are no brightness, such as places in a palette.

    Raises:
        UsageError: it holds one.
    """
    for place, each in enumerate(samples if isinstance(samples, (list, tuple)) else ()):
        mode = getattr(each, "mode", None)
        if isinstance(mode, str) and hasattr(each, "convert") and mode not in _PLAIN_MODES:
            raise UsageError(
                f"{name}[{place}] is an image of Pillow in the mode {mode}, whose values are no levels of gray, or of red, green and blue. Convert it: "
                f"[each.convert('RGB') for each in {name}]."
            )


def plain_labels(labels: Any, name: str) -> Any:
    """Labels as they are, but tables, columns and categories of pandas as arrays, and a column (n, 1) of objects as (n,).

    Raises:
        DataError: some are missing: None, NaN among texts, or the missing values of pandas.
    """
    if hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    elif hasattr(labels, "categories"):
        labels = np.asarray(labels)
    if isinstance(labels, np.ndarray) and labels.dtype.kind == "O" and labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    is_objects = isinstance(labels, np.ndarray) and labels.dtype.kind == "O"
    rows = list(labels) if is_objects or isinstance(labels, (list, tuple)) else []
    missing = [place for place, each in enumerate(rows) if _is_missing(each)]
    if missing and not all(isinstance(each, (int, float)) for each in rows):  # for numbers, the task decides
        is_one = len(missing) == 1
        raise DataError(
            f"{write_number_of(len(missing), 'label')} of {len(rows):,} {'is' if is_one else 'are'} missing: "
            f"{write_names(f'{name}[{place}]' for place in missing)}. Give each sample a label, or leave {'it' if is_one else 'them'} out."
        )
    return labels


def _is_missing(label: Any) -> bool:
    return label is None or (isinstance(label, float) and label != label) or type(label).__name__ in ("NAType", "NaTType")


def columns_of(labels: Any) -> list[str]:
    """The names of the columns of a table of pandas with several columns; empty for other labels, and for columns without names."""
    columns = list(getattr(labels, "columns", ())) if hasattr(labels, "to_numpy") else []
    return columns if len(columns) > 1 and all(isinstance(each, str) for each in columns) else []


def common_columns(given: Mapping[str, Any]) -> list[str]:
    """The names of the columns of all labels that are tables of pandas; empty if none is.

    Args:
        given: name -> labels.

    Raises:
        UsageError: they differ.
    """
    found = {name: columns for name, labels in given.items() if (columns := columns_of(labels))}
    for name, columns in found.items():
        first = next(iter(found))
        if columns != found[first]:
            raise UsageError(
                f"the columns of {name} are {write_names(columns)}, and those of {first} are {write_names(found[first])}. Give the same columns in the same order."
            )
    return next(iter(found.values()), [])


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
    return labels[list(names)]


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
