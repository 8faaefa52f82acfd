"""The parts of a look page about the sample, the answer and where the network looked, with the checks beside each map.

This file knows answers, maps and their checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from visus.examine.layer_calls import Array
from visus.examine.saliency_checks import Curves
from visus.examine.saliency_types import Unit
from visus.pages.look.facts import Answer, LookedSample, LookFacts, Method
from visus.pages.parts import samples as look_drawn
from visus.pages.parts.charts import line_chart
from visus.pages.parts.document import folded, percent, section, table_head, table_row, wide_table
from visus.units import write_shape, write_share

SAMPLE_PX, ORIGINAL_PX, MAP_PX = 224, 320, 168
SHOWN_CLASSES: Final = 5

_VERDICTS: Final = {True: ("holds", "Holds"), False: ("fails", "Fails"), None: ("open", "Cannot be judged")}
_WHY: Final = {
    "gradient": "how much the answer would change with each pixel (Simonyan et al. 2014)",
    "Grad-CAM": "the maps of one layer, each weighted by how much the answer rises with it (Selvaraju et al. 2017)",
    "integrated gradients": "gradients added up on the way from a plain sample to this one (Sundararajan et al. 2017)",
    "occlusion": "how much the answer falls when a window is blotted out (Zeiler and Fergus 2014)",
}


def sample_section(facts: LookFacts) -> str:
    """The sample as it is, as the network sees it, and what it says."""
    sample = facts.sample
    seen = look_drawn.sample(
        sample.values, sample.lowest, sample.highest, f"The {sample.noun} as the network sees it", SAMPLE_PX
    )
    figures = ""
    if sample.original is not None:
        drawn = look_drawn.image(sample.original, f"{sample.name} as the file is", _original_px(sample))
        size = write_shape(sample.original.shape[:2])
        figures += f"<figure><figcaption>The {sample.noun} as its file is: {size} px</figcaption>{drawn}</figure>"
    told = f"As the network sees it: {write_shape(sample.values.shape)} (channels first)"
    figures += f"<figure><figcaption>{told}{_slices_words(sample)}</figcaption>{seen}</figure>"
    done = "".join(f"<li>{escape(sentence)}</li>" for sentence in sample.sentences)
    changed = f"<ul>{done}</ul>" if done else ""
    answer = _answer(facts.answer, sample) if facts.answer else f"<p>{escape(facts.missing.get('answer', ''))}</p>"
    answer += "".join(f'<p class="under">{escape(note)}</p>' for note in facts.answer_notes)
    return section(f"The {sample.noun} and the answer", f'<div class="flow">{figures}<div>{answer}</div></div>{changed}')


def _original_px(sample: LookedSample) -> int:
    assert sample.original is not None, "asked for where there is one"
    return min(ORIGINAL_PX, max(SAMPLE_PX, int(max(sample.original.shape[:2]))))


def _slices_words(sample: LookedSample) -> str:
    if len(sample.spatial) != 3:
        return ""
    return f"; {min(look_drawn.SLICES, sample.spatial[0])} slices along the depth, the first on the left"


def _answer(answer: Answer, sample: LookedSample) -> str:
    best = answer.order[0]
    text = f"<p>The network says <b>{escape(answer.classes[best])}</b>, with a probability of {write_share(float(answer.probabilities[best]))}."
    text += f" {escape(answer.note)}" if answer.note else ""
    if sample.truth:
        is_right = sample.truth == answer.classes[best]
        text += f" Its label is {escape(sample.truth)}: the answer is {'right' if is_right else 'wrong'}."
    rows = []
    for place in answer.order[:SHOWN_CLASSES]:
        share = float(answer.probabilities[place])
        bar = f'<span class="bar" aria-hidden="true"><i style="width:{percent(share)}"></i></span>'
        rows.append(table_row(answer.classes[place], [write_share(share), bar]))
    left = len(answer.classes) - len(rows)
    rest = f'<p class="under">{left:,} more classes share {write_share(_rest(answer))}.</p>' if left > 0 else ""
    table = wide_table("Its probabilities", f"{table_head(['Class', 'Probability', ''])}<tbody>{''.join(rows)}</tbody>")
    return f"{text}</p>{table}{rest}"


def _rest(answer: Answer) -> float:
    return float(answer.probabilities[list(answer.order[SHOWN_CLASSES:])].sum())


def saliency_section(facts: LookFacts) -> str:
    """The default map with all its checks, then the other methods that are shown; what was tried and is not shown."""
    title = "Where it looked"
    missing = "".join(
        f"<p>{escape(sentence)}</p>" for part in ("saliency", "methods") if (sentence := facts.missing.get(part, ""))
    )
    if not facts.methods:
        said = f"<p>{escape(facts.reason)}</p>" if facts.reason else ""
        return section(title, said + _not_shown(facts) + missing)
    first, *others = facts.methods
    asked = _explained(facts)
    said = f"<p>Explained is {asked}. The map is {escape(first.saliency.method)}: {_WHY[first.saliency.method]}. {escape(facts.reason)}</p>"
    left = _figure(facts, first)
    if first.saliency.coarse is not None:
        left += _coarse(facts, first)
    right = f"<h3>Can it be believed?</h3>{_checks(facts, first)}"
    body = f'<div class="flow"><div>{left}</div><div class="checks">{right}</div></div>' + _curves(first)
    if others:
        figures = "".join(f'<div class="method">{_figure(facts, method)}{_checks(facts, method)}</div>' for method in others)
        body += folded(f"The same by {_listed([_named(each) for each in others])}", f'<div class="flow">{figures}</div>')
    return section(title, said + body + _not_shown(facts) + missing)


def _named(method: Method) -> str:
    """A method with its layer, for Grad-CAM may be there twice."""
    layer = f" at '{method.saliency.layer}'" if method.saliency.layer else ""
    return f"{method.saliency.method}{layer}"


def _not_shown(facts: LookFacts) -> str:
    """Which maps were tried and are not shown."""
    failed = [_named(each) for each in facts.hidden if not each.is_passed]
    if not failed:
        return ""
    words = (
        f"Not shown, for {'it does' if len(failed) == 1 else 'they do'} not pass deletion and insertion here: {_listed(failed)}. "
        "--saliency all shows every map with its checks."
    )
    return f'<p class="under">{escape(words)}</p>'


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _explained(facts: LookFacts) -> str:
    target = facts.methods[0].saliency.target
    if isinstance(target, Unit):
        return f"unit {target.channel} of {escape(target.layer)} at {', '.join(map(str, target.position or ()))}"
    assert facts.answer is not None, "classes are explained where there are classes"
    name = escape(facts.answer.classes[target[0]])
    is_answer = target[0] == facts.answer.order[0]
    return f"the output of class <b>{name}</b>, {'which is the answer' if is_answer else 'which is not the answer'}"


def _figure(facts: LookFacts, method: Method) -> str:
    sample, heat = facts.sample, method.saliency.map[0]
    told = f"{method.saliency.method} over the {sample.noun}: red where it matters most"
    drawn = look_drawn.over(sample.values, sample.lowest, sample.highest, heat, told, MAP_PX)
    blank = "" if float(heat.max()) > 0 else " The map is nowhere above 0."
    color = "the darker the ground" if heat.ndim == 1 else "the redder"
    failed = "" if method.is_passed else " <b>This map does not pass deletion and insertion.</b>"
    notes = "".join(f" {escape(note)}" for note in method.saliency.notes)
    words = f"<b>{escape(method.saliency.method)}</b>{color}, the more it matters.{failed}{blank}{notes}"
    return f"<figure><figcaption>{words}</figcaption>{drawn}</figure>"


def _coarse(facts: LookFacts, method: Method) -> str:
    """Grad-CAM's map as large as its layer's: what was really computed, before it was enlarged."""
    coarse = method.saliency.coarse
    assert coarse is not None, "asked for where there is one"
    told = f"The map of {method.saliency.layer} before it was placed, {write_shape(coarse.shape[1:])}"
    drawn = look_drawn.one_map(coarse[0], float(coarse.max()) or 1.0, False, told, MAP_PX // 2)
    return f"<figure><figcaption>What was computed: {write_shape(coarse.shape[1:])} values, then placed at the centers of the receptive fields.</figcaption>{drawn}</figure>"


def _checks(facts: LookFacts, method: Method) -> str:
    """One sentence for each check, in the order of weights, pixels, field."""
    lines: list[tuple[bool | None, str]] = []
    if method.weights is not None:
        lines.append((method.weights.is_sensitive, method.weights.sentence))
    if method.curves is not None:
        lines.append((method.curves.is_better_than_random, method.curves.sentence))
    if facts.layers and facts.layers[0].fields:
        lines.append(_outside(method))
    listed = "".join(
        f'<li class="{_VERDICTS[holds][0]}"><b>{_VERDICTS[holds][1]}.</b> {escape(sentence)}</li>'
        for holds, sentence in lines
    )
    return f'<ul class="verdicts">{listed}</ul>'


def _outside(method: Method) -> tuple[bool | None, str]:
    if not method.saliency.map.any():
        return None, "The map is 0 everywhere, so nothing of it can lie outside of what is really read."
    share = method.saliency.outside_box
    if share == 0:
        spilled = method.saliency.spilled
        cut = f" ({write_share(spilled)} of it was cut off there)" if spilled else ""
        return True, f"Nothing of the map lies outside of what is really read{cut}."
    return (
        False,
        f"{write_share(share)} of the map lies outside of what is really read, where nothing can matter. Do not believe it.",
    )


def _curves(method: Method) -> str:
    curves = method.curves
    if curves is None:
        return ""
    is_unit = isinstance(method.saliency.target, Unit)
    places = f"{curves.place}s"
    score = "value of the unit" if is_unit else "probability of the class"
    figures = "".join(
        _chart(curves, name, along, score, found, random)
        for name, along, found, random in (
            ("Deletion", f"share of the {places} taken away, in %", curves.deletion, curves.random_deletion),
            ("Insertion", f"share of the {places} put back, in %", curves.insertion, curves.random_insertion),
        )
    )
    said = (
        f"<p>If the map is right, the {score} falls early when its strongest {places} are taken away first, and rises early when they "
        f"come first. A {curves.place} that is taken away becomes 0 in the values that the network reads: the mean of the training samples, where they "
        "were scaled by it.</p>"
    )
    return f'{said}<div class="pair">{figures}</div>'


def _chart(curves: Curves, name: str, along: str, score: str, found: Array, random: Array) -> str:
    shares = [100 * float(share) for share in curves.shares]
    chart = line_chart(
        f"{name}: {score}",
        f"From {float(found[0]):.2f} to {float(found[-1]):.2f}; half-way {float(found[len(found) // 2]):.2f}, in random order "
        f"{float(random[len(random) // 2]):.2f}.",
        [
            ("train", list(zip(shares, map(float, random), strict=True))),
            ("val", list(zip(shares, map(float, found), strict=True))),
        ],
        lambda value: f"{value:.3g}",
        along=along,
    )
    keys = (
        '<span class="named"><span class="key"></span>by the map</span> '
        '<span class="named"><span class="key train"></span>in random order</span>'
    )
    return f"<figure><figcaption><b>{name}</b>{keys}</figcaption>{chart}</figure>"
