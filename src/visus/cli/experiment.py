"""``visus experiment``: trains a run again with one change, and compares both.

Each kind changes one thing: the layers (mlp), the order of the pixels (shuffle), the task (task), or flatten and strides
(antialias).
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visus.cli.completion import DEVICES, run_folders, words
from visus.cli.options import Json
from visus.cli.settings import GroupedCommand
from visus.cli.streams import print_json
from visus.cli.words import shape_of
from visus.errors import refuse_with
from visus.workbench.live_line import showing_work
from visus.workbench.running_command import running

if TYPE_CHECKING:
    from visus.design.mlp_equivalents import Twins
    from visus.workbench.compare.comparison import Comparison
    from visus.workbench.experiment.antialias import Antialiased
    from visus.workbench.experiment.task import TaskComparison
    from visus.workbench.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train a run again with one change, and compare both.",
    epilog="For example: visus experiment shuffle runs/first",
)

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=run_folders)]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the new runs; default: that of RUN.")]
Device = Annotated[
    str | None,
    typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps; default: auto.", autocompletion=words(*DEVICES)),
]
CacheDir = Annotated[Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no training progress.")]


@app.command(cls=GroupedCommand)
def mlp(
    network: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NETWORK",
            help="A run folder; or a network as for visus summary, which is not trained.",
            autocompletion=run_folders,
        ),
    ],
    shuffle_pixels: Annotated[
        bool,
        typer.Option("--shuffle-pixels", help="Train each network again on images whose pixels are in one random order."),
    ] = False,
    output: Output = None,
    device: Device = None,
    cache_dir: CacheDir = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="With a network: channels and lengths; default: 3,224,224.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With a network: number of classes; default: 1000.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare a network with perceptrons of equal cost."""
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.experiment.experiments import mlp as compare_with_mlps

    of_training: dict[str, object] = {"--shuffle-pixels": shuffle_pixels, "--output": output, "--quiet": quiet}
    of_training |= {"--device": device, "--cache-dir": cache_dir}
    if not Path(network).is_dir():
        refuse_with("a network", of_training)
        shape = shape_of(input_shape) if input_shape is not None else None
        _show(compare_with_mlps(network, input_shape=shape, num_classes=classes), as_json=as_json)
        return
    refuse_with("a run", {"--input": input_shape, "--classes": classes})
    with _screen(quiet) as screen:
        found = compare_with_mlps(network, shuffle_pixels=shuffle_pixels, **_given(screen, output, device, cache_dir))
    _show(found, as_json=as_json)


@app.command(cls=GroupedCommand)
def shuffle(
    run: RunFolder,
    output: Output = None,
    device: Device = None,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare a run with one on shuffled pixels."""
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.experiment.experiments import shuffle as compare_with_shuffled

    with _screen(quiet) as screen:
        found = compare_with_shuffled(run, **_given(screen, output, device, cache_dir))
    _show(found, as_json=as_json)


@app.command(cls=GroupedCommand)
def task(
    run: RunFolder,
    other: Annotated[
        str,
        typer.Option(
            "--task", help="Task to learn instead: reconstruction, or other labels (a column of its table, or a CSV file)."
        ),
    ] = "reconstruction",
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="Also train the run's own task from another seed.")
    ] = True,
    output: Output = None,
    device: Device = None,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare the filters of a run with those of another task."""
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.experiment.experiments import task as compare_tasks

    with _screen(quiet) as screen:
        found = compare_tasks(run, other, control=control, **_given(screen, output, device, cache_dir))
    _show(found, as_json=as_json)


@app.command(cls=GroupedCommand)
def antialias(
    run: RunFolder,
    output: Output = None,
    device: Device = None,
    cache_dir: CacheDir = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare a run with its antialiased design.

    Global pooling replaces flatten, and blur pooling replaces strides.
    """
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.experiment.experiments import antialias as compare_with_antialiased

    with _screen(quiet) as screen:
        found = compare_with_antialiased(run, **_given(screen, output, device, cache_dir))
    _show(found, as_json=as_json)


@contextlib.contextmanager
def _screen(quiet: bool) -> Iterator[Screen]:
    """Where trainings are shown; what a person's own module prints goes to stderr."""
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.workbench.screen import Screen

    command = shlex.join(["visus", *sys.argv[1:]])
    with contextlib.redirect_stdout(sys.stderr), Screen(quiet, has_next=False) as screen, running(command):
        yield screen


def _given(screen: Screen, output: Path | None, device: str | None, cache_dir: Path | None) -> dict[str, Any]:
    return {"output": output, "device": device, "cache_dir": cache_dir, "on_event": screen.show}


def _show(found: Comparison | Antialiased | TaskComparison | Twins, *, as_json: bool) -> None:
    from visus.cli.show import show

    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
