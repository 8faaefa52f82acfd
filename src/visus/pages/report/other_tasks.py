"""The parts of a report of a network that predicts sets of classes or numbers: the answer, the metrics, the largest errors."""

from __future__ import annotations

from html import escape

from visus.evaluation.cluster_bootstrap import over_groups
from visus.evaluation.intervals import write_range
from visus.evaluation.scores import Scores
from visus.evaluation.tasks.all_scores import AnyScores
from visus.evaluation.tasks.multi_label_scores import MultiLabelScores
from visus.evaluation.tasks.regression_scores import RegressionScores
from visus.evaluation.tasks.task import Headline
from visus.examine.largest_errors import LargestErrors
from visus.pages.parts.actions import Action
from visus.pages.parts.charts import scatter
from visus.pages.parts.document import beside, figure, paragraphs
from visus.pages.parts.samples import sample_image
from visus.pages.parts.table import UNDEFINED, percent_cell, table, table_row
from visus.pages.report.facts import ReportFacts
from visus.pages.report.samples import short_name, side_of
from visus.units import split_name, write_number_of, write_share

WORDS = {"multi-label": "a set of classes", "regression": "numbers"}


def is_other_task(facts: ReportFacts) -> bool:
    """Whether the network predicts something else than one class for each sample."""
    return not isinstance(facts.result, Scores)


def task_answer_panel(facts: ReportFacts) -> str:
    """The main metric in large type, with its interval and the baseline in sentences."""
    found, split = facts.result.headline, split_name(facts.result.split)
    measured = (
        f"{found.metric} on {write_number_of(facts.result.num_samples, facts.noun)}{f' of the {split} set' if split else ''}"
    )
    sentences = " ".join(escape(sentence) for sentence in task_result_sentences(facts)[1:])
    return (
        f'<div class="panel"><div class="result"><strong>{escape(found.write(found.value))}</strong> '
        f"<span>{escape(measured)}</span></div><p>{sentences}</p></div>"
    )


def task_result_sentences(facts: ReportFacts) -> list[str]:
    """The main metric, its interval, the baseline, and the other metrics."""
    scores, found = facts.result, facts.result.headline
    sentences = [
        f"The network has a {found.metric} of {found.write(found.value)} on {write_number_of(scores.num_samples, facts.noun)}.",
        expected_sentence(found, facts.nouns),
        f"The baseline, {found.baseline_words}, has {found.write(found.baseline)}.",
    ]
    if isinstance(scores, MultiLabelScores):
        sentences.append(
            f"{write_share(scores.exact_match)} of the sets of classes are predicted exactly, and {write_share(scores.label_accuracy)} of the single labels."
        )
    if isinstance(scores, RegressionScores) and (r2 := scores.targets[0].r2) is not None:
        sentences.append(
            f"R2 is {r2:.3f}: the predictions explain {write_share(max(0.0, r2))} of the variance of {scores.targets[0].name}."
        )
    if learned := scores.learned_sentence(facts.noun):
        sentences.append(learned)
    if found.is_no_better:
        samples = write_number_of(scores.num_samples, facts.noun)
        sentences.append(f"{samples} do not show that the network beats the baseline.")
    return sentences


def expected_sentence(found: Headline, nouns: str) -> str:
    """What to expect on more samples, or why nothing is known.

    >>> expected_sentence(number_scores.headline, "images").startswith("On more images like these, expect ")
    True
    """
    if found.low is None or found.high is None:
        return f"What to expect on more {nouns} is unknown, since all of these are of one group."
    ends = f"{found.write(found.low)} to {found.write(found.high)}"
    return f"On more {nouns} like these, expect {ends} (95 % confidence interval{over_groups(found.num_groups)})."


def metrics_part(facts: ReportFacts) -> str:
    """A row for each class or target."""
    return metrics_table(facts.result, facts.nouns)


