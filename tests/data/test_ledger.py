"""The ledger counts and lists changes in plain English."""

from __future__ import annotations

import json
import string
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visus.data.ledger import ACTIONS, MAX_EXAMPLES, ROUTINE, Ledger
from visus.errors import DataError

TURNED = "turned upright by its EXIF orientation"


def noted(*pairs: tuple[str, str]) -> Ledger:
    ledger = Ledger()
    for action, sample in pairs:
        ledger.note(action, sample)
    return ledger


def test_sentences_agree_in_number() -> None:
    assert noted((TURNED, "a.jpg")).sentences() == ["1 image was turned upright by its EXIF orientation (a.jpg)."]
    three = noted(*((TURNED, f"{letter}.jpg") for letter in "abc"))
    assert three.sentences() == ["3 images were turned upright by their EXIF orientation (a.jpg, b.jpg, c.jpg)."]
    many = noted(*((TURNED, f"IMG_{index}.jpg") for index in range(1200)))
    assert many.sentences() == [
        "1,200 images were turned upright by their EXIF orientation (IMG_0.jpg, IMG_1.jpg, IMG_2.jpg, ...)."
    ]


def test_every_action_has_its_sentence() -> None:
    one, two = Ledger(), Ledger()
    for action in ACTIONS:
        one.note(action, "a")
        two.note(action, "a")
        two.note(action, "b")
    assert one.sentences() == [
        "1 image was turned upright by its EXIF orientation (a).",
        "1 image with a broken EXIF orientation was not turned (a).",
        "1 image was scaled from 16-bit to 8-bit values (a).",
        "1 image was converted from 1-bit to 8-bit values (a).",
        "1 image was converted from a palette to RGB (a).",
        "1 image with transparency was blended on white (a).",
        "1 image was converted from CMYK to RGB (a).",
        "1 image in another color space (YCbCr, LAB, HSV) was converted to RGB (a).",
        "1 image has several frames or pages, of which only the first was used (a).",
        "1 image was decoded at 1/2, 1/4 or 1/8 of the size, which is still larger than needed (a).",
        "1 image was converted from gray to color (three equal channels) (a).",
        "1 image was converted from color to gray (ITU-R 601 luma) (a).",
        "1 image was cropped to the center (a).",
        "1 sample was resized (a).",
        "1 image was padded by repeating its edge pixels (a).",
        "1 sample had its positions shuffled into one fixed random order (a).",
        "1 sample has the same content as a sample that the network learned from, so its prediction says little about new data (a).",
        "1 image of 16 bits has values of at most 13 bits, so its 8-bit values are dark, with few gray levels (a).",
        "1 image has a few extra bytes, which may be damage: look at it (a).",
        "1 file without a usual ending was read, since the content is an image (a).",
        "1 image may be inverted: bright where the training images are dark, or dark where they are bright; if so, invert it first (a).",
        "1 sample has values far from those of the training samples (at least 50 times their spread); if its scale differs, scale it as the training samples were (a).",
        "1 image has more than four times, or less than a quarter of, the median number of pixels (a).",
        "1 file could not be read and was left out (a).",
        "1 file was left out: hidden, of the system, or not an image (a).",
        "1 image was left out (a).",
        "1 sample was found to be an exact copy of another sample; visus keeps copies in the same split (a).",
        "1 row was left out, since an earlier row says the same (a).",
        "1 row was left out: no such file (a).",
        "1 sample has the same content as another sample with another label (a).",
    ]
    assert two.sentences()[-7:] == [
        "2 files could not be read and were left out (a, b).",
        "2 files were left out: hidden, of the system, or not images (a, b).",
        "2 images were left out (a, b).",
        "2 samples were found to be exact copies of another sample; visus keeps copies in the same split (a, b).",
        "2 rows were left out, since an earlier row says the same (a, b).",
        "2 rows were left out: no such file (a, b).",
        "2 samples have the same content as another sample with another label (a, b).",
    ]


def test_sentences_begin_with_the_count() -> None:
    for template in ACTIONS.values():
        first = next(string.Formatter().parse(template))
        assert (first[0], first[1] in {"images", "samples", "files", "rows"}) == ("", True)


def test_every_name_is_kept_and_json_has_the_first_ten() -> None:
    ledger = noted(*(("resized", str(index)) for index in range(25)))
    assert ledger.counts == {"resized": 25}
    assert ledger.names("resized") == [str(index) for index in range(25)]
    assert ledger.examples("resized") == ledger.as_dict()["resized"]["samples"] == [str(index) for index in range(10)]


