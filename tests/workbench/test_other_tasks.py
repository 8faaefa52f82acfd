"""Networks that predict sets of classes or numbers, from the first step to a prediction; own losses and metrics."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import visus
from visus.caller import called_by_command
from visus.data.contact_sheet import label_caption
from visus.errors import DataError, RecipeError, TrainingError, UsageError, WeightsError
from visus.evaluation.metric_names import DEFAULT_METRICS
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores
from visus.evaluation.tasks.prediction_intervals import IntervalFit
from visus.evaluation.tasks.regression import Regression
from visus.evaluation.tasks.regression_scores import RegressionScores, score_numbers
from visus.events import DataOpened
from visus.networks.weights import save
from visus.training.events import EpochDone, Finished, HeadFitted, StepDone
from visus.training.head_losses import head_loss_of
from visus.training.heads import fit_head
from visus.workbench import augmented_samples
from visus.workbench.runs.prediction import Decision
from visus.workbench.training_lines import finished_fact, result_fact

NETWORK = "conv(8, 3), relu, globalpool, linear(classes)"
COUNT = 160


def bars(random: np.random.Generator) -> tuple[Any, Any, Any]:
    """Images with a bright column, a bright row, both or neither; the sets of both; and the brightness of a square."""
    x = random.integers(0, 40, (COUNT, 10, 10)).astype(np.uint8)
    sets, numbers = random.integers(0, 2, (COUNT, 2)), random.uniform(20, 200, COUNT)
    for image, (has_column, has_row), value in zip(x, sets, numbers, strict=True):
        image[:, 7] += np.uint8(200 * has_column)
        image[7] = np.minimum(255, image[7].astype(int) + 150 * has_row)
        image[1:5, 1:5] = value
    return x, sets, numbers


@pytest.fixture
def data_of(tmp_path: Path) -> Callable[..., visus.Data]:
    def open_task(task: str, **options: Any) -> visus.Data:
        x, sets, numbers = bars(np.random.default_rng(0))
        keep = {"keep_in": tmp_path / "kept", "progress": False, **options}
        if task == "multi-label":
            return visus.open_data(x=x, y=sets, class_names=["column", "row"], **keep)
        return visus.open_data(x=x, y=numbers, task="regression", **keep)

    return open_task


@pytest.fixture
def train_task(tmp_path: Path, data_of: Callable[..., visus.Data], light_pages: None) -> Callable[..., visus.Run]:
    def train(task: str, epochs: int = 2, **settings: Any) -> visus.Run:
        own = {name: settings.pop(name) for name in ("on_event", "should_stop") if name in settings}
        own["name"] = settings.pop("name", task)
        recipe = visus.Recipe(epochs=epochs, batch_size=16, **settings)
        return visus.train(data_of(task), NETWORK, recipe, output=tmp_path / "runs", progress=False, **own)

    return train


TASKS = ["multi-label", "regression"]


def test_an_own_loss_of_numbers_sees_standardized_ones_and_an_own_metric_their_units(
    train_task: Callable[..., visus.Run],
) -> None:
    def huber(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.huber_loss(outputs, labels, reduction="none").mean(1)

    def error(outputs: torch.Tensor, labels: torch.Tensor) -> float:
        return -float((outputs - labels).abs().mean())

    task = train_task("regression")
    own = train_task("regression", loss=huber, select=error, name="own")
    assert own.history["train_loss"] == task.history["train_loss"]
    assert own.history["val_loss"] == pytest.approx(task.history["val_loss"])
    assert own.history["val_score"] == pytest.approx([-each for each in task.history["val_score"]])


@pytest.mark.parametrize("task", TASKS)
def test_a_contact_sheet_shows_the_labels_of_every_task(
    data_of: Callable[..., visus.Data], task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []

    def draw(heading: Any, rows: Any) -> bytes:
        drawn.extend(row[0] for row in rows)
        return b""

    monkeypatch.setattr(augmented_samples, "draw_table", draw)
    data = data_of(task)
    visus.check(data, augment=visus.Recipe(translate=0.1), output=tmp_path / "sheet.png", progress=False)
    part = data.split("train")
    labels = {
        name: label_caption(label, data.task, data.classes) for name, label in zip(part.names, part.labels, strict=True)
    }
    assert drawn
    assert [each.caption for each in drawn] == [labels[each.name] for each in drawn]


@pytest.mark.parametrize(("task", "kind"), [("multi-label", MultiLabelScores), ("regression", RegressionScores)])
def test_a_run_of_every_task_is_loaded_and_scored_as_it_was_trained(
    train_task: Callable[..., visus.Run], task: str, kind: type
) -> None:
    run = train_task(task)
    again = visus.load(run.folder)
    assert isinstance(again.scores, kind)
    assert again.task == run.task
    assert again.evaluate().to_json() == run.scores.to_json()
    assert {"val_score", "val_loss"} <= set(run.history.columns)
    assert np.isfinite(run.history["val_score"]).all()
    assert (run.folder / "report.html").is_file()
    assert not (run.folder / "confusion.csv").exists()


@pytest.mark.parametrize("task", TASKS)
def test_the_head_of_a_pretrained_network_is_fitted_before_the_first_step(
    task: str, data_of: Callable[..., visus.Data], tmp_path: Path, light_pages: None
) -> None:
    data = data_of(task)
    other = visus.network(NETWORK, data.input_shape, 5)
    save(other, tmp_path / "five.safetensors")
    seen: list[Any] = []
    recipe = visus.Recipe(epochs=0, precision="float32", kernels="pytorch")
    options = {"weights": tmp_path / "five.safetensors", "output": tmp_path / "runs", "progress": False}
    run = visus.train(data, NETWORK, recipe, on_event=seen.append, **options)  # type: ignore[arg-type]
    fitted = next(event for event in seen if isinstance(event, HeadFitted))
    assert (fitted.metric, fitted.num_samples) == (DEFAULT_METRICS[data.task], len(data.split("train")))
    assert math.isfinite(fitted.score)
    kept = run.module.state_dict()["conv1.weight"]
    torch.testing.assert_close(kept, other.state_dict()["conv1.weight"])
    head = cast(Any, run.module.linear1)
    with torch.no_grad():
        features = run.module[:-1](data.preprocessing.scaled(data.split("train").rows(np.arange(len(data.split("train"))))))
    labels, loss = torch.from_numpy(data.split("train").labels), head_loss_of(run.task)
    exact = fit_head(features[None], loss.targets(labels), head.out_features, fitted.decay, loss=loss)
    torch.testing.assert_close(head.weight.detach(), exact.weight, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_training_goes_on_bit_for_bit(task: str, train_task: Callable[..., visus.Run]) -> None:
    whole = train_task(task, epochs=3)
    seen: list[object] = []
    stopped = train_task(
        task, epochs=3, on_event=seen.append, should_stop=lambda: sum(isinstance(each, StepDone) for each in seen) >= 10
    )
    resumed = visus.resume(stopped.folder, progress=False)
    for name, value in whole.module.state_dict().items():
        assert torch.equal(value, resumed.module.state_dict()[name]), name
    assert resumed.scores == whole.scores


def test_a_set_is_predicted_by_the_thresholds_of_its_classes(train_task: Callable[..., visus.Run]) -> None:
    run = train_task("multi-label", epochs=4)
    x, _, _ = bars(np.random.default_rng(1))
    shares = run.calibrator()(run.logits(run.preprocessing.scaled(torch.from_numpy(x[:, None])))).numpy()
    thresholds = run.calibration.thresholds  # type: ignore[union-attr]
    for answer, row in zip(run.predict(x, progress=False), shares, strict=True):
        wanted = {name for name, share, least in zip(run.classes, row, thresholds, strict=True) if share >= least}
        assert set(answer.labels) == wanted
        assert list(answer.probabilities) == sorted(answer.probabilities, reverse=True)


def test_a_prediction_of_a_set_has_the_probability_of_every_class(train_task: Callable[..., visus.Run]) -> None:
    run = train_task("multi-label")
    x, _, _ = bars(np.random.default_rng(1))
    shares = run.calibrator()(run.logits(run.preprocessing.scaled(torch.from_numpy(x[:, None])))).numpy()
    for answer, row in zip(run.predict(x, progress=False), shares, strict=True):
        assert list(answer.class_probabilities) == list(run.classes)
        np.testing.assert_allclose(list(answer.class_probabilities.values()), row, atol=1e-6)
        assert {*answer.at_least(0.0).labels} == {*run.classes}
        assert answer.at_least(1.1).labels == ()
        assert dict(zip(answer.labels, answer.probabilities, strict=True)).items() <= answer.class_probabilities.items()


def test_the_command_prints_every_probability_and_takes_a_threshold(
    train_task: Callable[..., visus.Run], tmp_path: Path, visus_command: Callable[..., Any]
) -> None:
    run = train_task("multi-label")
    x, _, _ = bars(np.random.default_rng(1))
    np.save(tmp_path / "x.npy", x)
    call = ["predict", str(run.folder), str(tmp_path / "x.npy"), "-q", "--probabilities", "--at-least", "0.3"]
    rows = list(csv.DictReader(io.StringIO(visus_command(*call).out)))
    assert list(rows[0]) == ["file", "labels", "probabilities", "probability:column", "probability:row", "error"]
    for row in rows:
        shares = {name: float(row[f"probability:{name}"]) for name in run.classes}
        assert set(filter(None, row["labels"].split("|"))) == {name for name, share in shares.items() if share >= 0.3}
    listed = json.loads(visus_command(*call, "--json").out)
    assert [set(each["class_probabilities"]) for each in listed] == [set(run.classes)] * len(x)


def test_a_number_is_predicted_in_its_units_with_its_interval(train_task: Callable[..., visus.Run]) -> None:
    run = train_task("regression", epochs=6)
    x, _, numbers = bars(np.random.default_rng(1))
    answers = list(run.predict(x, progress=False))
    scores = run.evaluate((x, numbers), progress=False)
    found = np.array([answer.value for answer in answers])
    assert np.abs(found - numbers).mean() == pytest.approx(scores.targets[0].mae, rel=1e-5)  # type: ignore[union-attr]
    (width,) = run.calibration.half_widths  # type: ignore[union-attr]
    for answer in answers:
        (number,) = answer.numbers
        assert (number.low, number.high) == pytest.approx((number.value - width, number.value + width))


def own_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Half of the loss of the task, as a mean."""
    return torch.nn.functional.cross_entropy(outputs, labels) / 2


