"""The figures of the documents are those of the present code: each is drawn again, and its words compared with those of its file."""

from __future__ import annotations

import doctest
import importlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from figures import __main__ as command
from figures import browser, figures, fingerprints, report
from figures.browser import SCALE, BrowserError, render
from figures.figure import Figure, SourcePage
from figures.figures import FIGURES, present_fingerprint
from figures.fingerprints import FOLDER, differences, fingerprint, read_manifest
from figures.terminal import screen_lines, terminal
from figures.train import plain_transcript, quoted
from figures.training import QUOTING

ROOT = Path(__file__).resolve().parents[2]
PAGE = (
    "<html><style>\np { color: red }</style><main>\n<header>A head</header>\n<section class='panel'>91.6 %</section>\n"
    "<section><h2>Confusion matrix</h2><section>inner</section><br><img src='a'></section>\n<div class='look'>"
    "<section><h2>Saliency</h2><svg><rect/></svg></section><section><h2>Layers</h2></section></div></main></html>"
)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ("report", "shifts", "train") else name for name in FIGURES],
)
def test_a_figure_is_fresh(name: str) -> None:
    entry = read_manifest().get(name)
    assert entry is not None, f"docs/pictures/{name}.png was never made. Make it: scripts/pictures {name}"
    changed = differences(entry, present_fingerprint(name))
    assert not changed, (
        f"docs/pictures/{name}.png is stale: {', '.join(changed)} changed. Make it again: scripts/pictures {name}"
    )


def test_every_file_has_its_figure_and_its_entry() -> None:
    files, manifest = {path.stem for path in FOLDER.glob("*.png")}, read_manifest()
    assert files == set(FIGURES) == set(manifest)
    for name, entry in manifest.items():
        path = FOLDER / f"{name}.png"
        assert fingerprints.hash_of_file(path) == entry["file"], f"{path.name} was not written by scripts/pictures {name}"
        assert path.stat().st_size <= browser.MAX_BYTES
        with Image.open(path) as image:
            assert 1000 <= image.width / SCALE <= 1400, name


def test_every_figure_is_shown_with_a_text_for_readers_who_do_not_see_it() -> None:
    paths = [ROOT / "README.md", *(path for ending in ("md", "ipynb") for path in (ROOT / "docs").rglob(f"*.{ending}"))]
    shown: dict[str, list[str]] = {}
    for path in paths:
        for text, name in re.findall(r"!\[([^\]]*)\]\([\w./-]*pictures/([\w-]+)\.png\)", path.read_text("utf-8")):
            shown.setdefault(name, []).append(text)
            assert len(text) >= 30, f"{path.relative_to(ROOT)}: say in the alt text of {name}.png what it shows: '{text}'"
    assert shown.keys() <= FIGURES.keys(), "a document shows an image that no module draws"
    assert set(FIGURES) <= set(shown), "no document shows a figure"


