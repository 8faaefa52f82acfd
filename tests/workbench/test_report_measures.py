"""What a run tells beyond its scores: measured on its own held-out samples, in every rank, and never at the price of the run."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.commands import Call
from torch import nn

import visus
from visus.caller import called_by_command
from visus.errors import UsageError
from visus.evaluation.calibration import UNCALIBRATED, TemperatureFit
from visus.examine import saliency
from visus.progress import SILENT
from visus.workbench.look.map_methods import TriedMethod
from visus.workbench.modules import make_network
from visus.workbench.report import measures as report_measures
from visus.workbench.report import saliency as report_saliency
from visus.workbench.report.measures import sight_of
from visus.workbench.report.reports import fit_calibration
from visus.workbench.runs.mistakes import AnsweringNetwork, named_mistakes

RECIPE = visus.Recipe(epochs=2, batch_size=8, precision="float32")


def inside_of(folder: Path) -> Any:
    return json.loads((folder / "inside.json").read_text())


def arrays(folder: Path, size: tuple[int, ...], num_samples: int = 60) -> Path:
    """Samples of three classes that differ in their mean, as an NPZ file."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_samples) % 3
    values = rng.normal(size=(num_samples, *size)) + labels.reshape(-1, *([1] * len(size)))
    np.savez(folder / "samples.npz", x=values.astype(np.float32), y=labels)
    return folder / "samples.npz"


def test_a_run_leaves_what_its_report_reports(run: Path) -> None:
    facts, page = inside_of(run), (run / "report.html").read_text("utf-8")
    scores = json.loads((run / "scores.json").read_text())
    assert facts["missing"] == {}
    assert facts["calibration"]["before"]["error"] == pytest.approx(scores["calibration_error"], abs=1e-6)
    assert facts["calibration"]["before"]["loss"] == pytest.approx(scores["loss"], abs=1e-6)
    assert facts["mistakes"]["num_wrong"] == scores["num_samples"] - sum(row[k] for k, row in enumerate(scores["confusion"]))
    assert facts["moves"]["num_samples"] <= scores["num_samples"]
    assert facts["sight"]["layers"][0]["path"] == "conv1"
    assert len(page.encode()) < 3_000_000
    for words in (
        "samples of the validation set are too few to fit a temperature on; about 570 more samples in the data allow it.",
        "Consistency under shifts",
        "First layer",
        "Receptive field",
    ):
        assert words in page


