"""Sentences and tables that results carry, as plain text without a width or a color; and the short forms of results.

The command line and pages render the text. ``Described`` is the short form of a result: its ``repr``, and HTML in notebooks.
``Brief`` is that of a value within a result.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from visus.other_libraries import ATTRIBUTES, absent


@dataclass(frozen=True)
class Table:
    """A table of plain cells.

    Args:
        rows: its cells.
        headings: one for each column; none for a grid without a head.
        numbers: places of the columns of numbers, which are set to the right.

    >>> Table((("cat", "3"),), ("class", "samples"), numbers=(1,)).num_columns
    2
    """

    rows: tuple[tuple[str, ...], ...]
    headings: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()

    @property
    def num_columns(self) -> int:
        """Of the heading, or of the longest row."""
        return len(self.headings) or max((len(row) for row in self.rows), default=0)

    def __str__(self) -> str:
        """The table as plain text: aligned columns with two spaces between them.

        >>> print(Table((("cat", "3"), ("dog", "12")), ("class", "samples"), numbers=(1,)))
        class  samples
        cat          3
        dog         12
        """
        lines = [self.headings, *self.rows] if self.headings else list(self.rows)
        widths = [
            max((len(line[place]) for line in lines if place < len(line)), default=0) for place in range(self.num_columns)
        ]
        sides = [str.rjust if place in self.numbers else str.ljust for place in range(self.num_columns)]
        return "\n".join(
            "  ".join(side(cell, width) for cell, width, side in zip(line, widths, sides, strict=False)).rstrip()
            for line in lines
        )


class Text(tuple[str | Table, ...]):
    """What a result says: a tuple of sentences, and of tables between them; ``print`` writes one below the other.

    >>> print(Text(("2 classes", Table((("cat", "3"),), ("class", "samples"), numbers=(1,)))))
    2 classes
    class  samples
    cat          3
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "\n".join(map(str, self))


def grid(cells: list[str], width: int) -> Table:
    """Numbers in rows of ``width`` columns, without a head.

    >>> grid(["1", "2", "3"], 2).rows
    (('1', '2'), ('3',))
    """
    rows = tuple(tuple(cells[start : start + width]) for start in range(0, len(cells), width))
    return Table(rows, numbers=tuple(range(min(width, len(cells)))))


def notes(sentences: tuple[str, ...] | list[str]) -> Text:
    """Notes, each in a line of its own.

    >>> notes(["it is small."])
    ('note: it is small.',)
    """
    return Text(f"note: {sentence}" for sentence in sentences)


