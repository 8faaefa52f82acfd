"""What a server answers: predictions, bad requests with their status, and nothing lost or swapped under load."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.server.conftest import IMAGES, as_npy, fake_model, image, npy, number_of, raw_request, run, served, until

from visus.data.images.decode import Limits
from visus.server import app as app_module
from visus.server.app import make_app
from visus.server.problems import Problem, of_all, unavailable

BASE64 = base64.b64encode(npy(5)).decode()


def labels(answer: Any) -> list[str]:
    return [each.get("label", "") for each in answer.json()["predictions"]]


def test_all_ways_to_send_a_sample_give_the_same_prediction() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            raw = await client.predict(npy(5))
            listed = await client.predict(json.dumps([BASE64, BASE64]), "application/json")
            form = await client.http.post("/v1/predict", files=[("file", ("a.npy", npy(5))), ("file", ("b.npy", npy(6)))])
            rows = await client.predict(npy(5, 6, 7))
        assert (labels(raw), labels(listed), labels(form), labels(rows)) == (
            ["c5"],
            ["c5", "c5"],
            ["c5", "c6"],
            ["c5", "c6", "c7"],
        )
        assert [each["name"] for each in form.json()["predictions"]] == ["a.npy[0]", "b.npy[0]"]
        assert raw.json()["model"] == {"name": "fake", "sha256": "0" * 64}
        assert raw.json()["request_id"] == raw.headers["x-request-id"]

    run(work)


def test_an_image_is_read_as_a_prediction_reads_it_and_its_changes_are_listed() -> None:
    async def work() -> None:
        async with served(fake_model(preprocessing=IMAGES)) as client:
            answers = [await client.predict(image(level, (16, 8)), "image/png") for level in (3, 200)]
        assert [labels(each) for each in answers] == [["c3"], ["c200"]]
        assert answers[0].json()["predictions"][0]["changes"] == ["resized"]

    run(work)


def test_top_lists_the_most_probable_classes() -> None:
    async def work() -> None:
        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            return [
                0.7 * one + 0.3 * other
                for one, other in zip(number_of(samples), number_of([sample + 1 for sample in samples]), strict=True)
            ]

        async with served(fake_model(compute)) as client:
            answer = await client.predict(npy(5), address="/v1/predict?top=2")
        first, second = answer.json()["predictions"][0]["top"]
        assert first == {"label": "c5", "probability": 0.7}
        assert second == {"label": "c6", "probability": 0.3}

    run(work)


def test_one_bad_sample_of_several_is_that_samples_answer_only(caplog: pytest.LogCaptureFixture) -> None:
    """A valid request was answered with another's error (sparkinfer 606)."""

    async def work() -> None:
        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            if any(sample.flat[0] == 6 for sample in samples):
                raise ValueError("secret of /etc/engine")
            return number_of(samples)

        async with served(fake_model(compute), max_wait_ms=20) as client:
            body = json.dumps([BASE64, "no base64!", base64.b64encode(npy(6)).decode(), base64.b64encode(npy(8)).decode()])
            mixed, alone = await asyncio.gather(client.predict(body, "application/json"), client.predict(npy(9)))
        found = mixed.json()["predictions"]
        assert mixed.status_code == 200
        assert [each.get("label") for each in found] == ["c5", None, None, "c8"]
        assert [each["error"]["status"] for each in found if "error" in each] == [422, 500]
        assert labels(alone) == ["c9"]
        assert "secret" not in mixed.text

    run(work)
    assert "secret of /etc/engine" in caplog.text, "the log has the cause"


def test_an_output_that_is_not_finite_is_an_error_of_its_sample() -> None:
    async def work() -> None:
        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            return [
                row * (np.nan if sample.flat[0] == 6 else 1) for row, sample in zip(number_of(samples), samples, strict=True)
            ]

        async with served(fake_model(compute)) as client:
            answer = await client.predict(npy(5, 6))
        found = answer.json()["predictions"]
        assert found[0]["label"] == "c5"
        assert (
            found[1]["error"]["detail"]
            == "The network's output for this sample is NaN or infinite. Check the range of its values."
        )

    run(work)


