"""``visus benchmark``: how fast a network, a run or a bundle is on this machine."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from visus.cli.options import Json
from visus.cli.streams import print_json
from visus.cli.words import shape_of
from visus.errors import UsageError, refuse_with
from visus.workbench.live_line import showing_work


def benchmark(
    network: Annotated[
        str,
        typer.Argument(
            metavar="RUN|BUNDLE|NETWORK", help="A run folder; a bundle; or a network as for visus summary, untrained."
        ),
    ],
    input_shape: Annotated[
        str | None, typer.Option("--input", help="With a network: channels and lengths; default: 3,224,224.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With a network: number of classes; default: 1000.")] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            "-b",
            min=1,
            help="Samples of a batch; predictions are measured one by one too; default: 32, in engines 8 and 64.",
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of threads; default: PyTorch's, in engines one and all.")
    ] = None,
    engines: Annotated[
        list[str] | None,
        typer.Option("--engine", help="With a run or a bundle: an engine, such as openvino; may be repeated; default: all."),
    ] = None,
    no_engines: Annotated[bool, typer.Option("--no-engines", help="With a run: measure PyTorch alone.")] = False,
    device: Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Number of rounds; the result is their median.")] = 7,
    time_limit: Annotated[
        str | None, typer.Option(help="Begin no further round after this time, such as 90s or 5m; default: none.")
    ] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Also measure torch.compile.")] = False,
    as_json: Json = False,
) -> None:
    """Measure predictions and training steps per second.

    Every way to compute the network here is measured, and its outputs are compared with PyTorch's. A run or a bundle is also
    measured in each engine, such as ONNX Runtime and OpenVINO: latency, samples per second and accuracy.
    """
    from visus.units import read_duration

    if engines and no_engines:
        raise UsageError("--engine and --no-engines exclude each other. Use one of them.")
    if Path(network).is_dir():
        from visus.ship.manifest import MANIFEST

        kind = "a bundle" if Path(network, MANIFEST).is_file() else "a run"
        refuse_with(kind, {"--input": input_shape, "--classes": classes})
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
            engines=() if no_engines else engines,
            on_event=on_event,
        )
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
