"""The page on which a person sees that filters follow from the task: matched filters side by side, and how alike the layers are.

This file knows figures and words.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from visus.examine.layer_calls import Array
from visus.examine.similarity import LayerLikeness, Matching, mean_likeness
from visus.pages.parts.document import header, image, page, section, table_head, table_row, wide_table
from visus.pages.parts.images import enlarged, kernel_image, png, sheet

MAX_FILTERS = 64
_SIDE_PX = 48


@dataclass(frozen=True, eq=False)
class Other:
    """One of the networks that the first is held against.

    Args:
        name: what it learned, in words, such as ``the same labels, seed 1``.
        result: how well, as a sentence; empty where it learned nothing.
        kernels: of its first layer.
        matching: the first network's filters with those.
        layers: how alike each layer is.
    """

    name: str
    result: str
    kernels: Array
    matching: Matching
    layers: tuple[LayerLikeness, ...]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data; without the kernels."""
        return {
            "name": self.name,
            "result": self.result,
            "filters": {
                "mean_cosine": self.matching.mean,
                "cosines": [float(cosine) for cosine in self.matching.cosines],
                "partners": list(self.matching.partners),
            },
            "layers": {layer.path: layer.cka for layer in self.layers},
        }


@dataclass(frozen=True, eq=False)
class TaskFacts:
    """What a comparison of tasks found.

    Args:
        name: of the run.
        task: what the run itself learned, in words.
        result: how well, as a sentence.
        layer: path of its first layer with filters.
        kernels: its filters (filters, channels, *spatial).
        others: the other task, the same task from another start, and a network that learned nothing.
        num_samples, noun: the held-out samples that the layers were compared on.
    """

    name: str
    task: str
    result: str
    layer: str
    kernels: Array
    others: tuple[Other, ...]
    num_samples: int
    noun: str

    @property
    def unit(self) -> str:
        """What one of the kernels is called: a filter, or a unit of a linear layer."""
        return "unit" if self.kernels.ndim == 2 else "filter"

    def sentences(self) -> list[str]:
        """What the figures say."""
        other, *rest = self.others
        said = [
            f"The {len(self.kernels)} {self.unit}s of {self.layer}, each with its partner: a mean cosine of {other.matching.mean:.2f} after "
            f"{other.name}" + "".join(f", {each.matching.mean:.2f} after {each.name}" for each in rest) + "."
        ]
        if rest and rest[0].matching.mean <= rest[-1].matching.mean + 0.02:
            said.append(
                "So in this layer two trainings for one task have no more in common than chance has: it says nothing about the task."
            )
        elif rest and other.matching.mean < rest[0].matching.mean - 0.02:
            said.append(f"So the other task has found other {self.unit}s than a second training for the same task finds.")
        elif rest:
            said.append(f"So in this layer the other task leads to {self.unit}s that are as like as those of the same task.")
        return [*said, *self._parting()]

    def _parting(self) -> list[str]:
        """Where the other task parts most from a second training for the same task."""
        if len(self.others) < 3:
            return []
        other, control = ({layer.path: layer.cka for layer in each.layers} for each in self.others[:2])
        gaps = {
            path: (likeness, same)
            for path, likeness in other.items()
            if likeness is not None and (same := control.get(path)) is not None
        }
        if not gaps:
            return []
        path = max(gaps, key=lambda each: gaps[each][1] - gaps[each][0])
        likeness, same = gaps[path]
        if same - likeness < 0.05:
            return [
                "In no layer do the two tasks part: each is as like the run's as after a second training for the same task."
            ]
        return [
            f"The tasks part most in {path}: its answers are {likeness:.2f} like the run's after {self.others[0].name}, and {same:.2f} after "
            f"{self.others[1].name}."
        ]

    def to_json(self) -> dict[str, Any]:
        """The figures as plain data; without the kernels."""
        return {
            "run": self.name,
            "task": self.task,
            "result": self.result,
            "layer": self.layer,
            "num_samples": self.num_samples,
            "others": [other.to_json() for other in self.others],
            "sentences": self.sentences(),
        }


def task_page(facts: TaskFacts, *, made_with: str = "") -> str:
    """The page as HTML text."""
    return page(
        f"{facts.name}, tasks",
        header("Do filters follow from the task?", facts.name, (facts.task, facts.result)),
        [_filters(facts), _layers(facts)],
        kind="tasks",
        made_with=made_with,
    )


def _filters(facts: TaskFacts) -> str:
    """The run's filters, and those of each other network in the order of their partners."""
    most, unit = min(len(facts.kernels), MAX_FILTERS), facts.unit
    order = np.argsort(-np.sqrt(np.square(facts.kernels.reshape(len(facts.kernels), -1)).sum(1)), kind="stable")[:most]
    figures = [_sheet(facts.kernels[order], facts.task, facts.result)]
    for other in facts.others:
        partners = other.kernels[np.array(other.matching.partners)[order]]
        figures.append(_sheet(partners, other.name, f"mean cosine {other.matching.mean:.2f}. {other.result}"))
    told = " ".join(escape(sentence) for sentence in facts.sentences())
    left_out = len(facts.kernels) - most
    how = (
        f"{unit.capitalize()}s at the same place are partners: those whose patterns are most alike, no {unit} twice. Each {unit} is drawn on "
        "its own scale; the strongest of the run come first."
        + (f" {left_out} weaker ones are left out." if left_out else "")
    )
    return section(f"First {unit}s", f'<p>{told}</p><p>{how}</p><div class="pair">{"".join(figures)}</div>')


def _sheet(kernels: Array, name: str, told: str) -> str:
    drawn = sheet([enlarged(kernel_image(kernel), _SIDE_PX) for kernel in kernels], columns=8, gap=4)
    about = escape(" ".join(told.split()))
    return (
        f"<figure><figcaption><b>{escape(name)}</b> {about}</figcaption>"
        f"{image(png(drawn), f'{len(kernels)} drawn, {name}', style='pixels')}</figure>"
    )


def _layers(facts: TaskFacts) -> str:
    """Every layer's centered kernel alignment with each other network."""
    paths = [layer.path for layer in max((other.layers for other in facts.others), key=len)]
    by_path = [{layer.path: layer.cka for layer in other.layers} for other in facts.others]
    rows = [table_row(path, (_figure(each.get(path)) for each in by_path)) for path in paths]
    shared = {layer.path for layer in min((other.layers for other in facts.others), key=len)}
    means = table_row(
        f"mean of {len(shared)}",
        (_figure(mean_likeness([each for each in other.layers if each.path in shared])) for other in facts.others),
    )
    head = table_head(["layer", *(other.name for other in facts.others)])
    said = (
        f"<p>How alike each layer's answers to {facts.num_samples:,} held-out {escape(facts.noun)}s are: 1 where one is the other turned and "
        "scaled, about 0 where they have nothing in common (centered kernel alignment, Kornblith et al. 2019, without the bias of few "
        "samples). A dash stands for layers that this network did not train.</p>"
    )
    table = wide_table("Centered kernel alignment with the run", f"{head}<tbody>{''.join(rows)}{means}</tbody>")
    return section("Every layer", said + table)


def _figure(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"
