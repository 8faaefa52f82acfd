"""Labels that a program gives: arrays and lists, and what a dataset returns. The rules of ``visus.data.array_labels``, and those for sets:

=========================================  ===============================================================
labels that are lists, through all parts   each list is
=========================================  ===============================================================
sets, lists of texts, lists of several     a set of classes: a text is a name, a whole number a place in
lengths                                    the class list (or a name in it, by the rule for whole numbers)
lists of one length, two or more, that     0 or 1 for each class, as a row of an array
hold only 0 and 1
other lists of one length                  a set of classes in a dataset, and where ``multi-label`` is
                                           asked for; else a row of an array
=========================================  ===============================================================

If the labels of one part are sets, those of all parts are. Arrays or tensors of one length are rows of an array; of several lengths, lists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from visus.caller import option
from visus.data.array_labels import (
    MULTI_HOT_NOTE,
    class_of_each,
    is_multi_hot,
    is_one_hot,
    label_column,
    labels_in_array,
    name_at,
    one_hot_note,
    refuse_repeated_names,
)
from visus.data.given_arrays import LABELS, class_list, common_columns, given_array, in_order, plain_labels
from visus.data.label_sets import write_cells
from visus.data.listed_names import write_names
from visus.data.source_rules import natural_key
from visus.data.tasks import SEPARATOR, SEPARATORS, encode_sets
from visus.errors import DataError, UsageError, unknown_name
from visus.units import write_number_of, write_shape

Sets = list[tuple[str, ...]]
_GIVE_TEXTS: Final = "Give texts: np.array(class_names)[y] for places, y.astype(str) for names."
_GIVE_NAMES: Final = "Give lists of class names."
_NO_LABEL: Final = "no sample has a label. Give at least two classes."


# ---- arrays and lists ----


def read_given_labels(arrays: Mapping[str, Any], task: str | None) -> tuple[dict[str, NDArray[Any]], str | None]:
    """The labels and the class list among the arrays of a program, as array files hold them; and the task.

    Sets become rows of 0 and 1 with a class list. Labels that are arrays stay as they are.

    Args:
        arrays: name -> array, tensor or list; names that are no labels and no ``classes`` are ignored.
        task: what a label is; None for the default.

    Raises:
        UsageError: labels are no numbers, texts or sets.
        DataError: labels fit no task, or the class names do not fit the labels.
    """
    given = {name: value for name, value in arrays.items() if name in LABELS}
    columns = common_columns(given)
    classes = class_list(arrays.get("classes", columns)) if "classes" in arrays or columns else None
    names = [] if classes is None else [str(each) for each in classes.reshape(-1).tolist()]
    if columns and sorted(names) != sorted(columns):
        raise UsageError(
            f"class_names are {write_names(names)}, and the columns of the labels are {write_names(columns)}. Give the names of the columns, in any order, or leave "
            "class_names out."
        )
    given = {name: plain_labels(in_order(value, names), name) for name, value in given.items()}
    refuse_repeated_names(names, "class_names", task)
    sets = _sets_of_parts(given, names, task) if task in (None, "multi-label") else None
    if sets is not None:
        names = names or sorted({name for part in sets.values() for each in part for name in each}, key=natural_key)
        if not names:
            raise DataError(_NO_LABEL)
        rows = {part: encode_sets(each, names).astype(np.uint8) for part, each in sets.items()}
        return {**rows, "classes": np.array(names)}, "multi-label"
    found = {name: _array_of(value, name) for name, value in given.items()}
    assumed = task or ("multi-label" if any(map(is_multi_hot, found.values())) else "single-label")
    for name, values in found.items():
        if assumed == "regression":
            refuse_not_finite(values, name)
    labels = {name: labels_in_array(values, assumed, name, names) for name, values in found.items()}
    if names and assumed == "single-label":
        class_of_each({name: _single(each) for name, each in labels.items()}, names, _GIVE_TEXTS)
    return found if classes is None else {**found, "classes": classes}, task


def refuse_not_finite(values: NDArray[Any], name: str) -> None:
    """Raise an error for numbers of regression that are NaN or infinite.

    Raises:
        DataError: some are.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    broken = [int(each) for each in np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))]
    raise DataError(
        f"{write_number_of(len(broken), 'label')} of {len(values):,} {'is' if len(broken) == 1 else 'are'} NaN or infinite: "
        f"{write_names(f'{name}[{place}]' for place in broken)}. Regression needs a finite number for each sample: correct or remove "
        f"{'it' if len(broken) == 1 else 'them'}."
    )


