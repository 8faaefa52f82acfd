"""The settings of a server: what is refused, and with which words."""

from __future__ import annotations

import html
import logging
from pathlib import Path
from typing import Any

import pytest
from tests.server.conftest import IMAGES, SIGNALS, fake_model, run, served

import visus
from visus.errors import MissingExtraError, UsageError
from visus.server import serving
from visus.server.openapi import PROBLEMS, openapi
from visus.server.settings import ServerSettings, read_token

BAD = [
    ({"max_batch": 0}, "max_batch is 0, and must be at least 1."),
    ({"workers": -1}, "workers is -1, and must be at least 1."),
    ({"read_timeout_s": 0}, "read_timeout_s is 0, and must be more than 0 and less than 86,400 seconds."),
    ({"answer_timeout_s": float("nan")}, "answer_timeout_s is nan, and must be more than 0 and less than 86,400 seconds."),
    ({"read_timeout_s": float("inf")}, "read_timeout_s is inf, and must be more than 0 and less than 86,400 seconds."),
    ({"max_connections": 0}, "max_connections is 0, and must be at least 1."),
    ({"max_wait_ms": -1}, "max_wait_ms is -1, and must be between 0 and the time of an answer."),
    ({"port": 65536}, "port is 65536, and must be between 0 and 65535."),
    (
        {"host": "0.0.0.0"},
        "other machines can reach 0.0.0.0, so a token is needed. Give one with --token-file FILE or in VISUS_TOKEN",
    ),
    ({"host": "example.org"}, "other machines can reach example.org, so a token is needed."),
]


@pytest.mark.parametrize(("given", "message"), BAD)
def test_a_setting_that_cannot_be_used_is_refused(
    given: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUS_TOKEN", raising=False)
    with pytest.raises(UsageError) as caught:
        visus.serve("nowhere", **given)
    assert message in str(caught.value)


def test_a_token_opens_other_addresses() -> None:
    settings = ServerSettings(host="0.0.0.0", token="0123456789abcdef")
    settings.check()
    assert "0123456789abcdef" not in repr(settings), "it does not get into a log"


@pytest.mark.parametrize(
    "content", ["", "short", "0123456789 abcdef", "0123456789abcdef\ntwo lines", "0123456789abcd\u00e9f"]
)
def test_a_token_that_is_easily_guessed_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(content, "utf-8")
    with pytest.raises(UsageError) as caught:
        read_token(tmp_path / "token")
    assert caught.value.message == (
        "a token has at least 16 letters, digits and signs of ASCII, without spaces. Make one with: "
        'python -c "import secrets; print(secrets.token_urlsafe(32))"'
    )


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISUS_TOKEN", "from-the-environment")
    (tmp_path / "token").write_text("from-the-file-here\n", "utf-8")
    assert read_token() == "from-the-environment"
    assert read_token(tmp_path / "token") == "from-the-file-here"
    monkeypatch.delenv("VISUS_TOKEN")
    assert read_token() == ""
    with pytest.raises(
        UsageError, match=r"the token cannot be read \(No such file or directory\). Name a file with one line."
    ):
        read_token(tmp_path / "absent")
    (tmp_path / "token").write_bytes(bytes(5000))
    with pytest.raises(UsageError, match=r"a token has at most 4.00 KiB. Name a file with one line."):
        read_token(tmp_path / "token")


def test_a_taken_port_and_a_foreign_address_are_refused() -> None:
    with serving.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert serving.address_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(
            UsageError, match=rf"port {port} of 127.0.0.1 cannot be used \(.*\). Give another one with --port."
        ):
            serving.listen("127.0.0.1", port)
    with pytest.raises(
        UsageError, match=r"the address no.such.host.invalid cannot be used \(.*\). Give an address of this machine."
    ):
        serving.listen("no.such.host.invalid", 0)


@pytest.mark.parametrize("package", serving.PACKAGES)
def test_a_missing_package_is_one_sentence(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None if name == package else object())
    with pytest.raises(MissingExtraError) as caught:
        serving.refuse_missing_packages()
    assert str(caught.value) == (
        f"predictions over HTTP need the package {package.replace('_', '-')}, which is not installed. Install it with: "
        "pip install 'starlette>=0.46' 'uvicorn>=0.30' 'python-multipart>=0.0.18' 'prometheus-client>=0.20'"
    )


# ---- the documents ----


def test_the_document_lists_every_address_and_status_of_the_application() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            document = (await client.http.get("/openapi.json")).json()
            for path, methods in document["paths"].items():
                for method in methods:
                    answer = await client.http.request(method, path)
                    assert answer.status_code not in (404, 405), path
                    assert str(answer.status_code) in methods[method]["responses"]

    run(work)


def test_the_document_asks_for_a_token_where_one_is_needed() -> None:
    document = openapi(ServerSettings(token="0123456789abcdef"), fake_model())
    secured = {path for path, methods in document["paths"].items() for each in methods.values() if each["security"]}
    assert secured == {"/v1/predict", "/v1/model", "/metrics"}
    assert "401" in document["paths"]["/v1/model"]["get"]["responses"]
    assert "security" not in openapi(ServerSettings(), fake_model())["paths"]["/v1/model"]["get"]


def test_the_page_works_offline() -> None:
    async def work() -> None:
        async with served(fake_model()) as client:
            page = await client.http.get("/docs")
            style = await client.http.get("/docs.css")
        assert page.headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        )
        assert "<script" not in page.text
        assert "style=" not in page.text, "the policy forbids it"
        assert page.text.replace("http://127.0.0.1:8000", "").count("//") == 0, "nothing comes from another host"
        assert "url(" not in style.text
        for status, meaning in PROBLEMS.items():
            assert status == "401" or (f"<code>{status}</code>" in page.text and meaning in page.text)

    run(work)


@pytest.mark.parametrize(
    ("preprocessing", "token", "command"),
    [
        (IMAGES, "", "curl -F file=@image.jpg 'http://[::1]:8405/v1/predict?top=3'"),
        (
            SIGNALS,
            "0123456789abcdef",
            "curl -H 'Authorization: Bearer TOKEN' -F file=@samples.npy 'http://[::1]:8405/v1/predict?top=3'",
        ),
    ],
)
def test_the_command_on_the_page_is_for_this_server(preprocessing: Any, token: str, command: str) -> None:
    async def work() -> None:
        async with served(fake_model(preprocessing=preprocessing), token=token) as client:
            page = (await client.http.get("/docs", headers={"Host": "[::1]:8405"})).text
        assert command in html.unescape(page)

    run(work)


def test_a_text_of_a_client_makes_no_entry_of_its_own_in_the_log() -> None:
    record = logging.LogRecord("visus.server", logging.ERROR, "", 0, "bad file a\n2026-01-01 ERROR forged", None, None)
    assert serving._OneEntry("%(message)s").format(record) == "bad file a\n    2026-01-01 ERROR forged"


def test_the_page_asks_for_a_token_instead_of_a_file_where_one_is_needed() -> None:
    async def work() -> None:
        async with served(fake_model(), token="0123456789abcdef") as client:
            page = (await client.http.get("/docs")).text
        assert "<form" not in page
        assert "Authorization: Bearer TOKEN" in page

    run(work)
