"""Server processes: SIGTERM under load, slow clients, bombs, several workers. Each starts ``visus serve``."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import levels, replace_bundle

httpx = pytest.importorskip("httpx")
pytestmark = pytest.mark.slow
NPY = {"Content-Type": "application/x-npy"}


class Process:
    """A server process with its address."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process, self.address = process, address

    def predict(self, client: Any, value: int) -> Any:
        return client.post(f"{self.address}/v1/predict", content=levels(value), headers=NPY)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextlib.contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Process]:
    """``visus serve`` in a process of its own."""
    code = "from visus.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    try:
        for line in process.stderr:
            if line.startswith("serving on "):
                break
        else:
            pytest.fail("the server did not start")
        reader.start()
        found = Process(process, line.split()[2])
        wait_until_ready(found.address)
        yield found
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)
        if reader.ident is not None:
            reader.join(30)
        process.stderr.close()


def wait_until_ready(address: str) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail("the server is not ready")


def test_sigterm_under_load_finishes_what_was_accepted(levels_bundle: Path) -> None:
    """A shutdown dropped requests (Triton 6286, 6287, 6230; gunicorn 2529)."""
    with serving(levels_bundle, "--max-wait-ms", "50") as server:
        expected = {
            value: httpx.post(f"{server.address}/v1/predict", content=levels(value), headers=NPY).json()["predictions"][0][
                "label"
            ]
            for value in (20, 120, 220)
        }
        assert len(set(expected.values())) > 1
        answers: list[tuple[int, Any]] = []
        started = threading.Semaphore(0)

        def ask(value: int) -> None:
            with httpx.Client(timeout=60) as client:
                for _ in range(500):
                    try:
                        answer = server.predict(client, value)
                    except httpx.TransportError as error:
                        answers.append((value, error))
                        return
                    answers.append((value, answer))
                    started.release()
                    if answer.status_code != 200:
                        return

        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            asking = [threads.submit(ask, value) for value in (20, 120, 220) * 2]
            for _ in range(12):
                assert started.acquire(timeout=60)
            assert server.end() == 0
            concurrent.futures.wait(asking, timeout=60)
        assert len(answers) > 12
        for value, answer in answers:
            if isinstance(answer, Exception):
                assert isinstance(
                    answer, (httpx.ConnectError, httpx.ReadError, httpx.WriteError)
                ) or "without sending" in str(answer)
            elif answer.status_code == 200:
                assert answer.json()["predictions"][0]["label"] == expected[value]
            else:
                assert answer.status_code == 503
                assert "retry-after" in answer.headers


def test_a_request_in_flight_at_sigterm_is_answered(levels_bundle: Path) -> None:
    with serving(levels_bundle) as server:
        host, port = server.address.removeprefix("http://").split(":")
        body = levels(20)
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-npy\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[:-1])
            time.sleep(0.5)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            connection.sendall(body[-1:])
            connection.settimeout(30)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b'"label"' in answer
        assert server.process.wait(60) == 0