def _single(labels: Sequence[Any]) -> list[int | str]:
    """Labels of one class each, for the type checker."""
    return list(labels)


def _sets_of_parts(given: Mapping[str, Any], names: Sequence[str], task: str | None) -> dict[str, Sets] | None:
    """The sets of classes of each part; None if the labels of no part are sets."""
    lists = {name: _rows_of(value) for name, value in given.items()}
    rows = [row for part in lists.values() for row in part or ()]
    is_text = task == "multi-label" and any(
        given_array(given[name], name).dtype.kind == "U" for name in given if lists[name] is None
    )
    if not is_text and not _are_sets(rows, len(names), is_asked=task == "multi-label"):
        return None
    typed = {
        name: _members_in_array(given_array(given[name], name), names, name) if part is None else _members(part, name)
        for name, part in lists.items()
    }
    if not names:
        return {name: [tuple(dict.fromkeys(map(str, each))) for each in part] for name, part in typed.items()}
    flat = {name: [each for row in part for each in row] for name, part in typed.items()}
    class_of = class_of_each(flat, names, _GIVE_NAMES)
    return {name: [tuple(dict.fromkeys(class_of[each] for each in row)) for row in part] for name, part in typed.items()}


Members = list[int | str]
"""Names of classes, and places in the class list."""


def _rows_of(labels: Any) -> list[Any] | None:
    """Labels that are lists, tuples or sets, one for each sample, or small arrays; None for other labels."""
    has_objects = getattr(getattr(labels, "dtype", None), "kind", "") == "O"
    if isinstance(labels, (str, bytes)) or not (isinstance(labels, Sequence) or has_objects):
        return None
    is_row = bool(len(labels)) and all(isinstance(_plain(each), (list, tuple, set, frozenset)) for each in labels)
    return list(labels) if is_row else None


def _array_of(labels: Any, name: str) -> NDArray[Any]:
    """Labels that are no sets as an array."""
    rows = _rows_of(labels)
    return given_array(labels if rows is None else list(map(_plain, rows)), name)


def _plain(label: Any) -> Any:
    """An array or tensor as a list, or as a number if it has no axis; anything else unchanged."""
    return label.tolist() if hasattr(label, "tolist") else label


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))


def _are_sets(rows: Sequence[Any], num_classes: int, *, is_asked: bool) -> bool:
    """Whether labels that are lists, tuples or sets are sets of classes, by the table at the top of this file.

    Args:
        rows: the labels of all parts.
        num_classes: length of the class list; 0 if there is none.
        is_asked: whether lists of one length are sets.

    Raises:
        DataError: each is the list [0, 1], which may be both.
    """
    plain = [_plain(row) for row in rows]
    members = [each for row in plain for each in row]
    if not rows or any(isinstance(row, (set, frozenset)) for row in plain):
        return bool(rows)
    if any(isinstance(each, str) for each in members):
        return True
    if not all(map(_is_whole, members)):
        return False
    lengths = {len(row) for row in plain}
    if len(lengths) > 1 or lengths == {0}:
        return True
    length, are_vectors = lengths.pop(), all(hasattr(row, "tolist") for row in rows)
    if length < 2 or any(each not in (0, 1) for each in members):
        return is_asked
    if all(len(set(row)) == length for row in plain) and num_classes not in (0, length) and not are_vectors:
        return True
    if all(list(row) == [0, 1] for row in plain) and not are_vectors:
        raise DataError(
            "each label is the list [0, 1]: both classes, or 0 and 1 for the two classes. Give the set {0, 1} for both classes, an array for 0 and 1."
        )
    return False


def _members(rows: Sequence[Any], where: str) -> list[Members]:
    """The names and places in labels that are lists or sets.

    Raises:
        UsageError: one holds something else.
    """
    found = []
    for place, row in enumerate(map(_plain, rows)):
        members: Members = []
        for each in sorted(row, key=str) if isinstance(row, (set, frozenset)) else row:
            value = each.item() if hasattr(each, "item") else each
            if not isinstance(value, (int, str)):
                raise UsageError(f"{where}[{place}] holds {value!r}. A set of classes holds whole numbers or texts.")
            members.append(value if isinstance(value, str) else int(value))
        found.append(members)
    return found


