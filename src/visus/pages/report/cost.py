"""The parts of a report about the training: its cost, its curves, its recipe, and how to run it again."""

from __future__ import annotations

from visus.pages.parts.document import bullets, command_block, paragraphs
from visus.pages.parts.table import facts_table
from visus.pages.parts.training_curves import lowest_loss, training_curves
from visus.pages.report.facts import ReportFacts
from visus.pages.report.sentences import cost_rows, curve_sentences, not_the_same_sentence, recipe_sentence, version_rows
from visus.units import rank_words

_FILES = (
    "recipe.yaml (settings), design.txt (network), split.csv",
    "scores.json, calibration.json, inside.json (measurements){epochs}",
    "ledger.csv (every change to the data), environment.json (versions), README.md (model card)",
)
_LONG = 30
_ELSEWHERE = ("Epochs", "Parameters", "Memory of the machine", "Memory format")
"""Costs that other parts of the page or files of the run hold."""


def cost_part(facts: ReportFacts) -> str:
    """Time and memory of the training and of inference."""
    rows = dict([*cost_rows(facts), *facts.measured.costs])
    return facts_table([(label, value) for label, value in rows.items() if label not in _ELSEWHERE])


def curves_part(facts: ReportFacts) -> str:
    """Loss and accuracy over the epochs, with what makes the training and the validation comparable; empty without a history."""
    floor = lowest_loss(facts.label_smoothing, len(facts.classes))
    unit = rank_words(len(facts.input_shape) - 1).unit if 2 <= len(facts.input_shape) <= 4 else ""
    drawn = training_curves(facts.history, facts.best_epoch, floor=floor, unit=unit)
    return drawn + paragraphs([" ".join(curve_sentences(facts))]) if drawn else ""


def recipe_part(facts: ReportFacts) -> str:
    """The main settings of the training, and what was computed from the samples before the first step."""
    return paragraphs(
        [f"{recipe_sentence(facts)} {facts.interruptions}".strip(), " ".join(map(without_figures, facts.computed))]
    )


def without_figures(sentence: str) -> str:
    """A sentence up to its colon, behind which recipe.yaml has the figures, if it is long.

    >>> without_figures("Mirrored images keep their class: " + "figures " * 30), without_figures("The filters: 8.")
    ('Mirrored images keep their class.', 'The filters: 8.')
    """
    return f"{sentence.partition(':')[0]}." if len(sentence.split()) > _LONG else sentence


def run_again_part(facts: ReportFacts) -> str:
    """The command that trains the run again, and the seed and the versions with which the result is the same."""
    command = facts.exact_command or facts.command
    made = command_block(command) or "<p>This run was made from Python: no command trains it again.</p>"
    versions = ", ".join(f"{name} {version}" for name, version in version_rows(facts, is_short=True))
    seed = facts.recipe.get("seed")
    words = [
        not_the_same_sentence(facts) if command else "",
        f"The seed was {seed}." if seed is not None else "",
        f"Versions: {versions}." if versions else "",
    ]
    return made + paragraphs([" ".join(word for word in words if word)])


def files_part(facts: ReportFacts) -> str:
    """The files of the run folder; ``results.csv`` exists once an epoch was trained."""
    epochs = ", results.csv (epochs)" if facts.history else ""
    return bullets(line.format(epochs=epochs) for line in _FILES)
