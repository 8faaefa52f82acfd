"""The sections of a report about the training: its curves, its cost, and how to run it again."""

from __future__ import annotations

from html import escape

from visus.pages.parts.document import folded, paragraphs
from visus.pages.parts.table import facts_table
from visus.pages.parts.training_curves import training_curves
from visus.pages.report.facts import ReportFacts
from visus.pages.report.sentences import cost_rows, version_rows
from visus.units import write_duration


def training_section(facts: ReportFacts) -> str:
    """Loss and accuracy over the epochs; empty without a history."""
    drawn = training_curves(facts.history, facts.best_epoch)
    kept = [f"The weights of epoch {facts.best_epoch} were kept."] if facts.best_epoch is not None else []
    return paragraphs(kept) + drawn if drawn else ""


def cost_section(facts: ReportFacts) -> str:
    """The cost of the training and of inference."""
    words = f"The training took {write_duration(facts.seconds)}; the network has {facts.num_parameters:,} parameters."
    return f"<p>{words}</p>" + facts_table([*cost_rows(facts), *facts.measured.costs])


def reproduce_section(facts: ReportFacts) -> str:
    """The command, the seed, all settings and the versions."""
    if facts.command:
        parts = [f'<pre class="command">{escape(facts.command)}</pre>']
    else:
        parts = ["<p>This run was made from Python.</p>"]
    seed = facts.recipe.get("seed")
    if seed is not None:
        parts.append(f"<p>The seed was {escape(str(seed))}.</p>")
    if facts.recipe:
        settings = facts_table([(str(key), str(value)) for key, value in facts.recipe.items()])
        parts.append(folded("All settings of the training", settings))
    versions = version_rows(facts)
    if versions:
        parts.append(folded("Versions", facts_table(versions)))
    return "".join(parts)
