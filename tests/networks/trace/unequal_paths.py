"""Random designs in which paths of unequal stride meet, and windows follow; what they read is left to others."""

from __future__ import annotations

import random
from collections.abc import Iterator

from visus.design import Design, parse
from visus.errors import DesignError

LENGTHS = (13, 16, 21, 24, 27, 29, 32, 37, 40, 48)


def _window(draw: random.Random, is_wide: bool) -> str:
    kernel, stride = draw.choice((1, 2, 3, 3, 4, 5, 7)), draw.choice((1, 2, 2, 3, 4, 5) if is_wide else (1, 1, 1, 2))
    padding, dilation = draw.randint(0, kernel // 2), draw.choice((1, 1, 1, 2, 3))
    kind = draw.choice(
        ("conv", "conv", "conv", "maxpool", "avgpool", "upsample", "linear", "transposed", "blurpool", "relu")
    )
    if kind in ("maxpool", "avgpool"):
        return f"{kind}({max(2, kernel)}, stride={stride}, padding={min(padding, max(2, kernel) // 2)})"
    if kind == "upsample":
        return f"upsample({draw.choice((2, 3))})"
    if kind == "linear":
        return f'upsample({draw.choice((2, 3))}, mode="linear")'
    if kind == "transposed":
        return f"transposed(2, {max(kernel, stride)}, stride={stride}, padding={draw.randint(0, 1)})"
    if kind == "blurpool":
        return f"blurpool({draw.choice((3, 5))}, stride={draw.choice((1, 2, 3))})"
    if kind == "relu":
        return "relu"
    return f"conv(2, {kernel}, stride={stride}, padding={padding}, dilation={dilation})"


def _path(draw: random.Random) -> str:
    return ", ".join(_window(draw, True) for _ in range(draw.randint(1, 3)))


def _length(text: str, channels: int, length: int) -> int | None:
    """The length of what comes out; None where the design is impossible."""
    try:
        return parse(text).output_shape((channels, length))[-1]
    except DesignError:
        return None


def _joined(draw: random.Random, channels: int, length: int) -> tuple[str, int] | None:
    """Two or three paths of unequal windows that end in one length, and that length."""
    by_length: dict[int, list[str]] = {}
    is_residual, num_paths = draw.random() < 0.25, draw.choice((2, 2, 3))
    for _ in range(60):
        text = f"residual({_path(draw)})" if is_residual else _path(draw)
        found = _length(text, channels, length)
        if found is None or not 3 <= found <= 200:
            continue
        if is_residual:
            return text, found
        by_length.setdefault(found, []).append(text)
        paths = by_length[found]
        if len(paths) >= num_paths and len(set(paths)) > 1:
            return f"concat({', '.join(f'[{path}]' for path in paths[-num_paths:])})", found
    return None


def unequal_design(seed: int) -> tuple[Design, tuple[int, int]] | None:
    """A design with one or two joins, each followed by one to three windows, and an input of one channel; None where none came out."""
    draw = random.Random(seed)
    length = draw.choice(LENGTHS)
    parts: list[str] = []
    channels, now = 1, length
    for _ in range(draw.choice((1, 1, 2))):
        join = _joined(draw, channels, now)
        if join is None:
            return None
        parts.append(join[0])
        parts += [_window(draw, False) for _ in range(draw.randint(1, 3))]
        text = ", ".join(parts)
        try:
            channels, now = parse(text).output_shape((1, length))
        except DesignError:
            return None
        if not 1 <= now <= 200:
            return None
    return parse(", ".join(parts)), (1, length)


def unequal_designs(first: int, last: int) -> Iterator[tuple[int, Design, tuple[int, int]]]:
    """Those of seeds from ``first`` on that come out, with their seeds."""
    for seed in range(first, last):
        found = unequal_design(seed)
        if found is not None:
            yield seed, *found
