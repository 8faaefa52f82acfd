"""Properties of the split policy, the file split.csv, and every message."""

from __future__ import annotations

import errno
import os
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import visus
from visus.data.ledger import Ledger
from visus.data.samples import Samples
from visus.data.sources import read_source
from visus.data.splits import SplitRow, apply_split, assign, read_split_csv, split_samples, write_split_csv
from visus.errors import DataError, StorageError, UsageError


def plain(tmp_path: Path, labels: list[int], **arrays: object) -> Samples:
    rows = np.arange(len(labels), dtype=np.int32).reshape(-1, 1) + np.zeros((1, 4), dtype=np.int32)
    np.savez(tmp_path / "data.npz", **{"x": rows, "y": labels, **arrays})  # type: ignore[arg-type]
    return read_source(tmp_path / "data.npz", Ledger())


def counts(splits: np.ndarray) -> dict[str, int]:
    return dict(Counter(splits.tolist()))


many_labels = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(lambda values: np.array(values, dtype=np.int64))


@given(many_labels, st.integers(0, 1000))
def test_the_same_seed_returns_the_same_splits(labels: np.ndarray, seed: int) -> None:
    assert assign(labels, seed=seed).tolist() == assign(labels, seed=seed).tolist()


@given(many_labels, st.integers(0, 1000))
def test_every_class_is_on_each_side_that_it_has_samples_for(labels: np.ndarray, seed: int) -> None:
    splits = assign(labels, seed=seed)
    assert set(splits.tolist()) <= {"train", "val", "test"}
    for label, count in Counter(labels.tolist()).items():
        here = Counter(splits[labels == label].tolist())
        assert here["train"] >= 1
        assert (here["test"] >= 1) == (count >= 2)
        assert (here["val"] >= 1) or count < 3
        assert abs(here["test"] - 0.2 * count) <= 1


@given(many_labels, st.data())
def test_groups_and_copies_stay_on_one_side(labels: np.ndarray, data: st.DataObject) -> None:
    size = st.integers(0, max(1, len(labels) // 2))
    groups = data.draw(st.lists(size.map(lambda n: f"g{n}" if n else ""), min_size=len(labels), max_size=len(labels)))
    contents = np.array(data.draw(st.lists(size, min_size=len(labels), max_size=len(labels))), dtype=np.int64)
    splits = assign(labels, seed=0, groups=groups, contents=contents)
    sides = defaultdict(set)
    for group, content, split in zip(groups, contents.tolist(), splits.tolist(), strict=True):
        sides["content", content].add(split)
        if group:
            sides["group", group].add(split)
    assert all(len(where) == 1 for where in sides.values())
    assert set(labels[splits == "train"].tolist()) == set(labels.tolist())


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["train", "val", "test"])), min_size=1, max_size=60))
def test_official_splits_are_never_altered(rows: list[tuple[int, str]]) -> None:
    labels, official = np.array([label for label, _ in rows], dtype=np.int64), np.array([split for _, split in rows])
    splits = assign(labels, seed=3, official=official)
    changed = {(str(old), str(new)) for old, new in zip(official, splits, strict=True) if old != new}
    assert changed <= ({("train", "val")} if "val" not in official else set())
    assert counts(official).get("test", 0) == counts(splits).get("test", 0)


def test_another_seed_returns_other_splits() -> None:
    labels = np.repeat([0, 1], 50)
    assert assign(labels, seed=0).tolist() != assign(labels, seed=1).tolist()


def test_a_fifth_tests_and_a_tenth_of_the_rest_validates() -> None:
    assert counts(assign(np.repeat(np.arange(10), 100), seed=0)) == {"train": 720, "val": 80, "test": 200}


def test_validation_is_at_most_2000_but_never_without_a_class() -> None:
    labels = np.repeat([0, 1], [29_997, 3])
    splits = assign(labels, seed=0, official=np.array(["train"] * 29_990 + ["test"] * 7 + ["train"] * 3))
    assert counts(splits)["val"] == pytest.approx(2000, abs=1)
    assert counts(splits[labels == 1]) == {"train": 2, "val": 1}


