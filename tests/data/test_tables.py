"""Tables next to images: used, compared with the folders, or reported, in any format, encoding and header."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.folder_layouts import CLASSIFIES
from visus.data.ledger import Ledger
from visus.data.reading import Reading
from visus.data.samples import Samples
from visus.data.sources import read_source
from visus.data.table_text import rows_of
from visus.errors import DataError

from .test_layouts import lay, message, read

pytestmark = pytest.mark.usefixtures("typed")

UTF_8 = "Save it as UTF-8; Excel calls that 'CSV UTF-8'."
YEARS = [f"{year}/{number}.jpg" for year in (2023, 2024) for number in range(3)]
BIRDS = [("duck", "gull")[number % 2] for number in range(6)]


def table(rows: Iterable[Iterable[object]], header: str, mark: str = ",") -> str:
    lines = [header, *(mark.join(map(str, row)) for row in rows)]
    return "".join(f"{line}\r\n" for line in lines)


def years(root: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    """Photos in folders by year, next to a table with their classes."""
    lay(root, "2023", "2024")
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def labels(samples: Samples) -> dict[str, str]:
    return {sample: samples.classes[label] for sample, label in zip(samples.names, samples.labels, strict=True)}


BY_FOLDERS = "  - to train by the names of the folders (2023, 2024): visus check {root} --labels folders"


# ---- a table that is not used


@pytest.mark.parametrize("heads", ["path,labels", "filename,label", "Image Name,dx", "file_name,species", "FilePath,Class"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_a_table_with_other_heads_is_reported_and_what_to_type_works(tmp_path: Path, heads: str, mark: str) -> None:
    root = years(tmp_path, table(zip(YEARS, BIRDS, strict=True), heads.replace(",", mark), mark))
    path, label = heads.split(",")
    quoted = f"'{path}'" if " " in path else path
    assert message(root) == (
        f"{root}: the table 'labels.csv' names images that lie here (6 rows), but is not used: its columns are {heads.replace(',', mark)}.\n"
        f"  - to train by the table: visus check {root}/labels.csv --path-column {quoted} --label-column {label}\n"
        + BY_FOLDERS.format(root=root)
    )
    assert labels(read(root / "labels.csv", reading=Reading(path, label))) == dict(zip(YEARS, BIRDS, strict=True))
    assert read(root, labels="folders").classes == ("2023", "2024")


@pytest.mark.parametrize("heads", ["path;label", "Name;Vogel"])
@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman", "utf-16", "utf-16-le"])
def test_a_table_in_another_encoding_is_never_passed_over(tmp_path: Path, encoding: str, heads: str) -> None:
    data = table([(sample, ("M\u00f6we", "Ente")[n % 2]) for n, sample in enumerate(YEARS)], heads, ";").encode(encoding)
    root = years(tmp_path, data)
    letter = "\u00f6".encode(encoding)
    problem = (
        "the table is UTF-16, as Excel's 'Unicode Text' is. Save it as UTF-8; Excel calls that 'CSV UTF-8'."
        if encoding.startswith("utf-16")
        else f"the table is not UTF-8: byte 0x{letter.hex()} at position {data.index(letter)}. {UTF_8}"
    )
    question = "the table 'labels.csv' names images that lie here (6 rows), but is not used: "
    assert message(root) == (
        f"{root / 'labels.csv'}: {problem}"
        if heads == "path;label"
        else f"{root}: {question}{problem}\n{BY_FOLDERS.format(root=root)}"
    )


@pytest.mark.parametrize(
    "above", ["sep=;\r\n", "# my birds\r\n", "\r\n", "My birds;\r\n", "\ufeff", "sep=;\r\n# birds\r\n\r\n"]
)
def test_lines_above_the_header_are_passed_over(tmp_path: Path, above: str) -> None:
    root = years(tmp_path, above + table(zip(YEARS, BIRDS, strict=True), " Path ; LABEL ;;", ";"))
    assert labels(read(root)) == dict(zip(YEARS, BIRDS, strict=True))


def test_a_title_above_other_heads_is_no_header(tmp_path: Path) -> None:
    root = years(tmp_path, "My birds;\r\n" + table(zip(YEARS, BIRDS, strict=True), "Datei;Vogel", ";"))
    assert "its columns are Datei;Vogel.\n" in message(root)
    assert f"visus check {root}/labels.csv --path-column Datei --label-column Vogel\n" in message(root)


def test_a_table_that_agrees_with_the_folders_is_no_reason_to_ask(tmp_path: Path) -> None:
    lay(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog")
    rows = [
        (kind == "cat", f"{split}\\{kind}\\{n}.jpg", kind)
        for split in ("train", "val")
        for kind in ("cat", "dog")
        for n in range(3)
    ]
    (tmp_path / "birds.csv").write_text(table(rows, "class id,filepaths,labels"))
    samples = read(tmp_path)
    assert samples.notes == ("the table 'birds.csv' is not needed: it names the same classes as the folders.",)
    assert samples.warnings == ()


def test_a_table_about_other_things_is_a_warning_with_its_first_line(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog")
    (tmp_path / "sizes.csv").write_text("name,height\nrex,30\n")
    assert read(tmp_path).warnings == (
        "the table 'sizes.csv' is not used: no row names an image here. Its first line: name,height",
    )


def test_measures_of_images_are_no_labels(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog", num_images=12)
    rows = [(f"{kind}/{n}.jpg", 100 + n, 7.5 * n) for kind in ("cat", "dog") for n in range(12)]
    (tmp_path / "sizes.csv").write_text(table(rows, "file,width,sharpness"))
    assert read(tmp_path).warnings == (
        "the table 'sizes.csv' is not used: it names no class. Its first line: file,width,sharpness",
    )


def test_other_files_of_people_and_programs_are_no_tables(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog")
    (tmp_path / "README.txt").write_text("cats and dogs\nby me\n")
    (tmp_path / "requirements.txt").write_text("numpy\ntorch\n")
    (tmp_path / "classes.json").write_text('{"0": "cat", "1": "dog"}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "settings.xml").write_text("<a><b c='d'/></a>")
    assert read(tmp_path).warnings == ()


def test_a_table_between_wrappers_and_one_above_are_found(tmp_path: Path) -> None:
    lay(tmp_path, "set/images", num_images=6)
    text = table([(f"{number}.jpg", number % 2) for number in range(6)], "image_id,dx")
    (tmp_path / "labels.csv").write_text(text)
    expected = f"the table 'labels.csv' names images that lie here (6 rows), but is not used: its columns are image_id,dx.\n  - to train by the table: visus check {tmp_path}/labels.csv --path-column image_id --label-column dx"
    assert message(tmp_path) == f"{tmp_path}: {expected}"
    assert message(tmp_path / "set").endswith(f"One level up, {expected}")


def test_ids_without_endings_in_several_folders_are_found(tmp_path: Path) -> None:
    lay(tmp_path, *[f"part_{number % 2}/ISIC_{number:04}.jpg" for number in range(8)])
    (tmp_path / "metadata.csv").write_text(
        table([(f"ISIC_{n:04}", ("nv", "mel")[n // 4], 30 + n) for n in range(8)], "image_id,dx,age")
    )
    assert "--path-column image_id --label-column dx\n" in message(tmp_path)
    samples = read(tmp_path / "metadata.csv", reading=Reading("image_id", "dx"))
    assert samples.notes == (
        "8 paths of the table written without ending: 'ISIC_0000' is read as 'part_0/ISIC_0000.jpg'.",
        "unused columns: age.",
    )


def test_the_split_in_the_name_of_a_table_says_which_folder_is_meant(tmp_path: Path) -> None:
    lay(tmp_path, "train_images", "test_images")
    (tmp_path / "train.csv").write_text(table([(f"{n}.jpg", n % 2) for n in range(3)], "path,label"))
    (tmp_path / "all.csv").write_text(table([(f"{n}.jpg", n % 2) for n in range(3)], "path,label"))
    assert read(tmp_path / "train.csv").names == tuple(f"train_images/{n}.jpg" for n in range(3))
    assert message(tmp_path / "all.csv") == (
        f"{tmp_path / 'all.csv'}: 3 rows match several files: 0.jpg (row 2) may be test_images/0.jpg, train_images/0.jpg. "
        "Write the path relative to the folder of the table."
    )


# ---- other formats


def label_studio(samples: list[str]) -> str:
    return json.dumps(
        [
            {
                "id": n,
                "data": {"image": f"/data/upload/1/{sample}"},
                "annotations": [{"result": [{"value": {"choices": [BIRDS[n]]}}]}],
            }
            for n, sample in enumerate(samples)
        ]
    )


@pytest.mark.parametrize(
    ("name", "text", "path", "label"),
    [
        (
            "metadata.jsonl",
            "".join(
                json.dumps({"file_name": sample, "label": bird}) + "\n" for sample, bird in zip(YEARS, BIRDS, strict=True)
            ),
            "file_name",
            "label",
        ),
        ("export.json", label_studio(YEARS), "data.image", "annotations.0.result.0.value.choices.0"),
        (
            "export-min.json",
            json.dumps([{"image": sample, "choice": bird} for sample, bird in zip(YEARS, BIRDS, strict=True)]),
            "image",
            "choice",
        ),
        (
            "annotations.xml",
            "<?xml version='1.0' encoding='utf-8'?><annotations><version>1.1</version><meta><a/></meta>"
            + "".join(f"<image id='{n}' name='{sample}'><tag label='{BIRDS[n]}'/></image>" for n, sample in enumerate(YEARS))
            + "</annotations>",
            "name",
            "tag.label",
        ),
    ],
)
def test_records_of_annotation_tools_are_reported_and_what_to_type_works(
    tmp_path: Path, name: str, text: str, path: str, label: str
) -> None:
    root = years(tmp_path, text, name)
    assert f"  - to train by the table: visus check {root}/{name} --path-column {path} --label-column {label}\n" in message(
        root
    )
    assert sorted(labels(read(root / name, reading=Reading(path, label))).values()) == sorted(BIRDS)


def test_one_column_for_each_class_is_reported(tmp_path: Path) -> None:
    lay(tmp_path, "train", "valid")
    for split in ("train", "valid"):
        (tmp_path / split / "_classes.csv").write_text(
            table([(f"{n}.jpg", n % 2, 1 - n % 2) for n in range(3)], "filename, cat, dog")
        )
    assert message(tmp_path) == (
        f"{tmp_path}: the table '_classes.csv' names images that lie here (3 rows), but is not used: the columns cat, dog are one-hot labels, one "
        "column per class. Write one column label with the class names, or export the dataset as class folders (Roboflow: 'Folder "
        "Structure')."
    )


def test_boxes_in_json_are_reported(tmp_path: Path) -> None:
    lay(tmp_path, "train")
    coco = {
        "images": [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)],
        "annotations": [{"id": n, "image_id": n % 3, "bbox": [0, 0, 1, 1]} for n in range(9)],
    }
    (tmp_path / "train/_annotations.coco.json").write_text(json.dumps(coco))
    assert message(tmp_path).endswith(
        f"'_annotations.coco.json' names the images, but no class for each: boxes or outlines, as for detection. {CLASSIFIES}"
    )


def workbook(file: Path, *texts: str) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", f"<sst>{''.join(f'<si><t>{text}</t></si>' for text in texts)}</sst>")


def test_workbooks_are_an_error_that_asks_for_csv(tmp_path: Path) -> None:
    lay(tmp_path, "2023", "2024")
    workbook(tmp_path / "labels.xlsx", "File", "Bird", *YEARS)
    how = "Save it as 'CSV UTF-8' with the columns path,label, and give that file."
    assert message(tmp_path) == (
        f"{tmp_path}: the table 'labels.xlsx' names images that lie here (6 rows), but is not used: visus does not read workbooks. {how}\n"
        + BY_FOLDERS.format(root=tmp_path)
    )
    assert message(tmp_path / "labels.xlsx") == (
        f"{tmp_path / 'labels.xlsx'}: visus does not read workbooks. Save the sheet as 'CSV UTF-8' with the columns path,label, "
        "and give that file."
    )
    workbook(tmp_path / "labels.xlsx", "Film", "Price")
    assert read(tmp_path).warnings == (
        "the table 'labels.xlsx' is not used: no row names an image here. Its first line: Film, Price",
    )


def test_a_list_of_files_that_is_no_csv_is_reported(tmp_path: Path) -> None:
    root = years(tmp_path, "".join(f"{sample} {n % 2}\n" for n, sample in enumerate(YEARS)), "train.txt")
    assert message(root).startswith(
        f"{root}: the table 'train.txt' names images that lie here (6 rows), but is not used: it is not a CSV file. Its first line is '2023/0.jpg 0'. "
        "Save it as CSV with the columns path,label, and give that file."
    )


def test_a_table_without_a_header_is_reported(tmp_path: Path) -> None:
    root = years(tmp_path, "".join(f"{sample},{bird}\n" for sample, bird in zip(YEARS, BIRDS, strict=True)))
    assert message(root).startswith(
        f"{root}: the table 'labels.csv' names images that lie here (6 rows), but is not used: it has no header: its first line is "
        "'2023/0.jpg,duck'. Write the line path,label above it, with a name for each column."
    )
    assert message(root / "labels.csv") == (
        f"{root / 'labels.csv'}: the first row, 2023/0.jpg,duck, names a file: the table has no header. "
        "Write one above it, such as path,label."
    )


# ---- columns and rows


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (
            Reading("pat", None),
            "there is no column 'pat' (--path-column). Did you mean 'path'? The columns are path,label,bird.",
        ),
        (
            Reading(None, "brid"),
            "there is no column 'brid' (--label-column). Did you mean 'bird'? The columns are path,label,bird.",
        ),
    ],
)
def test_a_column_that_is_not_there_is_reported(tmp_path: Path, reading: Reading, expected: str) -> None:
    root = years(tmp_path, table(zip(YEARS, BIRDS, BIRDS, strict=True), "path,label,bird"))
    assert message(root / "labels.csv", reading=reading) == f"{root / 'labels.csv'}: {expected}"


def test_a_column_may_stand_for_label_though_one_of_that_name_is_there(tmp_path: Path) -> None:
    root = years(
        tmp_path, table([(sample, "x", bird) for sample, bird in zip(YEARS, BIRDS, strict=True)], "path,label,Bird")
    )
    samples = read(root, reading=Reading(label_column="bird"))
    assert labels(samples) == dict(zip(YEARS, BIRDS, strict=True))
    assert "unused columns: label (as written)." in samples.notes


def test_a_header_without_the_needed_columns_names_what_to_type(tmp_path: Path) -> None:
    root = years(
        tmp_path,
        table([(n, sample, bird) for n, (sample, bird) in enumerate(zip(YEARS, BIRDS, strict=True))], "id,image,choice"),
    )
    assert message(root / "labels.csv") == (
        f"{root / 'labels.csv'}: 2 mistakes:\n"
        "  - no column 'path'. The header is id,image,choice; it needs path,label[,split][,group]. Rename a column, or choose it: --path-column image\n"
        "  - no column 'label'. The header is id,image,choice; it needs path,label[,split][,group]. Rename a column, or choose it: --label-column choice"
    )


@pytest.mark.parametrize(
    ("header", "reading", "expected"),
    [
        (
            "path,label",
            Reading(path_column="label"),
            "the column 'label' is chosen as the path, so none is left for the label. The header is path,label. Choose another column, as in "
            "--path-column path",
        ),
        (
            "fname,labels",
            Reading(path_column="fname"),
            "no column 'label'. Did you mean 'label' instead of 'labels'? The header is fname,labels; it needs path,label[,split][,group]. "
            "Rename a column, or choose it: --label-column labels",
        ),
    ],
)
def test_messages_about_a_header_name_that_of_the_file(tmp_path: Path, header: str, reading: Reading, expected: str) -> None:
    root = years(tmp_path, table(zip(YEARS, BIRDS, strict=True), header))
    assert message(root / "labels.csv", reading=reading) == f"{root / 'labels.csv'}: {expected}"


def test_several_label_columns_without_a_task_name_the_tasks(tmp_path: Path) -> None:
    root = years(tmp_path, table([(sample, 1, 0) for sample in YEARS], "path,shoe,warm"))
    assert message(root / "labels.csv", reading=Reading(label_column="shoe,warm")) == (
        f"{root / 'labels.csv'}: there is no column 'shoe,warm' (--label-column). To read these columns as one label, write --task multi-label "
        "(0 and 1 for each class) or --task regression (numbers) too. The columns are path,shoe,warm."
    )


def test_a_column_of_another_library_that_names_the_split_has_a_hint(tmp_path: Path) -> None:
    rows = [(sample, bird, place % 2 == 0) for place, (sample, bird) in enumerate(zip(YEARS, BIRDS, strict=True))]
    root = years(tmp_path, table(rows, "path,label,is_valid"))
    assert (
        "unused columns: is_valid. visus does not read 'is_valid' as the split: for that, write a column named split, with train, val or test in each row."
        in read(root).notes
    )


def test_rows_without_a_file_are_skipped_only_on_request(tmp_path: Path) -> None:
    root = years(tmp_path, table([*zip(YEARS, BIRDS, strict=True), ("2023/9.jpg", "duck")], "path,label"))
    assert message(root).endswith("--skip-missing skips such rows.")
    ledger = Ledger()
    samples = read_source(root, ledger, reading=Reading(skip_missing=True))
    assert samples.warnings == ("1 row of 7 left out: their files do not exist.",)
    assert ledger.sentences() == ["1 row was left out: no such file (2023/9.jpg)."]
    (root / "labels.csv").write_text("path,label\nhttps://x.org/1.jpg,a\nhttps://x.org/2.jpg,b\n")
    assert message(root, reading=Reading(skip_missing=True)) == (
        f"{root / 'labels.csv'}: none of the 2 rows names a file that exists. They are URLs: download the files, and write their paths instead."
    )


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("2023\\0.jpg", "with backslashes"),
        ("2023/0.JPG", "in other capitals"),
        ("2023/0", "without ending"),
    ],
)
def test_paths_that_are_written_otherwise_are_read_and_noted(tmp_path: Path, written: str, kind: str) -> None:
    root = years(tmp_path, table([(written, "a"), ("2024/1.jpg", "b")], "path,label"))
    samples = read(root / "labels.csv")
    assert samples.names == ("2023/0.jpg", "2024/1.jpg")
    assert samples.notes == (f"1 path of the table written {kind}: {written!r} is read as '2023/0.jpg'.",)


def test_a_table_next_to_the_one_folder_of_all_images_is_used(tmp_path: Path) -> None:
    lay(tmp_path, "img/all", num_images=6)
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"img/all/{n}.jpg,{'ab'[n % 2]}\n" for n in range(6)))
    samples = read(tmp_path)
    assert (samples.classes, len(samples.names)) == (("a", "b"), 6)
    assert (
        samples.notes[0] == "the table 'labels.csv' defines the images and their classes; the names of folders are not used."
    )


def test_a_folder_that_holds_an_archive_alone_is_reported_with_it(tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    assert (
        message(tmp_path)
        == f"{tmp_path}: no images found, but 1 archive (photos.zip). Unpack it, and give the path of the folder."
    )


def test_a_table_whose_images_are_not_there_is_reported(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "labels.csv").write_text(
        "Filename,Label\n" + "".join(f"2016-{n}.jpg,{n % 2}\n" for n in range(20))
    )
    assert message(tmp_path) == (
        f"{tmp_path}: no images found. The table 'labels.csv' names 20 images that are not here, such as 2016-0.jpg. Download them, and put them "
        "into this folder."
    )


def test_one_folder_of_images_with_boxes_is_reported_as_a_dataset_for_detection(tmp_path: Path) -> None:
    lay(tmp_path, "cells/JPEGImages", "scripts/plot.py", num_images=6)
    (tmp_path / "cells" / "Annotations").mkdir()
    for number in range(6):
        (tmp_path / "cells" / "Annotations" / f"{number}.xml").write_text("<annotation/>")
    assert message(tmp_path) == (
        f"{tmp_path}: there is one class only, 'cells' with 6 samples; a classifier needs at least two classes. Add a folder, or rows, of another class. "
        f"The images have annotation files with their own names, such as cells/Annotations/0.xml: boxes or outlines, as for detection. {CLASSIFIES}"
    )


def test_images_in_a_folder_next_to_that_of_the_table_are_found(tmp_path: Path) -> None:
    lay(tmp_path, "images", "scripts/plot.py", num_images=6)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "legend.csv").write_text(
        "user,image,emotion\n" + "".join(f"u,{n}.jpg,{'ab'[n % 2]}\n" for n in range(6))
    )
    text = message(tmp_path)
    words = f"visus check {tmp_path / 'data' / 'legend.csv'} --path-column image --label-column emotion"
    assert words in text
    samples = read(tmp_path / "data" / "legend.csv", reading=Reading(path_column="image", label_column="emotion"))
    assert samples.names[:2] == ("../images/0.jpg", "../images/1.jpg")
    assert samples.notes[0] == "6 paths of the table written as from the folder above: '0.jpg' is read as '../images/0.jpg'."


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (
            "C:\\Users\\me\\",
            "2023/0.jpg exists there: remove 'C:\\\\Users\\\\me\\\\' from the paths, or use --path-column to find files by name.",
        ),
        ("/data/upload/0a1b2c3d-", None),
    ],
)
def test_paths_of_another_machine_are_read_only_when_the_column_is_named(
    tmp_path: Path, start: str, expected: str | None
) -> None:
    rows = [(start + sample, bird) for sample, bird in zip(YEARS if expected else ["0.jpg", "1.jpg"], BIRDS, strict=False)]
    root = years(tmp_path, table(rows, "path,label"))
    if not expected:
        lay(root, "a/0.jpg", "a/1.jpg")
        for sample in YEARS:
            (root / sample).unlink()
    text = message(root / "labels.csv")
    assert "rows name files that do not exist" in text
    assert (expected or "--path-column") in text
    samples = read(root / "labels.csv", reading=Reading("path"))
    assert len(samples) == len(rows)
    assert "written as on another machine" in samples.notes[0]


def test_options_that_do_not_apply_are_refused(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog")
    assert message(tmp_path, reading=Reading(skip_missing=True)) == (
        f"{tmp_path}: --path-column, --label-column and --skip-missing apply to tables, but this was read as folder. Give the path of the table."
    )
    (tmp_path / "labels.csv").write_text("path,label\ncat/0.jpg,a\ndog/0.jpg,b\n")
    assert message(tmp_path, reading=Reading(class_depth=1)) == (
        f"{tmp_path}: --class-depth applies to folders, but this was read as table. Omit it."
    )


def test_groups_that_count_are_reported(tmp_path: Path) -> None:
    root = years(
        tmp_path,
        table(
            [(sample, bird, n // 2) for n, (sample, bird) in enumerate(zip(YEARS, BIRDS, strict=True))], "path,label,group"
        ),
    )
    assert read(root).notes[-1] == "3 groups found: visus keeps the samples of a group in the same split."


CELLS = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=8).map(str.strip).filter(bool)
)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=2, max_size=6), st.sampled_from([",", ";", "\t", "|"]), st.booleans())
def test_what_a_spreadsheet_writes_is_read_back(rows: list[tuple[str, str]], mark: str, has_sep: bool) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark, quoting=csv.QUOTE_ALL)
    writer.writerows([("path", "label"), *rows])
    above = f"sep={mark}\r\n" if has_sep else ""
    found = rows_of(above + text.getvalue(), Path("t.csv"), wanted=("path", "label"))
    assert found is not None
    assert found.heads == ["path", "label"]
    assert [tuple(record) for _, record in found.records] == rows


# ---- predictions of visus


def image(file: Path) -> None:
    """A small image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(file)


