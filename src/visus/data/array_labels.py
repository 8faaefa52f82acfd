"""Labels in arrays: which values are classes, sets of classes or numbers, and which class a whole number is.

Labels stay what they are until they are encoded: a whole number, a text, or the tuple of the classes of a set (``visus.data.tasks.Label``). The rules hold
for all labels of a dataset together, never for one sample or one split alone:

- texts are class names;
- whole numbers are all places in the class list, or all names in it. If both are possible and differ, they are refused;
- rows of 0 and 1 with one column for each class are sets of classes if a row has several ones or none, else classes (one-hot);
- without a class list, a number is the name of its class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.tasks import SEPARATOR, Label
from visus.errors import DataError, unknown_name
from visus.units import write_number_of, write_shape

SAVE_TEXTS: Final = "Save texts: np.array(classes)[labels] for places, labels.astype(str) for names."
"""The remedy for whole numbers in a file that may be places or names."""


def class_values(values: NDArray[Any], where: Path | str, what: str = "label") -> list[str]:
    """The texts of the whole numbers or texts in an array of shape (n,) or (n, 1).

    >>> class_values(np.array([2, 10]), "y"), class_values(np.array([[1.0], [2.0]]), "y")
    (['2', '10'], ['1', '2'])

    Raises:
        DataError: as for ``label_column``.
    """
    return [str(each) for each in label_column(values, where, what)]


def label_column(values: NDArray[Any], where: Path | str, what: str = "label", remedy: str | None = None) -> list[int | str]:
    """The whole numbers or texts in an array of shape (n,) or (n, 1); True is 1.

    Args:
        values: the array.
        where: the array, for errors.
        what: ``label``, ``group`` or ``split``, for errors.
        remedy: the sentence after the error about a number that is not whole; default: that of ``what``.

    Raises:
        DataError: a sample has several values, a number is not whole, or the dtype is not supported.
    """
    is_label = what == "label"
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if is_label and values.ndim == 2 and (num_multi := _num_multi_label(values)):
        raise DataError(
            f"{num_multi:,} of {len(values):,} rows of the labels name no class or several classes, and single-label needs exactly one. "
            f"Remove those rows, or leave out {option('task', 'single-label')}.",
            where=str(where),
        )
    if values.ndim != 1:
        shapes = f" For one-hot labels, save labels.argmax(1); for sets of classes as 0 and 1, write {option('task', 'multi-label')}."
        raise DataError(
            f"the {what}s have the shape {write_shape(values.shape) or '()'}; needed is one {what} per sample, (n,) or (n, 1).{shapes if is_label else ''}",
            where=str(where),
        )
    if values.dtype.kind == "f":
        is_whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < 2**53)
        if not is_whole.all():
            first = int(np.argmin(is_whole))
            if np.isnan(values[first]):
                raise DataError(
                    f"the {what} of row {first} is missing (NaN). Give each sample a {what}, or leave it out.",
                    where=str(where),
                )
            if remedy is None:
                remedy = f"For numbers that are no classes: {option('task', 'regression')}." if is_label else _PER_SAMPLE
            raise DataError(
                f"the {what} of row {first} is {values[first]}, which is not an integer. {remedy}", where=str(where)
            )
        values = values.astype(np.int64)
    if values.dtype.kind not in "biuUS":
        raise DataError(
            f"{what}s of type {values.dtype} are not supported. Save them as integers or text.", where=str(where)
        )
    if values.dtype.kind in "biu":
        return [int(each) for each in values.tolist()]
    kinds, inverse = np.unique(values, return_inverse=True)
    try:
        names = [_text(kind) for kind in kinds]
    except UnicodeDecodeError as error:
        raise DataError(f"a {what} is not valid UTF-8. Save the {what}s as text.", where=str(where)) from error
    return [names[index] for index in inverse.tolist()]


_PER_SAMPLE: Final = "Groups are whole numbers or texts, splits are texts."


def _num_multi_label(values: NDArray[Any]) -> int:
    """Number of rows without exactly one 1 in an array of zeros and ones with one column per class; 0 for any other array."""
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        return 0
    return int((values.sum(axis=1) != 1).sum())


def is_multi_hot(values: NDArray[Any]) -> bool:
    """Whether labels are rows of 0 and 1, some of which have several ones or none.

    >>> is_multi_hot(np.array([[1, 1], [0, 1]])), is_multi_hot(np.array([[1, 0], [0, 1]]))
    (True, False)
    """
    return values.ndim == 2 and values.shape[1] > 1 and _num_multi_label(values) > 0


def is_one_hot(values: NDArray[Any]) -> bool:
    """Whether labels are rows with a 1 in one of several columns, and 0 in the others.

    >>> is_one_hot(np.array([[1, 0], [0, 1]])), is_one_hot(np.array([[1, 1], [0, 1]])), is_one_hot(np.array([[1], [1]]))
    (True, False, False)
    """
    is_table = values.ndim == 2 and values.shape[1] > 1 and len(values) > 0 and values.dtype.kind in "biuf"
    return is_table and bool(np.isin(values, (0, 1)).all()) and not _num_multi_label(values)


def one_hot_note(num_classes: int) -> str:
    """The note where one-hot labels are read as classes.

    >>> one_hot_note(10).partition(":")[0]
    'the labels are one-hot'
    """
    return f"the labels are one-hot: read as {num_classes:,} classes; {option('task', 'multi-label')} reads them as sets."


MULTI_HOT_NOTE: Final = "the labels are 0 or 1 for each class, with several ones or none in a row, so each sample has a set of classes (multi-label)."
"""The note where rows of 0 and 1 are read as sets."""


def labels_in_array(values: NDArray[Any], task: str, where: str, names: Sequence[str] = ()) -> list[Label]:
    """The labels in an array: a whole number or text of one class, the classes of a set, the text of numbers (``visus.data.tasks``).

    Args:
        values: single labels (n,), or one-hot (n, classes); 0 and 1 for each class (n, classes), or texts (n,), of multi-label; numbers (n,) or
            (n, targets) of regression.
        task: one of ``visus.data.tasks.TASKS``.
        where: the array, for errors.
        names: the class list, or the targets of regression; default: their numbers.

    Raises:
        DataError: the array does not fit the task.

    >>> labels_in_array(np.array([[1, 1], [0, 1]]), "multi-label", "y", ["cat", "dog"])
    [('cat', 'dog'), ('dog',)]
    >>> labels_in_array(np.array([[1, 0], [0, 1]]), "single-label", "y", ["cat", "dog"]), labels_in_array(np.array([3, 7]), "single-label", "y")
    (['cat', 'dog'], [3, 7])
    """
    if task == "regression":
        columns = values.reshape(len(values), -1) if values.ndim else values
        if values.dtype.kind not in "biuf" or columns.ndim != 2 or values.ndim > 2:
            raise DataError(
                f"the labels are {values.dtype} of the shape {write_shape(values.shape) or '()'}; regression needs numbers, (n,) or (n, targets).",
                where=where,
            )
        _refuse_other_number(names, columns.shape[1], where)
        return [SEPARATOR.join(repr(float(value)) for value in row) for row in columns]
    if task == "single-label" and not is_one_hot(values):
        return [*label_column(values, where)]
    if task == "multi-label":
        if values.dtype.kind in "US" and values.ndim == 1:
            return [_text(value) for value in values]
        if values.ndim != 2 or values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
            raise DataError(
                f"the labels are {values.dtype} of the shape {write_shape(values.shape) or '()'}; multi-label needs 0 and 1 for each class, (n, classes).",
                where=where,
            )
    _refuse_other_number(names, values.shape[1], where)
    columns_of = list(names) or [str(place) for place in range(values.shape[1])]
    if task == "single-label":
        return [columns_of[place] for place in values.argmax(axis=1).tolist()]
    return [tuple(columns_of[place] for place in np.flatnonzero(row)) for row in values]


def _refuse_other_number(names: Sequence[str], num_columns: int, where: str) -> None:
    """Raise an error if there are class names, but not one for each column of labels.

    Raises:
        DataError: there are.
    """
    if names and len(names) != num_columns:
        found = f"{'there is' if len(names) == 1 else 'there are'} {write_number_of(len(names), 'class name')}"
        raise DataError(f"{found} for {write_number_of(num_columns, 'column')} of labels.", where=where)


def refuse_repeated_names(names: Sequence[str], where: str, task: str | None = None) -> None:
    """Raise an error if two classes have the same name; of regression, two targets.

    Raises:
        DataError: they have; the labels of both classes would be one class.
    """
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        first = places.setdefault(name, place)
        if first == place:
            continue
        if task == "regression":
            raise DataError(
                f"the target {name!r} occurs twice, for the columns {first} and {place} of the labels. Give each target a name of its own.",
                where=where,
            )
        raise DataError(
            f"the class name {name!r} occurs twice, for the labels {first} and {place}, which would become one class. "
            "Give each class a name of its own.",
            where=where,
        )


def class_of_each(parts: Mapping[str, Iterable[int | str]], names: Sequence[str], texts_remedy: str) -> dict[int | str, str]:
    """The class of each label that occurs, by the rules at the top of this file.

    Texts that are no class names, but are all the digits of places, are places: visus read them so in earlier versions.

    Args:
        parts: the labels of all parts; a key is the place of an error.
        names: the class list.
        texts_remedy: how to say which of two readings of whole numbers is meant.

    Raises:
        DataError: a label is neither a place nor a name, or whole numbers may be both.

    >>> class_of_each({"y": [0, 1]}, ["cat", "dog"], ""), class_of_each({"y": [1, 2]}, ["1", "2"], "")
    ({0: 'cat', 1: 'dog'}, {1: '1', 2: '2'})
    """
    where: dict[int | str, str] = {}
    for part, labels in parts.items():
        where |= {label: part for label in dict.fromkeys(labels) if label not in where}
    numbers = [label for label in where if isinstance(label, int)]
    texts = [label for label in where if isinstance(label, str)]
    found: dict[int | str, str] = {text: text for text in texts}
    known = set(names)
    if (odd := [text for text in texts if text not in known]) and len(odd) == len(texts) and all(map(str.isdecimal, odd)):
        found = {text: name_at(int(text), names, where[text]) for text in texts}
    elif odd:
        raise DataError(unknown_name("class", odd[0], names), where=where[odd[0]])
    return found | _class_of_each_number({number: where[number] for number in numbers}, names, texts_remedy)


def _class_of_each_number(where: Mapping[int, str], names: Sequence[str], texts_remedy: str) -> dict[int | str, str]:
    """The class of each whole number; the values are the places of errors."""
    known = set(names)
    are_names = all(str(number) in known for number in where)
    if not all(0 <= number < len(names) for number in where):
        return {number: str(number) if are_names else name_at(number, names, place) for number, place in where.items()}
    other = next((number for number in where if names[number] != str(number)), None)
    if are_names and other is not None:
        raise DataError(
            f"the labels are whole numbers that may be places in the class list or names in it: the label {other} is the class {names[other]!r} by its "
            f"place, and '{other}' by its name. {texts_remedy}",
            where=where[other],
        )
    return {number: names[number] for number in where}


def name_at(place: int, names: Sequence[str], where: Path | str = "") -> str:
    """The class at a place in the class list; the number itself where there is no list.

    >>> name_at(1, ["cat", "dog"]), name_at(1, [])
    ('dog', '1')

    Raises:
        DataError: there is no such place.
    """
    if not names:
        return str(place)
    if not 0 <= place < len(names):
        raise DataError(
            f"the label {place} has no class name: there are {len(names)} class names, for the labels 0 to {len(names) - 1}.",
            where=str(where),
        )
    return names[place]


def _text(value: object) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
