"""A server within the test: a fake network whose answers name their sample, requests without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from visus.data.preprocessing import Preprocessing

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")
pytest.importorskip("prometheus_client", reason="the extra serve is not installed")
httpx = pytest.importorskip("httpx")

from visus.server.app import Service, make_app  # noqa: E402
from visus.server.models import Model, ModelSource  # noqa: E402
from visus.server.settings import ServerSettings  # noqa: E402

Value = TypeVar("Value")
SIGNALS = Preprocessing("array", 1, (2,), "squash", "int32", "mean-deviation", (0.0,), (1.0,))
IMAGES = Preprocessing("images", 3, (8, 8), "squash", "uint8", "mean-deviation", (0.0,) * 3, (1.0,) * 3)
NUM_CLASSES = 1000


def number_of(samples: Sequence[Any]) -> Sequence[Any]:
    """The answers of a network that names each sample's first value."""
    rows = np.zeros((len(samples), NUM_CLASSES))
    for row, sample in zip(rows, samples, strict=True):
        row[int(sample.flat[0])] = 1.0
    return list(rows)


def fake_model(
    compute: Callable[[Sequence[Any]], Sequence[Any]] = number_of, preprocessing: Preprocessing = SIGNALS, **facts: Any
) -> Model:
    """A network of which a test knows every answer."""
    return Model("fake", "0" * 64, preprocessing, tuple(f"c{number}" for number in range(NUM_CLASSES)), compute, **facts)


def npy(*numbers: int, dtype: str = "int32") -> bytes:
    """An NPY file with a sample for each number."""
    return as_npy(np.array([[[number, 0]] for number in numbers], dtype=dtype))


def as_npy(array: Any, **options: Any) -> bytes:
    """An array as an NPY file."""
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def image(level: int = 7, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """An image of one color."""
    stream = io.BytesIO()
    Image.new("RGB", (size[1], size[0]), (level, level, level)).save(stream, kind)
    return stream.getvalue()


class Client:
    """Requests to a server within the test."""

    def __init__(self, service: Service, http: Any) -> None:
        self.service, self.http = service, http

    async def predict(
        self, content: Any, kind: str = "application/x-npy", address: str = "/v1/predict", **headers: str
    ) -> Any:
        """The answer to one body."""
        return await self.http.post(address, content=content, headers={"Content-Type": kind, **headers})


@contextlib.asynccontextmanager
async def served(model: Model, source: ModelSource | None = None, **settings: Any) -> AsyncIterator[Client]:
    """A server with a client."""
    service = Service(model, replace(ServerSettings(), **settings), source)
    app = make_app(service)
    async with service.running(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=60) as http:
            yield Client(service, http)


def run(work: Callable[[], Coroutine[Any, Any, Value]], limit_s: float = 60) -> Value:
    """Run a test's coroutine; one that hangs fails."""

    async def limited() -> Value:
        async with asyncio.timeout(limit_s):
            return await work()

    return asyncio.run(limited())


async def until(is_so: Callable[[], bool], limit_s: float = 20) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(limit_s):
        while not is_so():
            await asyncio.sleep(0.002)


async def raw_request(
    app: Any, messages: Sequence[Any], headers: Sequence[tuple[str, str]] = (), path: str = "/v1/predict"
) -> tuple[int, Any]:
    """Status and JSON of a request whose messages a test sends one by one; a message may be awaited."""
    waiting = list(messages)
    sent: list[Any] = []

    async def receive() -> Any:
        if not waiting:
            await asyncio.sleep(3600)
        message = waiting.pop(0)
        return await message if isinstance(message, Awaitable) else message

    async def send(message: Any) -> None:
        sent.append(message)

    lines = [("host", "127.0.0.1"), *headers]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in lines],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await app(scope, receive, send)
    status = next(each["status"] for each in sent if each["type"] == "http.response.start")
    body = b"".join(each.get("body", b"") for each in sent)
    return status, json.loads(body) if body else None


# ---- a real bundle ----


@pytest.fixture(scope="session")
def levels_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that tells dark, gray and bright images of 8 x 8 pixels apart."""
    import visus

    folder = tmp_path_factory.mktemp("served")
    labels = np.arange(60) % 3
    levels = (labels * 80).astype(np.uint8)[:, None, None, None]
    x = np.random.default_rng(0).integers(0, 90, (60, 3, 8, 8), dtype=np.uint8) + levels
    np.savez(folder / "levels.npz", x=x, y=labels)
    design = "conv(4, 3), norm, relu, globalpool, linear(classes)"
    recipe = visus.Recipe(epochs=8, batch_size=12, device="cpu", precision="float32", tta="none", learning_rate=0.05)
    with pytest.MonkeyPatch.context() as patch:
        from visus.errors import VisusError
        from visus.workbench.report import measures
        from visus.workbench.train import run_files

        def left_out(*_: Any) -> None:
            raise VisusError("left out in this test.")

        patch.setattr(measures, "_saliencies", left_out)
        for name in ("draw_confusion", "draw_curves"):
            patch.setattr(run_files, name, lambda *_: None)
        return visus.train(folder / "levels.npz", design, recipe, name="levels", output=folder, progress=False).folder


@pytest.fixture(scope="session")
def levels_bundle(levels_run: Path) -> Path:
    """Its bundle, in ONNX alone."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} is not installed, and a bundle is exported and computed with it")
    import visus
    from visus.workbench.ship.exporting import export_run

    run_of = visus.load(levels_run, device="cpu")
    return export_run(run_of, levels_run.parent / "bundle", formats=("onnx",), num_samples=12, num_golden=4).path


@pytest.fixture
def own_bundle(levels_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    shutil.copytree(levels_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def replace_bundle(path: Path, changed: Mapping[str, bytes] = MappingProxyType({}), **facts: Any) -> str:
    """Replace a bundle by one with other files or facts, with new hashes; return its SHA-256."""
    from visus.ship.files import BundleFiles, write_bundle
    from visus.ship.manifest import FileFacts, digest

    files = BundleFiles(path)
    contents = {**{name: files.read(name) for name in files.manifest.files}, **changed}
    listed = {**files.manifest.files, **{name: FileFacts(digest(each), len(each)) for name, each in changed.items()}}
    new = path.with_name(f"new{path.suffix}")
    identity = write_bundle(new, replace(files.manifest, **{"files": listed, **facts}), contents)
    if path.is_dir():
        shutil.rmtree(path)
    new.replace(path)
    return identity


def levels(value: int) -> bytes:
    """An NPY file with one image of the run's kind, of one level."""
    return as_npy(np.full((1, 3, 8, 8), value, np.uint8))
