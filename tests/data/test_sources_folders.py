"""Folders of images and tables as sources: what is read, what is ignored, and every message."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from visus.data.ledger import Ledger
from visus.data.reading import Reading
from visus.data.samples import Samples
from visus.data.source_folders import LAYOUTS
from visus.data.sources import read_source
from visus.errors import DataError
from visus.workbench.opening import open_data

LEFT_OUT = "left out: hidden or not an image"


def lay(root: Path, *names: str) -> Path:
    """Files of these names below the root, each with its own name as content."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return root


def read(root: Path, **options: object) -> Samples:
    return read_source(root, Ledger(), **options)  # type: ignore[arg-type]


def message(root: Path, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    return str(caught.value)


def test_class_folders_give_labels_in_natural_order_however_deep_the_files_lie(tmp_path: Path) -> None:
    lay(tmp_path, "10/a.jpg", "9/b1.JPG", "9/deep/er/c.PnG", "9/b2.webp")
    samples = read(tmp_path)
    assert samples.classes == ("9", "10")
    assert samples.names == ("9/b1.JPG", "9/b2.webp", "9/deep/er/c.PnG", "10/a.jpg")
    assert samples.labels.tolist() == [0, 0, 0, 1]
    assert samples.kind == "folder"
    assert samples.official == frozenset()
    assert samples.reader.path(3).read_text() == "10/a.jpg"


def test_hidden_system_and_other_files_are_passed_over_and_counted(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "a/1.jpg",
        "b/1.jpg",
        "a/.DS_Store",
        "b/Thumbs.db",
        "__MACOSX/a/1.jpg",
        ".ipynb_checkpoints/1.jpg",
        "b/notes.txt",
    )
    ledger = Ledger()
    samples = read_source(tmp_path, ledger)
    assert samples.names == ("a/1.jpg", "b/1.jpg")
    assert ledger.counts == {LEFT_OUT: 5}
    assert sorted(ledger.examples(LEFT_OUT)) == [
        ".ipynb_checkpoints",
        "__MACOSX",
        "a/.DS_Store",
        "b/Thumbs.db",
        "b/notes.txt",
    ]


def test_images_next_to_the_class_folders_are_counted_and_warned_of(tmp_path: Path) -> None:
    ledger = Ledger()
    samples = read_source(lay(tmp_path, "a/1.jpg", "b/1.jpg", "stray.jpg"), ledger)
    assert samples.warnings == ("1 image outside the class folders left out: no label.",)
    assert ledger.examples(LEFT_OUT) == ["stray.jpg"]


def test_a_wrapper_folder_is_followed_and_reported(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, "photos/a/1.jpg", "photos/b/1.jpg", "README.md"))
    assert samples.names == ("a/1.jpg", "b/1.jpg")
    assert samples.notes == ("the data lies in the folder 'photos', which is read.",)


def test_a_folder_without_images_is_no_class_and_is_named(tmp_path: Path) -> None:
    lay(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "c").mkdir()
    samples = read(tmp_path)
    assert samples.classes == ("a", "b")
    assert samples.warnings == ("the folder 'c' holds no images, so it is not a class.",)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_links_to_folders_are_followed_and_a_loop_ends(tmp_path: Path) -> None:
    lay(tmp_path / "data", "a/1.jpg", "b/1.jpg")
    lay(tmp_path / "else", "2.jpg")
    (tmp_path / "data/b/more").symlink_to(tmp_path / "else")
    (tmp_path / "data/a/loop").symlink_to(tmp_path / "data/a")
    assert read(tmp_path / "data").names == ("a/1.jpg", "b/1.jpg", "b/more/2.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_a_file_that_cannot_be_read_stays_in_the_table_for_the_decode_door_to_name(tmp_path: Path) -> None:
    lay(tmp_path, "a/1.jpg", "b/1.jpg")
    (tmp_path / "a/gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert read(tmp_path).names == ("a/1.jpg", "a/gone.jpg", "b/1.jpg")


def test_an_empty_folder_is_an_error_with_the_layouts(tmp_path: Path) -> None:
    assert message(tmp_path) == f"{tmp_path}: no images found. {LAYOUTS}"
    assert "train/cats/1.jpg" in LAYOUTS


def test_images_without_class_folders_are_an_error_with_the_layouts(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "1.jpg", "2.jpg")) == f"{tmp_path}: 2 images but no class folders. {LAYOUTS}"


def test_one_class_only_is_an_error(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "cats/1.jpg", "cats/2.jpg")) == (
        f"{tmp_path}: there is one class only, 'cats' with 2 samples; a classifier needs at least two classes. "
        "Add a folder, or rows, of another class."
    )