def test_the_temperature_is_fitted_on_the_validation_split_alone(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = visus.load(run)
    data = loaded.open_data()
    labels = torch.from_numpy(data.split("val").labels)
    told = inside_of(run)["calibration"]
    assert (told["fitted_on"], told["measured_on"], told["num_fitted"]) == ("val", "test", len(labels))
    assert told["temperature"] is None  # of so few samples
    assert loaded.calibration.temperature == 1
    asked: list[tuple[torch.Tensor, torch.Tensor, str, float]] = []
    monkeypatch.setattr(
        "visus.evaluation.tasks.evaluations.single_label.choose_temperature",
        lambda *given, **more: asked.append(given) or TemperatureFit(),
    )
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    fit_calibration(visus.load(copy), data, loaded.answers(data, "test"))
    ((logits, given, split, smoothing),) = asked
    assert (split, smoothing) == ("val", loaded.recipe.label_smoothing)
    assert torch.equal(given, labels)
    assert torch.equal(logits, loaded.answers(data, "val"))


def test_mistakes_are_named_by_their_files(run: Path) -> None:
    loaded = visus.load(run)
    found = loaded.mistakes(limit=3)
    with open(run / "split.csv", newline="") as file:
        splits = {row["sample"]: (row["split"], row["label"]) for row in csv.DictReader(file)}
    assert found.unsure_right
    for each in found.shown():
        assert splits[each.sample] == ("test", each.label)
        assert len(each.alike) == 3
        assert all(splits[near.sample] == ("train", near.label) for near in each.alike)
    sure = [each.probability for each in found.unsure_right]
    assert sure == sorted(sure)
    assert (found.num_compared, found.feature_layer) == (found.num_training, "linear1")
    assert not found.notes
    assert found.num_samples == loaded.scores.num_samples


def test_of_samples_that_were_learned_it_is_said_so(run: Path) -> None:
    found = visus.load(run).mistakes(split="train", limit=2)
    assert found.notes == (
        "The network was trained on these samples: it has memorized many wrong labels, so the list has only a few of them. "
        "Use held-out samples instead.",
    )
    for each in found.shown():
        assert each.sample not in {near.sample for near in each.alike}
    assert visus.load(run).mistakes(split="val").notes == ("These samples were also used to select the weights.",)


def test_mistakes_on_other_data_are_compared_with_the_samples_of_the_training(run: Path, other_photos: Path) -> None:
    found = visus.load(run).mistakes(other_photos, limit=2)
    assert (found.split, found.num_samples) == ("all", 60)
    assert found.num_compared == found.num_training > 0


@dataclasses.dataclass(frozen=True)
class Labeled:
    """A split without names."""

    labels: np.ndarray[Any, Any]
    name: str = "test"

    @property
    def names(self) -> list[str]:
        return [f"{place}.png" for place in range(len(self.labels))]

    def __len__(self) -> int:
        return len(self.labels)


def test_a_network_whose_accuracy_still_rises_judges_few_labels_or_none() -> None:
    labels = np.arange(200) % 2
    network: Any = AnsweringNetwork(nn.Identity(), ("a", "b"), types.SimpleNamespace(noun="image"))  # type: ignore[arg-type]
    for num_wrong, is_unfinished, num_listed in ((20, True, 0), (20, False, 20), (8, True, 8)):
        said = np.where(np.arange(200) < num_wrong, 1 - labels, labels)
        probabilities = torch.from_numpy(0.98 * np.eye(2)[said] + 0.01)
        part: Any = Labeled(labels)
        found = named_mistakes(network, part, probabilities, is_unfinished=is_unfinished)
        assert (found.num_suspicious, found.is_unfinished) == (num_listed, num_listed == 0)
        if not num_listed:
            assert found.notes[0].endswith(
                "and would suspect 20 labels, while its accuracy still rises: train longer first."
            )


@pytest.mark.parametrize(
    ("share_known", "sentence"),
    [
        (
            0.0,
            "Labels that may be wrong are not listed, since this network is too inaccurate to judge them: it predicts the label of 30 of 150 "
            "images, which does not show that it beats always guessing one class (20.0 %).",
        ),
        (
            0.5,
            "Labels that may be wrong are not listed, since this network is too inaccurate to judge them: it predicts the label of 85 of 150 "
            "images, and would suspect 65 labels, more than a quarter.",
        ),
        (0.95, ""),
    ],
)
def test_a_network_that_knows_little_judges_no_labels(share_known: float, sentence: str) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(150) % 5
    said = np.where(rng.random(150) < share_known, labels, rng.integers(0, 5, 150))
    logits = torch.from_numpy(4.0 * np.eye(5)[said] + rng.random((150, 5)))
    network: Any = AnsweringNetwork(nn.Identity(), tuple("abcde"), types.SimpleNamespace(noun="image"))  # type: ignore[arg-type]
    part: Any = Labeled(labels)
    found = named_mistakes(network, part, UNCALIBRATED(logits))
    assert found.notes == ((sentence,) if sentence else ())
    assert (found.num_suspicious > 0) == (sentence == "")
    assert (found.suspicious != ()) == (sentence == "")


def test_labels_apart_leave_the_next_most_confident_mistakes() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    said = np.where(rng.random(200) < 0.9, labels, rng.integers(0, 4, 200))
    logits = torch.from_numpy((2.0 + 2.0 * rng.random((200, 1))) * np.eye(4)[said])
    network: Any = AnsweringNetwork(nn.Identity(), tuple("abcd"), types.SimpleNamespace(noun="image"))  # type: ignore[arg-type]
    part: Any = Labeled(labels)
    whole = named_mistakes(network, part, UNCALIBRATED(logits), limit=200)
    doubtful = {each.place for each in whole.suspicious}
    assert 0 < len(doubtful) < whole.num_wrong
    assert doubtful < {each.place for each in whole.confident_wrong}  # each of them is a mistake
    apart = named_mistakes(network, part, UNCALIBRATED(logits), limit=2, are_labels_apart=True)
    expected = [each.place for each in whole.confident_wrong if each.place not in doubtful]
    assert [each.place for each in apart.confident_wrong] == expected[:2]
    assert apart.suspicious == whole.suspicious[:2]
    assert (apart.num_wrong, apart.num_suspicious) == (whole.num_wrong, whole.num_suspicious)


def test_the_command_lists_mistakes(visus_command: Call, run: Path) -> None:
    told = json.loads(visus_command("evaluate", run, "--mistakes", "--limit", "2", "--json").out)["mistakes"]
    with called_by_command():
        assert told == json.loads(json.dumps(visus.load(run).mistakes(limit=2).to_json()))
    answer = visus_command("evaluate", run, "--mistakes", "--limit", "2")
    assert answer.code == 0
    assert f"mistakes: {told['num_wrong']} of {told['num_samples']} images of the test split" in answer.out
    for each in told["unsure_right"]:
        assert each["sample"] in answer.out
    assert "mistakes" not in json.loads(visus_command("evaluate", run, "--json").out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--limit", "2"], "error: --limit needs --mistakes. Add it, or leave --limit out.\n"),
        (["--mistakes", "--limit", "0"], "error: --limit must be at least 1, not 0.\n"),
    ],
)
def test_a_number_of_mistakes_is_used_or_refused(visus_command: Call, run: Path, words: list[str], message: str) -> None:
    answer = visus_command("evaluate", run, *words)
    assert (answer.code, answer.err) == (2, message)


