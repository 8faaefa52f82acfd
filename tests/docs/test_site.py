"""The built site: it builds strictly, opens from disk without a network connection, and refuses what is broken."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from docs.generators import generate
from docs.generators.offline import outside_loads

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


def copy_project(folder: Path) -> Path:
    """A copy of the sources and the documentation."""
    pytest.importorskip("material", reason="needs the extra docs")
    pytest.importorskip("mkdocstrings_handlers.python", reason="needs the extra docs")
    for name in ("src", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "benchmarks").mkdir()
    for name in ("mkdocs.yml", "benchmarks/LOG.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project, for one test to damage."""
    return copy_project(tmp_path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    code, messages = build(folder)
    assert code == 0, messages
    return folder / "site"


def build(project: Path) -> tuple[int, str]:
    """Build the site of a project strictly: exit code and messages."""
    environment = {**os.environ, "PYTHONPATH": str(project / "src"), "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    answer = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=600, check=False)
    return answer.returncode, answer.stdout + answer.stderr


def test_the_site_builds_strictly_and_opens_from_disk(site: Path) -> None:
    docs = site.parent / "docs"
    written = [path.relative_to(docs).as_posix() for path in docs.rglob("*.md")]
    pages = [name for name in {*written, *generate()} if name.endswith(".md")]
    missing = [name for name in pages if not (site / name).with_suffix(".html").is_file()]
    assert not missing, f"pages that were not built: {missing}"
    assert not list(site.rglob("*.py")), "the generators are no part of the site"
    assert outside_loads(site) == []
    assert 'href="benchmarks-log.html"' in (site / "benchmarks.html").read_text("utf-8")
    home = (site / "index.html").read_text("utf-8")
    assert 'src="assets/iframe-worker.js"' in home
    assert (site / "search" / "search_index.js").read_text("utf-8").startswith("var __index = ")
    assert not re.findall(r'(?:href|src)="/[^/]', home), "an absolute address does not open from disk"


def break_link(project: Path) -> None:
    page = project / "docs" / "index.md"
    page.write_text(f"{page.read_text('utf-8')}\n[broken](reference/no-such-page.md)\n")


def break_anchor(project: Path) -> None:
    page = project / "docs" / "index.md"
    page.write_text(f"{page.read_text('utf-8')}\n[broken](reference/commands.md#visus-trane)\n")


def remove_docstring(project: Path) -> None:
    module = project / "src" / "visus" / "workbench" / "opening.py"
    text = module.read_text("utf-8")
    changed = re.sub(r'(def open_data\(.*?\n\) -> Data:\n)    """.*?"""\n', r"\1", text, count=1, flags=re.DOTALL)
    assert changed != text
    module.write_text(changed)


def document_no_argument(project: Path) -> None:
    module = project / "src" / "visus" / "errors.py"
    text = module.read_text("utf-8")
    line = '        """Put ``place`` in front of the error\'s place, and return the error.'
    assert line in text
    module.write_text(text.replace(line, f"{line}\n\n        Args:\n            plaice: the place."))


def load_from_another_host(project: Path) -> None:
    page = project / "docs" / "index.md"
    page.write_text(f'{page.read_text("utf-8")}\n<script src="https://example.org/a.js"></script>\n')


def commit_generated_page(project: Path) -> None:
    (project / "docs" / "reference").mkdir(exist_ok=True)
    (project / "docs" / "reference" / "errors.md").write_text("# Errors\n")


def add_page_without_tab(project: Path) -> None:
    (project / "docs" / "notes").mkdir()
    (project / "docs" / "notes" / "one.md").write_text("# One\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_link, "contains a link 'reference/no-such-page.md', but the target is not found"),
        (break_anchor, "does not contain an anchor '#visus-trane'"),
        (remove_docstring, "without a docstring: open_data."),
        (document_no_argument, "'plaice' does not appear in the function signature"),
        (load_from_another_host, "index.html: https://example.org/a.js"),
        (commit_generated_page, "docs/reference/errors.md is generated when the site is built. Remove the file."),
        (add_page_without_tab, "no tab holds notes/one.md."),
    ],
)
def test_what_is_broken_fails_the_build(damage: Callable[[Path], None], message: str, project: Path) -> None:
    damage(project)
    code, messages = build(project)
    assert code != 0
    assert message in " ".join(messages.split())


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_search_works_in_a_page_that_is_opened_from_disk(site: Path) -> None:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    page = (site / "index.html").as_uri()
    answer = subprocess.run(
        ["chromium", *options, f"{page}?q=receptive"], capture_output=True, text=True, timeout=120, check=False
    )
    found = re.search(r'class="md-search-result__meta"[^>]*>\s*(\d+) matching documents', answer.stdout)
    assert found, "the search found nothing"
    assert int(found[1]) > 3
