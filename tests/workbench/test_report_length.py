"""The report of a real run can be read in a few minutes: at most 1,500 words, every table, chart and folded part counted."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest

import visus

MAX_WORDS = 1500


def words_of(page: str) -> list[str]:
    """Every word of a page that a person can read: tables, labels of charts and their descriptions, and folded parts."""
    body = re.sub(r"<style>.*?</style>|<title>.*?</title>", " ", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", body)).replace("\u00a0", " ").split()


@pytest.mark.slow
def test_the_report_of_the_packaged_images_has_at_most_1500_words(tmp_path: Path) -> None:
    run = visus.train(recipe=visus.Recipe(epochs=2, kernels="pytorch"), output=tmp_path)
    page = (run.folder / "report.html").read_text("utf-8")
    assert "could not be made" not in page
    assert 1000 < len(words_of(page)) <= MAX_WORDS


def test_a_word_is_counted_wherever_it_can_be_read() -> None:
    page = (
        "<title>no</title><style>b{}</style><p>One <b>two</b></p><details><summary>three</summary><svg><desc>four</desc>"
        "<text>5\u00a0%</text></svg></details>"
    )
    assert words_of(page) == ["One", "two", "three", "four", "5", "%"]
