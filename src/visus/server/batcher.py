"""Batches requests as they come: one task, one thread for the engine, a future for each sample.

A sample is known by its number and never by its place. A canceled sample leaves the queue. An error in a batch is retried one by one, so
that only the sample that causes it fails. Whatever fails, the task goes on; ``trouble`` says if it does not.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

Compute = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers for samples, one for each, in their order. Samples with the same function are computed together."""

_MAX_RETRY_S: Final = 60
_SMOOTHING: Final = 0.1

logger = logging.getLogger("visus.server")


class QueueFullError(Exception):
    """The queue has no place left.

    Args:
        retry_after_s: seconds after which there is probably one.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"the queue is full; retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


class BatcherClosedError(Exception):
    """The batcher has ended, so no answer will come."""


@dataclass(eq=False)
class _Item:
    compute: Compute
    sample: Any
    future: asyncio.Future[Any]
    arrived_at: float


class Batcher:
    """Samples of many requests, computed together.

    Args:
        max_batch: samples that are computed together at most.
        max_wait_s: time that a sample waits for others while the engine is free, in seconds.
        max_queue: samples that are admitted and not yet computed, at most.
        max_compute_s: a batch that takes longer, or a sample that waits longer, is reported by ``trouble``.
        on_batch: called with the number of samples and the seconds of each batch.
    """

    def __init__(
        self,
        *,
        max_batch: int = 32,
        max_wait_s: float = 0.002,
        max_queue: int = 256,
        max_compute_s: float = 60.0,
        on_batch: Callable[[int, float], None] = lambda num_samples, seconds: None,
    ) -> None:
        self._max_batch, self._max_wait_s, self._max_queue = max_batch, max_wait_s, max_queue
        self._max_compute_s, self._on_batch = max_compute_s, on_batch
        self._waiting: dict[int, _Item] = {}
        self._reserved = 0
        self._numbers = itertools.count()
        self._arrived = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._thread = _Worker()
        self._busy_since: float | None = None
        self._sample_s = 0.0

    def start(self) -> None:
        """Start the task; an event loop must be running."""
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Answer every sample that waits, then end."""
        self._closing = True
        self._arrived.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.close()

    @property
    def num_queued(self) -> int:
        """Samples that are admitted and not yet computed."""
        return self._reserved + len(self._waiting)

    @property
    def trouble(self) -> str:
        """Why no answers come; empty if all is well."""
        if self._task is None or self._task.done():
            return "the batcher has stopped"
        now = asyncio.get_running_loop().time()
        oldest = next(iter(self._waiting.values())).arrived_at if self._waiting else now
        since = min(oldest, now if self._busy_since is None else self._busy_since)
        if now - since > self._max_compute_s:
            return f"the engine has not answered for {now - since:.0f} s"
        return ""

    @property
    def retry_after_s(self) -> int:
        """Whole seconds in which the queue is probably worked off, at least 1."""
        return min(_MAX_RETRY_S, max(1, math.ceil(self.num_queued * self._sample_s)))

    def admit(self, count: int) -> Admission:
        """Reserve places for the samples of one request: all of them or none.

        Raises:
            QueueFullError: there are fewer places.
        """
        if self.num_queued + count > self._max_queue:
            raise QueueFullError(self.retry_after_s)
        self._reserved += count
        return Admission(self, count)

    def release(self, count: int) -> None:
        """Give reserved places back."""
        self._reserved -= count

    def put(self, compute: Compute, sample: Any) -> asyncio.Future[Any]:
        """Queue a sample whose place is reserved.

        Raises:
            BatcherClosedError: the batcher has ended.
        """
        if self._task is None or self._task.done():
            raise BatcherClosedError("the batcher has stopped")
        loop = asyncio.get_running_loop()
        number, future = next(self._numbers), loop.create_future()
        self._waiting[number] = _Item(compute, sample, future, loop.time())
        future.add_done_callback(lambda done: self._waiting.pop(number, None))
        self._arrived.set()
        return future

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("the batcher has stopped", exc_info=error)
        for item in list(self._waiting.values()):
            _settle(item, BatcherClosedError("the batcher has stopped"))

    async def _run(self) -> None:
        while True:
            batch: list[_Item] = []
            try:
                batch = await self._next_batch()
                if not batch:
                    return
                await self._answer(batch)
            except Exception as error:
                logger.exception("a batch failed outside of the engine")
                for item in batch:
                    _settle(item, error)
                await asyncio.sleep(0.01)
            finally:
                self._busy_since = None

    async def _next_batch(self) -> list[_Item]:
        """The samples that are computed next, at least one; none if the batcher closes and nothing waits."""
        loop = asyncio.get_running_loop()
        while True:
            self._arrived.clear()
            if not self._waiting:
                if self._closing:
                    return []
                await self._arrived.wait()
                continue
            first = next(iter(self._waiting.values()))
            alike = [number for number, item in self._waiting.items() if item.compute == first.compute][: self._max_batch]
            left = first.arrived_at + self._max_wait_s - loop.time()
            if self._closing or len(alike) >= self._max_batch or left <= 0:
                return [self._waiting.pop(number) for number in alike]
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                pass

    async def _answer(self, batch: list[_Item]) -> None:
        found = await self._compute(batch)
        if isinstance(found, BaseException) and len(batch) > 1:
            logger.warning(
                "a batch of %d samples failed (%s); its samples are computed one by one", len(batch), type(found).__name__
            )
            for item in batch:
                if not item.future.done():
                    one = await self._compute([item])
                    _settle(item, one if isinstance(one, BaseException) else one[0])
            return
        for place, item in enumerate(batch):
            _settle(item, found if isinstance(found, BaseException) else found[place])

    async def _compute(self, batch: list[_Item]) -> Sequence[Any] | BaseException:
        loop = asyncio.get_running_loop()
        self._busy_since = start = loop.time()
        found = await self._thread.call(batch[0].compute, [item.sample for item in batch])
        seconds = loop.time() - start
        self._sample_s += _SMOOTHING * (seconds / len(batch) - self._sample_s)
        self._on_batch(len(batch), seconds)
        if not isinstance(found, BaseException) and len(found) != len(batch):
            return RuntimeError(f"the engine returned {len(found)} answers for {len(batch)} samples")
        return found


