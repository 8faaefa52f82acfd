"""What ``/metrics`` reports, in the format of Prometheus."""

from __future__ import annotations

import os
from typing import Final

import prometheus_client as prometheus
from prometheus_client import multiprocess

MULTIPROCESS: Final = "PROMETHEUS_MULTIPROC_DIR"
"""The folder in which several processes share their numbers; set before this module is loaded."""
CONTENT_TYPE: Final = prometheus.CONTENT_TYPE_LATEST
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The metrics of one server process."""

    def __init__(self) -> None:
        self._registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "visus_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        self.request_seconds = prometheus.Histogram(
            "visus_request_seconds",
            "Time from the headers of a request to its answer.",
            ["path"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.samples = prometheus.Counter("visus_samples", "Samples by outcome.", ["outcome"], registry=registry)
        self.batch_samples = prometheus.Histogram(
            "visus_batch_samples", "Samples of a batch.", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
        )
        self.engine_seconds = prometheus.Histogram(
            "visus_engine_seconds", "Time that the engine takes for a batch.", registry=registry, buckets=_SECONDS
        )
        self.queued = prometheus.Gauge(
            "visus_queued_samples",
            "Samples that are accepted and not yet computed.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.bundles = prometheus.Counter(
            "visus_changed_bundles", "Changed bundles by outcome.", ["outcome"], registry=registry
        )

    def text(self) -> bytes:
        """All numbers; those of all processes, if there are several."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS):
            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return prometheus.generate_latest(registry)


def forget_process(process: int) -> None:
    """Leave out what a process that has ended reported as its present state."""
    if os.environ.get(MULTIPROCESS):
        multiprocess.mark_process_dead(process)  # type: ignore[no-untyped-call]
