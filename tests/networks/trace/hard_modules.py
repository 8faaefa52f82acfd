"""Modules that are hard to account for, each small: what tools for receptive fields get wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Made(nn.Module):
    """A module of layers and a function that uses them."""

    def __init__(self, forward: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        self.how = forward
        for name, layer in layers.items():
            if isinstance(layer, nn.Module):
                self.add_module(name, layer)
            elif isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            elif isinstance(layer, Tensor):
                self.register_buffer(name, layer)
            else:
                setattr(self, name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


def conv(channels: int = 4, kernel: Any = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(more.pop("of", 4), channels, kernel, **more)


def _u_net() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        fine = m.fine(x)
        coarse = m.coarse(F.max_pool2d(fine, 2))
        up = m.up(coarse)
        return m.last(torch.cat([fine, up], 1))

    return Made(
        forward,
        fine=nn.Sequential(conv(padding=1), nn.ReLU(), conv(padding=1)),
        coarse=nn.Sequential(conv(8, padding=1), nn.ReLU(), conv(8, of=8, padding=1)),
        up=nn.ConvTranspose2d(8, 4, 2, stride=2),
        last=conv(of=8, padding=1),
    )


def _shuffled() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        one, two = x.chunk(2, 1)
        out = torch.cat([one, m.wide(two)], 1)
        n, c, h, w = out.shape
        out = out.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return m.last(out)

    return Made(forward, wide=conv(2, 5, of=2, padding=2), last=conv(4, 3, groups=4, padding=1))


def _kept_half() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.last(torch.cat([m.narrow(x), m.wide(x)], 1))[:, :2]

    return Made(forward, narrow=conv(2, 1), wide=conv(2, 7, padding=3), last=conv(4, 3, groups=2, padding=1))


def _squeezed(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    gate = m.two(F.relu(m.one(F.adaptive_avg_pool2d(y, 1)))).sigmoid()
    return m.last(y * gate)


def _written(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    out = torch.zeros(y.shape[0], y.shape[1], 2 * y.shape[2], 2 * y.shape[3], dtype=y.dtype, device=y.device)
    out[:, :, ::2, 1::2] = y
    out[:, :2, 1::2, ::2] = y[:, :2].flip(2)
    return m.last(out)


def _written_in_windows(m: Any, x: Tensor) -> Tensor:
    out = x.new_zeros(x.shape[0], 4, x.shape[2] + 3, x.shape[3])
    out[:, :, 2:-1] += m.conv(x)
    return out


def _focus(m: Any, x: Tensor) -> Tensor:
    return m.conv(torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1))


def _attention(m: Any, x: Tensor) -> Tensor:
    tokens = m.cut(x).flatten(2).transpose(1, 2)
    return tokens + F.scaled_dot_product_attention(tokens, tokens, tokens)


def _windowed_attention(m: Any, x: Tensor) -> Tensor:
    y = m.cut(x).permute(0, 2, 3, 1)
    n, h, w, c = y.shape
    windows = y.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
    out = m.attention(windows, windows, windows, need_weights=False)[0]
    out = out.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c)
    return out.permute(0, 3, 1, 2)


def _unfolded(m: Any, x: Tensor) -> Tensor:
    columns = F.unfold(x, 3, padding=1, stride=2)
    n, _, h, w = x.shape
    return (m.weight @ columns).view(n, 5, (h + 1) // 2, (w + 1) // 2)


def _folded(m: Any, x: Tensor) -> Tensor:
    return F.fold(F.unfold(m.conv(x), 3, padding=1), x.shape[2:], 3, padding=1)


def _shift(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    return torch.cat([torch.roll(y[:, :2], 2, 2), torch.roll(y[:, 2:], (-1, 1), (2, 3))], 1)


def _by_shape(m: Any, x: Tensor) -> Tensor:
    while x.shape[-1] > 6:
        x = m.conv(x)
    return x


def _by_value(m: Any, x: Tensor) -> Tensor:
    return m.conv(x) if m.conv.weight.abs().sum() > 0 and x.nan_to_num().abs().max() >= 0 else x


def _in_place(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    y.add_(1).relu_()
    y[:, 1:3].mul_(m.wide(x)[:, 1:3])
    y += x
    return y


def _other_view(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    flat = y.view(y.shape[0], -1)
    y += m.wide(x)
    return flat


def _nearest_by_hand(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    y = x[:, :, :, None, :, None].expand(n, c, h, 2, w, 3).reshape(n, c, 2 * h, 3 * w)
    return m.conv(y)


def _hybrid(m: Any, x: Tensor) -> Tensor:
    return m.conv(F.pad(F.max_pool2d(x, (3, 2), stride=(2, 1)), (2, -1, 0, 1)))


def _convnext(width: int = 4) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.depth(x).permute(0, 2, 3, 1)
        y = m.two(F.gelu(m.one(m.norm(y)))) * m.gamma
        return x + y.permute(0, 3, 1, 2)

    return Made(
        forward,
        depth=nn.Conv2d(width, width, 7, padding=3, groups=width),
        norm=nn.LayerNorm(width),
        one=nn.Linear(width, 4 * width),
        two=nn.Linear(4 * width, width),
        gamma=nn.Parameter(torch.ones(width)),
    )


def _dense(m: Any, x: Tensor) -> Tensor:
    maps = [x]
    for layer in (m.one, m.two, m.three):
        maps.append(layer(torch.cat(maps, 1)))
    return torch.cat(maps, 1)


def _atrous_pyramid(m: Any, x: Tensor) -> Tensor:
    whole = F.interpolate(m.whole(F.adaptive_avg_pool2d(x, 1)), x.shape[2:], mode="bilinear", align_corners=False)
    return m.last(torch.cat([m.one(x), m.two(x), whole], 1))


class _Twice(nn.Module):
    """The same layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.conv(x))