def write_predictions(root: Path, name: str) -> None:
    """Predictions of the images of cats and dogs below ``root``, as ``visus predict`` prints them, with the classes swapped."""
    files = sorted(root.rglob("*.png"))
    other = {"cat": "dog", "dog": "cat"}
    answers = [(str(file), other[file.parent.name], 0.9) for file in files]
    if name.endswith(".json"):
        keys = ("file", "label", "probability", "error")
        (root / name).write_text(json.dumps([dict(zip(keys, (*answer, None), strict=True)) for answer in answers]))
        return
    top = "label_2,probability_2," if "top" in name else ""
    mark = ";" if "semicolon" in name else ","
    lines = [
        f"file,label,probability,{top}error",
        *(",".join(map(str, answer)) + f",{'x,0.1,' if top else ''}" for answer in answers),
    ]
    (root / name).write_text("\n".join(lines).replace(",", mark))


@pytest.mark.parametrize("name", ["answers.csv", "top.csv", "semicolon.csv", "answers.json"])
@pytest.mark.parametrize("place", [".", "cat"])
def test_predictions_beside_the_images_are_noted_and_not_used(tmp_path: Path, name: str, place: str) -> None:
    for number in range(6):
        image(tmp_path / ("cat" if number % 2 else "dog") / f"{number}.png")
    write_predictions(tmp_path, name)
    (tmp_path / name).rename(tmp_path / place / name)
    found = read_source(tmp_path, Ledger())
    assert found.kind == "folder"
    assert f"the table '{name}' is not used: it has predictions of visus, not labels." in found.notes
    assert all("table" not in warning for warning in found.warnings)


