"""``visus export`` and ``visus verify``: a bundle of a run, and its check."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from visus.cli.completion import run_folders, words
from visus.cli.options import Json
from visus.cli.stopping import print_when_stopped
from visus.cli.streams import print_json
from visus.errors import UsageError, unknown_name
from visus.progress import OnEvent, Progress
from visus.workbench.live_line import showing_work


def export(
    run: Annotated[Path, typer.Argument(help="Run folder.", autocompletion=run_folders)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder, or a file that ends with .zip; default: the run's name with -bundle."),
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="onnx, openvino or torch; may be repeated; default: all that are installed.",
            autocompletion=words("onnx", "openvino", "torch"),
        ),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Held-out samples in the bundle, for the check.")] = 500,
    golden: Annotated[int, typer.Option(min=1, help="Golden files in the bundle, for the check.")] = 20,
    license: Annotated[str, typer.Option(help="License of the network, written into the bundle.")] = "",
    intended_use: Annotated[str, typer.Option(help="Section of the model card, as Markdown: uses, users, limits.")] = "",
    ethical_considerations: Annotated[str, typer.Option(help="Section of the model card, as Markdown.")] = "",
    int8: Annotated[
        bool, typer.Option("--int8", help="Also an int8 network, calibrated on at least 300 training samples.")
    ] = False,
    max_loss: Annotated[
        float, typer.Option(min=0, max=1, help="Largest loss of the int8 network by the metric of its task, from 0 to 1.")
    ] = 0.01,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle at this path.")] = False,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a bundle of a run, with the proof that it answers alike.

    It holds everything from a file to a probability.
    """
    if absent := next((each for each in formats or () if each.lower() in _ABSENT_FORMATS), None):
        raise UsageError(
            f"{unknown_name('format', absent, ('onnx', 'openvino', 'torch'))} "
            '"What visus does not have" in docs/how-to/coming-from.md shows how PyTorch exports the network of a run.'
        )
    stages = _Stages()
    with (
        print_when_stopped(stages.sentence),
        contextlib.redirect_stdout(sys.stderr),
        showing_work("loading PyTorch") as on_event,
    ):
        from visus.cli.show import show
        from visus.workbench.runs.run import load

        made = load(run).export(
            output,
            formats=formats or None,
            num_samples=samples,
            num_golden=golden,
            license=license,
            intended_use=intended_use,
            ethical_considerations=ethical_considerations,
            int8=int8,
            max_loss=max_loss,
            force=force,
            cache_dir=cache_dir,
            on_event=stages.before(on_event),
        )
    if as_json:
        print_json(made.to_json())
    else:
        show(made.text())


_ABSENT_FORMATS: Final = (
    "coreml",
    "engine",
    "mlmodel",
    "ncnn",
    "paddle",
    "pb",
    "saved_model",
    "tensorrt",
    "tflite",
    "torchscript",
)
"""Formats of other tools that visus does not have."""


class _Stages:
    """How far an export is: its bundle is written at once, and measured after that if it has an int8 network."""

    def __init__(self) -> None:
        self._seen: list[str] = []

    def before(self, next_one: OnEvent) -> OnEvent:
        """An ``on_event`` that remembers the stages and passes every event on."""

        def remember_and_pass_on(event: object) -> None:
            if isinstance(event, Progress):
                self._seen.append(event.stage)
            next_one(event)

        return remember_and_pass_on

    def sentence(self) -> str:
        """What Ctrl-C prints."""
        if "writing" in self._seen[:-1]:
            return "stopped. The bundle is checked and written; only the speed of its int8 network is not measured."
        return "stopped. No bundle was written; run the command again."


def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder or zip file of a bundle.")],
    engines: Annotated[
        list[str] | None,
        typer.Option(
            "--engine",
            help="onnxruntime or openvino; may be repeated; default: all.",
            autocompletion=words("onnxruntime", "openvino"),
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="Precision of the arithmetic.", autocompletion=words("float32", "float16", "bfloat16", "int8")),
    ] = "float32",
    as_json: Json = False,
) -> None:
    """Check that a bundle answers as its run did.

    Compared are files, golden files, and every engine.
    """
    with showing_work("verifying") as on_event:
        from visus.cli.show import show
        from visus.workbench.ship.verifying import verify as check

        found = check(bundle, engines=engines or (), precision=precision, on_event=on_event)
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
