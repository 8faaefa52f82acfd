"""Folds: each sample once, even in every class, groups and copies together, the same for the same seed; and the data of each fold."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import visus
from visus.data.folds import APART, assign_folds, fold_data, folds_of, read_folds_csv, write_folds_csv
from visus.data.ledger import Ledger
from visus.data.opened import open_data
from visus.data.samples import Samples
from visus.data.sources import read_source
from visus.data.splits import read_split_csv, units_of, write_split_csv
from visus.data.tasks import count_labels
from visus.errors import DataError, RunError, UsageError


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    file = tmp_path_factory.mktemp("folds") / "data.npz"
    np.savez(file, x=np.arange(100, dtype=np.uint8).reshape(4, 5, 5, 1), y=[0, 1, 0, 1])
    return read_source(file, Ledger())


def table(
    template: Samples, labels: list[int], groups: list[str] | None = None, contents: list[int] | None = None
) -> Samples:
    """A table of these labels; only what folds depend on is right."""
    count = len(labels)
    return dataclasses.replace(
        template,
        names=tuple(f"x[{place}]" for place in range(count)),
        labels=np.array(labels, dtype=np.int64),
        classes=tuple(str(label) for label in range(max(labels) + 1)),
        splits=np.full(count, "", dtype="<U5"),
        groups=None if groups is None else tuple(groups),
        contents=np.arange(count) if contents is None else np.array(contents),
    )


def none_apart(samples: Samples) -> Any:
    return np.zeros(len(samples), dtype=bool)


labels_of_classes = st.lists(st.integers(2, 25), min_size=2, max_size=5).map(
    lambda counts: [label for label, count in enumerate(counts) for _ in range(count)]
)


@given(labels_of_classes, st.integers(2, 6), st.integers(0, 99))
def test_each_sample_is_in_one_fold_and_every_class_is_even(
    template: Samples, labels: list[int], num_folds: int, seed: int
) -> None:
    samples = table(template, labels)
    if num_folds > len(labels):
        return
    folds = assign_folds(samples, none_apart(samples), num_folds, seed)
    assert set(folds.tolist()) <= set(range(1, num_folds + 1))
    totals = np.bincount(folds - 1, minlength=num_folds)
    assert totals.max() - totals.min() <= 1
    for label in set(labels):
        counts = np.bincount(folds[samples.labels == label] - 1, minlength=num_folds)
        assert counts.max() - counts.min() <= 1
    assert np.array_equal(folds, assign_folds(samples, none_apart(samples), num_folds, seed))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=20, max_size=90),
    st.integers(2, 5),
    st.integers(0, 9),
)
def test_groups_and_copies_stay_in_one_fold(
    template: Samples, drawn: list[tuple[int, int]], num_folds: int, seed: int
) -> None:
    labels = [label for label, _ in drawn]
    groups = [f"patient {group}" if group < 20 else "" for _, group in drawn]
    contents = [place if place % 7 else 0 for place in range(len(drawn))]
    samples = table(template, labels, groups, contents)
    try:
        folds = assign_folds(samples, none_apart(samples), num_folds, seed)
    except (DataError, UsageError):
        return
    units = units_of(samples)
    for unit in set(units.tolist()):
        assert len(set(folds[units == unit].tolist())) == 1
    largest = max(Counter(units.tolist()).values())
    totals = np.bincount(folds - 1, minlength=num_folds)
    assert totals.max() - totals.min() <= 2 * largest


@given(st.integers(0, 50))
def test_samples_apart_are_in_no_fold(template: Samples, seed: int) -> None:
    samples = table(template, [0, 1] * 30)
    is_apart = np.random.default_rng(seed).random(60) < 0.3
    folds = assign_folds(samples, is_apart, 3, seed)
    assert np.array_equal(folds == APART, is_apart)


def test_another_seed_makes_other_folds(template: Samples) -> None:
    samples = table(template, [0, 1] * 30)
    one, other = (assign_folds(samples, none_apart(samples), 5, seed) for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_many_samples_take_no_time(template: Samples) -> None:
    samples = table(template, (np.arange(20_000) % 10).tolist())
    folds = assign_folds(samples, none_apart(samples), 5, 0)
    assert np.bincount(folds).tolist() == [0, 4_000, 4_000, 4_000, 4_000, 4_000]


def test_folds_that_cannot_be_made_are_refused(template: Samples) -> None:
    samples = table(template, [0, 1] * 4)
    with pytest.raises(UsageError) as caught:
        assign_folds(samples, none_apart(samples), 1, 0)
    assert str(caught.value) == "folds=1: at least 2 folds are needed, and 5 or 10 are usual."
    with pytest.raises(UsageError) as caught:
        assign_folds(samples, none_apart(samples), 9, 0)
    assert str(caught.value) == (
        f"{samples.root}: folds=9: there are only 8 samples or groups of samples that can be in different folds. Take fewer folds."
    )
    together = table(template, [0, 1] * 4, ["p", ""] * 4)
    with pytest.raises(DataError) as caught:
        assign_folds(together, none_apart(together), 2, 0)
    assert str(caught.value) == (
        f"{samples.root}: all samples of the class '0' are in one group, or copies of one sample, so one fold would leave none for training. "
        "Add samples of other groups, or remove the class."
    )


def num_outside(samples: Samples, folds: Any, num_folds: int) -> Any:
    """(folds, classes): the samples of each class outside of each fold."""
    return np.array([count_labels(samples.labels[folds != fold], len(samples.classes)) for fold in range(1, num_folds + 1)])


def is_possible(samples: Samples, num_folds: int) -> bool:
    """Whether any assignment of the units to folds leaves samples of each class outside of every fold; all are tried."""
    units = np.unique(units_of(samples), return_inverse=True)[1]
    return any(
        (num_outside(samples, np.array(folds)[units], num_folds) > 0).all()
        for folds in itertools.product(range(1, num_folds + 1), repeat=int(units.max()) + 1)
    )


def test_a_class_that_fell_into_one_fold_is_divided(template: Samples) -> None:
    groups = [str(group) for group in (0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 3)]
    samples = table(template, [0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1], groups)
    for seed in range(20):
        folds = assign_folds(samples, none_apart(samples), 2, seed)
        assert (num_outside(samples, folds, 2) > 0).all()
        assert min(np.bincount(folds)[1:]) >= 5


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4)), min_size=4, max_size=16),
    st.integers(2, 3),
    st.integers(0, 9),
)
@pytest.mark.long
def test_no_fold_has_all_samples_of_a_class_unless_none_can_be_divided(
    template: Samples, drawn: list[tuple[int, int]], num_folds: int, seed: int
) -> None:
    order = sorted({label for label, _ in drawn})
    samples = table(template, [order.index(label) for label, _ in drawn], [f"group {group}" for _, group in drawn])
    check_outside(samples, num_folds, seed)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.lists(st.booleans(), min_size=4, max_size=4), st.integers(0, 7)), min_size=4, max_size=12),
    st.integers(2, 3),
    st.integers(0, 9),
)
@pytest.mark.long
def test_no_fold_has_all_samples_of_a_class_of_sets(
    template: Samples, drawn: list[tuple[list[bool], int]], num_folds: int, seed: int
) -> None:
    samples = table(template, [0] * len(drawn), [f"group {group}" for _, group in drawn])
    has_class = np.array([label for label, _ in drawn], dtype=np.float32)
    has_class = has_class[:, has_class.any(axis=0)]
    classes = tuple(f"class {number}" for number in range(has_class.shape[1]))
    if classes:
        check_outside(dataclasses.replace(samples, labels=has_class, classes=classes, task="multi-label"), num_folds, seed)


def check_outside(samples: Samples, num_folds: int, seed: int) -> None:
    """Each class has samples outside of every fold, or an error, and then no assignment has them."""
    try:
        folds = assign_folds(samples, none_apart(samples), num_folds, seed)
    except UsageError:
        return
    except DataError:
        assert not is_possible(samples, num_folds)
        return
    assert (num_outside(samples, folds, num_folds) > 0).all()
    assert set(folds.tolist()) == set(range(1, num_folds + 1))
    units = units_of(samples)
    assert all(len(set(folds[units == unit].tolist())) == 1 for unit in set(units.tolist()))


def test_folds_that_leave_a_class_without_training_samples_are_refused(template: Samples) -> None:
    """Three groups of two classes each: two of them are in one fold, and so is the class that they share."""
    samples = table(template, [0, 1, 1, 2, 2, 0], ["a", "a", "b", "b", "c", "c"])
    with pytest.raises(DataError) as caught:
        assign_folds(samples, none_apart(samples), 2, 0)
    name = str(caught.value).split("samples of the class ")[1][:3]
    assert str(caught.value) == (
        f"{samples.root}: no way was found to divide the groups and copies into 2 folds so that each class has samples outside of every fold: one "
        f"fold has all samples of the class {name}. Choose another number of folds, add samples of other groups, or remove classes."
    )
    assert (num_outside(samples, assign_folds(samples, none_apart(samples), 3, 0), 3) > 0).all()


def test_folds_that_were_good_do_not_change(template: Samples) -> None:
    """Computed before classes were divided anew."""
    random = np.random.default_rng(3)
    labels, groups = random.integers(0, 3, 40), random.integers(0, 15, 40)
    samples = table(template, labels.tolist(), [f"group {group}" for group in groups])
    folds = assign_folds(samples, none_apart(samples), 3, 1)
    assert "".join(map(str, folds.tolist())) == "3323323231132331332132221131121122312112"


# ---- the data of a fold ----


@pytest.fixture
def grouped(tmp_path: Path) -> visus.Data:
    """120 images of 40 patients, and a test set of 24 that the data defines itself."""
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (144, 6, 6, 3), dtype=np.uint8)
    splits = ["train"] * 110 + ["val"] * 10 + ["test"] * 24
    groups = [f"patient {place // 3}" for place in range(144)]
    np.savez(tmp_path / "grouped.npz", x=x, y=np.arange(144) // 3 % 2, splits=splits, groups=groups)
    return open_data(tmp_path / "grouped.npz")


def test_a_fold_is_tested_on_its_samples_and_never_sees_the_test_set(grouped: visus.Data) -> None:
    is_apart = grouped.table.splits == "test"
    folds = assign_folds(grouped.table, is_apart, 4, 0)
    seen: list[str] = []
    for number in (1, 2, 3, 4):
        fold = fold_data(grouped, folds, number, 0)
        names = {split: fold.split(split).names for split in ("train", "val", "test")}
        assert set(names["test"]) == {name for name, own in zip(grouped.table.names, folds, strict=True) if own == number}
        assert len(names["train"]) + len(names["val"]) + len(names["test"]) == 120 == fold.num_samples
        assert len(names["val"]) > 0
        patients = [{fold.samples.groups[fold.samples.names.index(name)] for name in each} for each in names.values()]  # type: ignore[index]
        assert not patients[0] & patients[1]
        assert not patients[0] & patients[2]
        assert not patients[1] & patients[2]
        assert fold.fold == (number, 4)
        seen += names["test"]
    assert sorted(seen) == sorted(name for name, apart in zip(grouped.table.names, is_apart, strict=True) if not apart)


def test_a_fold_is_normalized_by_its_own_training_samples_and_shares_the_store(grouped: visus.Data) -> None:
    folds = assign_folds(grouped.table, grouped.table.splits == "test", 4, 0)
    first, second = (fold_data(grouped, folds, number, 0) for number in (1, 2))
    assert first.store is second.store is grouped.store
    for fold in (first, second):
        rows = np.concatenate([part.numpy() for part in [fold.split("train").rows(slice(None))]]).astype(np.float64)
        assert fold.preprocessing.offset == pytest.approx(rows.mean(axis=(0, 2, 3)), rel=1e-6)
    assert first.preprocessing.offset != second.preprocessing.offset


def test_the_validation_set_of_a_fold_takes_no_class_of_sets_from_the_training_set(tmp_path: Path) -> None:
    """It is stratified by the rarest class of each set, and would take all samples of class 2 in the second fold."""
    random = np.random.default_rng(16)
    x = random.integers(0, 255, (24, 6, 6, 3), dtype=np.uint8)
    y = (random.random((24, 4)) < [0.6, 0.2, 0.15, 0.15]).astype(np.float32)
    groups = [f"group {each}" for each in random.integers(0, 12, 24)]
    np.savez(tmp_path / "sets.npz", x=x, y=y, groups=groups)
    data = open_data(tmp_path / "sets.npz", val=0.4, test=0, task="multi-label", cache_dir=tmp_path)
    folds = assign_folds(data.table, none_apart(data.table), 2, 16)
    for number in (1, 2):
        fold = fold_data(data, folds, number, 16)
        assert min(fold.class_counts("train").values()) > 0
        groups_of = [set(fold.groups_of(split) or ()) for split in ("train", "val", "test")]
        assert not any(one & other for one, other in itertools.combinations(groups_of, 2))


def test_the_note_of_a_fold_says_where_its_splits_come_from(grouped: visus.Data) -> None:
    folds = assign_folds(grouped.table, grouped.table.splits == "test", 4, 0)
    fold = fold_data(grouped, folds, 2, 0)
    assert fold.samples.notes[-1] == (
        f"fold 2 of 4: its 30 samples are the test set of this run, and {len(fold.split('val'))} of the others the validation set. "
        "24 samples of the test set are left out."
    )


def test_the_split_of_a_fold_opens_the_same_data_again(grouped: visus.Data, tmp_path: Path) -> None:
    """Samples that are left out have an empty split in ``split.csv``, and stay left out."""
    folds = assign_folds(grouped.table, grouped.table.splits == "test", 4, 0)
    fold = fold_data(grouped, folds, 3, 0)
    write_split_csv(fold.table, tmp_path / "split.csv")
    for split in (read_split_csv(tmp_path / "split.csv"), tmp_path / "split.csv"):
        again = open_data(grouped.given, split=split, preprocessing=fold.preprocessing)
        assert again.num_samples == fold.num_samples == 120
        for name in ("train", "val", "test"):
            assert again.split(name).names == fold.split(name).names
    assert "120 samples as in" in " ".join(again.samples.notes)
    assert "24 left out as there" in " ".join(again.samples.notes)


def test_folds_are_written_and_read(grouped: visus.Data, tmp_path: Path) -> None:
    folds = assign_folds(grouped.table, grouped.table.splits == "test", 4, 0)
    write_folds_csv(grouped.table, folds, tmp_path / "folds.csv")
    rows = read_folds_csv(tmp_path / "folds.csv")
    assert np.array_equal(folds_of(grouped.table, rows), folds)
    assert rows[0].group == "patient 0"
    (tmp_path / "folds.csv").write_text("sample,label\nx,y\n")
    with pytest.raises(RunError) as caught:
        read_folds_csv(tmp_path / "folds.csv")
    assert str(caught.value) == f"{tmp_path}: folds.csv is missing or damaged. Put it back, or train the folds again."
