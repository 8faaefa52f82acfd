"""``visus predict``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visus.cli.completion import DEVICES, run_folders, words
from visus.cli.options import Json, Quiet, Raw
from visus.cli.streams import read_names
from visus.errors import UsageError, refuse_with


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            help="Run folder, or a bundle; several are averaged, as are the folds of --folds.", autocompletion=run_folders
        ),
    ],
    files: Annotated[
        list[str], typer.Argument(help="More runs, then files, folders and tables; - reads a list from stdin, one per line.")
    ],
    top: Annotated[int | None, typer.Option("--top", "-k", help="Number of classes for each sample; default: 1.")] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option(help="Copy each file into a folder of its label within this one, and print the number of copies."),
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            help="With --sort-into: lowest probability, 0 to 1; files below it go to the folder unsure. Of multi-label: the threshold of all classes."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Write a table: FILE.csv, FILE.parquet or a folder of Parquet files. A stopped command continues.",
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities", help="Add a column with the probability of each class; of single labels, with --out."
        ),
    ] = False,
    cluster: Annotated[
        str | None, typer.Option(help="With --out: compute on Ray: local, or the address of a cluster.")
    ] = None,
    raw: Raw = False,
    device: Annotated[
        str, typer.Option(help="Of a run: auto, cpu, cuda, cuda:N or mps.", autocompletion=words(*DEVICES))
    ] = "auto",
    engine: Annotated[
        str | None,
        typer.Option(
            help="Of a bundle: onnxruntime, openvino or fastest; default: the first that is installed.",
            autocompletion=words("onnxruntime", "openvino", "fastest"),
            rich_help_panel="Machine",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="Of a bundle: float32, bfloat16, float16 or int8; default: float32.",
            autocompletion=words("float32", "bfloat16", "float16", "int8"),
            rich_help_panel="Machine",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a bundle: threads of one prediction; default: one for each core.",
            rich_help_panel="Machine",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Label files: print, write a table, or sort into folders."""
    if out is None and cluster is not None:
        raise UsageError("--cluster needs --out. Add it, or leave this out.")
    if out is not None:
        refuse_with("--out", {"--sort-into": sort_into, "--at-least": at_least})
    if sort_into is not None:
        refuse_with("--sort-into", {"--probabilities": probabilities})
    if top is not None and sort_into is not None:
        raise UsageError("--top cannot be given with --sort-into, which copies each file once. Leave one of them out.")
    from visus.cli.prediction import Computing, Shown, members_among, predict_and_print, predict_to_and_print, sort_and_print

    runs, words_of_files = members_among(run, files)
    named = [name for word in words_of_files for name in (read_names() if word == "-" else [word]) if name.strip()]
    if not named:
        raise UsageError(
            "no file is named: the list on stdin is empty. Give files or folders, or a list with a name on each line."
        )
    how = Computing(device, raw, engine, precision, threads)
    if out is not None:
        columns: dict[str, Any] = {"top": top or 1, "probabilities": probabilities, "cluster": cluster}
        raise typer.Exit(predict_to_and_print(runs, named, out, columns, how, as_json=as_json, quiet=quiet))
    if sort_into is not None:
        raise typer.Exit(sort_and_print(runs, named, sort_into, at_least, how, as_json=as_json, quiet=quiet))
    shown = Shown(1 if top is None else top, probabilities, at_least)
    raise typer.Exit(predict_and_print(runs, named, shown, how, as_json=as_json, quiet=quiet))
