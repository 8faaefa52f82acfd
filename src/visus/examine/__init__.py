"""Looking inside a network: activations, filters, receptive fields, saliency, similarity, mistakes.

Functions take a module and arrays, and return frozen results with read-only arrays:

    activations, filters, templates, output_terms, unit_values      what layers compute
    effective_field, effective_field_sampled, measure_derivatives   which pixels a unit uses
    gradient_saliency, integrated_gradients, grad_cam, occlusion    which pixels an output rests on
    deletion_and_insertion, weight_randomization, share_outside     whether such a map is right
    layer_similarity, match_filters                                 two networks side by side
    find_mistakes, suspicious_labels, nearest_samples, features     predictions to review

visus.look measures most of this for one image, and writes it as a page. Each name is loaded when
it is first used, so "import visus.examine" does not load torch.

>>> import torch
>>> from visus import examine
>>> module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
>>> examine.gradient_saliency(module, torch.ones(3, 1, 2, 2), target=1).map.shape
(3, 2, 2)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Unit": "visus.examine.saliency_types",
    "activations": "visus.examine.activation_maps",
    "deletion_and_insertion": "visus.examine.saliency_checks",
    "effective_field": "visus.examine.effective_fields",
    "effective_field_sampled": "visus.examine.effective_fields",
    "feature_layer": "visus.examine.mistakes",
    "features": "visus.examine.mistakes",
    "filters": "visus.examine.layer_kernels",
    "find_mistakes": "visus.examine.mistakes",
    "grad_cam": "visus.examine.saliency",
    "gradient_saliency": "visus.examine.saliency",
    "integrated_gradients": "visus.examine.saliency",
    "layer_similarity": "visus.examine.similarity",
    "match_filters": "visus.examine.similarity",
    "measure_derivatives": "visus.examine.effective_fields",
    "nearest_samples": "visus.examine.mistakes",
    "occlusion": "visus.examine.saliency",
    "output_terms": "visus.examine.dot_products",
    "share_outside": "visus.examine.saliency_types",
    "suspicious_labels": "visus.examine.mistakes",
    "templates": "visus.examine.strongest_patches",
    "unit_values": "visus.examine.strongest_patches",
    "weight_randomization": "visus.examine.saliency_checks",
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
    "layer_similarity",
    "match_filters",
    "measure_derivatives",
    "nearest_samples",
    "occlusion",
    "output_terms",
    "share_outside",
    "suspicious_labels",
    "templates",
    "unit_values",
    "weight_randomization",
]

if TYPE_CHECKING:
    from visus.examine.activation_maps import activations
    from visus.examine.dot_products import output_terms
    from visus.examine.effective_fields import effective_field, effective_field_sampled, measure_derivatives
    from visus.examine.layer_kernels import filters
    from visus.examine.mistakes import feature_layer, features, find_mistakes, nearest_samples, suspicious_labels
    from visus.examine.saliency import grad_cam, gradient_saliency, integrated_gradients, occlusion
    from visus.examine.saliency_checks import deletion_and_insertion, weight_randomization
    from visus.examine.saliency_types import Unit, share_outside
    from visus.examine.similarity import layer_similarity, match_filters
    from visus.examine.strongest_patches import templates, unit_values


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visus.examine' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
