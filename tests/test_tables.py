"""The short forms of results: a few lines of text, and HTML whose text is escaped and whose colors are the page's own."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass

import numpy as np
import pytest

import visus
from visus.design.advice.pieces import Advice
from visus.errors import DesignError
from visus.tables import Brief, Described, ShortFields, Table, Text, listed


class Result(Described):
    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        return "Result <1>", [("name & place", "<b>")]

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("rows <2>", Table((("<cat>", "3"), ("dog", "4")), ("class", "samples"), (1,))),)


class Value(Brief):
    def _words(self) -> str:
        return "two words"


def test_a_result_prints_its_facts_and_shows_its_tables_escaped() -> None:
    assert repr(Result()) == "Result <1>\n  name & place  <b>"
    html = Result()._repr_html_()
    texts = re.findall(r">([^<]+)<", html)
    assert texts == [
        *("Result &lt;1&gt;", "name &amp; place", "&lt;b&gt;"),
        *("rows &lt;2&gt;", "class", "samples", "&lt;cat&gt;", "3", "dog", "4"),
    ]
    assert html.count('scope="row"') == 3
    assert html.count('scope="col"') == 2
    assert "color" not in html


def test_a_value_prints_in_one_line() -> None:
    assert repr(Value()) == "Value(two words)"


def test_a_list_of_names_is_counted_where_it_ends_and_never_cut() -> None:
    names = [f"class {number}" for number in range(30)]
    text = listed(names, 40)
    assert text == "class 0, class 1, class 2, class 3 and 26 more"
    assert listed([], 40) == ""
    assert listed(["x" * 90], 40) == "x" * 90


def test_long_designs_and_accounts_print_in_a_few_lines_without_cut_words() -> None:
    design = visus.parse("vgg(16)")
    text = repr(design)
    assert text.splitlines()[0] == "Design of 52 layers"
    assert text.splitlines()[2] == "  next   design.text has all of it"
    account = visus.summary("resnet18", (3, 32, 32), 10)
    assert repr(account).splitlines()[-1] == (
        "  advice  unproductive (stage4.block2.residual1.conv1); print(*account.advice)"
    )
    for each in (text, repr(account)):
        assert "..." not in each
        assert max(map(len, each.splitlines())) < 120


def test_advice_and_errors_print_their_sentences() -> None:
    assert str(Advice("pool", "pool1", "There is nothing to pool.")) == "pool1: There is nothing to pool."
    error = DesignError("there is no kernel.", where="conv1").within("design.txt")
    assert repr(error) == "DesignError('design.txt: conv1: there is no kernel.')"


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (visus.Recipe(), "Recipe()"),
        (visus.Recipe(epochs=3, flip="none"), "Recipe(epochs=3, flip='none')"),
        (visus.Recipe(progressive_resize="0.75, 1"), "Recipe(progressive_resize='0.75, 1')"),
    ],
)
def test_a_recipe_prints_what_is_set_and_reads_back(recipe: visus.Recipe, text: str) -> None:
    assert repr(recipe) == text
    assert eval(text, {"Recipe": visus.Recipe}) == recipe


# ---- text ----


def test_a_text_prints_its_sentences_and_aligned_tables_and_stays_a_tuple() -> None:
    table = Table((("cat", "3"), ("a long name", "1,200")), ("class", "samples"), numbers=(1,))
    text = Text(("2 classes", table, "note: it is small."))
    assert str(text).splitlines() == [
        "2 classes",
        "class        samples",
        "cat                3",
        "a long name    1,200",
        "note: it is small.",
    ]
    assert text == ("2 classes", table, "note: it is small.")
    assert str(Table((("1", "20"), ("300",)), numbers=(0, 1))) == "  1  20\n300"
    assert str(Text()) == ""


def test_the_text_of_a_result_prints_with_every_number_of_its_tables() -> None:
    found = visus.diff("lenet5", "conv(8, 5), relu, globalpool, linear(classes)", (1, 28, 28), 10)
    printed = str(found.text())
    assert "<visus" not in printed
    assert "Table(" not in printed
    for block in found.text():
        for cell in (cell for row in block.rows for cell in row) if isinstance(block, Table) else [block]:
            assert cell in printed


# ---- values with arrays ----


@dataclass(frozen=True, eq=False, repr=False)
class Measured(ShortFields):
    path: str
    values: np.ndarray
    parts: tuple[object, ...] = ()
    hidden: int = dataclasses.field(default=0, repr=False)


def test_a_value_with_arrays_prints_their_shapes() -> None:
    inner = Measured("conv1", np.zeros((2, 3), np.float32))
    assert repr(inner) == "Measured(path='conv1', values=float32 (2, 3), parts=())"
    outer = Measured("x" * 100, np.zeros(4), (inner, inner))
    assert repr(outer) == f"Measured(path='{'x' * 100}', values=float64 (4,), parts=2 x Measured)"
    assert repr(Measured("a", np.zeros(4), tuple(range(50)))).endswith("parts=50 x int)")
    assert repr(Measured("a", np.zeros(4), (np.zeros(2), 1))).endswith("parts=(float64 (2,), 1))")


def test_no_result_of_examine_or_of_a_look_prints_an_array() -> None:
    found = []
    for package in ("visus.examine", "visus.pages.look"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            for _, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                own = (
                    kind.__module__.startswith(package)
                    and dataclasses.is_dataclass(kind)
                    and not kind.__name__.startswith("_")
                )
                if own and any("Array" in str(each.type) for each in dataclasses.fields(kind) if each.repr):
                    found.append((kind.__name__, kind.__repr__ is ShortFields.__repr__))
    assert len(found) > 10
    assert [name for name, is_short in found if not is_short] == []