# ---- bad requests ----


def huge_png(side: int) -> bytes:
    """A PNG file that states more pixels than it has bytes for: a decompression bomb."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((side // 8 + 1) * min(side, 4096)), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


def lying_npy() -> bytes:
    """An NPY file whose header states more than a terabyte."""
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (999999999999, 1, 2), }".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


FORM = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.npy"\r\n\r\n' + npy(1) + b"\r\n"
NPY = "application/x-npy"
BAD = {
    "no content type": (
        415,
        b"x",
        {},
        "The content type is missing, and one of these is needed: multipart/form-data, image/*",
    ),
    "another content type": (415, b"x", {"Content-Type": "text/html"}, "The content type is text/html"),
    "an image type without a kind": (415, b"x", {"Content-Type": "image/"}, "The content type is image/"),
    "compressed": (
        415,
        b"x",
        {"Content-Type": NPY, "Content-Encoding": "gzip"},
        "The body is compressed. Send it as it is.",
    ),
    "no body": (
        400,
        b"",
        {"Content-Type": NPY},
        "The body is empty. Send an image, an array, a form with files, or a JSON list.",
    ),
    "no NPY file": (415, b"x", {"Content-Type": NPY}, "and the body is no NPY file. Write it with numpy.save."),
    "a damaged NPY file": (422, b"\x93NUMPY\x09", {"Content-Type": NPY}, "This is no NPY file of version 1 or 2."),
    "a cut NPY file": (
        422,
        npy(1)[:-1],
        {"Content-Type": NPY},
        "The header of this NPY file states another size than the file has.",
    ),
    "an NPY file of a terabyte": (
        422,
        lying_npy(),
        {"Content-Type": NPY},
        "The header of this NPY file states another size than the file has.",
    ),
    "pickled objects": (
        422,
        as_npy(np.array([{}], dtype=object), allow_pickle=True),
        {"Content-Type": NPY},
        "An array of plain numbers in the byte order of this machine is needed.",
    ),
    "an array of another shape": (
        422,
        as_npy(np.zeros((3, 4, 5, 6), "int32")),
        {"Content-Type": NPY},
        "An array of 3 x 4 x 5 x 6 does not fit",
    ),
    "an array of another type": (
        422,
        npy(1, dtype="float64"),
        {"Content-Type": NPY},
        "These values are float64, but this network was trained on int32.",
    ),
    "an empty array": (422, as_npy(np.zeros((0, 1, 2), "int32")), {"Content-Type": NPY}, "The array has no sample."),
    "an image for a network of signals": (
        415,
        image(),
        {"Content-Type": "image/png"},
        "This network reads signals of 1 x 2 as NPY files, and this is none.",
    ),
    "no JSON": (
        400,
        b"[",
        {"Content-Type": "application/json"},
        "The body is not JSON. Send a list of files, each as base64.",
    ),
    "deep JSON": (400, b"[" * 100_000, {"Content-Type": "application/json"}, "The body is not JSON."),
    "JSON of another form": (422, b'{"a": 1}', {"Content-Type": "application/json"}, "The body is no JSON list of texts."),
    "an empty list": (400, b"[]", {"Content-Type": "application/json"}, "The request has no file. Send at least one."),
    "JSON of a thousand texts": (
        413,
        b"[" + b'"",' * 1_000 + b"]",
        {"Content-Type": "application/json"},
        "The request has more than 8 samples.",
    ),
    "JSON of a thousand numbers": (
        413,
        b"[" + b"1," * 1_000 + b"1]",
        {"Content-Type": "application/json"},
        "The request has more than 8 samples.",
    ),
    "no base64": (
        422,
        b'["*"]',
        {"Content-Type": "application/json"},
        "This text is not base64. Encode the bytes of the file, without line breaks and without a prefix.",
    ),
    "a form without a boundary": (400, PART, {"Content-Type": "multipart/form-data"}, "The form cannot be read."),
    "a form that is cut": (400, PART, {"Content-Type": FORM}, "The form cannot be read."),
    "a form without a part": (400, b"--b--\r\n", {"Content-Type": FORM}, "The request has no file. Send at least one."),
    "a field that is no file": (
        422,
        b'--b\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--b--\r\n',
        {"Content-Type": FORM},
        "The field 'top' of the form is no file. Send files only; settings stand in the address.",
    ),
    "too many samples": (
        413,
        npy(*range(9)),
        {"Content-Type": NPY},
        "The request has more than 8 samples. Send fewer in each request.",
    ),
    "too many parts": (413, PART * 9 + b"--b--\r\n", {"Content-Type": FORM}, "The request has more than 8 samples."),
    "too many bytes": (
        413,
        bytes(100_001),
        {"Content-Type": NPY},
        "The body has more than 97.7 KiB. Send smaller or fewer files.",
    ),
    "an unknown setting": (
        422,
        npy(1),
        {"Content-Type": NPY, "?": "topp=3"},
        "Unknown setting 'topp'. Did you mean 'top'? Known: explain, top.",
    ),
    "a setting twice": (422, npy(1), {"Content-Type": NPY, "?": "top=1&top=2"}, "A setting is given twice. Give it once."),
    "too large a top": (
        422,
        npy(1),
        {"Content-Type": NPY, "?": "top=1001"},
        "top is '1001', and must be a whole number from 1 to 1000.",
    ),
    "another top": (422, npy(1), {"Content-Type": NPY, "?": "top=%C2%B2"}, "must be a whole number from 1 to 1000."),
    "a map without PyTorch": (
        501,
        npy(1),
        {"Content-Type": NPY, "?": "explain=grad-cam"},
        "This server has no saliency maps: they need a network of images, PyTorch, and, for a bundle, its design.",
    ),
    "another host": (
        421,
        npy(1),
        {"Content-Type": NPY, "Host": "evil.example"},
        "The Host header names none of this server.",
    ),
    "another origin": (
        403,
        npy(1),
        {"Content-Type": NPY, "Origin": "https://evil.example"},
        "The request comes from a page of another site",
    ),
    "no origin": (403, npy(1), {"Content-Type": NPY, "Origin": "null"}, "The request comes from a page of another site"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_has_its_status_and_its_remedy(name: str) -> None:
    status, body, headers, detail = BAD[name]
    query = headers.get("?", "")

    async def work() -> None:
        async with served(fake_model(), max_files=8, max_bytes=100_000) as client:
            given = {key: value for key, value in headers.items() if key != "?"}
            answer = await client.http.post(f"/v1/predict?{query}", content=body, headers=given)
            after = await client.predict(npy(5))
        found = answer.json()
        assert (answer.status_code, found["status"]) == (status, status)
        assert detail in found["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
        assert set(found) == {"type", "status", "title", "detail", "request_id"}
        assert found["request_id"] == answer.headers["x-request-id"]
        assert labels(after) == ["c5"], "the next request is answered"

    run(work)


IMAGE_PROBLEMS = {
    "a decompression bomb": (413, huge_png(60_000), "The image is too large: it states 60,000 x 60,000"),
    "too many pixels": (
        413,
        image(size=(200, 200)),
        "The image is too large: it states 200 x 200 = 40,000 pixels (height x width), and at most 10,000",
    ),
    "no image": (415, b"hello", "The file holds"),
    "a cut image": (415, image(size=(64, 64), kind="BMP")[:-100], ""),
    "an image of no known kind": (415, b"\x00\x00\x00\x18ftypavif" + bytes(40), ""),
}


@pytest.mark.parametrize("name", IMAGE_PROBLEMS)
def test_a_bad_image_has_its_status(name: str) -> None:
    status, body, detail = IMAGE_PROBLEMS[name]

    async def work() -> None:
        async with served(fake_model(preprocessing=IMAGES), max_pixels=10_000) as client:
            answer = await client.predict(body, "image/png")
        assert answer.status_code == status
        assert detail in answer.json()["detail"]

    run(work)


def test_no_answer_has_a_path_of_the_server(tmp_path: Path) -> None:
    async def work() -> None:
        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            raise OSError(2, "No such file", str(tmp_path))

        async with served(fake_model(compute)) as client:
            answers = [await client.predict(npy(1)), await client.http.get("/nothing"), await client.http.get("/v1/model")]
        assert answers[0].status_code == 500
        assert (
            answers[0].json()["detail"] == "The server failed on this request. Its log has the cause, under this request id."
        )
        assert not any(str(tmp_path) in each.text or ".py" in each.text for each in answers)

    run(work)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nothing", 404), ("GET", "/v1/predict", 405), ("DELETE", "/v1/model", 405), ("GET", "/docs/", 404)],
)
def test_another_address_or_method_is_a_problem_too(method: str, path: str, status: int) -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            answer = await client.http.request(method, path)
        assert (answer.status_code, answer.json()["status"]) == (status, status)
        assert ("allow" in answer.headers) == (status == 405)

    run(work)


def test_a_bug_is_a_500_with_a_request_id_and_its_cause_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        def fail(*_: Any) -> Any:
            raise ZeroDivisionError("planted")

        monkeypatch.setattr(app_module, "read_sources", fail)
        async with served(fake_model()) as client:
            answer = await client.predict(npy(1), **{"X-Request-ID": "mine-7"})
        assert answer.status_code == 500
        assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine-7"
        assert "planted" not in answer.text

    run(work)
    assert "planted" in caplog.text
    assert "mine-7" in caplog.text


def test_the_log_names_the_request_of_a_sample_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    def fail(samples: Sequence[Any]) -> Sequence[Any]:
        raise ZeroDivisionError("planted")

    async def work() -> None:
        async with served(fake_model(fail)) as client:
            answer = await client.predict(npy(1), **{"X-Request-ID": "mine-8"})
        assert (answer.status_code, answer.json()["request_id"]) == (500, "mine-8")

    run(work)
    assert "request mine-8: a sample failed" in caplog.text


def test_an_answer_before_the_end_of_a_body_closes_the_connection() -> None:
    """A client that never ended its body held the connection for ever."""

    async def work() -> None:
        async with served(fake_model()) as client:
            unread = await client.http.request("GET", "/healthz", content=b"123")
            read = await client.predict(npy(1))
            plain = await client.http.get("/healthz")
            client.service.is_draining = True
            draining = await client.http.get("/healthz")
        assert [each.headers.get("connection") for each in (unread, read, plain, draining)] == ["close", None, None, "close"]

    run(work)


def test_a_request_of_many_samples_leaves_a_reader_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request with 64 large images kept all others waiting for a minute."""
    may_go, read = threading.Event(), app_module.read_sample

    def slow(source: Any, *rest: Any) -> Any:
        if not source.name.startswith("array"):
            assert may_go.wait(30)
        return read(source, *rest)

    monkeypatch.setattr(app_module, "read_sample", slow)
    monkeypatch.setattr(app_module, "usable_cores", lambda: 2)
    monkeypatch.setattr(app_module, "_SMALL", Limits(max_bytes=0, max_pixels=0))

    async def work() -> None:
        async with served(fake_model()) as client:
            files = [("file", (f"{number}.npy", npy(number))) for number in range(20)]
            many = asyncio.create_task(client.http.post("/v1/predict", files=files))
            await until(lambda: client.service.batcher._reserved == 20)
            assert labels(await client.predict(npy(7))) == ["c7"]
            may_go.set()
            assert labels(await many) == [f"c{number}" for number in range(20)]

    run(work)


