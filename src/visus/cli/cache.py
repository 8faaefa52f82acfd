"""``visus cache``: lists the stored decoded data and removes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from visus.cli.streams import print_json
from visus.data.cache import Entry, cache_bound, cache_folder, entries, remove
from visus.errors import UsageError, printable
from visus.tables import Table
from visus.units import read_duration, write_bytes, write_duration, write_number_of, write_shape


def cache(
    empty: Annotated[bool, typer.Option("--empty", help="Remove the entries that no running process uses.")] = False,
    older_than: Annotated[str | None, typer.Option(help="Only entries unused for this time, such as 12h, 7d or 4w.")] = None,
    gone: Annotated[bool, typer.Option("--gone", help="Only entries whose data no longer exists.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")] = False,
) -> None:
    """List the decoded data that is stored, or remove it."""
    root = cache_folder(cache_dir)
    if root.exists() and not root.is_dir():
        raise UsageError("this is a file. Name a folder with --cache-dir or VISUS_CACHE.", where=str(root))
    least_age_s = read_duration(older_than) if older_than else 0.0
    now = time.time()
    chosen = [
        entry for entry in entries(root) if now - entry.used >= least_age_s and (not gone or entry.has_source is False)
    ]
    if empty:
        removed, kept = remove(chosen)
        if as_json:
            print_json({"folder": str(root), "removed": _facts(removed), "in_use": _facts(kept)})
        else:
            _show_removed(root, removed, kept)
    elif as_json:
        facts = {
            "folder": str(root),
            "bytes": _total(chosen),
            "bound_bytes": cache_bound(),
            "kernel_bytes": _kernel_bytes(root),
        }
        print_json(facts | {"entries": _facts(chosen)})
    else:
        _show(root, chosen, now, is_narrowed=bool(older_than or gone))


def _show(root: Path, chosen: Sequence[Entry], now: float, *, is_narrowed: bool) -> None:
    from visus.cli.show import show

    rows = (
        (
            printable(entry.source or "not known"),
            write_shape(entry.shape) if entry.shape else "-",
            write_bytes(entry.num_bytes),
            _age(now - entry.used),
            _state(entry),
        )
        for entry in chosen
    )
    kind = "entry of this kind" if is_narrowed else "entry"
    plural = "entries of this kind" if is_narrowed else "entries"
    kernels = _kernel_bytes(root)
    lines = [
        f"{write_number_of(len(chosen), kind, plural)}, {write_bytes(_total(chosen))}; decoding keeps this folder below "
        f"{write_bytes(cache_bound())} (VISUS_CACHE_SIZE), and removes the entries that were used least recently",
        f"compiled kernels and measured choices: {write_bytes(kernels)}, which --empty keeps" if kernels else "",
        f"folder: {printable(str(root))}",
        "to empty it: visus cache --empty, with --older-than 7d or --gone for a part" if chosen else "",
    ]
    table = Table(tuple(rows), ("data", "decoded", "size", "last used", "state"), (2,))
    show((*([table] if chosen else []), *(line for line in lines if line)))


def _age(seconds: float) -> str:
    days = int(seconds // 86_400)
    return f"{days} days ago" if days > 1 else f"{write_duration(max(0, round(seconds)))} ago"


def _state(entry: Entry) -> str:
    if entry.is_part:
        return "being written" if entry.is_in_use else "unfinished"
    words = ["in use"] if entry.is_in_use else []
    if entry.has_source is not True:
        words.append("its data is gone" if entry.has_source is False else "of an earlier version")
    return ", ".join(words) or "-"


def _show_removed(root: Path, removed: Sequence[Entry], kept: Sequence[Entry]) -> None:
    print(
        f"removed: {write_number_of(len(removed), 'entry', 'entries')}, {write_bytes(_total(removed))}, from {printable(str(root))}"
    )
    if kept:
        print(
            f"kept: {write_number_of(len(kept), 'entry', 'entries')}, {write_bytes(_total(kept))}, which a running process uses"
        )


def _total(chosen: Sequence[Entry]) -> int:
    return sum(entry.num_bytes for entry in chosen)


def _kernel_bytes(root: Path) -> int:
    return sum(file.stat().st_size for file in (root / "kernels").glob("*") if file.is_file())


def _facts(chosen: Sequence[Entry]) -> list[dict[str, Any]]:
    return [
        {
            "folder": str(entry.folder),
            "name": entry.name,
            "source": entry.source,
            "source_exists": entry.has_source,
            "shape": list(entry.shape),
            "bytes": entry.num_bytes,
            "last_used": entry.used,
            "in_use": entry.is_in_use,
            "unfinished": entry.is_part,
        }
        for entry in chosen
    ]
