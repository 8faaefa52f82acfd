"""The options that open the data of a training: the same for ``visus train`` and ``visus tune``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from visus.cli.completion import NORMALIZE, RESIZE_MODES, TASKS, words
from visus.cli.options import declare


def expert(group: str, *names: str, **facts: Any) -> Any:
    """An option of a training that ``--help-all`` lists alone."""
    return typer.Option(*names, hidden=True, rich_help_panel=group, **facts)


def _declared(
    *,
    img_size: Annotated[
        str | None, typer.Option(help="Size of the images: side in pixels, or HEIGHTxWIDTH.", rich_help_panel="Data")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What a label is: single-label (one class), multi-label (a set of classes) or regression (numbers).",
            rich_help_panel="Data",
            autocompletion=words(*TASKS),
        ),
    ] = None,
    labels: Annotated[
        str | None,
        expert(
            "Data", help="Other labels: a column of the table, a CSV file with a row path,label for each sample, or folders."
        ),
    ] = None,
    channels: Annotated[
        int | None,
        expert("Data", help="Number of channels: 1 for gray, 3 for color; default: color where any image has it."),
    ] = None,
    resize_mode: Annotated[
        str | None,
        expert(
            "Data",
            help="How an image is resized: squash, crop or pad; default: squash.",
            autocompletion=words(*RESIZE_MODES),
        ),
    ] = None,
    normalize: Annotated[
        str | None,
        expert(
            "Data",
            help="How values are normalized: mean-deviation or min-max; default: mean-deviation.",
            autocompletion=words(*NORMALIZE),
        ),
    ] = None,
    path_column: Annotated[str | None, expert("Data", help="Column of a table with the image files; default: path.")] = None,
    label_column: Annotated[
        list[str] | None,
        expert(
            "Data",
            help="Column of a table with the classes or numbers, or several as cat,dog; may be repeated; default: label.",
        ),
    ] = None,
    skip_missing: Annotated[
        bool, expert("Data", "--skip-missing", help="Skip rows of a table whose file does not exist.")
    ] = False,
    class_depth: Annotated[
        int | None,
        expert(
            "Data",
            min=1,
            help="Folder level of the classes: 1 for the first below DATA, or below its split folders.",
        ),
    ] = None,
    layout: Annotated[
        str | None,
        expert(
            "Data",
            help="Axes of the arrays in an NPZ or NPY file, such as NLC (samples, length, channels), NHWC or NCDHW.",
        ),
    ] = None,
    split: Annotated[
        Path | None,
        expert(
            "Data",
            "--split-file",
            help="Split as the split.csv of an earlier run does; samples that it does not list are split in addition.",
        ),
    ] = None,
    split_seed: Annotated[
        int | None,
        expert(
            "Data",
            min=0,
            help="Seed of the split into training, validation and test set, where the data has none; default: 0.",
        ),
    ] = None,
    val: Annotated[
        float | None,
        expert(
            "Data",
            help="Fraction of the training samples for the validation set, where the data has none; 0 for none; default: 0.1.",
        ),
    ] = None,
    test: Annotated[
        float | None,
        expert(
            "Data",
            help="Fraction of all samples for the test set, where the data has no split; 0 for none; default: 0.2.",
        ),
    ] = None,
    max_unreadable: Annotated[
        float | None, expert("Data", help="Largest share of files that may be unreadable; default: 0.05.")
    ] = None,
    cache_dir: Annotated[
        Path | None, expert("Data", help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    workers: Annotated[
        int, expert("Machine", "--workers", "-j", min=0, help="Number of decoding threads; 0: one for each core.")
    ] = 0,
) -> None:
    """Declare the options; it is never called."""


DATA_OPTIONS: Final = dict(inspect.signature(_declared, eval_str=True).parameters)
"""The options that open the data, by the names of their parameters."""


def with_data_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that open the data to a command; it receives their values as the dict ``opening``."""

    @functools.wraps(command)
    def called(**arguments: Any) -> None:
        opening = {name: arguments.pop(name) for name in DATA_OPTIONS}
        command(**arguments, opening=opening)

    return declare(called, command, "opening", DATA_OPTIONS.values(), are_first=True)
