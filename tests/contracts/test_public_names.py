"""The public names are exactly those listed here: growing the interface is a visible act."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PUBLIC = {
    "visus": {
        *(
            "Bundle",
            "CrossValidation",
            "Data",
            "Design",
            "Ensemble",
            "Recipe",
            "Run",
            "Training",
            "VisusError",
            "__version__",
        ),
        *("load", "look", "network", "open_data", "parse", "resume", "slow_down", "speed_up", "summary", "train"),
        *(
            "benchmark",
            "cached_data",
            "check",
            "compare",
            "cross_validate",
            "diff",
            "doctor",
            "ensemble",
            "open_bundle",
            "serve",
            "solve",
            "tune",
            "verify",
        ),
        *("design", "events", "examine", "experiment"),
    },
    "visus.events": {
        *("Progress", "DataOpened", "Pricing", "HeadFitted", "Planned", "FirstLoss", "Prepared", "Started", "StartScored"),
        *(
            "StepDone",
            "EpochDone",
            "CheckpointWritten",
            "StepDivided",
            "Answered",
            "Stopped",
            "Finished",
            "Tracked",
            "Scored",
        ),
        *("Stop", "Finish", "ScaleLearningRate", "SaveWeights", "KeepWeights"),
    },
    "visus.experiment": {"antialias", "mlp", "shuffle", "task"},
    "visus.design": {
        *("FAMILIES", "LAYERS", "Account", "Design", "Node", "Row", "account", "classes", "parse", "resolve_network"),
        *("conv", "depthwise", "transposed", "maxpool", "avgpool", "blurpool", "globalpool", "upsample"),
        *("norm", "layernorm", "groupnorm", "relu", "relu6", "leakyrelu", "elu", "gelu", "silu", "hardswish"),
        *("sigmoid", "hardsigmoid", "tanh", "softmax", "se", "scale", "dropout", "droppath", "flatten", "linear"),
        *("Concat", "Item", "Layer", "Repeat", "Residual", "Sequence", "concat", "repeat", "residual", "sequence"),
        *("alexnet", "compact", "convnext", "densenet", "efficientnet_lite", "inception", "lenet5", "mlp", "mobilenet"),
        *("resnet", "vgg", "whiten"),
    },
    "visus.examine": {
        *("activations", "filters", "output_terms", "templates", "unit_values"),
        *("effective_field", "effective_field_sampled", "measure_derivatives"),
        *("Unit", "grad_cam", "gradient_saliency", "integrated_gradients", "occlusion"),
        *("deletion_and_insertion", "share_outside", "weight_randomization"),
        *("layer_similarity", "match_filters"),
        *("feature_layer", "features", "find_mistakes", "nearest_samples", "suspicious_labels"),
    },
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_exactly_those_listed(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert len(names) == len(set(names)), "a name is listed twice"
    assert set(names) == PUBLIC[module]


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_every_public_name_is_there_and_has_a_docstring(module: str) -> None:
    things = {name: getattr(importlib.import_module(module), name, None) for name in PUBLIC[module]}
    assert [name for name, thing in things.items() if thing is None] == []
    # A dataclass without a docstring is given its signature as one. A plain value, such as `relu`, has that of its class.
    silent = [name for name, thing in things.items() if (thing.__doc__ or f"{name}(").strip().startswith(f"{name}(")]
    assert silent == []


def test_version_is_the_one_of_the_project() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text("utf-8")
    declared = re.search(r'^version = "(.+)"$', text, re.M)
    assert declared is not None
    assert importlib.import_module("visus").__version__ == declared[1]


def test_a_run_can_be_asked_exactly_this() -> None:
    run = importlib.import_module("visus").Run
    names = {name for name in dir(run) if not name.startswith("_")}
    methods = {
        "evaluate",
        "predict",
        "predict_to",
        "mistakes",
        "shifts",
        "look",
        "export",
        "report",
        "compare",
        "open_data",
        "answers",
        "logits",
        "score",
    }
    assert names == methods | {
        *("history", "name", "recipe", "scores", "text", "which"),
        *("calibration", "calibrator", "probabilities"),
    }
