"""``visus compare``: runs on the same samples."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from visus.cli.completion import DEVICES, SPLITS, run_folders, words
from visus.cli.options import ArrayLayout, ClassDepth, Json, LabelColumn, MaxUnreadable, PathColumn, SkipMissing
from visus.cli.streams import print_json
from visus.workbench.live_line import showing_work


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="Two run folders or more; each is compared with the first.",
            autocompletion=run_folders,
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Data to compare them on; default: the samples that all held out.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to compare on: train, val or test; default: the held-out one.", autocompletion=words(*SPLITS)
        ),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    max_unreadable: MaxUnreadable = 0.05,
    device: Annotated[
        str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.", autocompletion=words(*DEVICES))
    ] = "auto",
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare runs on the same samples, each with the first."""
    with contextlib.redirect_stdout(sys.stderr), showing_work("loading PyTorch") as on_event:
        # stdout is for the result; what a person's own module prints is none
        from visus.cli.show import show
        from visus.workbench.compare.runs import compare as compare_all

        found = compare_all(
            *runs,
            data=data,
            split=split,
            path_column=path_column,
            label_column=label_column,
            skip_missing=skip_missing,
            class_depth=class_depth,
            layout=layout,
            max_unreadable=max_unreadable,
            device=device,
            cache_dir=cache_dir,
            on_event=on_event,
        )
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
