"""A run whose data was moved, renamed, edited or deleted: the same splits where it is the same data, and a way on in each case."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.data.splits import read_split_csv
from visus.errors import DataError
from visus.workbench.runs.own_data import open_own_data

pytestmark = pytest.mark.usefixtures("light_pages")


@pytest.fixture
def moved(run: Path, photos: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the run whose data is no longer where it was, and the data at its new place."""
    folder, data = tmp_path / "run", tmp_path / "inside" / "new place"
    shutil.copytree(run, folder)
    shutil.copytree(photos, data)
    facts = folder / "data.json"
    facts.write_text(facts.read_text().replace(str(photos), str(tmp_path / "gone")))
    return folder, data


def test_deleted_data_has_its_sentence(moved: tuple[Path, Path], visus_command: Call) -> None:
    folder, data = moved
    assert visus_command("evaluate", folder).err == (
        f"error: {data.parents[1] / 'gone'}: the data that the run run was trained on is no longer there. If it was moved, name its new "
        f"place once: visus evaluate {folder} NEWPATH, or visus train NEWPATH --resume {folder}. visus predict needs no data.\n"
    )
    assert visus_command("predict", folder, data / "dark" / "00.png", "-q").code == 0


def test_moved_data_is_split_as_it_was_and_remembered(moved: tuple[Path, Path], run: Path, visus_command: Call) -> None:
    folder, data = moved
    before = visus_command("evaluate", run)
    answer = visus_command("evaluate", folder, data)
    assert (answer.code, answer.out) == (0, before.out)
    assert "next: " not in answer.out  # every prediction is correct
    assert answer.err == (f"note: the run run now looks for its data at {data}; it was at {data.parents[1] / 'gone'}.\n")
    assert visus_command("evaluate", folder).out == answer.out
    assert visus_command("evaluate", folder, data).err == ""


def test_a_copy_of_the_data_is_split_as_it_was_while_the_run_stays_as_it_is(run: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "copy")
    before = (run / "data.json").read_bytes()
    scores = visus.load(run).evaluate(tmp_path / "copy")
    assert (scores.split, scores.num_samples) == ("test", visus.load(run).evaluate().num_samples)
    assert (run / "data.json").read_bytes() == before