def _members_in_array(values: NDArray[Any], names: Sequence[str], where: str) -> list[Members]:
    """The names and places in an array of labels whose task is sets: one class for each sample, or rows of 0 and 1."""
    if values.ndim == 2 and values.shape[1] > 1:
        return [[*each] for each in _sets_in_array(values, where, names)]
    column = label_column(values, where)
    for row, each in enumerate(column):
        _refuse_separator(each, f"the label of row {row}", where)
    return [[each] for each in column]


def _sets_in_array(values: NDArray[Any], where: str, names: Sequence[str]) -> Sets:
    return [each for each in labels_in_array(values, "multi-label", where, names) if isinstance(each, tuple)]


def _refuse_separator(label: int | str, what: str, where: str = "") -> None:
    """Raise an error for a text that may be one class or several.

    Raises:
        DataError: it holds a separator.
    """
    separator = next((each for each in SEPARATORS if each in label), None) if isinstance(label, str) else None
    if separator is not None:
        several = [part.strip() for part in str(label).split(separator)]
        raise DataError(
            f"{what} is {label!r}, which may be one class or several. Give lists of classes: {[label]!r} for one, {several!r} for several.",
            where=where,
        )


# ---- datasets ----


@dataclass(frozen=True)
class DatasetLabels:
    """The labels of a dataset.

    Args:
        task: what a label is; None for the default, one class.
        labels: the class of each sample; of sets, its classes; of regression, its numbers.
        note: how they were read; may be empty.
        classes: the known class names, in the order of the class lists or columns; empty where there are none.
    """

    task: str | None
    labels: list[Any]
    note: str = ""
    classes: tuple[str, ...] = ()

    @property
    def unused(self) -> tuple[str, ...]:
        """The known class names that no label has."""
        used = (
            {name for label in self.labels for name in (label if isinstance(label, tuple) else [label])}
            if self.classes
            else set()
        )
        return tuple(name for name in self.classes if name not in used)

    def cells(self) -> list[str]:
        """The labels as the cells of a table."""
        if self.task == "multi-label":
            return write_cells(self.labels)
        if self.task == "regression":
            return [SEPARATOR.join(map(repr, numbers)) for numbers in self.labels]
        return self.labels


def read_dataset_labels(
    labels: Sequence[Any], lists: Sequence[Sequence[str]], task: str | None, *, are_places: bool = False
) -> DatasetLabels:
    """The classes or numbers of the labels that a dataset returned. Whole numbers are places in its class list, texts are names.

    Args:
        labels: the labels of all samples, as ``check_label`` returns them.
        lists: the class list of each sample, which may be empty.
        task: what a label is; None for the default: sets of classes where labels are lists, sets, or vectors of 0 and 1 in which one
            has several ones or none.
        are_places: whether lists and vectors hold places in any case, as the features of Hugging Face say.

    Raises:
        DataError: a label has no class name, or fits no task.
        UsageError: labels are of several kinds.

    >>> read_dataset_labels([[0], [0, 1]], [["cat", "dog"]] * 2, None).labels
    [('cat',), ('cat', 'dog')]
    """
    if task == "regression":
        return DatasetLabels(task, list(labels))
    read = _read_classes(labels, lists, task, are_places=are_places)
    return replace(
        read,
        classes=read.classes or tuple(dict.fromkeys(name for names in dict.fromkeys(map(tuple, lists)) for name in names)),
    )


def _read_classes(
    labels: Sequence[Any], lists: Sequence[Sequence[str]], task: str | None, *, are_places: bool
) -> DatasetLabels:
    """Classes and sets; the arguments are those of ``read_dataset_labels``."""
    has_rows = any(map(is_row, labels))
    odd = [(place, each) for place, each in enumerate(labels) if not is_row(each) and not isinstance(each, str)]
    if has_rows and odd:
        raise UsageError(
            f"the label of sample {odd[0][0]} is {odd[0][1]!r}, and others are lists or vectors. Return labels of one kind."
        )
    if not has_rows and task != "multi-label":
        return DatasetLabels(task, [_class_of(each, names) for each, names in zip(labels, lists, strict=True)])
    for place, each in enumerate(labels):
        if isinstance(each, str):
            _refuse_separator(each, f"the label of sample {place}")
    rows = [each if is_row(each) else [each] for each in labels]
    if has_rows and not are_places and not _are_sets_of_dataset(rows, lists):
        return _read_vectors(given_array(list(map(_plain, rows)), "labels"), lists, task)
    if task == "single-label":
        found = next(each for each in labels if is_row(each))
        raise UsageError(f"a label is a whole number or a text, and not a {type(found).__name__}.")
    sets = [
        tuple(dict.fromkeys(_class_of(each, names) for each in row))
        for row, names in zip(_members(rows, "labels"), lists, strict=True)
    ]
    return DatasetLabels("multi-label", sets)


