"""Parts on a Ray cluster. Ray only distributes the numbers of chunks: each worker opens the network, and writes its parts itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from visus.errors import MissingExtraError, UsageError, VisusError
from visus.limits import usable_cores
from visus.workbench.runs.bulk.inputs import Chunk
from visus.workbench.runs.bulk.parts import PartFacts
from visus.workbench.runs.bulk.work import BulkPredictor, Job, OnSamples, Schedule, Worker

LOCAL: Final = "local"
_WORKERS: Final[dict[str, Worker]] = {}
"""The open network of this worker process, by the identity of network and table."""


def predict_on_ray(address: str) -> Schedule:
    """Predict parts on a Ray cluster that can read the samples and the network under the same paths, and write the parts.

    Args:
        address: ``local`` for this machine, or the address of a cluster, such as ``auto`` or ``ray://host:10001``.

    Raises:
        MissingExtraError: ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except Exception as error:
        raise MissingExtraError.because(error, "ray", "cluster", "predictions on a cluster") from error

    def schedule(job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples) -> Iterator[PartFacts]:
        was_running = ray.is_initialized()
        if not was_running:
            _start(ray, address)
        try:
            yield from _distribute(ray, job, predictor, chunks, on_samples)
        finally:
            if not was_running:
                ray.shutdown()

    return schedule


def _start(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=usable_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise UsageError(
            f"no Ray cluster answers at {address} ({reason}). Start one there (ray start --head), or use {LOCAL}."
        ) from error


def _distribute(
    ray: Any, job: Job, predictor: BulkPredictor, chunks: Iterable[Chunk], on_samples: OnSamples
) -> Iterator[PartFacts]:
    """Keep twice as many chunks waiting as the cluster computes at once, so that memory is bounded whatever the number of chunks."""
    threads = min(predictor.num_threads, max(1, int(ray.cluster_resources().get("CPU", 1))))
    task = ray.remote(num_cpus=threads, max_retries=-1)(predict_chunk)
    limit = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    shared = ray.put((job, predictor.reopen))
    waiting: list[Any] = []
    left = iter(chunks)
    try:
        while True:
            while len(waiting) < limit and (chunk := next(left, None)) is not None:
                waiting.append(task.remote(shared, chunk))
            if not waiting:
                return
            (done, *_), waiting = ray.wait(waiting, num_returns=1)
            facts = _result(ray, done)
            on_samples(facts.num_samples)
            yield facts
    finally:
        for each in waiting:
            ray.cancel(each)


def _result(ray: Any, done: Any) -> PartFacts:
    try:
        facts: PartFacts = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, VisusError):
            raise error.cause from None
        raise
    return facts


def predict_chunk(shared: tuple[Job, Callable[[], BulkPredictor]], chunk: Chunk) -> PartFacts:
    """Predict one chunk in a worker process, which opens the network at its first one.

    Raises:
        UsageError: the network is not the one of the plan.
    """
    job, reopen = shared
    key = f"{job.out} {job.plan}"
    if key not in _WORKERS:
        predictor = reopen()
        if predictor.identity != job.plan.network:
            raise UsageError(
                f"a worker of the cluster opens another {job.plan.network_name} than this process. Give all machines the same files."
            )
        _WORKERS.clear()
        _WORKERS[key] = Worker(job, predictor)
    return _WORKERS[key].predict(chunk)