@pytest.mark.parametrize("name", QUOTING)
def test_a_document_quotes_the_training_of_the_figure(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert plain_transcript() in text, f"{name} quotes another training. Run scripts/pictures --train train"
    assert quoted(text) == text


def test_a_fingerprint_sees_words_and_styles_and_no_digits() -> None:
    def print_of(body: str, style: str = "p {}", value: float = 0.5, messages: str = "epoch 1") -> dict[str, object]:
        return fingerprint(Figure(body, 1000, style, values={"share": value}, messages=messages), report, ("Coat", "Bag"))

    before = print_of('<p>91.6 % of the images</p><p>in 3 ms</p><i style="left:3%">Coat</i>')
    same = print_of(
        '<p>88 % of the images</p><p>1,000 % of the images</p><p>in 4.5 s</p><i style="left:4%">Bag</i>', value=0.53
    )
    assert differences(before, same) == []
    assert differences(before, print_of("<p>91.6 % of all images</p>")) == ["what it shows"]
    assert differences(
        before, print_of('<p>91.6 % of the images</p><p>in 3 ms</p><i style="left:3%">Coat</i>', "p { top: 3px }")
    ) == ["its style sheet"]
    assert differences(same, {**same, "values": {"share": 0.6}}) == ["its measured values"]
    assert differences(same, {**same, "values": {"other": 0.5}}) == ["its measured values"]
    assert differences({}, same) == [
        "what it shows",
        "its style sheet",
        "the code that draws it",
        "what the command prints",
        "its measured values",
    ]


def test_the_code_of_a_figure_includes_what_it_imports_here() -> None:
    names = [path.name for path in fingerprints.drawing_modules(Path(str(report.__file__)))]
    assert names == ["figure.py", "report.py", "runs.py"]


def test_a_page_is_taken_apart_by_its_headings() -> None:
    page = SourcePage.read(PAGE)
    assert page.style == "p { color: red }"
    assert [title for title, *_ in page.sections] == ["Confusion matrix", "Saliency", "Layers"]
    assert page.section("Saliency") == (
        "<main class=\"part\"><div class='look'><section><h2>Saliency</h2><svg><rect/></svg></section></div></main>"
    )
    assert page.until(1).endswith("<section>inner</section><br><img src='a'></section></main>")
    assert page.until(2).endswith("</svg></section></div></main>")
    with pytest.raises(ValueError, match="this page has 3 sections, and 4 are needed"):
        page.until(4)
    with pytest.raises(ValueError, match="no section is called 'Mistakes'; known: Confusion matrix, Saliency, Layers"):
        page.section("Mistakes")
    with pytest.raises(ValueError, match="it is not a page of visus"):
        SourcePage.read("<p>")


def test_a_screen_keeps_what_a_person_sees() -> None:
    written = "\x1b[1mdata\x1b[0m: a\r\n\x1b[?25l50 %\r\x1b[2K\x1b[33mwarning\x1b[0m\r\nbar 1\r\nbar 2\r\x1b[2K\x1b[1A\x1b[2Kdone\r\n"
    assert screen_lines(written) == ["\x1b[1mdata\x1b[0m: a", "\x1b[33mwarning\x1b[0m", "done"]
    drawn = terminal("visus train", ["\x1b[33mwar<ning\x1b[0m", "x" * 25], columns=20)
    assert '<span class="prompt">$</span> <b>visus train</b>' in drawn
    assert re.search(r'<span style="color: #[0-9a-f]+[^"]*">war&lt;ning</span>', drawn)
    assert drawn.count("x" * 20) == 1
    assert f"{'x' * 20}\nxxxxx" in drawn


def test_the_command_names_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pictures", "reprot"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert "no such figure: reprot. Known: report, look, receptive-field, advice, shifts, train." in capsys.readouterr().err


def test_without_a_browser_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    drawn = ModuleType("drawn")
    drawn.draw = lambda: Figure("<p>nothing</p>", 300)  # type: ignore[attr-defined]
    monkeypatch.setitem(FIGURES, "report", drawn)
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["pictures", "report"])
    assert command.main() == 1
    assert capsys.readouterr().err == (
        "error: no browser was found. Install Chromium; these names are tried: chromium, chromium-browser, google-chrome, "
        "google-chrome-stable, chrome.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not any(map(shutil.which, browser.NAMES)), reason="there is no Chromium here")
def test_a_file_ends_where_its_page_ends(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(render(Figure('<div style="height:120px;background:#204060"></div>', 300)))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (300 * SCALE, 120 * SCALE)
        assert image.convert("RGB").getpixel((300, 120)) == (0x20, 0x40, 0x60)
    (tmp_path / "b.png").write_bytes(render(Figure('<div style="height:900px"></div>', 300, max_height=200)))
    with Image.open(tmp_path / "b.png") as image:
        assert image.size == (300 * SCALE, 200 * SCALE)


def test_a_palette_keeps_the_colors_of_large_areas() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pixels = np.concatenate(
        [np.full((40, 60, 3), (251, 250, 247), np.uint8), noise, np.full((40, 60, 3), (31, 95, 168), np.uint8)]
    )
    packed = np.asarray(browser._with_palette(pixels).convert("RGB"))
    assert np.array_equal(packed[:40], pixels[:40])
    assert np.array_equal(packed[80:], pixels[80:])
    assert np.abs(packed[40:80].astype(float) - noise).mean() < 40
    two = np.asarray(browser._with_palette(pixels[:1]).convert("RGB"))
    assert np.array_equal(two, pixels[:1])


def test_a_file_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "MAX_BYTES", 50)
    with pytest.raises(BrowserError, match=r"the figure takes [\d,]+ bytes, and at most 50 are allowed: show less of it"):
        browser._packed(np.zeros((40, 40, 3), np.uint8))


@pytest.mark.slow
def test_the_runs_of_the_figure_of_shifts_can_be_trained_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from figures import runs, training

    monkeypatch.setattr(training, "NUM_EPOCHS", 1)
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    training.train_runs(["shifts"])
    committed = ROOT / "docs" / "figures" / "runs"
    for name in ("flatten", "antialiased"):
        files = sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.*"))
        assert files == [Path("design.txt"), Path("weights/best.safetensors")]
        assert (tmp_path / name / "design.txt").read_text("utf-8") == (committed / name / "design.txt").read_text("utf-8")


@pytest.mark.parametrize("name", ["fingerprints", "terminal", "train"])
def test_the_examples_in_docstrings_run(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"figures.{name}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_the_manifest_is_sorted_and_ends_with_a_line() -> None:
    text = fingerprints.MANIFEST.read_text("utf-8")
    assert text == json.dumps(dict(sorted(json.loads(text).items())), indent=2) + "\n"
