"""The list of what is in a bundle, in the format CycloneDX 1.6 (ECMA-424): the model with its files, and the packages that exported it."""

from __future__ import annotations

import importlib.metadata
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

from visus.ship.manifest import Manifest, metric_field
from visus.units import write_number_of

SBOM: Final = "sbom.json"
_MODEL: Final = "model"
_EXPORTING: Final = (
    *("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf"),
    *("numpy", "pillow", "simplejpeg", "safetensors"),
)


def bill_of_materials(manifest: Manifest, packages: Mapping[str, str]) -> str:
    """The list as JSON; the same manifest and packages give the same text.

    Args:
        manifest: with the files that the list names.
        packages: package -> version, of those that exported the bundle.
    """
    facts = manifest.facts
    size = " x ".join(map(str, manifest.preprocessing.input_shape))
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": _TASKS[manifest.task.name],
        "architectureFamily": "convolutional neural network",
        "inputs": [{"format": f"{manifest.preprocessing.dtype}, {size}"}],
        "outputs": [{"format": describe_outputs(manifest)}],
    }
    metric = metric_field(manifest.task.name)
    metrics = [
        {
            "type": manifest.task.metric,
            "value": str(facts[metric]),
            "slice": "held-out samples",
            **_interval(facts[f"{metric}_low"], facts[f"{metric}_high"]),
        }
        for _ in range(metric in facts)
    ]
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.name,
        **({"licenses": [{"license": {"name": manifest.license}}]} if manifest.license else {}),
        "modelCard": {"modelParameters": parameters, "quantitativeAnalysis": {"performanceMetrics": metrics}},
    }
    files: list[dict[str, Any]] = [
        {
            "type": "file",
            "bom-ref": f"file:{path}",
            "name": path,
            "hashes": [{"alg": "SHA-256", "content": each.sha256}],
        }
        for path, each in sorted(manifest.files.items())
    ]
    libraries: list[dict[str, Any]] = [
        {
            "type": "library",
            "bom-ref": f"package:{name}",
            "name": name,
            "version": version,
            "scope": "excluded",
            "purl": f"pkg:pypi/{name}@{quote(version, safe='.')}",
        }
        for name, version in sorted(packages.items())
    ]
    plain = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, manifest.text())}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "visus", "version": manifest.visus}]},
            "component": model,
        },
        "components": [*files, *libraries],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [each["bom-ref"] for each in files]},
            *({"ref": each["bom-ref"]} for each in (*files, *libraries)),
        ],
    }
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


_TASKS: Final = {"single-label": "classification", "multi-label": "multi-label classification", "regression": "regression"}


def _interval(low: float | None, high: float | None) -> dict[str, Any]:
    """The interval of a metric; nothing where there is none."""
    if low is None or high is None:
        return {}
    return {"confidenceInterval": {"lowerBound": str(low), "upperBound": str(high)}}


def describe_outputs(manifest: Manifest) -> str:
    """What the network returns for a sample."""
    count = len(manifest.classes)
    if manifest.task.output == "numbers":
        return f"{write_number_of(count, 'number')} in the units of the labels"
    return f"probabilities of {count:,} classes"


def installed(names: Iterable[str] = _EXPORTING) -> dict[str, str]:
    """The versions of those packages that are installed.

    >>> sorted(installed(["numpy", "no-such-package"]))
    ['numpy']
    """
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