def wrong_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return outputs


def broken_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    raise ValueError("no such thing")


def own_metric(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of right answers, negated: the worst epoch is the best."""
    return -float((outputs.argmax(1) == labels).float().mean())


def single(tmp_path: Path, **settings: Any) -> visus.Run:
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    recipe = visus.Recipe(epochs=3, batch_size=16, label_smoothing=None, **settings)
    return visus.train(data, NETWORK, recipe, output=tmp_path / "runs", progress=False)


def test_an_own_loss_of_the_same_value_trains_the_same_weights(tmp_path: Path, light_pages: None) -> None:
    settings = {"optimizer": "sgd", "weight_decay": 0.0, "warmup": 0.0}
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    runs = []
    for more in ({"learning_rate": 0.1, "label_smoothing": 0.0}, {"learning_rate": 0.2, "loss": own_loss}):
        recipe = visus.Recipe(epochs=2, batch_size=16, momentum=0.0, **settings, **more)  # type: ignore[arg-type]
        runs.append(visus.train(data, NETWORK, recipe, output=tmp_path / "runs", progress=False))
    for name, value in runs[0].module.state_dict().items():
        torch.testing.assert_close(runs[1].module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert runs[1].recipe.loss == f"{__name__}:own_loss"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            wrong_loss,
            "the own loss returned 64 x 2 for 64 samples. Return a tensor with the loss of each sample, (64,), or their mean, ().",
        ),
        (broken_loss, "the own loss failed with ValueError: no such thing"),
    ],
)
def test_an_own_loss_that_fails_is_named_with_the_reason(
    tmp_path: Path, loss: Callable[..., Any], message: str, light_pages: None
) -> None:
    with pytest.raises(UsageError) as caught:
        single(tmp_path, loss=loss)
    assert str(caught.value).startswith(message)
    assert not list((tmp_path / "runs").glob("*/weights/*"))


def detached_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) != labels).float().mean()


def flat_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (outputs * 0).sum(1)


def marked_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return (outputs.argmax(1) != labels).float().requires_grad_()


def summed_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, labels, reduction="sum")


FLAT = (
    "the own loss has no gradient, or one of 0, at each of 64 random outputs, so nothing can be learned from it. Compute it from the outputs with "
    "operations of PyTorch that have a gradient: no argmax, rounding or comparison."
)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            detached_loss,
            "the own loss returned numbers without a gradient, so nothing can be learned from them. Compute it from the outputs with "
            "operations of PyTorch that have one: no detach, item, numpy or argmax.",
        ),
        (flat_loss, FLAT),
        (marked_loss, FLAT),
        (
            summed_loss,
            "the own loss returned the sum over the samples: it doubles if each sample is there twice, so the steps would grow with the batch. "
            "Return the loss of each sample (reduction='none'), or their mean.",
        ),
    ],
)
def test_an_own_loss_that_cannot_be_trained_is_refused_before_the_training(
    tmp_path: Path, loss: Callable[..., Any], message: str, light_pages: None
) -> None:
    with pytest.raises(UsageError) as caught:
        single(tmp_path, loss=loss)
    assert str(caught.value) == message
    assert not (tmp_path / "runs").exists()


def infinite_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(outputs, labels) + math.inf


def test_an_own_loss_that_is_infinite_is_no_sum(tmp_path: Path, light_pages: None) -> None:
    with pytest.raises(TrainingError) as caught:
        single(tmp_path, loss=infinite_loss)
    assert str(caught.value).startswith(
        "the loss is inf at the first step, before any weight changed. It is that of your own function: "
    )


@pytest.mark.parametrize("mixing", ["mixup", "cutmix"])
def test_an_own_mean_of_mixed_samples_is_refused_before_the_training(tmp_path: Path, mixing: str, light_pages: None) -> None:
    with pytest.raises(UsageError) as caught:
        single(tmp_path, loss=own_loss, **{mixing: 0.5})
    assert str(caught.value) == (
        "mixup and cutmix weight the loss of each sample by its own share, and the own loss returned one number for 64 samples. "
        "Return the loss of each sample, (64,), or leave mixup and cutmix out."
    )
    assert not (tmp_path / "runs").exists()


def changing_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return SIGN["of all"] * torch.nn.functional.cross_entropy(outputs, labels, reduction="none")


def changing_metric(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    return SIGN["of all"] * float(outputs[:, 0].mean())


SIGN = {"of all": 1.0}


@pytest.mark.parametrize(("setting", "function"), [("loss", changing_loss), ("select", changing_metric)])
def test_own_code_that_was_edited_is_found_when_a_training_is_resumed(
    tmp_path: Path, setting: str, function: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, light_pages: None
) -> None:
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    recipe = visus.Recipe(epochs=3, batch_size=16, **{setting: function})  # type: ignore[arg-type]
    run = visus.train(
        data,
        NETWORK,
        recipe,
        output=tmp_path / "runs",
        progress=False,
        on_event=lambda event: visus.events.Stop() if isinstance(event, EpochDone) else None,
    )
    with monkeypatch.context() as changed:
        changed.setitem(SIGN, "of all", -1.0)
        with pytest.raises(WeightsError) as caught:
            visus.resume(run.folder, progress=False)
    what = {"loss": "own loss", "select": "own metric"}[setting]
    values = re.findall(r"'(\S+) for fixed outputs, ", str(caught.value))
    assert f": this checkpoint belongs to another {what}: '" in str(caught.value)
    assert str(caught.value).endswith(f". Continue with the same {what}, or start a new run without --resume.")
    assert float(values[0]) == -float(values[1])
    assert visus.resume(run.folder, progress=False).scores.num_samples


def test_an_own_metric_selects_the_epoch(tmp_path: Path, light_pages: None) -> None:
    seen: list[EpochDone] = []
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    recipe = visus.Recipe(epochs=3, batch_size=16, select=own_metric)  # type: ignore[arg-type]
    visus.train(
        data,
        NETWORK,
        recipe,
        output=tmp_path / "runs",
        progress=False,
        on_event=lambda event: seen.append(event) if isinstance(event, EpochDone) else None,
    )
    for event in seen:
        assert event.row["val_score"] == pytest.approx(-event.row["val_accuracy"])


def absent_metric(outputs: torch.Tensor, labels: torch.Tensor) -> float:
    return math.nan


def written_metric(outputs: torch.Tensor, labels: torch.Tensor) -> str:
    return "0.5"


def swapped_metric(labels: torch.Tensor, outputs: torch.Tensor) -> float:
    return float((outputs.argmax(1) == labels).float().mean())


def test_an_own_metric_that_fails_is_named_before_the_training(tmp_path: Path, light_pages: None) -> None:
    cases = {
        swapped_metric: "the own metric failed with IndexError: Dimension out of range (expected to be in range of [-1, 0], but got 1), at "
        f"{__file__} line ",
        broken_loss: f"the own metric failed with ValueError: no such thing, at {__file__} line ",
        wrong_loss: "the own metric returned 13 x 2, and one number is needed.",
        written_metric: "the own metric returned str, and one number is needed.",
        print: "the own metric returned NoneType, and one number is needed.",
    }
    for metric, message in cases.items():
        with pytest.raises(UsageError) as caught:
            single(tmp_path, select=metric)
        assert message in str(caught.value)
    assert str(caught.value).startswith("builtins:print: ")
    with pytest.raises(UsageError) as caught:
        single(tmp_path, select=broken_loss)
    assert str(caught.value).endswith(". It gets the outputs 13 x 2 and the labels 13 of the validation set, in this order.")
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_is_undefined_after_every_epoch_keeps_the_first_and_says_so(tmp_path: Path, light_pages: None) -> None:
    seen: list[Finished] = []
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    recipe = visus.Recipe(epochs=2, batch_size=16, select=absent_metric)  # type: ignore[arg-type]
    options = {"output": tmp_path / "runs", "progress": False}
    visus.train(
        data, NETWORK, recipe, on_event=lambda event: seen.append(event) if isinstance(event, Finished) else None, **options
    )  # type: ignore[arg-type]
    (end,) = seen
    assert (end.best_epoch, end.is_undefined) == (1, True)
    assert finished_fact(end)[1].endswith(
        f"; kept: the weights of epoch 1, since the {__name__}:absent_metric is undefined (NaN) after every epoch: choose another with select"
    )
    with called_by_command():
        assert finished_fact(end)[1].endswith(" is undefined (NaN) after every epoch: choose another with --select")
    assert len(visus.load(tmp_path / "runs" / data.short_name).scores.to_json())


def test_an_object_as_loss_is_known_to_this_process_alone(tmp_path: Path, light_pages: None) -> None:
    seen: list[DataOpened] = []
    x, sets, _ = bars(np.random.default_rng(0))
    data = visus.open_data(x=x, y=sets[:, 0], keep_in=tmp_path / "kept", progress=False)
    losses = [torch.nn.CrossEntropyLoss(weight=torch.tensor(weights)) for weights in ([1.0, 1.0], [1.0, 9.0])]
    recipes = [visus.Recipe(epochs=1, batch_size=16, loss=each) for each in losses]  # type: ignore[arg-type]
    assert recipes[0].loss != recipes[1].loss
    options = {"output": tmp_path / "runs", "progress": False}
    run = visus.train(
        data,
        NETWORK,
        recipes[0],
        on_event=lambda event: seen.append(event) if isinstance(event, DataOpened) else None,
        **options,
    )  # type: ignore[arg-type]
    assert (
        "loss is an object of this process, <CrossEntropyLoss>: the recipe records its name alone, and another process cannot resume this training. "
        "For that, define a function in a module, outside of any function."
    ) in seen[0].warnings
    assert run.recipe.loss == "torch.nn.modules.loss:<CrossEntropyLoss>"
    with pytest.raises(RecipeError) as caught:
        visus.Recipe(loss=torch.nn.CrossEntropyLoss)  # type: ignore[arg-type]
    assert (
        str(caught.value)
        == "loss must be a function, and CrossEntropyLoss is a class. Make an instance: CrossEntropyLoss(...)."
    )


def endless_loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return outputs.mean(1) * math.nan


def test_a_loss_that_is_not_a_number_is_not_blamed_on_the_network(tmp_path: Path, light_pages: None) -> None:
    with pytest.raises(TrainingError) as caught:
        single(tmp_path, loss=endless_loss)
    assert str(caught.value) == (
        "the loss is nan at the first step, before any weight changed. It is that of your own function: look for a division by zero, a square root or a "
        "logarithm in it, and in Sequential, whose outputs it gets."
    )


def test_the_metric_of_the_selection_is_that_of_the_kept_epoch(train_task: Callable[..., visus.Run], tmp_path: Path) -> None:
    run = train_task("regression", select="r2", epochs=3)
    assert run.recipe.select == "r2"
    assert max(run.history["val_score"]) <= 1
    with pytest.raises(UsageError) as caught:
        single(tmp_path, select="no_such_module:metric")
    assert str(caught.value) == (
        "no_such_module:metric: the module no_such_module cannot be imported: No module named 'no_such_module'."
    )
    with pytest.raises(UsageError) as caught:
        single(tmp_path, loss=f"{__name__}:own_los")
    assert str(caught.value) == f"{__name__}:own_los: {__name__} has no own_los. Did you mean 'own_loss'?"
    with pytest.raises(UsageError) as caught:
        single(tmp_path, loss=f"{__name__}:COUNT")
    assert str(caught.value) == f"{__name__}:COUNT: COUNT is not callable: it is int."


@pytest.mark.parametrize("task", TASKS)
def test_what_needs_one_class_says_so(
    task: str, train_task: Callable[..., visus.Run], tmp_path: Path, visus_command: Callable[..., Any]
) -> None:
    run = train_task(task, epochs=1)
    answer = visus_command("evaluate", run.folder, "--confusion-png", tmp_path / "confusion.png")
    assert answer.code == 2
    assert (
        f"error: {task}: A confusion matrix is for networks that predict one class for each sample, and this run predicts {task}."
        in answer.err
    )
    predictions = run.predict(np.zeros((2, 10, 10), np.uint8), progress=False)
    with pytest.raises(UsageError) as caught:
        predictions.sort_into(tmp_path / "sorted")
    assert str(caught.value) == f"a folder for each label needs one class for each sample, and this network predicts {task}."
    with pytest.raises(UsageError) as caught:
        run.predict(np.zeros((2, 10, 10), np.uint8), top=2)
    all_of = "all numbers" if task == "regression" else "all classes that reach their threshold"
    if task == "multi-label":
        assert str(caught.value) == f"a prediction of {task} has {all_of}, so top has no effect. Leave it out."


def test_a_prediction_of_numbers_refuses_options_for_classes_at_once(
    train_task: Callable[..., visus.Run], tmp_path: Path, visus_command: Callable[..., Any]
) -> None:
    folder = train_task("regression", epochs=1).folder
    np.save(tmp_path / "x.npy", np.zeros((2, 10, 10), np.uint8))
    for words in (["--at-least", "0.3"], ["--probabilities"], ["--at-least", "30", "--probabilities"]):
        names = " and ".join(word for word in words if word.startswith("--"))
        answer = visus_command("predict", folder, tmp_path / "x.npy", *words)
        message = f"{names}: only for classes, and this network predicts numbers (regression). Leave it out."
        assert (answer.code, answer.out, answer.err.splitlines()[-1]) == (2, "", f"error: {message}")


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("regression", {"select": "accuracy"}, "select=accuracy is no metric of regression. Known: mae, r2, rmse."),
        ("regression", {"label_smoothing": 0.1}, "label_smoothing needs classes, and this is regression. Leave it out."),
        (
            "multi-label",
            {"class_weights": "balanced"},
            "class_weights=balanced needs one class for each sample, and this is multi-label. Leave it out.",
        ),
        (
            "multi-label",
            {"tta": "unsure:shift"},
            "tta=unsure:shift needs two most probable classes, and this is multi-label. Leave out unsure:.",
        ),
        (
            "multi-label",
            {"loss": "a:b", "label_smoothing": 0.1},
            "label_smoothing and class_weights belong to the loss of the task, and loss replaces it. Leave them out.",
        ),
    ],
)
def test_settings_that_do_not_fit_the_task_are_refused(
    task: str, settings: dict[str, Any], message: str, train_task: Callable[..., visus.Run]
) -> None:
    with pytest.raises(RecipeError) as caught:
        train_task(task, **settings)
    assert str(caught.value) == message


@pytest.mark.parametrize("task", TASKS)
def test_the_largest_errors_are_listed_first(task: str, train_task: Callable[..., visus.Run]) -> None:
    run = train_task(task)
    found = run.mistakes(limit=5, progress=False)
    sizes = [each.error for each in found.errors]  # type: ignore[union-attr]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) <= 5
    assert json.loads(json.dumps(found.to_json()))["task"] == task
    assert str(found.text()).count("\n") >= len(sizes)
    with pytest.raises(UsageError) as caught:
        run.mistakes(limit=0)
    assert str(caught.value) == "limit must be at least 1, not 0."


@pytest.mark.parametrize("task", TASKS)
def test_a_look_names_the_label_of_every_task(task: str, train_task: Callable[..., visus.Run]) -> None:
    run = train_task(task, epochs=1)
    looked = run.look("test:0", progress=False)
    part = run.open_data(progress=False).split("test")
    wanted = f"{part.labels[0, 0]:.6g}" if task == "regression" else "column"
    assert (looked.facts.answer is None) == (task == "regression")
    assert wanted in looked.facts.sample.truth or task == "multi-label"


def test_labels_of_other_data_must_fit_the_task(train_task: Callable[..., visus.Run]) -> None:
    run = train_task("multi-label", epochs=1)
    x, sets, _ = bars(np.random.default_rng(2))
    names = [[name for name, is_there in zip(run.classes, row, strict=True) if is_there] for row in sets]
    by_name, by_number = run.evaluate((x, names), progress=False), run.evaluate((x, sets), progress=False)
    assert by_name == by_number
    for labels, message in (
        ([["rows"]] * COUNT, "unknown class 'rows'. Did you mean 'row'? Known: column, row."),
        (np.zeros((COUNT, 3)), f"labels of {COUNT} x 3 cannot be used: multi-label needs numbers (samples, 2)."),
        (np.full((COUNT, 2), 0.5), "labels of multi-label are 0 or 1 for each class, and these hold other numbers."),
    ):
        with pytest.raises(UsageError) as caught:
            run.evaluate((x, labels), progress=False)
        assert str(caught.value) == message


def test_a_decision_needs_no_network() -> None:
    answer = Decision("multi-label", (0.9, 0.9)).labels_of("a.png", (0.5, 0.6), ("cat", "dog"))
    assert repr(answer) == "Prediction(a.png: no class reaches its threshold)"
    assert answer.label is None


def test_a_command_trains_and_predicts_numbers(tmp_path: Path, visus_command: Callable[..., Any], light_pages: None) -> None:
    random = np.random.default_rng(0)
    rows = ["path,age"]
    for place in range(60):
        Image.fromarray(random.integers(0, 2 + 4 * place, (12, 12, 3), dtype=np.uint8)).save(tmp_path / f"{place}.png")
        rows.append(f"{place}.png,{place}")
    (tmp_path / "ages.csv").write_text("\n".join(rows))
    options = ["--task", "regression", "--label-column", "age"]
    checked = visus_command("check", str(tmp_path / "ages.csv"), *options)
    assert "1 target (regression)" in checked.out
    assert checked.out.rstrip().endswith(f"next: visus train {tmp_path / 'ages.csv'} --label-column age --task regression")
    trained = visus_command(
        *["train", str(tmp_path / "ages.csv"), *options, "-m", NETWORK, "--epochs", "1", "-b", "16"],
        *["-o", str(tmp_path / "runs"), "-q"],
    )
    folder = trained.out.strip()
    answer = visus_command("predict", folder, str(tmp_path / "3.png"), "-q")
    (row,) = csv.DictReader(io.StringIO(answer.out))
    assert list(row) == ["file", "age", "age_low", "age_high", "error"]
    assert float(row["age"]) == pytest.approx(visus.load(folder).predict(tmp_path / "3.png").__next__().value, rel=1e-4)
    as_json = json.loads(visus_command("predict", folder, str(tmp_path / "3.png"), "-q", "--json").out)
    assert as_json[0]["numbers"][0]["target"] == "age"
    scored = visus_command("evaluate", folder, "--json")
    assert json.loads(scored.out)["task"] == "regression"


def test_data_of_another_number_of_targets_is_refused(train_task: Callable[..., visus.Run], tmp_path: Path) -> None:
    run = train_task("regression", epochs=1)
    x, sets, _ = bars(np.random.default_rng(2))
    np.savez(tmp_path / "two.npz", x=x, y=sets.astype(float))
    with pytest.raises(DataError) as caught:
        run.evaluate(tmp_path / "two.npz", progress=False)
    assert caught.value.message == "a label has 2 numbers, and the network predicts 1 number: label."


def test_folds_are_not_tracked(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.cross_validate(None, NETWORK, folds=2, output=tmp_path, track="tensorboard", progress=False)
    assert str(caught.value) == (
        "a tracker follows one training, and folds are several. Leave track or folds out; results.csv of each fold has its epochs."
    )


def test_the_result_of_several_targets_names_each() -> None:
    task = Regression(("age",), mean=(40.0,), std=(10.0,))
    outputs, labels = torch.tensor([[0.0], [1.0], [-1.0]]), torch.tensor([[42.0], [49.0], [30.0]])
    number_scores = score_numbers(task, outputs, labels, IntervalFit((5.0,), "", 30, ("age",)), split="test")
    first = number_scores.targets[0]
    others = [dataclasses.replace(first, name=f"target {place}", mae=place / 3) for place in range(1, 6)]
    scores = dataclasses.replace(number_scores, split="test", targets=(first, *others[:1]))
    assert result_fact(scores, "image")[1].endswith(" has 7; that of 1 other target: target 1 0.3333")
    scores = dataclasses.replace(scores, targets=(first, *others))
    assert result_fact(scores, "image")[1].endswith(
        " has 7; that of 5 other targets: target 1 0.3333, target 2 0.6667, target 3 1 and 2 more"
    )
    assert ";" not in result_fact(dataclasses.replace(scores, targets=(first,)), "image")[1].partition("has 7")[2]