def test_a_killed_server_that_starts_again_loses_no_answer_of_clients_that_retry(levels_bundle: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    answered = threading.Semaphore(0)

    def ask(value: int) -> list[str]:
        found = []
        with httpx.Client(timeout=30) as client:
            while len(found) < 40:
                try:
                    answer = client.post(f"{address}/v1/predict", content=levels(value), headers=NPY)
                    if answer.status_code == 200:
                        found.append(answer.json()["predictions"][0]["label"])
                        answered.release()
                        continue
                except httpx.TransportError:
                    pass
                time.sleep(0.1)
        return found

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        with serving(levels_bundle, "--port", str(port)) as server:
            asking = [threads.submit(ask, value) for value in (20, 220)]
            for _ in range(10):
                assert answered.acquire(timeout=60)
            server.process.kill()
        with serving(levels_bundle, "--port", str(port)):
            found = [each.result(timeout=120) for each in asking]
    assert [len(each) for each in found] == [40, 40]
    assert [len(set(each)) for each in found] == [1, 1]
    assert found[0][0] != found[1][0]


def test_slow_clients_are_cut_and_hold_nobody_up(levels_bundle: Path) -> None:
    """Clients that send headers or bodies byte by byte (slow-loris)."""
    with serving(levels_bundle, "--read-timeout", "1") as server:
        host, port = server.address.removeprefix("http://").split(":")
        heads = [
            b"",
            b"POST /v1/pre",
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
            b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-npy\r\nContent-Length: 1000\r\n\r\n",
        ]
        slow = [socket.create_connection((host, int(port))) for _ in range(40)]
        for number, each in enumerate(slow):
            each.sendall(heads[number % len(heads)])
        with httpx.Client(timeout=30) as client:
            assert [server.predict(client, 20).status_code for _ in range(20)] == [200] * 20
        limit = time.monotonic() + 60
        cut = 0
        for number, each in enumerate(slow):
            each.settimeout(max(0.1, limit - time.monotonic()))
            with contextlib.suppress(OSError):
                if number % len(heads):
                    each.sendall(b"a")  # a further byte is no new deadline
            with contextlib.suppress(ConnectionError):
                while each.recv(65536):
                    pass
            cut += 1
            each.close()
        assert cut == 40
        assert server.end() == 0


def test_more_connections_than_the_limit_hold_nobody_up(levels_bundle: Path) -> None:
    """Open connections ate up the file descriptors, and then none was accepted."""
    with serving(levels_bundle, "--max-connections", "8") as server:
        host, port = server.address.removeprefix("http://").split(":")
        begun = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-npy\r\nContent-Length: 1000\r\n\r\n"
        many = [socket.create_connection((host, int(port))) for _ in range(40)]
        for number, each in enumerate(many):
            with contextlib.suppress(ConnectionError):  # those of the beginning have made room for later ones
                each.sendall(begun if number % 2 else b"POST /v1")
        with httpx.Client(timeout=30) as client:
            assert [server.predict(client, 20).status_code for _ in range(20)] == [200] * 20
        for each in many:
            each.close()
        assert server.end() == 0


def test_unfinished_bodies_and_unread_answers_hold_nobody_up(levels_bundle: Path) -> None:
    with serving(levels_bundle, "--max-connections", "20", "--read-timeout", "2", "--answer-timeout", "2") as server:
        host, port = server.address.removeprefix("http://").split(":")
        unfinished = [socket.create_connection((host, int(port)), timeout=30) for _ in range(20)]
        for each in unfinished:
            each.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                while each.recv(65536):
                    pass  # the answer, and then the end
        unread = []
        for _ in range(20):
            each = socket.socket()
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            each.settimeout(1)
            each.connect((host, int(port)))
            with contextlib.suppress(OSError):
                for _ in range(20):
                    each.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400)
            unread.append(each)
        with httpx.Client(timeout=30) as client:
            answered, limit = 0, time.monotonic() + 20
            while answered < 20 and time.monotonic() < limit:
                with contextlib.suppress(httpx.TransportError):
                    answered += server.predict(client, 20).status_code == 200
            assert answered == 20
        began = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - began < 8
        for each in [*unfinished, *unread]:
            each.close()


def test_a_worker_that_dies_while_the_bundle_on_disk_is_bad_leaves_the_others_at_work(own_bundle: Path) -> None:
    with serving(own_bundle, "--workers", "2") as server, httpx.Client(timeout=30) as client:
        workers: set[str] = set()
        limit = time.monotonic() + 60
        while len(workers) < 2 and time.monotonic() < limit:
            children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
            names = {each: Path(f"/proc/{each}/cmdline").read_bytes() for each in children}
            workers = {each for each, name in names.items() if b"spawn_main" in name}
            time.sleep(0.1)
        time.sleep(5)  # both serve
        graph = own_bundle / "network.onnx"
        good = graph.read_bytes()
        graph.write_bytes(bytes(len(good)))
        os.kill(int(min(workers)), signal.SIGKILL)
        time.sleep(4)
        found = []
        for _ in range(10):
            with contextlib.suppress(httpx.TransportError):
                found.append(server.predict(client, 20).status_code)
        assert found
        assert set(found) == {200}
        assert server.process.poll() is None
        assert server.end() == 0