def test_the_images_of_a_request_have_a_limit_together() -> None:
    async def work() -> None:
        async with served(fake_model(preprocessing=IMAGES), max_pixels=100) as client:
            files = [("file", (f"{number}.png", image(size=(10, 10)))) for number in range(5)]
            few = await client.http.post("/v1/predict", files=files[:4])
            many = await client.http.post("/v1/predict", files=files)
        assert few.status_code == 200
        assert (many.status_code, many.json()["detail"]) == (
            413,
            "The images of this request have more than 400 pixels together. Send fewer in each request.",
        )

    run(work)


def test_of_several_problems_the_one_for_which_another_try_helps_is_the_answer() -> None:
    found = of_all([Problem(415, "a"), unavailable("b"), Problem(422, "c")])
    assert (found.status, [each["status"] for each in found.fields["errors"]]) == (503, [415, 503, 422])


def test_a_request_id_that_could_forge_a_log_is_replaced() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            answer = await client.http.get("/healthz", headers={"X-Request-ID": "a b" * 30})
        assert len(answer.headers["x-request-id"]) == 32

    run(work)


# ---- load ----


@pytest.mark.long
def test_of_a_thousand_requests_each_gets_its_own_answer_or_a_429() -> None:
    async def work() -> None:
        async with served(fake_model(), queue=64, max_batch=16) as client:
            answers = await asyncio.gather(*(client.predict(npy(number)) for number in range(1000)))
            assert client.service.batcher.num_queued == 0
            again = await client.predict(npy(3))
        statuses = [each.status_code for each in answers]
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) >= 64
        for number, answer in enumerate(answers):
            if answer.status_code == 200:
                assert labels(answer) == [f"c{number}"]
            else:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["detail"].startswith("The queue is full. Send this request again in ")
        assert labels(again) == ["c3"]

    run(work)


