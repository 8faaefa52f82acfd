"""A server under load: its capacity, the latencies at a share of it, and its memory over many requests.

    python benchmarks/server_load.py [--network "lenet5()"] [--shape 1,28,28] [--share 0.7] [--seconds 30] [--requests 50000] [--output FILE]

``visus serve`` serves a bundle of random weights with one thread on one core; this client runs on another. Every request is one PNG file whose label is
known from ``visus.open_bundle(...).predict``, and every answer is compared with it. Three parts:

- capacity: ``--connections`` clients, each of which sends its next request as soon as its answer is there;
- latency: requests at ``--share`` of the capacity, whether or not earlier ones are answered, at equal distances and at random times (a Poisson process). A latency
  counts from the time at which the request was due, so waiting for a free connection counts as well. No server that computes one request after the other in equal
  times can answer random requests evenly: by queueing theory (M/D/1), its p99 at 70 % of its capacity is 4.3 x its p50;
- memory: the resident memory of the server after every tenth of ``--requests`` requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.metadata
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from measuring import command_line, machine_facts, write_result

NUM_IMAGES = 64
SERVE = "import sys; from visus.cli import main; sys.argv[0] = 'visus'; main()"


class Load:
    """Requests with known labels over connections that are kept.

    Args:
        host, port: of the server.
        images: PNG files.
        labels: the label of each.
    """

    def __init__(self, host: str, port: int, images: Sequence[bytes], labels: Sequence[str]) -> None:
        self._host, self._port, self._labels = host, port, labels
        head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/png\r\n"
        self._requests = [f"{head}Content-Length: {len(each)}\r\n\r\n".encode() + each for each in images]
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._sent = 0
        self.num_answered = self.num_busy = 0

    async def ask(self) -> None:
        """One request and its answer. A full queue is counted; a wrong answer ends the benchmark."""
        number, self._sent = self._sent % len(self._requests), self._sent + 1
        reader, writer = self._free.pop() if self._free else await asyncio.open_connection(self._host, self._port)
        writer.write(self._requests[number])
        try:
            first = await reader.readexactly(1)
        except (asyncio.IncompleteReadError, ConnectionError):  # the server closes a connection without requests after 10 s
            writer.close()
            reader, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(self._requests[number])
            first = await reader.readexactly(1)
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = re.search(r"(?i)content-length: (\d+)", head)
        assert length is not None, head
        body = await reader.readexactly(int(length[1]))
        self._free.append((reader, writer))
        status = int(head.split(" ", 2)[1])
        if status == 429:
            self.num_busy += 1
            return
        label = json.loads(body)["predictions"][0]["label"] if status == 200 else ""
        if label != self._labels[number]:
            raise SystemExit(f"image {number} is {self._labels[number]}, and the server answers {status}: {body[:300]!r}")
        self.num_answered += 1

    async def as_fast_as_answered(self, num_connections: int, count: int) -> float:
        """Seconds for a number of requests, each sent when the connection's earlier one is answered."""
        left = iter(range(count))

        async def client() -> None:
            for _ in left:
                await self.ask()

        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(num_connections)))
        return time.perf_counter() - began

    async def at_times(self, distances: Iterator[float], seconds: float) -> list[float]:
        """Latencies in seconds of requests with these times between them."""
        latencies: list[float] = []
        tasks = []

        async def timed(due: float) -> None:
            await self.ask()
            latencies.append(time.perf_counter() - due)

        due = began = time.perf_counter()
        while (due := due + next(distances)) < began + seconds:
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(timed(due)))
        await asyncio.gather(*tasks)
        return latencies