def test_validation_that_is_official_leaves_no_test() -> None:
    assert counts(assign(np.array([0, 1] * 10), seed=0, official=["train"] * 16 + ["val"] * 4)) == {"train": 16, "val": 4}


def test_copies_do_not_gather_on_one_side() -> None:
    contents = np.concatenate([np.repeat(np.arange(200), 2), np.arange(200, 800)])
    splits = assign(np.zeros(1000, dtype=np.int64), seed=0, contents=contents)
    assert counts(splits)["test"] == 200
    assert 40 < counts(splits[:400])["test"] < 120


def test_one_speaker_of_six_tests_where_speakers_are_groups() -> None:
    groups = [f"speaker {number % 6}" for number in range(600)]
    labels = np.array([number // 6 % 10 for number in range(600)])
    splits = assign(labels, seed=0, groups=groups)
    tested = {group for group, split in zip(groups, splits, strict=True) if split == "test"}
    assert len(tested) == 1
    assert counts(splits)["test"] == 100


def test_a_class_with_one_image_is_an_error(tmp_path: Path) -> None:
    samples = plain(tmp_path, [0, 0, 0, 1, 1, 2])
    with pytest.raises(DataError) as caught:
        split_samples(samples, 0)
    assert str(caught.value) == (
        f"{tmp_path / 'data.npz'}: the class '2' has 1 sample; at least 2 are needed, one for training and one for testing. "
        "Add samples of that class, or remove the class."
    )
    with pytest.raises(DataError) as caught:
        split_samples(plain(tmp_path, [0, 0, 0, 1, 2]), 0)
    assert "2 classes (1, 2) have 1 sample;" in str(caught.value)


def test_one_group_only_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        split_samples(plain(tmp_path, [0, 1, 0, 1], groups=["g"] * 4), 0)
    assert str(caught.value) == (
        f"{tmp_path / 'data.npz'}: all samples belong to one group, 'g', which cannot be split. At least 2 groups are needed."
    )


def test_a_class_that_cannot_be_on_two_sides_is_a_warning(tmp_path: Path) -> None:
    samples = split_samples(plain(tmp_path, [0] * 10 + [1] * 4, groups=[str(n) for n in range(10)] + ["one"] * 4), 0)
    assert samples.class_counts("train").tolist() == [7, 4]
    assert samples.warnings == (
        "test has no sample of 1 class, for lack of groups or distinct samples: 1.",
        "val has no sample of 1 class, for lack of groups or distinct samples: 1.",
    )


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_out_of_range_is_an_error(tmp_path: Path, name: str, fraction: float) -> None:
    with pytest.raises(UsageError) as caught:
        split_samples(plain(tmp_path, [0, 1] * 5), 0, **{f"{name}_fraction": fraction})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}={fraction}: a fraction is at least 0 and below 1, such as {name}=0.2."


def test_a_fraction_for_an_official_split_is_refused(tmp_path: Path) -> None:
    samples = plain(tmp_path, [0, 1, 0, 1], splits=["train", "train", "test", "test"])
    with pytest.raises(UsageError) as caught:
        split_samples(samples, 0, test_fraction=0.5)
    assert str(caught.value) == (
        f"{tmp_path / 'data.npz'}: test=0.5: this data defines its own split (training, test), which visus never changes. Leave it out."
    )


def test_a_note_says_which_fractions_were_asked_for(tmp_path: Path) -> None:
    samples = plain(tmp_path, [0, 1] * 50)
    asked = {
        (0.1, 0.2): (
            "split as asked: 20.0 % of all samples are the test set, and 10.0 % of the others are the validation set.",
        ),
        (0.25, None): ("split as asked: 25.0 % of the training samples are the validation set.",),
        (None, 0.0): ("split as asked: no test set.",),
        (None, None): (),
    }
    for (val, test), notes in asked.items():
        assert split_samples(samples, 0, val_fraction=val, test_fraction=test).notes[len(samples.notes) :] == notes


def test_fractions_are_kept(tmp_path: Path) -> None:
    samples = plain(tmp_path, [0, 1] * 50)
    assert counts(split_samples(samples, 0, val_fraction=0.5, test_fraction=0.4).splits) == {
        "train": 30,
        "val": 30,
        "test": 40,
    }
    assert counts(split_samples(samples, 0, val_fraction=0, test_fraction=0).splits) == {"train": 100}


# ---- split.csv


def test_split_csv_makes_a_round_trip(tmp_path: Path) -> None:
    whole = plain(tmp_path, [0, 1] * 10, groups=['a "b", c', "é"] * 10)
    cut = split_samples(whole, 5)
    write_split_csv(cut, tmp_path / "split.csv")
    rows = read_split_csv(tmp_path / "split.csv")
    assert rows[0] == SplitRow("x[0]", "0", cut.splits[0], 'a "b", c')
    assert apply_split(whole, rows).splits.tolist() == cut.splits.tolist()
    assert (tmp_path / "split.csv").read_text(encoding="utf-8").startswith("sample,label,split,group\n")


def test_a_split_of_other_data_is_an_error_that_names_the_samples(tmp_path: Path) -> None:
    samples = plain(tmp_path, [0, 1, 1])
    rows = [SplitRow("x[0]", "1", "train", ""), SplitRow("x[2]", "1", "test", ""), SplitRow("x[7]", "1", "test", "")]
    with pytest.raises(DataError) as caught:
        apply_split(samples, rows)
    assert str(caught.value) == (
        f"{tmp_path / 'data.npz'}: 3 mistakes:\n"
        "  - 1 sample in split.csv but not in the data: x[7].\n"
        "  - 1 sample in the data but not in split.csv: x[1].\n"
        "  - 1 sample with another label in split.csv: x[0]."
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the header is missing, not sample,label,split,group."),
        ("sample,split\n", "the header is sample,split, not sample,label,split,group."),
        ("sample,label,split,group\na,b,train\n", "row 2 has 3 cells instead of 4."),
        (
            "sample,label,split,group\na,b,tran,\n",
            "row 2: unknown split 'tran'. Did you mean 'train'? Known: test, train, val.",
        ),
        ("sample,label,split,group\na,b,train,\na,b,val,\n", "row 3: a occurs twice."),
    ],
)
def test_every_mistake_in_split_csv_is_reported(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "split.csv"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_split_csv(file)
    assert str(caught.value) == f"{file}: {expected}"


def test_a_missing_split_csv_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_split_csv(tmp_path / "split.csv")
    assert str(caught.value) == f"{tmp_path / 'split.csv'}: the file cannot be read (No such file or directory)."


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_split_csv_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    samples = split_samples(plain(tmp_path, [0, 1] * 10), 0)
    (tmp_path / "split.csv").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StorageError) as caught:
        write_split_csv(samples, tmp_path / "split.csv")
    assert caught.value.where == str(tmp_path / "split.csv")
    assert (tmp_path / "split.csv").read_text() == "old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["data.npz", "split.csv"]


def test_a_split_that_overrides_the_data_or_parts_copies_is_reported(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8)[:, None, None] + np.zeros((12, 4, 4), np.uint8)
    pixels[1] = pixels[0]
    np.savez(tmp_path / "x.npz", x=pixels, y=np.arange(12) % 2 * 0 + np.repeat([0, 1], 6))
    data = visus.open_data(tmp_path / "x.npz", layout="NHW")
    names = [data.classes[label] for label in data.samples.labels]
    sides = ["test", "train", "train", "train", "val", "train"] * 2
    rows = [SplitRow(sample, name, side, "") for sample, name, side in zip(data.samples.names, names, sides, strict=True)]
    table = data.samples.select(np.arange(12))
    (moved, parted) = apply_split(table, rows).warnings[-2:]
    assert moved.startswith(
        f"{sum((table.splits != sides) & ~((table.splits == 'train') & (np.array(sides) == 'val')))} samples"
    )
    assert moved.partition(": ")[0].endswith("in another split in split.csv than in the data itself")
    assert parted == (
        "2 samples that are copies or of one group are in different splits of split.csv, so the scores are too high: x[0], x[1]."
    )
