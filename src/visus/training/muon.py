"""The Muon optimizer: orthogonalized momentum for filters, and Adam for biases and the head.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon). A filter of any rank counts as a matrix with one row per output channel. Filters of equal
shape are orthogonalized in one batch.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan et al. 2024: a steep slope at 0, so that few steps raise small singular values
NUM_STEPS = 3
_TINY = 1e-7
_ADAM_TINY = 1e-10


class Muon(torch.optim.Optimizer):
    """An optimizer with two update rules, chosen by each parameter group.

    A group with ``rule="orthogonal"`` is updated with the orthogonalized Nesterov momentum of its gradients; a group with ``rule="adam"`` as in
    ``torch.optim.AdamW``. Other keys of a group are kept.

    A group may also set:
        unit: whether to rescale each filter to the norm ``sqrt(out_channels)`` before a step. It suits filters before a norm, whose scale has no
            effect: the learning rate then sets the angle of a step. A filter of zeros stays until it has a direction.
        num_splits: number of channel groups of a grouped convolution; each is a matrix of its own.

    Args:
        groups: parameter groups with ``params`` and ``rule``, and optionally any of the options here.
        lr: learning rate; in an orthogonal group, the largest singular value of a step.
        momentum: Nesterov momentum of orthogonal groups.
        betas: coefficients of adam groups.
        weight_decay: decoupled weight decay; a step subtracts ``lr * weight_decay`` times the weight.
        dtype: dtype of the orthogonalization.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.6,
        betas: tuple[float, float] = (0.85, 0.99),
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        defaults = {
            "lr": lr,
            "rule": "orthogonal",
            "momentum": momentum,
            "betas": betas,
            "weight_decay": weight_decay,
            "unit": False,
            "num_splits": 1,
        }
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Run one step; parameters without a gradient do not change."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not parameters:
                continue
            if group["rule"] == "adam":
                self._adam_step(parameters, group)
            else:
                self._orthogonal_step(parameters, group)
        return loss

    def _orthogonal_step(self, filters: list[Tensor], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        gradients = [each.grad for each in filters if each.grad is not None]
        buffers = [self._state(each, "momentum_buffer") for each in filters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        ahead = torch._foreach_add(gradients, buffers, alpha=momentum)
        if group["unit"]:
            norms = torch._foreach_norm(filters)
            factors = [math.sqrt(len(each)) / norm for each, norm in zip(filters, norms, strict=True)]
            # a filter of zeros has no direction before its first step, so it is not rescaled
            torch._foreach_mul_(filters, [torch.where(factor.isfinite(), factor, 1.0) for factor in factors])
        elif group["weight_decay"]:
            torch._foreach_mul_(filters, 1 - group["lr"] * group["weight_decay"])
        steps = orthogonalize_all(list(ahead), num_splits=group["num_splits"], dtype=self.dtype)
        torch._foreach_add_(filters, steps, alpha=-group["lr"])

    def _adam_step(self, values: list[Tensor], group: dict[str, Any]) -> None:
        """Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2."""
        first, second = group["betas"]
        gradients = [each.grad for each in values if each.grad is not None]
        means = [self._state(each, "exp_avg") for each in values]
        squares = [self._state(each, "exp_avg_sq") for each in values]
        counts = [self.state[each]["step"] + 1 if "step" in self.state[each] else 1 for each in values]
        for each, count in zip(values, counts, strict=True):
            self.state[each]["step"] = count
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        if group["weight_decay"]:
            torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        roots = torch._foreach_sqrt(squares)
        torch._foreach_div_(roots, [math.sqrt(1 - second**count) for count in counts])
        torch._foreach_add_(roots, _ADAM_TINY)
        torch._foreach_addcdiv_(values, means, roots, [-group["lr"] / (1 - first**count) for count in counts])

    def _state(self, value: Tensor, name: str) -> Tensor:
        """The optimizer state ``name`` of a parameter; zeros before the first step."""
        state = self.state[value]
        if name not in state:
            state[name] = torch.zeros_like(value)
        found: Tensor = state[name]
        return found


def orthogonalize_all(filters: list[Tensor], *, num_splits: int = 1, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """An approximation of each filter's nearest orthogonal matrix, in the filter's shape. Matrices of equal shape are one batch.

    Args:
        filters: tensors (out_channels, ...) with two or more axes.
        num_splits: number of groups of output channels; each is a matrix of its own.
        dtype: dtype of the products.
    """
    batches: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, each in enumerate(filters):
        rows = len(each) // num_splits
        batches[rows, each.numel() // len(each)].append(place)
    steps = list(filters)
    for (rows, columns), places in batches.items():
        matrices = torch.stack([filters[place].reshape(num_splits, rows, columns).to(dtype) for place in places])
        orthogonal = orthogonalize(matrices).to(filters[places[0]].dtype)
        for place, step in zip(places, orthogonal, strict=True):
            steps[place] = step.reshape(filters[place].shape)
    return steps


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1, by three Newton-Schulz steps, in the same dtype.

    Args:
        matrices: (..., rows, columns). A matrix of zeros stays zero. Singular values below 1 % of the matrix norm stay below 1.

    >>> values = torch.linalg.svdvals(orthogonalize(torch.diag(torch.tensor([3.0, 2.0, 1.0]))))
    >>> bool(((values > 0.6) & (values < 1.3)).all())
    True
    """
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    x = x / (torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True, dtype=torch.float32).to(x.dtype) + _TINY)
    for _ in range(NUM_STEPS):
        gram = x @ x.mT
        inner = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, inner, x, beta=a)
    x = x.reshape(shape)
    return x.mT if is_tall else x
