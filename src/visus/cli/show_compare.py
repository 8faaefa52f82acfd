"""Tables of comparisons on stdout: runs side by side, and what shifts do to a network's answers.

This file knows columns and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from visus.design.mlp_equivalents import KINDS
from visus.evaluation.shifts import WAYS
from visus.units import write_count, write_duration, write_number_of, write_share, write_size

if TYPE_CHECKING:
    from visus.evaluation.equivariance import Equivariance
    from visus.evaluation.placement import PlacementFigures
    from visus.evaluation.shifts import PhasePattern
    from visus.workbench.compare.comparison import Comparison, Contender
    from visus.workbench.experiment.task import TaskComparison
    from visus.workbench.runs.shifts import ShiftReport

MAX_DIFFERING = 20
MAX_COLUMNS = 16  # of figures that fit into a line of a terminal
MAX_PHASES = 64  # a larger pattern is told in its mean and its largest figure
CURVE_POINTS = 8
STEADY = 0.01  # a layer that changes by less than this is said not to change


def show_comparison(found: Comparison) -> None:
    """The runs, what sets each of them apart from the first, and the samples on which two of them differ."""
    console = _console()
    for each in found.contenders:
        if learned := each.scores.learned_sentence(found.noun):
            console.print(f"{each.name}: {learned}", soft_wrap=True)
    table = _table("run", "network", "accuracy", "95 % interval", "parameters", "macs", "trained in", right=(2, 4, 5, 6))
    has_shifts = any(each.shifts for each in found.contenders)
    if has_shifts:
        table.add_column("two shifts agree", justify="right")
    for each in found.contenders:
        scores = each.scores
        cells = [
            write_share(scores.accuracy),
            f"{write_share(scores.accuracy_low)} to {write_share(scores.accuracy_high)}",
            write_count(each.num_parameters),
            write_count(each.macs),
            write_duration(each.seconds),
        ]
        cells += [write_share(each.shifts.consistency) if each.shifts else ""] if has_shifts else []
        table.add_row(Text(each.name), _kind(each), *cells)
    console.print(table)
    first = found.contenders[0]
    samples = write_number_of(first.scores.num_samples, found.noun)
    console.print(
        f"{samples} ({found.split}); always guessing {first.scores.baseline_class}: {write_share(first.scores.baseline)}"
    )
    if first.shifts is not None:
        reach = write_size(first.shifts.reach_px)
        console.print(f"two shifts agree: the same label for two of the shifts by up to {reach}, {WAYS[first.shifts.way]}")
    for pair in found.pairs:
        console.print(pair.sentence(found.noun))
    _show_curves(console, found.contenders)
    if len(found.contenders) == 2:
        _show_differing(console, found)
    for note in found.notes:
        console.print(f"note: {note}")


def show_tasks(found: TaskComparison) -> None:
    """A run beside itself, trained for another task: how alike the first filters and every layer are."""
    console, facts = _console(), found.facts
    table = _table("like the run", *(other.name for other in facts.others), right=range(1, len(facts.others) + 1))
    table.add_row(
        Text(f"{facts.unit}s of {facts.layer}, mean cosine"), *(f"{other.matching.mean:.2f}" for other in facts.others)
    )
    by_path = [{layer.path: layer.cka for layer in other.layers} for other in facts.others]
    for layer in max((other.layers for other in facts.others), key=len):
        cells = [each.get(layer.path) for each in by_path]
        table.add_row(Text(f"{layer.path}, alignment"), *("" if cell is None else f"{cell:.2f}" for cell in cells))
    console.print(table)
    console.print(f"{facts.name}: {facts.result}")
    for other in facts.others:
        if other.result:
            console.print(f"{other.name}: {other.result}")
    for sentence in facts.sentences():
        console.print(sentence)
    console.print(
        f"alignment: centered kernel alignment of the layers' answers to {write_number_of(facts.num_samples, facts.noun)}, 0 to 1"
    )
    console.print(f"page: {found.page}", soft_wrap=True)


def _kind(each: Contender) -> str:
    kind = "as designed" if each.kind == "network" else f"perceptron, {each.kind}" if each.kind in KINDS else each.kind
    return f"{kind}, shuffled" if each.is_shuffled else kind


def _show_curves(console: Console, contenders: Sequence[Contender]) -> None:
    """The learning curves at a few epochs: the validation accuracy, or that of training where nothing was validated."""
    longest = max(len(each.history) for each in contenders)
    if longest < 2:
        return
    epochs = sorted({round(1 + index * (longest - 1) / (CURVE_POINTS - 1)) for index in range(CURVE_POINTS)})
    column = (
        "val_accuracy"
        if all(row["val_accuracy"] == row["val_accuracy"] for row in contenders[0].history)
        else "train_accuracy"
    )
    table = _table(f"{column} after epoch", *(str(epoch) for epoch in epochs), right=range(1, len(epochs) + 1))
    for each in contenders:
        shown = [write_share(each.history[epoch - 1][column]) if epoch <= len(each.history) else "" for epoch in epochs]
        table.add_row(Text(each.name), *shown)
    console.print(table)


def _show_differing(console: Console, found: Comparison) -> None:
    differing = found.pairs[0].answers.differing
    if not differing:
        return
    left, right = found.contenders[0].name, found.contenders[1].name
    console.print(f"they answer differently for {write_number_of(len(differing), found.noun)}:")
    table = Table(found.noun, "label", Column(Text(left)), Column(Text(right)), "right", box=None)
    names = {"left": left, "right": right, "neither": "neither"}
    for each in differing[:MAX_DIFFERING]:
        table.add_row(*(Text(cell) for cell in (each.sample, each.label, each.left, each.right, names[each.right_one])))
    console.print(table)
    if len(differing) > MAX_DIFFERING:
        console.print(f"... and {len(differing) - MAX_DIFFERING:,} more; --json lists all")


def show_shifts(report: ShiftReport, *, title: str = "moved") -> None:
    """What happens to the answers when the samples move: by the way of moving, by phase, by layer, by place; and what would help."""
    console = _console()
    ways = report.ways
    console.print(
        f"{title}: {report.num_samples:,} of {write_number_of(report.num_in_split, report.noun)} ({report.split}), by up to "
        f"{write_size(ways[0].reach_px)}, {write_number_of(ways[0].num_shifts, 'shift')} of each"
    )
    headings = (
        "way",
        "two shifts agree",
        "95 % interval",
        "label kept",
        "never changes",
        "logits change",
        "at most",
        "what enters",
    )
    table = _table(*headings, right=(1, 3, 4, 5, 6))
    for each in ways:
        interval = f"{write_share(each.consistency_low)} to {write_share(each.consistency_high)}"
        shares = (each.kept, each.always, each.logit_change, each.largest_logit_change)
        table.add_row(each.way, write_share(each.consistency), interval, *map(write_share, shares), WAYS[each.way])
    console.print(table)
    if report.step_px is not None:
        console.print(f"the network's step is {write_size(report.step_px)}: {_beyond_the_step(report)}", soft_wrap=True)
    if report.phases is not None:
        _show_phases(console, report.phases)
    _show_layers(console, report.layers)
    _show_placement(console, report.placement)
    for remedy in report.remedies:
        console.print(f"to try: {remedy.name}: {remedy.sentence}")
        console.print(f"  {remedy.command}", soft_wrap=True)
    for note in report.notes:
        console.print(f"note: {note}")


def _beyond_the_step(report: ShiftReport) -> str:
    """Whether a shift by the step itself leaves the answers alone, as it leaves maps: what follows a flattened map does not."""
    by_step = [each for each in report.layers if each.shift_px == report.step_px]
    last = by_step[0].layers[-1] if by_step and by_step[0].layers else None
    if last is None or last.error is None:
        return f"inside the {report.noun}, a shift by it moves every map by whole positions"
    if last.error < STEADY:
        return f"inside the {report.noun}, only shifts up to it differ"
    return (
        f"inside the {report.noun}, a shift by it moves every map by whole positions, and yet changes {last.path} by {write_share(last.error)}, "
        "since the border, or what stands behind the maps, depends on the place"
    )


def _show_phases(console: Console, phases: PhasePattern) -> None:
    console.print(
        f"logits change by {write_share(phases.mean_logit_change)} on average over the phases of the step but the first, which is no shift; "
        f"moved round a ring, "
        f"and by {write_share(max(phases.logit_change))} at most"
    )
    if len(phases.logit_change) > MAX_PHASES or len(phases.step_px) > 2:
        return
    width = min(phases.step_px[-1], MAX_COLUMNS)  # a longer row goes on in the next line; two axes keep a line for each row
    if len(phases.step_px) > 1 and width < phases.step_px[-1]:
        return
    grid = Table(box=None, show_header=False)
    for start in range(0, len(phases.logit_change), width):
        grid.add_row(*(write_share(value) for value in phases.logit_change[start : start + width]))
    for column in grid.columns:
        column.justify = "right"
    console.print(grid)


def _show_layers(console: Console, layers: Sequence[Equivariance]) -> None:
    """The error of every layer for each shift, inside the image and everywhere, and which layer breaks it."""
    if not layers:
        return
    headings = [heading for each in layers for heading in (f"by {write_size(each.shift_px)}", "inside")]
    table = _table("layer", "stride", *headings, right=range(2, 2 + len(headings)))
    for rows in zip(*(each.layers for each in layers), strict=True):
        errors = [_error(value) for row in rows for value in (row.error, row.interior_error)]
        table.add_row(Text(rows[0].path), " x ".join(map(str, rows[0].step_px)), *errors)
    console.print(table)
    for each in layers:
        console.print(each.sentence())


def _show_placement(console: Console, placement: PlacementFigures) -> None:
    """The accuracy over places, as a grid for each size of the object."""
    canvas = write_size(placement.canvas_px)
    for each in placement.sizes:
        size = write_size(each.object_px)
        if len(each.accuracy) == 1:
            console.print(f"objects of {size} fill the canvas: {write_share(each.accuracy[0])} right")
            continue
        console.print(
            f"objects of {size} on an empty canvas of {canvas}: {write_share(each.lowest)} to {write_share(each.highest)} right by place"
        )
        if len(each.shape) > 2:
            continue
        grid = Table(box=None, show_header=False)
        for start in range(0, len(each.accuracy), each.shape[-1]):
            grid.add_row(*(write_share(value) for value in each.accuracy[start : start + each.shape[-1]]))
        for column in grid.columns:
            column.justify = "right"
        console.print(grid)


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if value >= 5e-5 else "0"


def _table(*headings: str, right: Sequence[int]) -> Table:
    table = Table(*headings, box=None)
    for index in right:
        table.columns[index].justify = "right"
    return table


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=160)