def _sequence(m: Any, x: Tensor) -> Tensor:
    return m.lstm(m.conv(x).transpose(1, 2))[0]


def _gathered(m: Any, x: Tensor) -> Tensor:
    order = torch.tensor([3, 0, 2, 1], device=x.device)
    return m.conv(x[:, order])[:, :, m.rows][..., torch.arange(0, x.shape[3], 3, device=x.device)]


S = nn.Sequential
IMAGE = (4, 18, 15)

HARD: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain": (lambda: S(conv(), nn.ReLU(), conv(), nn.BatchNorm2d(4), conv()), IMAGE),
    "dilation": (lambda: S(conv(dilation=2, padding=2), conv(dilation=3, padding=3)), IMAGE),
    "dilation beyond the border": (lambda: conv(dilation=8, padding=8), IMAGE),
    "unequal kernels and strides": (lambda: S(conv(kernel=(5, 2), stride=(2, 3)), conv(kernel=(1, 3))), IMAGE),
    "strided 1 x 1": (lambda: S(conv(padding=1), conv(kernel=1, stride=2), conv(padding=1)), IMAGE),
    "pooling, ceil": (lambda: S(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2, ceil_mode=True), conv(padding=1)), IMAGE),
    "pooling, dilated": (lambda: nn.MaxPool2d(3, 1, padding=1, dilation=2), IMAGE),
    "functional pooling": (lambda: Made(lambda m, x: F.avg_pool2d(F.max_pool2d(m.conv(x), 2), 2, 1), conv=conv()), IMAGE),
    "residual": (lambda: Made(lambda m, x: x + m.two(F.relu(m.one(x))), one=conv(padding=1), two=conv(padding=1)), IMAGE),
    "strided residual": (lambda: Made(lambda m, x: m.a(x) + m.b(x), a=conv(stride=2, padding=1), b=conv(kernel=1, stride=2)), IMAGE),
    "concat": (lambda: Made(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(kernel=1), b=conv(kernel=5, padding=2), c=conv(of=8)), IMAGE),
    "channels split, shuffled, grouped": (_shuffled, IMAGE),
    "half of the channels kept": (_kept_half, IMAGE),
    "dense block": (lambda: Made(_dense, one=conv(2, padding=1), two=conv(2, of=6, padding=1), three=conv(2, of=8, padding=1)), IMAGE),
    "squeeze and excite": (lambda: Made(_squeezed, conv=conv(padding=1), one=conv(kernel=1), two=conv(kernel=1), last=conv()), IMAGE),
    "transposed 4, 2": (lambda: S(conv(stride=2, padding=1), nn.ConvTranspose2d(4, 4, 4, 2, 1), conv()), IMAGE),
    "transposed 3, 2, output padding": (lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1), IMAGE),
    "transposed, gaps and dilation": (lambda: nn.ConvTranspose2d(4, 4, 2, 3, dilation=2, groups=2), IMAGE),
    "nearest": (lambda: S(conv(stride=2), nn.Upsample(scale_factor=2), conv(padding=1)), IMAGE),
    "nearest by a fraction": (lambda: S(nn.Upsample(scale_factor=1.7), conv()), IMAGE),
    "nearest-exact": (lambda: nn.Upsample(size=(11, 29), mode="nearest-exact"), IMAGE),
    "bilinear": (lambda: S(conv(stride=2), nn.Upsample(scale_factor=2, mode="bilinear"), conv(padding=1)), IMAGE),
    "bilinear, corners aligned": (lambda: nn.Upsample(size=(40, 9), mode="bilinear", align_corners=True), IMAGE),
    "bicubic": (lambda: S(nn.Upsample(size=(31, 10), mode="bicubic"), conv()), IMAGE),
    "bicubic, corners aligned": (lambda: nn.Upsample(size=(31, 33), mode="bicubic", align_corners=True), IMAGE),
    "bilinear, antialiased": (lambda: Made(lambda m, x: F.interpolate(x, (7, 20), mode="bilinear", antialias=True)), IMAGE),
    "linear, 1-D": (lambda: S(nn.Conv1d(2, 2, 3), nn.Upsample(scale_factor=3, mode="linear")), (2, 17)),
    "trilinear, 3-D": (lambda: nn.Upsample(size=(7, 12, 5), mode="trilinear"), (2, 5, 6, 7)),
    "U-Net skip": (_u_net, (4, 16, 12)),
    "pixel shuffle": (lambda: S(conv(16, stride=2), nn.PixelShuffle(2), conv(padding=1)), IMAGE),
    "pixel unshuffle": (lambda: S(nn.PixelUnshuffle(3), conv(of=36, padding=1)), (4, 18, 15)),
    "adaptive 16 to 6": (lambda: S(conv(padding=1), nn.AdaptiveAvgPool2d((6, 4)), conv(padding=1)), (4, 16, 15)),
    "adaptive largest": (lambda: nn.AdaptiveMaxPool2d((5, 7)), IMAGE),
    "global pooling and linear": (lambda: S(conv(stride=3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)), IMAGE),
    "flatten and linear": (lambda: S(conv(kernel=1, stride=4), nn.Flatten(), nn.Linear(80, 3)), IMAGE),
    "flatten": (lambda: S(conv(kernel=1, stride=4), nn.Flatten()), IMAGE),
    "reflect padding": (lambda: S(conv(padding=1, padding_mode="reflect"), nn.ReflectionPad2d((3, 1, 2, 0)), conv()), IMAGE),
    "replicate padding": (lambda: S(nn.ReplicationPad2d((3, 1, 2, 0)), conv()), IMAGE),
    "circular padding": (lambda: S(conv(padding=1, padding_mode="circular"), conv(padding=2, kernel=5, padding_mode="circular")), IMAGE),
    "uneven padding": (lambda: S(nn.ZeroPad2d((2, 0, 1, 3)), conv(stride=2), conv(5, 5, padding="same"), nn.ZeroPad2d((1, 2, 2, 1)), conv(of=5, kernel=4)), IMAGE),
    "negative padding": (lambda: Made(_hybrid, conv=conv()), IMAGE),
    "1-D": (lambda: S(nn.Conv1d(3, 3, 3, dilation=4, padding=4), nn.MaxPool1d(2), nn.AvgPool1d(3, 1), nn.Conv1d(3, 3, 5, 2)), (3, 60)),
    "3-D": (lambda: S(nn.Conv3d(2, 2, (1, 3, 3), padding=(0, 1, 1)), nn.MaxPool3d(2), nn.Conv3d(2, 2, 3, padding=1)), (2, 8, 10, 6)),
    "channels last, layer norm": (_convnext, IMAGE),
    "group norm": (lambda: S(conv(), nn.GroupNorm(2, 4), conv()), IMAGE),
    "instance norm": (lambda: S(conv(), nn.InstanceNorm2d(4), conv()), IMAGE),
    "layer norm over the map": (lambda: S(conv(), nn.LayerNorm([4, 16, 13]), conv()), IMAGE),
    "local response norm": (lambda: S(conv(), nn.LocalResponseNorm(3), conv()), IMAGE),
    "in place": (lambda: Made(_in_place, conv=conv(padding=1), wide=conv(kernel=5, padding=2)), IMAGE),
    "written after a view was taken": (lambda: Made(_other_view, conv=conv(padding=1), wide=conv(kernel=5, padding=2)), IMAGE),
    "slices written": (lambda: Made(_written, conv=conv(stride=2), last=conv()), IMAGE),
    "added into a slice": (lambda: Made(_written_in_windows, conv=conv(padding=1)), IMAGE),
    "strided slices": (lambda: Made(_focus, conv=conv(of=16, padding=1)), (4, 18, 14)),
    "cut out": (lambda: Made(lambda m, x: m.conv(m.conv(x)[:, :, 3:-2, 1:])[..., 1], conv=conv(padding=1)), IMAGE),
    "flip": (lambda: Made(lambda m, x: m.conv(x).flip(2).flip((2, 3)) + m.conv(x).flip(3), conv=conv()), IMAGE),
    "roll": (lambda: Made(_shift, conv=conv(padding=1)), IMAGE),
    "attention": (lambda: Made(_attention, cut=conv(8, kernel=4, stride=4)), (4, 16, 12)),
    "attention in windows": (lambda: Made(_windowed_attention, cut=conv(8, 2, stride=2), attention=nn.MultiheadAttention(8, 2, batch_first=True)), (4, 16, 12)),
    "softmax over space": (lambda: Made(lambda m, x: x * m.conv(x).flatten(2).softmax(-1).view_as(x), conv=conv(padding=1)), IMAGE),
    "softmax over a row": (lambda: Made(lambda m, x: m.conv(x).softmax(3), conv=conv(padding=1)), IMAGE),
    "control flow on shape": (lambda: Made(_by_shape, conv=conv()), IMAGE),
    "control flow on data": (lambda: Made(_by_value, conv=conv()), IMAGE),
    "einsum": (lambda: Made(lambda m, x: torch.einsum("nchw,dc->ndhw", m.conv(x), m.weight), conv=conv(), weight=nn.Parameter(torch.ones(3, 4))), IMAGE),
    "einsum over columns": (lambda: Made(lambda m, x: torch.einsum("nchw,nchv->nhwv", m.conv(x), x[:, :, :-2]), conv=conv()), IMAGE),
    "unfold as convolution": (lambda: Made(_unfolded, weight=nn.Parameter(torch.ones(5, 36))), IMAGE),
    "unfold and fold": (lambda: Made(_folded, conv=conv(padding=1)), IMAGE),
    "windows of a tensor": (lambda: Made(lambda m, x: m.conv(x).unfold(2, 3, 2).mean(-1), conv=conv()), IMAGE),
    "Fourier": (lambda: Made(lambda m, x: torch.fft.irfft2(torch.fft.rfft2(m.conv(x)) * 2, s=(16, 13)), conv=conv()), IMAGE),
    "Fourier along rows": (lambda: Made(lambda m, x: torch.fft.fft(m.conv(x), dim=3).real, conv=conv()), IMAGE),
    "enlarged by hand": (lambda: Made(_nearest_by_hand, conv=conv()), (4, 9, 7)),
    "repeated rows": (lambda: Made(lambda m, x: m.conv(x.repeat_interleave(2, 2).repeat(1, 1, 1, 2)), conv=conv()), IMAGE),
    "running sum": (lambda: Made(lambda m, x: m.conv(x).cumsum(2), conv=conv()), IMAGE),
    "rows sorted": (lambda: Made(lambda m, x: m.conv(x).mean((1, 2)), conv=conv()), IMAGE),
    "atrous pyramid": (lambda: Made(_atrous_pyramid, whole=conv(kernel=1), one=conv(kernel=1), two=conv(padding=4, dilation=4), last=conv(of=12, padding=1)), IMAGE),
    "blur and subtract": (lambda: Made(lambda m, x: x - F.conv2d(x, m.weight, padding=2, groups=4), weight=torch.ones(4, 1, 5, 5)), IMAGE),
    "chosen places": (lambda: Made(_gathered, conv=conv(padding=1), rows=torch.tensor([2, 3, 5, 9])), IMAGE),
    "stack and mean": (lambda: Made(lambda m, x: torch.stack([m.a(x), m.b(x)], 1).mean(1), a=conv(padding=1), b=conv(padding=3, dilation=3)), IMAGE),
    "where": (lambda: Made(lambda m, x: torch.where(m.mask, m.conv(x), x), conv=conv(padding=1), mask=torch.tensor([True, False, True, False]).view(1, 4, 1, 1)), IMAGE),
    "bands of channels": (lambda: Made(lambda m, x: torch.cat([f(y) for f, y in zip((m.a, m.b), x.split((1, 3), 1), strict=True)], 1), a=conv(1, of=1, padding=1), b=conv(3, 5, of=3, padding=2)), IMAGE),
    "called twice": (_Twice, IMAGE),
    "recurrent": (lambda: Made(_sequence, conv=nn.Conv1d(3, 4, 3), lstm=nn.LSTM(4, 5, batch_first=True)), (3, 12)),
}  # fmt: skip
