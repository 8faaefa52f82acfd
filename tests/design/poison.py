"""An oracle that knows no rules: poison one pixel after another, and see what comes out."""

from __future__ import annotations

import torch

from visus.networks.build import build


def pixels_that_matter(design, shape, *, at=None):
    """Whether each pixel of the input changes what comes out (or only the position ``at``), found by poisoning one after another."""
    module = build(design, shape, 2).double().eval()
    with torch.no_grad():
        for value in module.state_dict().values():
            value.copy_(torch.rand_like(value.double()) + 0.5)
    size = shape[1:]
    count = torch.Size(size).numel()
    batch = torch.rand(count, *shape, dtype=torch.float64)
    batch.flatten(2)[torch.arange(count), :, torch.arange(count)] = float("nan")
    with torch.no_grad():
        output = module(batch)
    if at is not None:
        output = output[(slice(None), slice(None), *at)]
    return output.flatten(1).isnan().any(1).reshape(size)
