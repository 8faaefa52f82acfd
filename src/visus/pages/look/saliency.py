"""The parts of a look page about the sample, the prediction and its saliency maps, with the checks beside each map."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from visus.examine.layer_calls import Array
from visus.examine.saliency_checks import Curves
from visus.examine.saliency_types import Unit
from visus.pages.look.facts import Answer, LookedSample, LookFacts, Method
from visus.pages.parts.charts import legend, line_chart
from visus.pages.parts.document import Section, bullets, figure, folded, paragraphs
from visus.pages.parts.overlay import map_over_sample
from visus.pages.parts.samples import MAX_SLICES, map_image, pixel_image, sample_image
from visus.pages.parts.table import share_bar, table, table_row
from visus.units import write_number_of, write_shape, write_share

SAMPLE_PX, ORIGINAL_PX, MAP_PX = 224, 320, 168
SHOWN_CLASSES: Final = 5

_VERDICTS: Final = {True: ("holds", "Passed"), False: ("fails", "Failed"), None: ("open", "Undecided")}
_METHODS: Final = {
    "gradient": "how much the output changes with each input value (Simonyan et al. 2014)",
    "Grad-CAM": "the feature maps of one layer, each weighted by its mean gradient (Selvaraju et al. 2017)",
    "integrated gradients": "gradients integrated along the path from a baseline to this sample (Sundararajan et al. 2017)",
    "occlusion": "how much the output falls when a window is replaced by the baseline (Zeiler and Fergus 2014)",
}


# ---- the sample and the prediction ----


def sample_section(facts: LookFacts) -> Section:
    """The sample as its file, as the network's input, and the prediction."""
    sample = facts.sample
    figures = ""
    if sample.original is not None:
        drawn = pixel_image(sample.original, f"{sample.name}, the file", _original_px(sample))
        figures += figure(f"The {sample.noun} file: {write_shape(sample.original.shape[:2])} px", drawn)
    label = f"The {sample.noun} as the input of the network"
    seen = sample_image(sample.values, sample.lowest, sample.highest, label, SAMPLE_PX)
    figures += figure(
        f"Input of the network: {write_shape(sample.values.shape)} (channels first){_slices_words(sample)}", seen
    )
    answer = _answer(facts.answer, sample) if facts.answer else f"<p>{escape(facts.missing.get('answer', ''))}</p>"
    answer += "".join(f'<p class="under">{escape(note)}</p>' for note in facts.answer_notes)
    content = f'<div class="flow">{figures}<div>{answer}</div></div>{bullets(sample.sentences)}'
    return Section(f"The {sample.noun} and the prediction", content)


def _original_px(sample: LookedSample) -> int:
    assert sample.original is not None, "asked for where there is one"
    return min(ORIGINAL_PX, max(SAMPLE_PX, int(max(sample.original.shape[:2]))))


def _slices_words(sample: LookedSample) -> str:
    if len(sample.spatial) != 3:
        return ""
    return f"; {min(MAX_SLICES, sample.spatial[0])} slices along the depth, the first on the left"


def _answer(answer: Answer, sample: LookedSample) -> str:
    """The prediction in words, and the probabilities of the first classes."""
    best = answer.order[0]
    name, probability = escape(answer.classes[best]), write_share(float(answer.probabilities[best]))
    words = f"<p>The network predicts <b>{name}</b> with a probability of {probability}."
    words += f" {escape(answer.note)}" if answer.note else ""
    if sample.truth:
        is_right = sample.truth == answer.classes[best]
        words += f" The label is {escape(sample.truth)}: the prediction is {'correct' if is_right else 'wrong'}."
    rows = []
    for place in answer.order[:SHOWN_CLASSES]:
        share = float(answer.probabilities[place])
        rows.append(table_row(answer.classes[place], [write_share(share), share_bar(share)]))
    left = len(answer.classes) - len(rows)
    others = write_number_of(left, "other class", "other classes")
    rest = f'<p class="under">{others} {"has" if left == 1 else "have"} {write_share(_rest(answer))} {"" if left == 1 else "together"}'
    rest = f"{rest.rstrip()}.</p>" if left > 0 else ""
    return f"{words}</p>{table('Class probabilities', ['Class', 'Probability', ''], rows)}{rest}"


def _rest(answer: Answer) -> float:
    return float(answer.probabilities[list(answer.order[SHOWN_CLASSES:])].sum())


# ---- saliency ----


def saliency_section(facts: LookFacts) -> Section:
    """The first map with all its checks, then the other maps that are shown; which ones are not."""
    missing = paragraphs(facts.missing.get(part, "") for part in ("saliency", "methods"))
    if not facts.methods:
        return Section("Saliency", paragraphs([facts.reason]) + _not_shown(facts) + missing)
    first, *others = facts.methods
    method = first.saliency.method
    words = (
        f"<p>The map shows what mattered for {_target_words(facts)}. The method is {escape(method)}: {_METHODS[method]}. "
        f"{escape(facts.reason)}</p>"
    )
    left = _figure(facts, first)
    if first.saliency.layer_map is not None:
        left += _layer_map(first)
    right = f"<h3>Checks of the map</h3>{_checks(facts, first)}"
    body = f'<div class="flow"><div>{left}</div><div class="checks">{right}</div></div>' + _curves(first)
    if others:
        figures = "".join(f'<div class="method">{_figure(facts, method)}{_checks(facts, method)}</div>' for method in others)
        body += folded(f"Other methods: {_listed([_name(each) for each in others])}", f'<div class="flow">{figures}</div>')
    return Section("Saliency", words + body + _not_shown(facts) + missing)


