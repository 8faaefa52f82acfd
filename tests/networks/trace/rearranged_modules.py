"""Modules that cut maps, merge their axes and put them together again, each small: windows, grids, patches, shuffles of pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .hard_modules import Made, conv


def cut(x: Tensor, size: int) -> Tensor:
    """N H W C -> (N windows) (size size) C, as in Swin."""
    n, h, w, c = x.shape
    return x.view(n, h // size, size, w // size, size, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, size * size, c)


def put_together(windows: Tensor, size: int, h: int, w: int) -> Tensor:
    """(N windows) (size size) C -> N H W C."""
    parts = windows.view(-1, h // size, w // size, size, size, windows.shape[-1])
    return parts.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, windows.shape[-1])


def comb(x: Tensor, size: int) -> Tensor:
    """N H W C -> (N places) (size size) C: pixels far apart together, as in MaxViT's grid attention."""
    n, h, w, c = x.shape
    return x.view(n, size, h // size, size, w // size, c).permute(0, 2, 4, 1, 3, 5).reshape(-1, size * size, c)


def uncomb(tokens: Tensor, size: int, h: int, w: int) -> Tensor:
    """(N places) (size size) C -> N H W C."""
    parts = tokens.view(-1, h // size, w // size, size, size, tokens.shape[-1])
    return parts.permute(0, 3, 1, 4, 2, 5).reshape(-1, h, w, tokens.shape[-1])


def attended(tokens: Tensor) -> Tensor:
    """Each token with all of its window."""
    return tokens + (tokens @ tokens.transpose(-2, -1)).softmax(-1) @ tokens


def _swin(shift: int, mix: str) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.cut(x).permute(0, 2, 3, 1)
        h, w = y.shape[1:3]
        y = torch.roll(y, (-shift, -shift), (1, 2)) if shift else y
        windows = cut(y, 4)
        if mix == "attention":
            windows = windows + m.attention(windows, windows, windows, need_weights=False)[0]
        elif mix == "perceptron":
            windows = windows + m.two(F.gelu(m.one(windows)))
        elif mix == "mixed tokens":
            windows = m.tokens(windows.transpose(1, 2)).transpose(1, 2)
        y = put_together(windows, 4, h, w)
        y = torch.roll(y, (shift, shift), (1, 2)) if shift else y
        return y.permute(0, 3, 1, 2)

    return Made(
        forward,
        cut=conv(padding=1),
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
        one=nn.Linear(4, 8),
        two=nn.Linear(8, 4),
        tokens=nn.Linear(16, 16),
    )


def _swin_stage(m: Any, x: Tensor) -> Tensor:
    """Two blocks, the second shifted under a mask, then patches merged, then a block on the smaller map."""
    y = m.patches(x).permute(0, 2, 3, 1)
    for block, shift in ((m.first, 0), (m.second, 1)):
        h, w = y.shape[1:3]
        z = torch.roll(block(y), (-shift, -shift), (1, 2)) if shift else block(y)
        windows = cut(z, 2)
        scores = windows @ windows.transpose(1, 2)
        if shift:
            mask = cut(m.regions, 2).squeeze(-1)
            mask = (mask[:, None] != mask[:, :, None]).to(scores.dtype) * -100
            scores = (scores.view(-1, len(mask), 4, 4) + mask).view(-1, 4, 4)
        z = put_together(scores.softmax(-1) @ windows, 2, h, w)
        y = y + (torch.roll(z, (shift, shift), (1, 2)) if shift else z)
    y = torch.cat([y[:, 0::2, 0::2], y[:, 1::2, 0::2], y[:, 0::2, 1::2], y[:, 1::2, 1::2]], -1)
    y = m.merged(y)
    h, w = y.shape[1:3]
    return (y + put_together(attended(cut(y, 2)), 2, h, w)).permute(0, 3, 1, 2)


def _regions(h: int, w: int) -> Tensor:
    rows, columns = torch.arange(h), torch.arange(w)
    return ((rows >= h - 1).long()[:, None] * 2 + (columns >= w - 1).long()[None]).view(1, h, w, 1).float()


def _maxvit(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x).permute(0, 2, 3, 1)
    h, w = y.shape[1:3]
    y = put_together(attended(cut(y, 2)), 2, h, w)
    return uncomb(attended(comb(y, 2)), 2, h, w).permute(0, 3, 1, 2)


def _coatnet(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    n, c, h, w = y.shape
    tokens = y.flatten(2).transpose(1, 2)
    return y + m.out(attended(m.norm(tokens))).transpose(1, 2).reshape(n, c, h, w)


def _mobilevit(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    n, c, h, w = y.shape
    patches = y.reshape(n * c * h // 2, 2, w // 2, 2).transpose(1, 2).reshape(n, c, h * w // 4, 4)
    tokens = attended(patches.transpose(1, 3).reshape(n * 4, h * w // 4, c))
    patches = tokens.view(n, 4, h * w // 4, c).transpose(1, 3)
    y = patches.reshape(n * c * h // 2, w // 2, 2, 2).transpose(1, 2).reshape(n, c, h, w)
    return m.last(y)


def _halo(m: Any, x: Tensor) -> Tensor:
    """Each window looks at keys beyond its border, as in HaloNet."""
    n, c, h, w = x.shape
    queries = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    keys = F.unfold(m.conv(x), 4, padding=1, stride=2).view(n, c, 16, -1).permute(0, 3, 2, 1).reshape(-1, 16, c)
    out = (queries @ keys.transpose(1, 2)).softmax(-1) @ keys
    return put_together(out, 2, h, w).permute(0, 3, 1, 2)


def _axial(m: Any, x: Tensor) -> Tensor:
    """Rows, then columns, as batches of their own."""
    n, c, h, w = x.shape
    rows = attended(m.conv(x).permute(0, 2, 3, 1).reshape(n * h, w, c)).view(n, h, w, c)
    return (rows.permute(0, 3, 1, 2) + m.other(x)).contiguous()


def _by_hand(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    n, c, h, w = y.shape
    y = y.view(n, c // 6, 3, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 6, 3 * h, 2 * w)
    return m.last(y)


def _fourier_rows(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    return y + torch.fft.irfft(torch.fft.rfft(y, dim=3), n=y.shape[3], dim=3)


def _fourier_in_windows(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x).permute(0, 2, 3, 1)
    h, w = y.shape[1:3]
    windows = torch.fft.irfft(torch.fft.rfft(cut(y, 4), dim=1), n=16, dim=1)
    return put_together(windows, 4, h, w).permute(0, 3, 1, 2)


def _written_in_windows(m: Any, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    y = m.conv(x)
    out.view(*x.shape[:2], 2, 4, 12)[:, :, 1] = y[:, :, 4:]
    out[:, :, :4] += x[:, :, :4]
    return out


def _flat(how: Callable[[Tensor], Tensor], w: int = 12) -> Callable[[], nn.Module]:
    """A function of the flattened map, between two convolutions."""

    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        flat = how(y.flatten(2))
        return m.last(flat.unflatten(2, (-1, w)))

    return lambda: Made(forward, conv=conv(padding=1), last=conv(padding=1))


def _with_class_token(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    tokens = m.conv(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([m.token.expand(n, -1, -1), tokens], 1)
    tokens = tokens + m.one(tokens)
    return tokens[:, 1:].transpose(1, 2).reshape(n, c, h, w)


def _sequence_in_windows(m: Any, x: Tensor) -> Tensor:
    n, c, length = x.shape
    windows = attended(m.conv(x).view(n, c, length // 5, 5).permute(0, 2, 3, 1).reshape(-1, 5, c))
    return windows.view(n, length, c).transpose(1, 2)


def _volume_in_windows(m: Any, x: Tensor) -> Tensor:
    n, c, t, h, w = x.shape
    y = torch.roll(m.conv(x), (-1, -1, -1), (2, 3, 4))
    y = y.view(n, c, t // 2, 2, h // 2, 2, w // 3, 3).permute(0, 2, 4, 6, 3, 5, 7, 1).reshape(-1, 12, c)
    y = attended(y).view(n, t // 2, h // 2, w // 3, 2, 2, 3, c).permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(n, c, t, h, w)
    return torch.roll(y, (1, 1, 1), (2, 3, 4))


def _alone(how: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Made(lambda m, x: how(m.conv(x)), conv=conv(padding=1))


IMAGE = (4, 8, 12)

REARRANGED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "windows and back": (lambda: _swin(0, "nothing"), IMAGE),
    "windows, perceptron": (lambda: _swin(0, "perceptron"), IMAGE),
    "windows, attention": (lambda: _swin(0, "attention"), IMAGE),
    "windows, tokens mixed": (lambda: _swin(0, "mixed tokens"), IMAGE),
    "shifted windows and back": (lambda: _swin(2, "nothing"), IMAGE),
    "shifted windows, perceptron": (lambda: _swin(1, "perceptron"), IMAGE),
    "shifted windows, attention": (lambda: _swin(2, "attention"), IMAGE),
    "Swin stage": (lambda: Made(_swin_stage, patches=conv(4, 2, stride=2), first=nn.LayerNorm(4), second=nn.LayerNorm(4), merged=nn.Linear(16, 8), regions=_regions(8, 12)), (4, 16, 24)),
    "MaxViT, windows and grid": (lambda: Made(_maxvit, conv=conv(padding=1)), IMAGE),
    "CoAtNet, attention over the flattened map": (lambda: Made(_coatnet, conv=conv(stride=2, padding=1), norm=nn.LayerNorm(4), out=nn.Linear(4, 4)), IMAGE),
    "MobileViT, patches unfolded": (lambda: Made(_mobilevit, conv=conv(padding=1), last=conv(padding=1)), IMAGE),
    "HaloNet, keys beyond the window": (lambda: Made(_halo, conv=conv(kernel=1)), IMAGE),
    "rows as a batch": (lambda: Made(_axial, conv=conv(padding=1), other=conv(padding=1)), IMAGE),
    "fold of unfold": (_alone(lambda y: F.fold(F.unfold(y, 3, padding=1), (8, 12), 3, padding=1)), IMAGE),
    "fold of unfold, patches": (_alone(lambda y: F.fold(F.unfold(y, 2, stride=2), (8, 12), 2, stride=2)), IMAGE),
    "fold of unfold, patches mixed": (lambda: Made(lambda m, x: F.fold(m.mix(F.unfold(x, 4, stride=2, padding=1).transpose(1, 2)).transpose(1, 2), (8, 12), 4, stride=2, padding=1), mix=nn.Linear(64, 64)), IMAGE),
    "roll of the flattened map": (_flat(lambda y: y.roll(5, -1)), IMAGE),
    "roll without dimensions": (lambda: Made(lambda m, x: m.last(torch.stack([sample.roll(7) for sample in m.conv(x).unbind(0)])), conv=conv(padding=1), last=conv(padding=1)), IMAGE),
    "flattened map, every second": (_flat(lambda y: y[:, :, 1::2], 6), IMAGE),
    "flattened map, every fifth": (_flat(lambda y: y[:, :, 3::5][:, :, :18], 6), IMAGE),
    "flattened map, halves exchanged": (_flat(lambda y: torch.cat([y[:, :, 30:], y[:, :, :30]], 2)), IMAGE),
    "flattened map, in reverse": (_flat(lambda y: y.flip(2)), IMAGE),
    "flattened map, picked": (_flat(lambda y: y[:, :, torch.arange(0, 960, 10, device=y.device) % 96]), IMAGE),
    "flattened map, other width": (_flat(lambda y: y, 8), IMAGE),
    "height and width exchanged by a reshape": (_alone(lambda y: y.reshape(-1, 4, 12, 8)), IMAGE),
    "height into channels": (_alone(lambda y: y.permute(0, 2, 1, 3).reshape(-1, 4, 8, 12)), IMAGE),
    "width into channels, a convolution": (lambda: Made(lambda m, x: m.last(m.conv(x).permute(0, 3, 1, 2).reshape(-1, 4, 12, 8)), conv=conv(padding=1), last=conv(padding=1)), IMAGE),
    "pixel shuffle by hand, unequal": (lambda: Made(_by_hand, conv=conv(12, padding=1), last=conv(of=2, padding=1)), IMAGE),
    "class token": (lambda: Made(_with_class_token, conv=conv(padding=1), one=nn.Linear(4, 4), token=nn.Parameter(torch.zeros(1, 1, 4))), IMAGE),
    "Fourier along rows": (lambda: Made(_fourier_rows, conv=conv(padding=1)), IMAGE),
    "Fourier in windows": (lambda: Made(_fourier_in_windows, conv=conv(padding=1)), IMAGE),
    "written through a view in windows": (lambda: Made(_written_in_windows, conv=conv(padding=1)), IMAGE),
    "windows of a sequence": (lambda: Made(_sequence_in_windows, conv=nn.Conv1d(4, 4, 3, padding=1)), (4, 20)),
    "windows of a volume": (lambda: Made(_volume_in_windows, conv=nn.Conv3d(2, 2, 3, padding=1)), (2, 4, 6, 9)),
}  # fmt: skip


class Chain(nn.Module):
    """Steps on a map N C H W, each a name and three numbers; a step that does not fit the map is left out."""

    def __init__(self, steps: list[tuple[str, int, int, int]]) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        for name, one, two, three in self.steps:
            x = STEPS[name](x, one, two, three)
        return x


def _convolved(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    kernel, stride, padding = 2 * (kernel % 2) + 1, 1 + stride % 2, padding % 2
    if min(x.shape[2:]) < kernel:
        return x
    return F.conv2d(x, x.new_full((x.shape[1], x.shape[1], kernel, kernel), 0.1), stride=stride, padding=padding)


def _depthwise(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    if min(x.shape[2:]) < 3:
        return x
    return F.conv2d(x, x.new_full((x.shape[1], 1, 3, 3), 0.1), padding=padding % 2, groups=x.shape[1])


def _pooled(x: Tensor, kernel: int, stride: int, _: int) -> Tensor:
    return F.avg_pool2d(x, 2, 1 + stride % 2) if min(x.shape[2:]) > 1 else x


def _rolled(x: Tensor, by: int, dim: int, _: int) -> Tensor:
    return x.roll(by - 4, 1 + dim % 3)


def _flipped(x: Tensor, dim: int, _: int, __: int) -> Tensor:
    return x.flip(1 + dim % 3)


def _strided(x: Tensor, start: int, dim: int, step: int) -> Tensor:
    dim, step = 1 + dim % 3, 1 + step % 3
    return x if x.shape[dim] < 3 else x[(slice(None),) * dim + (slice(start % 2, None, step),)]


def _turned(x: Tensor, order: int, _: int, __: int) -> Tensor:
    orders = ((1, 2, 3), (1, 3, 2), (2, 1, 3), (2, 3, 1), (3, 1, 2), (3, 2, 1))
    return x.permute(0, *orders[order % 6])


def _reshaped(x: Tensor, one: int, two: int, _: int) -> Tensor:
    total = x.shape[1] * x.shape[2] * x.shape[3]
    channels = [number for number in range(1, total + 1) if total % number == 0]
    first = channels[one % len(channels)]
    heights = [number for number in channels if (total // first) % number == 0]
    height = heights[two % len(heights)]
    return x.reshape(len(x), first, height, total // first // height)


def _in_windows(x: Tensor, size: int, kind: int, mix: int) -> Tensor:
    c, h, w = x.shape[1:]
    size = 2 + size % 2
    if h % size or w % size:
        return x
    to, back = ((cut, put_together), (comb, uncomb))[kind % 2]
    tokens = to(x.permute(0, 2, 3, 1), size)
    if mix % 3 == 1:
        tokens = tokens @ tokens.new_full((c, c), 0.2)
    elif mix % 3 == 2:
        tokens = attended(tokens)
    return back(tokens, size, h, w).permute(0, 3, 1, 2)


def _flattened(x: Tensor, how: int, by: int, _: int) -> Tensor:
    n, c, h, w = x.shape
    if h * w < 2:
        return x
    flat = x.flatten(2)
    by %= h * w
    if how % 5 == 0:
        flat = flat.roll(by, -1)
    elif how % 5 == 1:
        flat = flat.flip(-1)
    elif how % 5 == 2:
        flat = torch.cat([flat[:, :, by:], flat[:, :, :by]], 2)
    elif how % 5 == 3:
        flat = flat[:, :, (torch.arange(h * w, device=x.device) * 5 + by) % (h * w)]
    else:
        flat = flat[:, :, : (h * w) // 2 * 2 : 2]
        return flat.unflatten(2, (-1, w // 2)) if w % 2 == 0 else flat.unsqueeze(2)
    return flat.view(n, c, h, w)


def _folded(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    kernel, stride = 2 + kernel % 2, 1 + stride % 2
    if min(x.shape[2:]) < kernel:
        return x
    columns = F.unfold(x, kernel, padding=padding % 2, stride=stride)
    return F.fold(columns, x.shape[2:], kernel, padding=padding % 2, stride=stride)


def _padded(x: Tensor, mode: int, before: int, after: int) -> Tensor:
    pads = (before % 2, after % 2, after % 3 % 2, before % 3 % 2)
    return F.pad(x, pads, mode=("constant", "circular", "replicate")[mode % 3])


def _gated(x: Tensor, dim: int, _: int, __: int) -> Tensor:
    return x * x.mean(1 + dim % 3, keepdim=True)


def _shuffled(x: Tensor, factor: int, back: int, _: int) -> Tensor:
    if back % 2:
        return F.pixel_unshuffle(x, 2) if x.shape[2] % 2 == 0 == x.shape[3] % 2 else x
    return F.pixel_shuffle(x, 2) if x.shape[1] % 4 == 0 else x


def _joined(x: Tensor, by: int, dim: int, how: int) -> Tensor:
    other = x.roll(by, 1 + dim % 3)
    return x + other if how % 2 else torch.cat([x, other], 1 + how % 3)[:, : x.shape[1] * 2]


def _written(x: Tensor, dim: int, start: int, _: int) -> Tensor:
    out = x.clone()
    dim = 1 + dim % 3
    length = x.shape[dim] // 2
    out.narrow(dim, start % 2, length).copy_(x.narrow(dim, x.shape[dim] - length, length))
    return out


STEPS: dict[str, Callable[[Tensor, int, int, int], Tensor]] = {
    "convolution": _convolved,
    "depthwise": _depthwise,
    "pool": _pooled,
    "roll": _rolled,
    "flip": _flipped,
    "slice": _strided,
    "permute": _turned,
    "reshape": _reshaped,
    "windows": _in_windows,
    "flat": _flattened,
    "fold": _folded,
    "pad": _padded,
    "gate": _gated,
    "shuffle": _shuffled,
    "join": _joined,
    "write": _written,
}
