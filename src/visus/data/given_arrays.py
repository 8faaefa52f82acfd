"""Arrays, tensors and lists that a program gives, as arrays of numbers or texts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.errors import UsageError

LABELS: Final = ("y", "y_train", "y_val", "y_test")
"""The names of labels among the arrays of ``visus.open_data`` and of its files."""
_NEEDED: Final = {
    "classes": "Class names are a list of texts, in the order of the labels.",
    "groups": "A group is a whole number or a text.",
}
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
