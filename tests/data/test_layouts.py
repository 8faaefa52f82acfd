"""Layouts of folders: every usual layout is read correctly, or is an error with the command to type."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.data.folder_layouts import CLASSIFIES, infer_layout
from visus.data.ledger import Ledger
from visus.data.reading import Reading
from visus.data.samples import Samples
from visus.data.sources import read_source
from visus.errors import DataError, UsageError

pytestmark = pytest.mark.usefixtures("typed")

SURE = "Rename them to train, val and test to be sure."


def lay(root: Path, *folders: str, num_images: int = 3) -> Path:
    """Create these files, and some images in each of these folders."""
    for name in folders:
        is_file = Path(name).suffix != ""
        for file in [name] if is_file else [f"{name}/{number}.jpg" for number in range(num_images)]:
            place = root / file
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(file)
    return root


def read(root: Path, **options: object) -> Samples:
    return read_source(root, Ledger(), **options)  # type: ignore[arg-type]


def message(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    return str(caught.value)


def counts(samples: Samples) -> dict[tuple[str, str], int]:
    """Number of samples of each class and split."""
    pairs = [(samples.classes[label], split) for label, split in zip(samples.labels, samples.splits.tolist(), strict=True)]
    return {pair: pairs.count(pair) for pair in pairs}


# ---- split folders


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("Training", "Testing"),
        ("train_data", "test_data"),
        ("trainset", "testset"),
        ("train2017", "test2017"),
        ("flowers_train", "flowers_test"),
        ("Train_Set_Folder", "Test_Set_Folder"),
        ("TrainImages", "TestImages"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("asl_train/asl_train", "asl_test/asl_test"),
        ("trainval", "testing"),
        ("Trainingsdaten", "Testdaten"),
    ],
)
def test_folders_named_as_splits_are_splits_and_a_warning_says_so(tmp_path: Path, train: str, test: str) -> None:
    samples = read(lay(tmp_path, f"{train}/cat", f"{train}/dog", f"{test}/cat", f"{test}/dog"))
    assert counts(samples) == {("cat", "train"): 3, ("dog", "train"): 3, ("cat", "test"): 3, ("dog", "test"): 3}
    one, other = sorted((test.split("/")[0], train.split("/")[0]))
    meanings = {test.split("/")[0]: "test", train.split("/")[0]: "train"}
    assert samples.warnings == (
        "folders are read as splits because of their names, not as classes: "
        f"{one!r} is {meanings[one]}, {other!r} is {meanings[other]}. {SURE}",
    )


@pytest.mark.parametrize("container", ["images/", "train/images/", ""])
def test_exact_split_names_are_read_without_a_warning(tmp_path: Path, container: str) -> None:
    if container == "train/images/":
        lay(tmp_path, *[f"{split}/images/{name}" for split in ("train", "val") for name in ("cat", "dog")])
    else:
        lay(tmp_path, *[f"{container}{split}/{name}" for split in ("TRAIN", "Validation") for name in ("cat", "dog")])
    samples = read(tmp_path)
    assert counts(samples) == {(name, split): 3 for split in ("train", "val") for name in ("cat", "dog")}
    assert samples.warnings == ()


@pytest.mark.parametrize("name", ["dev", "eval", "holdout"])
def test_a_split_that_may_be_one_of_two_is_reported(tmp_path: Path, name: str) -> None:
    assert message(lay(tmp_path, "train/cat", "train/dog", f"{name}/cat", f"{name}/dog")) == (
        f"{tmp_path}: the folder {name!r} holds images next to the split folder 'train', but is neither a split nor a class. "
        f"If {name!r} is for validation, rename it to 'val'; if for the final test, to 'test'. Rename it, or move it elsewhere."
    )


def test_images_to_predict_next_to_splits_are_left_out_and_reported(tmp_path: Path) -> None:
    ledger = Ledger()
    samples = read_source(lay(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog", "unlabeled"), ledger)
    assert samples.warnings == ("3 images in 'unlabeled' left out: the folder is not a split and has no class folders.",)
    assert ledger.counts == {"left out: an image, but no sample": 3}


def test_a_class_called_train_next_to_vehicles_stays_a_class(tmp_path: Path) -> None:
    assert read(lay(tmp_path / "flat", "train", "plane", "car")).classes == ("car", "plane", "train")
    assert "the folder 'car' holds images" in message(lay(tmp_path / "deep", "train/steam", "train/diesel", "car"))
    assert read(lay(tmp_path / "tubes", "test_tube", "flask")).classes == ("flask", "test_tube")


def test_split_folders_of_images_alone_are_no_classes(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "train_images", "test_images")) == (
        f"{tmp_path}: the folders test_images, train_images have the names of splits but no class folders, so the classes are "
        f"unknown. {CLASSIFIES}"
    )


def test_an_unlabeled_split_is_reported_wherever_its_images_are(tmp_path: Path) -> None:
    lay(tmp_path / "a", "train/cat", "train/dog", "test1")
    lay(tmp_path / "b", "train/cat/images", "train/dog/images", "val/images")
    lay(tmp_path / "c", "train", "test1")
    for name, folder in (("a", "test1"), ("b", "val/images")):
        assert message(tmp_path / name) == (
            f"{tmp_path / name}: 3 images in {folder!r} without a class folder; the first is '0.jpg'. Put each into a folder named after its "
            f"class, such as {folder}/cats/0.jpg, or move them elsewhere."
        )
    assert "have the names of splits but no class folders" in message(tmp_path / "c")


def test_a_copy_of_the_split_folders_within_the_data_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, *[f"{split}/{name}" for split in ("train", "test") for name in ("ill", "well")])
    shutil.copytree(tmp_path, tmp_path.with_name("again"))
    shutil.move(tmp_path.with_name("again"), tmp_path / "xray")
    samples = read(tmp_path)
    assert counts(samples) == {(name, split): 3 for split in ("train", "test") for name in ("ill", "well")}
    assert samples.warnings == (
        "the folder 'xray' is an exact copy of its sibling folders (test, train), so it is left out.",
    )


def test_split_folders_within_each_class_are_read_and_noted(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, "cat/train", "cat/test", "dog/Training", "dog/test"))
    assert counts(samples) == {(name, split): 3 for split in ("train", "test") for name in ("cat", "dog")}
    assert samples.notes == ("each class folder holds split folders: Training, test, train.",)


def test_several_datasets_in_one_folder_are_reported(tmp_path: Path) -> None:
    lay(
        tmp_path,
        *[f"{thing}/{part}" for thing in ("bottle", "cable") for part in ("train/good", "test/good", "test/broken")],
    )
    assert message(tmp_path) == (
        f"{tmp_path}: each of the folders bottle, cable holds split folders (test, train) with further folders, so each is a dataset of its "
        f"own. Give the path of one of them: visus check {tmp_path}/bottle"
    )


def test_data_for_anomaly_detection_is_distinguished_from_a_mistake(tmp_path: Path) -> None:
    lay(tmp_path, "train/good", "test/good", "test/broken", "ground_truth/broken")
    assert message(tmp_path) == (
        f"{tmp_path}: 2 mistakes:\n"
        "  - test has 3 samples of the class 'broken', which train does not have. train has: good.\n"
        "  - train has one class only, as in datasets for anomaly detection. To train on the classes of test, give the path of its folder."
    )


def test_a_lone_split_with_siblings_is_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, *[f"{split}/{name}" for split in ("train", "validation", "test") for name in ("cat", "dog")])
    assert read(tmp_path / "train").warnings == (
        "the splits 'test', 'validation' next to 'train' have the same classes, but are not used. "
        f"To use them, type: visus check {tmp_path}",
    )
    assert read(tmp_path / "test", classes=("cat", "dog")).warnings == ()
    assert read(tmp_path).warnings == ()


# ---- which level names the classes


def test_folders_of_the_same_names_in_all_classes_are_reported(tmp_path: Path) -> None:
    lay(tmp_path, "color/apple", "color/corn", "gray/apple", "gray/corn")
    assert message(tmp_path) == (
        f"{tmp_path}: the folders color, gray all hold folders of the same names (apple, corn), so either may be the classes.\n"
        f"  - if apple, corn are the classes: visus check {tmp_path} --class-depth 2\n"
        f"  - if color, gray are the classes: visus check {tmp_path} --class-depth 1"
    )
    deep = read(tmp_path, reading=Reading(class_depth=2))
    assert (deep.classes, deep.notes) == (
        ("apple", "corn"),
        ("the folders of level 2 name the classes (--class-depth).",),
    )
    assert read(tmp_path, reading=Reading(class_depth=1)).classes == ("color", "gray")
    assert read(tmp_path, classes=("apple", "corn")).classes == ("apple", "corn")
    assert message(tmp_path, reading=Reading(class_depth=3)) == (
        f"{tmp_path}: 'color/apple/0.jpg' lies above level 3, whose folders name the classes. "
        "Move it into one of these folders, or use another --class-depth."
    )
    with pytest.raises(UsageError) as caught:
        Reading(class_depth=0)
    assert str(caught.value) == "the class depth must be at least 1, not 0."


@pytest.mark.parametrize(
    "inner",
    [
        ("2023", "2024"),
        ("2023-05-01 garden", "2024_home"),
        ("session1", "session2"),
        ("part_1", "part_2"),
        ("images", "images2"),
    ],
)
def test_dates_and_parts_within_classes_are_ordinary_order(tmp_path: Path, inner: tuple[str, str]) -> None:
    samples = read(lay(tmp_path, *[f"{name}/{each}" for name in ("cat", "dog") for each in inner]))
    assert (samples.classes, samples.warnings) == (("cat", "dog"), ())


@pytest.mark.parametrize(
    "folders",
    [("cat", "cat/garden", "dog", "dog/home"), ("ill/patient_01", "ill/patient_02", "well/patient_03", "well/patient_04")],
)
def test_nested_folders_of_a_class_are_no_reason_to_warn(tmp_path: Path, folders: tuple[str, ...]) -> None:
    assert read(lay(tmp_path, *folders)).warnings == ()


def test_small_numbers_within_all_classes_are_warned_of(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, *[f"{name}/{number}" for name in ("cat", "dog") for number in (1, 2, 3)]))
    assert samples.warnings == (
        "the classes are cat, dog. Each holds the folders 1, 2, 3, whose images are merged. If these folders are the classes, "
        f"type: visus check {tmp_path} --class-depth 2",
    )


def test_many_folders_merged_into_few_classes_are_warned_of_once(tmp_path: Path) -> None:
    lay(tmp_path, "animal/cat", "animal/dog", "plant/rose", "plant/tulip")
    assert read(tmp_path).warnings == (
        "4 folders (cat, dog, rose, tulip) are merged into 2 classes (animal, plant). To make each folder a class, "
        f"type: visus check {tmp_path} --class-depth 2; --class-depth 1 merges them without this warning.",
    )
    assert read(tmp_path, reading=Reading(class_depth=1)).warnings == ()


def test_numbered_parts_of_one_set_are_warned_of(tmp_path: Path) -> None:
    assert read(lay(tmp_path, "images_part_1", "images_part_2")).warnings == (
        "the class names look like parts of one dataset (images_part_1, images_part_2). If they are not the classes, put the images into "
        "one folder per class, or write a table with the columns path,label.",
    )


def test_a_container_of_classes_next_to_another_folder_is_reported(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "images/cat", "images/dog", "other")) == (
        f"{tmp_path}: the folder 'images' holds folders of images (cat, dog) and has siblings (other).\n"
        f"  - if the folders in 'images' are the classes: visus check {tmp_path}/images\n"
        f"  - if 'images' is a class itself: visus check {tmp_path} --class-depth 1"
    )


def test_a_copy_of_the_dataset_within_itself_is_left_out(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog")
    shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    shutil.move(tmp_path.with_name("copy"), tmp_path / "all")
    ledger = Ledger()
    samples = read_source(tmp_path, ledger)
    assert samples.classes == ("cat", "dog")
    assert samples.warnings == ("the folder 'all' is an exact copy of its sibling folders (cat, dog), so it is left out.",)
    assert ledger.sentences()[0] == (
        "6 images were left out (all/cat/0.jpg, all/cat/1.jpg, all/cat/2.jpg, ...): a copy of the dataset within itself."
    )
    (tmp_path / "all/cat/0.jpg").write_text("another image")
    assert message(tmp_path) == (
        f"{tmp_path}: the folder 'all' holds folders with the same names as its siblings (cat, dog) but other images, so it is not a class "
        f"but another part of the data. Merge the two, or give the path of one: visus check {tmp_path}/all"
    )


@pytest.mark.parametrize("wrappers", ["archive", "archive/data", "a/b/c"])
def test_wrapping_folders_are_opened(tmp_path: Path, wrappers: str) -> None:
    samples = read(lay(tmp_path, f"{wrappers}/cat", f"{wrappers}/dog", f"{wrappers.split('/')[0]}/README.md"))
    assert samples.classes == ("cat", "dog")
    assert samples.notes == (f"the data lies in the folder {wrappers!r}, which is read.",)


def test_folders_of_a_repository_are_no_classes(tmp_path: Path) -> None:
    inner = read(lay(tmp_path / "a", "data/crack", "data/ok", "docs", "src/train.py", "README.md"))
    assert (inner.classes, inner.warnings) == (
        ("crack", "ok"),
        ("the images in 'docs' are left out: the data lies in the folder 'data'.",),
    )
    beside = lay(tmp_path / "b", "crack", "ok", "docs", "README.md")
    (beside / "LICENSE").write_text("MIT")
    assert read(beside).classes == ("crack", "ok")
    assert read(beside).warnings == ("3 images in 'docs' left out: a folder of the repository, not a class.",)
    assert read(lay(tmp_path / "c", "rock", "paper", "scissors")).warnings == ()


def test_a_single_class_folder_is_an_error_that_names_the_folder_above(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog")
    assert message(tmp_path / "cat").endswith(
        f"\n  - if this folder and its siblings (cat, dog) are the classes: visus check {tmp_path}"
    )


@pytest.mark.parametrize(
    ("images", "boxes"),
    [
        (("images/train", "images/val"), "labels/{}/{}.txt"),
        (("train/images", "valid/images"), "{}/labels/{}.txt"),
        (("JPEGImages",), "Annotations/{}{}.xml"),
    ],
)
def test_boxes_for_detection_are_reported(tmp_path: Path, images: tuple[str, ...], boxes: str) -> None:
    lay(tmp_path, *images)
    for folder in images:
        split = folder.replace("images", "").strip("/").replace("JPEGImages", "")
        for number in range(3):
            lay(tmp_path, boxes.format(split, number))
    text = message(tmp_path)
    assert "The images have annotation files with their own names, such as " in text
    assert ": boxes or outlines, as for detection." in text
    assert CLASSIFIES in text


def test_a_container_alone_names_no_class(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "train/images", "val/images")) == (
        f"{tmp_path}: all images lie in 'images', which is not the name of a class. {CLASSIFIES}"
    )


# ---- laws

NAMES = st.sampled_from(
    [
        "cat",
        "dog",
        "train",
        "test",
        "val",
        "images",
        "2023",
        "part_1",
        "Training",
        "seg_test",
        "docs",
        "a",
        "0",
        "1",
        "other",
        "n01440764",
    ]
)
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=12, unique_by=tuple)


@given(PATHS)
def test_every_image_is_used_once_or_left_out_or_the_folders_are_refused(folders: list[list[str]]) -> None:
    samples = [f"{'/'.join(parts)}/{number}.jpg" for parts in folders for number in range(2)]
    try:
        layout = infer_layout(Path("data"), samples)
    except DataError:
        return  # ambiguous: the names of the folders do not determine the layout
    assert sorted([sample for sample, _, _ in layout.rows] + list(layout.left_out)) == sorted(samples)
    assert all(label in sample.split("/")[:-1] for sample, label, _ in layout.rows)
    assert all((split != "") == (layout.kind == "split folders") for _, _, split in layout.rows)


@given(PATHS, st.randoms())
def test_the_order_of_images_does_not_matter(folders: list[list[str]], random: object) -> None:
    samples = [f"{'/'.join(parts)}/{number}.jpg" for parts in folders for number in range(2)]
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def rows(order: list[str]) -> object:
        try:
            return sorted(infer_layout(Path("data"), order).rows)
        except DataError:
            return "refused"

    assert rows(samples) == rows(shuffled)


# ---- splits under words that are not known


@pytest.mark.parametrize(
    ("train", "test"), [("trian", "test"), ("learning", "Test"), ("données", "validation"), ("set_a", "testing")]
)
def test_the_folder_next_to_a_test_set_of_the_same_classes_is_the_training_set(
    tmp_path: Path, train: str, test: str
) -> None:
    samples = read(lay(tmp_path, *[f"{top}/{label}" for top in (train, test) for label in ("cat", "dog")]))
    assert samples.classes == ("cat", "dog")
    assert set(samples.splits.tolist()) == {"train", "val" if test == "validation" else "test"}
    assert any(f"{train!r} is train" in warning for warning in samples.warnings)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("treino", "teste"),
        ("训练集", "测试集"),
        ("Trainings-Daten", "Test-Daten"),
        ("apprentissage", "validation"),
        ("addestramento", "test"),
    ],
)
def test_split_folders_in_other_languages_are_read_as_splits(tmp_path: Path, train: str, test: str) -> None:
    samples = read(lay(tmp_path, *[f"{top}/{label}" for top in (train, test) for label in ("cat", "dog")]))
    assert samples.classes == ("cat", "dog")


def test_a_level_of_classes_that_dissolves_a_split_is_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, *[f"{top}/{label}" for top in ("day1", "day2", "test") for label in ("cat", "dog")])
    assert "  - if day1, day2, test are splits: rename them to train, val and test\n" in message(tmp_path)
    samples = read(tmp_path, reading=Reading(class_depth=2))
    assert samples.warnings[0] == (
        "'test' has the name of a split, but with this --class-depth the images are mixed with the others, so scores may be too high. "
        "To keep splits, rename the folders to train, val and test."
    )
