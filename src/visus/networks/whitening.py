"""Whitening convolutions: fixed filters computed from data, the principal axes of patches scaled to unit variance, and their negatives.

Jordan 2024 (arXiv:2404.00498, section 3.2), after Page 2019 (myrtle.ai, "How to train your ResNet"). Shape letters: N samples, C channels, * spatial
axes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visus.errors import UsageError
from visus.networks.blocks import pad_order

MAX_SAMPLES = 5_000
MAX_VALUES = 2**26  # total number of values of these samples
MAX_PATCHES = 2**21
EPS = 5e-4  # added to the variances, relative to their mean, so that directions of small variance are not amplified
_CHUNK_VALUES = 2**23
_LARGE_MEAN = 100.0  # squared mean relative to the variance


class _AddedBias(torch.autograd.Function):
    """The gradient of a convolution with only a trained bias: a sum, for which no tensor is saved."""

    @staticmethod
    def forward(context: Any, made: Tensor, bias: Tensor) -> Tensor:
        context.mark_dirty(made)
        return made

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        axes = [axis for axis in range(gradient.dim()) if axis != 1]
        return None, gradient.sum(axes, dtype=torch.float32)


class Whitening(nn.modules.conv._ConvNd):
    """Common part of whitening convolutions for 1, 2 and 3 axes: (N, C, *) to (N, 2*C*k, *), for patches of k positions. Abstract.

    The filters are a buffer, saved with the weights and not trained. Before ``fit_whitening`` they are the identity and its negative.

    Args:
        in_channels: C.
        kernel_size: kernel size on each axis.
        stride: stride on each axis.
        pads: zero padding before and after each axis.
    """

    _convolve: Any

    def __init__(
        self, in_channels: int, kernel_size: tuple[int, ...], stride: tuple[int, ...], pads: Sequence[tuple[int, int]]
    ) -> None:
        even = all(before == after for before, after in pads)
        padding = tuple(before for before, _ in pads) if even else 0
        num_values = in_channels * math.prod(kernel_size)
        super().__init__(in_channels, 2 * num_values, kernel_size, stride, padding)  # type: ignore[call-arg, arg-type]
        filters = self.weight.detach()
        del self.weight
        self.register_buffer("weight", filters)
        self.pads = () if even else pad_order(pads)
        if not filters.is_meta:
            self.reset_filters()

    @torch.no_grad()
    def reset_filters(self) -> None:
        """Set the filters of a layer without data; needed after a move from the meta device."""
        num_values = self.weight[0].numel()
        eye = torch.eye(num_values, dtype=self.weight.dtype, device=self.weight.device)
        self.fill(eye, torch.zeros(num_values))

    @torch.no_grad()
    def fill(self, axes: Tensor, mean: Tensor) -> None:
        """Set the filters to the rows of ``axes`` and their negatives, with a bias that maps the mean patch to zero.

        Args:
            axes: (values, values), for the values of a patch, channel by channel.
            mean: (values,) mean patch.
        """
        self.weight.copy_(torch.cat([axes, -axes]).reshape(self.weight.shape))
        assert self.bias is not None, "whitening layers always have a bias"
        center = axes.to(mean) @ mean
        self.bias.copy_(torch.cat([-center, center]))

    def forward(self, x: Tensor) -> Tensor:
        if self.pads:
            x = F.pad(x, self.pads)
        bias, convolve = self.bias, type(self)._convolve
        assert bias is not None, "whitening layers always have a bias"
        if x.requires_grad or not (bias.requires_grad and torch.is_grad_enabled()):
            made: Tensor = convolve(x, self.weight, bias, self.stride, self.padding)
            return made
        with torch.no_grad():
            made = convolve(x, self.weight, bias, self.stride, self.padding)
        added: Tensor = _AddedBias.apply(made, bias)  # type: ignore[no-untyped-call]
        return added


class Whitening1d(Whitening, nn.Conv1d):
    """Whitening of signals."""

    _convolve = staticmethod(F.conv1d)


class Whitening2d(Whitening, nn.Conv2d):
    """Whitening of images."""

    _convolve = staticmethod(F.conv2d)


class Whitening3d(Whitening, nn.Conv3d):
    """Whitening of volumes."""

    _convolve = staticmethod(F.conv3d)


WHITENINGS: dict[int, type[Whitening]] = {1: Whitening1d, 2: Whitening2d, 3: Whitening3d}


@dataclass(frozen=True)
class Fitted:
    """The data of a layer's computed filters.

    Args:
        path: path of the layer.
        num_filters: number of filters, with negatives.
        num_samples: number of samples.
        num_patches: number of patches of these samples.
    """

    path: str
    num_filters: int
    num_samples: int
    num_patches: int

    def to_json(self) -> dict[str, object]:
        """The facts and the sentence as JSON data."""
        return dataclasses.asdict(self) | {"sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The facts in one sentence.

        >>> Fitted("whiten1", 24, 5000, 1_201_250).sentence
        'The 24 filters of whiten1 were computed from 1,201,250 patches of 5,000 training samples, and are not trained.'
        """
        return (
            f"The {self.num_filters:,} filters of {self.path} were computed from {self.num_patches:,} patches of "
            f"{self.num_samples:,} training samples, and are not trained."
        )