def test_a_run_that_may_not_be_written_is_scored_all_the_same(
    moved: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from visus.errors import StorageError

    def refused(*arguments: object) -> None:
        raise StorageError("full")

    monkeypatch.setattr("visus.training.runs.write_json", refused)
    assert visus.load(moved[0]).evaluate(moved[1]).split == "test"


def test_renamed_and_edited_samples_keep_their_split_and_new_ones_are_left_out(moved: tuple[Path, Path]) -> None:
    folder, data = moved
    splits = dict(line.split(",")[0::2] for line in (folder / "split.csv").read_text().splitlines()[1:])
    first, second, third = [sample for sample, split in splits.items() if split == "test" and sample.startswith("dark")][:3]
    (data / first).rename(data / "dark" / "renamed.png")
    Image.new("RGB", (10, 10)).save(data / second)
    (data / third).unlink()
    Image.new("RGB", (10, 10), (9, 9, 9)).save(data / "dark" / "added.png")
    opened = visus.load(folder).open_data(data)
    test = set(opened.split("test").names)
    expected = {sample for sample, split in splits.items() if split == "test"} - {first, third} | {"dark/renamed.png"}
    assert test == expected
    assert "dark/added.png" not in {sample for name in ("train", "val", "test") for sample in opened.split(name).names}
    assert opened.samples.notes[-4:] == (
        "this is the data of the run run, changed since its training; it is split as it was.",
        f"1 sample with other content than in the training: {second}.",
        "1 sample that the run does not know, dropped: dark/added.png.",
        f"1 sample of the run not here: {third}.",
    )
    part = opened.split("test")
    for sample, row in zip(part.names, part.rows(range(len(part))), strict=True):
        with Image.open(data / sample) as image:
            assert (row.numpy().transpose(1, 2, 0) == image.convert("RGB")).all()


def test_other_data_of_the_same_names_is_scored_whole(run: Path, other_photos: Path) -> None:
    assert visus.load(run).evaluate(other_photos).split == "all"


def test_what_has_changed_is_named(moved: tuple[Path, Path], visus_command: Call) -> None:
    folder, data = moved
    (data / "dark" / "00.png").unlink()
    Image.new("RGB", (10, 10)).save(data / "dark" / "01.png")
    shutil.move(data / "dark" / "02.png", data / "light" / "02b.png")
    with pytest.raises(DataError) as caught:
        open_own_data(folder, visus.load(folder).preprocessing, data)
    changes = (
        f"{data}: this data has changed since the run run was trained on it. 2 samples missing: dark/00.png, dark/02.png. "
        "1 sample new: light/02b.png. 1 sample of other content: dark/01.png. "
    )
    split = folder / "split.csv"
    assert str(caught.value) == (
        f"{changes}To evaluate the run on the samples that it knows, also moved ones: visus.load({str(folder)!r}).evaluate({str(data)!r}). To train "
        f"on the data as it is now, with known samples in their splits: visus.train(visus.open_data({str(data)!r}, split={str(split)!r}))"
    )
    assert visus_command("train", data, "--resume", folder).err == (
        f"error: {changes}To evaluate the run on the samples that it knows, also moved ones: visus evaluate {folder} '{data}'. To train "
        f"on the data as it is now, with known samples in their splits: visus train '{data}' --split-file {split}\n"
    )


@pytest.fixture
def grown(tmp_path: Path) -> tuple[Path, Path]:
    """A run, and its folder of 24 photos, to which 24 were added since."""
    shop = tmp_path / "shop"
    for number in range(24):
        _noise(shop / ("cup" if number % 2 else "mug") / f"{number:02}.png", number)
    first = visus.train(shop, SMALL[1], visus.Recipe(epochs=1), output=tmp_path / "runs", name="first")
    for number in range(24, 48):
        _noise(shop / ("cup" if number % 2 else "mug") / f"{number:02}.png", number)
    return first.folder, shop


def test_runs_of_data_that_grew_are_compared_on_what_both_tested(grown: tuple[Path, Path], tmp_path: Path) -> None:
    first, shop = grown
    second = visus.train(
        visus.open_data(shop, split=first / "split.csv"),
        SMALL[1],
        visus.Recipe(epochs=1),
        output=tmp_path / "runs",
        name="second",
    )
    with pytest.raises(DataError) as caught:
        visus.compare(first, second)
    num_tested = len((first / "split.csv").read_text().split(",test,")) - 1
    assert str(caught.value) == (
        "shop changed between the trainings of first and second. Their test sets have "
        f"{num_tested} samples in common; compare them on these with data={str(shop)!r}."
    )
    assert visus.compare(first, second, data=shop).contenders[0].scores.num_samples == num_tested


def test_runs_of_data_that_was_split_anew_name_what_the_second_learned(grown: tuple[Path, Path], tmp_path: Path) -> None:
    first, shop = grown
    anew = visus.train(
        visus.open_data(shop, split_seed=1), SMALL[1], visus.Recipe(epochs=1), output=tmp_path / "runs", name="anew"
    )
    tested, kept = (
        {row.sample for row in read_split_csv(run / "split.csv") if row.split == "test"} for run in (first, anew.folder)
    )
    with pytest.raises(DataError) as caught:
        visus.compare(first, anew)
    common = f"{len(tested & kept)} sample{'s' if len(tested & kept) > 1 else ''}"
    assert str(caught.value).startswith(
        f"shop changed between the trainings of first and anew. Their test sets have {common} in common"
    )
    assert str(caught.value).endswith(
        f" anew was trained on {len(tested - kept)} test samples of first. To keep the test set of first, train with its split: "
        f"visus.train(visus.open_data({str(shop)!r}, split={str(first / 'split.csv')!r}))"
    )


def _noise(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path)


def test_a_training_goes_on_with_moved_data(moved: tuple[Path, Path], visus_command: Call) -> None:
    folder, data = moved
    answer = visus_command("train", data, "--resume", folder, "-q")
    assert (answer.code, answer.out) == (0, f"{folder}\n")
    assert visus_command("report", folder).code == 0


def test_a_report_is_not_written_from_other_data(run: Path, tmp_path: Path, photos: Path, visus_command: Call) -> None:
    for label in ("dark", "light"):
        (tmp_path / "other" / label).mkdir(parents=True)
        shutil.copy(photos / label / "00.png", tmp_path / "other" / label)
    assert visus_command("report", run, tmp_path / "other").err == (
        f"error: {tmp_path / 'other'}: a report needs the run's own held-out samples, and this is other data. "
        "To score it: visus evaluate RUN DATA\n"
    )


def test_labels_that_lay_next_to_the_data_are_found_at_the_new_place(photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "other labels.csv").write_text(
        "path,label\n"
        + "".join(f"{c}/{i:02}.png,{'odd' if i % 2 else 'even'}\n" for c in ("dark", "light") for i in range(30))
    )
    opened = visus.open_data(data, labels=data / "other labels.csv")
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    folder = visus.train(opened, "globalpool, linear(classes)", recipe, output=tmp_path / "runs").folder
    data.rename(tmp_path / "elsewhere")
    run = visus.load(folder)
    assert run.evaluate(tmp_path / "elsewhere").split == "test"
    assert run.evaluate().split == "test"
    (tmp_path / "elsewhere" / "other labels.csv").unlink()
    with pytest.raises(DataError) as caught:
        run.evaluate()
    assert str(caught.value) == (
        f"{tmp_path / 'elsewhere' / 'other labels.csv'}: the label file that this run was trained with is missing. Put it back."
    )
