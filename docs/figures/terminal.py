"""Runs a command in a terminal of its own and draws the screen that a person sees, colors included."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import struct
import subprocess
import termios
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS: Final = 100
"""Characters of a line of the terminals that are drawn."""

_CONTROL: Final = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|([\r\n])|([^\x1b\r\n]+)|\x1b")
_THEME: Final = TerminalTheme(
    (29, 32, 37),
    (230, 232, 235),
    [
        (29, 32, 37),
        (240, 113, 103),
        (138, 201, 120),
        (236, 190, 92),
        (110, 168, 254),
        (205, 150, 232),
        (96, 205, 213),
        (230, 232, 235),
    ],
    [
        (128, 134, 143),
        (255, 140, 130),
        (160, 220, 145),
        (250, 210, 120),
        (140, 188, 255),
        (222, 175, 245),
        (130, 225, 232),
        (255, 255, 255),
    ],
)


def run_in_terminal(command: Sequence[str], *, folder: Path, columns: int = COLUMNS) -> str:
    """Everything that a command writes into a terminal, with its control sequences.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        columns: width of the terminal.

    Raises:
        subprocess.CalledProcessError: the command failed.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    settings = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "60", "COLORTERM": ""}
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    running = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | settings)
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other end was closed
            break
        if not some:
            break
        written += some
    os.close(ours)
    text = written.decode("utf-8", errors="replace")
    if running.wait():
        raise subprocess.CalledProcessError(running.returncode, command, output=text)
    return text


def screen_lines(written: str) -> list[str]:
    """The lines that are left on the screen, with their colors as escape sequences; progress that was erased is gone.

    >>> screen_lines("one\\r\\n50 %\\r\\x1b[2Ktwo\\r\\nthree\\r\\n\\x1b[1A\\x1b[2K")
    ['one', 'two']
    """
    rows: list[list[tuple[str, str]]] = [[]]
    row = column = 0
    style = ""
    for parameters, command, line_end, text in (match.groups() for match in _CONTROL.finditer(written)):
        if text:
            line = rows[row]
            line += [(" ", "")] * (column - len(line))
            line[column : column + len(text)] = [(letter, style) for letter in text]
            column += len(text)
        elif line_end == "\r":
            column = 0
        elif line_end == "\n":
            row, column = row + 1, 0
            if row == len(rows):
                rows.append([])
        elif command == "m":
            style = "" if parameters in ("", "0") else f"{style}\x1b[{parameters}m"
        elif command == "A":
            row = max(0, row - int(parameters or 1))
        elif command == "K":
            rows[row] = [] if parameters == "2" else rows[row][:column]
    while rows and not rows[-1]:
        rows.pop()
    return [_with_escapes(line) for line in rows]


def arguments_of(command: str) -> list[str]:
    """The words after ``visus`` of a command as a person types it.

    >>> arguments_of('visus summary "conv(8, 3),\\n  relu" --input 3,8,8')
    ['summary', 'conv(8, 3),\\n  relu', '--input', '3,8,8']
    """
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "visus", "the figures are of commands of visus"
    return arguments


def _with_escapes(line: Sequence[tuple[str, str]]) -> str:
    written, now = "", ""
    for letter, style in line:
        if style != now:
            written += ("\x1b[0m" if now else "") + style
            now = style
        written += letter
    return (written + ("\x1b[0m" if now else "")).rstrip()


def terminal(command: str, lines: Sequence[str], *, columns: int = COLUMNS) -> str:
    """A terminal as HTML: the command after a prompt, and the lines below it.

    Args:
        command: the command as a person types it, over one line or several.
        lines: the lines that it printed, with colors as escape sequences.
        columns: width of the terminal; longer lines are wrapped as a terminal wraps them.
    """
    first, *others = command.splitlines()
    shown = [f'<span class="prompt">$</span> <b>{escape(first)}</b>', *(f"<b>{escape(each)}</b>" for each in others)]
    console = Console(width=columns, color_system="truecolor", force_terminal=True, legacy_windows=False)
    for line in lines:
        text = Text.from_ansi(line)
        parts = [text[start : start + columns] for start in range(0, max(1, len(text)), columns)]
        shown += ["".join(_span(segment) for segment in part.render(console, end="")) for part in parts]
    return f'<div class="terminal"><pre>{chr(10).join(shown)}</pre></div>'


def _span(segment: Segment) -> str:
    style = segment.style or Style()
    css = style.get_html_style(_THEME)
    return f'<span style="{css}">{escape(segment.text)}</span>' if css else escape(segment.text)
