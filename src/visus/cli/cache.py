"""``visus cache``: lists the stored decoded data and removes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visus.cli.options import Json
from visus.cli.streams import print_json


def cache(
    empty: Annotated[bool, typer.Option("--empty", help="Remove the entries that no running process uses.")] = False,
    older_than: Annotated[str | None, typer.Option(help="Only entries unused for this time, such as 12h, 7d or 4w.")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Only entries whose data no longer exists.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the decoded data that is stored, or remove it."""
    from visus.cli.show import show
    from visus.workbench.cached_data import cached_data

    listed = cached_data(older_than=older_than, gone=gone, cache_dir=cache_dir)
    found = listed.empty() if empty else listed
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
