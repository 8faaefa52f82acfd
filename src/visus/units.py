"""Numbers as text and back: counts, bytes, durations, percentages, shapes and sizes; and nouns for samples and splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from visus.errors import UsageError

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def write_count(number: float) -> str:
    """A count with three significant digits and a decimal prefix.

    >>> write_count(9_633_856), write_count(512), write_count(1_000_000)
    ('9.63 M', '512', '1.00 M')
    """
    for size, letter in _DECIMAL:
        if number >= size * 0.9995:
            return f"{_three_digits(number / size)} {letter}"
    return f"{number:.0f}"


def write_bytes(num_bytes: float) -> str:
    """A number of bytes in binary units.

    >>> write_bytes(47_040_000), write_bytes(100)
    ('44.9 MiB', '100 bytes')
    """
    for size, unit in _BINARY:
        if num_bytes >= size:
            return f"{_three_digits(num_bytes / size)} {unit}"
    return f"{num_bytes:.0f} bytes"


def write_byte_sum(terms: Mapping[str, int]) -> str:
    """A sum of bytes: the total, then each term with its name, all in one unit and rounded so that they add up.

    It has one decimal if the total is below 100 units, or if a term would read 0 without it.

    >>> write_byte_sum({"weights": 46_830_000, "outputs": 1_540_000_000, "buffers": 800_000})
    '1,514 MiB = 45 MiB weights + 1,468 MiB outputs + 1 MiB buffers'
    >>> write_byte_sum({"weights": 400, "outputs": 205_000_000, "buffers": 410_000})
    '195.9 MiB = less than 0.1 MiB weights + 195.5 MiB outputs + 0.4 MiB buffers'
    """
    total = sum(terms.values())
    size, unit = next(
        ((size, unit) for size, unit in _BINARY if total >= _MIN_OF_SUM * size and total >= _MIN_BYTES), (1, "bytes")
    )
    is_coarse = total < 100 * size or any(0 < term < size / 2 for term in terms.values())
    decimals = 1 if is_coarse and size > 1 else 0
    before, so_far, texts = 0, 0, []
    for name, term in terms.items():
        so_far += term
        rounded = round(so_far / size * 10**decimals)
        text = _scaled(rounded - before, decimals) if rounded > before or not term else f"less than {_scaled(1, decimals)}"
        texts.append(f"{text} {unit} {name}")
        before = rounded
    return f"{_scaled(before, decimals)} {unit} = {' + '.join(texts)}"


def _scaled(number: int, decimals: int) -> str:
    return f"{number / 10**decimals:,.{decimals}f}"


_MIN_OF_SUM: Final = 10  # of a unit, so that numbers of it have three digits
_MIN_BYTES: Final = 100 * 2**10  # fewer are written exactly


def write_duration(seconds: float) -> str:
    """A duration in at most two units.

    >>> write_duration(0.25), write_duration(12.3), write_duration(187), write_duration(7300)
    ('0.25 s', '12 s', '3 min 07 s', '2 h 01 min')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"


def read_duration(text: str) -> float:
    """Seconds in a duration such as ``90``, ``90s``, ``5m``, ``1h30m``, ``7d``, ``2w``.

    Raises:
        UsageError: the text is not a duration, or is zero.

    >>> read_duration("1h30m"), read_duration("90"), read_duration("7d")
    (5400.0, 90.0, 604800.0)
    """
    compact = text.strip().lower().replace(" ", "").replace("min", "m")
    if re.fullmatch(r"\d+(\.\d+)?", compact):
        seconds = float(compact)
    elif re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", compact):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([smhdw])", compact))
    else:
        raise UsageError(f"{text!r} is not a duration. Write seconds, or a number with s, m or h, such as 90s, 5m or 1h30m.")
    if seconds <= 0:
        raise UsageError(f"a duration must be longer than zero, not {text!r}.")
    return seconds


