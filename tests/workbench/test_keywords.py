"""A call of a public function that does not fit its arguments is an error of visus that names the remedy."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

import visus
from visus.errors import DataError, RecipeError, UsageError
from visus.other_libraries import ARGUMENTS
from visus.workbench.argument_types import wrong_types
from visus.workbench.keywords import checked

SETTING = "it is a setting of the training. Write visus.train(data, recipe=visus.Recipe"


@pytest.mark.parametrize(
    ("call", "settings", "said"),
    [
        (visus.train, {"epochs": 3}, f"train has no argument 'epochs': {SETTING}(epochs=3))."),
        (
            visus.train,
            {"lr": 0.1},
            "train has no argument 'lr': learning_rate is a setting of the training. Write visus.train(data, recipe=visus.Recipe(learning_rate=0.1)).",
        ),
        (
            visus.train,
            {"img_size": 32},
            "train has no argument 'img_size': img_size is an argument of visus.open_data. Write visus.train(visus.open_data(path, img_size=32)).",
        ),
        (
            visus.train,
            {"imgsz": 64},
            "train has no argument 'imgsz': img_size is an argument of visus.open_data. Write visus.train(visus.open_data(path, img_size=64)).",
        ),
        (visus.train, {"device": 0}, f"train has no argument 'device': {SETTING}(device='cuda:0'))."),
        (
            visus.train,
            {"fliplr": 0.5},
            "train has no argument 'fliplr': flip is a setting of the training. Write visus.train(data, recipe=visus.Recipe(flip=...)), "
            "where flip must be one of the words alternating, none, random, not 0.5. 'random' flips half of the samples.",
        ),
        (visus.train, {"project": "x"}, "train has no argument 'project'. Did you mean 'output'?"),
        (visus.train, {"arch": "vgg"}, "train has no argument 'arch'. Did you mean 'network'?"),
        (visus.train, {"outputs": "x"}, "train has no argument 'outputs'. Did you mean 'output'?"),
        (visus.open_data, {"size": 224}, "open_data has no argument 'size'. Did you mean 'img_size'?"),
        (
            visus.open_data,
            {"bs": 8},
            "open_data has no argument 'bs': batch_size is a setting of the training. Write visus.train(data, recipe=visus.Recipe(batch_size=8)).",
        ),
        (
            visus.open_data,
            {"valid_pct": 0.2},
            "open_data has no argument 'valid_pct'. Did you mean 'val'?",
        ),
        (
            visus.train,
            {"test_size": 0.2},
            "train has no argument 'test_size': test is an argument of visus.open_data. Write visus.train(visus.open_data(path, test=0.2)).",
        ),
        (
            visus.open_data,
            {"train_size": 0.7},
            "open_data has no argument 'train_size': the training set is what validation and test set leave. "
            "Write visus.open_data(path, val=0.1, test=0.2).",
        ),
        (
            visus.train,
            {"x": list(range(100))},
            "train has no argument 'x': x is an argument of visus.open_data. Write visus.train(visus.open_data(x=x, y=y)).",
        ),
        (
            visus.train,
            {"class_names": ["a long name"] * 9},
            "train has no argument 'class_names': class_names is an argument of visus.open_data. Write visus.train(visus.open_data(path, class_names=...)).",
        ),
        (visus.open_data, {"validation_data": (1, 2)}, "open_data has no argument 'validation_data'. Did you mean 'x_val'?"),
        (visus.check, {"path": "x"}, "check has no argument 'path'. Did you mean 'data'?"),
        (visus.check, {"size": 224}, "check has no argument 'size'. Did you mean 'img_size'?"),
        (
            visus.resume,
            {"device": "cpu"},
            "resume has no argument 'device': it is a setting of the training. Write visus.resume(folder, changes={'device': 'cpu'}).",
        ),
        (visus.look, {"channels": 3}, "look has no argument 'channels'. Did you mean 'channel'?"),
        (visus.look, {"size": 32}, "look has no argument 'size': img_size is an argument of visus.open_data."),
        (visus.load, {"path": "x"}, "load has no argument 'path'. Did you mean 'folder'?"),
        (visus.train, {"path": "x"}, "train has no argument 'path'. Did you mean 'data'?"),
        (
            visus.resume,
            {"epochs": 3},
            "resume has no argument 'epochs': it is a setting of the training. A resumed training keeps its recipe. Leave it out, or start a new run with visus.train.",
        ),
        (
            visus.train,
            {"epochs": 3, "arch": 2},
            f"2 mistakes:\n  - train has no argument 'epochs': {SETTING}(epochs=3)).\n  - train has no argument 'arch'. Did you mean 'network'?",
        ),
        (visus.train, {"cbs": [print]}, "train has no argument 'cbs'. Did you mean 'on_event'?"),
        (visus.open_data, {"fn_col": "file"}, "open_data has no argument 'fn_col'. Did you mean 'path_column'?"),
        (visus.open_data, {"label_col": "tags"}, "open_data has no argument 'label_col'. Did you mean 'label_column'?"),
        (
            visus.open_data,
            {"valid_col": "is_valid"},
            "open_data has no argument 'valid_col': a table has the split in a column named split, with train, val or test in each row.",
        ),
        (
            visus.train,
            {"y_range": (0, 5)},
            "train has no argument 'y_range': regression predicts numbers of any size; they are standardized by the training set.",
        ),
        (
            visus.open_data,
            {"label_delim": " "},
            "open_data has no argument 'label_delim': the classes of a cell are separated by |, ; or , and read with task='multi-label'.",
        ),
        (visus.doctor, {"q": 1}, "doctor has no argument 'q'. Known: progress, seconds."),
        (
            visus.resume,
            {},
            "resume: missing a required argument: 'folder'. Its arguments are folder, data, network, changes, cache_dir, num_workers, track, on_event, should_stop, progress.",
        ),
    ],
)
def test_an_argument_that_a_function_does_not_have_is_refused(
    call: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(**settings)
    assert str(caught.value) == said


RUN = visus.Run


@pytest.mark.parametrize(
    ("call", "settings", "said"),
    [
        (
            RUN.evaluate,
            {"x": 1, "y": 2},
            "2 mistakes:\n  - evaluate has no argument 'x': samples and labels are one argument, a pair. Write run.evaluate((x, y)).\n"
            "  - evaluate has no argument 'y': samples and labels are one argument, a pair. Write run.evaluate((x, y)).",
        ),
        (RUN.evaluate, {"splits": "val"}, "evaluate has no argument 'splits'. Did you mean 'split'?"),
        (
            RUN.evaluate,
            {"device": "cpu"},
            "evaluate has no argument 'device': device is an argument of visus.load. Write visus.load(folder, device='cpu').",
        ),
        (
            RUN.evaluate,
            {"bs": 8},
            "evaluate has no argument 'bs': batch_size is a setting of the training, which a run keeps. Leave it out.",
        ),
        (
            RUN.mistakes,
            {"label_column": "kind"},
            "mistakes has no argument 'label_column': label_column is an argument of open_data. "
            "Write run.mistakes(data=run.open_data(path, label_column='kind')).",
        ),
        (
            RUN.predict,
            {"img_size": 32},
            "predict has no argument 'img_size': a run keeps the preprocessing and the split of its training. Leave it out.",
        ),
        (RUN.predict, {"top_k": 3}, "predict has no argument 'top_k'. Did you mean 'top'?"),
        (RUN.predict, {"path": "x"}, "predict has no argument 'path'. Did you mean 'files'?"),
        (RUN.report, {"path": "x"}, "report has no argument 'path'. Did you mean 'data'?"),
        (RUN.shifts, {"verbose": False}, "shifts has no argument 'verbose'. Did you mean 'progress'?"),
        (RUN.look, {"target_class": "cat"}, "look has no argument 'target_class'. Did you mean 'target'?"),
        (RUN.open_data, {"layouts": "NHWC"}, "open_data has no argument 'layouts'. Did you mean 'layout'?"),
        (RUN.answers, {"splitt": "val"}, "answers has no argument 'splitt'. Did you mean 'split'?"),
        (
            RUN.compare,
            {},
            "compare: missing a required argument: 'other'. Its arguments are other, data, split, cache_dir, progress, on_event, should_stop.",
        ),
    ],
)
def test_an_argument_that_a_method_of_a_run_does_not_have_is_refused(
    call: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(None, **settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("call", "settings", "said"),
    [
        (visus.experiment.mlp, {"shuffled": True}, "mlp has no argument 'shuffled'. Did you mean 'shuffle_pixels'?"),
        (visus.experiment.task, {"outputs": "x"}, "task has no argument 'outputs'. Did you mean 'output'?"),
        (
            visus.experiment.antialias,
            {"epochs": 3},
            "antialias has no argument 'epochs': it is a setting of the training. An experiment trains with the recipe of its run. Leave it out.",
        ),
        (
            visus.experiment.shuffle,
            {"name": "x"},
            "shuffle has no argument 'name'. Known: cache_dir, device, on_event, output, progress, run, should_stop.",
        ),
    ],
)
def test_an_argument_that_an_experiment_does_not_have_is_refused(
    call: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call("run", **settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("call", "settings", "said"),
    [
        (
            visus.Bundle.predict,
            {"threads": 2},
            "predict has no argument 'threads': threads is an argument of visus.open_bundle. Write visus.open_bundle(path, threads=2).",
        ),
        (visus.Bundle.predict, {"top_k": 3}, "predict has no argument 'top_k'. Did you mean 'top'?"),
        (
            visus.Bundle.predict_to,
            {"img_size": 32},
            "predict_to has no argument 'img_size': a bundle keeps the network and the preprocessing of its run. Leave it out.",
        ),
        (
            visus.Bundle.verify,
            {"tolerance": 0.1},
            "verify has no argument 'tolerance'. Known: engines, on_event, precision, progress, should_stop.",
        ),
    ],
)
def test_an_argument_that_a_method_of_a_bundle_does_not_have_is_refused(
    call: Callable[..., Any], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call(None, **settings)
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", [visus.Run, visus.Run.__mro__[1], visus.Bundle])
def test_every_method_of_a_run_or_a_bundle_is_checked_and_keeps_its_signature(kind: type) -> None:
    methods = [value for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")]
    assert methods
    for method in methods:
        assert inspect.signature(method) == inspect.signature(method.__wrapped__)
        assert method.__doc__
        with pytest.raises(UsageError, match="has no argument 'no_such_name'"):
            method(None, no_such_name=1)


def test_the_experiments_can_be_pickled() -> None:
    for name in visus.experiment.__all__:
        function = getattr(visus.experiment, name)
        assert pickle.loads(pickle.dumps(function)) is function


def test_signature_and_docstring_are_kept() -> None:
    from visus.workbench.train.training import train

    assert inspect.signature(visus.train) == inspect.signature(train)
    assert visus.train.__doc__ == train.__doc__
    assert pickle.loads(pickle.dumps(visus.train)) is visus.train
    assert inspect.signature(checked(train)) == inspect.signature(train)


def test_the_words_of_other_libraries_name_arguments() -> None:
    known = {
        name
        for each in (visus.train, visus.cross_validate, visus.open_data, visus.resume, visus.summary, visus.Run.predict)
        for name in inspect.signature(each).parameters
    }
    assert {word for words in ARGUMENTS.values() for word in words} <= known


def test_the_size_of_objects_is_object_px_in_python() -> None:
    with pytest.raises(UsageError, match=r"^summary has no argument 'object_size'. Did you mean 'object_px'\?$"):
        visus.summary("lenet5", (1, 28, 28), object_size=4)  # type: ignore[call-arg]


def test_a_missing_path_names_the_closest(tmp_path: Path) -> None:
    (tmp_path / "hands").mkdir()
    with pytest.raises(DataError) as caught:
        visus.check(tmp_path / "hand")
    assert str(caught.value) == f"{tmp_path / 'hand'}: there is no such file or folder. Did you mean '{tmp_path / 'hands'}'?"


@pytest.mark.parametrize("size", ["224", 22.4, True, (8, "8")])
def test_a_size_that_is_no_whole_number_is_refused(size: Any) -> None:
    with pytest.raises(UsageError) as caught:
        visus.open_data(img_size=size)
    assert str(caught.value) == (
        f"img_size must be a whole number of pixels, or one for each axis, such as 224 or (224, 320), not {size!r}."
    )


def test_only_a_module_is_sped_up() -> None:
    with pytest.raises(UsageError) as caught:
        visus.speed_up("resnet(18)")  # type: ignore[type-var]
    assert str(caught.value) == (
        "speed_up takes a torch.nn.Module, and not a str. Build it first, such as visus.network('resnet(18)', (3, 32, 32), 10)."
    )


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_wrong_layer_to_freeze_is_refused_before_anything_is_computed(
    photos: Path, tmp_path: Path, *, is_trained: bool
) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(300, 2))
    if is_trained:
        nn.init.constant_(module[1].weight, 0.5)
    seen: list[Any] = []
    recipe = visus.Recipe(frozen="nolayer.*")
    with pytest.raises(RecipeError) as caught:
        visus.train(photos, module, recipe, output=tmp_path, on_event=seen.append, progress=False)
    assert str(caught.value) == "unknown layer to freeze 'nolayer.*'. Known: 0, 1."
    assert {type(event).__name__ for event in seen} == {"Progress"}


def test_a_setting_of_a_search_goes_into_its_recipe() -> None:
    with pytest.raises(UsageError) as caught:
        visus.tune("photos", epochs=3)  # type: ignore[call-arg]
    assert str(caught.value) == (
        "tune has no argument 'epochs': it is a setting of the training. Write visus.tune(data, recipe=visus.Recipe(epochs=3))."
    )


def test_samples_and_labels_as_two_arguments_are_written_as_a_pair(run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        visus.load(run).evaluate([1], [2])  # type: ignore[misc, list-item]
    assert str(caught.value) == "evaluate: samples and labels are one argument, a pair. Write run.evaluate((x, y))."


def test_data_of_the_wrong_type_is_refused_in_one_sentence_for_each_argument() -> None:
    with pytest.raises(UsageError) as caught:
        visus.open_data("photos", val="0.2", class_depth="a", labels=len, split_seed=1.5)
    assert str(caught.value) == (
        "4 mistakes:\n  - open_data: labels must be a path or None, not <built-in function len>.\n"
        "  - open_data: split_seed must be a whole number or None, not 1.5.\n  - open_data: val must be a number or None, not '0.2'.\n"
        "  - open_data: class_depth must be a whole number or None, not 'a'."
    )


@pytest.mark.parametrize(
    ("call", "settings", "said"),
    [
        (visus.open_data, {"max_unreadable": "a"}, "open_data: max_unreadable must be a number, not 'a'."),
        (visus.open_data, {"split_seed": "42"}, "open_data: split_seed must be a whole number or None, not '42'."),
        (visus.open_data, {"label_column": 3}, "open_data: label_column must be a text or a list of texts or None, not 3."),
        (visus.open_data, {"resize_mode": 3}, "open_data: resize_mode must be a text, not 3."),
        (visus.open_data, {"task": 3}, "open_data: task must be a text or None, not 3."),
        (visus.open_data, {"channels": "3"}, "open_data: channels must be a whole number or None, not '3'."),
        (visus.open_data, {"pretrained": "yes"}, "open_data: pretrained must be True or False or None, not 'yes'."),
        (
            visus.open_data,
            {"on_event": [print]},
            "open_data: on_event must be a function or None, not [<built-in function print>].",
        ),
        (visus.check, {"val": "0.2"}, "check: val must be a number or None, not '0.2'."),
        (visus.check, {"pretrained": "yes"}, "check: pretrained must be True or False or None, not 'yes'."),
        (visus.load, {"folder": None}, "load: folder must be a path, not None."),
        (visus.train, {"output": 3}, "train: output must be a path, not 3."),
        (visus.train, {"name": 3}, "train: name must be a text or None, not 3."),
        (visus.train, {"name": [1] * 50}, "train: name must be a text or None, not a list."),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(call: Callable[..., Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        call(**settings)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("predict", {"files": "a.png", "top": "2"}, "predict: top must be a whole number, not '2'."),
        ("mistakes", {"limit": "3"}, "mistakes: limit must be a whole number, not '3'."),
        (
            "probabilities",
            {"logits": "a.png"},
            "probabilities: logits must be a tensor, not 'a.png'. For files, write run.predict(files).",
        ),
        (
            "logits",
            {"batches": Path("a.png")},
            f"logits: batches must be tensors or a tensor, not {Path('a.png')!r}. For files, write run.predict(files).",
        ),
    ],
)
def test_a_method_of_a_run_refuses_an_argument_of_the_wrong_type(method: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(visus.Run, method)(None, **settings)
    assert str(caught.value) == said


def test_numbers_of_numpy_are_numbers() -> None:
    signature = inspect.signature(visus.open_data)
    given = {"val": np.float32(0.2), "split_seed": np.int64(3), "skip_missing": np.True_, "class_names": np.array(["a"])}
    assert wrong_types("open_data", signature, given) == []