def test_a_full_queue_is_429_and_a_client_that_retries_gets_its_answer() -> None:
    async def work() -> None:
        may_go = threading.Event()

        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            assert may_go.wait(30)
            return number_of(samples)

        async with served(fake_model(compute), queue=2, max_batch=1, read_timeout_s=2) as client:
            waiting = [asyncio.create_task(client.predict(npy(1)))]
            await until(lambda: client.service.batcher._busy_since is not None)
            waiting += [asyncio.create_task(client.predict(npy(number))) for number in (2, 3)]
            await until(lambda: client.service.batcher.num_queued == 2)
            refused = await client.predict(npy(4))
            assert refused.status_code == 429
            status, _ = await raw_request(make_app(client.service), [], [("content-type", NPY)])
            assert status == 429, "the body is not awaited"
            may_go.set()
            assert [labels(each) for each in await asyncio.gather(*waiting)] == [["c1"], ["c2"], ["c3"]]
            assert labels(await client.predict(npy(4))) == ["c4"]

    run(work)


def test_a_client_that_goes_away_takes_its_samples_along() -> None:
    """After timeouts of clients, later requests failed (Ray 41057)."""

    async def work() -> None:
        may_go = threading.Event()
        computed: list[int] = []

        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            assert may_go.wait(30)
            computed.extend(int(sample.flat[0]) for sample in samples)
            return number_of(samples)

        async with served(fake_model(compute), max_batch=1) as client:
            first = asyncio.create_task(client.predict(npy(1)))
            await until(lambda: client.service.batcher._busy_since is not None)
            leaves = asyncio.Event()

            async def leave() -> Any:
                await leaves.wait()
                return {"type": "http.disconnect"}

            messages = [{"type": "http.request", "body": npy(2), "more_body": False}, leave()]
            gone = asyncio.create_task(raw_request(make_app(client.service), messages, [("content-type", NPY)]))
            await until(lambda: client.service.batcher.num_queued == 1)
            leaves.set()
            assert (await gone)[0] == 499
            assert client.service.batcher.num_queued == 0
            may_go.set()
            assert labels(await first) == ["c1"]
            assert labels(await client.predict(npy(3))) == ["c3"]
        assert computed == [1, 3]

    run(work)


