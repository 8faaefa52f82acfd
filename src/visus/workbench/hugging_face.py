"""The columns of a dataset of Hugging Face, found by its features: that of images, those of labels, that of groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from visus.caller import option
from visus.errors import UsageError, unknown_name

_NUMBER_TYPES: Final = ("float", "int", "uint")


@dataclass(frozen=True)
class Columns:
    """The columns of a dataset that are read.

    Args:
        image: that of images.
        labels: that of labels, or several: of 0 and 1 for each class, or of numbers.
        group: that of groups; None without groups.
        names: class names in the order of the labels; empty where labels are names or numbers.
        are_places: whether lists and vectors hold places in the class list in any case.
        are_classes: whether each of several columns of labels is a class.
    """

    image: str
    labels: tuple[str, ...]
    group: str | None = None
    names: tuple[str, ...] = ()
    are_places: bool = False
    are_classes: bool = False

    @property
    def all(self) -> tuple[str, ...]:
        """Every column that is read."""
        return (self.image, *self.labels, *([self.group] if self.group else []))


def find_columns(
    features: Mapping[str, Any], task: str | None, label_column: str | None = None, group_column: str | None = None
) -> Columns:
    """The columns of a dataset.

    Args:
        features: a feature for each column.
        task: what a label is; None for the default.
        label_column: the columns of the labels, separated by commas; default: that of classes; of regression, that of numbers.
        group_column: the column of the groups.

    Raises:
        UsageError: there is not one column of images and one of labels, or a chosen column does not exist.
    """
    chosen = _chosen(features, task, label_column)
    for name in (*chosen, *([group_column] if group_column is not None else [])):
        if name not in features:
            raise UsageError(unknown_name("column of the dataset", name, features))
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    labels = chosen or _label_features(features, task)
    if not images:
        raise _no_image(features, labels)
    if len(images) != 1 or (not chosen and len(labels) != 1):
        raise UsageError(
            f"one column of images and one of labels are needed, and the dataset has {_listed(features)}. "
            f"Choose the labels with {option('label_column')}, and the images with dataset.select_columns([image, label])."
        )
    if not getattr(features[images[0]], "decode", True):
        raise UsageError(
            f"the images of the column {images[0]!r} are not decoded (Image(decode=False)). Decode them: dataset.cast_column({images[0]!r}, datasets.Image())."
        )
    if len(labels) > 1:
        are_classes = task == "multi-label"
        return Columns(images[0], tuple(labels), group_column, tuple(labels) if are_classes else (), are_classes=are_classes)
    kind = features[labels[0]]
    inner = getattr(getattr(kind, "feature", None), "names", None)
    names = getattr(kind, "names", None) or inner or ()
    return Columns(images[0], tuple(labels), group_column, tuple(names), are_places=inner is not None)


def _chosen(features: Mapping[str, Any], task: str | None, label_column: str | None) -> list[str]:
    """The columns that ``label_column`` names.

    Raises:
        UsageError: they are several, and the task takes one.
    """
    if label_column is None:
        return []
    names = [name.strip() for name in label_column.split(",")]
    if label_column in features or len(names) == 1:
        return [label_column]
    if task in (None, "single-label") and set(names) <= features.keys():
        raise UsageError(
            f"{option('label_column')} names {len(names)} columns. To read them as one label, write {option('task', 'multi-label')} (0 and 1 for each class) "
            f"or {option('task', 'regression')} (numbers) too."
        )
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"{option('label_column')} names the column {repeated[0]!r} twice. Name each column once.")
    return names


def _label_features(features: Mapping[str, Any], task: str | None) -> list[str]:
    """The columns that may hold the labels: those of classes or lists of classes, else those called label; of regression, those of numbers too."""
    classes = [
        name
        for name, kind in features.items()
        if "ClassLabel" in (type(kind).__name__, type(getattr(kind, "feature", None)).__name__)
    ]
    named = [each for each in ("label", "labels") if each in features]
    if task != "regression":
        return classes or named
    are_numbers = [name for name, kind in features.items() if _is_number(kind)]
    return [name for name in named if name not in classes] or list(dict.fromkeys([*classes, *are_numbers]))


def _is_number(kind: Any) -> bool:
    return str(getattr(kind, "dtype", "")).startswith(_NUMBER_TYPES)


def _is_array(kind: Any) -> bool:
    """Whether a feature holds arrays or lists of numbers."""
    if type(kind).__name__.startswith("Array"):
        return True
    inner = getattr(kind, "feature", None)
    return inner is not None and ((type(inner).__name__ == "Value" and _is_number(inner)) or _is_array(inner))


def _listed(features: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())


def _no_image(features: Mapping[str, Any], labels: list[str]) -> UsageError:
    """The error for a dataset without a column of images: how its arrays are given, or the paths of its images."""
    arrays = [name for name, kind in features.items() if _is_array(kind) and name not in labels]
    texts = [name for name, kind in features.items() if getattr(kind, "dtype", "") == "string" and name not in labels]
    if arrays:
        label = labels[0] if len(labels) == 1 else "label"
        names = f", class_names=dataset.features[{label!r}].names" if getattr(features.get(label), "names", None) else ""
        remedy = f"Give its arrays: visus.open_data(x=np.stack(dataset[{arrays[0]!r}]), y=list(dataset[{label!r}]){names})."
    elif texts:
        remedy = f"Make paths of image files images: dataset.cast_column({texts[0]!r}, datasets.Image())."
    else:
        remedy = "Give one with a column datasets.Image()."
    return UsageError(f"the dataset has no column of images: it has {_listed(features)}. {remedy}")