def test_what_is_not_http_is_a_problem_too(levels_bundle: Path) -> None:
    with serving(levels_bundle) as server:
        host, port = server.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 Bad Request")
        assert b"application/problem+json" in head.lower()
        assert json.loads(body)["detail"] == "This is no valid HTTP/1.1 request."
        assert server.end() == 0


def bomb(side: int) -> bytes:
    """A PNG file of a few kilobytes that holds ``side * side`` pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    row = bytes(1 + side // 8)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def test_decompression_bombs_are_refused_and_hold_nobody_up(levels_bundle: Path) -> None:
    huge = bomb(40_000)
    with (
        serving(levels_bundle) as server,
        httpx.Client(timeout=60) as client,
        concurrent.futures.ThreadPoolExecutor(8) as threads,
    ):
        send = {"content": huge, "headers": {"Content-Type": "image/png"}, "timeout": 60}
        bombs = [threads.submit(httpx.post, f"{server.address}/v1/predict", **send) for _ in range(16)]
        assert [server.predict(client, 20).status_code for _ in range(20)] == [200] * 20
        assert {each.result().status_code for each in bombs} == {413}
        if (status := Path(f"/proc/{server.process.pid}/status")).exists():
            peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            assert int(peak.split()[1]) < 2**20, "one bomb alone would be 1.6 GB"
        assert server.end() == 0


def test_several_workers_share_the_address_and_a_killed_one_is_replaced(own_bundle: Path) -> None:
    """A dead worker was never started anew (uvicorn 517)."""
    with serving(own_bundle, "--workers", "2", "--threads", "1") as server:
        with httpx.Client(timeout=60) as client:
            assert [server.predict(client, 20).status_code for _ in range(10)] == [200] * 10
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        if children.exists():
            workers = [
                int(each)
                for each in children.read_text().split()
                if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()
            ]
            workers = [each for each in workers if b"resource_tracker" not in Path(f"/proc/{each}/cmdline").read_bytes()]
            assert len(workers) == 2
            for each in workers:
                os.kill(each, signal.SIGKILL)
            wait_until_ready(server.address)
        new = replace_bundle(own_bundle, license="MIT")
        limit, seen = time.monotonic() + 60, set[str]()
        while seen != {new} and time.monotonic() < limit:
            found = [httpx.get(f"{server.address}/v1/model", timeout=60) for _ in range(8)]
            seen = {each.json()["sha256"] for each in found}
            time.sleep(0.3)
        assert seen == {new}
        metrics = httpx.get(f"{server.address}/metrics").text
        assert 'visus_requests_total{path="/v1/predict",status="200"} 10.0' in metrics, (
            "the numbers of all workers, and of those that ended"
        )
        assert server.end() == 0


def test_a_bundle_that_cannot_be_opened_ends_the_command_with_its_sentence(own_bundle: Path) -> None:
    (own_bundle / "network.onnx").write_bytes(b"")
    for options in ([], ["--workers", "2"]):
        command = [
            sys.executable,
            "-c",
            "from visus.cli import main; main()",
            "serve",
            str(own_bundle),
            "--port",
            "0",
            *options,
        ]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert answer.returncode == 1
        assert "Export the run again." in answer.stderr
        assert "Traceback" not in answer.stderr
        assert ("a worker of the server could not start. The lines above say why." in answer.stderr) == bool(options)


def test_schemathesis_finds_no_500(levels_bundle: Path, tmp_path: Path) -> None:
    """Requests made from the OpenAPI document, good and bad: no failure of the server, and every answer is as documented."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    with serving(levels_bundle) as server:
        code = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
        options = [
            "--checks",
            checks,
            "--max-examples",
            "60",
            "--seed",
            "1",
            "--no-color",
            "--phases",
            "examples,coverage,fuzzing",
        ]
        command = [sys.executable, "-c", code, "run", f"{server.address}/openapi.json", *options]
        answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
        assert answer.returncode == 0, answer.stdout[-4000:]
        assert "5 passed" in answer.stdout, answer.stdout[-4000:]
        assert server.end() == 0