def test_an_answer_that_takes_too_long_is_503_and_leaves_the_queue() -> None:
    async def work() -> None:
        may_go = threading.Event()

        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            assert may_go.wait(30)
            return number_of(samples)

        async with served(fake_model(compute), answer_timeout_s=0.1, max_wait_ms=0) as client:
            late = await client.predict(npy(1))
            assert late.status_code == 503
            assert (
                late.json()["detail"]
                == "The answer was not ready in 0.1 s. Send fewer or smaller samples, or send this again later."
            )
            assert "retry-after" in late.headers
            await until(lambda: client.service.batcher.trouble != "")
            sick = await client.http.get("/readyz")
            assert sick.status_code == 503
            assert sick.json()["detail"].startswith("The server cannot answer: the engine has not answered for ")
            assert (await client.predict(npy(2))).status_code == 503
            assert (await client.http.get("/healthz")).status_code == 200
            may_go.set()
            await until(lambda: client.service.batcher.trouble == "")
            assert (await client.http.get("/readyz")).json() == {"status": "ready"}

    run(work)


def test_a_dead_batcher_makes_the_server_unready() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            task = client.service.batcher._task
            assert task is not None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            sick = await client.http.get("/readyz")
            assert (sick.status_code, sick.json()["detail"]) == (503, "The server cannot answer: the batcher has stopped.")
            assert (await client.predict(npy(1))).status_code == 503

    run(work)


