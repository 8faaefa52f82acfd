"""The batcher against the known failures of servers: answers lost, swapped or stuck."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.conftest import run, until

from visus.server.batcher import Batcher, BatcherClosedError, QueueFullError


class Engine:
    """An engine that answers ``-sample``, keeps its batches, and can be held or made to fail."""

    def __init__(
        self, fails: Callable[[Sequence[int]], bool] = lambda samples: False, error: type[BaseException] = ValueError
    ) -> None:
        self.batches: list[list[int]] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self._fails, self._error = fails, error

    def __call__(self, samples: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(samples))
        assert self.may_go.wait(30)
        if self._fails(samples):
            raise self._error("this cannot be computed")
        return [-sample for sample in samples]


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Batcher]:
    batcher = Batcher(**settings)
    batcher.start()
    try:
        yield batcher
    finally:
        await batcher.close()


def submit(batcher: Batcher, compute: Any, *samples: int) -> list[asyncio.Future[Any]]:
    with batcher.admit(len(samples)) as places:
        return [places.submit(compute, sample) for sample in samples]


async def hold_engine(batcher: Batcher, engine: Engine) -> asyncio.Future[Any]:
    """Make the engine busy with a first sample, so that all later ones wait."""
    engine.may_go.clear()
    (first,) = submit(batcher, engine, 999)
    await until(lambda: len(engine.batches) == 1)
    return first


def test_each_request_gets_its_own_answers_and_no_other() -> None:
    """One response got everybody's answers, and the others came back empty (MLServer 1306, 1911)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_wait_s=0.05) as batcher:
            requests = [submit(batcher, engine, *range(start, start + 3)) for start in range(0, 30, 3)]
            answers = [[await each for each in futures] for futures in requests]
        assert answers == [[-number for number in range(start, start + 3)] for start in range(0, 30, 3)]
        assert len(engine.batches) == 1, "they were computed together"

    run(work)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(("answer", "cancel", "fail"))), min_size=1, max_size=12),
    st.integers(1, 8),
)
def test_whatever_is_canceled_or_fails_every_other_sample_gets_its_own_answer(
    requests: list[tuple[int, str]], max_batch: int
) -> None:
    """Results overwrote each other (TensorFlow Serving 1957, Triton 4133); a valid request got another's error (sparkinfer 606)."""

    async def work() -> None:
        numbers = iter(range(1000))
        plan = [([next(numbers) for _ in range(count)], fate) for count, fate in requests]
        bad = {samples[0] for samples, fate in plan if fate == "fail"}
        engine = Engine(lambda samples: bool(bad & set(samples)))
        async with running(max_batch=max_batch, max_wait_s=0.001) as batcher:
            first = await hold_engine(batcher, engine)
            futures = [submit(batcher, engine, *samples) for samples, _ in plan]
            for (_, fate), each in zip(plan, futures, strict=True):
                if fate == "cancel":
                    each[-1].cancel()
            engine.may_go.set()
            assert await first == -999
            for (samples, fate), each in zip(plan, futures, strict=True):
                found = await asyncio.gather(*each, return_exceptions=True)
                for place, (sample, answer) in enumerate(zip(samples, found, strict=True)):
                    if fate == "cancel" and place == len(samples) - 1:
                        assert isinstance(answer, asyncio.CancelledError)
                    elif sample in bad:
                        assert isinstance(answer, ValueError)
                    else:
                        assert answer == -sample
        assert batcher.num_queued == 0

    run(work)


