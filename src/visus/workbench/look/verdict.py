"""What a look prints: first the answer and what may be believed of it, then a table of layers with only the columns that vary."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from visus.examine.layer_calls import Array
from visus.pages.look.facts import LayerLook, LookFacts, Method
from visus.tables import Table, Text
from visus.units import write_number_of, write_shape, write_share

_AXES: Final = {1: ("points",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
_DASH: Final = "\u2013"


def answer_sentence(facts: LookFacts) -> str:
    """The prediction, its probability, the label, and whether it is right; why there is none, where there is none."""
    if facts.answer is None:
        return facts.missing.get("answer", "")
    best = facts.answer.order[0]
    name, share = facts.answer.classes[best], write_share(float(facts.answer.probabilities[best]))
    truth = facts.sample.truth
    verdict = f"; its label is {truth}: {'right' if truth == name else 'wrong'}" if truth else "; it has no label"
    return f"{facts.sample.name}: {name}, {share}{verdict}"


def saliency_sentences(facts: LookFacts) -> list[str]:
    """Which saliency map is shown and where it points, and which maps did not pass their checks."""
    lines = []
    if facts.methods:
        first = facts.methods[0]
        checked = (
            "passes deletion and insertion" if first.is_passed else "is shown, but does not pass deletion and insertion"
        )
        lines.append(f"saliency: {_name(first)} {checked}; {where(first.saliency.map[0])}")
    elif facts.hidden:
        lines.append("saliency: no map passes deletion and insertion, so none is shown")
    failed = [each for each in (*facts.methods[1:], *facts.hidden) if each.curves is not None and not each.is_passed]
    if failed and facts.methods:
        names = ", ".join(dict.fromkeys(map(_name, failed)))
        lines.append(f"not to be trusted: {names}; deletion and insertion do not beat random orders")
    return lines


def where(saliency: Array) -> str:
    """The places of the middle half of a map's positive part, along each axis.

    >>> where(np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]))
    'half of it lies in rows 1 to 2, half in columns 1 to 2'
    """
    positive = np.maximum(np.asarray(saliency, dtype=np.float64), 0)
    if not positive.sum():
        return "it is 0 everywhere"
    parts = []
    for axis, name in enumerate(_AXES[positive.ndim]):
        sums = positive.sum(axis=tuple(other for other in range(positive.ndim) if other != axis)).cumsum()
        low, high = (int(np.searchsorted(sums, part * sums[-1])) for part in (0.25, 0.75))
        parts.append(f"{name} {low} to {high}" if low < high else f"{name[:-1]} {low}")
    return f"half of it lies in {', half in '.join(parts)}"


def layer_lines(facts: LookFacts, *, verbose: bool = False) -> Text:
    """The table of layers, and a sentence for each column that is the same in every row.

    Args:
        facts: of the look.
        verbose: a row for each layer; else one for all layers of equal shape, receptive field, and numbers of dead and sparse filters.
    """
    shown = list(facts.layers) if verbose else _last_of_equals(facts.layers)
    sample = facts.sample
    headings = ("layer", "shape", f"receptive field, {sample.unit}/stride", "zeros", "dead", "sparse")
    rows = [
        (
            each.path or "(the module)",
            write_shape(each.shape),
            each.field,
            write_share(each.zero_share),
            each.num_dead,
            f"{len(each.sparse):,}",
        )
        for each in shown
    ]
    values = [{row[place] for row in rows} for place in range(len(headings))]
    kept = [place for place in range(len(headings)) if place < 2 or len(values[place]) > 1 or len(rows) == 1]
    constant = {headings[place]: next(iter(values[place])) for place in range(len(headings)) if place not in kept}
    table = Table(
        tuple(tuple(row[place] for place in kept) for row in rows),
        tuple(headings[place] for place in kept),
        tuple(new for new, place in enumerate(kept) if place > 1),
    )
    num_hidden = len(facts.layers) - len(shown)
    last = f"{num_hidden} of {write_number_of(len(facts.layers), 'layer')} are not shown: each has the figures of the next row; -v shows all"
    return Text((table, *([last] if num_hidden else []), *_constant(facts, constant), *_legend(facts, headings, kept)))


def _last_of_equals(layers: tuple[LayerLook, ...]) -> list[LayerLook]:
    """Of consecutive layers with equal shape, receptive field, and numbers of dead and sparse filters, the last."""

    def key(each: LayerLook) -> tuple[object, ...]:
        return each.shape, each.field, each.dead if each.is_rectified else (), each.sparse

    return [list(group)[-1] for _, group in itertools.groupby(layers, key)]


def _constant(facts: LookFacts, constant: dict[str, str]) -> list[str]:
    """A sentence for each column that is left out."""
    over = f"{facts.num_over:,} samples" if facts.num_over > 1 else f"this {facts.sample.noun} alone"
    lines = []
    for heading, value in constant.items():
        if heading in ("dead", "sparse") and value == "0":
            names = " or ".join(name.removesuffix("s") for name in facts.channels.split(" and "))
            lines.append(f"no {heading} {names} (over {over})")
        elif heading == "dead" and value == _DASH:
            lines.append("every layer shown has negative values, so nothing in it is called dead")
        else:
            lines.append(f"{heading}: {value} in every layer shown")
    return lines


def _legend(facts: LookFacts, headings: tuple[str, ...], kept: list[int]) -> list[str]:
    """What the columns count."""
    names = [headings[place] for place in kept]
    over = f"{facts.num_over:,} samples" if facts.num_over > 1 else f"this {facts.sample.noun} alone"
    counted = [name for name in ("dead", "sparse") if name in names]
    parts = [f"zeros: of this {facts.sample.noun}"] if "zeros" in names else []
    if counted:
        parts.append(f"{' and '.join(counted)} {facts.channels}: over {over}")
    return [*(["; ".join(parts)] if parts else []), *([facts.dash] if "dead" in names and facts.dash else [])]


def _name(method: Method) -> str:
    saliency = method.saliency
    return f"{saliency.method} at {saliency.layer}" if saliency.layer else saliency.method