def test_a_missing_path_and_wrong_files_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "cat.jpg", "data.zip", "data.xyz")
    assert message(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: there is no such file or folder."
    assert message(tmp_path / "cat.jpg") == (
        f"{tmp_path / 'cat.jpg'}: this is a single image. Give the path of the folder with all images."
    )
    assert (
        message(tmp_path / "data.zip")
        == f"{tmp_path / 'data.zip'}: this is an archive. Unpack it, and give the path of the folder."
    )
    assert message(tmp_path / "data.xyz") == (
        f"{tmp_path / 'data.xyz'}: this is not a dataset that visus can read. {LAYOUTS}"
    )


def test_an_unlistable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", refuse)
    assert message(tmp_path) == (
        f"{tmp_path}: the folder cannot be listed (Permission denied). Change its permissions so that you can read it."
    )


def test_an_option_that_does_not_apply_to_the_source_is_refused(tmp_path: Path) -> None:
    lay(tmp_path, "a/1.jpg", "b/1.jpg")
    assert (
        message(tmp_path, delimiter="tab")
        == f"{tmp_path}: a delimiter was given, but this is not a table: it was read as folder."
    )
    assert message(tmp_path, layout="NHWC") == (
        f"{tmp_path}: a layout was given, but this is not an NPZ or NPY file: it was read as folder."
    )


# ---- split folders


def test_split_folders_are_official_whatever_their_capitals(tmp_path: Path) -> None:
    samples = read(
        lay(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "valid/a/3.jpg", "valid/b/4.jpg", "TEST/a/5.jpg", "TEST/b/6.jpg")
    )
    assert samples.kind == "split folders"
    assert samples.official == {"train", "val", "test"}
    assert dict(zip(samples.names, samples.splits.tolist(), strict=True)) == {
        "TEST/a/5.jpg": "test",
        "TEST/b/6.jpg": "test",
        "Train/a/1.jpg": "train",
        "Train/b/2.jpg": "train",
        "valid/a/3.jpg": "val",
        "valid/b/4.jpg": "val",
    }
    assert samples.warnings == ()


def test_a_class_that_training_lacks_is_an_error_with_the_closest_name(tmp_path: Path) -> None:
    lay(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "test/cats/3.jpg", "test/dog/4.jpg", "val/zebra/5.jpg")
    assert message(tmp_path) == (
        f"{tmp_path}: 2 mistakes:\n"
        "  - val has 1 sample of the class 'zebra', which train does not have. train has: cat, dog.\n"
        "  - test has 1 sample of the class 'cats', which train does not have. Did you mean 'cat'? train has: cat, dog."
    )


def test_a_class_name_typed_on_two_systems_is_one_name(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    samples = read(lay(tmp_path, f"train/{composed}/1.jpg", "train/b/2.jpg", f"test/{decomposed}/3.jpg", "test/b/4.jpg"))
    assert samples.classes == ("b", composed)


def test_a_class_missing_outside_training_is_a_warning_and_labels_do_not_shift(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "train/c/3.jpg", "test/c/4.jpg"))
    assert samples.classes == ("a", "b", "c")
    assert samples.labels[samples.indices("test")].tolist() == [2]
    assert samples.warnings == ("test has no sample of 2 classes: a, b.",)


def test_copies_across_official_splits_are_a_warning(tmp_path: Path) -> None:
    lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/a/3.jpg", "test/b/4.jpg")
    (tmp_path / "test/a/3.jpg").write_text("train/a/1.jpg")
    assert read(tmp_path).warnings == (
        "1 sample with the same bytes as a sample of another official split, so the scores on that split are too high: train/a/1.jpg.",
    )


def test_a_train_folder_alone_is_still_to_be_cut(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg"))
    assert samples.official == frozenset()
    assert set(samples.splits.tolist()) == {""}
    assert samples.notes == ("only a train part is there, so visus splits it into train, val and test.",)


def test_validation_and_test_without_training_are_an_error(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "val/a/1.jpg", "test/b/2.jpg")) == (
        f"{tmp_path}: there are val and test samples but no train samples. Add train samples, or remove the split."
    )


def test_images_without_a_class_folder_in_a_split_are_an_error(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "test/3.jpg", "test/4.jpg")) == (
        f"{tmp_path}: 2 images in 'test' without a class folder; the first is '3.jpg'. "
        "Put each into a folder named after its class, such as test/cats/3.jpg, or move them elsewhere."
    )


