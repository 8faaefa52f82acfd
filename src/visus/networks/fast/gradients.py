"""Gradients as PyTorch computes them, where those of a kernel will not do: for gradients of gradients, and under transforms.

This file knows autograd.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from visus.networks.fast.eligibility import are_plain, is_eager, is_one_of_many


def is_first_order_eager(gradient: torch.Tensor) -> bool:
    """Whether a gradient that is computed now is of numbers alone: nobody asks for its gradient, no transform goes over it.

    Args:
        gradient: that comes in.
    """
    return not torch.is_grad_enabled() and are_plain(gradient) and not is_one_of_many(gradient) and is_eager()


def gradients_by_pytorch(
    function: Callable[..., torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    wanted: tuple[bool, ...],
    gradient: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of a function that PyTorch computes, which have gradients themselves where these are asked for.

    Args:
        function: of ``inputs``.
        inputs: as autograd saved them.
        wanted: for each of them; more is left unread.
        gradient: of what the function gives.

    Returns:
        One for each input; None for one that is not wanted.
    """
    is_kept = torch.is_grad_enabled()
    asked = [each for each, is_wanted in zip(inputs, wanted, strict=False) if is_wanted]
    with torch.enable_grad():
        found = iter(torch.autograd.grad(function(*inputs), asked, gradient, create_graph=is_kept))
    return tuple(next(found) if is_wanted else None for _, is_wanted in zip(inputs, wanted, strict=False))
