"""The report of a run as one HTML file.

This file knows how the facts of a run are laid out on a page. Every text that comes from a user is escaped here, at the place
where it enters the page.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from html import escape
from pathlib import Path

from visus.evaluation.scores import ClassScore
from visus.files import write_file
from visus.pages.parts.charts import heat_map, line_chart, shade
from visus.pages.parts.document import (
    beside,
    facts_table,
    folded,
    header,
    label_place,
    page,
    percent,
    section,
    share_cell,
    table_head,
    table_row,
    wide_table,
)
from visus.pages.report.facts import (
    ReportFacts,
    cost_rows,
    network_sentence,
    preprocessing_sentences,
    result_sentences,
    version_rows,
)
from visus.pages.report.network import advice_part, kernels_part, sight_part
from visus.pages.report.reliability import calibration_section, mistakes_section, shift_section
from visus.units import split_name, write_count, write_duration, write_number_of, write_shape, write_share

_SHADED_CLASSES = 20
_MAPPED_CLASSES = 150
_OPEN_CLASSES = 30
_OPEN_LINES = 16
_MAX_TEXT = 20_000
_MAX_CHART = 800_000
_MAX_ROWS = 1000
# Where the figures of a shaded cell change color: with these, their contrast is at least 4.5 in light and in dark.
_STRONG, _FULL_HIT, _FULL_MISS = 0.58, 0.83, 0.9


def write_report(path: Path, facts: ReportFacts) -> None:
    """Write the report of a run to ``path``: one file under 3 MB, for screen and print, light and dark.

    Raises:
        StorageError: the file cannot be written.
    """
    write_file(path, report_page(facts))


def report_page(facts: ReportFacts) -> str:
    """The report as HTML text; the same facts give the same text."""
    parts = {
        "Result": _result,
        "Warnings": _warnings,
        "What was taken for what": _confusion,
        "Class by class": _per_class,
        "Calibration": calibration_section,
        "Shifts": shift_section,
        "Mistakes": mistakes_section,
        "Data": _data,
        "Network": _network,
        "Training": _curves,
        "What it cost": _cost,
        "How to repeat it": _repeat,
    }
    sections = [_made(name, make, facts) for name, make in parts.items()]
    return page(
        facts.name,
        header("Report of a training", facts.name, (facts.created, f"trained on {facts.data_name}")),
        sections,
        kind="report",
        made_with=str(facts.environment.get("visus", "")),
    )


def _made(name: str, make: Callable[[ReportFacts], str], facts: ReportFacts) -> str:
    """A part of the page; where it cannot be made, as where matplotlib does not load, the reason in its place."""
    try:
        return make(facts)
    except Exception as error:  # one part is no reason to lose the others
        said = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
        return section(name, f"<p>This part could not be made: {escape(said)}.</p>")


def _result(facts: ReportFacts) -> str:
    scores = facts.scores
    low, high = write_share(scores.accuracy_low), write_share(scores.accuracy_high)
    split = split_name(scores.split)
    told = f"accuracy on {write_number_of(scores.num_samples, facts.noun)}{f' of the {split} split' if split else ''}"
    guess = f"always \u201c{scores.baseline_class}\u201d: {write_share(scores.baseline)}"
    label = f"On a scale from 0 to 100 %: accuracy {write_share(scores.accuracy)}, interval {low} to {high}; {guess}."
    scale = (
        f'<div class="scale" role="img" aria-label="{escape(label)}"><span class="track"></span>'
        f'<span class="interval" style="left:{percent(scores.accuracy_low)};'
        f'width:{percent(scores.accuracy_high - scores.accuracy_low)}"></span>'
        f'<span class="point" style="left:{percent(scores.accuracy)}"></span>'
        f'<span class="guess" style="left:{percent(scores.baseline)}"></span>'
        f'<span class="above" style="{label_place(scores.accuracy)}">{low} to {high}</span>'
        f'<span class="below" style="{label_place(scores.baseline)}">{escape(guess)}</span></div>'
    )
    sentences = " ".join(escape(sentence) for sentence in result_sentences(facts))
    notes = "".join(f"<p>{escape(note)}</p>" for note in scores.notes)
    return (
        f'<section class="panel" aria-label="Result"><div class="result"><strong>{write_share(scores.accuracy)}</strong>'
        f"<span>{escape(told)}</span></div>{scale}<p>{sentences}</p>{notes}</section>"
    )


def _warnings(facts: ReportFacts) -> str:
    if not facts.warnings:
        return ""
    return f'<div class="warning" role="note">{"".join(f"<p>{escape(text)}</p>" for text in facts.warnings)}</div>'


def _data(facts: ReportFacts) -> str:
    """What was trained on, beside what was done to it."""
    rows = [("Name", facts.data_name), *((str(key), str(value)) for key, value in facts.data.items())]
    ledger = "".join(f"<li>{escape(sentence)}</li>" for sentence in facts.ledger_sentences)
    done = f"<ul>{ledger}</ul>" if ledger else "<p>Nothing in the data was changed.</p>"
    changed = f"<h3>What was done to it</h3>{done}"
    prepared = "".join(f"<li>{escape(sentence)}</li>" for sentence in preprocessing_sentences(facts))
    before = f"<h3>What the network sees</h3><ul>{prepared}</ul>" if prepared else ""
    return section("Data", _data_sentence(facts) + beside(facts_table(rows) + _counts(facts), changed + before))


def _data_sentence(facts: ReportFacts) -> str:
    """Who learned, who chose, who was scored."""
    totals = {split: sum(counts) for split, counts in facts.class_counts.items() if sum(counts)}
    if "train" not in totals:
        return ""
    told = f"It learned from {write_number_of(totals['train'], facts.noun)} of {write_number_of(len(facts.classes), 'class', 'classes')}"
    told += f"; {totals['val']:,} others chose the weights" if "val" in totals else ""
    told += f"; {totals['test']:,} were held out and scored" if "test" in totals else ""
    return f"<p>{escape(told)}.</p>"


def _counts(facts: ReportFacts) -> str:
    """A row for each class, a column for each split; folded away where there are many classes."""
    splits = list(facts.class_counts)
    if not splits:
        return ""
    totals = [sum(facts.class_counts[split]) for split in splits]
    head = table_head(["Class", *(split_name(split).capitalize() for split in splits)])
    body = "".join(
        table_row(name, (f"{facts.class_counts[split][place]:,}" for split in splits))
        for place, name in enumerate(facts.classes[:_MAX_ROWS])
    )
    foot = f"<tfoot>{table_row('All', (f'{total:,}' for total in totals))}</tfoot>"
    table = wide_table(f"{facts.nouns.capitalize()} of each class in each split", f"{head}<tbody>{body}</tbody>{foot}")
    if len(facts.classes) <= _OPEN_CLASSES:
        return table
    lines = []
    for split, total in zip(splits, totals, strict=True):
        counts = facts.class_counts[split]
        least, middle, most = min(counts), statistics.median_low(counts), max(counts)
        spread = f"{least:,} to {most:,} of a class, half of the classes with {middle:,} or fewer"
        spread = spread if least < most else f"{least:,} of each class"
        lines.append(f"<li>{escape(split_name(split).capitalize())}: {write_number_of(total, facts.noun)}; {spread}</li>")
    told = write_number_of(len(facts.classes), "class", "classes")
    title = f"Every one of the {told}"
    if len(facts.classes) > _MAX_ROWS:
        title = f"The first {_MAX_ROWS:,} of the {told}; each sample's class stands in split.csv"
    return f"<p>{told}:</p><ul>{''.join(lines)}</ul>{folded(title, table)}"


def _network(facts: ReportFacts) -> str:
    rows = [
        ("Takes", write_shape(facts.input_shape)),
        ("Parameters", f"{facts.num_parameters:,}"),
    ]
    if facts.macs is not None:
        rows.append((f"Multiply-adds for one {facts.noun}", write_count(facts.macs)))
    design = f"<pre>{escape(_cut(facts.design_text))}</pre>" if facts.design_text else ""
    if facts.design_text.count("\n") >= _OPEN_LINES:
        design = folded("The design", design)
    inside = sight_part(facts) + kernels_part(facts) + advice_part(facts)
    return section("Network", f"<p>{escape(network_sentence(facts))}</p>{facts_table(rows)}{design}{inside}")


def _curves(facts: ReportFacts) -> str:
    figures = []
    for what, lowest, highest in (("loss", 0.0, None), ("accuracy", 0.0, 1.0)):
        train, validation = facts.series(f"train_{what}"), facts.series(f"val_{what}")
        if not train and not validation:
            continue
        write = _write_accuracy if what == "accuracy" else _write_loss
        parts = [("training", train), ("validation", validation)]
        told = "; ".join(
            f"{name} from {write(points[0][1])} to {write(points[-1][1])}, last epoch {points[-1][0]:.0f}"
            for name, points in parts
            if points
        )
        chart = line_chart(
            f"{what.capitalize()} over the epochs",
            f"{told}.",
            [("train", train), ("val", validation)],
            _write_accuracy_tick if what == "accuracy" else _write_loss,
            lowest=lowest,
            highest=highest,
            mark=facts.best_epoch,
        )
        keys = _key("train", "training") if train else ""
        keys += _key("val", "validation") if validation else ""
        keys += _key("epoch", "weights kept") if facts.best_epoch is not None else ""
        figures.append(f"<figure><figcaption><b>{what.capitalize()}</b>{keys}</figcaption>{chart}</figure>")
    if not figures:
        return ""
    kept = f"<p>The weights kept are those of epoch {facts.best_epoch}.</p>" if facts.best_epoch is not None else ""
    return section("Training", f'{kept}<div class="pair">{"".join(figures)}</div>')


def _key(style: str, name: str) -> str:
    return f'<span class="named"><span class="key {style}"></span>{name}</span> '


def _per_class(facts: ReportFacts) -> str:
    scores = facts.scores
    rows = sorted(scores.per_class, key=_by_f1)[:_MAX_ROWS] if len(scores.per_class) > _MAX_ROWS else scores.per_class
    body = []
    for row in rows:
        bar = f'<span class="bar" aria-hidden="true"><i style="width:{percent(row.f1 or 0)}"></i></span>'
        cells = [f"{row.num_samples:,}", share_cell(row.precision), share_cell(row.recall), share_cell(row.f1), bar]
        body.append(table_row(row.name, cells))
    head = table_head(["Class", facts.nouns.capitalize(), "Precision", "Recall", "F1", ""])
    foot = f"<tfoot>{table_row('Mean', ['', '', '', share_cell(scores.macro_f1), ''])}</tfoot>"
    table = wide_table("Precision, recall and F1 of each class", f"{head}<tbody>{''.join(body)}</tbody>{foot}")
    ranked = sorted((row for row in scores.per_class if row.f1 is not None), key=lambda row: -(row.f1 or 0))
    best, worst = ranked[0], ranked[-1]
    first = f"Best is \u201c{best.name}\u201d (F1 {share_cell(best.f1)}), worst \u201c{worst.name}\u201d ({share_cell(worst.f1)})."
    said = (
        f"<p>{escape(first)}</p><p>Precision: of those given this name, the share that bear it rightly. Recall: of those that are this, the share "
        "that were named so. F1 is their harmonic mean. A dash stands where there was nothing to divide by.</p>"
    )
    if len(scores.classes) > _OPEN_CLASSES:
        title = f"All {write_number_of(len(scores.classes), 'class', 'classes')}"
        if len(rows) < len(scores.classes):
            title = f"The {len(rows):,} classes with the lowest F1; all {len(scores.classes):,} stand in scores.json"
        table = folded(title, table)
        table = f"<p>The mean F1 of the classes is {share_cell(scores.macro_f1)}.</p>{table}"
    return section("Class by class", said + table)


def _by_f1(row: ClassScore) -> float:
    """The lowest F1 first; what has none comes last."""
    return 2.0 if row.f1 is None else row.f1


def _confusion(facts: ReportFacts) -> str:
    scores = facts.scores
    worst = scores.most_confused(1)
    first = f"The most frequent mistake is {worst[0][0]} called {worst[0][1]}: {worst[0][2]:,} times. " if worst else ""
    said = f"<p>{escape(first)}Rows are true classes, columns what the network said; a stronger color is a larger share of the row.</p>"
    mistakes = scores.most_confused(10)
    pairs = "".join(
        f'<tr><th scope="row">{escape(true)}</th><td class="words">{escape(predicted)}</td><td>{count:,}</td></tr>'
        for true, predicted, count in mistakes
    )
    listed = wide_table(
        "The most frequent mistakes",
        f"{table_head(['True class', 'Called', facts.nouns.capitalize()], num_words=2)}<tbody>{pairs}</tbody>",
    )
    listed = listed if mistakes else f"<p>There was no mistake among these {facts.nouns}.</p>"
    if len(scores.classes) <= _SHADED_CLASSES:
        return section("What was taken for what", said + beside(_shaded_table(facts), listed, "flow"))
    if len(scores.classes) <= _MAPPED_CLASSES:
        told = f"{scores.num_right:,} of {scores.num_samples:,} lie on the diagonal. The most frequent mistakes are in the table."
        chart = heat_map("What was taken for what", told, scores)
        if len(chart) > _MAX_CHART:
            return section("What was taken for what", f"{said}<p>All of it stands in confusion.csv.</p>{listed}")
        said = said.replace("</p>", " Point at a square for its names.</p>")
        return section("What was taken for what", said + beside(f'<figure class="heat">{chart}</figure>', listed))
    return section("What was taken for what", listed)


def _shaded_table(facts: ReportFacts) -> str:
    scores = facts.scores
    names = "".join(f'<th scope="col"><span>{escape(name)}</span></th>' for name in scores.classes)
    body = []
    for true, row in enumerate(scores.confusion):
        num_samples = sum(row)
        cells = []
        for predicted, count in enumerate(row):
            strength = shade(count / num_samples) if count else 0.0
            style = _cell_style(strength, true == predicted)
            cells.append(f'<td class="{style}" style="--s:{strength:.2f}">{count:,}</td>' if count else "<td>0</td>")
        body.append(f'<tr><th scope="row">{escape(scores.classes[true])}</th>{"".join(cells)}</tr>')
    head = f'<thead><tr><td class="corner"></td>{names}</tr></thead>'
    return wide_table(f"{facts.nouns.capitalize()}, true by predicted", f"{head}<tbody>{''.join(body)}</tbody>", "confusion")


def _cell_style(strength: float, hit: bool) -> str:
    """Style classes of a shaded cell, by which the style sheet picks black or white figures."""
    full = strength >= (_FULL_HIT if hit else _FULL_MISS)
    return ("hit" if hit else "miss") + (" strong" if strength >= _STRONG else "") + (" full" if full else "")


def _cost(facts: ReportFacts) -> str:
    first = f"<p>The training took {write_duration(facts.seconds)}; the network has {facts.num_parameters:,} parameters.</p>"
    return section("What it cost", first + facts_table([*cost_rows(facts), *facts.inside.costs]))


def _repeat(facts: ReportFacts) -> str:
    seed = facts.recipe.get("seed")
    made = (
        f'<pre class="command">{escape(facts.command)}</pre>' if facts.command else "<p>This run was made from Python.</p>"
    )
    parts = [made]
    if seed is not None:
        parts.append(f"<p>The seed was {escape(str(seed))}.</p>")
    if facts.recipe:
        settings = facts_table([(str(key), str(value)) for key, value in facts.recipe.items()])
        parts.append(folded("Every setting of the training", settings))
    versions = version_rows(facts)
    if versions:
        parts.append(folded("What it was computed with", facts_table(versions)))
    return section("How to repeat it", "".join(parts))


def _cut(text: str) -> str:
    """A text no longer than a page can bear; the rest stands in the run's folder."""
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}\n\u2026 (the rest stands in design.txt)"


def _write_loss(value: float) -> str:
    return f"{value:.3g}"


def _write_accuracy(value: float) -> str:
    return write_share(value)


def _write_accuracy_tick(value: float) -> str:
    return f"{100 * value:.4g} %"