class Admission:
    """Places in the queue for the samples of one request. Those that were not used are given back at the end of the ``with`` block.

    Args:
        batcher: the batcher.
        count: the number of places.
    """

    def __init__(self, batcher: Batcher, count: int) -> None:
        self._batcher, self._left = batcher, count

    def submit(self, compute: Compute, sample: Any) -> asyncio.Future[Any]:
        """Queue a sample in one of the places."""
        assert self._left > 0, "more samples than places"
        self._left -= 1
        self._batcher.release(1)
        return self._batcher.put(compute, sample)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._batcher.release(self._left)
        self._left = 0


class _Worker:
    """One thread that computes one batch after the other. It does not hold up the end of the process if an engine never returns."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Compute, Sequence[Any], asyncio.Future[Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, compute: Compute, samples: Sequence[Any]) -> Sequence[Any] | BaseException:
        """The answers, or the error."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="visus-engine", daemon=True)
            self._thread.start()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._jobs.put((compute, samples, future))
        found: Sequence[Any] | BaseException = await future
        return found

    def close(self) -> None:
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            compute, samples, future = job
            try:
                found: Any = compute(samples)
            except BaseException as error:  # a thread that ends would leave every later sample without an answer
                found = error
            try:
                future.get_loop().call_soon_threadsafe(_set_result, future, found)
            except RuntimeError:  # the event loop has ended
                return
            del job, compute, samples, future, found  # a replaced network is freed, though no sample comes


def _set_result(future: asyncio.Future[Any], found: Any) -> None:
    if not future.done():
        future.set_result(found)


def _settle(item: _Item, found: Any) -> None:
    """Give a sample its answer or its error, unless its client has gone."""
    if item.future.done():
        return
    if isinstance(found, Exception) and not isinstance(found, StopIteration):  # no future takes a StopIteration
        item.future.set_exception(found)
    elif isinstance(found, BaseException):
        item.future.set_exception(RuntimeError(f"the engine raised {type(found).__name__}"))
    else:
        item.future.set_result(found)
