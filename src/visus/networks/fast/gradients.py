"""Gradients by PyTorch's autograd, for the cases that the kernels do not support: gradients of gradients, and transforms."""

from __future__ import annotations

from collections.abc import Callable

import torch

from visus.networks.fast.eligibility import are_plain, is_batched_gradient, is_eager


def is_first_order_eager(gradient: torch.Tensor) -> bool:
    """Whether a kernel may compute a backward pass: no gradient of the gradient, no transform, and a plain tensor.

    Args:
        gradient: gradient of the output.
    """
    return not torch.is_grad_enabled() and are_plain(gradient) and not is_batched_gradient(gradient) and is_eager()


def gradients_by_pytorch(
    function: Callable[..., torch.Tensor],
    inputs: tuple[torch.Tensor, ...],
    wanted: tuple[bool, ...],
    gradient: torch.Tensor,
) -> tuple[torch.Tensor | None, ...]:
    """The gradients of a function of PyTorch operators, differentiable again if gradients are enabled.

    Args:
        function: function of ``inputs``.
        inputs: tensors that autograd saved.
        wanted: whether to compute the gradient of each input; further values are ignored.
        gradient: gradient of the function's output.

    Returns:
        One gradient per input; None for an unwanted one.
    """
    create_graph = torch.is_grad_enabled()
    variables = [each for each, is_wanted in zip(inputs, wanted, strict=False) if is_wanted]
    with torch.enable_grad():
        found = iter(torch.autograd.grad(function(*inputs), variables, gradient, create_graph=create_graph))
    return tuple(next(found) if is_wanted else None for _, is_wanted in zip(inputs, wanted, strict=False))