def test_a_canceled_sample_leaves_the_queue_and_is_not_computed() -> None:
    """A canceled client stopped the batcher for ever (Ray 50046, 41057)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_queue=4) as batcher:
            first = await hold_engine(batcher, engine)
            futures = submit(batcher, engine, 1, 2, 3, 4)
            futures[1].cancel()
            await asyncio.sleep(0)
            assert batcher.num_queued == 3
            engine.may_go.set()
            assert [await futures[place] for place in (0, 2, 3)] == [-1, -3, -4]
            assert await first == -999
            assert [2 in batch for batch in engine.batches] == [False, False]
            (later,) = submit(batcher, engine, 5)
            assert await later == -5

    run(work)


def test_a_sample_canceled_while_it_is_computed_stops_nothing() -> None:
    async def work() -> None:
        engine = Engine()
        async with running() as batcher:
            first = await hold_engine(batcher, engine)
            first.cancel()
            engine.may_go.set()
            (later,) = submit(batcher, engine, 5)
            assert await later == -5
            assert batcher.trouble == ""

    run(work)


@pytest.mark.parametrize("error", [ValueError, MemoryError, StopIteration, KeyboardInterrupt, SystemExit])
def test_an_error_in_a_batch_fails_only_the_sample_that_causes_it(error: type[BaseException]) -> None:
    """An exception in the batching callback ended the loop, and the application stayed RUNNING (Ray 66140)."""

    async def work() -> None:
        engine = Engine(lambda samples: 2 in samples, error)
        async with running(max_wait_s=0.05) as batcher:
            futures = submit(batcher, engine, 1, 2, 3)
            found = await asyncio.gather(*futures, return_exceptions=True)
            assert [found[0], found[2]] == [-1, -3]
            assert isinstance(found[1], Exception)
            assert engine.batches == [[1, 2, 3], [1], [2], [3]]
            (later,) = submit(batcher, engine, 4)
            assert await later == -4
            assert batcher.trouble == ""

    run(work)


def test_an_engine_that_returns_too_few_answers_swaps_none() -> None:
    """Wrong results with dynamic batching (Triton 4133, MLServer 514)."""

    async def work() -> None:
        def compute(samples: Sequence[int]) -> Sequence[int]:
            return [-sample for sample in samples][: max(1, len(samples) - 1)]

        async with running(max_wait_s=0.05) as batcher:
            assert [await each for each in submit(batcher, compute, 1, 2, 3)] == [-1, -2, -3]
            (none,) = submit(batcher, lambda samples: [], 1)
            with pytest.raises(RuntimeError, match="the engine returned 0 answers for 1 samples"):
                await none

    run(work)


def test_no_batch_is_larger_than_the_limit() -> None:
    """The limit of a batch was not obeyed (BentoML 3859, 3710; Triton 7271, 3624, 4129, 7205)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_batch=4, max_wait_s=0.01) as batcher:
            first = await hold_engine(batcher, engine)
            futures = submit(batcher, engine, *range(11))
            engine.may_go.set()
            await asyncio.gather(first, *futures)
        assert [len(batch) for batch in engine.batches] == [1, 4, 4, 3]

    run(work)


def test_a_full_batch_does_not_wait() -> None:
    """A wait was imposed even without batching (BentoML 4265)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_batch=3, max_wait_s=3600) as batcher:
            assert [await each for each in submit(batcher, engine, 1, 2, 3)] == [-1, -2, -3]
        async with running(max_batch=1, max_wait_s=3600) as batcher:
            assert [await each for each in submit(batcher, engine, 4)] == [-4]

    run(work)


def test_a_wait_is_no_deadline_of_the_answer() -> None:
    """A maximum latency canceled requests (BentoML 3630, 3200, 2603, 1530)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_wait_s=0.001) as batcher:
            first = await hold_engine(batcher, engine)
            (second,) = submit(batcher, engine, 2)
            await asyncio.sleep(0.05)
            engine.may_go.set()
            assert [await first, await second] == [-999, -2]

    run(work)


