"""The documents of a bundle: its model card and the list of what is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import visus
from visus.ship.bill_of_materials import bill_of_materials, installed
from visus.ship.files import BundleFiles
from visus.workbench.ship.card import CardTexts, bundle_card

SECTIONS = [  # Mitchell et al. 2019, figure 1, then what a bundle needs
    *("Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses"),
    *("Ethical considerations", "Caveats and recommendations", "How to use this bundle", "Check of the export"),
]


@pytest.fixture
def card(bundle: Path) -> str:
    """The model card."""
    return BundleFiles(bundle).read("README.md").decode()


def test_a_model_card_has_the_sections_of_the_field(card: str) -> None:
    assert re.findall(r"^## (.+)$", card, re.M) == SECTIONS
    assert card.count("To be written by the owner of this model.") == 2


def test_the_sections_that_only_the_owner_can_write_are_given_to_the_export(run: Path, bundle: Path) -> None:
    texts = CardTexts("Sorting of shoes.\n", "No people are in the photos.")
    card = bundle_card(visus.load(run), BundleFiles(bundle).manifest, {}, texts)
    assert "To be written" not in card
    assert re.search(r"## Intended use\n\n- It predicts .+\n\nSorting of shoes.\n\n## Factors", card)
    assert "## Ethical considerations\n\nNo people are in the photos.\n\n" in card


def test_a_model_card_states_the_facts_of_its_run(card: str, run: Path) -> None:
    trained = visus.load(run)
    facts = json.loads((run / "data.json").read_text("utf-8"))
    assert f"Accuracy: 100.0 % (95 % confidence interval {trained.scores.accuracy_low * 100:.1f} % to 100.0 %)." in card
    assert f"12 images of the test split of {facts['name']}, which the network did not learn from." in card
    assert f"on {facts['created'][:10]}." in card
    assert "| dark | 6 | 100.0 % | 100.0 % | 100.0 % |" in card
    for split, count in (("training", 43), ("validation", 5), ("test", 12)):
        assert f"{split}: {count} images" in card


def test_a_model_card_says_what_of_the_data_is_inside_and_how_it_was_checked(card: str, bundle: Path) -> None:
    files = BundleFiles(bundle)
    assert "this bundle holds 20 files (golden/) and 12 held-out images" in card
    assert "visus verify BUNDLE" in card
    assert "stored as `bundle.json` says; images are resized by antialiased bilinear interpolation. The outputs are" in card
    for check in files.manifest.checks:
        assert f"{check['engine']} {check['version']}" in card
    for name, version in installed(["pillow", "simplejpeg", "onnxruntime", "torch"]).items():
        assert f"{name} {version}" in card


def test_the_commands_of_a_model_card_run(card: str, bundle: Path, photos: Path) -> None:
    (code,) = re.findall(r"```python\n(.+?)```", card, re.S)
    exec(code, {"BUNDLE": bundle, "FILES": photos / "dark" / "00.png"})


def test_the_bill_of_materials_is_valid_cyclonedx(bundle: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    text = BundleFiles(bundle).read("sbom.json").decode()
    checker = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert checker.validate_str(text) is None
    assert checker.validate_str(text.replace('"machine-learning-model"', '"model"')) is not None


def test_the_bill_of_materials_lists_every_file_with_its_hash(bundle: Path) -> None:
    manifest = BundleFiles(bundle).manifest
    bill = json.loads(BundleFiles(bundle).read("sbom.json"))
    files = {each["name"]: each["hashes"] for each in bill["components"] if each["type"] == "file"}
    assert files == {
        path: [{"alg": "SHA-256", "content": facts.sha256}] for path, facts in manifest.files.items() if path != "sbom.json"
    }
    libraries = {each["name"]: each["version"] for each in bill["components"] if each["type"] == "library"}
    assert libraries == installed()
    assert {"torch", "onnx", "numpy"} <= set(libraries)
    metadata = bill["metadata"]
    assert (metadata["component"]["type"], metadata["component"]["name"]) == ("machine-learning-model", manifest.name)
    assert metadata["tools"]["components"][0]["version"] == visus.__version__
    assert "timestamp" not in metadata


def test_the_same_facts_give_the_same_bill_and_a_license_is_in_it(bundle: Path) -> None:
    import dataclasses

    manifest = dataclasses.replace(BundleFiles(bundle).manifest, license="Apache-2.0")
    first = bill_of_materials(manifest, {"torch": "2.11.0+cpu"})
    assert first == bill_of_materials(manifest, {"torch": "2.11.0+cpu"})
    assert first != bill_of_materials(manifest, {"torch": "2.12.0"})
    plain = json.loads(first)
    assert plain["metadata"]["component"]["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert plain["components"][-1]["purl"] == "pkg:pypi/torch@2.11.0%2Bcpu"


def test_the_ledger_goes_with_the_bundle(bundle: Path, run: Path) -> None:
    files = BundleFiles(bundle)
    for name in ("ledger.csv", "ledger.json", "design.txt"):
        assert files.read(name) == (run / name).read_bytes()
