"""The parts of a report that say how far to trust the result: calibration, shifts, mistakes.

This file knows how these facts are laid out on a page. Every text that comes from a user is escaped here or in the piece that
takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from visus.evaluation.shifts import WAYS
from visus.examine.named_mistakes import Alike, NamedMistakes, Shown
from visus.pages.parts.calibration_chart import reliability_chart
from visus.pages.parts.document import beside, folded, section, table_head, table_row, wide_table
from visus.pages.parts.samples import over, sample
from visus.pages.report.facts import ReportFacts, calibration_sentences, shift_sentences
from visus.pages.report.measurements import Inside
from visus.units import split_name, write_number_of, write_share, write_size

_SIDE, _SMALL, _VOLUME_SIDE = 96, 56, 112
_MAX_NAME = 80
_PAIR_SAMPLES = 3
_ASK = "visus look with --saliency all shows every map of one of them, with its checks."


def missing_part(facts: ReportFacts, part: str) -> str:
    """A sentence that a part is missing and why; empty where it is not."""
    why = facts.inside.missing.get(part)
    return f'<p class="missing">This part could not be made: {escape(why)}</p>' if why else ""


def calibration_section(facts: ReportFacts) -> str:
    """Whether probabilities can be trusted, with the temperature and without it."""
    first, *more = calibration_sentences(facts)
    said = f"<p>{escape(first)}</p>" + "".join(f"<p>{escape(sentence)}</p>" for sentence in more)
    found = facts.inside.calibration
    if found is None:
        return section("Can its probabilities be believed?", said + missing_part(facts, "calibration"))
    keys = f'<span class="named"><span class="key train"></span>{"not calibrated" if found.after else "as it is"}</span> '
    keys += '<span class="named"><span class="key val"></span>calibrated</span>' if found.after else ""
    chart = reliability_chart(found.before, found.after)
    figure = f'<figure class="square"><figcaption><b>Confidence and accuracy</b>{keys}</figcaption>{chart}</figure>'
    rows = []
    for place, bin in enumerate(found.before.bins):
        after = found.after.bins[place] if found.after else None
        cells = [f"{bin.num_samples:,}", _share(bin.confidence), _share(bin.accuracy)]
        cells += [f"{after.num_samples:,}", _share(after.confidence), _share(after.accuracy)] if after else []
        rows.append(table_row(f"{write_share(bin.low, 0)} to {write_share(bin.high, 0)}", cells))
    names = ["Confidence", facts.nouns.capitalize(), "Mean", "Right"]
    names += [f"{facts.nouns.capitalize()} after", "Mean after", "Right after"] if found.after else []
    caption = f"{facts.nouns.capitalize()} by confidence{', before and after calibration' if found.after else ''}"
    table = wide_table(caption, f"{table_head(names)}<tbody>{''.join(rows)}</tbody>")
    legend = (
        "<p>On the dotted line, confidence and accuracy agree; below it the network is surer than it should be. "
        f"A larger dot stands for more {facts.nouns}.</p>"
    )
    return section(
        "Can its probabilities be believed?", beside(said + legend, figure) + folded("The figures of each bin", table)
    )


def shift_section(facts: ReportFacts) -> str:
    """Whether the answers stay when the samples move."""
    title = f"Does its answer stay when the {facts.noun} moves?"
    moves = facts.inside.moves
    if moves is None:
        absent = missing_part(facts, "shifts")
        return section(title, absent) if absent else ""
    said = "".join(f"<p>{escape(sentence)}</p>" for sentence in shift_sentences(facts))
    rows = [
        table_row(
            f"{each.way}: {WAYS[each.way]}",
            [
                write_share(each.consistency),
                f"{write_share(each.consistency_low)} to {write_share(each.consistency_high)}",
                write_share(each.kept),
                write_share(each.always),
                write_share(each.logit_change),
            ],
        )
        for each in moves.ways
    ]
    head = table_head(["Moved by", "Two shifts agree", "95 % interval", "Label kept", "Never changed", "Logits change"])
    reach = write_size(moves.ways[0].reach_px)
    caption = (
        f"{write_number_of(moves.num_samples, facts.noun)} moved by up to {reach}, {moves.ways[0].num_shifts} shifts of each"
    )
    table = wide_table(caption, f"{head}<tbody>{''.join(rows)}</tbody>")
    helps = "".join(
        f'<li><b>{escape(name)}</b>: {escape(price)}.<pre class="command">{escape(command)}</pre></li>'
        for name, price, command in moves.remedies
    )
    helps = folded("What would help, and what it costs", f"<ul>{helps}</ul>") if helps else ""
    notes = "".join(f"<p>{escape(note)}</p>" for note in moves.notes)
    more = "<p>This measures more ways and shifts, and places and sizes of the object:</p>"
    notes += f'{more}<pre class="command">{escape(moves.command)}</pre>' if moves.command else ""
    return section(title, said + table + notes + helps)


def mistakes_section(facts: ReportFacts) -> str:
    """What it gets wrong, as images."""
    title = "What it gets wrong"
    found = facts.inside.mistakes
    if found is None:
        absent = missing_part(facts, "mistakes")
        return section(title, absent) if absent else ""
    surest = found.confident_wrong[0].probability if found.confident_wrong else None
    said = f"{found.num_wrong:,} of {write_number_of(found.num_samples, facts.noun)} are named wrongly"
    said += f"; the surest wrong answer has a probability of {write_share(surest)}." if surest is not None else "."
    parts = [f"<p>{escape(said)}</p>", *(f"<p>{escape(sentence)}</p>" for sentence in _about_images(facts, found))]
    parts.append(_saliency_words(facts))
    if found.confident_wrong:
        parts.append("<h3>The surest wrong answers</h3>" + _grid(facts, found.confident_wrong))
    parts.append(_pairs(facts, found))
    if found.unsure_right:
        grid = _grid(facts, found.unsure_right)
        parts.append(folded(f"The least sure right answers: {len(found.unsure_right)} {facts.nouns}", grid))
    parts.append(_suspicious(facts, found))
    parts += [f"<p>{escape(note)}</p>" for note in found.notes]
    return section(title, "".join(part for part in parts if part))


def _about_images(facts: ReportFacts, found: NamedMistakes) -> list[str]:
    if not found.num_compared:
        why = facts.inside.missing.get("alike")
        return [f"Training {facts.nouns} that are like them could not be found: {why}"] if why else []
    compared = (
        f"all {found.num_training:,}"
        if found.num_compared == found.num_training
        else f"{found.num_compared:,} of the {found.num_training:,}"
    )
    return [
        f"Beside each stand the training {facts.nouns} that are most like it to the network: by the cosine of what reaches the layer "
        f"'{found.feature_layer}', among {compared} training {facts.nouns}."
    ]


def _saliency_words(facts: ReportFacts) -> str:
    seen = facts.inside.saliencies
    if seen is None:
        why = facts.inside.missing.get("saliency")
        return f'<p class="missing">Where the network looked could not be drawn: {escape(why)}</p>' if why else ""
    if not seen.method:
        return f"<p>{escape(seen.reason)} {escape(_ASK)}</p>"
    color = "A warmer ground" if facts.noun == "signal" else "Red"
    parts = [f"{color} is where the network looked for its answer ({seen.method}). {seen.reason}".strip(), seen.check]
    if seen.hidden:
        parts.append(
            f"{write_number_of(len(seen.hidden), facts.noun)} of the {len(seen.hidden) + len(seen.maps)} shown in full "
            f"{'has' if len(seen.hidden) == 1 else 'have'} no map, for theirs {'does' if len(seen.hidden) == 1 else 'do'} not pass there. {_ASK}"
        )
    kind = ' class="doubt"' if seen.is_believable is False else ""
    return f"<p{kind}>{escape(' '.join(part for part in parts if part))}</p>"


def _pairs(facts: ReportFacts, found: NamedMistakes) -> str:
    if not found.confusions:
        return ""
    parts = []
    for pair in found.confusions:
        words = f"{_short(pair.label)} called {_short(pair.answer)}: {write_number_of(pair.num_samples, facts.noun)}"
        drawn = "".join(_plain_sample(facts.inside, each, facts.noun) for each in pair.samples[:_PAIR_SAMPLES])
        parts.append(f'<figure><figcaption><b>{escape(words)}</b></figcaption><div class="strip">{drawn}</div></figure>')
    return f'<h3>The most frequent confusions</h3><div class="pair">{"".join(parts)}</div>'


def _suspicious(facts: ReportFacts, found: NamedMistakes) -> str:
    if not found.suspicious:
        return ""
    split = split_name(found.split)
    said = (
        f"{write_number_of(found.num_suspicious, 'label')} of the {split} split may be wrong: the network finds another class more "
        "probable than the label, and as probable as it is on average for samples that bear that other label (confident learning, Northcutt "
        "et al. 2021). It did not learn from these samples. Look at them before believing either."
    )
    rows = [
        table_row(
            _short(each.sample),
            [
                f'<span class="words">{escape(_short(each.label))}</span>',
                write_share(each.label_probability),
                f'<span class="words">{escape(_short(each.answer))}</span>',
                write_share(each.probability),
            ],
        )
        for each in found.suspicious
    ]
    head = table_head([facts.noun.capitalize(), "Its label", "Probability", "Rather", "Probability"])
    above = {each.place for each in found.confident_wrong}
    strip = "".join(_plain_sample(facts.inside, each, facts.noun) for each in found.suspicious if each.place not in above)
    drawn = f'<div class="strip">{strip}</div>' if strip else ""
    table = wide_table("Labels that may be wrong, the widest gap first", f"{head}<tbody>{''.join(rows)}</tbody>")
    return f"<h3>Labels that may be wrong</h3><p>{escape(said)}</p>{drawn}{table}"


def _grid(facts: ReportFacts, shown: Sequence[Shown]) -> str:
    return f'<div class="cards">{"".join(_card(facts, each) for each in shown)}</div>'


def _card(facts: ReportFacts, each: Shown) -> str:
    """One sample: itself, where the network looked, its names, and what is like it."""
    inside = facts.inside
    drawn = _plain_sample(inside, each, facts.noun)
    seen = inside.saliencies.maps.get(each.place) if inside.saliencies else None
    values = inside.samples.get(each.place)
    if seen is not None and values is not None:
        told = f"where the network looked in {_short(each.sample)}"
        drawn += over(values, *inside.value_range, seen, told, _VOLUME_SIDE if values.ndim == 4 else _SIDE)
    is_hidden = inside.saliencies is not None and bool(inside.saliencies.method) and each.place in inside.saliencies.hidden
    words = f"<b>{escape(_short(each.label))}</b>"
    if each.answer != each.label:
        words += f" called <b>{escape(_short(each.answer))}</b>, {write_share(each.probability)} sure"
        words += f" ({escape(_short(each.label))}: {write_share(each.label_probability)})"
    else:
        words += f", {write_share(each.probability)} sure"
    words += ". No map passes here" if is_hidden else ""
    like = "".join(_alike(inside, near) for near in each.alike)
    like = f'<div class="alike">{like}</div>' if like else ""
    return (
        f'<figure class="card"><div class="strip">{drawn}</div>'
        f'<figcaption>{words}<br><span class="file">{escape(_short(each.sample))}</span></figcaption>{like}</figure>'
    )


def _plain_sample(inside: Inside, each: Shown, noun: str) -> str:
    values = inside.samples.get(each.place)
    if values is None:
        return ""
    told = f"{noun} {_short(each.sample)}: {_short(each.label)}"
    told = told if each.answer == each.label else f"{told}, called {_short(each.answer)}"
    return sample(values, *inside.value_range, told, _VOLUME_SIDE if values.ndim == 4 else _SIDE)


def _alike(inside: Inside, near: Alike) -> str:
    values = inside.training_samples.get(near.place)
    drawn = (
        ""
        if values is None
        else sample(values, *inside.value_range, f"training sample {_short(near.sample)}: {_short(near.label)}", _SMALL)
    )
    return f'<span class="near">{drawn}<span>{escape(_short(near.label))} {near.similarity:.2f}</span></span>'


def _share(value: float | None) -> str:
    return '<span class="none" title="no samples">\u2013</span>' if value is None else write_share(value)


def _short(name: str) -> str:
    """A name no longer than the page can bear, its middle left out."""
    if len(name) <= _MAX_NAME:
        return name
    half = _MAX_NAME // 2
    return f"{name[: half - 1]}\u2026{name[-half:]}"