def test_a_folder_next_to_the_split_folders_is_reported(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "tests/a/3.jpg")) == (
        f"{tmp_path}: the folder 'tests' holds images next to the split folder 'train', but is neither a split nor a "
        "class. Did you mean 'test'? Rename it, or move it elsewhere."
    )


def test_two_folders_for_one_split_are_an_error(tmp_path: Path) -> None:
    assert message(lay(tmp_path, "train/a/1.jpg", "train/b/2.jpg", "val/a/3.jpg", "valid/a/4.jpg")) == (
        f"{tmp_path}: the folders val, valid name the same split. Keep one of them."
    )


def test_train_and_car_as_vehicles_are_classes(tmp_path: Path) -> None:
    samples = read(lay(tmp_path, "train/1.jpg", "car/2.jpg"))
    assert samples.kind == "folder"
    assert samples.classes == ("car", "train")


# ---- contents and fingerprint


def test_copies_go_on_the_ledger_and_contradictions_are_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg")
    (tmp_path / "a/2.jpg").write_text("a/1.jpg")
    (tmp_path / "b/3.jpg").write_text("a/1.jpg")
    ledger = Ledger()
    samples = read_source(tmp_path, ledger)
    assert ledger.counts == {"duplicate": 1, "conflict": 1}
    assert ledger.reasons("duplicate") == {"a/2.jpg": "same bytes as a/1.jpg"}
    assert ledger.reasons("conflict") == {"b/3.jpg": "'a' as a/1.jpg, 'b' here"}
    assert samples.contents.tolist() == [0, 0, 0]
    assert samples.warnings == ("1 sample has the same bytes as another sample but another class: b/3.jpg.",)


