"""Which weights a training leaves as it finds them.

This file knows paths of parameters and the norms of a network.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from visus.errors import RecipeError, joined, unknown_name

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze(module: nn.Module, patterns: str) -> None:
    """Let the parameters that patterns name stay as they are, in place; all others are left as they were.

    Args:
        module: the network.
        patterns: paths of parameters or of layers, separated by commas, with ``*`` for any letters; empty for none.

    Raises:
        RecipeError: a pattern names nothing, or nothing is left to be trained.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> freeze(network, "0")
    >>> [name for name, values in network.named_parameters() if values.requires_grad]
    ['1.weight', '1.bias']
    """
    names = [name for name, _ in module.named_parameters()]
    layers = [path for path, _ in module.named_children()]
    mistakes = []
    for pattern in (word.strip() for word in patterns.split(",") if word.strip()):
        found = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not found:
            mistakes.append(unknown_name("layer to be frozen", pattern, layers))
        for name in found:
            module.get_parameter(name).requires_grad_(False)
    if mistakes:
        raise RecipeError(joined(mistakes))
    if patterns and not any(values.requires_grad for values in module.parameters()):
        raise RecipeError(f"frozen={patterns!r} leaves no weights to be trained. Name fewer layers.")


def keep_statistics(module: nn.Module) -> None:
    """Let batch norms of a network in training mode go by their stored means and deviations, which then stay."""
    for part in module.modules():
        if isinstance(part, _NORMS):
            part.eval()
