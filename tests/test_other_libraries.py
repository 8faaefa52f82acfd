"""Names of other libraries: what visus answers, and that the answers name what exists."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest

import visus
from visus.data.opened import Data
from visus.other_libraries import ATTRIBUTES, NAMES, device_of
from visus.tables import Described
from visus.training.runs import RESULT_COLUMNS
from visus.workbench.runs.prediction import Prediction

PAGE = "See the page Coming from fastai, Keras, Ultralytics in the documentation."


class Result(Described):
    """A result with a property that fails."""

    size = 3

    @property
    def broken(self) -> int:
        """Fails within."""
        raise AttributeError("the inner error")

    @property
    def vocab(self) -> int:
        """Fails within, and has the name that another library uses."""
        raise AttributeError("the inner error")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fit", "visus.train(data, network, recipe) trains once; for other settings, train again."),
        ("val", "write run.evaluate()."),
        ("export", "a run is exported: visus.load(folder).export(path)."),
        ("history", 'write run.history["train_loss"] for a column; run.history.columns has the names.'),
    ],
)
def test_an_attribute_of_another_library_is_answered(name: str, sentence: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(Result(), name)
    assert str(caught.value) == f"Result has no {name}: {sentence} {PAGE}"
    assert not hasattr(Result(), name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "'Result' object has no attribute 'nonsense'"),
        ("_private", "'Result' object has no attribute '_private'"),
        ("broken", "the inner error"),
        ("vocab", "the inner error"),
    ],
)
def test_other_attributes_fail_as_always(name: str, message: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(Result(), name)
    assert str(caught.value) == message


def test_results_are_copied_and_pickled_as_always() -> None:
    result = Result()
    result.size = 4
    for again in (copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert vars(again) == {"size": 4}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_name_of_another_library_is_answered(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(visus, name)
    assert str(caught.value) == f"visus has no {name}: {NAMES[name]} {PAGE}"
    assert not hasattr(visus, name)


def test_other_names_fail_as_always() -> None:
    with pytest.raises(AttributeError, match=r"^module 'visus' has no attribute 'nonsense'$"):
        visus.nonsense  # noqa: B018


def test_the_answers_name_what_exists() -> None:
    text = " ".join([*ATTRIBUTES.values(), *NAMES.values()])
    for name in re.findall(r"visus\.(\w+)", text):
        assert hasattr(visus, name)
    for name in re.findall(r"run\.(\w+)", text):
        assert hasattr(visus.Run, name) or name in visus.Run.__dataclass_fields__
    assert "train_loss" in RESULT_COLUMNS
    assert not set(NAMES) & set(visus.__all__)
    assert not {name for name in ("fit", "val", "save", "show_batch", "export") if hasattr(Data, name)}


@pytest.mark.parametrize(
    ("given", "name"), [(0, "cuda:0"), ("1", "cuda:1"), ("cpu", "cpu"), (True, True), (None, None), ("0,1", "0,1"), (-1, -1)]
)
def test_numbers_of_devices_are_names_of_gpus(given: object, name: object) -> None:
    assert device_of(given) == name


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("info", "write visus.summary(run.module, run.preprocessing.input_shape)."),
        ("tune", "write visus.tune(data, network, time_limit='10m')."),
        ("add_callback", "give a function for events: visus.train(data, on_event=...), or loop over visus.Training."),
    ],
)
def test_a_run_names_the_way_of_what_ultralytics_has(name: str, sentence: str, run: Path) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(visus.load(run), name)
    assert str(caught.value).startswith(f"Run has no {name}: {sentence} See the page")


def test_a_prediction_names_its_probabilities() -> None:
    prediction = Prediction("new.jpg", ("cat", "dog"), (0.9, 0.1))
    with pytest.raises(AttributeError) as caught:
        prediction.probs  # noqa: B018  # type: ignore[attr-defined]
    assert str(caught.value).startswith(
        "Prediction has no probs: write .probabilities, in the order of .labels. See the page"
    )
    with pytest.raises(AttributeError, match="'Prediction' object has no attribute 'nothing'"):
        prediction.nothing  # noqa: B018  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(prediction)) == prediction