def is_row(label: object) -> bool:
    """Whether a label is a list, a tuple, a set or a vector."""
    return isinstance(label, (list, tuple, set, frozenset)) or getattr(label, "ndim", 0) > 0


def check_label(label: Any, task: str | None) -> Any:
    """One label of a dataset: a whole number or a text (True is 1), a list, tuple, set or vector; of regression, its numbers.

    Raises:
        UsageError: it is something else.
    """
    if task == "regression":
        return _numbers(label)
    if is_row(label):
        return label.detach().cpu() if hasattr(label, "detach") else label
    value = label.item() if hasattr(label, "item") else label
    if isinstance(value, float) and not value.is_integer():
        raise UsageError(
            f"a label is a whole number or a text, and not {value!r}. For numbers that are no classes: {option('task', 'regression')}."
        )
    if not isinstance(value, (str, int, float, np.integer)):
        raise UsageError(f"a label is a whole number or a text, and not a {type(label).__name__}.")
    return value if isinstance(value, str) else int(value)


def _numbers(label: Any) -> list[float]:
    """The numbers of a label of regression.

    Raises:
        UsageError: it is no number and no list of numbers.
    """
    values = label.detach().cpu().tolist() if hasattr(label, "detach") else label
    try:
        return [float(each) for each in np.asarray(values, dtype=np.float64).reshape(-1)]
    except (TypeError, ValueError):
        raise UsageError(f"a label of regression is a number or a list of numbers, and not {label!r}.") from None


def _are_sets_of_dataset(rows: Sequence[Any], lists: Sequence[Sequence[str]]) -> bool:
    """Whether the rows of a dataset are sets; vectors of one length are not."""
    return _are_sets(rows, max(map(len, lists)), is_asked=not all(hasattr(row, "tolist") for row in rows))


def _class_of(label: int | str, names: Sequence[str]) -> str:
    return label if isinstance(label, str) else name_at(label, names)


def _read_vectors(values: NDArray[Any], lists: Sequence[Sequence[str]], task: str | None) -> DatasetLabels:
    """The classes of vectors (n, classes) of 0 and 1, or (n, 1)."""
    if values.ndim == 2 and values.shape[1] == 1 and task != "multi-label":
        column = label_column(values, "")
        return DatasetLabels(task, [_class_of(each, names) for each, names in zip(column, lists, strict=True)])
    if values.ndim == 2 and values.dtype.kind in "biuf" and not (is_0_or_1 := np.isin(values, (0, 1))).all():
        raise UsageError(
            f"a vector as a label holds 0 or 1 for each class, and not {values[~is_0_or_1][0]}. Return a list for the numbers of classes."
        )
    found = task or ("multi-label" if is_multi_hot(values) else "single-label")
    names: list[Any] = []
    for start, end in _runs_of(lists):
        names += labels_in_array(values[start:end], found, "", lists[start])
    note = (
        ""
        if task
        else MULTI_HOT_NOTE
        if found == "multi-label"
        else one_hot_note(values.shape[1])
        if is_one_hot(values)
        else ""
    )
    columns = () if lists[0] else tuple(map(str, range(values.shape[1])))
    return DatasetLabels(found, names, note, columns)


