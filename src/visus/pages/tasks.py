"""The page that compares a run with networks trained for other tasks: matched filters side by side, and the similarity of all layers."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np

from visus.examine.layer_calls import Array
from visus.examine.similarity import LayerSimilarity, Matching, mean_similarity
from visus.pages.parts.document import Section, figure, header, page, paragraphs
from visus.pages.parts.filters import MAX_FILTERS, filter_grid
from visus.pages.parts.table import table, table_row
from visus.tables import ShortFields


@dataclass(frozen=True, eq=False, repr=False)
class OtherNetwork(ShortFields):
    """One of the networks that the run is compared with.

    Args:
        name: its task in words, such as ``the same labels, seed 1``.
        result: its result as a sentence; empty if it was not trained.
        kernels: kernels of its first layer.
        matching: the filters of the run matched with these.
        layers: the similarity of each layer.
    """

    name: str
    result: str
    kernels: Array
    matching: Matching
    layers: tuple[LayerSimilarity, ...]

    def to_json(self) -> dict[str, Any]:
        """The results as plain data, without the kernels."""
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


LEAST_DIFFERENCE: Final = 0.05
"""Difference in CKA from which a layer differs between two tasks: smaller ones also lie between two trainings for one task."""


@dataclass(frozen=True, eq=False, repr=False)
class TaskFacts(ShortFields):
    """The results of a comparison of tasks.

    Args:
        name: name of the run.
        task: the task of the run, in words.
        result: its result as a sentence.
        layer: path of its first layer with filters.
        kernels: its filters (filters, channels, *spatial).
        others: the other task, the same task from another seed, and an untrained network.
        num_samples, noun: the held-out samples on which the layers were compared.
    """

    name: str
    task: str
    result: str
    layer: str
    kernels: Array
    others: tuple[OtherNetwork, ...]
    num_samples: int
    noun: str

    @property
    def unit(self) -> str:
        """Word for one kernel: a filter, or a unit of a linear layer."""
        return "unit" if self.kernels.ndim == 2 else "filter"

    def sentences(self) -> list[str]:
        """The results in words."""
        other, *rest = self.others
        means = [f"{each.matching.mean:.2f} for {each.name}" for each in self.others]
        listed = means[0] if len(means) == 1 else f"{', '.join(means[:-1])} and {means[-1]}"
        words = [
            f"The {len(self.kernels)} {self.unit}s of {self.layer} are matched one to one. The mean cosine similarity of the pairs is {listed}."
        ]
        if rest and rest[0].matching.mean <= rest[-1].matching.mean + 0.02:
            words.append(
                "In this layer, two trainings for the same task are no more similar than chance: it says nothing about the task."
            )
        elif rest and other.matching.mean < rest[0].matching.mean - 0.02:
            words.append(f"In this layer, the {self.unit}s depend on the task more than on the seed.")
        elif rest:
            words.append(f"In this layer, the {self.unit}s of the other task are as similar as those of the same task.")
        return [*words, *self._divergence()]

    def _divergence(self) -> list[str]:
        """The layer in which the other task differs most from a second training for the same task."""
        if len(self.others) < 3:
            return []
        other, control = ({layer.path: layer.cka for layer in each.layers} for each in self.others[:2])
        pairs = {
            path: (cka, same) for path, cka in other.items() if cka is not None and (same := control.get(path)) is not None
        }
        if not pairs:
            return []
        path = max(pairs, key=lambda each: pairs[each][1] - pairs[each][0])
        cka, same = pairs[path]
        if same - cka < LEAST_DIFFERENCE:
            return [
                f"No layer differs between the two tasks by {LEAST_DIFFERENCE:.2f} or more: each is about as similar to the run as after a "
                f"second training for the same task. The largest difference is that of {path}, {cka:.2f} against {same:.2f}."
            ]
        return [
            f"The tasks differ most in {path}: its CKA with the run is {cka:.2f} for {self.others[0].name} and {same:.2f} for {self.others[1].name}."
        ]

    def to_json(self) -> dict[str, Any]:
        """The results as plain data, without the kernels."""
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
        header("Do filters depend on the task?", facts.name, (facts.task, facts.result)),
        [_filters(facts), _layers(facts)],
        kind="tasks",
        made_with=made_with,
    )


def _filters(facts: TaskFacts) -> Section:
    """The filters of the run, and of each other network in the order of their partners."""
    count, unit = min(len(facts.kernels), MAX_FILTERS), facts.unit
    norms = np.sqrt(np.square(facts.kernels.reshape(len(facts.kernels), -1)).sum(1))
    order = np.argsort(-norms, kind="stable")[:count]
    figures = [_filter_figure(facts.kernels[order], unit, facts.task, facts.result)]
    for other in facts.others:
        partners = other.kernels[np.array(other.matching.partners)[order]]
        figures.append(_filter_figure(partners, unit, other.name, f"mean cosine {other.matching.mean:.2f}. {other.result}"))
    hidden = len(facts.kernels) - count
    how = (
        f"{unit.capitalize()}s at the same position are partners. The matching maximizes the sum of their cosine similarities and uses no {unit} "
        f"twice. Each {unit} is scaled by its own largest weight; the {unit}s of the run with the largest norms come first."
        + (f" {hidden} weaker ones are not drawn." if hidden else "")
    )
    words = paragraphs([" ".join(facts.sentences()), how])
    return Section(f"First {unit}s", f'{words}<div class="pair">{"".join(figures)}</div>')


def _filter_figure(kernels: Array, unit: str, name: str, result: str) -> str:
    caption = f"<b>{escape(name)}</b> {escape(' '.join(result.split()))}"
    return figure(caption, filter_grid(kernels, f"{len(kernels)} {unit}s, {name}"))


def _layers(facts: TaskFacts) -> Section:
    """The centered kernel alignment of every layer with each other network."""
    paths = [layer.path for layer in max((other.layers for other in facts.others), key=len)]
    by_path = [{layer.path: layer.cka for layer in other.layers} for other in facts.others]
    rows = [table_row(path, (_cka(each.get(path)) for each in by_path)) for path in paths]
    shared = {layer.path for layer in min((other.layers for other in facts.others), key=len)}
    means = [mean_similarity([each for each in other.layers if each.path in shared]) for other in facts.others]
    rows.append(table_row(f"mean of {len(shared)}", map(_cka, means)))
    words = (
        f"Similarity of the outputs of each layer for {facts.num_samples:,} held-out {facts.noun}s: 1 where they are equal up to rotation and "
        "scale, about 0 where they are unrelated (CKA, centered kernel alignment, Kornblith et al. 2019, with the unbiased estimator). A dash marks "
        "layers that were not trained in this network."
    )
    columns = ["Layer", *(other.name for other in facts.others)]
    return Section("All layers", paragraphs([words]) + table("CKA with the run", columns, rows))


def _cka(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.2f}"