def write_rows(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A title, then one line per fact with aligned values; the ``repr`` of results.

    >>> print(write_rows("Run photos", [("network", "resnet(18)"), ("accuracy", "91.2 %")]))
    Run photos
      network   resnet(18)
      accuracy  91.2 %
    """
    facts = list(rows)
    width = max((len(name) for name, _ in facts), default=0)
    return "\n".join([title, *(f"  {name:<{width}}  {value}" for name, value in facts)])


def write_html_rows(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A title and facts as an HTML table; all text is escaped, and colors are left to the page.

    >>> write_html_rows("Run <a>", [("network", "a & b")])
    '<table><caption>Run &lt;a&gt;</caption><tr><th scope="row" style="text-align:left">network</th><td style="text-align:left">a &amp; b</td></tr></table>'
    """
    body = "".join(
        f'<tr><th scope="row" style="{_LEFT}">{html.escape(name)}</th><td style="{_LEFT}">{html.escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><caption>{html.escape(title)}</caption>{body}</table>"


def write_html_table(title: str, table: Table) -> str:
    """A table as HTML: the first cell of each row is its heading, and columns of numbers are set to the right.

    >>> write_html_table("classes", Table((("<cat>", "3"),), ("class", "samples"), numbers=(1,)))
    '<table><caption>classes</caption><thead><tr><th scope="col" style="text-align:left">class</th><th scope="col" style="text-align:right">samples</th></tr></thead><tbody><tr><th scope="row" style="text-align:left">&lt;cat&gt;</th><td style="text-align:right">3</td></tr></tbody></table>'
    """
    sides = [_RIGHT if place in table.numbers else _LEFT for place in range(table.num_columns)]
    head = "".join(
        f'<th scope="col" style="{side}">{html.escape(cell)}</th>' for cell, side in zip(table.headings, sides, strict=False)
    )
    body = "".join(f"<tr>{_cells(row, sides)}</tr>" for row in table.rows)
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table><caption>{html.escape(title)}</caption>{head}<tbody>{body}</tbody></table>"


def write_html_folded(title: str, content: str) -> str:
    """HTML that is folded under its title until it is opened; the title is escaped.

    >>> write_html_folded("stage1", "<p>rows</p>")
    '<details><summary>stage1</summary><p>rows</p></details>'
    """
    return f"<details><summary>{html.escape(title)}</summary>{content}</details>"


_LEFT = "text-align:left"
_RIGHT = "text-align:right"


def _cells(row: Sequence[str], sides: Sequence[str]) -> str:
    """The cells of one row; the first one is a heading."""
    first, *others = row
    cells = "".join(f'<td style="{side}">{html.escape(cell)}</td>' for cell, side in zip(others, sides[1:], strict=False))
    return f'<th scope="row" style="{sides[0]}">{html.escape(first)}</th>{cells}'


class Described:
    """A result with a short summary: a few lines for ``repr``, HTML tables and samples in notebooks. Subclasses define ``_facts``."""

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        """A title, and (name, value) pairs."""
        raise NotImplementedError

    def _tables(self) -> Iterable[tuple[str, Table]]:
        """Tables with their captions, which a notebook shows below the facts."""
        return ()

    def _sheet(self) -> str:
        """HTML of the samples, which a notebook shows between the facts and the tables."""
        return ""

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.startswith("_")]

    if not TYPE_CHECKING:  # or mypy would accept every name

        def __getattr__(self, name: str) -> Any:
            if name in ATTRIBUTES and not hasattr(type(self), name):
                raise absent(type(self).__name__, name, ATTRIBUTES[name])
            return object.__getattribute__(self, name)  # raises Python's own error, or that of a property

    def __repr__(self) -> str:
        return write_rows(*self._facts())

    def _repr_html_(self) -> str:
        tables = (write_html_table(*each) for each in self._tables())
        return "".join([write_html_rows(*self._facts()), self._sheet(), *tables])


class Brief:
    """A value with many parts and a ``repr`` of one line. Subclasses define ``_words``."""

    def _words(self) -> str:
        """The value in a few words."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._words()})"


class ShortFields:
    """A dataclass with arrays, whose ``repr`` has a short form of each field: an array is its dtype and shape, a long tuple its length.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True, repr=False)
    ... class Found(ShortFields):
    ...     path: str
    ...     channels: tuple[int, ...]
    >>> Found("conv1", (0, 1))
    Found(path='conv1', channels=(0, 1))
    >>> Found("conv1", tuple(range(64)))
    Found(path='conv1', channels=64 x int)
    """

    def __repr__(self) -> str:
        shown = [each.name for each in fields(self) if each.repr]  # type: ignore[arg-type]  # subclasses are dataclasses
        return f"{type(self).__name__}({', '.join(f'{name}={_short(getattr(self, name))}' for name in shown)})"


_MAX_VALUE: Final = 60  # characters of a value within a repr


def _short(value: object) -> str:
    """A value in at most ``_MAX_VALUE`` characters, or its type and size; text is never cut."""
    if hasattr(value, "dtype") and getattr(value, "shape", None):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"  # type: ignore[attr-defined]
    if isinstance(value, (tuple, list)) and any(isinstance(each, ShortFields) or hasattr(each, "dtype") for each in value):
        text = f"({', '.join(map(_short, value))}{',' if len(value) == 1 else ''})"
    else:
        text = repr(value)
    if len(text) <= _MAX_VALUE or isinstance(value, str):
        return text
    if isinstance(value, (tuple, list)):
        kinds = dict.fromkeys(type(each).__name__ for each in value)
        return f"{len(value):,} x {' or '.join(kinds)}"
    if isinstance(value, ShortFields):
        first = next(each.name for each in fields(value) if each.repr)  # type: ignore[arg-type]  # subclasses are dataclasses
        return f"{type(value).__name__}({first}={_short(getattr(value, first))}, ...)"
    return f"{type(value).__name__}({len(value):,})" if isinstance(value, Sized) else f"{type(value).__name__}(...)"


def listed(names: Sequence[str], limit: int = 60) -> str:
    """Names separated by commas; those beyond ``limit`` characters are counted, and no name is cut.

    >>> listed(["cat", "dog"]), listed(["a" * 40, "b" * 40, "c"])
    ('cat, dog', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa and 2 more')
    """
    shown = [*names[:1]]
    for name in names[1:]:
        if len(", ".join([*shown, name])) > limit:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")