def _name(method: Method) -> str:
    """A method with its layer, for Grad-CAM may be there twice."""
    layer = f" at '{method.saliency.layer}'" if method.saliency.layer else ""
    return f"{method.saliency.method}{layer}"


def _not_shown(facts: LookFacts) -> str:
    """Maps that were computed and failed their checks."""
    failed = [_name(each) for each in facts.hidden if not each.is_passed]
    if not failed:
        return ""
    words = (
        f"Not shown, because {'it does' if len(failed) == 1 else 'they do'} not pass deletion and insertion here: {_listed(failed)}. "
        "--saliency all shows every map with its checks."
    )
    return f'<p class="under">{escape(words)}</p>'


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _target_words(facts: LookFacts) -> str:
    target = facts.methods[0].saliency.target
    if isinstance(target, Unit):
        return f"unit {target.channel} of {escape(target.layer)} at {', '.join(map(str, target.position or ()))}"
    assert facts.answer is not None, "classes are explained where there are classes"
    name = escape(facts.answer.classes[target[0]])
    is_predicted = target[0] == facts.answer.order[0]
    return f"class <b>{name}</b>, {'the predicted class' if is_predicted else 'which is not the predicted class'}"


def _figure(facts: LookFacts, method: Method) -> str:
    sample, heat = facts.sample, method.saliency.map[0]
    label = f"{method.saliency.method} over the {sample.noun}: red where it matters most"
    drawn = map_over_sample(sample.values, sample.lowest, sample.highest, heat, label, MAP_PX)
    blank = "" if float(heat.max()) > 0 else " The map is nowhere positive."
    color = "A darker background" if heat.ndim == 1 else "Red"
    failed = "" if method.is_passed else " <b>This map does not pass deletion and insertion.</b>"
    notes = "".join(f" {escape(note)}" for note in method.saliency.notes)
    caption = f"<b>{escape(method.saliency.method)}</b>{color} marks what mattered most.{failed}{blank}{notes}"
    return figure(caption, drawn)


def _layer_map(method: Method) -> str:
    """Grad-CAM's map in the size of its layer, before it was spread over the sample."""
    values = method.saliency.layer_map
    assert values is not None, "asked for where there is one"
    shape = write_shape(values.shape[1:])
    drawn = map_image(
        values[0], float(values.max()) or 1.0, False, f"The map of {method.saliency.layer}, {shape}", MAP_PX // 2
    )
    return figure(f"The map of the layer has {shape} values, placed at the centers of their receptive fields.", drawn)


# ---- checks ----


def _checks(facts: LookFacts, method: Method) -> str:
    """One sentence for each check: random weights, deletion and insertion, receptive field."""
    lines: list[tuple[bool | None, str]] = []
    if method.weights is not None:
        lines.append((method.weights.is_sensitive, method.weights.sentence))
    if method.curves is not None:
        lines.append((method.curves.is_better_than_random, method.curves.sentence))
    if facts.layers and facts.layers[0].fields:
        lines.append(_outside(method))
    listed = "".join(
        f'<li class="{_VERDICTS[verdict][0]}"><b>{_VERDICTS[verdict][1]}.</b> {escape(sentence)}</li>'
        for verdict, sentence in lines
    )
    return f'<ul class="verdicts">{listed}</ul>'


def _outside(method: Method) -> tuple[bool | None, str]:
    """Whether the map is 0 outside the exact receptive field."""
    if not method.saliency.map.any():
        return None, "The map is 0 everywhere, inside the exact receptive field and outside of it."
    share = method.saliency.outside_box
    if share == 0:
        removed = method.saliency.clipped_share
        cut = f" ({write_share(removed)} of it was outside and was cut off)" if removed else ""
        return True, f"The map is 0 outside the exact receptive field{cut}."
    return (
        False,
        f"{write_share(share)} of the map lies outside the exact receptive field, where nothing can matter. Do not trust it.",
    )


def _curves(method: Method) -> str:
    """The curves of deletion and insertion, by the map and in random order."""
    curves = method.curves
    if curves is None:
        return ""
    places = f"{curves.place}s"
    score = "value of the unit" if isinstance(method.saliency.target, Unit) else "probability of the class"
    figures = _chart(curves, "Deletion", f"{places} removed, in %", score, curves.deletion, curves.random_deletion)
    figures += _chart(curves, "Insertion", f"{places} added, in %", score, curves.insertion, curves.random_insertion)
    words = (
        f"<p>Deletion removes the {places} with the highest saliency first; insertion adds them first. For a good map, the {score} falls early in "
        f"deletion and rises early in insertion. A removed {curves.place} is 0 after normalization: the mean of the training set, where samples "
        "are normalized by it.</p>"
    )
    return f'{words}<div class="pair">{figures}</div>'


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
    return figure(f"<b>{name}</b>{legend([('', 'by the map'), ('train', 'in random order')])}", chart)