def _runs_of(lists: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Start and end of the runs of equal class lists."""
    starts = [place for place in range(len(lists)) if not place or lists[place] != lists[place - 1]]
    return list(zip(starts, [*starts[1:], len(lists)], strict=True))


# ---- labels for a network ----


def encode_given_labels(labels: Any, task: str, classes: Sequence[str]) -> NDArray[Any]:
    """The label array of a task (``visus.data.tasks``) from labels of any form that ``visus.open_data`` takes.

    Whole numbers are places in the class list. If all classes are whole numbers other than 0, 1, ..., they are names, as they were in the training.

    Args:
        labels: one for each sample.
        task: that of the network.
        classes: the classes of the network; of regression, the targets.

    Raises:
        UsageError: the labels do not fit the task.
        DataError: a label is missing, a number is not whole, or may be a place or a name; or a number of regression is NaN or infinite.

    >>> encode_given_labels([1, 2], "single-label", ["1", "2"]).tolist(), encode_given_labels([[1], [0, 1]], "multi-label", ["a", "b"]).tolist()
    ([0, 1], [[0.0, 1.0], [1.0, 1.0]])
    """
    labels = plain_labels(in_order(labels, classes), "labels")
    if task == "multi-label":
        return _encode_sets(labels, classes)
    values = _array_of(labels, "labels")
    if task == "single-label":
        if is_one_hot(values) and values.shape[1] == len(classes):
            return np.asarray(values.argmax(axis=1), dtype=np.int64)
        if values.ndim != 1 and (values.ndim != 2 or values.shape[1] != 1):
            raise UsageError(
                f"labels of {write_shape(values.shape) or 'one number'} cannot be used: one for each sample is needed."
            )
        column = label_column(values, "labels", remedy="The network predicts classes.")
        class_of = _known_class_of_each(column, classes)
        places = {name: place for place, name in enumerate(classes)}
        return np.array([places[class_of[each]] for each in column], dtype=np.int64)
    columns = values[:, None] if values.ndim == 1 and len(classes) == 1 else values
    _check_columns(columns, task, classes)
    refuse_not_finite(columns, "labels")
    return columns.astype(np.float64)


def _encode_sets(labels: Any, classes: Sequence[str]) -> NDArray[np.float32]:
    """Sets of classes, or rows of 0 and 1, as 1 for each class of a label, else 0."""
    rows = _rows_of(labels)
    if rows is None or not _are_sets(rows, len(classes), is_asked=True):
        values = _array_of(labels, "labels")
        if values.dtype.kind != "U" or values.ndim != 1:
            _check_columns(values, "multi-label", classes)
            if not np.isin(values, (0, 1)).all():
                raise UsageError("labels of multi-label are 0 or 1 for each class, and these hold other numbers.")
            return values.astype(np.float32)
        rows = [[each] for each in values.tolist()]
    members = _members(rows, "labels")
    class_of = _known_class_of_each([each for row in members for each in row], classes)
    return encode_sets([tuple(class_of[each] for each in row) for row in members], classes)


def _check_columns(values: NDArray[Any], task: str, classes: Sequence[str]) -> None:
    """Raise an error for labels that are no numbers with a column for each class or target.

    Raises:
        UsageError: they are not.
    """
    if values.ndim != 2 or values.shape[1] != len(classes) or values.dtype.kind not in "biuf":
        raise UsageError(
            f"labels of {write_shape(values.shape) or 'one number'} cannot be used: {task} needs numbers (samples, {len(classes)})."
        )


def _known_class_of_each(labels: Sequence[int | str], classes: Sequence[str]) -> dict[int | str, str]:
    """The class of the network of each label that occurs."""
    known, found = set(classes), dict.fromkeys(labels)
    if odd := [each for each in found if isinstance(each, str) and each not in known]:
        raise UsageError(unknown_name("class", odd[0], classes))
    are_numbers = all(re.fullmatch(r"-?\d+", name) for name in classes)
    if are_numbers and list(classes) != [str(place) for place in range(len(classes))]:
        wrong = [each for each in found if str(each) not in known]
        if wrong:
            raise UsageError(
                f"{unknown_name('class', str(wrong[0]), classes)} The classes are whole numbers, so labels are names of classes. For places in the class "
                "list, give texts: np.array(run.classes)[labels]."
            )
        return {each: str(each) for each in found}
    wrong = [each for each in found if isinstance(each, int) and not 0 <= each < len(classes)]
    if wrong and not all(str(each) in known for each in found):
        raise UsageError(
            f"the label {wrong[0]} is no class: with {len(classes)} classes, labels are 0 to {len(classes) - 1}."
        )
    return class_of_each(
        {"labels": found}, classes, "Give texts: np.array(run.classes)[labels] for places, labels.astype(str) for names."
    )
