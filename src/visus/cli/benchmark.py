"""``visus benchmark``: how fast a network or a run is on this machine."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from visus.cli.streams import print_json
from visus.cli.words import shape_of
from visus.errors import refuse_with
from visus.workbench.live_line import showing_work


def benchmark(
    network: Annotated[
        str, typer.Argument(metavar="RUN|NETWORK", help="A run folder; or a network as for visus summary, untrained.")
    ],
    input_shape: Annotated[
        str | None, typer.Option("--input", help="With a network: channels and lengths; default: 3,224,224.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With a network: number of classes; default: 1000.")] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="Samples of a batch; predictions are measured one by one too.")
    ] = 32,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of threads; default: PyTorch's.")] = None,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; the result is their median.")] = 7,
    time_limit: Annotated[
        str | None, typer.Option(help="Begin no further round after this time, such as 90s or 5m; default: none.")
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Also measure torch.compile.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")] = False,
) -> None:
    """Measure predictions and training steps per second.

    Every way to compute the network here is measured, and its outputs are compared with PyTorch's.
    """
    from visus.units import read_duration

    if Path(network).is_dir():
        refuse_with("a run", {"--input": input_shape, "--classes": classes})
    with contextlib.redirect_stdout(sys.stderr), showing_work("loading PyTorch") as on_event:
        # stdout is for the result; what a person's own module prints is none
        from visus.cli.show import show
        from visus.workbench.benchmark.measuring import benchmark as measure

        found = measure(
            network,
            shape_of(input_shape) if input_shape is not None else None,
            classes,
            batch_size=batch_size,
            threads=threads,
            device=device,
            rounds=rounds,
            time_limit_s=read_duration(time_limit) if time_limit is not None else None,
            compile=compile,
            on_event=on_event,
        )
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