@pytest.mark.filterwarnings("ignore:coroutine .*drip. was never awaited")
def test_a_body_that_comes_too_slowly_is_408() -> None:
    """A client that sends byte by byte held a worker (multi-model-server 738, 771, 891)."""

    async def work() -> None:
        async with served(fake_model(), read_timeout_s=0.05) as client:

            async def drip() -> Any:
                await asyncio.sleep(0.02)
                return {"type": "http.request", "body": b"\x93", "more_body": True}

            slow = raw_request(make_app(client.service), [drip() for _ in range(200)], [("content-type", NPY)])
            drips, fast = await asyncio.gather(slow, client.predict(npy(5)))
        assert (drips[0], drips[1]["detail"]) == (408, "The body has not arrived in 0.05 s. Send it again.")
        assert labels(fast) == ["c5"]

    run(work)


def test_a_body_without_a_stated_length_is_counted() -> None:
    """The limit of a body was silent or absent (TorchServe 1806, Starlette 890, LitServe)."""

    async def work() -> None:
        async with served(fake_model(), max_bytes=1000) as client:
            messages = [{"type": "http.request", "body": bytes(400), "more_body": True} for _ in range(5)]
            messages.append({"type": "http.request", "body": b"", "more_body": False})
            status, found = await raw_request(make_app(client.service), messages, [("content-type", NPY)])
            assert (status, found["status"]) == (413, 413)
            lied = await raw_request(make_app(client.service), messages, [("content-type", NPY), ("content-length", "-1")])
            assert (lied[0], lied[1]["detail"]) == (400, "The header Content-Length is no number of bytes.")

    run(work)


def test_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        monkeypatch.setattr(app_module, "MAX_HELD_BYTES", 500)
        async with served(fake_model()) as client:
            assert labels(await client.predict(npy(1))) == ["c1"]
            assert client.service._held_bytes == 0, "an answered request holds nothing"
            client.service._held_bytes = 400
            assert (await client.predict(npy(*range(20)))).status_code == 429
            assert client.service._held_bytes == 400, "what was counted is counted back"

    run(work)


def test_a_draining_server_finishes_what_it_accepted_and_refuses_the_rest() -> None:
    """A shutdown answered 400 unknown model (Triton 6939), or dropped requests (Triton 6286, 6287)."""

    async def work() -> None:
        may_go = threading.Event()

        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            assert may_go.wait(30)
            return number_of(samples)

        async with served(fake_model(compute)) as client:
            accepted = [asyncio.create_task(client.predict(npy(number))) for number in (1, 2, 3)]
            await until(lambda: client.service.batcher._busy_since is not None)
            client.service.is_draining = True
            refused = await client.predict(npy(4))
            assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
            assert refused.json()["detail"] == "The server is shutting down. Send this request again, to the next one."
            assert (await client.http.get("/readyz")).status_code == 503
            may_go.set()
            assert [labels(each) for each in await asyncio.gather(*accepted)] == [["c1"], ["c2"], ["c3"]]

    run(work)


