"""Bundles and runs that are served, and bundles that change on disk."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import io
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.server.conftest import fake_model, image, levels, npy, number_of, replace_bundle, run, served, until

from visus.errors import BundleError, RunError, UsageError, VisusError
from visus.server.models import BundleWatch, Model, ModelSource
from visus.ship.files import BundleFiles, write_bundle

NPY = "application/x-npy"


def labels(answer: Any) -> list[str]:
    return [each.get("label", "") for each in answer.json()["predictions"]]


def test_a_bundle_is_served_with_the_predictions_of_its_run(levels_bundle: Path, levels_run: Path) -> None:
    import visus

    x = np.load(levels_run.parent / "levels.npz")["x"]
    expected = list(visus.load(levels_run, device="cpu").predict(x, progress=False))
    stream = io.BytesIO()
    np.save(stream, x)

    async def work() -> None:
        source = ModelSource(levels_bundle)
        async with served(source.open(), source) as client:
            answer = await client.predict(stream.getvalue(), NPY)
            png = await client.predict(image(20), "image/png")
            described = (await client.http.get("/v1/model")).json()
        found = answer.json()["predictions"]
        assert [each["label"] for each in found] == [each.label for each in expected]
        assert max(abs(one["probability"] - other.probability) for one, other in zip(found, expected, strict=True)) < 1e-4
        assert labels(png) == ["0"]
        assert described["classes"] == ["0", "1", "2"]
        assert (described["engine"]["name"], described["engine"]["precision"]) == ("onnxruntime", "float32")
        assert str(levels_bundle.parent) not in answer.text + str(described)

    run(work)


@pytest.mark.long
def test_serving_a_bundle_does_not_import_torch(levels_bundle: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules["torch"] = None
from visus.server.app import Service, make_app
from visus.server.serving import serve
from visus.server.settings import ServerSettings
from visus.server.models import ModelSource
source = ModelSource(Path({str(levels_bundle)!r}))
make_app(Service(source.open_checked(), ServerSettings(), source))
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_a_run_is_served_by_its_module_with_saliency_maps(levels_run: Path) -> None:
    async def work() -> None:
        source = ModelSource(levels_run, device="cpu")
        async with served(source.open(), source) as client:
            plain = await client.predict(levels(20), NPY)
            drawn = await client.predict(levels(20), NPY, "/v1/predict?explain=gradient")
            cam = await client.predict(image(200), "image/png", "/v1/predict?explain=grad-cam")
            wrong = await client.predict(levels(20), NPY, "/v1/predict?explain=gradcam")
            document = (await client.http.get("/openapi.json")).json()
            several = await client.http.post("/v1/predict?explain=gradient", files=[("file", image(1)), ("file", image(2))])
            described = (await client.http.get("/v1/model")).json()
        assert labels(plain) == labels(drawn) == ["0"]
        for answer in (drawn, cam):
            content = base64.b64decode(answer.json()["predictions"][0]["saliency_png"])
            assert Image.open(io.BytesIO(content)).size == (8, 8)
        assert (wrong.status_code, several.status_code) == (422, 422)
        assert (
            wrong.json()["detail"]
            == "Unknown saliency method 'gradcam'. Did you mean 'grad-cam'? Known: grad-cam, gradient."
        )
        assert several.json()["detail"] == "One sample is explained at a time. Send one, or leave explain out."
        assert described["explain"] == ["grad-cam", "gradient"]
        assert {"name": "explain", "in": "query"}.items() <= document["paths"]["/v1/predict"]["post"]["parameters"][
            1
        ].items()
        assert len(described["sha256"]) == 64

    run(work)


def test_a_bundle_is_explained_by_its_design_and_weights_as_the_run_is(levels_run: Path, levels_bundle: Path) -> None:
    async def maps(source: ModelSource) -> list[str]:
        async with served(source.open(), source) as client:
            asked = [f"/v1/predict?explain={method}" for method in (await client.http.get("/v1/model")).json()["explain"]]
            answers = [await client.predict(image(200), "image/png", address) for address in asked]
        return [each.json()["predictions"][0]["saliency_png"] for each in answers]

    of_run, of_bundle = (
        run(lambda path=path: maps(ModelSource(path, device="cpu"))) for path in (levels_run, levels_bundle)
    )
    assert len(of_run) == 2
    assert of_bundle == of_run


@pytest.mark.parametrize("missing", ["torch", "design", "weights"])
def test_a_bundle_without_pytorch_design_or_weights_is_not_explained(
    own_bundle: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if missing == "torch":
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    elif missing == "design":
        replace_bundle(own_bundle, {"design.txt": b"my_networks:make"})
    else:
        manifest = BundleFiles(own_bundle).manifest
        replace_bundle(own_bundle, graphs=tuple(each for each in manifest.graphs if each.format != "safetensors"))
    assert ModelSource(own_bundle).open().explainers == {}


def test_an_engine_cannot_be_chosen_for_a_run(levels_run: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"an engine and its precision are chosen for a bundle, and this is a run. Export it with: visus export RUN",
    ):
        ModelSource(levels_run, engine="openvino").open()


def test_a_network_without_finite_outputs_is_not_served() -> None:
    broken = fake_model(lambda samples: [row * np.nan for row in number_of(samples)])
    with pytest.raises(BundleError, match="for a sample of zeros, the network does not return 1,000 finite probabilities"):
        broken.try_once()


# ---- a bundle that changes ----


def test_a_changed_bundle_takes_over_without_a_lost_request(own_bundle: Path) -> None:
    """A reload lost requests (Triton 5757, 6939)."""
    source = ModelSource(own_bundle)

    async def work() -> None:
        async with served(source.open(), source, reload_s=0.02) as client:
            before = client.service.model.sha256
            stop = asyncio.Event()

            async def ask() -> list[Any]:
                found = []
                while not stop.is_set():
                    found.append(await client.predict(levels(20), NPY))
                return found

            asking = [asyncio.create_task(ask()) for _ in range(4)]
            await asyncio.sleep(0.05)
            after = replace_bundle(own_bundle, license="MIT")
            await until(lambda: client.service.model.sha256 != before)
            await asyncio.sleep(0.05)
            stop.set()
            answers = [each for found in await asyncio.gather(*asking) for each in found]
            described = (await client.http.get("/v1/model")).json()
            metrics = (await client.http.get("/metrics")).text
        assert {each.status_code for each in answers} == {200}
        assert {each.json()["model"]["sha256"] for each in answers} == {before, after}
        assert (described["sha256"], described["license"]) == (after, "MIT")
        assert 'visus_changed_bundles_total{outcome="taken"} 1.0' in metrics

    run(work)


def test_a_bundle_in_a_zip_file_is_served_and_replaced_too(own_bundle: Path) -> None:
    file = own_bundle.with_suffix(".zip")
    files = BundleFiles(own_bundle)
    write_bundle(file, files.manifest, {name: files.read(name) for name in files.manifest.files})

    async def work() -> None:
        source = ModelSource(file)
        async with served(source.open(), source, reload_s=0) as client:
            assert client.service.model.sha256 == files.digest
            assert client.service.watch is not None
            new = replace_bundle(file, license="MIT")
            for _ in range(2):
                await client.service.watch.look()
            assert client.service.model.sha256 == new
            assert labels(await client.predict(levels(20), NPY)) == ["0"]

    run(work)


def test_what_is_neither_a_bundle_nor_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("")
    refused: dict[str, tuple[type[VisusError], str]] = {
        "absent": (UsageError, "there is no such bundle or run. Name a bundle or a run folder."),
        "file": (BundleError, ""),
        "run": (RunError, ""),
        ".": (
            UsageError,
            "this folder is neither a bundle, which has bundle.json, nor a run, which has recipe.yaml. Name one of them.",
        ),
    }
    for name, (kind, message) in refused.items():
        with pytest.raises(kind) as caught:
            ModelSource(tmp_path / name).open()
        assert caught.value.message == (message or caught.value.message)


def test_a_device_cannot_be_chosen_for_a_bundle(levels_bundle: Path) -> None:
    with pytest.raises(
        UsageError, match=r"a device is chosen for a run, and this is a bundle. Choose an engine with --engine."
    ):
        ModelSource(levels_bundle, device="cuda").open()


def test_a_request_is_answered_by_the_network_that_it_began_with() -> None:
    async def work() -> None:
        may_go = threading.Event()

        def first(samples: Any) -> Any:
            assert may_go.wait(30)
            return number_of(samples)

        async with served(fake_model(first)) as client:
            begun = asyncio.create_task(client.predict(npy(1)))
            await until(lambda: client.service.batcher._busy_since is not None)
            client.service.use(
                Model(
                    "new",
                    "1" * 64,
                    client.service.model.preprocessing,
                    ("only",),
                    lambda samples: [np.ones(1)] * len(samples),
                )
            )
            later = asyncio.create_task(client.predict(npy(1)))
            await asyncio.sleep(0.01)
            may_go.set()
            assert [labels(each) for each in (await begun, await later)] == [["c1"], ["only"]]
            assert [each.json()["model"]["name"] for each in (await begun, await later)] == ["fake", "new"]

    run(work)


@pytest.mark.parametrize("damage", ["a byte", "a class", "a temperature", "removed"])
def test_a_changed_bundle_that_fails_its_checks_is_refused_and_logged(
    own_bundle: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = ModelSource(own_bundle)

    async def work() -> None:
        async with served(source.open(), source, reload_s=0.02) as client:
            before = client.service.model
            if damage == "a byte":
                content = bytearray((own_bundle / "network.onnx").read_bytes())
                content[len(content) // 2] ^= 1
                (own_bundle / "network.onnx").write_bytes(content)
            elif damage == "a class":
                replace_bundle(own_bundle, classes=("1", "2", "0"))
            elif damage == "a temperature":
                replace_bundle(own_bundle, temperature=7.0)
            else:
                (own_bundle / "network.onnx").unlink()
            await until(lambda: "the changed bundle is refused, and the earlier one stays" in caplog.text)
            assert client.service.model is before
            assert labels(await client.predict(levels(20), NPY)) == ["0"]
            assert 'visus_changed_bundles_total{outcome="refused"} 1.0' in (await client.http.get("/metrics")).text

    with caplog.at_level(logging.ERROR, logger="visus.server"):
        run(work)


class Changing(ModelSource):
    """A source whose files a test changes."""

    def __init__(self, models: list[Model | Exception]) -> None:
        super().__init__(Path("nowhere"))
        object.__setattr__(self, "models", models)
        object.__setattr__(self, "times", [0])

    def signature(self) -> Any:
        return tuple(self.times)  # type: ignore[attr-defined]

    def open(self) -> Model:
        found = self.models.pop(0)  # type: ignore[attr-defined]
        if isinstance(found, Exception):
            raise found
        return found

    open_checked = open


def test_a_bundle_that_is_being_written_is_left_alone_until_it_settles() -> None:
    async def work() -> None:
        taken: list[Model] = []
        new = Model("new", "1" * 64, fake_model().preprocessing, ("only",), number_of)
        source = Changing([new])
        watch = BundleWatch(source, "0" * 64, taken.append)
        await watch.look()
        assert taken == []
        for time in (1, 2, 3):
            source.times[0] = time  # type: ignore[attr-defined]
            await watch.look()
            assert taken == [], "its files changed since the previous look"
        await watch.look()
        assert taken == [new]
        await watch.look()
        assert taken == [new], "it is opened once"

    run(work)


def test_a_refused_bundle_is_not_opened_again_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        taken: list[Model] = []
        new = Model("new", "1" * 64, fake_model().preprocessing, ("only",), number_of)
        source = Changing([VisusError("it is half-written."), RuntimeError("planted"), new])
        watch = BundleWatch(source, "0" * 64, taken.append, verify=False)
        for time, left in ((1, 2), (2, 1), (3, 0)):
            source.times[0] = time  # type: ignore[attr-defined]
            for _ in range(4):
                await watch.look()
            assert len(source.models) == left  # type: ignore[attr-defined]
        assert taken == [new]

    with caplog.at_level(logging.ERROR, logger="visus.server"):
        run(work)
    assert "it is half-written." in caplog.text
    assert "planted" in caplog.text
