"""The page at ``/docs``: static, without scripts, and without anything from another host."""

from __future__ import annotations

import html
from typing import Any, Final

from visus import __version__
from visus.server.models import Model
from visus.server.openapi import openapi
from visus.server.settings import ServerSettings

POLICY_OF_PAGE: Final = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
STYLE: Final = """\
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; border-top: 1px solid #8888; padding-top: 1rem; }
h2 b { font-family: ui-monospace, monospace; color: #0a7d77; margin-right: .5rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .92em; }
pre { overflow-x: auto; padding: .8rem; border: 1px solid #8888; border-radius: .3rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8884; }
form { padding: .8rem; border: 1px solid #8888; border-radius: .3rem; }
"""


def page(settings: ServerSettings, model: Model, address: str) -> str:
    """The page as HTML, written from the OpenAPI document.

    Args:
        settings, model: as for ``openapi``.
        address: of the server, as its client names it.
    """
    document = openapi(settings, model)
    parts = [
        f"<h1>visus {html.escape(__version__)}</h1>",
        f"<p>{_text(document['info']['description'])} The OpenAPI document is <a href='openapi.json'>openapi.json</a>.</p>",
    ]
    if settings.token:
        parts.append("<p>Send the header <code>Authorization: Bearer TOKEN</code> with each request.</p>")
    else:
        parts.append(_FORM)
    for path, operations in document["paths"].items():
        curl = _curl(settings, model, address)
        parts += [_operation(path, method, operation, curl) for method, operation in operations.items()]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>visus server</title><link rel='stylesheet' href='docs.css'></head><body>{''.join(parts)}</body></html>\n"
    )


_FORM: Final = (
    "<form action='v1/predict' method='post' enctype='multipart/form-data'>"
    "<label>Try it: <input type='file' name='file' multiple required></label> <button>Predict</button></form>"
)


def _curl(settings: ServerSettings, model: Model, address: str) -> str:
    """A command that predicts one file."""
    token = " -H 'Authorization: Bearer TOKEN'" if settings.token else ""
    file = "image.jpg" if model.preprocessing.is_image_like else "samples.npy"
    top = f"?top={min(3, len(model.classes))}" if model.decision.task == "single-label" else ""
    return f"curl{token} -F file=@{file} '{address}/v1/predict{top}'"


def _operation(path: str, method: str, operation: dict[str, Any], curl: str) -> str:
    parts = [f"<h2><b>{method.upper()}</b><code>{_text(path)}</code></h2><p>{_text(operation['summary'])}</p>"]
    if body := operation.get("requestBody"):
        kinds = ", ".join(f"<code>{_text(kind)}</code>" for kind in body["content"])
        parts.append(f"<p>{_text(body['description'])} Content types: {kinds}.</p>")
        parts.append(f"<pre>{_text(curl)}</pre>")
    if parameters := operation.get("parameters"):
        rows = [(f"<code>{_text(each['name'])}</code>", _text(each["description"])) for each in parameters]
        parts.append(_table(("parameter", "meaning"), rows))
    rows = [(f"<code>{status}</code>", _text(each["description"])) for status, each in operation["responses"].items()]
    parts.append(_table(("status", "meaning"), rows))
    return "".join(parts)


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{first}</td><td>{second}</td></tr>" for first, second in rows)
    return f"<table><tr><th>{heads[0]}</th><th>{heads[1]}</th></tr>{cells}</table>"


def _text(text: str) -> str:
    return html.escape(text)
