"""The navigation of the site: every page that exists, in reading order.

A page that ``ORDER`` does not name comes after those of its folder that it names, so no page is ever missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ORDER: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "start.md"),
    "Tutorials": (
        "tutorials/first-classifier.ipynb",
        "tutorials/look-inside.ipynb",
        "tutorials/design-and-receptive-field.ipynb",
        "tutorials/class-note.ipynb",
        "tutorials/signals-and-volumes.ipynb",
        "tutorials/own-module.ipynb",
    ),
    "How to": (
        "how-to/few-photos.md",
        "how-to/unsure-photos.md",
        "how-to/predict-many.md",
        "how-to/fine-tune.md",
        "how-to/unbalanced-classes.md",
        "how-to/many-classes.md",
        "how-to/augmentation.md",
        "how-to/own-augmentation-or-loss.md",
        "how-to/own-loss-or-metric.md",
        "how-to/multi-label.md",
        "how-to/regression.md",
        "how-to/several-processes.md",
        "how-to/choose-epochs.md",
        "how-to/cross-validate.md",
        "how-to/ensembles.md",
        "how-to/tune.md",
        "how-to/resume.md",
        "how-to/callbacks.md",
        "how-to/track-experiments.md",
        "how-to/add-photos.md",
        "how-to/read-the-report.md",
        "how-to/compare-two-runs.md",
        "how-to/wrong-labels.md",
        "how-to/robust-to-shifts.md",
        "how-to/export.md",
        "how-to/serve.md",
        "how-to/any-backbone.md",
        "how-to/engines.md",
        "how-to/coming-from.md",
    ),
    "Reference": (
        "reference/index.md",
        "reference/commands.md",
        "reference/python/",
        "reference/settings.md",
        "reference/layers.md",
        "reference/families.md",
        "reference/data.md",
        "reference/run-files.md",
        "reference/errors.md",
    ),
    "Concepts": (
        "concepts/convolution.md",
        "concepts/receptive-field.md",
        "concepts/invariance.md",
        "concepts/calibration.md",
        "concepts/intervals-and-tests.md",
        "concepts/ledger.md",
        "concepts/exact-resume.md",
        "concepts/fast-convolutions.md",
        "glossary.md",
    ),
    "The class note": ("class_note.md",),
    "Benchmarks": ("benchmarks.md", "benchmarks-log.md"),
}
"""The pages of each tab in reading order. A name that ends with ``/`` is a folder with a list of its own."""


def navigation(pages: Iterable[str]) -> list[dict[str, Any]]:
    """The navigation as mkdocs takes it.

    Args:
        pages: the path of every page under ``docs/``.

    Raises:
        ValueError: a page is in a folder that no tab has.

    >>> navigation(["index.md", "how-to/resume.md", "how-to/another.md"])
    [{'Start': ['index.md']}, {'How to': ['how-to/resume.md', 'how-to/another.md']}]
    """
    left = set(pages)
    found: list[dict[str, Any]] = []
    for tab, order in ORDER.items():
        entries: list[Any] = []
        for name in order:
            if name.endswith("/"):
                inside = {page for page in left if page.startswith(name)}
                left -= inside
                if inside:
                    entries.append({"Python": _python(name, inside)})
            elif name in left:
                left.remove(name)
                entries.append(name)
        folder = order[0].partition("/")
        others = {page for page in left if folder[1] and page.startswith(f"{folder[0]}/")}
        left -= others
        if entries := entries + sorted(others):
            found.append({tab: entries})
    if left:
        raise ValueError(f"no tab holds {', '.join(sorted(left))}. Add it to ORDER in docs/generators/navigation.py.")
    return found


def _python(folder: str, pages: set[str]) -> list[Any]:
    """The list of names, each name, the modules and the results; each page is titled by its name."""

    def titled(part: str) -> list[Any]:
        names = sorted(
            page.removeprefix(part).removesuffix(".md") for page in pages if page.rpartition("/")[0] + "/" == part
        )
        return [{name: f"{part}{name}.md"} for name in sorted(names, key=str.lower) if name != "index"]

    groups = [(title, titled(f"{folder}{title.lower()}/")) for title in ("Modules", "Results")]
    return [f"{folder}index.md", *titled(folder), *({title: entries} for title, entries in groups if entries)]
