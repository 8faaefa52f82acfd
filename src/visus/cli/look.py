"""``visus look``: passes the options to the workbench, prints a table or JSON, and writes the page."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visus.cli.completion import SALIENCY, run_folders, words
from visus.cli.options import Json
from visus.cli.streams import print_json
from visus.cli.words import shape_of, whole_numbers
from visus.errors import UsageError, refuse_with
from visus.workbench.live_line import showing_work

if TYPE_CHECKING:
    from visus.workbench.look.looking import Look


def look(
    network: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NETWORK",
            help="A run folder; or a network as for visus summary, untrained.",
            autocompletion=run_folders,
        ),
    ],
    image: Annotated[
        str, typer.Argument(help="A file; FILE:17 for a row of an array file; test:17 for a sample of the data.")
    ],
    layer: Annotated[str | None, typer.Option(help="Path of the layer whose unit is shown.")] = None,
    channel: Annotated[
        int | None, typer.Option(help="Channel of the unit, from 0; default: the one with the highest value.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="Position of the unit in the map, such as 12,20; default: that of the highest value.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Class that saliency explains; default: the predicted class.")] = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            help="Show this map even if it does not pass its checks: grad-cam, gradient, integrated-gradients, occlusion or all.",
            autocompletion=words(*SALIENCY),
        ),
    ] = None,
    object_px: Annotated[
        int | None, typer.Option("--object-size", help="Size of the objects in the samples, in px.")
    ] = None,
    templates: Annotated[
        bool,
        typer.Option("--templates/--no-templates", help="Search the data for the patches that excite each filter most."),
    ] = True,
    data: Annotated[Path | None, typer.Option(help="Other data; default: the run's own.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Path of the page; default: look-IMAGE.html in the run folder.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="With a network: channels and lengths, such as 3,224,224.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With a network: number of classes; default: 1000.")] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="With a run: use the network's own probabilities, not calibrated.")
    ] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the path of the page.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print a row for every layer.")] = False,
) -> None:
    """Show what a network sees in one image.

    Writes a page with maps, filters, templates and saliency, and prints a verdict and a table of layers.
    """

    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.look.looking import look as look_inside
        from visus.workbench.look.looking import page_name, refuse_page
        from visus.workbench.look.opening import names_run

    is_run = names_run(network)
    if output is not None and not output.parent.is_dir():  # refused before minutes are spent
        raise UsageError(f"--output: there is no folder {output.parent}. Make it, or name another place.")
    if output is not None and not output.is_dir():
        refuse_page(output)
    if is_run:
        refuse_with("a run", {"--input": input_shape, "--classes": classes})
    with contextlib.redirect_stdout(sys.stderr), showing_work("looking", quiet=quiet) as on_event:
        found = look_inside(
            network,
            image,
            layer=layer,
            channel=channel,
            at=whole_numbers(at, "--at", "12,20") if at is not None else None,
            target=target,
            saliency=saliency,
            object_px=object_px,
            templates=templates,
            data=data,
            input_shape=shape_of(input_shape) if input_shape is not None else None,
            num_classes=classes,
            raw=raw,
            cache_dir=cache_dir,
            on_event=on_event,
        )
        folder = Path(network) if is_run else Path()
        place = found.write(output / page_name(image) if output and output.is_dir() else output or folder / page_name(image))
    if as_json:
        print_json({**found.to_json(), "page": str(place)})
    elif quiet:
        print(place)
    else:
        all_options = {
            "--data": data,
            "--input": input_shape,
            "--classes": classes,
            "--target": target,
            "--saliency": saliency,
            "--object-size": object_px,
        }
        all_options["--cache-dir"] = cache_dir
        options = [word for name, value in all_options.items() if value is not None for word in (name, str(value))]
        _show(found, place, [network, image, *options], verbose=verbose)


def _show(found: Look, place: Path, named: list[str], *, verbose: bool) -> None:
    """The verdict, the layers, where the page is, and what to type next."""
    from visus.cli.show import show, warn

    facts = found.facts
    if facts.warning:
        warn((facts.warning,))
    show(found.text(verbose=verbose))
    unit = facts.unit.unit if facts.unit is not None else None
    command = (
        f"visus look {shlex.join([*named, '--layer', unit.layer])} --channel {unit.channel}" if unit is not None else ""
    )
    show((f"page: {place}", *([f"next: {command}"] if command else [])))