@pytest.mark.parametrize(("size", "noun"), [((2, 64), "signal"), ((1, 12, 12, 12), "volume")])
@pytest.mark.long
def test_signals_and_volumes_have_the_same_report(tmp_path: Path, size: tuple[int, ...], noun: str) -> None:
    run = visus.train(arrays(tmp_path, size), "conv(4, 3), relu, globalpool, linear(classes)", RECIPE, output=tmp_path)
    facts, page = inside_of(run.folder), (run.folder / "report.html").read_text("utf-8")
    assert facts["missing"] == {}
    assert {each["method"] for each in facts["saliency"]["tested"]} >= {"Grad-CAM", "gradient", "center prior"}
    assert "<h3>Consistency under shifts</h3>" in page
    assert page.count("<svg" if noun == "signal" else "<img") > 10


class Odd(nn.Module):
    """It runs on whole batches of the size of its training alone, and its gradients cannot be had."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(300, 2) * 0.01)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training and not torch.is_grad_enabled() and len(x) > 1:
            return x.flatten(1) @ self.weight
        if self.training:
            return x.flatten(1) @ self.weight
        raise RuntimeError("this network is odd\nand says so.")


def chosen_by(monkeypatch: pytest.MonkeyPatch, run: Path, make: Any, *, only: bool = True) -> tuple[Any, list[int]]:
    """What the report's saliency is where one method of a person's own is tried."""
    opened = visus.load(run)
    data = opened.open_data()
    answers = opened.answers(data, "test")
    finished = report_measures.FinishedRun(opened, data, make_network("mlp", (3, 16, 16), 2), answers, 1, 8, 1.0)
    mistakes = report_measures._mistakes(finished, 0, SILENT)
    places = list(dict.fromkeys(each.place for each in (*mistakes.confident_wrong, *mistakes.unsure_right)))
    method = TriedMethod("occlusion", make, is_cheap=False)
    monkeypatch.setattr(
        report_saliency, "tried_methods", lambda module, x, target, **_: ([(method, make(module, x, target))], "")
    )
    return report_measures._saliencies(finished, mistakes, 10_000), places


def test_a_report_shows_no_map_where_no_method_passes(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(module: nn.Module, inputs: Any, target: Any = None) -> Any:
        found = saliency.gradient_saliency(module, inputs, target)
        return dataclasses.replace(found, map=np.zeros_like(found.map))

    found, places = chosen_by(monkeypatch, run, flat)
    assert (found.method, found.maps, found.hidden) == ("", {}, frozenset(places))
    assert found.reason.startswith("No map is shown: no method passes deletion and insertion on held-out images. Share of ")
    assert [each["is_passed"] for each in found.tested if each["method"] == "gradient"] == [False]


def test_a_report_shows_the_method_that_passes_and_only_maps_that_pass(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[int] = []

    def by_windows(module: nn.Module, inputs: Any, target: Any = None) -> Any:
        found = saliency.occlusion(module, inputs, target, window=2)
        maps = found.map.copy()
        if emptied:
            maps[0] = 0.0
        emptied.append(1)
        return dataclasses.replace(found, map=maps)

    found, places = chosen_by(monkeypatch, run, by_windows)
    assert found.method == "occlusion"
    assert "occlusion passes deletion and insertion on held-out images" in found.reason
    assert "A Gaussian at the center, the same for every image, passes on " in found.reason
    assert places[0] in found.hidden
    assert set(found.maps) | found.hidden == set(places)
    assert not set(found.maps) & found.hidden


def test_a_module_that_cannot_be_looked_into_is_trained_and_the_report_says_why(photos: Path, tmp_path: Path) -> None:
    run = visus.train(photos, Odd(), RECIPE, output=tmp_path)
    facts, page = inside_of(run.folder), (run.folder / "report.html").read_text("utf-8")
    assert run.scores.num_samples == 12
    assert set(facts["missing"]) == {"sight", "advice", "alike", "saliency", "filters"}
    assert len(facts["mistakes"]["unsure_right"] + facts["mistakes"]["confident_wrong"]) > 0
    failure = "RuntimeError: this network is odd and says so, in Odd, at "
    assert facts["missing"]["alike"].startswith(failure)
    says_why = f"Similar training images could not be found: {failure}" in page
    assert says_why == bool(facts["mistakes"]["confident_wrong"])
    assert facts["missing"]["saliency"].startswith(failure)
    assert f"Saliency maps could not be made: {failure}" in page
    assert facts["calibration"]["before"]["loss"] > 0
    assert facts["moves"]["num_samples"] > 0


@pytest.mark.long
def test_without_a_test_split_the_temperature_is_fitted_on_the_scored_samples_and_that_is_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(100, 8, 8)).astype(np.float32), np.arange(100) % 2
    names = {"train": slice(0, 28), "val": slice(28, 100)}
    parts = {f"{name}_images": values[part] for name, part in names.items()} | {
        f"{name}_labels": labels[part] for name, part in names.items()
    }
    np.savez(tmp_path / "halves.npz", **parts)
    run = visus.train(tmp_path / "halves.npz", "conv(2, 3), globalpool, linear(classes)", RECIPE, output=tmp_path)
    told = inside_of(run.folder)["calibration"]
    assert told["measured_on"] == told["fitted_on"] == "val"
    assert (told["num_fitted"], told["num_samples"]) == (72, 72)


@pytest.mark.long
def test_a_shuffled_run_is_looked_into_in_its_true_order(photos: Path, tmp_path: Path) -> None:
    import dataclasses

    data = visus.open_data(photos)
    shuffled = dataclasses.replace(data, preprocessing=dataclasses.replace(data.preprocessing, shuffle_seed=1))
    run = visus.train(shuffled, "conv(4, 3), relu, globalpool, linear(classes)", RECIPE, output=tmp_path)
    facts = inside_of(run.folder)
    assert not {"Grad-CAM"} & {each["method"] for each in facts["saliency"]["tested"]}
    assert facts["moves"]["layers"] is None
    assert "The network reads shuffled positions, so its layers see no image that could shift." in facts["moves"]["notes"]


def test_sight_reports_growth_the_middle_box_and_gates() -> None:
    sight = sight_of(
        visus.summary(
            "conv(4, 3, padding=1), relu, conv(4, 3, stride=2), se(2), globalpool, linear(classes)", (3, 16, 16), 5
        )
    )
    assert [(each.path, each.size_px, each.is_all) for each in sight.layers] == [
        ("conv1", (3, 3), False),
        ("conv2", (5, 5), False),
        ("globalpool1", (16, 16), True),
    ]
    assert sight.gates == "se1"
    assert sight.last_path == "se1"
    plain = sight_of(
        visus.summary("conv(4, 3, padding=1), relu, conv(4, 3, stride=2), globalpool, linear(classes)", (3, 16, 16), 5)
    )
    assert (plain.last_path, plain.last_position, plain.box, plain.gates) == ("conv2", (3, 3), ((5, 9), (5, 9)), "")


def test_a_network_of_a_person_can_be_asked_for_no_mistakes(run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.load(run).mistakes(limit=0)
    assert str(caught.value) == "the number of samples to show must be at least 1, not 0."