def test_a_full_queue_admits_all_samples_of_a_request_or_none() -> None:
    """The queue had no limit (LitServe, Triton)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_queue=4) as batcher:
            first = await hold_engine(batcher, engine)
            futures = submit(batcher, engine, 1, 2, 3)
            with pytest.raises(QueueFullError, match="the queue is full; retry in 1 s") as caught:
                batcher.admit(2)
            assert caught.value.retry_after_s >= 1
            assert batcher.num_queued == 3
            futures += submit(batcher, engine, 4)
            engine.may_go.set()
            assert [await each for each in futures] == [-1, -2, -3, -4]
            await first
            assert batcher.num_queued == 0

    run(work)


def test_places_that_were_not_used_are_given_back() -> None:
    async def work() -> None:
        async with running(max_queue=3) as batcher:
            with batcher.admit(3) as places:
                assert await places.submit(Engine(), 1) == -1
                assert batcher.num_queued == 2
            assert batcher.num_queued == 0

    run(work)


def test_an_engine_that_does_not_answer_is_reported() -> None:
    """A server stayed healthy and answered nothing (OpenVINO Model Server 4503)."""

    async def work() -> None:
        engine = Engine()
        async with running(max_compute_s=0.01) as batcher:
            assert batcher.trouble == ""
            first = await hold_engine(batcher, engine)
            await until(lambda: batcher.trouble != "")
            assert batcher.trouble.startswith("the engine has not answered for ")
            engine.may_go.set()
            assert await first == -999
            await asyncio.sleep(0)
            assert batcher.trouble == ""

    run(work)


def test_a_batcher_that_has_ended_says_so_and_leaves_nobody_waiting() -> None:
    async def work() -> None:
        batcher, engine = Batcher(), Engine()
        assert batcher.trouble == "the batcher has stopped"
        batcher.start()
        first = await hold_engine(batcher, engine)
        (second,) = submit(batcher, engine, 2)
        assert batcher._task is not None
        batcher._task.cancel()  # as nothing in visus does
        with pytest.raises(BatcherClosedError, match="the batcher has stopped"):
            await second
        assert batcher.trouble == "the batcher has stopped"
        with pytest.raises(BatcherClosedError, match="the batcher has stopped"):
            submit(batcher, engine, 3)
        first.cancel()
        engine.may_go.set()

    run(work)


def test_an_error_outside_of_the_engine_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        def note(num_samples: int, seconds: float) -> None:
            if num_samples == 2:
                raise OSError("the metrics cannot be written")

        engine = Engine()
        async with running(max_wait_s=0.05, on_batch=note) as batcher:
            found = await asyncio.gather(*submit(batcher, engine, 1, 2), return_exceptions=True)
            assert [type(each) for each in found] == [OSError, OSError]
            (later,) = submit(batcher, engine, 4)
            assert await later == -4

    with caplog.at_level(logging.ERROR, logger="visus.server"):
        run(work)
    assert "a batch failed outside of the engine" in caplog.text


def test_closing_answers_what_was_accepted() -> None:
    """A shutdown dropped work (Triton 6286, 6287, 6230; gunicorn 2529)."""

    async def work() -> None:
        engine = Engine()
        batcher = Batcher(max_batch=2, max_wait_s=3600)
        batcher.start()
        futures = submit(batcher, engine, 1, 2, 3, 4, 5)
        await batcher.close()
        assert [each.result() for each in futures] == [-1, -2, -3, -4, -5]

    run(work)


def test_samples_of_two_networks_are_never_computed_together() -> None:
    """After a reload, answers came from the wrong network or not at all (Triton 5757)."""

    async def work() -> None:
        old, new = Engine(), Engine()
        async with running(max_wait_s=0.01) as batcher:
            first = await hold_engine(batcher, old)
            futures = [
                *submit(batcher, old, 1),
                *submit(batcher, new, 2),
                *submit(batcher, old, 3),
                *submit(batcher, new, 4),
            ]
            old.may_go.set()
            assert [await each for each in futures] == [-1, -2, -3, -4]
            await first
        assert (old.batches, new.batches) == ([[999], [1, 3]], [[2, 4]])

    run(work)


@pytest.mark.slow
def test_a_network_that_is_no_longer_served_is_freed() -> None:
    async def work() -> None:
        engine = Engine()
        gone = weakref.ref(engine)
        async with running() as batcher:
            await asyncio.gather(*submit(batcher, engine, 1))
            del engine
            gc.collect()
            await until(lambda: gc.collect() >= 0 and gone() is None)

    run(work)