def test_the_fingerprint_changes_with_content_label_and_name_and_with_nothing_else(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/2.jpg", "b/3.jpg"]
    first = read(lay(tmp_path / "one", *names)).fingerprint
    assert read(lay(tmp_path / "two", *reversed(names))).fingerprint == first
    (tmp_path / "two/a/1.jpg").write_text("other")
    changed = [
        read(tmp_path / "two").fingerprint,
        read(lay(tmp_path / "three", *names, "b/4.jpg")).fingerprint,
        read(lay(tmp_path / "four", "c/1.jpg", "c/2.jpg", "b/3.jpg")).fingerprint,
    ]
    assert len({first, *changed}) == 4


def test_equal_fingerprints_mean_equal_order(tmp_path: Path) -> None:
    lay(tmp_path, "1.jpg", "2.jpg", "3.jpg")
    (tmp_path / "up.csv").write_text("path,label\n1.jpg,a\n2.jpg,b\n3.jpg,a\n")
    (tmp_path / "down.csv").write_text("path,label\n3.jpg,a\n2.jpg,b\n1.jpg,a\n")
    up, down = read(tmp_path / "up.csv"), read(tmp_path / "down.csv")
    assert up.fingerprint == down.fingerprint
    assert up.names == down.names
    assert up.labels.tolist() == down.labels.tolist()


def test_a_class_list_that_is_given_holds_and_unknown_classes_are_named(tmp_path: Path) -> None:
    lay(tmp_path, "cat/1.jpg")
    samples = read(tmp_path, classes=("ant", "cat"))
    assert samples.labels.tolist() == [1]
    assert samples.warnings == ("there is no sample of 1 class: ant.",)
    assert message(tmp_path, classes=("ant", "cats")) == (
        f"{tmp_path}: there is 1 sample of the class 'cat', which the network does not have. Did you mean 'cats'? "
        "The network has: ant, cats."
    )


# ---- tables


def table(root: Path, text: str, encoding: str = "utf-8") -> Path:
    lay(root, "1.jpg", "2.jpg", "in/3.jpg")
    (root / "labels.csv").write_bytes(text.encode(encoding))
    return root / "labels.csv"


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_table_is_read_with_any_delimiter_and_a_byte_order_mark(tmp_path: Path, mark: str) -> None:
    text = (
        mark.join(["Label", "Path"])
        + "\r\n"
        + mark.join(["a", "1.jpg"])
        + "\r\n\r\n"
        + mark.join(["b", '"in/3.jpg"'])
        + "\r\n"
    )
    samples = read(table(tmp_path, text, "utf-8-sig"))
    assert (samples.kind, samples.names, samples.classes) == ("table", ("1.jpg", "in/3.jpg"), ("a", "b"))
    assert samples.groups is None


def test_a_folder_with_one_table_is_read_by_it_and_says_so(tmp_path: Path) -> None:
    samples = read(table(tmp_path, "path,label\n1.jpg,a\nin/3.jpg,b\n").parent)
    assert samples.names == ("1.jpg", "in/3.jpg")
    assert samples.notes == (
        "the table 'labels.csv' defines the images and their classes; the names of folders are not used.",
    )


def test_a_table_names_splits_and_groups(tmp_path: Path) -> None:
    samples = read(table(tmp_path, "path,label,split,group\n1.jpg,a,train,g1\n2.jpg,b,TRAIN,g1\nin/3.jpg,b,valid,\n"))
    assert samples.splits.tolist() == ["train", "train", "val"]
    assert samples.groups == ("g1", "g1", "")
    assert samples.official == {"train", "val"}


def test_columns_that_are_not_used_are_noted(tmp_path: Path) -> None:
    assert read(table(tmp_path, "path,width,label\n1.jpg,3,a\n2.jpg,4,b\n")).notes == ("unused columns: width.",)


def test_paths_may_be_absolute_or_lead_outside(tmp_path: Path) -> None:
    lay(tmp_path, "x.jpg")
    file = table(tmp_path / "inner", f"path,label\n../x.jpg,a\n{tmp_path / 'inner/1.jpg'},b\n")
    samples = read(file)
    assert {samples.reader.path(index).resolve() for index in range(2)} == {tmp_path / "x.jpg", tmp_path / "inner/1.jpg"}


def test_a_repeated_row_is_left_out_and_counted(tmp_path: Path) -> None:
    ledger = Ledger()
    file = table(tmp_path, "path,label\n1.jpg,a\n./1.jpg,a\n2.jpg,b\n")
    assert read_source(file, ledger).names == ("1.jpg", "2.jpg")
    assert ledger.counts == {"duplicate row left out": 1}
    assert ledger.reasons("duplicate row left out") == {"./1.jpg": "row 3 repeats row 2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "path,label\n1.jpg,a\n1.jpg,b\n2.jpg,b\n",
            "rows 2 and 3 name the same file 1.jpg with two labels, 'a' and 'b'. Keep the right row.",
        ),
        (
            "path,label\n1.jpg,a\nno1.jpg,b\nno2.jpg,b\nno3.jpg,b\nno4.jpg,b\nno5.jpg,b\nno6.jpg,b\n",
            "6 rows name files that do not exist: no1.jpg (row 3), no2.jpg (row 4), no3.jpg (row 5), no4.jpg (row 6), "
            "no5.jpg (row 7) and 1 more. Paths are relative to the folder of the table. skip_missing=True skips such rows.",
        ),
        (
            "path,label\n1.jpg,a\nno.jpg,b\n",
            "1 row names a file that does not exist: no.jpg (row 3). Paths are relative to the folder of the table. "
            "skip_missing=True skips such rows.",
        ),
        (
            "path,label,split\n1.jpg,,train\n2.jpg,b,training\n,b,test\n",
            "3 mistakes:\n  - row 2: no label (where it means that no class applies: task='multi-label'). Write it, or remove the row.\n  - row 3: unknown split 'training' "
            "(known: train, val, valid, validation, test).\n  - row 4: no path. Write it, or remove the row.",
        ),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,\n", "row 3: no split although other rows have one."),
        ("path,label\n1.jpg,a,extra\n2.jpg,b\n", "row 2: 3 cells where the header has 2."),
        (
            "pth,label\n1.jpg,a\n",
            "no column 'path'. Did you mean 'path' instead of 'pth'? The header is pth,label; it needs "
            "path,label[,split][,group]. Rename a column, or choose it: path_column='pth'",
        ),
        ("path,label,path\n1.jpg,a,2.jpg\n", "the column 'path' occurs twice. Keep one."),
        (
            "path,label,split\n1.jpg,a,\n2.jpg,a,\n",
            "there is one class only, 'a' with 2 samples; a classifier needs at least two classes. Add a folder, or rows, of another class.",
        ),
        ("path,label\n", "the table has no rows below its header. Add a row for each image."),
        ("", "the table is empty. It needs the columns path,label and one row per image."),
        ('path,label\n"1.jpg,a\n', "the table cannot be parsed: unexpected end of data. Check its quotes."),
    ],
)
def test_every_mistake_in_a_table_is_reported(tmp_path: Path, text: str, expected: str) -> None:
    file = table(tmp_path, text)
    assert message(file) == f"{file}: {expected}"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("spilt", "split"), ("splits", "split"), ("plot", "split"), ("plt", "split"), ("slit", "split"), ("group_id", "group")],
)
def test_a_column_whose_name_resembles_one_that_is_read_is_a_warning(tmp_path: Path, name: str, meant: str) -> None:
    samples = read(table(tmp_path, f"path,label,{name}\n1.jpg,a,1\n2.jpg,b,2\n"))
    assert samples.warnings == (f"the column {name!r} is not read. Did you mean {meant!r}? Then rename it.",)
    assert f"unused columns: {name}." in samples.notes
    used = read(tmp_path / "labels.csv", reading=Reading(label_column=name))
    assert (used.classes, used.warnings) == (("1", "2"), ())
    assert read(tmp_path / "labels.csv", labels=name).warnings == ()


