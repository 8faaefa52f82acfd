"""The end of a section: what its reader should do now, each with the command that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from visus.pages.parts.document import command_block


@dataclass(frozen=True)
class Action:
    """One thing to do.

    Attributes:
        text: what to do, and why, as a sentence or two.
        command: a command that does it; empty if none does.
    """

    text: str
    command: str = ""


def to_do(actions: Sequence[Action]) -> str:
    """The actions under the heading "What to do", all escaped; empty if there is none."""
    listed = "".join(f"<li>{escape(each.text)}{command_block(each.command)}</li>" for each in actions)
    return f'<div class="todo"><h3>What to do</h3><ul>{listed}</ul></div>' if listed else ""