def metrics_table(scores: AnyScores, nouns: str) -> str:
    """A row for each class or target; empty for single labels.

    Args:
        scores: the scores.
        nouns: word for samples.
    """
    if isinstance(scores, MultiLabelScores):
        columns = (f"{nouns.capitalize()}", "AP, %", "AUROC, %", "Threshold, %", "Precision, %", "Recall, %", "F1, %")
        rows = [
            table_row(
                row.name,
                [
                    f"{row.num_samples:,}",
                    *map(
                        percent_cell,
                        (row.average_precision, row.auroc, row.threshold, row.precision, row.recall, row.f1),
                    ),
                ],
            )
            for row in scores.per_class
        ]
        return table("Metrics of each class", ("Class", *columns), rows)
    if isinstance(scores, RegressionScores):
        heads = ("MAE", "95 % interval", "Mean predictor", "RMSE", "R2", "Within the 90 % interval, %")
        rows = [
            table_row(
                row.name,
                [
                    f"{row.mae:.4g}",
                    write_range(row.mae_low, row.mae_high, "{:.4g}".format),
                    f"{row.baseline:.4g}",
                    f"{row.rmse:.4g}",
                    UNDEFINED if row.r2 is None else f"{row.r2:.3f}",
                    percent_cell(row.covered),
                ],
            )
            for row in scores.targets
        ]
        return table("Metrics of each target", ("Target", *heads), rows)
    return ""


def largest_errors_part(facts: ReportFacts) -> str:
    """The samples with the largest errors; of numbers, with a chart of predictions against labels."""
    found = facts.measured.largest_errors
    if found is None:
        return ""
    first = ""
    if found.task == "multi-label":
        first = f"{found.num_wrong:,} of {write_number_of(found.num_samples, facts.noun)} have a wrong class."
    cards = "".join(_card(facts, found, place) for place in range(len(found.errors)))
    drawn = f'<div class="cards">{cards}</div>' if cards else ""
    if not found.points:
        return paragraphs([first]) + drawn
    chart = scatter("Prediction against label", f"{len(found.points):,} samples.", found.points, "label", "prediction")
    words = "On the diagonal, prediction and label are equal. Below: the samples with the largest errors."
    return beside(paragraphs([words]), figure("<b>Prediction against label</b>", chart, "square")) + drawn


def _card(facts: ReportFacts, found: LargestErrors, number: int) -> str:
    each = found.errors[number]
    values = facts.measured.samples.get(each.place)
    label = f"{facts.noun} {short_name(each.sample)}: {each.label}, predicted as {each.answer}"
    drawn = "" if values is None else sample_image(values, *facts.measured.value_range, label, side_of(values.ndim))
    words = f"<b>{escape(short_name(each.label))}</b> predicted as <b>{escape(short_name(each.answer))}</b>"
    file = f'<span class="file">{escape(short_name(each.sample))}</span>'
    return f'<figure class="card"><div class="strip">{drawn}</div><figcaption>{words}<br>{file}</figcaption></figure>'


def task_calibration_part(facts: ReportFacts) -> str:
    """How probabilities, thresholds or intervals were fitted."""
    return paragraphs([facts.fit_sentence])


def task_missing_part(facts: ReportFacts) -> str:
    """Why some parts of other reports are not here."""
    return paragraphs(
        [
            f"This network predicts {WORDS[facts.task]}, so the confusion matrix, label errors and saliency, which need one class for each {facts.noun}, are "
            "not measured. visus evaluate --shifts measures how the predictions change under shifts.",
        ]
    )


def task_actions(facts: ReportFacts) -> list[Action]:
    """What to do with the main metric."""
    found = []
    if facts.warnings:
        found.append(Action("Read the warnings above first: each can change this answer."))
    if facts.result.headline.is_no_better:
        return [*found, Action("Do not use this network yet. Check the data and its labels first, or train longer.")]
    if facts.result.split == "val":
        found.append(Action(f"Hold out a test set: these validation {facts.nouns} also selected the weights."))
    if facts.folder:
        found.append(Action(f"Predict your own {facts.nouns}:", f"visus predict {facts.folder} my-{facts.nouns}"))
    return found or [Action("Nothing to do: read on for the largest errors.")]


def error_actions(facts: ReportFacts) -> list[Action]:
    """What to do about the largest errors."""
    found = facts.measured.largest_errors
    if found is None or not found.errors:
        return [Action(f"Nothing to do: none of these {facts.nouns} has an error.")]
    return [Action(f"Look at the {facts.nouns} above: is the label wrong, the {facts.noun} bad, or the network wrong?")]


def no_actions(facts: ReportFacts) -> list[Action]:
    """Nothing that follows from these parts alone."""
    return [Action("Nothing to do.")]
