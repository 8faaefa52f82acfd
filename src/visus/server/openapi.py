"""The OpenAPI document of the server, written by hand."""

from __future__ import annotations

from typing import Any, Final

from visus import __version__
from visus.server.guard import OPEN
from visus.server.models import Model
from visus.server.problems import PROBLEM_TYPE
from visus.server.settings import ServerSettings
from visus.units import write_bytes

PROBLEMS: Final = {
    "400": "The request or its body cannot be read.",
    "401": "A token is needed.",
    "403": "The request comes from a page of another site.",
    "408": "The body has not arrived in time.",
    "413": "Too many bytes, pixels or samples.",
    "415": "The content is none that the network reads.",
    "421": "The Host header names another server.",
    "422": "A setting or an array cannot be used.",
    "429": "The queue is full; Retry-After has the seconds to wait.",
    "500": "The server failed.",
    "501": "explain was asked for, and this network has no saliency maps here.",
    "503": "The server shuts down or does not answer; Retry-After has the seconds to wait.",
}
_OF_EVERY: Final = ("400", "403", "421", "500")
_TEXT: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer"}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = (), *, is_open: bool = False) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": is_open}


def _listed(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answered(task: str) -> dict[str, Any]:
    """The fields of a prediction that depend on the task."""
    share = {"type": "number", "minimum": 0, "maximum": 1}
    scored = _object({"label": _TEXT, "probability": share})
    if task == "multi-label":
        return {
            "labels": {**_listed(scored), "description": "The classes that reach their threshold, the most probable first."}
        }
    if task == "regression":
        end = {"type": ["number", "null"]}
        found = _object({"target": _TEXT, "value": {"type": "number"}, "low": end, "high": end})
        return {"numbers": {**_listed(found), "description": "Each number with the ends of its 90 % prediction interval."}}
    return {
        "label": {"type": "string", "description": "The most probable class."},
        "probability": {**share, "description": "Its calibrated probability."},
        "top": {**_listed(scored), "description": "The most probable classes."},
    }


def _described(task: str) -> dict[str, Any]:
    """The fields of the network that depend on the task."""
    numbers = _listed({"type": "number"})
    if task == "regression":
        return {"targets": _listed(_TEXT), "half_widths": numbers}
    return {"classes": _listed(_TEXT), **({"thresholds": numbers} if task == "multi-label" else {})}


def _schemas(task: str) -> dict[str, Any]:
    failed = {"status": _INTEGER, "title": _TEXT, "detail": _TEXT}
    of_task = _answered(task)
    answered = {
        "name": {"type": "string", "description": "File name of the client, or place in the request."},
        **of_task,
        "changes": {**_listed(_TEXT), "description": "What was done to the sample, such as resizing."},
        "saliency_png": {"type": "string", "description": "With explain: the saliency map, a PNG file as base64."},
        "error": {
            **_object(failed, is_open=True),
            "description": "Instead of all others: why this sample has no prediction.",
        },
    }
    given = _object(
        {
            "kind": _TEXT,
            "shape": _listed(_INTEGER),
            "dtype": _TEXT,
            "takes_image_files": {"type": "boolean"},
            "resize_mode": _TEXT,
        }
    )
    limits = _object({"max_bytes": _INTEGER, "max_pixels": _INTEGER, "max_files": _INTEGER})
    optional = (*of_task, "changes", "saliency_png", "error")
    served = _object({"name": _TEXT, "sha256": {"type": "string", "description": "Identity of the bundle."}})
    return {
        "Problem": _object({"type": _TEXT, **failed, "request_id": _TEXT}, is_open=True),
        "Prediction": _object(answered, optional),
        "Predictions": _object({"predictions": _listed(_reference("Prediction")), "model": served, "request_id": _TEXT}),
        "Model": _object(
            {"name": _TEXT, "sha256": _TEXT, "task": _TEXT, **_described(task), "input": given, "limits": limits},
            is_open=True,
        ),
        "Status": _object({"status": _TEXT}),
    }


def openapi(settings: ServerSettings, model: Model) -> dict[str, Any]:
    """The document of a server.

    Args:
        settings: limits and token.
        model: the network.
    """
    limits = f"{write_bytes(settings.max_bytes)}, {settings.max_pixels:,} pixels an image, {settings.num_files:,} samples"
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "visus",
            "version": __version__,
            "description": f"Predictions of one network. A request has at most {limits}.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/predict": {"post": _predict(settings, model)},
            "/v1/model": {"get": _get("The network: task, classes or targets, input, identity.", _json("Model"))},
            "/healthz": {"get": _get("Whether the process answers.", _json("Status"))},
            "/readyz": {"get": _get("Whether predictions are answered.", _json("Status"), ("503",))},
            "/metrics": {"get": _get("Metrics in the format of Prometheus.", {"text/plain": {"schema": _TEXT}})},
            "/openapi.json": {"get": _get("This document.", {"application/json": {"schema": {"type": "object"}}})},
        },
        "components": {"schemas": _schemas(model.decision.task)},
    }
    if settings.token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in found["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in OPEN else [{"token": []}]
                if path not in OPEN:
                    operation["responses"] |= _problems(("401",))
    return found


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": _reference(name)}}


def _problems(statuses: tuple[str, ...]) -> dict[str, Any]:
    content = {PROBLEM_TYPE: {"schema": _reference("Problem")}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def _get(summary: str, content: dict[str, Any], problems: tuple[str, ...] = ()) -> dict[str, Any]:
    answers = {"200": {"description": summary, "content": content}, **_problems((*_OF_EVERY, *problems))}
    return {"summary": summary, "responses": answers}


_SUMMARIES: Final = {
    "single-label": "Labels with calibrated probabilities for images or arrays.",
    "multi-label": "Sets of labels with calibrated probabilities for images or arrays.",
    "regression": "Numbers with prediction intervals for images or arrays.",
}


def _predict(settings: ServerSettings, model: Model) -> dict[str, Any]:
    methods, task = sorted(model.explainers), model.decision.task
    binary = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": settings.num_files}
    form = _object({"file": files})
    base64 = {
        "type": "array",
        "items": {"type": "string", "contentEncoding": "base64"},
        "minItems": 1,
        "maxItems": settings.num_files,
    }
    top = {
        "name": "top",
        "in": "query",
        "description": "Number of classes of each prediction, the most probable first.",
        "schema": {"type": "integer", "minimum": 1, "maximum": len(model.classes), "default": 1},
    }
    parameters: list[dict[str, Any]] = [top] if task == "single-label" else []
    if methods:
        explain = {"type": "string", "enum": list(methods)}
        text = "Saliency method; the answer for one sample has its map as a PNG file."
        parameters.append({"name": "explain", "in": "query", "description": text, "schema": explain})
    answers = {
        "200": {
            "description": "A prediction for each sample, in the order of the request. If only some samples fail, those have an error instead.",
            "content": _json("Predictions"),
        },
        **_problems(tuple(status for status in PROBLEMS if status != "401" and (status != "501" or not methods))),
    }
    return {
        "summary": _SUMMARIES[task],
        "parameters": parameters,
        "requestBody": {
            "required": True,
            "description": "Files of a form; one image; one NPY file with a sample or a batch; or a JSON list of files as base64.",
            "content": {
                "multipart/form-data": {"schema": form},
                "image/*": binary,
                "application/x-npy": binary,
                "application/json": {"schema": base64},
            },
        },
        "responses": answers,
    }
