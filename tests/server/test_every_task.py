"""Servers of sets of classes and of numbers: the JSON of a prediction, the OpenAPI document, and the answers of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tests.bundles_of_tasks import TASKS, Shipped, blots
from tests.server.conftest import IMAGES, SIGNALS, as_npy, npy, run, served

from visus.errors import BundleError
from visus.server.documentation import page
from visus.server.models import Model, ModelSource
from visus.server.openapi import openapi
from visus.server.settings import ServerSettings
from visus.workbench.runs.prediction import Decision

NAMES = ("cat", "dog", "fox")
DECISIONS = {
    "single-label": Decision(),
    "multi-label": Decision("multi-label", (0.5, 0.3, 0.2)),
    "regression": Decision("regression", half_widths=(1.0, 2.0, 3.0)),
}


def shares(samples: Sequence[Any]) -> Sequence[Any]:
    """The first value of each sample in percent, and two other numbers."""
    return [np.array([sample.flat[0] / 100, 0.4, 0.1]) for sample in samples]


def model_of(task: str, **changes: Any) -> Model:
    return Model("fake", "0" * 64, SIGNALS, NAMES, shares, decision=DECISIONS[task], **changes)


def answers_of(model: Model, body: bytes, address: str = "/v1/predict") -> Any:
    """Status and JSON of one request."""

    async def work() -> Any:
        async with served(model) as client:
            answer = await client.predict(body, address=address)
        return answer.status_code, answer.json()

    return run(work)


def test_a_set_has_the_classes_that_reach_their_threshold() -> None:
    _, found = answers_of(model_of("multi-label"), npy(90, 20))
    both, one = (each["labels"] for each in found["predictions"])
    assert both == [{"label": "cat", "probability": 0.9}, {"label": "dog", "probability": 0.4}]
    assert one == [{"label": "dog", "probability": 0.4}]
    assert all("label" not in each and "top" not in each for each in found["predictions"])


def test_a_set_may_be_empty() -> None:
    model = Model("fake", "0" * 64, SIGNALS, NAMES, shares, decision=Decision("multi-label", (0.95,) * 3))
    assert answers_of(model, npy(90))[1]["predictions"][0]["labels"] == []


def test_a_number_has_the_ends_of_its_interval_or_none() -> None:
    (found,) = answers_of(model_of("regression"), npy(90))[1]["predictions"]
    assert found["numbers"][0] == {"target": "cat", "value": 0.9, "low": pytest.approx(-0.1), "high": 1.9}
    assert [each["target"] for each in found["numbers"]] == list(NAMES)
    model = Model("fake", "0" * 64, SIGNALS, NAMES, shares, decision=Decision("regression"))
    (found,) = answers_of(model, npy(90))[1]["predictions"]
    assert found["numbers"][1] == {"target": "dog", "value": 0.4, "low": None, "high": None}


@pytest.mark.parametrize("task", TASKS)
def test_top_is_refused_where_it_has_no_effect(task: str) -> None:
    status, found = answers_of(model_of(task), npy(90), "/v1/predict?top=2")
    all_of = "all numbers" if task == "regression" else "all classes that reach their threshold"
    assert (status, found["detail"]) == (422, f"A prediction of {task} has {all_of}, so top has no effect. Leave it out.")
    with_map = "/v1/predict?explain=grad-cam"
    assert answers_of(model_of(task), npy(90), with_map)[0] == 501, "explain is another matter"


@pytest.mark.parametrize("task", list(DECISIONS))
def test_predictions_and_the_network_are_as_the_document_describes_them(task: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    document = openapi(ServerSettings(), model_of(task))
    body = npy(90, 10)

    async def work() -> None:
        async with served(model_of(task)) as client:
            found = {
                "Predictions": (await client.predict(body)).json(),
                "Model": (await client.http.get("/v1/model")).json(),
            }
        for name, value in found.items():
            schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
            jsonschema.Draft202012Validator(schema).validate(value)
        wrong = {**found["Predictions"], "predictions": [{**found["Predictions"]["predictions"][0], "odd": 1}]}
        schema = {"$ref": "#/components/schemas/Predictions", "components": document["components"]}
        assert not jsonschema.Draft202012Validator(schema).is_valid(wrong), "the document is not open"

    run(work)


@pytest.mark.parametrize("task", list(DECISIONS))
def test_the_document_and_its_page_offer_top_for_single_labels_alone(task: str) -> None:
    model = model_of(task)
    parameters = openapi(ServerSettings(), model)["paths"]["/v1/predict"]["post"]["parameters"]
    assert [each["name"] for each in parameters] == (["top"] if task == "single-label" else [])
    assert ("?top=3" in page(ServerSettings(), model, "http://127.0.0.1:8000")) == (task == "single-label")


def test_the_network_describes_its_task() -> None:
    assert model_of("multi-label").described()["thresholds"] == [0.5, 0.3, 0.2]
    found = model_of("regression").described()
    assert (found["task"], found["targets"], found["half_widths"]) == ("regression", list(NAMES), [1.0, 2.0, 3.0])
    assert "classes" not in found
    assert model_of("single-label").described()["task"] == "single-label"


def test_numbers_that_are_not_finite_are_refused_at_the_opening() -> None:
    model = Model("fake", "0" * 64, IMAGES, ("age",), lambda samples: [np.array([np.nan])], decision=Decision("regression"))
    with pytest.raises(BundleError) as caught:
        model.try_once()
    assert str(caught.value) == "for a sample of zeros, the network does not return 1 finite number."


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.long
def test_a_run_and_its_bundle_are_served_with_the_predictions_of_the_run(
    shipped: Callable[[str], Shipped], task: str
) -> None:
    import visus

    x = blots(1, 20)[0]
    expected = [each.facts(task) for each in visus.load(shipped(task).run, device="cpu").predict(x, progress=False)]
    field, key = {"multi-label": ("labels", "probability"), "regression": ("numbers", "value")}[task]

    async def work() -> None:
        for path in shipped(task):
            source = ModelSource(path)
            async with served(source.open_checked() if source.is_bundle else source.open(), source) as client:
                answer = await client.predict(as_npy(x))
                drawn = await client.predict(as_npy(x[:1]), address="/v1/predict?explain=gradient")
            found = answer.json()["predictions"]
            assert len(found) == len(expected)
            for one, other in zip(found, expected, strict=True):
                ours, runs = one[field], other[field]
                assert [next(iter(each.values())) for each in ours] == [next(iter(each.values())) for each in runs]
                assert [each[key] for each in ours] == pytest.approx([each[key] for each in runs], rel=1e-5)
            assert drawn.json()["predictions"][0]["saliency_png"]

    run(work)
