"""Datasets of the package ``datasets`` itself, as people have them: images of several modes, splits, class names, sets, numbers, and a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import visus
from visus.errors import DataError, UsageError

datasets = pytest.importorskip("datasets", reason="the package datasets is not installed")

NAMES = ["dark", "bright"]
NETWORK = "conv(8, 3, padding=1), norm, relu, globalpool, linear(classes)"


def images(number: int, seed: int = 0) -> list[Image.Image]:
    """Images (12, 10) in RGB whose brightness tells the class: every second one is bright."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 100, (number, 12, 10, 3)) + 120 * (np.arange(number) % 2)[:, None, None, None]
    return [Image.fromarray(each.astype(np.uint8)) for each in rows]


def labeled(number: int, seed: int = 0) -> Any:
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=NAMES)})
    rows = {"picture": images(number, seed), "kind": [place % 2 for place in range(number)]}
    return datasets.Dataset.from_dict(rows, features=features)


def test_a_dataset_trains_and_predicts_with_its_class_names(tmp_path: Path, light_pages: None) -> None:
    data = visus.open_data(labeled(120), keep_in=tmp_path / "kept", progress=False)
    assert (data.classes, data.task) == (("bright", "dark"), "single-label")
    recipe = visus.Recipe(epochs=4, batch_size=16, device="cpu", learning_rate=0.01)
    run = visus.train(data, NETWORK, recipe, output=tmp_path, name="run", progress=False)
    assert run.scores.accuracy > 0.9
    assert [each.label for each in run.predict(images(4, seed=1), progress=False)] == ["dark", "bright"] * 2


def test_the_parts_of_a_dataset_dict_are_the_splits(tmp_path: Path) -> None:
    parts = datasets.DatasetDict({"train": labeled(40), "validation": labeled(10, 1), "test": labeled(20, 2)})
    data = visus.open_data(parts, keep_in=tmp_path / "kept", progress=False)
    assert [len(data.split(each)) for each in ("train", "val", "test")] == [40, 10, 20]
    first = data.split("test").rows(np.array([0]))[0].numpy()
    assert np.array_equal(first, np.asarray(images(1, 2)[0]).transpose(2, 0, 1))


def test_images_of_several_modes_and_sizes_are_read_as_files_are(tmp_path: Path) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)})
    parts = {}
    for seed, split in enumerate(("train", "test")):
        mixed = [
            each.convert("L") if place % 3 == 0 else each.resize((14, 9)) for place, each in enumerate(images(40, seed))
        ]
        rows = {"image": mixed, "label": [place % 2 for place in range(40)]}
        parts[split] = datasets.Dataset.from_dict(rows, features=features)
        for place, each in enumerate(mixed):
            folder = tmp_path / "files" / split / NAMES[place % 2]
            folder.mkdir(parents=True, exist_ok=True)
            each.save(folder / f"{place:03}.png")
    given = visus.open_data(datasets.DatasetDict(parts), keep_in=tmp_path / "kept", progress=False)
    files = visus.open_data(tmp_path / "files", cache_dir=tmp_path / "cache", progress=False)
    assert given.preprocessing.input_shape == files.preprocessing.input_shape
    rows = [each.split("test").rows(np.arange(40)).flatten(1).tolist() for each in (given, files)]
    assert sorted(rows[0]) == sorted(rows[1])


def test_a_column_of_numbers_is_a_label_of_regression(tmp_path: Path) -> None:
    given = labeled(40).add_column("age", [place / 4 for place in range(40)])
    data = visus.open_data(given, task="regression", label_column="age", keep_in=tmp_path / "kept", progress=False)
    assert sorted(data.samples.labels[:, 0]) == [place / 4 for place in range(40)]


def test_a_column_of_lists_of_class_labels_is_sets(tmp_path: Path) -> None:
    kinds = datasets.Sequence(datasets.ClassLabel(names=["cat", "cow", "dog"]))
    features = datasets.Features({"image": datasets.Image(), "kinds": kinds})
    sets = [[], [0], [1, 2], [0, 1, 2], [1]] * 8
    given = datasets.Dataset.from_dict({"image": images(40), "kinds": sets}, features=features)
    data = visus.open_data(given, keep_in=tmp_path / "kept", progress=False)
    assert (data.task, data.classes) == ("multi-label", ("cat", "cow", "dog"))
    assert data.samples.labels.sum(0).tolist() == [16.0, 24.0, 16.0]


