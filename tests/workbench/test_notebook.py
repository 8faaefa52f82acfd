"""What a person reads in a notebook and from ``print``: predictions, a run with its curves, an account in blocks, errors."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands import Call

import visus
from visus.design.account import MAX_UNFOLDED, blocks_of
from visus.errors import UsageError
from visus.pages.parts.confusion import confusion_table
from visus.pages.run_preview import MAX_BYTES
from visus.tables import Table, Text
from visus.units import write_count, write_share


@pytest.fixture
def network(run: Path) -> visus.Run:
    return visus.load(run)


def noise(number: int, *shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (number, *shape), dtype=np.uint8)


# ---- predictions ----


def test_printed_predictions_are_a_short_table(network: visus.Run) -> None:
    x = noise(25, 3, 10, 10)
    expected = list(network.predict(x))
    predictions = network.predict(x)
    lines = str(predictions).splitlines()
    assert lines[0].split() == ["file", "label", "probability"]
    for line, each in zip(lines[1:11], expected, strict=False):
        assert line.rsplit(maxsplit=3) == [each.file, each.label, *write_share(each.probability).split()]
    assert lines[11:] == ["... and 15 more"]
    assert str(predictions).splitlines() == lines
    assert list(predictions) == expected
    assert str(predictions) == "no predictions are left"


def test_printing_counts_on_from_what_was_iterated(network: visus.Run, photos: Path) -> None:
    predictions = network.predict(photos)
    for _ in range(7):
        next(predictions)
    lines = str(predictions).splitlines()
    assert lines[1].startswith(str(photos / "dark" / "07.png")) or "07.png" in lines[1]
    assert lines[-1] == "... and 43 more"
    generated = network.predict(each for each in noise(12, 3, 10, 10))
    assert str(generated).splitlines()[-1] == "... and more"
    assert len(str(network.predict(noise(10, 3, 10, 10))).splitlines()) == 11


def test_an_unreadable_file_is_a_row_with_its_reason(network: visus.Run, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("this is text, not an image")
    table = network.predict([tmp_path / "bad.png"]).text()[0]
    assert isinstance(table, Table)
    assert table.rows[0][0] == str(tmp_path / "bad.png")
    assert table.rows[0][1].startswith("no prediction: the file holds text")
    assert table.rows[0][2] == ""


def test_an_error_that_is_printed_is_still_raised(network: visus.Run) -> None:
    predictions = network.predict([noise(1, 3, 10, 10)[0], np.zeros((8, 8, 8), np.uint8)])
    assert "array 2: an array of 8 x 8 x 8 does not fit" in str(predictions)
    with pytest.raises(UsageError, match="array 2: an array of 8 x 8 x 8 does not fit"):
        list(predictions)


# ---- images of Pillow, gray arrays, arrays with opacity ----


MODES = ["RGB", "L", "RGBA", "LA", "P", "1", "CMYK", "I;16"]


def made(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(noise(1, 20, 30)[0].astype(np.uint16) * 256)
    if mode in ("RGBA", "LA"):
        alpha = Image.fromarray(noise(1, 20, 30, seed=1)[0])
        return Image.merge(mode, (*made("RGB" if mode == "RGBA" else "L").split(), alpha))
    color = Image.fromarray(noise(1, 20, 30, 3)[0])
    return color.quantize(32) if mode == "P" else color.convert(mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_pillow_is_predicted_as_its_file(network: visus.Run, mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    made(mode).save(file)
    by_file = network.predict(file)
    expected = list(by_file)
    with Image.open(file) as image:
        opened = network.predict(image)
        assert list(opened) == expected
    assert opened.ledger.as_dict() == by_file.ledger.as_dict()
    own = network.predict([made(mode)])
    (answer,) = own
    assert answer.file == "image 1"
    assert (answer.labels, answer.probabilities) == (expected[0].labels, expected[0].probabilities)
    assert own.ledger.counts == by_file.ledger.counts


@pytest.mark.parametrize(("mode", "axes"), [("L", "HW"), ("L", "CHW"), ("L", "HWC"), ("RGBA", "HWC"), ("RGBA", "CHW")])
@pytest.mark.parametrize("size", [(30, 20), (10, 10)])
def test_a_gray_array_and_one_with_opacity_are_predicted_as_their_file(
    network: visus.Run, mode: str, axes: str, size: tuple[int, int], tmp_path: Path
) -> None:
    image = made(mode).resize(size)
    image.save(tmp_path / "a.png")
    by_file = network.predict(tmp_path / "a.png")
    (expected,) = by_file
    values = np.asarray(image)
    values = values[:, :, None] if mode == "L" and axes != "HW" else values
    values = values.transpose(2, 0, 1) if axes == "CHW" else values
    batches = [values[None], torch.from_numpy(np.stack([values, values]))] if axes != "HW" else []
    for given in (values, torch.from_numpy(values.copy()), *batches):
        predictions = network.predict(given)
        for answer in predictions:
            assert (answer.labels, answer.probabilities) == (expected.labels, expected.probabilities)
            assert answer.file == ("array 1" if given.ndim < 4 else answer.file)
        assert predictions.ledger.counts.keys() == by_file.ledger.counts.keys()


def test_an_array_of_other_values_or_channels_is_still_refused(network: visus.Run) -> None:
    for wrong in (np.zeros((10, 12), np.float32), np.zeros((5, 10, 12), np.uint8), np.zeros((2, 10, 12), np.uint8)):
        with pytest.raises(UsageError):
            list(network.predict(wrong))


def test_an_image_of_pillow_cannot_be_sorted_into_folders(network: visus.Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        network.predict(made("RGB")).sort_into(tmp_path / "sorted")


# ---- a run ----


def test_a_run_shows_its_curves_and_its_confusion_matrix(network: visus.Run) -> None:
    shown = network._repr_html_()
    assert shown.count("<svg") == 2
    assert "<b>Loss</b>" in shown
    assert "<b>Accuracy</b>" in shown
    assert confusion_table(network.scores, "images") in shown
    assert "<caption>confusion matrix</caption>" not in shown, "it is there once"
    assert len(shown) < 20_000
    assert not re.search(r"""(src|href)=|url\(|@import|<script|https?://(?!www\.w3\.org)""", shown)


def test_the_style_of_a_run_is_for_its_drawings_alone(network: visus.Run) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", network._repr_html_(), re.S)
    selectors = [each for rule in re.findall(r"([^{}]+)\{[^{}]*\}", style) for each in rule.split(",")]
    assert len(selectors) > 20
    assert all(each.startswith(".visus-run") for each in selectors), selectors
    used = {name for names in re.findall(r'class="([^"]*)"', network._repr_html_()) for name in names.split()}
    drawn = {"hit", "line", "grid", "key", "pair", "confusion", "metric"}
    assert drawn <= used
    assert all(re.search(rf"\.{name}\b", style) for name in drawn)


def test_a_run_without_scores_or_checkpoint_is_still_shown(run: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoint")
    assert "weights kept" not in visus.load(copy)._repr_html_()
    assert "weights kept" in visus.load(run)._repr_html_()
    (copy / "scores.json").unlink()
    (copy / "results.csv").write_text("epoch\nnothing\n")
    assert visus.load(copy)._repr_html_().startswith("<table><caption>Run copy")


def test_the_confusion_matrix_of_many_classes_is_left_out_where_it_is_too_large() -> None:
    from visus.evaluation.scores import score
    from visus.pages.run_preview import run_preview

    for num_classes, has_map in ((3, False), (30, True), (600, False)):
        labels = np.arange(num_classes)
        found = score(torch.eye(num_classes), torch.from_numpy(labels), [f"class {each}" for each in labels])
        shown = run_preview((), None, found, floor=0.0, unit="px", nouns="images")
        assert ("<svg" in shown) is has_map, num_classes
        assert len(shown) < MAX_BYTES + 10_000
    assert run_preview((), None, None, floor=0.0, unit="px", nouns="images") == ""


# ---- an account ----


def test_the_text_of_an_account_has_every_row_and_its_totals() -> None:
    account = visus.summary("conv(64, 3, stride=7), globalpool", (3, 224, 224))
    text = account.text()
    assert isinstance(text, Text)
    table = text[0]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows[:-1]] == [row.path for row in account.rows]
    for column, total in ((3, account.num_parameters), (4, account.macs)):
        numbers = [int(row[column].replace(",", "")) for row in table.rows]
        assert sum(numbers[:-1]) == numbers[-1] == total
    assert text[-1] == account.advice[-1].text


@pytest.mark.parametrize("name", ["resnet(18)", "resnet50", "lenet5"])
def test_the_rows_of_a_large_account_are_folded_by_block_under_their_totals(name: str) -> None:
    account = visus.summary(name, (3, 64, 64))
    shown = account._repr_html_()
    blocks = blocks_of(account.rows)
    assert [row for _, rows in blocks for row in rows] == list(account.rows), "no row is lost, and the order is kept"
    assert shown.count('<tr><th scope="row"') == len(account.rows) + len(account._facts()[1])
    assert shown.startswith("<table><caption>Account of")
    is_large = len(account.rows) > MAX_UNFOLDED
    assert is_large is (name != "lenet5")
    assert shown.count("<details>") == (sum(bool(block) for block, _ in blocks) if is_large else 0)
    if is_large:
        assert all(len(rows) <= MAX_UNFOLDED for block, rows in blocks if block)
        for block, rows in blocks:
            if block:
                parameters = write_count(sum(row.num_parameters for row in rows))
                assert f"<summary>{block}: {len(rows)} rows, {parameters} parameters" in shown


# ---- errors ----


@pytest.fixture
def shell() -> Iterator[Any]:
    interactiveshell = pytest.importorskip("IPython.core.interactiveshell")
    made = interactiveshell.InteractiveShell.instance(colors="nocolor")
    yield made
    interactiveshell.InteractiveShell.clear_instance()


def test_an_error_in_a_cell_shows_the_own_line_and_the_sentence(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_cell("import visus\n\ndef mine():\n    return visus.parse('conv(3')\n\nmine()")
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == "DesignError: line 1, column 5: '(' is never closed."
    assert re.findall(r"^----> (.*)$", shown, re.M) == ["6 mine()", "4 return visus.parse('conv(3')"]
    assert shown.splitlines()[0] == "Cell In[1], line 6"
    assert "notation" not in shown
    assert len(shown.splitlines()) <= 8


def test_an_error_of_an_own_module_shows_its_line_too(shell: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cell = """
import torch, visus
class Net(torch.nn.Module):
    def forward(self, x):
        return x.view(7)
visus.summary(Net(), (3, 8, 8), progress=False)
"""
    shell.run_cell(cell)
    shown = capsys.readouterr().out
    assert "visus.summary(Net(), (3, 8, 8), progress=False)" in shown
    assert "site-packages" not in shown
    assert not re.search(r"File .*visus", shown)


def test_an_error_outside_of_ipython_is_raised_with_its_whole_traceback(visus_command: Call) -> None:
    with pytest.raises(UsageError) as caught:
        visus.parse("conv(3")
    lines = caught.value._render_traceback_()
    assert lines[-1] == "DesignError: line 1, column 5: '(' is never closed."
    assert lines[0].startswith(f"File {__file__}, line ")
    assert len(caught.traceback) > 2


def test_a_png_given_as_a_stream_is_left_where_it_was(network: visus.Run) -> None:
    stream = io.BytesIO()
    made("RGB").save(stream, "PNG")
    stream.seek(0)
    with Image.open(stream) as image:
        first = list(network.predict(image))
        assert image.size == (30, 20)
        np.testing.assert_array_equal(np.asarray(image), np.asarray(made("RGB")))
        assert [each.probabilities for each in network.predict(image)] == [each.probabilities for each in first]
