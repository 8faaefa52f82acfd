"""The web application: predictions, the network, health, metrics, documentation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from visus.data.images.decode import Limits
from visus.data.preprocessing import Pixels
from visus.errors import UsageError, printable, unknown_name
from visus.limits import usable_cores
from visus.server.batcher import Admission, Batcher, BatcherClosedError, Compute, QueueFullError
from visus.server.documentation import POLICY_OF_PAGE, STYLE, page
from visus.server.guard import Guard, answer_problem, not_found
from visus.server.inputs import Source, media_type, read_sample, read_sources, refuse_pixels
from visus.server.metrics import CONTENT_TYPE, Metrics
from visus.server.models import BundleWatch, Model, ModelSource, Row, explainer
from visus.server.openapi import openapi
from visus.server.problems import FAILED, Problem, busy, of_all, unavailable
from visus.server.settings import ServerSettings
from visus.units import write_bytes
from visus.workbench.runs.predictions import top_k

MAX_HELD_BYTES: Final = 2**30
"""Bytes of all requests together that are held at a time; one request is always taken."""
_SMALL: Final = Limits(max_bytes=2**16, max_pixels=2**14)
"""What is read without a thread."""
DRAINING: Final = "The server is shutting down. Send this request again, to the next one."

logger = logging.getLogger("visus.server")


@dataclass(frozen=True, eq=False)
class _Asked:
    """One request for predictions.

    Args:
        request_id: its id.
        model: the network that answers it.
        compute: what is computed.
        top: number of classes.
        is_alone: whether it has one sample.
        reading: limits how many of its samples are read at a time.
    """

    request_id: str
    model: Model
    compute: Compute
    top: int
    is_alone: bool
    reading: asyncio.Semaphore


class Service:
    """The state of one server process.

    Args:
        model: the network that is served first.
        settings: all settings.
        source: the bundle that is watched; None for none.
    """

    def __init__(self, model: Model, settings: ServerSettings, source: ModelSource | None = None) -> None:
        self.model, self.settings = model, settings
        self.is_draining = False
        self.metrics = Metrics()
        self.batcher = Batcher(
            max_batch=settings.max_batch,
            max_wait_s=settings.max_wait_ms / 1000,
            max_queue=settings.queue,
            max_compute_s=settings.answer_timeout_s,
            on_batch=self._note_batch,
        )
        self._limits = Limits(max_bytes=settings.max_bytes, max_pixels=settings.max_pixels)
        num_readers = max(2, min(8, usable_cores()))
        self._readers, self._share_of_readers = ThreadPoolExecutor(num_readers, "visus-reader"), num_readers // 2
        self._held_bytes = 0
        self.watch: BundleWatch | None = None
        if source is not None and source.is_bundle:
            refused: Callable[[], None] = self.metrics.bundles.labels("refused").inc
            self.watch = BundleWatch(source, model.sha256, self.use, verify=settings.verify_new, on_refused=refused)

    def use(self, model: Model) -> None:
        """Serve another network from now on. Requests that have begun are answered by the earlier one."""
        self.model = model
        self.metrics.bundles.labels("taken").inc()

    @contextlib.asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """From the start of the process to its end."""
        self.batcher.start()
        every_s = self.settings.reload_s
        watching = asyncio.create_task(self.watch.run(every_s)) if self.watch is not None and every_s > 0 else None
        try:
            yield
        finally:
            self.is_draining = True
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.settings.answer_timeout_s):
                    await self.batcher.close()
            self._readers.shutdown(wait=False, cancel_futures=True)

    def note_refused(self, status: int) -> None:
        """Count an answer that was given before any request could be read."""
        self.metrics.requests.labels("other", str(status)).inc()

    def _note_batch(self, num_samples: int, seconds: float) -> None:
        self.metrics.batch_samples.observe(num_samples)
        self.metrics.engine_seconds.observe(seconds)

    # ---- predictions ----

    async def predict(self, request: Request) -> Response:
        """``POST /v1/predict``."""
        if self.is_draining:
            raise unavailable(DRAINING)
        if trouble := self.batcher.trouble:
            raise unavailable(f"The server cannot answer: {trouble}.", 5)
        model = self.model  # of the whole request, even if the bundle changes meanwhile
        top, method = _query(request, model)
        media_type(request.headers.get("content-type", ""))
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "The body is compressed. Send it as it is.", headers={"Accept-Encoding": "identity"})
        if self.batcher.num_queued >= self.settings.queue:
            raise busy(self.batcher.retry_after_s)
        with self._holding() as hold:
            try:
                body = await self._read_body(request, hold)
                return await self._before_deadline(request, self._answer(request, model, body, top, method))
            except ClientDisconnect:
                return Response(status_code=499)

    @contextlib.contextmanager
    def _holding(self) -> Iterator[Callable[[int], None]]:
        """Counts the bytes of a request among those that are held, until it is answered."""
        held = 0

        def hold(num_bytes: int) -> None:
            nonlocal held
            if self._held_bytes > held and self._held_bytes + num_bytes > MAX_HELD_BYTES:
                raise Problem(
                    429, "The server holds as many bytes as it can. Send this request again.", headers={"Retry-After": "1"}
                )
            held += num_bytes
            self._held_bytes += num_bytes

        try:
            yield hold
        finally:
            self._held_bytes -= held

    async def _read_body(self, request: Request, hold: Callable[[int], None]) -> bytes:
        limit, seconds = self.settings.max_bytes, self.settings.read_timeout_s
        too_large = Problem(413, f"The body has more than {write_bytes(limit)}. Send smaller or fewer files.")
        stated = request.headers.get("content-length", "0")
        if not (stated.isascii() and stated.isdigit()):
            raise Problem(400, "The header Content-Length is no number of bytes.")
        if len(stated) > 18 or int(stated) > limit:
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    hold(len(chunk))
                    body += chunk
                    if len(body) > limit:
                        raise too_large
        except TimeoutError:
            raise Problem(408, f"The body has not arrived in {seconds:g} s. Send it again.") from None
        return bytes(body)

    async def _before_deadline(self, request: Request, answering: Any) -> Response:
        """The answer; the work is canceled if it takes too long or its client goes away."""
        work, gone = asyncio.create_task(answering), asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait((work, gone), timeout=self.settings.answer_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                response: Response = work.result()
                return response
            if gone.done():
                raise ClientDisconnect
            raise unavailable(
                f"The answer was not ready in {self.settings.answer_timeout_s:g} s. Send fewer or smaller samples, or send this again later.",
                self.batcher.retry_after_s,
            )
        finally:
            work.cancel()
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _answer(self, request: Request, model: Model, body: bytes, top: int, method: str) -> Response:
        content_type, loop = request.headers.get("content-type", ""), asyncio.get_running_loop()
        arguments = content_type, body, model.preprocessing, self.settings.num_files
        if len(body) <= _SMALL.max_bytes:
            sources = read_sources(*arguments)
        else:
            sources = await loop.run_in_executor(self._readers, read_sources, *arguments)
        if method and len(sources) > 1:
            raise Problem(422, "One sample is explained at a time. Send one, or leave explain out.")
        is_alone = len(sources) == 1
        if not is_alone:
            await loop.run_in_executor(self._readers, refuse_pixels, sources, self.settings.max_request_pixels)
        compute = _explainer(model, method) if method else model.compute
        asked = _Asked(request.state.request_id, model, compute, top, is_alone, asyncio.Semaphore(self._share_of_readers))
        try:
            with self.batcher.admit(len(sources)) as places:
                self.metrics.queued.set(self.batcher.num_queued)
                outcomes = await asyncio.gather(*(self._outcome(asked, places, each) for each in sources))
        except QueueFullError as error:
            raise busy(error.retry_after_s) from None
        finally:
            self.metrics.queued.set(self.batcher.num_queued)
        problems = [each for each in outcomes if isinstance(each, Problem)]
        self.metrics.samples.labels("failed").inc(len(problems))
        self.metrics.samples.labels("answered").inc(len(outcomes) - len(problems))
        if len(problems) == len(outcomes):
            raise of_all(problems)
        predictions = [
            {"name": source.name, "error": each.facts()} if isinstance(each, Problem) else {"name": source.name, **each}
            for source, each in zip(sources, outcomes, strict=True)
        ]
        served = {"name": model.name, "sha256": model.sha256}
        return JSONResponse({"predictions": predictions, "model": served, "request_id": request.state.request_id})

    async def _outcome(self, asked: _Asked, places: Admission, source: Source) -> dict[str, Any] | Problem:
        """The prediction of one sample, or why there is none."""
        try:
            sample, changes = await self._sample(asked, source)
            found = await places.submit(asked.compute, sample)
        except Problem as problem:
            return problem
        except UsageError as error:  # of a saliency method
            return Problem(422, error.message)
        except BatcherClosedError:
            return unavailable("The server cannot answer: the batcher has stopped.", 5)
        except Exception:
            logger.exception("request %s: a sample failed", asked.request_id)
            return Problem(500, FAILED)
        row, saliency = found if isinstance(found, tuple) else (found, None)
        if not np.isfinite(row).all():
            return Problem(422, "The network's output for this sample is NaN or infinite. Check the range of its values.")
        answer = {**_facts(row, asked, source.name), "changes": list(changes)}
        return answer if saliency is None else {**answer, "saliency_png": saliency}

    async def _sample(self, asked: _Asked, source: Source) -> tuple[Pixels, tuple[str, ...]]:
        """The stored sample of a source. A small one is read at once: to hand it to a thread takes longer."""
        preprocessing = asked.model.preprocessing
        if asked.is_alone and source.num_bytes <= _SMALL.max_bytes:
            try:
                return read_sample(source, preprocessing, _SMALL)
            except Problem as problem:
                if problem.status != 413:  # it has more pixels than bytes
                    raise
        loop = asyncio.get_running_loop()
        async with asked.reading:  # some readers stay free for other requests
            return await loop.run_in_executor(self._readers, read_sample, source, preprocessing, self._limits)

    # ---- the rest ----

    async def describe(self, request: Request) -> Response:
        """``GET /v1/model``."""
        settings = self.settings
        limits = {"max_bytes": settings.max_bytes, "max_pixels": settings.max_pixels, "max_files": settings.num_files}
        return JSONResponse({**self.model.described(), "limits": limits})

    async def health(self, request: Request) -> Response:
        """``GET /healthz``: the process answers."""
        return JSONResponse({"status": "alive"})

    async def readiness(self, request: Request) -> Response:
        """``GET /readyz``: predictions are answered."""
        if self.is_draining:
            raise unavailable(DRAINING)
        if trouble := self.batcher.trouble:
            raise unavailable(f"The server cannot answer: {trouble}.", 5)
        return JSONResponse({"status": "ready"})

    async def report(self, request: Request) -> Response:
        """``GET /metrics``."""
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def document(self, request: Request) -> Response:
        """``GET /openapi.json``."""
        return JSONResponse(openapi(self.settings, self.model))

    async def page(self, request: Request) -> Response:
        """``GET /docs``."""
        return HTMLResponse(
            page(self.settings, self.model, f"{request.url.scheme}://{request.headers['host']}"),
            headers={"Content-Security-Policy": POLICY_OF_PAGE},
        )

    async def style(self, request: Request) -> Response:
        """``GET /docs.css``."""
        return Response(STYLE, media_type="text/css")


def _facts(row: Row, asked: _Asked, name: str) -> dict[str, Any]:
    """The prediction for the outputs (K,) of one sample as plain data."""
    decision, classes = asked.model.decision, asked.model.classes
    if decision.task != "single-label":
        return decision.prediction_of(name, row.tolist(), classes).facts(decision.task)
    chosen = [{"label": label, "probability": share} for label, share in top_k(row[None], classes, asked.top)[0]]
    return {**chosen[0], "top": chosen}


def make_app(service: Service) -> Starlette:
    """The web application of a service."""

    async def answer_http(request: Request, error: Exception) -> Any:
        return await answer_problem(request, not_found(error))

    routes = [
        Route("/v1/predict", service.predict, methods=["POST"]),
        Route("/v1/model", service.describe),
        Route("/healthz", service.health),
        Route("/readyz", service.readiness),
        Route("/metrics", service.report),
        Route("/openapi.json", service.document),
        Route("/docs", service.page),
        Route("/docs.css", service.style),
    ]
    handlers: Any = {Problem: answer_problem, HTTPException: answer_http}
    guard = Middleware(Guard, settings=service.settings, metrics=service.metrics, is_draining=lambda: service.is_draining)
    app = Starlette(routes=routes, middleware=[guard], exception_handlers=handlers, lifespan=service.running)
    app.router.redirect_slashes = False
    return app


def _query(request: Request, model: Model) -> tuple[int, str]:
    """``top`` and ``explain``.

    Raises:
        Problem: one of them cannot be used.
    """
    task = model.decision.task
    known = ("explain", "top")
    if task != "single-label" and "top" in request.query_params:
        all_of = "all numbers" if task == "regression" else "all classes that reach their threshold"
        raise Problem(422, f"A prediction of {task} has {all_of}, so top has no effect. Leave it out.")
    given = request.query_params.multi_items()
    for name, _ in given:
        if name not in known:
            message = unknown_name("setting", printable(name)[:100], known)
            raise Problem(422, message[0].upper() + message[1:])
    if len({name for name, _ in given}) < len(given):
        raise Problem(422, "A setting is given twice. Give it once.")
    text, method = request.query_params.get("top", "1"), request.query_params.get("explain", "")
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= len(model.classes)):
        raise Problem(422, f"top is {printable(text)[:100]!r}, and must be a whole number from 1 to {len(model.classes)}.")
    if "explain" in request.query_params:
        _explainer(model, method)
    return int(text), method


def _explainer(model: Model, method: str) -> Compute:
    if not model.explainers:
        raise Problem(
            501, "This server has no saliency maps: they need a network of images, PyTorch, and, for a bundle, its design."
        )
    try:
        return explainer(model, method)
    except UsageError as error:
        raise Problem(422, error.message[0].upper() + error.message[1:]) from None


async def _disconnected(request: Request) -> None:
    """Ends when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
