"""``visus serve``: predictions of a bundle or a run over HTTP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from visus.cli.completion import DEVICES, run_folders, words
from visus.cli.options import Quiet
from visus.workbench.live_line import showing_work


def serve(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="BUNDLE|RUN", help="A bundle (folder or zip file), or a run folder.", autocompletion=run_folders
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; other machines' requests need a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.")] = 8000,
    engine: Annotated[
        str, typer.Option(help="Of a bundle: onnxruntime or openvino; default: the first that is installed.")
    ] = "",
    precision: Annotated[str, typer.Option(help="Of a bundle: float32, bfloat16, float16 or int8.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one prediction; default: one for each core, shared by the workers.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Of a run: auto, cpu, cuda, cuda:N or mps.", autocompletion=words(*DEVICES))
    ] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    max_batch: Annotated[int, typer.Option(min=1, help="Samples that are computed together at most.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="Milliseconds that a sample waits for others while the engine is free.")
    ] = 2.0,
    queue: Annotated[int, typer.Option(min=1, help="Samples that wait at most; more are answered with 429.")] = 256,
    max_bytes: Annotated[int, typer.Option(min=1, help="Bytes of a request at most.")] = 64 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Pixels of an image at most.")] = 50_000_000,
    max_files: Annotated[int, typer.Option(min=1, help="Samples of a request at most.")] = 64,
    max_connections: Annotated[int, typer.Option(min=1, help="Open connections of one process at most.")] = 1000,
    read_timeout_s: Annotated[
        float, typer.Option("--read-timeout", help="Seconds in which a request must have arrived.")
    ] = 30.0,
    answer_timeout_s: Annotated[float, typer.Option("--answer-timeout", help="Seconds in which it is answered.")] = 60.0,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that clients send; default: the variable VISUS_TOKEN.")
    ] = None,
    allow_hosts: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name by which clients may call the server; may be repeated.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Serve predictions over HTTP until SIGTERM or Ctrl-C.

    POST /v1/predict takes images and arrays; /docs describes the rest.
    """
    with showing_work("opening the network", quiet=quiet):
        from visus.server.serving import serve as serve_it

    def print_address(address: str) -> None:
        if not quiet:
            sys.stderr.write(f"serving on {address} (described at {address}/docs); Ctrl-C ends it\n")
            sys.stderr.flush()

    serve_it(
        path,
        host=host,
        port=port,
        engine=engine,
        precision=precision,
        threads=threads,
        device=device,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        queue=queue,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_files=max_files,
        max_connections=max_connections,
        read_timeout_s=read_timeout_s,
        answer_timeout_s=answer_timeout_s,
        workers=workers,
        token_file=token_file,
        allow_hosts=allow_hosts or (),
        on_listening=print_address,
    )
