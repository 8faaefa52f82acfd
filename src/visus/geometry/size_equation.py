"""``O = (W - K + 2P)/S + 1`` solved for any letter, in whole numbers: the range of all solutions, in constant time.

With a dilation, K is the span of the kernel, ``K_eff = dilation*(K - 1) + 1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Final

from visus.errors import GeometryError, join_messages
from visus.tables import Described, Text
from visus.units import write_number_of, write_quotient

LETTERS: Final = {"input_size": "W", "kernel_size": "K", "padding": "P", "stride": "S", "output_size": "O"}
"""The five numbers and their letters."""

MAX_LISTED: Final = 10
"""Maximum number of solutions that a text lists one by one; of more, it has only the first and the last."""

_MAX_COUNTED_PX: Final = 1_000_000  # of a padded axis on which dilated windows overlap


def letter_of(name: str) -> str:
    """The name of a number with its letter.

    >>> letter_of("padding")
    'padding (P)'
    """
    return f"{name} ({LETTERS[name]})"


@dataclass(frozen=True, repr=False)
class Solution(Described):
    """Five numbers of the equation ``output_size = floor((input_size - K_eff + 2*padding) / stride) + 1``.

    Those of ``Solutions`` satisfy it; for five given numbers, ``is_right`` is the answer.

    >>> print(Solution(224, 7, 3, 2, 112))
    Size equation: right
      calculation  (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read
    """

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
        """Pixels of the image at its far edge that no window reaches.

        >>> Solution(9, 2, 0, 2, 4).unread_border, Solution(224, 7, 3, 2, 112).unread_border
        (1, 0)
        """
        return min(self.input_size, max(0, self._remainder - self.padding))

    @property
    def unread_padding(self) -> int:
        """Pixels of the padding at the far edge that no window reaches.

        >>> Solution(224, 7, 3, 2, 112).unread_padding
        1
        """
        return min(self.padding, self._remainder)

    @property
    def unread_gaps(self) -> int | None:
        """Pixels of the image in the gaps between the windows and inside dilated ones, without those at the far edge; None where
        they are not counted: dilated windows that overlap on more than a million pixels.

        >>> Solution(10, 2, 0, 3, 3).unread_gaps
        2
        """
        if self.gives < 1 or (self.dilation == 1 and self.stride <= self.kernel_size):
            return 0
        read = self._num_read
        return None if read is None else self.input_size - self.unread_border - read

    @property
    def _num_read(self) -> int | None:
        """Pixels of the image that a window reads; None if they are not counted."""
        if self.stride >= self.span:
            return self._num_read_before(self.padding + self.input_size) - self._num_read_before(self.padding)
        if self.input_size + 2 * self.padding > _MAX_COUNTED_PX:
            return None
        window = _repeated(1, self.kernel_size, self.dilation)
        read = _repeated(window, self.gives, self.stride) >> self.padding
        return (read & ((1 << self.input_size) - 1)).bit_count()

    def _num_read_before(self, place: int) -> int:
        """Pixels before a place of the padded axis that a window reads; the windows do not overlap."""
        whole, rest = divmod(place, self.stride)
        if whole >= self.gives:
            return self.gives * self.kernel_size
        return whole * self.kernel_size + min(self.kernel_size, -(-rest // self.dilation))

    @property
    def gives(self) -> int:
        """The output size that follows from the four other numbers; less than 1 if the kernel does not fit.

        >>> Solution(224, 7, 3, 2, 111).gives
        112
        """
        return self._steps // self.stride + 1

    @property
    def reads_padding_alone(self) -> bool:
        """Whether the first window reads no pixel, because the padding is at least as wide as the span of the kernel.

        >>> Solution(7, 3, 11, 2, 14).reads_padding_alone
        True
        """
        return self.padding >= self.span

    @property
    def _remainder(self) -> int:
        """Pixels of the padded far edge that the last window does not reach."""
        return self._steps % self.stride

    @property
    def _steps(self) -> int:
        return self.input_size - self.span + 2 * self.padding

    @property
    def is_right(self) -> bool:
        """Whether the output size is the one that follows from the other numbers.

        >>> Solution(224, 7, 3, 2, 111).is_right
        False
        """
        return self.gives == self.output_size

    @property
    def calculation(self) -> str:
        """The equation with its numbers, the remainder, and the span of a dilated kernel.

        >>> Solution(224, 3, 1, 2, 111, dilation=2).calculation
        '(224 - 5 + 2*1)/2 + 1 = 111.5, rounded down to 111; 1 px of the padding at the far edge is not read; 112 px between the pixels of the dilated windows are not read; K_eff = 2*(3 - 1) + 1 = 5'
        >>> Solution(2, 5, 0, 1, 1).calculation
        '(2 - 5 + 2*0)/1 + 1 = -2, so the kernel does not fit'
        """
        text = f"({self.input_size} - {self.span} + 2*{self.padding})/{self.stride} + 1"
        text += f" = {write_quotient(self._steps + self.stride, self.stride)}"
        if self._remainder:
            text += f", rounded down to {self.gives}"
        if self.gives < 1:
            text += ", so the kernel does not fit"
        else:
            text += "".join(f"; {each}" for each in self._unread())
        if self.gives >= 1 and self.reads_padding_alone:
            text += "; the first window reads padding alone, which a convolution accepts and a pool rejects"
        return text + (f"; K_eff = {self.dilation}*({self.kernel_size} - 1) + 1 = {self.span}" if self.dilation > 1 else "")

    def _unread(self) -> Iterator[str]:
        """What no window reads: pixels of the image, or of the padding alone."""
        if border := self.unread_border:
            yield f"{border} px at the far edge {_is_not_read(border)}"
        elif padding := self.unread_padding:
            yield f"{padding} px of the padding at the far edge {_is_not_read(padding)}"
        if gaps := self.unread_gaps:
            place = "between the windows" if self.stride > self.span else "between the pixels of the dilated windows"
            yield f"{gaps} px {place} {_is_not_read(gaps)}"

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        verdict = "right" if self.is_right else f"the output size is not {self.output_size}"
        return f"Size equation: {verdict}", [("calculation", self.calculation)]

    def text(self) -> Text:
        """Whether the five numbers satisfy the equation, with the calculation.

        >>> Solution(224, 7, 3, 2, 111).text()
        ('wrong: O = 112, not 111. (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read.',)
        """
        verdict = f"right: O = {self.gives}" if self.is_right else f"wrong: O = {self.gives}, not {self.output_size}"
        if self.gives < 1:
            verdict = "wrong"
        return Text((f"{verdict}. {self.calculation}.",))

    def to_json(self) -> dict[str, Any]:
        """The check as plain data; ``gives`` is None if the kernel does not fit.

        >>> Solution(224, 7, 3, 2, 111).to_json()["gives"]
        112
        """
        return {"is_right": self.is_right, "gives": self.gives if self.gives >= 1 else None, **self.numbers()}

    def numbers(self) -> dict[str, Any]:
        """The numbers by name, with the remainder and the span of the kernel.

        >>> Solution(9, 3, 0, 1, 5, dilation=2).numbers()["kernel_span"]
        5
        """
        names = (*LETTERS, "dilation", "unread_border", "unread_padding", "unread_gaps", "reads_padding_alone")
        return {**{name: getattr(self, name) for name in names}, "kernel_span": self.span}


@dataclass(frozen=True, repr=False)
class Solutions(Described):
    """All whole numbers for one letter: those from ``minimum`` to ``maximum``. It is false if there is none.

    Args:
        missing: the letter's name.
        minimum: the smallest solution; 0 if there is none.
        maximum: the largest solution; None if there is no largest; less than ``minimum`` if there is no solution.
        nearest: if there is no solution: the nearest values of the letter, each with its output size, in ascending order of
            output size; empty if no value has an output.
        known: the given numbers, with ``minimum`` for the missing letter.

    >>> print(solve(input_size=224, kernel_size=7, stride=2, output_size=112))
    padding (P): 1 solution
      3  (224 - 7 + 2*3)/2 + 1 = 112.5, rounded down to 112; 1 px of the padding at the far edge is not read
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
        """The five numbers with this one for the missing letter.

        >>> solve(input_size=32, kernel_size=3, padding=1, stride=2).at(16).is_right
        True
        """
        return replace(self.known, **{self.missing: value})

    def first(self) -> tuple[Solution, ...]:
        """The first ``MAX_LISTED`` solutions, or all if there are fewer.

        >>> [each.stride for each in solve(input_size=32, kernel_size=3, padding=1, output_size=4).first()]
        [8, 9, 10]
        """
        return tuple(islice(self, MAX_LISTED)) if self else ()

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        letter = letter_of(self.missing)
        if not self:
            return f"{letter}: no solution", [("reason", self._why_none())]
        if self.maximum is None:
            return f"{letter}: any from {self.minimum} on", [(str(self.minimum), self.at(self.minimum).calculation)]
        ends = (self.minimum, self.maximum) if len(self) > 3 else range(self.minimum, self.maximum + 1)
        rows = [(f"{value}", self.at(value).calculation) for value in ends]
        span = f", {self.minimum} to {self.maximum}" if len(self) > 3 else ""
        return f"{letter}: {write_number_of(len(self), 'solution')}{span}", rows

    def text(self) -> Text:
        """A line for each solution with its calculation, or the reason if there is none.

        >>> solve(input_size=32, kernel_size=3, stride=1, output_size=32).text()
        ('padding (P) = 1: (32 - 3 + 2*1)/1 + 1 = 32',)
        """
        if not self:
            return Text((self._why_none(),))
        letter = letter_of(self.missing)
        if self.maximum is None:
            return Text((f"{letter} = any from {self.minimum} on: {self.at(self.minimum).calculation}",))
        lines = [f"{letter} = {getattr(each, self.missing)}: {each.calculation}" for each in self.first()]
        if len(self) <= MAX_LISTED:
            return Text(lines)
        last = f"{letter} = {self.maximum}: {self.at(self.maximum).calculation}"
        many = f"{len(self):,} whole numbers; the first and the last:"
        return Text((f"{letter} = any from {self.minimum} to {self.maximum}, {many}", lines[0], last))

    def _why_none(self) -> str:
        """Why there is no solution, with the calculation, or with the nearest that there are."""
        wanted = letter_of(self.missing)
        if self.missing == "output_size":
            return f"nothing comes out: {self.known.calculation}."
        if not self.nearest:
            one = self.at(1)
            return (
                f"no whole number for {wanted} gives output_size (O) = {one.output_size}, whatever it is: {one.calculation}."
            )
        calculations = "; or ".join(
            f"{each.output_size} with {wanted} = {getattr(each, self.missing)}, {each.calculation}" for each in self.nearest
        )
        return f"no whole number for {wanted} gives output_size (O) = {self.known.output_size}. The nearest: {calculations}."

    def to_json(self) -> dict[str, Any]:
        """The solutions as plain data: minimum, maximum and a list of the first ones.

        >>> solve(input_size=32, kernel_size=3, stride=1, output_size=32).to_json()["num_solutions"]
        1
        """
        return {
            "missing": self.missing,
            "least": self.minimum if self else None,
            "most": self.maximum if self else None,
            "num_solutions": None if self.maximum is None else len(self),
            "solutions": [each.numbers() for each in self.first()],
            "nearest": [each.numbers() for each in self.nearest],
        }


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


def _is_not_read(number: int) -> str:
    return f"{'is' if number == 1 else 'are'} not read"


def _repeated(bits: int, times: int, step: int) -> int:
    """The union of so many copies of a set of bits, each shifted by ``step`` more than the one before."""
    done = 1
    while done < times:
        more = min(done, times - done)
        bits |= bits << (more * step)
        done += more
    return bits


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
