"""The model card of a bundle, in the sections of Mitchell et al. 2019 (arXiv:1810.03993), from the facts of its run and its check."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.test_time_augmentation import describe_views
from visus.pages.card import bullets, plain
from visus.ship.bill_of_materials import describe_outputs
from visus.ship.manifest import Manifest
from visus.ship.parity import Check
from visus.training.runs import RunFolder
from visus.units import split_name, write_count, write_number_of, write_split
from visus.workbench.runs.saved import SavedRun, network_name
from visus.workbench.ship.card_tasks import caveat, factor_lines, metric_lines, metric_table, use_sentence

_OWNER: Final = "*To be written by the owner of this model.*"


@dataclass(frozen=True)
class CardTexts:
    """What only the owner of a model knows, as Markdown; empty for a remark that it is to be written.

    Args:
        intended_use: primary uses, users, and uses that are out of scope.
        ethical_considerations: sensitive data, human life, risks and harms, and what was done about them.
    """

    intended_use: str = ""
    ethical_considerations: str = ""


def bundle_card(run: SavedRun, manifest: Manifest, packages: Mapping[str, str], texts: CardTexts = CardTexts()) -> str:
    """The model card as Markdown; the same run and the same packages give the same text.

    Args:
        run: the run.
        manifest: of the bundle, with its checks.
        packages: package -> version, of those that exported the bundle.
        texts: the sections that their owner writes.
    """
    scores, noun = run.scores, run.preprocessing.noun
    data = RunFolder.open(run.folder).read_json("data.json")
    parts = [
        f"# Model card: {plain(manifest.name)}",
        *_section("Model details", bullets(_details(run, manifest, data))),
        *_section(
            "Intended use",
            bullets([use_sentence(manifest, noun)]),
            texts.intended_use.strip() or f"Primary uses, users, and uses that are out of scope: {_OWNER}",
        ),
        *_section("Factors", bullets(factor_lines(scores, noun))),
        *_section("Metrics", bullets(_metrics(run, manifest, scores))),
        *_section("Evaluation data", bullets(_evaluation_data(scores, data, noun))),
        *_section("Training data", bullets(_training_data(run, data, noun))),
        *_section("Quantitative analyses", metric_table(scores, noun)),
        *_section(
            "Ethical considerations",
            texts.ethical_considerations.strip()
            or f"Sensitive data, human life, risks and harms, and what was done about them: {_OWNER}",
            bullets(_inside(manifest, noun)),
        ),
        *_section("Caveats and recommendations", bullets(_caveats(manifest, noun))),
        *_section("How to use this bundle", *_usage(manifest)),
        *_section("Check of the export", bullets(_checked(manifest)), _versions(packages)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, *paragraphs: str) -> list[str]:
    return [f"## {title}", *(each for each in paragraphs if each)]


def _details(run: SavedRun, manifest: Manifest, data: Mapping[str, Any]) -> list[str]:
    shape = " x ".join(map(str, manifest.preprocessing.input_shape))
    num_parameters = sum(each.numel() for each in run.module.parameters())
    trained_with = RunFolder.open(run.folder).read_json("environment.json").get("visus", manifest.visus)
    lines = [
        f"Convolutional network: {network_name(run)}, {write_count(num_parameters)} parameters. Its design is in design.txt.",
        f"Input: {shape} values of {manifest.preprocessing.dtype}. Output: {describe_outputs(manifest)}.",
        f"Trained with visus {trained_with}" + (f" on {day}." if (day := str(data.get("created", ""))[:10]) else "."),
        f"License of the model: {manifest.license or 'none was stated'}.",
    ]
    if (run.folder / "start.json").is_file():
        start = RunFolder.open(run.folder).read_json("start.json")
        lines.insert(1, f"The training started from trained weights: {start.get('source', 'unknown')}.")
    return lines


def _metrics(run: SavedRun, manifest: Manifest, scores: AnyScores) -> list[str]:
    views = describe_views(manifest.tta, run.preprocessing.noun, in_full=True)
    return [*metric_lines(scores, run.calibration.sentence()), *([views] if views else [])]


def _evaluation_data(scores: AnyScores, data: Mapping[str, Any], noun: str) -> list[str]:
    what = f"{write_number_of(scores.num_samples, noun)} of {write_split(scores.split)} of {data['name']}"
    lines = [f"{what}, which the network did not learn from."]
    if scores.split == "val":
        lines.append("This split also selected the weights: expect slightly lower accuracy on new data.")
    return lines


def _training_data(run: SavedRun, data: Mapping[str, Any], noun: str) -> list[str]:
    lines = [f"{data['name']}, fingerprint {str(data['fingerprint'])[:16]}."]
    lines += [f"{split_name(split)}: {write_number_of(int(count), noun)}" for split, count in data["num_samples"].items()]
    ledger = run.folder / "ledger.json"
    changes = json.loads(ledger.read_text("utf-8")) if ledger.is_file() else {}
    lines.append(
        "What was changed in the data is counted in ledger.json." if changes else "Nothing in the data was changed."
    )
    return lines


def _inside(manifest: Manifest, noun: str) -> list[str]:
    golden = sum(path.startswith("golden/") for path in manifest.files)
    num_samples = manifest.checks[0]["num_samples"] if manifest.checks else 0
    return [
        f"For its check, this bundle holds {write_number_of(golden, 'file')} (golden/) and {write_number_of(num_samples, 'held-out ' + noun)} of the "
        "data, at the size of the network (proof/). Whoever gets the bundle gets these. Nothing else of the data is in it."
    ]


def _caveats(manifest: Manifest, noun: str) -> list[str]:
    return [
        caveat(manifest, noun),
        f"The metrics hold for {noun}s like those of the evaluation. They can differ for {noun}s from another source.",
        "A bundle is data: nothing in it runs when it is opened. visus opens its ONNX, OpenVINO and safetensors files, and network.pt2 only if "
        "the engine torch-program is asked for.",
    ]


def _usage(manifest: Manifest) -> list[str]:
    formats = ", ".join(f"{graph.path} ({graph.format})" for graph in manifest.graphs)
    is_of_images = manifest.preprocessing.noun == "image"
    resized = "; images are resized by antialiased bilinear interpolation" if is_of_images else ""
    return [
        "```python\nimport visus\n\nbundle = visus.open_bundle(BUNDLE)\nprint(bundle.predict(FILES))\n```",
        "```sh\nvisus verify BUNDLE\n```",
        "`BUNDLE` is this folder, or the zip file. Both need numpy, Pillow and one engine (onnxruntime or openvino), and no PyTorch. `visus verify` "
        "compares every file with its SHA-256 and every engine with the run.",
        f"The network: {plain(formats)}. From other programs: the input `samples` takes {manifest.preprocessing.dtype} values (samples, "
        f"{', '.join(map(str, manifest.preprocessing.input_shape))}), stored as `bundle.json` says{resized}. The outputs are `logits` and `{manifest.task.output}`. "
        "Test-time augmentation is not in the network.",
    ]


def _checked(manifest: Manifest) -> list[str]:
    checks = [Check(**{**each, "batches": tuple(each["batches"])}) for each in manifest.checks]
    return [each.sentence() for each in checks]


def _versions(packages: Mapping[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in packages.items())
    return f"Exported with {plain(listed)}."
