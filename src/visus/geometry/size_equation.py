"""``O = (W - K + 2P)/S + 1`` solved for any letter, in whole numbers: the range of all solutions, in constant time.

With a dilation, K is the span of the kernel, ``K_eff = dilation*(K - 1) + 1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from visus.errors import GeometryError, join_messages

LETTERS: Final = {"input_size": "W", "kernel_size": "K", "padding": "P", "stride": "S", "output_size": "O"}
"""The five numbers and their letters."""


@dataclass(frozen=True)
class Solution:
    """Five numbers that satisfy ``output_size = floor((input_size - K_eff + 2*padding) / stride) + 1``."""

    input_size: int
    kernel_size: int
    padding: int
    stride: int
    output_size: int
    dilation: int = 1

    @property
    def span(self) -> int:
        """Pixels from the first to the last that the kernel reads, both counted: ``K_eff``.

        >>> Solution(9, 3, 0, 1, 5, dilation=2).span
        5
        """
        return self.dilation * (self.kernel_size - 1) + 1

    @property
    def unread_border(self) -> int:
        """Pixels of the padded far edge that the last position does not reach; 0 if the division has no remainder."""
        return self._steps % self.stride

    @property
    def gives(self) -> int:
        """The output size that follows from the four other numbers; less than 1 if the kernel does not fit."""
        return self._steps // self.stride + 1

    @property
    def reads_padding_alone(self) -> bool:
        """Whether the first window reads no pixel, because the padding is at least as wide as the span of the kernel.

        >>> Solution(7, 3, 11, 2, 14).reads_padding_alone
        True
        """
        return self.padding >= self.span

    @property
    def _steps(self) -> int:
        return self.input_size - self.span + 2 * self.padding


@dataclass(frozen=True)
class Solutions:
    """All whole numbers for one letter: those from ``minimum`` to ``maximum``.

    Args:
        missing: the letter's name.
        minimum: the smallest solution; 0 if there is none.
        maximum: the largest solution; None if there is no largest; less than ``minimum`` if there is no solution.
        nearest: if there is no solution: the nearest values of the letter, each with its output size, in ascending order of
            output size; empty if no value has an output.
        known: the given numbers, with ``minimum`` for the missing letter.
    """

    missing: str
    minimum: int
    maximum: int | None
    nearest: tuple[Solution, ...]
    known: Solution

    def __len__(self) -> int:
        """Number of solutions.

        Raises:
            GeometryError: there is no largest solution.
        """
        if self.maximum is None:
            raise GeometryError(f"every {self.missing} from {self.minimum} on is a solution, so they cannot be counted.")
        return max(0, self.maximum - self.minimum + 1)

    def __bool__(self) -> bool:
        return self.maximum is None or self.maximum >= self.minimum

    def __iter__(self) -> Iterator[Solution]:
        """All solutions in rising order, without end if there is no largest."""
        value = self.minimum
        while self.maximum is None or value <= self.maximum:
            yield self.at(value)
            value += 1

    def at(self, value: int) -> Solution:
        """The solution with this number for the missing letter."""
        return replace(self.known, **{self.missing: value})


def solve(
    *,
    input_size: int | None = None,
    kernel_size: int | None = None,
    padding: int | None = None,
    stride: int | None = None,
    output_size: int | None = None,
    dilation: int = 1,
) -> Solutions:
    """All whole-number solutions for the missing letter of ``O = (W - K + 2P)/S + 1``, in constant time.

    The division is rounded down, as in torch. Kernels are at least 1 and padding is at least 0. Padding as wide as the span
    of the kernel is a solution too: torch's convolutions accept it, its pools reject it (``Solution.reads_padding_alone``).

    Args:
        dilation: distance between neighboring pixels of the kernel, at least 1.

    Raises:
        GeometryError: not exactly one number is missing, or a number is out of its range.

    >>> [found.padding for found in solve(input_size=32, kernel_size=3, stride=1, output_size=32, dilation=4)]
    [4]
    >>> found = solve(kernel_size=3, padding=1, stride=10**9, output_size=16)
    >>> found.minimum, found.maximum
    (15000000001, 16000000000)
    >>> found = solve(input_size=224, kernel_size=3, padding=1, output_size=1)
    >>> found.minimum, found.maximum
    (224, None)
    """
    given = {
        "input_size": input_size,
        "kernel_size": kernel_size,
        "padding": padding,
        "stride": stride,
        "output_size": output_size,
    }
    missing = _check_given(given, dilation)
    numbers = {name: 0 if value is None else value for name, value in given.items()}
    known = Solution(**numbers, dilation=dilation)
    minimum, maximum, tried = _ends(missing, known)
    if maximum is None or maximum >= minimum:
        return Solutions(missing, minimum, maximum, (), replace(known, **{missing: minimum}))
    found = [replace(known, **{missing: value}) for value in sorted(set(tried))]
    nearest = [replace(each, output_size=each.gives) for each in found if each.gives >= 1]
    return Solutions(missing, 0, -1, tuple(sorted(nearest, key=lambda each: each.output_size)), known)


def solution_of(*, dilation: int = 1, **letters: int | None) -> Solution | None:
    """The five given numbers, whether they satisfy the equation or not; None if one is missing.

    Raises:
        GeometryError: all are given, and one is out of its range.

    >>> solution_of(input_size=224, kernel_size=7, padding=3, stride=2, output_size=111).gives
    112
    """
    numbers = {name: value for name, value in letters.items() if value is not None}
    if len(numbers) < len(LETTERS):
        return None
    if mistakes := _out_of_range(letters, dilation):
        raise GeometryError(join_messages(mistakes))
    return Solution(**numbers, dilation=dilation)


def _ends(missing: str, known: Solution) -> tuple[int, int | None, tuple[int, ...]]:
    """Smallest and largest number for the missing letter, and the numbers next to an equation without a solution.

    The equation holds where the steps ``W - K_eff + 2P`` lie between ``(O - 1)*S`` and ``O*S - 1``.
    """
    low, high = (known.output_size - 1) * known.stride, known.output_size * known.stride - 1
    pads, span = 2 * known.padding, known.span
    if missing == "input_size":
        return max(1, low + span - pads), high + span - pads, (1,)
    if missing == "kernel_size":
        room = known.input_size + pads - 1  # steps = room - dilation*(K - 1)
        longest = (room - low) // known.dilation + 1
        least = max(1, -((high - room) // known.dilation) + 1)
        return least, longest, _between(longest, 1, room // known.dilation + 1)
    if missing == "padding":
        needed = -((known.input_size - span - low) // 2)
        return max(0, needed), (high + span - known.input_size) // 2, _between(needed - 1, 0, max(0, needed))
    steps = known.input_size - span + pads
    if missing == "output_size":
        positions = steps // known.stride + 1
        return max(1, positions), positions, ()
    if steps < 0:
        return 1, 0, ()
    if known.output_size == 1:
        return steps + 1, None, ()
    longest = steps // (known.output_size - 1)
    return steps // known.output_size + 1, longest, _between(longest, 1, steps + 1)


def _between(value: int, first: int, last: int) -> tuple[int, ...]:
    """A number and the next one, clamped to a range; empty if the range is."""
    return tuple(min(max(each, first), last) for each in (value, value + 1)) if first <= last else ()


def _check_given(given: dict[str, int | None], dilation: int) -> str:
    """The one name without a number; raises if there is not exactly one, or a number is out of range."""
    missing = [name for name, value in given.items() if value is None]
    mistakes = _out_of_range(given, dilation)
    if len(missing) != 1:
        listed = ", ".join(f"{name} ({LETTERS[name]})" for name in (missing or given))
        mistakes.append(
            f"exactly one of the five numbers must be left out, not {len(missing)}. "
            + (f"Left out: {listed}." if missing else f"Leave out one of {listed}.")
        )
    if mistakes:
        raise GeometryError(join_messages(mistakes))
    return missing[0]


def _out_of_range(given: dict[str, int | None], dilation: int) -> list[str]:
    """A sentence for each number that is too small."""
    mistakes = [
        f"{name} ({LETTERS[name]}) must be at least {least}, not {value}."
        for name, value in given.items()
        if value is not None and value < (least := 0 if name == "padding" else 1)
    ]
    return [*mistakes, *([f"dilation must be at least 1, not {dilation}."] if dilation < 1 else [])]
