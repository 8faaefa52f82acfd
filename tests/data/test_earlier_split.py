"""The split of an earlier training for data that has grown: known samples keep their split, new ones are split in addition."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import visus
from visus.data.earlier_split import contents_text, extend_split
from visus.data.samples import SPLITS, ImageFiles, Samples
from visus.data.splits import SplitRow, write_split_csv
from visus.errors import DataError


def picture(path: Path, seed: int) -> None:
    """An image of noise, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """A folder of photos, the split.csv of a run that was trained on it, and the split of each photo."""
    folder, run = tmp_path / "shop", tmp_path / "run"
    for number in range(40):
        picture(folder / ("cup" if number % 2 else "mug") / f"{number:02}.png", number)
    run.mkdir()
    table = visus.open_data(folder, cache_dir=tmp_path / "cache").table
    write_split_csv(table, run / "split.csv")
    (run / "contents.csv").write_text(contents_text(table))
    return folder, run / "split.csv", dict(zip(table.names, table.splits.tolist(), strict=True))


def test_known_photos_keep_their_split_also_moved_and_edited_ones_and_new_ones_are_split_by_class(
    shop: tuple[Path, Path, dict[str, str]], tmp_path: Path
) -> None:
    folder, file, before = shop
    tested = [name for name, split in before.items() if split == "test"]
    moved, edited, gone = tested[:3]
    (folder / moved).rename(folder / "cup" / "moved.png")
    picture(folder / edited, 1_000)
    (folder / gone).unlink()
    for number in range(20):
        picture(folder / ("cup" if number % 2 else "mug") / f"new {number}.png", 100 + number)
    data = visus.open_data(folder, split=file, cache_dir=tmp_path / "cache")
    now = dict(zip(data.samples.names, data.samples.splits.tolist(), strict=True))
    kept = {name: split for name, split in before.items() if name not in (moved, gone)}
    assert {name: now[name] for name in kept} == kept
    assert now["cup/moved.png"] == "test"
    assert Counter(split for name, split in now.items() if "new" in name) == {"train": 14, "val": 2, "test": 4}
    assert data.samples.notes == (
        f"split: 39 samples as in {file}; 20 new (14 training, 2 validation, 4 test); 1 gone ({gone}).",
    )
    again = visus.open_data(folder, split=file, cache_dir=tmp_path / "cache")
    assert again.samples.splits.tolist() == data.samples.splits.tolist()


def test_unchanged_data_has_no_note(shop: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    folder, file, before = shop
    data = visus.open_data(folder, split=file, cache_dir=tmp_path / "cache")
    assert data.samples.notes == ()
    assert dict(zip(data.samples.names, data.samples.splits.tolist(), strict=True)) == before


def test_a_copy_of_a_known_photo_goes_into_its_split(shop: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    folder, file, before = shop
    for name in before:
        shutil.copy(folder / name, (folder / name).with_name(f"copy of {Path(name).name}"))
    (file.parent / "contents.csv").unlink()  # so that the copies are new samples
    data = visus.open_data(folder, split=file, cache_dir=tmp_path / "cache")
    now = dict(zip(data.samples.names, data.samples.splits.tolist(), strict=True))
    assert all(now[str(Path(name).with_name(f"copy of {Path(name).name}"))] == split for name, split in before.items())
    assert not any("copies" in each and "different splits" in each for each in data.warnings)


def test_new_photos_of_split_folders_keep_the_split_of_their_folder(tmp_path: Path) -> None:
    for number in range(20):
        picture(
            tmp_path / "data" / ("test" if number < 8 else "train") / ("cup" if number % 2 else "mug") / f"{number}.png",
            number,
        )
    table = visus.open_data(tmp_path / "data", cache_dir=tmp_path / "cache").table
    write_split_csv(table, tmp_path / "split.csv")
    picture(tmp_path / "data" / "test" / "cup" / "new.png", 100)
    data = visus.open_data(tmp_path / "data", split=tmp_path / "split.csv", cache_dir=tmp_path / "cache")
    assert "test/cup/new.png" in data.split("test").names


def test_a_split_of_other_data_is_refused(shop: tuple[Path, Path, dict[str, str]], tmp_path: Path) -> None:
    _, file, _ = shop
    for number in range(10):
        picture(tmp_path / "other" / ("cup" if number % 2 else "mug") / f"other {number}.png", 200 + number)
    with pytest.raises(DataError) as caught:
        visus.open_data(tmp_path / "other", split=file, cache_dir=tmp_path / "cache")
    assert str(caught.value) == (
        f"{tmp_path / 'other'}: none of the 10 samples is in {file}, by name or by content. Give the split.csv of a run that was trained on "
        "this data, or omit it."
    )


@given(
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=40),
    known=st.lists(st.sampled_from(SPLITS), min_size=1, max_size=30),
    groups=st.lists(st.sampled_from(["", "a", "b"]), min_size=40, max_size=40),
)
def test_no_known_sample_changes_its_split_and_no_new_one_leaves_its_group(
    labels: list[int], known: list[str], groups: list[str]
) -> None:
    names = tuple(f"{number}.png" for number in range(len(labels)))
    table = Samples(
        Path(), "folder", "made up", names, np.array(labels, dtype=np.int64), ("a", "b", "c"), np.full(len(names), "", dtype="<U5"),
        tuple(groups[: len(names)]), np.arange(len(names), dtype=np.int64), "", ImageFiles(Path(), names),
    )  # fmt: skip
    rows = [SplitRow(name, "0", split, "") for name, split in zip(table.names, known, strict=False)]
    splits = extend_split(table, rows, {}, "split.csv").splits.tolist()
    assert splits[: len(rows)] == [row.split for row in rows]
    for group in {"a", "b"} & set(table.groups or ()):
        before = {split for split, own in zip(splits[: len(rows)], table.groups or (), strict=False) if own == group}
        new = {split for split, own in list(zip(splits, table.groups or (), strict=True))[len(rows) :] if own == group}
        assert len(new) <= 1
        assert not before or new <= before