def num_needed(num_samples: int, input_shape: Sequence[int]) -> int:
    """Number of samples for ``fit_whitening``: 5,000, or fewer if they are large.

    >>> num_needed(50_000, (3, 32, 32)), num_needed(50_000, (1, 64, 64, 64)), num_needed(200, (3, 32, 32))
    (5000, 256, 200)
    """
    return min(num_samples, MAX_SAMPLES, max(1, MAX_VALUES // math.prod(input_shape)))


@torch.no_grad()
def fit_whitening(module: nn.Module, samples: Tensor) -> tuple[Fitted, ...]:
    """Compute the filters of every whitening layer of a network, in order, from the layer's inputs.

    Args:
        module: the network; all other layers do not change.
        samples: preprocessed training samples (N, C, *), on the network's device.

    Returns:
        One value per whitening layer.

    Raises:
        UsageError: the input of a whitening layer has NaN or infinity.
    """
    layers = [(path, part) for path, part in module.named_modules() if isinstance(part, Whitening)]
    if not layers:
        return ()
    was_training = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        return tuple(_fit(module, path, layer, samples) for path, layer in layers)
    finally:
        for part, training in was_training:
            part.training = training


class _ReachedError(Exception):
    """Aborts a forward pass and carries a layer's input out of it."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given = given


def _fit(module: nn.Module, path: str, layer: Whitening, samples: Tensor) -> Fitted:
    def stop(part: nn.Module, given: tuple[Tensor, ...]) -> None:
        raise _ReachedError(given[0])

    hook = layer.register_forward_pre_hook(stop)
    num_values = layer.weight[0].numel()
    count, near = 0, torch.zeros(num_values)
    total, products = torch.zeros(num_values).double(), torch.zeros(num_values, num_values).double()
    try:
        for part in torch.split(samples, max(1, _CHUNK_VALUES // samples[0].numel())):
            for patches in _patches(_reached(module, part), layer, len(samples)):
                if not count:
                    near = _large_mean(patches)
                if near.any():
                    patches = patches - near
                total += patches.sum(0, dtype=torch.float64).cpu()
                products += (patches.mT @ patches).double().cpu()
                count += len(patches)
    finally:
        hook.remove()
    beside = total / max(1, count)
    mean = near.double().cpu() + beside
    covariance = products / max(1, count) - torch.outer(beside, beside)
    if not covariance.isfinite().all():
        raise UsageError(
            "whitening filters need finite inputs: the samples, or the outputs of the layers before, hold NaN or "
            "infinity. Remove such samples.",
            where=path,
        )
    variances, axes = torch.linalg.eigh(covariance)
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1).mT  # one axis per row, the largest variance first
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(largest < 0, -1.0, 1.0)  # the sign of an axis is arbitrary: its largest value becomes positive
    epsilon = EPS * float(variances.mean()) or 1.0  # without any variance, the filters may have any scale
    scaled = axes / torch.sqrt(variances + epsilon)[:, None]
    layer.fill(scaled.to(layer.weight), mean.to(layer.weight))
    return Fitted(path, 2 * num_values, len(samples), count)


def _large_mean(patches: Tensor) -> Tensor:
    """The mean patch if it is large relative to the standard deviation, where float32 products lose all precision; else zeros.

    Standardized samples have a small mean and are not shifted, since the directions of the axes depend on the last digits.
    """
    mean = patches.mean(0, dtype=torch.float64).float()
    spread = (patches - mean).square().mean(0)
    is_large = bool((mean.square() > _LARGE_MEAN * spread).any())
    return mean if is_large else torch.zeros_like(mean)


def _reached(module: nn.Module, samples: Tensor) -> Tensor:
    """The input of the layer that aborts the forward pass."""
    try:
        module(samples)
    except _ReachedError as reached:
        return reached.given
    raise AssertionError("a whitening layer of the network was not run")


def _patches(given: Tensor, layer: Whitening, num_samples: int) -> Iterator[Tensor]:
    """Yield the patches (patches, values) of a layer's input, subsampled if there are too many, without those in the padding."""
    num_axes = given.dim() - 2
    places = [
        (length - kernel) // stride + 1
        for length, kernel, stride in zip(given.shape[2:], layer.kernel_size, layer.stride, strict=True)
    ]
    if min(places) < 1:
        return
    thinning = max(1, math.ceil((num_samples * math.prod(places) / MAX_PATCHES) ** (1 / num_axes)))
    windows = given.float()
    for axis, (kernel, stride, number) in enumerate(zip(layer.kernel_size, layer.stride, places, strict=True)):
        windows = windows.unfold(axis + 2, kernel, stride * min(thinning, number))
    yield windows.movedim(1, num_axes + 1).reshape(-1, layer.weight[0].numel())
