"""Numbers as people write them: laws, and the text of each refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.errors import UsageError
from visus.units import read_duration, write_bytes, write_count, write_duration, write_number_of, write_share

MULTIPLES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


@given(st.integers(0, 10**14))
def test_count_keeps_three_digits(number: int) -> None:
    digits, _, multiple = write_count(number).partition(" ")
    assert float(digits) * MULTIPLES[multiple] == pytest.approx(number, rel=0.006, abs=0.5)


@given(st.integers(0, 2**48))
def test_bytes_keep_three_digits(number: int) -> None:
    digits, unit = write_bytes(number).split(" ")
    assert float(digits) * UNITS[unit] == pytest.approx(number, rel=0.006, abs=0.5)


@given(st.floats(10, 300_000))
def test_written_duration_is_read_again(seconds: float) -> None:
    assert read_duration(write_duration(seconds)) == pytest.approx(seconds, abs=60.5 if seconds >= 3599 else 0.51)


def test_share_and_count_of_one() -> None:
    assert write_share(1) == "100.0 %"
    assert write_number_of(1, "class", "classes") == "1 class"
    assert write_number_of(0, "class", "classes") == "0 classes"


@pytest.mark.parametrize("text", ["", "soon", "5 days", "-3", "1h30"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_duration(text)
    assert str(caught.value) == (
        f"{text!r} is not a duration. Write seconds, or a number with s, m or h, such as 90s, 5m or 1h30m."
    )


def test_duration_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        read_duration("0s")
    assert str(caught.value) == "a duration must be longer than zero, not '0s'."
