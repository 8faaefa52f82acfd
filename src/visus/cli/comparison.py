"""``visus compare``: two runs on the same samples."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from visus.cli.streams import print_json


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another run folder.")],
    data: Annotated[
        Path | None, typer.Option(help="Data to compare them on; default: the samples that both held out.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to compare on: train, val or test; default: the held-out one.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")] = False,
) -> None:
    """Compare two runs sample by sample: paired difference with its interval, McNemar's test, samples on which they differ."""
    from visus.cli.show import show
    from visus.workbench.compare.runs import compare as compare_both

    with contextlib.redirect_stdout(sys.stderr):  # what a person's own module prints is no result
        found = compare_both(first, second, data, split=split, device=device, cache_dir=cache_dir)
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