@pytest.mark.parametrize(
    ("label_column", "task", "expected"),
    [
        ("y", "regression", "the column 'y' occurs twice. Keep one."),
        ("y", None, "the column 'y' occurs twice. Keep one."),
        ("x,y", "regression", "the column 'y' occurs twice. Keep one."),
        ("x,X", "regression", "label_column names the column 'x' twice. Name each column once."),
    ],
)
def test_a_column_of_labels_that_is_there_twice_is_an_error(
    tmp_path: Path, label_column: str, task: str | None, expected: str
) -> None:
    file = table(tmp_path, "path,x,y,Y\n1.jpg,1,2,3\n2.jpg,2,3,4\n")
    assert message(file, reading=Reading(label_column=label_column, task=task)) == f"{file}: {expected}"


def test_a_lone_column_of_0_and_1_is_no_set_of_classes(tmp_path: Path) -> None:
    file = table(tmp_path, "path,worn,new\n1.jpg,1,0\n2.jpg,0,1\n")
    assert message(file, reading=Reading(label_column="worn", task="multi-label")) == (
        f"{file}: the column 'worn' has 0 and 1 alone, so it is that of one class, and multi-label needs several. Name the columns of all classes, as in "
        "label_column='worn,other'; or leave out task='multi-label' for the two classes 0 and 1."
    )
    known = read(file, classes=("0", "1", "2"), reading=Reading(label_column="worn", task="multi-label"))
    assert known.classes == ("0", "1", "2"), "for a network with these classes they are names"


