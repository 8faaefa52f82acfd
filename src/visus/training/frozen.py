"""Freezing of parameters by path patterns, and of batch-norm statistics."""

from __future__ import annotations

from fnmatch import fnmatchcase

from torch import nn

from visus.errors import RecipeError, join_messages, unknown_name

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze(module: nn.Module, patterns: str) -> None:
    """Set ``requires_grad`` to False for all parameters that match a pattern, in place.

    Args:
        module: the network.
        patterns: paths of parameters or layers, separated by commas; ``*`` stands for any letters. Empty for none.

    Raises:
        RecipeError: a pattern matches nothing, or no parameter remains trainable.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> freeze(network, "0")
    >>> [name for name, values in network.named_parameters() if values.requires_grad]
    ['1.weight', '1.bias']
    """
    for name in matching(module, patterns):
        module.get_parameter(name).requires_grad_(False)
    if patterns and not any(values.requires_grad for values in module.parameters()):
        raise RecipeError(f"frozen={patterns!r} leaves no weights to train. Name fewer layers.")


def matching(module: nn.Module, patterns: str) -> list[str]:
    """The names of the parameters that match a pattern of ``freeze``.

    Raises:
        RecipeError: a pattern matches nothing.

    >>> matching(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), "0, *.bias")
    ['0.weight', '0.bias', '0.bias', '1.bias']
    """
    names = [name for name, _ in module.named_parameters()]
    layers = [path for path, _ in module.named_children()]
    mistakes, matched = [], []
    for pattern in (word.strip() for word in patterns.split(",") if word.strip()):
        found = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not found:
            mistakes.append(unknown_name("layer to freeze", pattern, layers))
        matched += found
    if mistakes:
        raise RecipeError(join_messages(mistakes))
    return matched


def keep_statistics(module: nn.Module) -> None:
    """Switch the batch norms of a network to evaluation mode, so that they use their stored statistics and never update them."""
    for part in module.modules():
        if isinstance(part, _NORMS):
            part.eval()
