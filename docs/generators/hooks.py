"""What mkdocs calls while it builds the site: adds generated pages and notebooks, orders the navigation, and checks the result."""

from __future__ import annotations

import logging
import re
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files, InclusionLevel

_DOCS = Path(__file__).resolve().parents[1]
if str(_DOCS) not in sys.path:
    sys.path.insert(0, str(_DOCS))

from generators import generate  # noqa: E402
from generators.navigation import navigation  # noqa: E402
from generators.notebooks import read_notebook, render  # noqa: E402
from generators.offline import outside_loads  # noqa: E402

LOG = ("benchmarks/LOG.md", "benchmarks-log.md")
"""A file of the repository that is a page too: its path there, and under ``docs/``."""
_KNOWN = "Unsupported item in visus.design.__all__: LAYERS"  # a dict of names; the pages of layers come from the dict itself


def _is_unknown(record: logging.LogRecord) -> bool:
    """Whether a warning is none that is known to be harmless."""
    return _KNOWN not in record.getMessage()


def on_startup(**_: Any) -> None:
    """Drop the warning that is known to be harmless, so that every other one fails the build."""
    logging.getLogger("mkdocs.plugins.griffe").addFilter(_is_unknown)


class NotebookPage(File):
    """A notebook that mkdocs treats as a page; its content is the Markdown of the rendered notebook."""

    def is_documentation_page(self) -> bool:
        """Whether this is a page, and no file that is only copied."""
        return True


@event_priority(100)
def on_files(files: Files, /, *, config: Any) -> Files:
    """Add generated pages and notebooks, and set the navigation."""
    try:
        generated = generate()
    except ValueError as error:
        raise PluginError(f"the reference cannot be generated: {error}") from error
    for path, text in generated.items():
        if files.get_file_from_path(path) is not None:
            raise PluginError(f"docs/{path} is generated when the site is built. Remove the file.")
        files.append(File.generated(config, path, content=text))
    files.append(File.generated(config, LOG[1], content=(_DOCS.parent / LOG[0]).read_text("utf-8")))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        _add_notebook(files, notebook, config)
    pages = [file.src_uri for file in files.documentation_pages(inclusion=InclusionLevel.is_included)]
    try:
        config.nav = navigation(pages)
    except ValueError as error:
        raise PluginError(str(error)) from error
    return files


def _add_notebook(files: Files, notebook: File, config: Any) -> None:
    """Replace the file of a notebook by its page and its images."""
    path = PurePosixPath(notebook.src_uri)
    rendered = render(read_notebook(Path(str(notebook.abs_src_path))), path.stem)
    files.remove(notebook)
    files.append(NotebookPage.generated(config, notebook.src_uri, content=rendered.markdown))
    for name, content in rendered.images.items():
        files.append(File.generated(config, str(path.with_name(name)), content=content))


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Hide the list of pages beside a page that is alone in its tab, and lead links to the log to its page."""
    if page.parent is not None and len(page.parent.children) == 1:
        page.meta["hide"] = ["navigation"]
    depth = page.file.src_uri.count("/")
    return markdown.replace(f"]({'../' * (depth + 1)}{LOG[0]}", f"]({'../' * depth}{LOG[1]}")


def on_page_content(html: str, /, **_: Any) -> str:
    """Mark short code within text, such as an option, so that no line breaks within it."""
    return re.sub(r"<code>([^<\n]{1,24})</code>", r'<code class="visus-short">\1</code>', html)


@event_priority(-200)
def on_post_build(*, config: Any) -> None:
    """Remove the search's stemmers of other languages, and fail where a page would load something from another host."""
    site = Path(config.site_dir)
    shutil.rmtree(site / "assets" / "javascripts" / "lunr", ignore_errors=True)
    if found := outside_loads(site):
        raise PluginError("the site loads from other hosts:\n" + "\n".join(found[:20]))
