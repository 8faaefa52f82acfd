"""``visus compare`` of runs, and ``visus evaluate --shifts``: the same samples, the same recipe, and every refusal in words."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import SMALL, Call

import visus
from visus.cli.show import show
from visus.data.ledger import Ledger
from visus.data.preprocessing import Preprocessing
from visus.design import parse
from visus.errors import DataError, RunError, UsageError
from visus.evaluation.paired import holm
from visus.evaluation.shifts import WAYS, PhasePattern
from visus.tables import Table
from visus.training.recipe import FIELDS, Recipe
from visus.training.runs import RunFolder
from visus.workbench.compare.runs import compare_runs
from visus.workbench.experiment.mlp import compare_with_mlps, rising_note
from visus.workbench.experiment.retraining import usable_recipe
from visus.workbench.experiment.shuffle import compare_with_shuffled
from visus.workbench.runs.saved import network_name
from visus.workbench.runs.shift_remedies import (
    BLUR_PRICE,
    MEASUREMENTS,
    SHIFT_AUGMENTATION,
    SHIFT_PRICE,
    MeasuredPrice,
    antialiased_design,
    remedies,
    shift_trade_off,
)
from visus.workbench.runs.shifts import _phase_lines, reading, report_shifts, some_samples

pytestmark = pytest.mark.usefixtures("light_pages")

VIEWS = "Unsure predictions are the mean over 2 copies of the image: unchanged and mirrored (test-time augmentation)."
FLAT = "conv(4, 3, padding=1), relu, maxpool(2), flatten, linear(classes)"


@pytest.fixture(scope="session")
def flat(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that flattens, on the same images and split as ``run``."""
    recipe = visus.Recipe(epochs=2, batch_size=8, precision="float32", learning_rate=0.01)
    return visus.train(photos, FLAT, recipe, output=tmp_path_factory.mktemp("flat"), name="flat").folder


