"""Other labels for the samples of a dataset, from a column of the table or a file, and every error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import visus
from visus.data.splits import read_split_csv, write_split_csv
from visus.errors import DataError


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """24 images in a table with a label and a color; the color is independent of the label."""
    rng = np.random.default_rng(0)
    rows = ["path,label,color"]
    for number in range(24):
        color = ["red", "green", "blue"][number % 3]
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number // 12]},{color}")
    file = tmp_path / "table.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


def labels_of(data: visus.Data) -> dict[str, str]:
    return {sample: data.classes[label] for sample, label in zip(data.samples.names, data.samples.labels, strict=True)}


def test_a_column_of_the_table_returns_its_labels(table: Path) -> None:
    data = visus.open_data(table, labels="color")
    assert data.classes == ("blue", "green", "red")
    assert labels_of(data) == {f"{number}.png": ["red", "green", "blue"][number % 3] for number in range(24)}
    assert data.labels == "color"
    assert data.samples.notes == ("labels: those of the column 'color'.",)
    assert visus.open_data(table).samples.notes == ("unused columns: color.",)
    assert data.fingerprint != visus.open_data(table).fingerprint


def test_a_file_returns_its_labels_to_the_samples_that_it_names(table: Path, tmp_path: Path) -> None:
    own = labels_of(visus.open_data(table))
    file = tmp_path / "other.csv"
    file.write_text("sample,label\n" + "".join(f"{sample},{'xy'[int(sample[:-4]) % 2]}\n" for sample in reversed(own)))
    data = visus.open_data(table, labels=file)
    assert labels_of(data) == {sample: "xy"[int(sample[:-4]) % 2] for sample in own}
    assert data.samples.names == visus.open_data(table).samples.names
    assert data.labels == str(file.resolve())


@pytest.mark.long
def test_the_images_that_come_with_visus_take_other_labels_too(tmp_path: Path) -> None:
    data = visus.open_data(None)
    file = tmp_path / "sides.csv"
    names = ["left" if label % 2 else "right" for label in data.samples.labels]
    file.write_text(
        "path,label\n" + "".join(f'"{sample}",{name}\n' for sample, name in zip(data.samples.names, names, strict=True))
    )
    assert list(labels_of(visus.open_data(None, labels=file)).values()) == names


def test_a_split_of_the_own_labels_holds_for_other_ones(table: Path, tmp_path: Path) -> None:
    own = visus.open_data(table)
    write_split_csv(own.samples, tmp_path / "split.csv")
    other = visus.open_data(table, labels="color", split=tmp_path / "split.csv")
    assert other.samples.splits.tolist() == own.samples.splits.tolist()
    write_split_csv(other.samples, tmp_path / "split.csv")
    assert {row.label for row in read_split_csv(tmp_path / "split.csv")} == {"red", "green", "blue"}


@pytest.mark.long
def test_a_run_on_other_labels_opens_its_data_again(table: Path, tmp_path: Path) -> None:
    data = visus.open_data(table, labels="color")
    recipe = visus.Recipe(epochs=1, batch_size=4, precision="float32")
    run = visus.train(data, "conv(2, 3), relu, globalpool, linear(classes)", recipe, output=tmp_path)
    again = visus.load(run.folder)
    assert again.classes == ("blue", "green", "red")
    assert labels_of(again.open_data()) == labels_of(data)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\n0.png,a\n", "23 samples of the data without a label: 1.png, 2.png, 3.png, 4.png, 5.png and 18 more. Name the samples as split.csv of a run does."),
        ("file,label\n0.png,a\n", "the header is file,label; the columns path and label are needed."),
        ("path,label\n0.png,\n", "row 2 has no label."),
        ("path,label\n0.png,a\n0.png,b\n", "row 3: 0.png has two labels, 'a' and 'b'. Keep one."),
        ("", "the header is missing; the columns path and label are needed."),
    ],
)  # fmt: skip
def test_mistakes_in_a_file_of_labels_are_reported(table: Path, tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "other.csv"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        visus.open_data(table, labels=file)
    assert str(caught.value) == f"{file}: {sentence}"


def test_samples_that_the_data_does_not_have_are_reported(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_text("path,label\nzebra.png,b\n" + "".join(f"{number}.png,a\n" for number in range(24)))
    with pytest.raises(DataError) as caught:
        visus.open_data(table, labels=file)
    assert str(caught.value) == (
        f"{file}: 1 sample of the file not in the data: zebra.png. Name the samples as split.csv of a run does."
    )


def test_a_column_that_is_not_there_is_reported(table: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        visus.open_data(table, labels="colr")
    assert str(caught.value) == (
        f"{table.parent}: 'colr' is neither a file nor a column of this data. Did you mean 'color'? Known columns: color."
    )
    text = table.read_text().replace("0.png,a,red", "0.png,a,")
    table.write_text(text)
    with pytest.raises(DataError) as caught:
        visus.open_data(table, labels="color")
    assert str(caught.value) == f"{table.parent}: the column 'color' has no label for 1 sample: 0.png."


def test_a_file_that_cannot_be_read_is_reported(table: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.csv"
    file.write_bytes(b'path,label\n"0.png,a\n' + b"x" * 200_000)
    with pytest.raises(DataError) as caught:
        visus.open_data(table, labels=file)
    assert str(caught.value) == f"{file}: the labels cannot be read (field larger than field limit (131072))."