@contextlib.contextmanager
def served(bundle: Path, core: int | None, options: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server process: its number and its port."""
    command = [sys.executable, "-c", SERVE, "serve", str(bundle), "--port", "0", "--threads", "1", *options]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        if core is not None:
            os.sched_setaffinity(server.pid, {core})
        assert server.stdout is not None
        said = ""
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)", said)) is None:
            line = server.stdout.readline()
            if not line:
                raise SystemExit(f"the server ended: {said}")
            said += line
        yield server.pid, int(found[1])
    finally:
        server.terminate()
        server.wait()


def resident_bytes(process: int) -> int:
    """Memory that a process holds, in bytes."""
    kilobytes = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert kilobytes is not None
    return int(kilobytes[1]) * 1024


def make_images(shape: tuple[int, int, int]) -> list[bytes]:
    """PNG files of random waves."""
    import io

    from PIL import Image

    numbers, found = np.random.default_rng(0), []
    for _ in range(NUM_IMAGES):
        channels, height, width = shape
        small = Image.fromarray(numbers.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        picture = small.resize((width, height), Image.Resampling.BICUBIC)
        stream = io.BytesIO()
        (picture.convert("L") if channels == 1 else picture).save(stream, "PNG")
        found.append(stream.getvalue())
    return found


async def measure(
    options: argparse.Namespace, process: int, port: int, images: list[bytes], labels: list[str]
) -> dict[str, Any]:
    """The three parts."""
    load = Load("127.0.0.1", port, images, labels)
    await load.as_fast_as_answered(options.connections, 500)  # everything is warm
    capacities: list[float] = []
    rounds: dict[str, list[dict[str, float]]] = {"equal distances": [], "random times": []}
    for number in range(options.rounds):
        count = 200
        while (seconds := await load.as_fast_as_answered(options.connections, count)) < options.seconds / 4:
            count = round(count * max(2, options.seconds / 3 / seconds))
        capacities.append(count / seconds)
        rate, numbers = options.share * capacities[-1], random.Random(number)
        ways: dict[str, Iterator[float]] = {
            "equal distances": itertools.repeat(1 / rate),
            "random times": (numbers.expovariate(rate) for _ in itertools.count()),
        }
        for way, distances in ways.items():
            busy = load.num_busy
            latencies = await load.at_times(distances, options.seconds)
            p50, p95, p99 = np.percentile(latencies, (50, 95, 99)) * 1000
            found = {
                "num_requests": len(latencies),
                "num_busy": load.num_busy - busy,
                "p50_ms": p50,
                "p95_ms": p95,
                "p99_ms": p99,
            }
            rounds[way].append(found)
            print(
                f"capacity {capacities[-1]:.0f} requests/s; {options.share:.0%} of it at {way}: p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms, "
                f"p99 is {p99 / p50:.2f} x p50; {found['num_busy']} refused",
                flush=True,
            )
    answered, memory = load.num_answered, [(load.num_answered, resident_bytes(process))]
    for _ in range(10 if options.requests else 0):
        await load.as_fast_as_answered(options.connections, options.requests // 10)
        memory.append((load.num_answered, resident_bytes(process)))
        print(f"{load.num_answered - answered:,} requests more: {memory[-1][1] / 2**20:.1f} MiB", flush=True)
    return {
        "capacity_per_second": capacities,
        "rounds": rounds,
        "p99_to_p50": {
            way: float(np.median([each["p99_ms"] / each["p50_ms"] for each in of])) for way, of in rounds.items()
        },
        "answered_and_resident_bytes": memory,
        "num_answered": load.num_answered,
        "num_busy": load.num_busy,
    }


def main() -> None:
    """Measure and print; write the result where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="lenet5()")
    parser.add_argument("--shape", default="1,28,28", help="channels, height and width of the network's input")
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--serve-options", default="", help="further options of visus serve, separated by spaces")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    shape = tuple(int(each) for each in options.shape.split(","))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
    import visus
    from file_to_probability import make_bundle_of

    with tempfile.TemporaryDirectory(prefix="visus-benchmark-") as folder:
        images = make_images(shape)
        files = [Path(folder) / f"{number}.png" for number in range(len(images))]
        for path, content in zip(files, images, strict=True):
            path.write_bytes(content)
        bundle, _ = make_bundle_of(options.network, shape, Path(folder), int8=False)
        answers = visus.open_bundle(bundle, threads=1).predict([str(each) for each in files], progress=False)
        labels = [each.label for each in answers]
        gc.collect()
        gc.freeze()  # or looking through everything that was imported would hold this client up
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})
        with served(bundle, cores[1] if len(cores) > 1 else None, options.serve_options.split()) as (process, port):
            found = asyncio.run(measure(options, process, port, images, labels))
    for way, ratio in found["p99_to_p50"].items():
        print(f"{way}: p99 is {ratio:.2f} x p50 (median of {options.rounds} rounds)")
    versions = {each: importlib.metadata.version(each) for each in ("starlette", "uvicorn", "onnxruntime", "numpy")}
    settings = {name: value for name, value in vars(options).items() if name != "output"}
    table = {"command": command_line(), "settings": settings, **found, "packages": versions, "machine": machine_facts(1)}
    write_result(options.output, table)


if __name__ == "__main__":
    main()