def test_predictions_of_a_spreadsheet_are_recognized(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / ("cat" if number % 2 else "dog") / f"{number}.png")
    cells = ["file", "label", "probability", "error", *(f"{place}/{n}.png" for n in range(6) for place in ("cat", "dog"))]
    with zipfile.ZipFile(tmp_path / "answers.xlsx", "w") as archive:
        archive.writestr("xl/sharedStrings.xml", "".join(f"<si><t>{cell}</t></si>" for cell in cells))
    found = read_source(tmp_path, Ledger())
    assert "the table 'answers.xlsx' is not used: it has predictions of visus, not labels." in found.notes


@pytest.mark.parametrize("inside", [".", "all"])
def test_predictions_are_no_labels_of_images_without_folders(tmp_path: Path, inside: str) -> None:
    for number in range(6):
        image(tmp_path / "photos" / inside / f"{number}.png")
    rows = [f"{tmp_path}/photos/{inside}/{number}.png,{'cd'[number % 2]},0.9," for number in range(6)]
    for place in (tmp_path, tmp_path / "photos"):
        (place / "answers.csv").write_text("\n".join(["file,label,probability,error", *rows]))
    with pytest.raises(DataError) as caught:
        read_source(tmp_path / "photos", Ledger())
    assert "--label-column" not in str(caught.value)
    assert "answers.csv" not in str(caught.value)


