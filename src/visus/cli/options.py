"""Options that several commands have, with the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
PathColumn = Annotated[str | None, typer.Option(help="Column of a table with the image files; default: path.")]
LabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        help="Column of a table with the classes or numbers, or several as cat,dog; may be repeated; default: label."
    ),
]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Skip rows of a table whose file does not exist.")]
ClassDepth = Annotated[
    int | None,
    typer.Option(min=1, help="Folder level of the classes: 1 for the first below DATA, or below its split folders."),
]
ArrayLayout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Axes of the arrays in an NPZ or NPY file, such as NLC (samples, length, channels), NHWC or NCDHW.",
    ),
]
MaxUnreadable = Annotated[float, typer.Option(help="Largest share of files that may be unreadable.")]
Raw = Annotated[bool, typer.Option("--raw", help="Use the network's own probabilities, not calibrated.")]


def declare(
    called: Callable[..., None],
    command: Callable[..., None],
    received: str,
    parameters: Iterable[inspect.Parameter],
    *,
    are_first: bool = False,
) -> Callable[..., None]:
    """Give a function the signature of a command with further options, which typer then reads.

    Args:
        called: takes the options and calls the command.
        command: the command.
        received: the argument of the command that receives the values of the options, and is no option itself.
        parameters: the options, keyword-only.
        are_first: whether the options come before those of the command.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.name != received]
    place = sum(each.kind is not inspect.Parameter.KEYWORD_ONLY for each in own) if are_first else len(own)
    signature = signature.replace(parameters=[*own[:place], *parameters, *own[place:]])
    called.__signature__ = signature  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return called
