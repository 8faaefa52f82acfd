"""Muon: every step of a filter is orthogonalized, so that all directions in which it works move alike; biases and the head go by Adam.

Jordan et al. 2024 (kellerjordan.github.io/posts/muon). A filter of any rank is read as a matrix with a row for each output
channel. Filters of equal shape are orthogonalized together. This file knows tensors, gradients and rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steep at 0, so that few steps lift small singular values
NUM_STEPS = 3
_TINY = 1e-7
_ADAM_TINY = 1e-10


class Muon(torch.optim.Optimizer):
    """One optimizer with two rules; the groups say which.

    A group with ``rule="orthogonal"`` is moved by the orthogonalized Nesterov momentum of its gradients; one with ``rule="adam"`` as by
    ``torch.optim.AdamW``. Further keys of a group, such as what sets its rate, are kept as they are.

    Args:
        groups: tables with ``params`` and ``rule``; beside them any of the defaults below by name.
        lr: learning rate; of an orthogonal group the largest singular value of a step.
        momentum: of orthogonal groups (Nesterov).
        betas: of adam groups.
        weight_decay: share of a weight that a step takes away, times ``lr``.
        unit: whether each filter is brought to the norm ``sqrt(out_channels)`` before a step: for filters before a norm, whose size means
            nothing, so that the rate alone says how far a step turns them. A filter of zeros is left as it is until it has a direction.
        num_splits: groups of channels that do not see each other; each is a matrix of its own.
        dtype: number format of the orthogonalization.
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
        """One step; a tensor without a gradient stays as it is."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [each for each in group["params"] if each.grad is not None]
            if not moved:
                continue
            if group["rule"] == "adam":
                self._adam(moved, group)
            else:
                self._orthogonal(moved, group)
        return loss

    def _orthogonal(self, filters: list[Tensor], group: dict[str, Any]) -> None:
        momentum = group["momentum"]
        gradients = [each.grad for each in filters if each.grad is not None]
        buffers = [self._state(each, "momentum_buffer") for each in filters]
        torch._foreach_mul_(buffers, momentum)
        torch._foreach_add_(buffers, gradients)
        ahead = torch._foreach_add(gradients, buffers, alpha=momentum)
        if group["unit"]:
            norms = torch._foreach_norm(filters)
            lengthened = [math.sqrt(len(each)) / norm for each, norm in zip(filters, norms, strict=True)]
            # a filter of zeros has no direction yet: its first step gives it one
            torch._foreach_mul_(filters, [torch.where(factor.isfinite(), factor, 1.0) for factor in lengthened])
        elif group["weight_decay"]:
            torch._foreach_mul_(filters, 1 - group["lr"] * group["weight_decay"])
        steps = orthogonalize_all(list(ahead), num_splits=group["num_splits"], dtype=self.dtype)
        torch._foreach_add_(filters, steps, alpha=-group["lr"])

    def _adam(self, values: list[Tensor], group: dict[str, Any]) -> None:
        """As Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2."""
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
        """A tensor that goes with ``value`` from step to step; zeros before the first."""
        state = self.state[value]
        if name not in state:
            state[name] = torch.zeros_like(value)
        found: Tensor = state[name]
        return found


def orthogonalize_all(filters: list[Tensor], *, num_splits: int = 1, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Each filter's nearest orthogonal matrix, roughly, in the filter's own shape; those of equal matrices are computed together.

    Args:
        filters: tensors (out_channels, ...) of two axes or more.
        num_splits: groups of output channels that are matrices of their own.
        dtype: number format of the products.
    """
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, each in enumerate(filters):
        rows = len(each) // num_splits
        alike[rows, each.numel() // len(each)].append(place)
    steps = list(filters)
    for (rows, columns), places in alike.items():
        matrices = torch.stack([filters[place].reshape(num_splits, rows, columns).to(dtype) for place in places])
        done = orthogonalize(matrices).to(filters[places[0]].dtype)
        for place, step in zip(places, done, strict=True):
            steps[place] = step.reshape(filters[place].shape)
    return steps


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors and singular values near 1, by three Newton-Schulz steps, in the format that they come in.

    Args:
        matrices: (..., rows, columns). A matrix of zeros stays one. Singular values below a hundredth of the matrix's norm are lifted
            in part only.

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