def test_predictions_that_are_given_are_refused(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / ("cat" if number % 2 else "dog") / f"{number}.png")
    write_predictions(tmp_path, "answers.csv")
    assert message(tmp_path / "answers.csv") == (
        f"{tmp_path}/answers.csv: this table has predictions of visus, not labels: a network would be trained on its own answers. Give the "
        "folder of the images, or a table with the columns path,label."
    )
    chosen = Reading(path_column="file", label_column="label")
    assert len(read_source(tmp_path / "answers.csv", Ledger(), reading=chosen).labels) == 6


def test_a_table_of_other_columns_is_no_prediction(tmp_path: Path) -> None:
    for number in range(6):
        image(tmp_path / ("cat" if number % 2 else "dog") / f"{number}.png")
    rows = [f"{'cat' if n % 2 else 'dog'}/{n}.png,{'ab'[n % 2]}{n % 3},0.5,x" for n in range(6)]
    (tmp_path / "own.csv").write_text("\n".join(["file,label,probability,photographer", *rows]))
    with pytest.raises(DataError, match=r"to train by the table"):
        read_source(tmp_path, Ledger())


@pytest.mark.parametrize("head", [",".join(f"t{n}" for n in range(128)), ",".join("0.5" for _ in range(128))])
@pytest.mark.parametrize("label", ["", ",label"])
def test_a_table_of_signals_is_told_where_signals_go(tmp_path: Path, head: str, label: str) -> None:
    rows = [
        ",".join(f"{(n - place) / 7:{'e' if n else '.3f'}}" for place in range(128)) + (label and ",cat") for n in range(5)
    ]
    file = tmp_path / "signals.csv"
    file.write_text("\n".join([head + label, *rows]) + "\n")
    assert message(file) == (
        f"{file}: this table holds values, 128 columns of numbers, and names no image files. Signals go into an NPZ file: "
        "numpy.savez('signals.npz', x=values, y=labels), with one row of values and one label for each sample."
    )


def test_a_long_header_is_shortened_in_messages(tmp_path: Path) -> None:
    file = tmp_path / "wide.csv"
    file.write_text(",".join(f"note{n}" for n in range(30)) + "\n" + ",".join("word" for _ in range(30)) + "\n")
    found = message(file)
    assert "The header is note0,note1,note2,note3,note4,... (30 columns); it needs path" in found
    assert "note5" not in found
    assert message(file, reading=Reading(path_column="zz")).endswith(
        "there is no column 'zz' (--path-column). The columns are note0,note1,note2,note3,note4,... (30 columns)."
    )


def test_an_error_about_the_samples_of_a_table_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(21):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{'rare' if number == 20 else 'ab'[number % 2]}")
    (tmp_path / "table.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        visus.open_data("table.csv", progress=False)
    assert str(caught.value) == (
        "table.csv: the class 'rare' has 1 sample; at least 2 are needed, one for training and one for testing. "
        "Add samples of that class, or remove the class."
    )
    (tmp_path / "table.csv").write_text("\n".join(line for line in lines if not line.endswith(("a", "rare"))))
    with pytest.raises(DataError) as caught:
        visus.open_data("table.csv", progress=False)
    assert str(caught.value).startswith("table.csv: ")