def test_other_columns_of_the_same_name_keep_their_numbers(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label,note,note\n1.jpg,a,u,v\n2.jpg,b,u,w\n")
    assert read(file).notes == ("unused columns: note (column 3), note (column 4).",)
    assert read(file, labels="note (column 4)").classes == ("v", "w")
    assert message(file, labels="note") == (
        f"{file.parent}: 'note' is neither a file nor a column of this data. Known columns: note (column 3), "
        "note (column 4)."
    )


def test_a_table_in_the_current_folder_is_named_in_errors_about_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(tmp_path, "path,label\n1.jpg,\n2.jpg,\n")
    monkeypatch.chdir(tmp_path)
    said = message(Path("labels.csv"), reading=Reading(task="multi-label"))
    assert said == "labels.csv: no sample has a label. Give at least two classes."


def test_a_table_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label\n1.jpg,café\n", "latin-1")
    assert message(file) == (
        f"{file}: the table is not UTF-8: byte 0xe9 at position 20. Save it as UTF-8; Excel calls that 'CSV UTF-8'."
    )


def test_an_unknown_delimiter_is_an_error(tmp_path: Path) -> None:
    file = table(tmp_path, "path,label\n1.jpg,a\n")
    assert message(file, delimiter="pipe") == f"{file}: 'pipe' is not a delimiter. Use comma, semicolon or tab."


def test_two_tables_in_a_folder_are_reported(tmp_path: Path) -> None:
    root = table(tmp_path, "path,label\n1.jpg,a\n").parent
    (root / "more.csv").write_text("path,label\n2.jpg,b\n")
    assert message(root) == f"{root}: there are several tables: labels.csv, more.csv. Give the path of one of them."


def test_a_lone_table_with_a_wrong_header_is_reported(tmp_path: Path) -> None:
    lay(tmp_path, "1.jpg")
    (tmp_path / "labels.csv").write_text("path,lable\n1.jpg,a\n")
    assert message(tmp_path) == (
        f"{tmp_path / 'labels.csv'}: no column 'label'. Did you mean 'label' instead of 'lable'? "
        "The header is path,lable; it needs path,label[,split][,group]. Rename a column, or choose it: label_column='lable'"
    )


def test_sorted_copies_below_a_folder_are_warned_of(tmp_path: Path) -> None:
    lay(tmp_path, *(f"{folder}/{number}.jpg" for folder in ("cup", "mug", "sorted/cup") for number in range(3)))
    lay(tmp_path, "sorted/unsure/1.jpg", "cup/mug/9.jpg")
    samples = read(tmp_path)
    assert samples.classes == ("cup", "mug", "sorted")
    assert samples.warnings == (
        "the class 'sorted' has subfolders with the names of other classes (cup). If they hold sorted copies, move the folder 'sorted' out "
        "of the data.",
    )


def test_a_folder_of_sound_files_is_answered_with_the_code_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, label in enumerate(["no", "yes"] * 10):
        (tmp_path / "words" / label).mkdir(parents=True, exist_ok=True)
        wave = np.arange(50 + number, dtype=np.int16) * (number + 1)
        wavfile.write(tmp_path / "words" / label / f"{number}.wav", 8000, wave)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data(Path("words"))
    code = str(caught.value).splitlines()[1:]
    assert " ".join(str(caught.value).split()).startswith(
        "words: no images found, but sound files such as no/0.wav. visus reads signals from one NPZ file, with x (samples, channels, length) "
        "and y (labels). Python writes it, with short signals padded: import numpy as np; from pathlib import Path; from scipy.io import wavfile "
        "files = sorted(Path('words').glob('*/*.wav')); waves = "
    )
    exec("\n".join(line.strip() for line in code), {})
    data = open_data(tmp_path / "signals.npz")
    assert (data.classes, data.input_shape) == (("no", "yes"), (1, 69))


@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_class_folders_of_arrays_are_answered_with_the_code_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    for number, label in enumerate(["no", "yes"] * 10):
        (tmp_path / "words" / label).mkdir(parents=True, exist_ok=True)
        file, values = tmp_path / "words" / label / f"{number}.{suffix}", np.arange(50 + number, dtype=np.float32)
        if suffix == "npy":
            np.save(file, values)
        else:
            np.savetxt(file, values, delimiter=",")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data(Path("words"))
    sentence, *code = str(caught.value).splitlines()
    columns = ", a channel for each column" if suffix == "csv" else ""
    assert sentence == (
        f"words: no images found, but 20 {suffix.upper()} files in class folders, such as no/0.{suffix}. visus reads signals from one NPZ file, with "
        f"x (samples, channels, length) and y (labels). Python writes it, with short signals padded{columns}:"
    )
    assert " ".join(" ".join(code).split()).endswith(
        ") for file in files] length = max(each.shape[-1] for each in found) x = np.stack([np.pad(each, [(0, 0)] * (each.ndim - 1) + [(0, length - "
        "each.shape[-1])]) for each in found]) np.savez('signals.npz', x=x, y=[file.parent.name for file in files])"
    )
    exec("\n".join(line.strip() for line in code), {})
    data = open_data(tmp_path / "signals.npz")
    assert (data.classes, data.input_shape, data.noun) == (("no", "yes"), (1, 69), "signal")


def test_columns_of_csv_files_in_class_folders_become_channels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, label in enumerate(["no", "yes"] * 10):
        (tmp_path / "words" / label).mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).normal(size=(30, 2))
        np.savetxt(tmp_path / "words" / label / f"{number}.csv", values, delimiter=",")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data(Path("words"))
    exec("\n".join(line.strip() for line in str(caught.value).splitlines()[1:]), {})
    assert open_data(tmp_path / "signals.npz").input_shape == (2, 30)


def test_one_class_beside_an_empty_folder_names_the_empty_folder(tmp_path: Path) -> None:
    lay(tmp_path, "cats/1.jpg", "cats/2.jpg")
    (tmp_path / "dogs").mkdir()
    assert message(tmp_path) == (
        f"{tmp_path}: there is one class only, 'cats' with 2 samples; a classifier needs at least two classes. The folder 'dogs' holds no images, so it "
        "is not a class. Add a folder, or rows, of another class."
    )
