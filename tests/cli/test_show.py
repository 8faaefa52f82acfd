"""Tables in narrow terminals: headings break, long texts go below the table, and no figure is lost."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from visus.cli.show import _fitted, _rendered, show
from visus.tables import Table

SHIFTS = Table(
    (
        ("roll", "99.1 %", "97.2 % to 99.8 %", "99.4 %", "96.0 %", "12.1 %", "44.0 %", "wraps around"),
        (
            "zeros",
            "98.1 %",
            "96.2 % to 98.8 %",
            "98.4 %",
            "91.0 %",
            "15.1 %",
            "100.0 %",
            "filled with 0 after normalization: the training mean",
        ),
    ),
    ("way", "consistency", "95 % interval", "label kept", "never changes", "logits change", "max", "what enters"),
    (1, 3, 4, 5, 6),
)


def lines_of(table: Table, width: int) -> list[str]:
    fitted, notes = _fitted(table, width)
    out = Console(width=width, force_terminal=True, color_system=None, highlight=False)
    with out.capture() as shown:
        out.print(_rendered(fitted))
    return [*(line.rstrip() for line in shown.get().splitlines()), *notes]


def test_a_table_without_a_terminal_has_no_spaces_at_the_ends_of_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show([Table((("visus", "0.1.0"), ("packages", "long " * 40)))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == " visus     0.1.0"
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)


def test_a_table_that_fits_stays_as_it_is() -> None:
    assert _fitted(SHIFTS, 200) == (SHIFTS, [])


@pytest.mark.parametrize("width", [80, 90, 100, 130])
def test_a_wide_table_fits_and_keeps_every_cell_whole(width: int) -> None:
    fitted, notes = _fitted(SHIFTS, width)
    lines = lines_of(SHIFTS, width)[: -len(notes) or None]
    assert max(map(cell_len, lines)) <= width
    for row in SHIFTS.rows:
        (line,) = [each for each in lines if each.split()[:1] == [row[0]]]
        assert all(cell in line for cell in row[:-1])
    assert bool(notes) == ("what enters" not in " ".join(fitted.headings).replace("\n", " "))


def test_texts_that_do_not_fit_go_below_with_the_name_of_their_row() -> None:
    assert _fitted(SHIFTS, 80)[1] == ["roll: wraps around", "zeros: filled with 0 after normalization: the training mean"]


def test_headings_break_at_words_and_hyphens() -> None:
    table = Table((("a", "1.17 G", "x" * 30),), ("way", "multiply-adds", "what it is"), (1,))
    assert _fitted(table, 48)[0].headings == ("way", "multiply-\nadds", "what it is")