def test_rows_are_every_change_with_its_reason() -> None:
    ledger = noted(*(("resized", str(index)) for index in range(12)))
    ledger.note("unreadable", "a.jpg", "The file is empty.")
    assert list(ledger.rows()) == [
        *(("resized", str(index), "") for index in range(12)),
        ("unreadable", "a.jpg", "The file is empty."),
    ]


def test_every_reason_is_kept() -> None:
    ledger = Ledger()
    for index in range(25):
        ledger.note("unreadable", f"{index}.jpg", f"fault {index}")
    assert ledger.reasons("unreadable") == {f"{index}.jpg": f"fault {index}" for index in range(25)}
    assert ledger.as_dict()["unreadable"]["reasons"]["24.jpg"] == "fault 24"
    assert ledger.reasons("resized") == {}


def test_an_unknown_action_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ValueError) as caught:
        Ledger().note("resize", "a")
    assert str(caught.value).startswith(
        "unknown ledger action 'resize'. Did you mean 'resized'? Known: 1-bit values widened to"
    )


def test_as_dict_is_plain_data() -> None:
    assert noted(("resized", "a"), ("resized", "b")).as_dict() == {
        "resized": {"count": 2, "samples": ["a", "b"], "sentence": "2 samples were resized (a, b)."}
    }
    assert Ledger().as_dict() == {}


notes = st.lists(st.tuples(st.sampled_from(sorted(ACTIONS)), st.text(max_size=3), st.text(max_size=3)), max_size=40)


@given(notes)
def test_json_returns_the_ledger_back(samples: list[tuple[str, str, str]]) -> None:
    ledger = Ledger()
    for action, sample, reason in samples:
        ledger.note(action, sample, reason)
    assert Ledger.from_dict(json.loads(json.dumps(ledger.as_dict()))) == ledger


@given(notes, st.integers(0, 40))
def test_merging_parts_equals_noting_all(samples: list[tuple[str, str, str]], cut: int) -> None:
    whole, first, second = Ledger(), Ledger(), Ledger()
    for index, (action, sample, reason) in enumerate(samples):
        whole.note(action, sample, reason)
        (first if index < cut else second).note(action, sample, reason)
    first.merge(second)
    assert first == whole
    assert list(first.rows()) == list(whole.rows())


def test_a_ledger_merged_with_itself_doubles() -> None:
    ledger = noted(("resized", "a"))
    ledger.merge(ledger)
    assert ledger.counts == {"resized": 2}


def test_threads_lose_no_count() -> None:
    ledger = Ledger()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: ledger.note("resized", str(index)), range(4000)))
    assert ledger.counts == {"resized": 4000}
    assert len(ledger.examples("resized")) == MAX_EXAMPLES


def test_a_file_that_is_no_ledger_is_refused() -> None:
    with pytest.raises(DataError) as unknown:
        Ledger.from_dict({"turned": {"count": 1, "samples": []}})
    assert str(unknown.value).startswith("unknown ledger action 'turned'. Known: 1-bit values widened to 8-bit, ")
    with pytest.raises(DataError) as broken:
        Ledger.from_dict({"resized": {"count": 1}})
    assert str(broken.value) == "the ledger entry 'resized' needs a count and a list of samples, and has {'count': 1}."


@given(st.sets(st.sampled_from(list(ACTIONS))))
def test_ranked_sentences_are_all_sentences_with_the_routine_ones_apart(actions: set[str]) -> None:
    ledger = noted(*((action, "a.jpg") for action in sorted(actions)))
    notable, routine = ledger.ranked_sentences()
    assert sorted([*notable, *routine]) == sorted(ledger.sentences())
    assert len(routine) == len(actions & ROUTINE)


def test_dropped_and_contradictory_samples_rank_before_changed_values() -> None:
    ledger = noted(("color made gray", "a.jpg"), ("resized", "b.jpg"), ("unreadable", "c.jpg"), ("conflict", "d.jpg"))
    notable, routine = ledger.ranked_sentences()
    assert [sentence.split("(")[1].split(")")[0] for sentence in notable] == ["d.jpg", "c.jpg", "ITU-R 601 luma"]
    assert routine == ["1 sample was resized (b.jpg)."]
    assert set(ACTIONS) >= ROUTINE