# ---- who may ask ----

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
        ({"Authorization": "Bearer x"}, 401),
        ({"Authorization": f"Basic {TOKEN}"}, 401),
    ],
)
def test_a_token_is_needed_where_there_is_one(header: dict[str, str], status: int) -> None:
    async def work() -> None:
        async with served(fake_model(), token=TOKEN) as client:
            answer = await client.predict(npy(5), **header)
            assert answer.status_code == status
            for path in ("/v1/model", "/metrics"):
                assert (await client.http.get(path, headers=header)).status_code == status
            for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/docs.css"):
                assert (await client.http.get(path)).status_code == 200
        if status == 401:
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["detail"] == "A token is needed. Send the header Authorization: Bearer TOKEN."

    run(work)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:8000", 200), ("localhost", 200), ("[::1]:9", 200), ("192.0.2.7", 200), ("visus.example:80", 200)),
        *(("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost:80@evil.example", 421), ("", 400)),
    ],
)
def test_a_name_that_is_not_the_servers_is_refused(host: str, status: int) -> None:
    """A page whose name leads to 127.0.0.1 (DNS rebinding) gets nothing."""

    async def work() -> None:
        async with served(fake_model(), allow_hosts=("visus.example",)) as client:
            answer = await client.http.get("/v1/model", headers={"Host": host})
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["detail"] == "The request needs exactly one Host header."

    run(work)


def test_the_servers_own_page_may_ask() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            answer = await client.predict(npy(5), Origin="http://127.0.0.1:8000")
            assert answer.status_code == 200

    run(work)


# ---- the rest ----


def test_the_model_is_described_without_paths() -> None:
    async def work() -> None:
        async with served(fake_model(facts={"license": "MIT"}), max_files=5, queue=3) as client:
            found = (await client.http.get("/v1/model")).json()
        assert found["input"] == {
            "kind": "signal",
            "shape": [1, 2],
            "dtype": "int32",
            "takes_image_files": False,
            "resize_mode": "squash",
        }
        assert (found["classes"][:2], found["license"], found["limits"]["max_files"]) == (["c0", "c1"], "MIT", 3)

    run(work)


def test_metrics_count_requests_samples_and_batches() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            await client.predict(npy(1, 2, 3))
            await client.predict(b"x")
            await client.http.get("/some/address/of/nobody")
            found = (await client.http.get("/metrics")).text
        for line in (
            'visus_requests_total{path="/v1/predict",status="200"} 1.0',
            'visus_requests_total{path="/v1/predict",status="415"} 1.0',
            'visus_requests_total{path="other",status="404"} 1.0',
            'visus_samples_total{outcome="answered"} 3.0',
            "visus_batch_samples_sum 3.0",
            "visus_queued_samples 0.0",
        ):
            assert line in found

    run(work)


def test_every_answer_has_the_headers_of_a_careful_server() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            for path in ("/healthz", "/docs", "/docs.css", "/openapi.json", "/nothing"):
                headers = (await client.http.get(path)).headers
                assert headers["content-security-policy"].startswith("default-src 'none'")
                assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")

    run(work)


def test_a_warning_is_logged_for_a_batch_that_is_retried(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        def compute(samples: Sequence[Any]) -> Sequence[Any]:
            if len(samples) > 1:
                raise RuntimeError("not enough memory")
            return number_of(samples)

        async with served(fake_model(compute), max_wait_ms=20) as client:
            assert labels(await client.predict(npy(1, 2))) == ["c1", "c2"]

    with caplog.at_level(logging.WARNING, logger="visus.server"):
        run(work)
    assert "a batch of 2 samples failed (RuntimeError); its samples are computed one by one" in caplog.text