def test_a_class_of_the_features_without_a_sample_is_warned_of(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["dark", "bright", "gray"])
    data = visus.open_data(labeled(20).cast_column("kind", kind), keep_in=tmp_path / "kept", progress=False)
    assert data.warnings == ("classes without a sample, which the class list leaves out: gray.",)


def measured(number: int = 40) -> Any:
    """Images with columns of numbers, of 0 and 1, and of groups."""
    given = labeled(number).add_column("age", [place / 4 for place in range(number)])
    given = given.add_column("Weight", [float(place) for place in range(number)])
    given = given.add_column("is_dark", [place % 2 == 0 for place in range(number)])
    return given.add_column("is_odd", [place % 2 for place in range(number)]).add_column(
        "patient", [place // 4 for place in range(number)]
    )


@pytest.mark.parametrize("form", [None, "numpy"], ids=["images", "arrays"])
def test_targets_are_called_as_their_columns(form: str | None, tmp_path: Path) -> None:
    given = measured().with_format(form)

    def opened(label_column: Any) -> visus.Data:
        return visus.open_data(
            given, task="regression", label_column=label_column, keep_in=tmp_path / "kept", progress=False
        )

    assert opened("age").classes == ("age",)
    for several in ("age,Weight", ["age", "Weight"]):
        data = opened(several)
        assert data.classes == ("age", "Weight")
        assert sorted(map(tuple, data.samples.labels.tolist())) == [(place / 4, place) for place in range(40)]


def test_a_target_may_be_called_as_a_column_of_the_kept_table(tmp_path: Path) -> None:
    given = measured().rename_columns({"age": "split", "Weight": "a,b"})
    data = visus.open_data(given, task="regression", label_column="split", keep_in=tmp_path / "kept", progress=False)
    assert data.classes == ("target split",)
    data = visus.open_data(given, task="regression", label_column="a,b", keep_in=tmp_path / "kept", progress=False)
    assert data.classes == ("a b",)


@pytest.mark.parametrize("form", [None, "numpy"], ids=["images", "arrays"])
def test_columns_of_0_and_1_are_sets_of_classes(form: str | None, tmp_path: Path) -> None:
    given = measured().with_format(form)
    data = visus.open_data(
        given, task="multi-label", label_column=["is_odd", "is_dark"], keep_in=tmp_path / "kept", progress=False
    )
    assert (data.task, data.classes) == ("multi-label", ("is_dark", "is_odd"))
    assert data.samples.labels.tolist() == [[1, 0], [0, 1]] * 20


@pytest.mark.parametrize("form", [None, "numpy"], ids=["images", "arrays"])
def test_groups_are_a_column_whose_groups_stay_together(form: str | None, tmp_path: Path) -> None:
    given = measured().with_format(form)
    data = visus.open_data(given, label_column="kind", groups="patient", keep_in=tmp_path / "kept", progress=False)
    assert set(data.samples.groups or ()) == {str(place) for place in range(10)}
    assert {len(data.split(each)) % 4 for each in ("train", "val", "test")} == {0}


def changed(column: str, value: Any, place: int = 4) -> Any:
    """The measured images with another value in one row."""
    given = measured(10)
    values = [value if row == place else each for row, each in enumerate(given[column])]
    features = given.features.copy()
    if isinstance(value, dict) or column != "picture":
        features[column] = given.features[column]
    return datasets.Dataset.from_dict(
        {name: values if name == column else list(given[name]) for name in features}, features=features
    )


def arrays(feature: Any, values: Any) -> Any:
    features = datasets.Features({"signal": feature, "kind": datasets.ClassLabel(names=NAMES)})
    return datasets.Dataset.from_dict(
        {"signal": values, "kind": [place % 2 for place in range(len(values))]}, features=features
    )


def unlabeled_test(value: int | None) -> Any:
    parts = {"train": labeled(10), "test": labeled(4)}
    rows = {"picture": images(4), "kind": [value] * 4}
    parts["test"] = datasets.Dataset.from_dict(rows, features=parts["test"].features)
    return datasets.DatasetDict(parts)


WITH_WHOLE_PART = "If the whole part has no labels, as test sets of competitions, leave the part out."
NO_IMAGES = "the dataset has no column of images: it has signal ({}), kind (ClassLabel). Give its arrays: "
ARRAYS = (
    "visus.open_data(x=np.stack(dataset['signal']), y=list(dataset['kind']), class_names=dataset.features['kind'].names)."
)
BAD: list[tuple[str, Callable[[], Any], dict[str, Any], str]] = [
    (
        "a stream",
        lambda: labeled(4).to_iterable_dataset(),
        {},
        "this is a streaming dataset, which has no length. Load it without streaming: datasets.load_dataset(name), without streaming=True.",
    ),
    (
        "streams",
        lambda: {"train": labeled(4).to_iterable_dataset()},
        {},
        "this is a streaming dataset, which has no length. Load it without streaming: datasets.load_dataset(name), without streaming=True.",
    ),
    (
        "arrays",
        lambda: arrays(datasets.Array2D((2, 2), "float32"), np.zeros((2, 2, 2)).tolist()),
        {},
        NO_IMAGES.format("Array2D") + ARRAYS,
    ),
    (
        "lists",
        lambda: arrays(datasets.Sequence(datasets.Value("float32")), [[1.0], [2.0]]),
        {},
        NO_IMAGES.format("List") + ARRAYS,
    ),
    (
        "lists of lists",
        lambda: arrays(datasets.Sequence(datasets.Sequence(datasets.Value("float32"))), [[[1.0]], [[2.0]]]),
        {},
        NO_IMAGES.format("List") + ARRAYS,
    ),
    (
        "paths",
        lambda: datasets.Dataset.from_dict({"file": ["1.png"], "label": [0]}),
        {},
        "the dataset has no column of images: it has file (Value), label (Value). Make paths of image files images: "
        "dataset.cast_column('file', datasets.Image()).",
    ),
    (
        "labels alone",
        lambda: datasets.Dataset.from_dict({"label": [0]}),
        {},
        "the dataset has no column of images: it has label (Value). Give one with a column datasets.Image().",
    ),
    (
        "images that are not decoded",
        lambda: labeled(4).cast_column("picture", datasets.Image(decode=False)),
        {},
        "the images of the column 'picture' are not decoded (Image(decode=False)). Decode them: dataset.cast_column('picture', datasets.Image()).",
    ),
    (
        "a missing image",
        lambda: changed("picture", None),
        {},
        "row 4 of the dataset has no image: 'picture' is None. Leave such rows out: dataset.filter(lambda row: row['picture'] is not None).",
    ),
    (
        "a damaged image",
        lambda: changed("picture", {"bytes": b"II*\0", "path": None}),
        {},
        "row 4 of the dataset cannot be read (it is no image file). Leave it out.",
    ),
    (
        "a transform",
        lambda: labeled(4).with_transform(lambda rows: {"pixels": rows["picture"], "kind": rows["kind"]}),
        {},
        "row 0 of the dataset has no 'picture', which the features of the dataset name; it has pixels, kind. A transform or a format changes its rows. "
        "Remove it: dataset.with_format(None).",
    ),
    (
        "a missing label",
        lambda: changed("kind", None),
        {},
        "row 4 of the dataset has no label: 'kind' is None. Leave such rows out: dataset.filter(lambda row: row['kind'] is not None).",
    ),
    (
        "a label of -1",
        lambda: changed("kind", -1).with_format("torch"),
        {},
        "row 4 of the dataset has no label: 'kind' is -1. Leave such rows out: dataset.filter(lambda row: row['kind'] != -1).",
    ),
    (
        "a part of labels of -1",
        lambda: unlabeled_test(-1),
        {},
        "row 0 of the part 'test' has no label: 'kind' is -1. Leave such rows out: dataset['test'].filter(lambda row: row['kind'] != -1). "
        + WITH_WHOLE_PART,
    ),
    (
        "a part without labels",
        lambda: unlabeled_test(None),
        {},
        "row 0 of the part 'test' has no label: 'kind' is None. Leave such rows out: dataset['test'].filter(lambda row: row['kind'] is not None). "
        + WITH_WHOLE_PART,
    ),
    (
        "a number that is NaN",
        lambda: changed("age", float("nan")),
        {"task": "regression", "label_column": "age,Weight"},
        "row 4 of the dataset has no finite number: 'age' is nan. Leave such rows out: dataset.filter(lambda row: np.isfinite(row['age'])).",
    ),
    (
        "a missing number",
        lambda: changed("age", None),
        {"task": "regression", "label_column": "age"},
        "row 4 of the dataset has no label: 'age' is None. Leave such rows out: dataset.filter(lambda row: row['age'] is not None).",
    ),
    (
        "one class",
        lambda: labeled(10).filter(lambda row: row["kind"] == 0),
        {},
        "there is one class only, 'dark' with 5 samples; a classifier needs at least two classes. Add a folder, or rows, of another class.",
    ),
    (
        "a class that the training set does not have",
        lambda: {"train": labeled(10).filter(lambda row: row["kind"] == 0), "test": labeled(10)},
        {},
        "test has 5 samples of the class 'bright', which train does not have. train has: dark.",
    ),
    (
        "several columns for one class",
        measured,
        {"label_column": "is_dark,is_odd"},
        "label_column names 2 columns. To read them as one label, write task='multi-label' (0 and 1 for each class) or task='regression' (numbers) too.",
    ),
    (
        "a column twice",
        measured,
        {"label_column": "age,age", "task": "regression"},
        "label_column names the column 'age' twice. Name each column once.",
    ),
    (
        "an unknown column of several",
        measured,
        {"label_column": "age,wait", "task": "regression"},
        "unknown column of the dataset 'wait'. Did you mean 'Weight'? Known: Weight, age, is_dark, is_odd, kind, patient, picture.",
    ),
    (
        "a number in a column of a class",
        measured,
        {"label_column": "is_dark,age", "task": "multi-label"},
        "row 1 of the dataset has 0.25 in the column 'age', and a column of a class holds 0 or 1.",
    ),
    (
        "an unknown column of groups",
        measured,
        {"label_column": "kind", "groups": "patients"},
        "unknown column of the dataset 'patients'. Did you mean 'patient'? Known: Weight, age, is_dark, is_odd, kind, patient, picture.",
    ),
    (
        "groups that are no groups",
        measured,
        {"label_column": "kind", "groups": "age"},
        "the group of row 1 of the dataset is 0.25. A group is a whole number or a text.",
    ),
    (
        "values of groups",
        measured,
        {"label_column": "kind", "groups": [0] * 40},
        "groups goes with x and y. Of a dataset of Hugging Face, it is the name of a column, such as groups='patient'; a table has its groups in the column "
        "group.",
    ),
    (
        "class names",
        measured,
        {"label_column": "kind", "class_names": NAMES},
        "class_names goes with x and y. A dataset has its class names as dataset.classes (Hugging Face: as ClassLabel), or returns them as labels.",
    ),
]


@pytest.mark.parametrize(("make", "options", "message"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
def test_what_cannot_be_used_is_named_with_what_to_do(
    make: Callable[[], Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises((DataError, UsageError)) as caught:
        visus.open_data(make(), keep_in=tmp_path / "kept", progress=False, **options)
    assert str(caught.value) == message
    assert not any((tmp_path / "kept").glob("*")), "nothing is left behind"


def test_the_code_that_messages_name_helps(tmp_path: Path) -> None:
    dataset = arrays(datasets.Sequence(datasets.Value("float32")), [[float(place), 2.0] for place in range(20)])
    x, y, names = np.stack(dataset["signal"]), list(dataset["kind"]), dataset.features["kind"].names
    data = visus.open_data(x=x, y=y, class_names=names, keep_in=tmp_path / "kept", progress=False)
    assert data.classes == tuple(NAMES)
    dataset = changed("age", float("nan")).filter(lambda row: np.isfinite(row["age"]))
    assert (
        visus.open_data(
            dataset, label_column="age", task="regression", keep_in=tmp_path / "kept", progress=False
        ).num_samples
        == 9
    )
    dataset = labeled(10).with_transform(lambda rows: {"kind": rows["kind"]}).with_format(None)
    assert visus.open_data(dataset, keep_in=tmp_path / "kept", progress=False).num_samples == 10


RECIPE = visus.Recipe(epochs=1, batch_size=16, precision="float32", device="cpu")


@pytest.mark.usefixtures("light_pages")
@pytest.mark.long
def test_a_run_is_scored_on_a_dataset_as_on_its_samples(tmp_path: Path) -> None:
    data = visus.open_data(labeled(60), keep_in=tmp_path / "kept", progress=False)
    runs = [visus.train(data, NETWORK, RECIPE, output=tmp_path, name=name, progress=False) for name in ("one", "two")]
    run = runs[0]
    other = labeled(30, 7)
    expected = run.evaluate((np.stack(other["picture"]), [NAMES[place] for place in other["kind"]]), progress=False)
    swapped = other.map(
        lambda row: {"kind": 1 - row["kind"]},
        features=datasets.Features({**other.features, "kind": datasets.ClassLabel(names=NAMES[::-1])}),
    )
    pairs = [(row["picture"], run.classes.index(NAMES[row["kind"]])) for row in other]
    for given in (other, swapped, pairs):
        scores = run.evaluate(given, progress=False)
        assert (scores.confusion, scores.split) == (expected.confusion, "all")
    assert (
        run.evaluate(datasets.DatasetDict({"train": labeled(20), "test": other}), progress=False).confusion
        == expected.confusion
    )
    assert visus.compare(*runs, data=other, progress=False).pairs[0].answers.num_samples == 30
    with pytest.raises(UsageError, match="this is a streaming dataset"):
        run.evaluate(other.to_iterable_dataset(), progress=False)
    with pytest.raises(DataError) as caught:
        run.evaluate(other.cast_column("kind", datasets.ClassLabel(names=["dark", "gray"])), progress=False)
    assert (
        str(caught.value)
        == "there are 15 samples of the class 'gray', which the network does not have. The network has: bright, dark."
    )
    remedy = (
        "Of a dataset, give the samples without their labels: [sample for sample, _ in dataset], or dataset['image'] of Hugging Face. "
        "run.evaluate(dataset) scores it."
    )
    for files, found in ((other, "number 1 is a dict"), (pairs, "number 1 is a tuple"), (Pairs(), "not a Pairs")):
        with pytest.raises(UsageError) as caught_usage:
            list(run.predict(files, progress=False))
        assert str(caught_usage.value) == f"files are paths, arrays or images of Pillow, and {found}. {remedy}"
    assert len(list(run.predict(other["picture"], progress=False))) == 30
    with pytest.raises(
        UsageError, match=r"not a Dataset\. .* For a dataset of PyTorch or Hugging Face: visus\.open_data\(dataset\)\."
    ):
        visus.check(other)


class Pairs:
    """A dataset that cannot be iterated."""

    __iter__ = None

    def __len__(self) -> int:
        return 1

    def __getitem__(self, place: int) -> Any:
        return np.zeros((3, 12, 10)), 0


@pytest.mark.usefixtures("light_pages")
def test_the_targets_of_a_run_are_the_columns_of_a_dataset(tmp_path: Path) -> None:
    given = measured()
    data = visus.open_data(given, task="regression", label_column="age,Weight", keep_in=tmp_path / "kept", progress=False)
    run = visus.train(data, NETWORK, RECIPE, output=tmp_path, name="run", progress=False)
    assert run.classes == ("age", "Weight")
    assert run.evaluate(given, progress=False).to_json() == run.evaluate(progress=False).to_json()
    chosen = run.open_data(given, label_column=["Weight", "age"], progress=False)
    assert chosen.samples.labels[5].tolist() == [1.25, 5.0], "targets are found by their names"
    with pytest.raises(DataError) as caught:
        run.open_data(given.rename_column("age", "years"), label_column=["Weight", "years"], progress=False)
    assert str(caught.value).endswith(
        "the network predicts age, Weight, and the labels are Weight, years. Name one column of labels for each target."
    )
    renamed = given.rename_columns({"age": "years", "Weight": "mass"})
    again = run.open_data(renamed, label_column=["years", "mass"], progress=False)
    assert again.samples.labels[5].tolist() == [1.25, 5.0], "no name is known, so the order counts"
