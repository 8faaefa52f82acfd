"""Looking inside a trained network, its images and pages.

Functions take a module and arrays and give frozen values with arrays; drawing is separate. Each name is loaded when it is first used, so
``import visus.examine`` does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Unit": "visus.examine.saliency_types",
    "activations": "visus.examine.activation_maps",
    "deletion_and_insertion": "visus.examine.saliency_checks",
    "effective_field": "visus.examine.effective",
    "effective_field_sampled": "visus.examine.effective",
    "feature_layer": "visus.examine.mistakes",
    "features": "visus.examine.mistakes",
    "filters": "visus.examine.layer_kernels",
    "find_mistakes": "visus.examine.mistakes",
    "grad_cam": "visus.examine.saliency",
    "gradient_saliency": "visus.examine.saliency",
    "integrated_gradients": "visus.examine.saliency",
    "layer_likeness": "visus.examine.similarity",
    "match_filters": "visus.examine.similarity",
    "measured_rates": "visus.examine.effective",
    "nearest_samples": "visus.examine.mistakes",
    "occlusion": "visus.examine.saliency",
    "outside_share": "visus.examine.saliency_types",
    "pixel_sum": "visus.examine.pixel_sums",
    "randomised_weights": "visus.examine.saliency_checks",
    "suspicious_labels": "visus.examine.mistakes",
    "templates": "visus.examine.strongest_patches",
    "unit_values": "visus.examine.strongest_patches",
}

__all__ = [
    "Unit",
    "activations",
    "deletion_and_insertion",
    "effective_field",
    "effective_field_sampled",
    "feature_layer",
    "features",
    "filters",
    "find_mistakes",
    "grad_cam",
    "gradient_saliency",
    "integrated_gradients",
    "layer_likeness",
    "match_filters",
    "measured_rates",
    "nearest_samples",
    "occlusion",
    "outside_share",
    "pixel_sum",
    "randomised_weights",
    "suspicious_labels",
    "templates",
    "unit_values",
]

if TYPE_CHECKING:
    from visus.examine.activation_maps import activations
    from visus.examine.effective import effective_field, effective_field_sampled, measured_rates
    from visus.examine.layer_kernels import filters
    from visus.examine.mistakes import feature_layer, features, find_mistakes, nearest_samples, suspicious_labels
    from visus.examine.pixel_sums import pixel_sum
    from visus.examine.saliency import grad_cam, gradient_saliency, integrated_gradients, occlusion
    from visus.examine.saliency_checks import deletion_and_insertion, randomised_weights
    from visus.examine.saliency_types import Unit, outside_share
    from visus.examine.similarity import layer_likeness, match_filters
    from visus.examine.strongest_patches import templates, unit_values


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus.examine' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