@pytest.fixture(scope="session")
def other_split(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the same images, split by another seed."""
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    return visus.train(
        visus.open_data(photos, split_seed=5), FLAT, recipe, output=tmp_path_factory.mktemp("other"), name="other"
    ).folder


# ---- two runs ----


def test_two_runs_are_compared_sample_by_sample(run: Path, flat: Path) -> None:
    left, right = visus.load(run), visus.load(flat)
    found = compare_runs(left, right)
    (pair,) = found.pairs
    assert (found.split, found.noun, pair.answers.num_samples) == ("test", "image", 12)
    assert [each.scores.accuracy for each in found.contenders] == [left.evaluate().accuracy, right.evaluate().accuracy]
    assert pair.answers.accuracy_left == found.contenders[0].scores.accuracy
    names = {str(each.sample) for each in pair.answers.differing}
    answers = [{str(Path(each.file)): each.label for each in one.predict([_root(run)])} for one in (left, right)]
    assert names == {
        sample for sample in left.open_data().split("test").names
        if answers[0][str(_root(run) / sample)] != answers[1][str(_root(run) / sample)]
    }  # fmt: skip


def test_a_comparison_names_the_networks_and_the_settings_that_differ(run: Path, flat: Path) -> None:
    found = visus.compare(run, flat, progress=False)
    kept, changed = (visus.load(each).recipe for each in (run, flat))
    assert [each.kind_in_words for each in found.contenders] == [network_name(visus.load(each)) for each in (run, flat)]
    assert [each.kind_in_words for each in found.contenders] == [SMALL[1], "Sequential of 5 layers"]
    names = [name for name in FIELDS if getattr(kept, name) != getattr(changed, name)]
    assert [name for name, _, _ in found.settings] == names
    assert ("learning_rate", f"{kept.learning_rate:g}", "0.01") in found.settings
    lines = [each for each in found.text() if isinstance(each, Table)]
    assert ("setting", run.name, "flat") in [each.headings for each in lines]
    assert visus.compare(run, run, progress=False).settings == ()


def test_three_runs_are_one_table_and_each_is_paired_with_the_first(run: Path, flat: Path) -> None:
    opened = [visus.load(each) for each in (run, flat, run)]
    found = visus.compare(run, opened[1], run, progress=False)
    assert [each.folder for each in found.contenders] == [each.folder for each in opened]
    assert [(pair.left, pair.right) for pair in found.pairs] == [(str(run), str(flat)), (str(run), str(run))]
    for pair, right in zip(found.pairs, (flat, run), strict=True):
        alone = visus.compare(run, right, progress=False).pairs[0]
        assert (alone.answers, alone.holm_p_value) == (pair.answers, None)
    assert tuple(pair.holm_p_value for pair in found.pairs) == holm([pair.answers.p_value for pair in found.pairs])
    table = next(each for each in found.text() if isinstance(each, Table))
    assert table.headings == (
        *("run", "network", "accuracy", "95 % interval", "loss", "parameters", "multiply-adds", "trained in"),
    )
    assert [row[4] for row in table.rows] == [f"{each.evaluate().loss:.4f}" for each in opened]
    assert all(len(setting) == 4 and setting[1] == setting[3] != setting[2] for setting in found.settings)
    assert found.settings == tuple((*each, each[1]) for each in visus.compare(run, flat, progress=False).settings)
    assert (
        f"2 runs are tested against {opened[0].name} at once, so each p-value is corrected by Holm's method: one below 0.05 is "
        "significant. The intervals are those of single pairs."
    ) in found.notes
    assert found.to_json()["pairs"][0]["holm_p_value"] == found.pairs[0].holm_p_value


def test_three_runs_are_compared_on_the_samples_that_all_held_out(run: Path, flat: Path, other_split: Path) -> None:
    tested = [set(visus.load(each).open_data().split("test").names) for each in (run, flat, other_split)]
    found = visus.compare(run, flat, other_split, progress=False)
    num_common = len(set.intersection(*tested))
    assert [each.scores.num_samples for each in found.contenders] == [num_common] * 3
    assert (
        f"{len(tested[0]) - num_common:,} of the {len(tested[0])} samples in the test split of {visus.load(run).name}"
        in " ".join(found.notes)
    )
    assert any("are not in those of all other runs, and are dropped." in note for note in found.notes)


def test_too_few_runs_and_data_among_them_are_refused(run: Path, flat: Path, tmp_path: Path) -> None:
    for given, words in (((), "none"), ((run,), "one")):
        with pytest.raises(UsageError) as caught:
            visus.compare(*given)
        assert str(caught.value) == f"compare needs at least two runs, and {words} is given. Name another run."
    with pytest.raises(UsageError) as caught:
        visus.compare(run, flat, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is no run folder. Name runs only; data to compare them on goes to --data, in Python to data=."
    )


def test_what_is_no_run_among_runs_is_refused(run: Path, flat: Path) -> None:
    for given, what in ((([run], flat), "a list of runs"), (([run, None],), "a NoneType"), ((run, 3), "an int")):
        with pytest.raises(UsageError) as caught:
            visus.compare(*given)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"compare takes runs or their folders, one by one or all in one list, and {what} stands among them."
        )


def test_data_that_is_a_run_is_refused(run: Path, flat: Path) -> None:
    for third, name in ((flat, flat), (visus.load(flat), "flat")):
        with pytest.raises(UsageError) as caught:
            visus.compare(run, run, data=third)  # type: ignore[arg-type]
        assert (
            str(caught.value)
            == f"{name} is a run, and data is needed here. Name all runs before: compare takes two or more."
        )


def test_the_name_of_a_split_in_the_place_of_data_is_explained(run: Path) -> None:
    loaded = visus.load(run)
    for method in (loaded.evaluate, loaded.mistakes, loaded.shifts):
        with pytest.raises(UsageError) as caught:
            method("train", progress=False)
        assert (
            str(caught.value)
            == "the first argument is data, and there is no file or folder 'train'. Did you mean split='train'?"
        )


def test_a_recipe_in_the_place_of_the_network_is_explained(photos: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.train(photos, visus.Recipe(epochs=1))  # type: ignore[arg-type]
    assert str(caught.value) == (
        "this is a recipe in the place of the network. Write recipe=: visus.train(data, recipe=visus.Recipe(...))."
    )


def _root(run: Path) -> Path:
    return Path(RunFolder.open(run).read_json("data.json")["path"])


def test_a_run_equals_itself(run: Path) -> None:
    found = compare_runs(visus.load(run), visus.load(run))
    assert (found.pairs[0].answers.p_value, found.pairs[0].answers.differing) == (1.0, ())
    assert [each.name for each in found.contenders] == [str(run)] * 2


def test_only_samples_that_both_held_out_are_compared_and_the_rest_is_reported(run: Path, other_split: Path) -> None:
    left, right = visus.load(run), visus.load(other_split)
    found = compare_runs(left, right)
    shared = set(left.open_data().split("test").names) & set(right.open_data().split("test").names)
    assert 0 < found.contenders[0].scores.num_samples == len(shared) < 12
    assert found.notes == (
        VIEWS,
        f"{12 - len(shared)} of the 12 samples in the test split of {run.name} are not in that of other, and are dropped.",
    )


def test_classes_in_another_order_are_matched_by_name(run: Path) -> None:
    left = visus.load(run)
    module = torch.nn.Sequential(left.module, _Swap())
    right = dataclasses.replace(left, module=module, classes=left.classes[::-1])
    assert compare_runs(left, right, data=_root(run)).pairs[0].answers.differing == ()


class _Swap(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1)


def test_other_data_is_compared_whole(run: Path, flat: Path, other_photos: Path, visus_command: Call) -> None:
    facts = json.loads(visus_command("compare", run, flat, "--data", other_photos, "--json").out)
    assert (facts["split"], facts["num_samples"], len(facts["pairs"])) == ("all", 60, 1)
    assert facts["notes"][0] == VIEWS
    assert [each["scores"]["num_learned"] for each in facts["runs"]] == [0, 0]
    facts = json.loads(visus_command("compare", run, flat, "--data", _root(run), "--json").out)
    assert (facts["split"], facts["num_samples"]) == ("test", 12)


def test_a_table_that_needs_options_is_compared_with_them(
    run: Path, flat: Path, other_photos: Path, tmp_path: Path, visus_command: Call
) -> None:
    rows = [f"{file},{file.parent.name}" for file in sorted(other_photos.glob("*/*.png"))]
    table = tmp_path / "new.csv"
    table.write_text("\n".join(["file,kind", *rows, f"{tmp_path / 'gone.png'},dark", ""]))
    with pytest.raises(DataError) as caught:
        visus.compare(run, flat, data=table, progress=False)
    assert "path_column" in str(caught.value)
    options = ["--path-column", "file", "--label-column", "kind", "--skip-missing", "--max-unreadable", "0.2"]
    facts = json.loads(visus_command("compare", run, flat, "--data", table, *options, "--json").out)
    assert facts["num_samples"] == len(rows)
    keywords: dict[str, Any] = {"path_column": "file", "label_column": "kind", "skip_missing": True, "progress": False}
    found = visus.compare(run, flat, data=table, **keywords)
    assert found.to_json()["runs"][1]["scores"] == facts["runs"][1]["scores"]
    opened = visus.load(run).open_data(table, **keywords)
    assert visus.load(run).compare(flat, opened, progress=False).pairs == found.pairs
    assert visus.compare(run, flat, data=opened, progress=False).pairs == found.pairs
    for given, message in (
        (
            None,
            "path_column, label_column, skip_missing without other data: the run reads its own as it was trained on. Leave it out.",
        ),
        (
            opened,
            "path_column, label_column, skip_missing cannot be given with opened data. Give its path, or leave it out.",
        ),
    ):
        with pytest.raises(UsageError) as caught_usage:
            visus.compare(run, flat, data=given, **keywords)
        assert str(caught_usage.value) == message
    smaller = visus.open_data(table, img_size=6, **keywords)
    with pytest.raises(UsageError) as caught_usage:
        visus.compare(run, flat, data=smaller, progress=False)
    assert str(caught_usage.value) == (
        f"{visus.load(run).name} reads samples in another way than this opened data, or has other classes. Give the path of the data: each run opens it for itself."
    )


def test_a_list_of_runs_is_compared_as_runs_are(run: Path, flat: Path) -> None:
    found = visus.compare([run, flat], progress=False)
    assert found.pairs == visus.compare(run, flat, progress=False).pairs
    with pytest.raises(UsageError) as caught:
        visus.compare([run], progress=False)
    assert str(caught.value) == "compare needs at least two runs, and one is given. Name another run."


def test_what_two_runs_do_not_share_is_refused(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for classes, name in ((("dark", "light"), "pairs"), (("dark", "bright"), "named")):
        for label in classes:
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(12):
                values = rng.integers(0, 256, (10, 10, 3), dtype=np.uint8)
                Image.fromarray(values).save(tmp_path / name / label / f"{number}.png")
    recipe = visus.Recipe(epochs=1, batch_size=4, precision="float32")
    pairs, named = (visus.train(tmp_path / name, FLAT, recipe, output=tmp_path / "runs") for name in ("pairs", "named"))
    with pytest.raises(DataError) as caught:
        compare_runs(visus.load(run), pairs)
    assert str(caught.value) == (
        f"{run.name} was trained on {_root(run).name} and pairs on other data (pairs), so they share no held-out samples. "
        "Give the data to compare them on with data."
    )
    with pytest.raises(UsageError) as caught_usage:
        compare_runs(visus.load(run), named)
    assert str(caught_usage.value) == (
        f"{run.name} and named cannot be compared: only one of them knows bright, light. Give runs with the same classes."
    )


def test_runs_without_a_common_sample_are_refused(run: Path, flat: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(flat, moved)
    text = (moved / "split.csv").read_text()
    swapped = text.replace(",test", ",xxxx").replace(",train", ",test").replace(",xxxx", ",train")
    (moved / "split.csv").write_text(swapped)
    with pytest.raises(DataError) as caught:
        compare_runs(visus.load(run), visus.load(moved))
    assert str(caught.value) == (
        f"no sample is in the test split of both {run.name} and moved. Name another with split, or give data with data."
    )


def test_damaged_results_are_named(run: Path, flat: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(flat, broken)
    (broken / "results.csv").write_text("epoch,seconds\n1,soon\n")
    with pytest.raises(RunError) as caught:
        compare_runs(visus.load(run), visus.load(broken))
    assert str(caught.value) == f"{broken}: results.csv is damaged. Put it back, or train again with visus.train."


def test_the_table_of_two_runs_names_the_samples_on_which_they_differ(run: Path, flat: Path, visus_command: Call) -> None:
    answer = visus_command("compare", run, flat)
    found = compare_runs(visus.load(run), visus.load(flat))
    assert answer.code == 0
    assert "12 images (test); baseline, always guessing dark: 50.0 %" in answer.out
    flowing = " ".join(answer.out.split())
    assert found.pairs[0].sentence("image") in flowing
    for each in found.pairs[0].answers.differing:
        assert each.sample in answer.out


# ---- twins and shuffled images ----


@pytest.mark.long
def test_twins_are_trained_with_the_same_data_split_recipe_and_seed(flat: Path, tmp_path: Path) -> None:
    found = compare_with_mlps(visus.load(flat), with_shuffled=True, output=tmp_path)
    assert [(each.kind, each.is_shuffled) for each in found.contenders] == [
        ("network", False), ("network", True), ("equal parameters", False), ("equal parameters", True),
        ("equal width", False), ("equal width", True),
    ]  # fmt: skip
    assert [each.name for each in found.contenders][1:3] == ["flat-shuffled", "flat-mlp-equal-parameters"]
    for each in found.contenders[1:]:
        own = Recipe.read(flat / "recipe.yaml")
        expected = own.replace(tta="none") if each.is_shuffled else own
        assert Recipe.read(each.folder / "recipe.yaml") == expected
        assert (each.folder / "split.csv").read_bytes() == (flat / "split.csv").read_bytes()
        assert len(each.history) == 2
        assert each.shifts is not None
    network, _, twin, *_ = found.contenders
    assert abs(twin.num_parameters - network.num_parameters) < 0.5 * network.num_parameters
    pairs = [(pair.left, pair.right) for pair in found.pairs]
    assert pairs[:5] == [("flat", each.name) for each in found.contenders[1:]]
    assert pairs[5:] == [
        ("flat-mlp-equal-parameters", "flat-mlp-equal-parameters-shuffled"),
        ("flat-mlp-equal-width", "flat-mlp-equal-width-shuffled"),
    ]
    assert json.loads(json.dumps(found.to_json()))["runs"][1]["is_shuffled"] is True
    assert any(
        each.startswith("shuffled: the positions of all samples are in one random order (seed 0)") for each in found.notes
    )


def test_a_shuffled_run_reports_it_everywhere_and_goes_on_shuffling(
    flat: Path, photos: Path, tmp_path: Path, visus_command: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = visus_command("experiment", "shuffle", flat, "-o", tmp_path, "--json")
    facts = json.loads(answer.out)
    folder = Path(facts["runs"][1]["folder"])
    assert "ledger    60 samples had their positions shuffled into one fixed random order" in answer.err
    assert json.loads((folder / "ledger.json").read_text())["shuffled"]["count"] == 60
    sentence = "Then the positions of every image are permuted, in the same random order for all (seed 0)."
    assert sentence in (folder / "README.md").read_text()
    assert sentence in (folder / "report.html").read_text()
    loaded = visus.load(folder)
    assert loaded.preprocessing.shuffle_seed == 0
    assert loaded.evaluate() == loaded.scores
    told = visus_command("predict", folder, photos / "dark" / "00.png")
    assert "ledger: 1 sample had its positions shuffled into one fixed random order" in told.err
    (by_hand,) = loaded.predict([photos / "dark" / "00.png"])
    pixels = loaded.preprocessing.read_image(photos / "dark" / "00.png", Ledger())
    plain = Preprocessing.from_dict({**loaded.preprocessing.to_dict(), "shuffle_seed": None}).scaled(
        torch.from_numpy(pixels[None])
    )
    with torch.no_grad():
        shuffled = torch.softmax(loaded.module(loaded.preprocessing.shuffled(plain)).double(), 1)
    assert by_hand.probability == pytest.approx(float(shuffled.max()), abs=1e-5)


def test_a_shuffled_run_is_scored_next_to_the_first_on_one_view_of_each_sample(flat: Path, tmp_path: Path) -> None:
    first = visus.load(flat)
    assert first.recipe.tta == "unsure:flip"
    found = compare_with_shuffled(first, output=tmp_path)
    test = first.open_data().split("test")
    with torch.no_grad():
        answers = first.module(first.preprocessing.scale_values(test.rows(np.arange(len(test))))).softmax(1)
    loss = -answers[torch.arange(len(test)), torch.from_numpy(test.labels)].log().mean()
    assert found.contenders[0].scores.loss == pytest.approx(float(loss), rel=1e-4)
    assert visus.load(found.contenders[1].folder).recipe.tta == "none"
    assert found.notes[0] == (
        "Each answer is that to the image as it is, since shuffled images have no other views: flat may have another figure in its "
        "own report."
    )


def test_views_that_one_run_alone_averages_are_reported_with_its_name(run: Path, photos: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32", tta="none")
    once = visus.train(photos, FLAT, recipe, output=tmp_path, name="once")
    left = visus.load(run)
    assert compare_runs(left, once).notes == (f"{left.name}: {VIEWS}",)


@pytest.mark.slow
def test_twins_of_a_run_that_began_with_smaller_images_see_whole_ones_and_it_is_reported(
    photos: Path, tmp_path: Path
) -> None:
    recipe = visus.Recipe(epochs=3, batch_size=8, precision="float32", progressive_resize="0.5,1")
    grown = visus.train(photos, "conv(4, 3), relu, globalpool, linear(classes)", recipe, output=tmp_path, name="grown")
    found = compare_with_mlps(grown, kinds=["equal width"], with_shuffled=True)
    names = [each.name for each in found.contenders[1:]]
    assert [visus.load(each.folder).recipe.progressive_resize for each in found.contenders] == ["0.5,1", "1", "1", "1"]
    told = f"grown began with smaller images; whole ones throughout, since they take no others: {', '.join(names)}."
    assert told in found.notes


def test_another_network_keeps_the_smaller_samples_where_it_takes_them(photos: Path) -> None:
    data, recipe = visus.open_data(photos), visus.Recipe(progressive_resize="0.5,1", tta="flip")
    assert usable_recipe(recipe, parse("conv(4, 3), relu, globalpool, linear(classes)"), data) == recipe
    assert usable_recipe(recipe, parse(FLAT), data) == recipe.replace(progressive_resize="1")


def test_a_shuffle_is_repeated_bit_for_bit(flat: Path, tmp_path: Path) -> None:
    first, second = (compare_with_shuffled(visus.load(flat), output=tmp_path / name) for name in ("a", "b"))
    weights = [visus.load(each.contenders[1].folder).module.state_dict() for each in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_has_no_twin_is_refused(flat: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        compare_with_mlps(visus.load(flat), kinds=["equal depth"])
    assert str(caught.value) == (
        "unknown kind of twin 'equal depth'. Did you mean 'equal width'? Known: equal output, equal parameters, equal width."
    )
    shuffled = compare_with_shuffled(visus.load(flat), output=tmp_path).contenders[1].folder
    with pytest.raises(UsageError) as caught:
        compare_with_shuffled(visus.load(shuffled))
    assert str(caught.value) == (
        f"{shuffled}: this run was trained on shuffled images itself. Give the run that it was made from."
    )
    own = tmp_path / "own"
    shutil.copytree(run, own)
    loaded = visus.load(own)
    (own / "design.txt").write_text("# a Python object: nets.Own\n")
    for call, purpose in ((compare_with_mlps, "equivalent perceptrons need a design"), (compare_with_shuffled, "this experiment rebuilds the network from its design")):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            call(loaded)
        assert str(caught.value) == f"{own}: {purpose}, and this run's network is a Python object or callable."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "{run}"], "compare needs at least two runs, and one is given. Name another run."),
        (["experiment", "mlp", "{run}", "--input", "3,8,8"], "--input cannot be given with a run. Leave it out."),
        (["experiment", "mlp", "lenet5", "--device", "cpu"], "--device cannot be given with a network. Leave it out."),
    ],
)
def test_options_that_play_no_part_are_refused(visus_command: Call, run: Path, words: list[str], message: str) -> None:
    given = [word.replace("{run}", str(run)) for word in words]
    answer = visus_command(*given)
    assert (answer.code, answer.out, answer.err.splitlines()[0]) == (2, "", f"error: {message}")


# ---- shifts ----


def test_the_shift_report_has_every_way_layer_and_place(flat: Path) -> None:
    loaded = visus.load(flat)
    report = report_shifts(loaded, loaded.open_data(), num_samples=8)
    assert (report.num_samples, report.num_in_split, report.step_px, report.split) == (8, 12, (2, 2), "test")
    assert [each.way for each in report.ways] == list(WAYS)
    assert report.phases is not None
    assert report.phases.step_px == (2, 2)
    assert [each.shift_px for each in report.layers] == [(1, 1), (2, 2)]
    assert [row.path for row in report.layers[0].layers] == ["conv1", "relu1", "pool1", "flatten1", "linear1"]
    assert [each.object_px for each in report.placement.sizes] == [(5, 5), (8, 8), (10, 10)]
    assert json.loads(json.dumps(report.to_json()))["layers"][1]["shift_px"] == [2, 2]


@pytest.mark.long
def test_remedies_are_commands_that_run_and_prices_that_are_right(
    flat: Path, photos: Path, tmp_path: Path, visus_command: Call
) -> None:
    loaded = visus.load(flat)
    antialiased, augmented = remedies(loaded)
    assert (antialiased.name, augmented.name) == (
        "global pooling instead of flatten, blurred pooling instead of strides", "shift augmentation",
    )  # fmt: skip
    assert antialiased.sentence == "122 instead of 314 parameters, 11.7 k instead of 11.0 k multiply-adds"
    assert augmented.sentence == "no cost after the training; the training images are shifted by up to 10 % of each side"
    words = shlex.split(antialiased.command)
    assert words == ["visus", "experiment", "antialias", str(flat)]
    answer = visus_command(*words[1:], "-o", tmp_path, "--json", "-q")
    assert (answer.code, answer.err) == (0, "")
    trained = visus.load(json.loads(answer.out)["comparison"]["runs"][1]["folder"])
    assert antialiased.num_parameters == sum(values.numel() for values in trained.module.parameters())
    assert " ".join((trained.folder / "design.txt").read_text().split()) == " ".join(antialiased.design.split())
    words = shlex.split(augmented.command)
    assert words[:4] == ["visus", "train", str(photos), "-m"]
    assert len(augmented.command) < 600
    answer = visus_command(*words[1:], "--epochs", "1", "-o", tmp_path, "--json", "-q")
    assert (answer.code, answer.err) == (0, "")
    trained = visus.load(json.loads(answer.out)["run"])
    assert trained.preprocessing == loaded.preprocessing
    assert trained.recipe.translate == SHIFT_AUGMENTATION
    assert (trained.folder / "design.txt").read_bytes() == (flat / "design.txt").read_bytes()
    assert (trained.folder / "split.csv").read_bytes() == (flat / "split.csv").read_bytes()


def test_a_remedy_repeats_a_short_command_of_the_run(flat: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(flat, copy)
    facts = json.loads((copy / "data.json").read_text())
    for command, expected in (
        ("visus train photos --seed 3", "visus train photos --seed 3 --translate 0.1"),
        ("visus train photos --translate 0.02", None),
        ("visus train --resume old", None),
        ("visus experiment shuffle old", None),
        (f"visus train -m '{'conv(4, 3), ' * 40}'", None),
    ):
        (copy / "data.json").write_text(json.dumps(facts | {"command": command}))
        (_, augmented) = remedies(visus.load(copy))
        if expected:
            assert augmented.command == expected
        else:
            assert str(copy / "design.txt") in augmented.command


@pytest.mark.parametrize("price", [BLUR_PRICE, SHIFT_PRICE])
def test_the_trade_off_of_the_default_network_is_that_of_the_benchmark(price: MeasuredPrice) -> None:
    measured = json.loads((Path(__file__).parents[2] / MEASUREMENTS).read_text("utf-8"))
    of = {
        name: {each["seed"]: each for each in measured["results"] if each["variant"] == name}
        for name in ("default", price.variant)
    }
    seeds = sorted(of[price.variant])
    changed, plain = ([of[name][seed] for seed in seeds] for name in (price.variant, "default"))
    worst = [np.mean([min(each["consistency"].values()) for each in rows]) for rows in (plain, changed)]
    gain = np.mean([after["accuracy"] - before["accuracy"] for before, after in zip(plain, changed, strict=True)])
    assert len(seeds) == price.num_seeds
    assert (price.plain, price.changed) == pytest.approx(tuple(worst), abs=5.1e-4)
    assert price.accuracy_gain == pytest.approx(gain, abs=5.1e-4)
    assert price.step_time == pytest.approx(measured["step_time"][price.variant]["mean"], abs=0.05)


def test_only_the_default_network_has_its_trade_off_in_the_report(photos: Path, run: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    default = visus.train(photos, "compact", recipe, output=tmp_path)
    sentence = shift_trade_off(default)
    assert sentence.startswith(
        "The default network pools with a stride, which is a trade-off. On the images that come with visus ("
    )
    assert f"{BLUR_PRICE.step_time:.1f} times as long" in sentence
    assert shift_trade_off(visus.load(run)) == ""
    assert json.loads((default.folder / "inside.json").read_text())["moves"]["trade_off"] == sentence
    assert json.loads((run / "inside.json").read_text())["moves"]["trade_off"] == ""


def test_the_design_stays_where_the_weights_belong_to_it(flat: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(flat, copy)
    assert len(remedies(visus.load(copy))) == 2
    (copy / "start.json").write_text(json.dumps({"source": "the weights in best.safetensors", "file": "best.safetensors"}))
    (augmented,) = remedies(visus.load(copy))
    assert augmented.name == "shift augmentation"


def test_a_network_with_nothing_to_change_has_fewer_remedies(run: Path, visus_command: Call) -> None:
    loaded = visus.load(run)
    assert [each.name for each in remedies(loaded)] == ["shift augmentation"]
    assert antialiased_design(loaded) is None
    answer = visus_command("experiment", "antialias", run)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.endswith(
        f"error: {run}: this network has no flatten and no stride to change, or is not a design: there is nothing to train.\n"
    )


def test_the_antialiased_design_has_all_structural_changes_at_once(flat: Path) -> None:
    assert antialiased_design(visus.load(flat)) == (
        parse("conv(4, 3, padding=1), relu, maxpool(2, stride=1), blurpool(3), globalpool, linear(classes)"),
        "global pooling instead of flatten, blurred pooling instead of strides",
    )


@pytest.mark.parametrize(("step", "num_rows"), [((40,), 3), ((4, 4), 4), ((1, 40), 0), ((16,), 1)])
def test_every_phase_is_printed_or_none(step: tuple[int, ...], num_rows: int, capsys: pytest.CaptureFixture[str]) -> None:
    changes = tuple(0.001 * number for number in range(int(np.prod(step))))
    show(tuple(_phase_lines(PhasePattern("roll", step, 3, changes, changes))))
    head, *rows = capsys.readouterr().out.splitlines()
    assert "\u2026" not in head + "".join(rows)
    figures = re.findall(r"[\d.]+ %", " ".join(rows[-num_rows:] if num_rows else []))
    assert figures == ([f"{100 * change:.1f} %" for change in changes] if num_rows else [])


def test_evaluate_adds_the_shift_report(visus_command: Call, flat: Path) -> None:
    facts = json.loads(visus_command("evaluate", flat, "--shifts", "--json").out)
    assert facts["num_samples"] == 12
    assert [each["way"] for each in facts["shifts"]["ways"]] == list(WAYS)
    plain = json.loads(visus_command("evaluate", flat, "--json").out)
    assert {key: value for key, value in facts.items() if key != "shifts"} == plain
    lines = visus_command("evaluate", flat, "--shifts").out.splitlines()
    assert "moved: 12 of 12 images (test), by up to 1 x 1 px, 9 shifts of each" in lines
    (step,) = [line for line in lines if line.startswith("the network's stride is ")]
    assert re.fullmatch(
        r"the network's stride is 2 x 2 px: inside the image, a shift by it moves every map by whole positions, but it changes linear1 by "
        r"[\d.]+ %, since the border, or the layers after the maps, depend on the position",
        step,
    )
    assert any(
        line.startswith(
            "apart from the border, pool1 is the first layer that is not equivariant: its stride of 2 x 2 px does not divide a shift of 1 x 1 px"
        )
        for line in lines
    )
    assert sum(line.startswith("to try: ") for line in lines) == 2


def test_antialias_trains_the_changed_design_and_shows_both(visus_command: Call, flat: Path, tmp_path: Path) -> None:
    here = tmp_path / "flat"
    shutil.copytree(flat, here)
    facts = json.loads(visus_command("experiment", "antialias", here, "--json").out)
    assert [each["name"] for each in facts["comparison"]["runs"]] == ["flat", "flat-antialiased"]
    assert (tmp_path / "flat-antialiased" / "design.txt").read_text().strip().endswith("globalpool, linear(classes)")
    changes = [each["ways"][0]["logit_change"] for each in (facts["shifts"], facts["shifts_antialiased"])]
    assert changes[1] < changes[0]
    kinds = [each["kind"] for each in facts["comparison"]["runs"]]
    assert kinds == ["network", "global pooling instead of flatten, blurred pooling instead of strides"]


def test_antialias_names_what_was_changed(visus_command: Call, flat: Path, tmp_path: Path) -> None:
    here = tmp_path / "flat"
    shutil.copytree(flat, here)
    lines = visus_command("experiment", "antialias", here).out.splitlines()
    changes = "global pooling instead of flatten, blurred pooling instead of strides"
    assert any(line.startswith(f"with {changes}, ") for line in lines)
    assert any(re.match(r" flat +Sequential of 5 layers +\d", line) for line in lines)
    # A narrow column breaks its words over lines, so the row begins with the first of them.
    assert any(re.match(r" flat-antialiased +global pooling .*\d", line) for line in lines)


def test_a_shuffled_run_is_moved_before_it_is_shuffled(flat: Path, tmp_path: Path) -> None:
    folder = compare_with_shuffled(visus.load(flat), output=tmp_path).contenders[1].folder
    loaded = visus.load(folder)
    report = report_shifts(loaded, loaded.open_data(), num_samples=6)
    assert (report.step_px, report.phases, report.layers) == (None, None, ())
    assert report.notes == ("The network reads shuffled positions, so its layers see no image that could shift.",)
    part = loaded.open_data().split("test")
    samples, labels = some_samples(loaded, part, 12)
    right = (reading(loaded)(samples).argmax(1) == labels).double().mean()
    assert float(right) == loaded.scores.accuracy
    with torch.no_grad():
        expected = loaded.module(loaded.preprocessing.scaled(part.rows(np.arange(12))))
        assert torch.equal(reading(loaded)(samples), expected)
        assert not torch.equal(loaded.module(samples), expected)


def test_an_empty_split_cannot_be_moved(flat: Path, other_photos: Path) -> None:
    loaded = visus.load(flat)
    whole = loaded.open_data(other_photos)
    with pytest.raises(DataError) as caught:
        report_shifts(loaded, whole, split="val")
    assert str(caught.value) == "the val split of this data is empty. Choose another with split."


def test_min_max_scaled_objects_stand_on_the_mean_of_the_samples(photos: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")
    run = visus.train(visus.open_data(photos, normalize="min-max"), FLAT, recipe, output=tmp_path)
    report = report_shifts(run, run.open_data(), num_samples=4)
    assert report.notes == (
        f"These figures are about each unchanged image. In a prediction: {VIEWS}",
        "Objects were placed on the mean of the shifted samples.",
    )
    assert ["--normalize min-max" in remedy.command for remedy in report.remedies] == [False, True]


def test_trainings_that_were_best_at_their_end_are_named() -> None:
    nan = float("nan")
    accuracies = {"net": (0.5, 0.7, 0.8), "mlp": (0.6, 0.5, 0.4), "level": (0.9, 0.9), "own": (nan, nan), "none": ()}
    assert rising_note(accuracies) == [
        "The best validation accuracy came at the end of the training, so it may still have been rising: net (epoch 3 of 3). "
        "A short training compares how fast networks learn at first, and not the best that they can reach."
    ]
    assert rising_note({"mlp": (0.6, 0.5)}) == []
    assert rising_note({"net": tuple(epoch if epoch < 19 else 0 for epoch in range(20))})[0].count("(epoch 19 of 20)") == 1
