"""Convolutions whose filters are computed from data and not trained: principal axes of patches, each scaled to deviation 1, and their negatives.

Jordan 2024 (arXiv:2404.00498, section 3.2) after Page 2019 (myrtle.ai, "How to train your ResNet"). Shape letters: N samples, C
channels, * spatial axes. This file knows patches, one layer of such filters and how it is filled.
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
MAX_VALUES = 2**26  # of the samples that are looked at, in all
MAX_PATCHES = 2**21
EPS = 5e-4  # added to the variances, as a share of their mean, so that what hardly varies is not blown up
_CHUNK_VALUES = 2**23
_LARGE_MEAN = 100.0  # its square beside the variance


class _AddedBias(torch.autograd.Function):
    """A convolution of which the bias alone is trained: its gradient is a sum, and nothing is kept."""

    @staticmethod
    def forward(context: Any, made: Tensor, bias: Tensor) -> Tensor:
        context.mark_dirty(made)
        return made

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[None, Tensor]:
        axes = [axis for axis in range(gradient.dim()) if axis != 1]
        return None, gradient.sum(axes, dtype=torch.float32)


class Whitening(nn.modules.conv._ConvNd):
    """What the whitening convolutions of one, two and three axes share. Abstract. N C * -> N 2*C*k *, where k is the patch's number of places.

    The filters are a buffer: they are saved with the weights, and no optimizer moves them. Before ``fit_whitening`` they are the single
    values of the patch and their negatives.

    Args:
        in_channels: C.
        kernel_size, stride: one number for each axis.
        pads: zeros before and after each axis.
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
        """The filters of a layer that has seen no data, as after a move from the meta device."""
        num_values = self.weight[0].numel()
        eye = torch.eye(num_values, dtype=self.weight.dtype, device=self.weight.device)
        self.fill(eye, torch.zeros(num_values))

    @torch.no_grad()
    def fill(self, axes: Tensor, mean: Tensor) -> None:
        """Take the rows of ``axes`` and their negatives for filters, and let an average patch give zeros.

        Args:
            axes: (values of a patch, values of a patch), channel by channel.
            mean: the average patch, (values of a patch,).
        """
        self.weight.copy_(torch.cat([axes, -axes]).reshape(self.weight.shape))
        assert self.bias is not None, "whitening always adds a number to each channel"
        center = axes.to(mean) @ mean
        self.bias.copy_(torch.cat([-center, center]))

    def forward(self, x: Tensor) -> Tensor:
        if self.pads:
            x = F.pad(x, self.pads)
        bias, convolve = self.bias, type(self)._convolve
        assert bias is not None, "whitening always adds a number to each channel"
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
    """What the filters of one layer were computed from.

    Args:
        path: of the layer in its network.
        num_filters: filters, negatives included.
        num_samples, num_patches: what was looked at.
    """

    path: str
    num_filters: int
    num_samples: int
    num_patches: int

    def to_json(self) -> dict[str, object]:
        """Plain data for a run's files, the sentence among them."""
        return dataclasses.asdict(self) | {"sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """For a reader.

        >>> Fitted("whiten1", 24, 5000, 1_201_250).sentence
        'The 24 filters of whiten1 were computed from 1,201,250 patches of 5,000 training samples, and not learned.'
        """
        return (
            f"The {self.num_filters:,} filters of {self.path} were computed from {self.num_patches:,} patches of "
            f"{self.num_samples:,} training samples, and not learned."
        )


def num_needed(num_samples: int, input_shape: Sequence[int]) -> int:
    """How many of the samples are enough to look at: 5,000, or fewer where they are large.

    >>> num_needed(50_000, (3, 32, 32)), num_needed(50_000, (1, 64, 64, 64)), num_needed(200, (3, 32, 32))
    (5000, 256, 200)
    """
    return min(num_samples, MAX_SAMPLES, max(1, MAX_VALUES // math.prod(input_shape)))


@torch.no_grad()
def fit_whitening(module: nn.Module, samples: Tensor) -> tuple[Fitted, ...]:
    """Compute the filters of every whitening layer of a network, in the order in which they stand, from what reaches each.

    Args:
        module: the network; everything but these layers is left as it is.
        samples: scaled training samples (N, C, *), on the network's device.

    Returns:
        One value for each such layer; none where the network has none.

    Raises:
        UsageError: NaN or infinity comes to such a layer.
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
    """Carries what reaches a layer out of the network's forward pass."""

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
            "filters cannot be computed from numbers that are not finite: the samples, or what the layers before make of them, hold NaN or "
            "infinity. Leave such samples out.",
            where=path,
        )
    variances, axes = torch.linalg.eigh(covariance)
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1).mT  # the widest axis first, one a row
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    axes = axes * torch.where(
        largest < 0, -1.0, 1.0
    )  # an axis has two directions: the one whose largest value is above zero
    room = EPS * float(variances.mean()) or 1.0  # samples without any spread: their filters may have any length
    scaled = axes / torch.sqrt(variances + room)[:, None]
    layer.fill(scaled.to(layer.weight), mean.to(layer.weight))
    return Fitted(path, 2 * num_values, len(samples), count)


def _large_mean(patches: Tensor) -> Tensor:
    """The mean patch where it is large beside the spread, for which products in float32 have then no digits left; else zeros.

    Scaled samples are near zero: products are summed of them as they are, since directions of axes hang on the last digits.
    """
    mean = patches.mean(0, dtype=torch.float64).float()
    spread = (patches - mean).square().mean(0)
    is_large = bool((mean.square() > _LARGE_MEAN * spread).any())
    return mean if is_large else torch.zeros_like(mean)


def _reached(module: nn.Module, samples: Tensor) -> Tensor:
    """What comes to the layer that stops the forward pass."""
    try:
        module(samples)
    except _ReachedError as reached:
        return reached.given
    raise AssertionError("a whitening layer of the network was not run")


def _patches(given: Tensor, layer: Whitening, num_samples: int) -> Iterator[Tensor]:
    """The patches that a layer's window meets, (patches, values), thinned where there are too many; edges filled with zeros are left out."""
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