def read_bytes(text: str) -> int:
    """Bytes in a size such as ``500MB``, ``20GiB`` or ``1.5T``. Prefixes are decimal; those with an i are binary.

    Raises:
        UsageError: the text is not a size.

    >>> read_bytes("20GiB"), read_bytes("1.5 kB"), read_bytes("0")
    (21474836480, 1500, 0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]i?)?b?", text.strip().lower().replace(" ", ""))
    if match is None:
        raise UsageError(f"{text!r} is not a size. Write bytes, or a number with a unit, such as 500MB or 20GiB.")
    return round(float(match[1]) * _SIZES[match[2] or ""])


def write_quotient(numerator: int, denominator: int) -> str:
    """A quotient with two decimals, or with as many as show that it is not a whole number.

    >>> write_quotient(29, 2), write_quotient(28, 2), write_quotient(-1, 3), write_quotient(999, 1000)
    ('14.5', '14', '-0.33', '0.999')
    """
    whole, rest = divmod(abs(numerator), denominator)
    sign = "-" if numerator < 0 else ""
    if rest == 0:
        return f"{sign}{whole}"
    texts = (f"{rest / denominator:.{digits}f}" for digits in range(2, 13))
    decimals = next((text for text in texts if float(text) not in (0.0, 1.0)), "0.")
    return f"{sign}{whole}{decimals[1:].rstrip('0')}"


def write_share(share: float, digits: int = 1) -> str:
    """A fraction, 0 to 1, as a percentage.

    >>> write_share(0.9345)
    '93.5 %'
    """
    return f"{100 * share:.{digits}f} %"


def write_shape(shape: Iterable[int]) -> str:
    """Axis lengths joined by ``x``.

    >>> write_shape((3, 32, 32))
    '3 x 32 x 32'
    """
    return " x ".join(str(length) for length in shape)


@dataclass(frozen=True)
class RankWords:
    """The nouns for samples with a given number of spatial axes.

    Args:
        sample: noun for the sample.
        place: noun for one position in it.
        unit: unit of lengths along its axes.
    """

    sample: str
    place: str
    unit: str


_RANK_WORDS = {
    1: RankWords("signal", "point", "points"),
    2: RankWords("image", "pixel", "px"),
    3: RankWords("volume", "voxel", "voxels"),
}


def rank_words(rank: int) -> RankWords:
    """The nouns for samples with ``rank`` spatial axes (1, 2 or 3).

    >>> [rank_words(rank).sample for rank in (1, 2, 3)], rank_words(3).unit
    (['signal', 'image', 'volume'], 'voxels')
    """
    return _RANK_WORDS[rank]


def with_article(noun: str) -> str:
    """The noun with ``an`` before a vowel, else ``a``.

    >>> with_article("image"), with_article("signal")
    ('an image', 'a signal')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def write_size(lengths: Iterable[int | str]) -> str:
    """Axis lengths of a sample with their unit: points for one axis, px for two, voxels for three.

    >>> write_size((28, 20)), write_size([8000]), write_size([1]), write_size((1, 2, 2))
    ('28 x 20 px', '8000 points', '1 point', '1 x 2 x 2 voxels')
    """
    texts = [str(length) for length in lengths]
    words = rank_words(len(texts))
    return f"{' x '.join(texts)} {words.place if texts == ['1'] else words.unit}"


def write_number_of(number: int, noun: str, plural: str = "") -> str:
    """A count with its noun, in the singular or the plural.

    >>> write_number_of(1, "image"), write_number_of(1200, "class", "classes")
    ('1 image', '1,200 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _three_digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


_SPLIT_NAMES: Final = {"train": "training", "val": "validation"}


def split_name(split: str) -> str:
    """The noun for a split in a sentence.

    >>> split_name("val"), split_name("fold-3")
    ('validation', 'fold-3')
    """
    return _SPLIT_NAMES.get(split, split)


def write_split(split: str) -> str:
    """A split as a phrase with its article.

    >>> write_split("val"), write_split("all")
    ('the validation split', 'the whole data')
    """
    return "the whole data" if split == "all" else f"the {split_name(split)} split"
