"""The commands that need no data: summary, diff and solve."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visus.cli.completion import words
from visus.cli.options import Json
from visus.cli.streams import print_json
from visus.cli.words import shape_of
from visus.errors import refuse_with
from visus.units import write_number_of, write_shape
from visus.workbench.live_line import showing_work

if TYPE_CHECKING:
    from visus.workbench.summaries import Summary

Network = Annotated[str, typer.Argument(help="A family, a design or its file, or package.module:callable.")]
Input = Annotated[str, typer.Option("--input", help="Channels and lengths, such as 3,224,224.")]
Inputs = Annotated[
    list[str], typer.Option("--input", help="Channels and lengths, such as 3,224,224; once for each input of a module.")
]
Classes = Annotated[int, typer.Option(min=1, help="Number of classes.")]
BatchSize = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Samples in one training step, for the memory.")]
Detail = Annotated[
    str, typer.Option(help="Rows of the table: layers, or operations.", autocompletion=words("layers", "operations"))
]


def summary(
    context: typer.Context,
    network: Network,
    input_shape: Inputs = ["3,224,224"],  # noqa: B006 - typer shows it, nobody changes it
    classes: Classes = 1000,
    detail: Detail = "layers",
    object_px: Annotated[int | None, typer.Option("--object-size", help="Size of the objects in the images, in px.")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="File of boxes around the objects (Pascal VOC, COCO, YOLO or a table); --object-size is then their 95th percentile."
        ),
    ] = None,
    batch_size: BatchSize = 64,
    as_json: Json = False,
) -> None:
    """Show the layers of a network, their cost, and advice.

    Each layer has its shape, parameters, multiply-adds and receptive field; then come totals, memory and advice.
    """
    is_default = {
        name: context.get_parameter_source(name).name == "DEFAULT"  # type: ignore[union-attr]  # both are parameters
        for name in ("input_shape", "classes")
    }
    from visus.workbench.summaries import input_of_run

    of_run = input_of_run(network.strip()) if is_default["input_shape"] else None
    if of_run is not None:
        input_shape, classes = [",".join(map(str, of_run[0]))], of_run[1] if is_default["classes"] else classes
    objects = None
    if boxes is not None:
        object_px, objects = _object_px(boxes, input_shape[0], object_px)
    with contextlib.redirect_stdout(sys.stderr), showing_work("counting shapes, parameters and receptive fields"):
        # stdout is for the result; what a person's own module prints is none
        from visus.cli.show_design import show_summary
        from visus.workbench.summaries import training_of

        found = _summarize(network, input_shape, classes, detail, object_px, batch_size)
        training = training_of(found.account, batch_size) if found.error is None else None
    if as_json:
        memory = {"batch_size": batch_size, "bytes_training": training.bytes_training} if training else {}
        objects_json = {"objects": objects, "object_px": object_px} if objects else {}
        print_json({**found.to_json(), **memory, **objects_json, **({"error": str(found.error)} if found.error else {})})
    else:
        if of_run is not None:
            print(f"input {write_shape(of_run[0])}, {write_number_of(classes, 'class', 'classes')}, as in the run")
        elif is_default["input_shape"]:
            print(_defaults(input_shape[0], classes, with_classes=is_default["classes"]))
        show_summary(found, training)
        if objects:
            print(objects)
    if found.error is not None:
        raise found.error
    if note := found.output_note(None if is_default["classes"] else classes):
        from visus.cli.show import warn

        warn([note])


def noted_shape(text: str) -> tuple[int, ...]:
    """The input shape; if it may be the size of an image without its channels, one with the channels last, or a batch of images,
    a note on stderr says how it is read.

    Raises:
        UsageError: the text is not a shape.
    """
    from visus.cli.show import warn
    from visus.design.account import may_be_image_size

    shape = shape_of(text)
    if len(shape) == 2 and may_be_image_size(shape):
        size = f"{shape[0]},{shape[1]}"
        reading = f"--input {text} is a signal with {shape[0]} channels of length {shape[1]}."
        warn([f"{reading} Images have three numbers: --input 1,{size} (gray) or --input 3,{size} (color)."], "note: ")
    elif len(shape) == 3 and shape[2] <= _MAX_COLORS and may_be_image_size(shape[:2]):
        reading = f"--input {text} is an image of {shape[1]} x {shape[2]} px with {shape[0]} channels."
        warn([f"{reading} The channels come first: --input {shape[2]},{shape[0]},{shape[1]}."], "note: ")
    elif len(shape) == 4 and shape[1] <= _MAX_COLORS and may_be_image_size(shape[2:]):
        reading = f"--input {text} is a volume of {write_shape(shape[1:])} with {shape[0]} channels."
        warn([f"{reading} For images, leave out the batch: --input {','.join(map(str, shape[1:]))}."], "note: ")
    return shape


_MAX_COLORS = 4  # channels of an image from a file


def _defaults(input_shape: str, classes: int, *, with_classes: bool) -> str:
    """The first line of a summary whose input is the default."""
    shape = write_shape(shape_of(input_shape))
    if with_classes:
        return f"input {shape}, {classes:,} classes (defaults; --input, --classes)"
    return f"input {shape} (default; --input), {write_number_of(classes, 'class', 'classes')}"


def _object_px(boxes: Path, input_shape: str, given: int | None) -> tuple[int, str]:
    """The size of most objects on this input, and the sentence that says how large they are.

    Raises:
        UsageError: a size was given too, or the input is no image.
    """
    from visus.data.boxes import read_boxes
    from visus.errors import UsageError

    if given is not None:
        raise UsageError("--object-size and --boxes both say how large the objects are. Leave one out.")
    shape = shape_of(input_shape)
    if len(shape) != 3:
        raise UsageError(
            f"--boxes belong to images, and --input {input_shape} is none. Leave them out, or give --object-size."
        )
    found = read_boxes(boxes)
    size = (shape[1], shape[2])
    return found.object_px(size), found.sentence(size)


def diff(
    left: Network,
    right: Annotated[str, typer.Argument(help="Another network.")],
    input_shape: Input = "3,224,224",
    classes: Classes = 1000,
    detail: Detail = "layers",
    batch_size: BatchSize = 64,
    as_json: Json = False,
) -> None:
    """Compare two networks row by row, and their totals."""
    from visus.cli.show_design import show_difference
    from visus.workbench.differences import diff as compare_rows

    rows: Any = detail  # diff refuses other words
    with contextlib.redirect_stdout(sys.stderr), showing_work("counting shapes, parameters and receptive fields"):
        # stdout is for the result; what a person's own modules print is none
        found = compare_rows(left, right, noted_shape(input_shape), classes, detail=rows, batch_size=batch_size)
    if as_json:
        print_json(found.to_json())
    else:
        show_difference(found)


def solve(
    network: Annotated[
        str | None, typer.Argument(help="With --field: design to start from; default: a plain stack.")
    ] = None,
    size_in: Annotated[int | None, typer.Option("--in", help="Length of the axis, W.")] = None,
    kernel: Annotated[int | None, typer.Option(help="Kernel size, K.")] = None,
    padding: Annotated[int | None, typer.Option(help="Padding on each side, P.")] = None,
    stride: Annotated[int | None, typer.Option(help="Stride, S.")] = None,
    size_out: Annotated[int | None, typer.Option("--out", help="Length of the output, O.")] = None,
    dilation: Annotated[int | None, typer.Option(min=1, help="Distance between neighboring pixels of the kernel.")] = None,
    field: Annotated[int | None, typer.Option(min=1, help="Wanted receptive field of the last map, in px.")] = None,
    input_shape: Annotated[str | None, typer.Option("--input", help="With --field: channels and lengths.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With --field: number of classes; default: 1000.")] = None,
    as_json: Json = False,
) -> None:
    """Solve O = (W - K + 2P)/S + 1 for a missing letter.

    With all five letters it checks them; with --field it finds ways to a receptive field.
    """
    from visus.cli.show import show
    from visus.geometry import LETTERS, Solution

    letters = {"--in": size_in, "--kernel": kernel, "--padding": padding, "--stride": stride, "--out": size_out}
    of_field: dict[str, Any] = {"--input": input_shape, "--classes": classes}
    if field is not None:
        refuse_with("--field", letters | {"--dilation": dilation})
        shape = noted_shape(input_shape) if input_shape is not None else None
        from visus.workbench.solving import solve as solve_any

        found: Any = solve_any(network, field=field, input_shape=shape, num_classes=classes)
    else:
        refuse_with("the letters of a window", of_field | {"NETWORK": network})
        found = _solved(dict(zip(LETTERS, letters.values(), strict=True)), dilation or 1, list(letters))
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
    if not (found.is_right if isinstance(found, Solution) else found):
        raise typer.Exit(1)


def _solved(numbers: dict[str, int | None], dilation: int, options: list[str]) -> Any:
    """The solution; a stride and a padding that are left out together with another number are 1 and 0, as in PyTorch.

    Raises:
        GeometryError: numbers are missing or out of range; the message names the options.
    """
    from visus.cli.show import warn
    from visus.errors import GeometryError
    from visus.geometry import LETTERS
    from visus.workbench.solving import solve as solve_any

    filled, assumed = dict(numbers), []
    for name, value in {"stride": 1, "padding": 0}.items():
        if filled[name] is None and list(filled.values()).count(None) > 1 and filled["kernel_size"] is not None:
            filled[name] = value
            assumed.append(f"--{name} is {value}")
    if list(filled.values()).count(None) > 1:
        filled, assumed = numbers, []
    try:
        found: Any = solve_any(**filled, dilation=dilation)
    except GeometryError as error:
        for (name, letter), option in zip(LETTERS.items(), options, strict=True):
            error.message = error.message.replace(f"{name} ({letter})", option)
        raise
    if assumed:
        warn([f"{' and '.join(assumed)}, the default{'' if len(assumed) == 1 else 's'} of PyTorch."], "note: ")
    return found


def _summarize(
    network: str,
    inputs: str | list[str],
    classes: int,
    detail: str,
    object_px: int | None,
    batch_size: int | None = None,
) -> Summary:
    from visus.workbench.summaries import summarize

    words: Any = detail  # summarize refuses other words
    shapes: Any = [noted_shape(text) for text in ([inputs] if isinstance(inputs, str) else inputs)]
    return summarize(
        network, shapes[0] if len(shapes) == 1 else shapes, classes, detail=words, object_px=object_px, batch_size=batch_size
    )
