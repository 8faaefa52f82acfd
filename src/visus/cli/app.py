"""The commands and their options.

This file knows words, ranges and which function of the workbench does the work. It must not know how the work is done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from visus.cli import benchmark, cache, comparison, design, look
from visus.cli.stopping import Commands
from visus.cli.streams import print_json, read_names
from visus.cli.words import whole_numbers
from visus.errors import UsageError

app = typer.Typer(
    name="visus",
    cls=Commands,
    help="Convolutional networks: design, train, look inside and ship them, with nothing changed in silence.",
    epilog="Start with: visus train (on the pictures that come with visus), or visus train FOLDER (a folder for each class).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Raw = Annotated[bool, typer.Option("--raw", help="The network's own probabilities, not calibrated.")]
SplitSeed = Annotated[
    int | None, typer.Option(min=0, help="Which items train, validate and test, where the data does not say; 0 by default.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PathColumn = Annotated[str | None, typer.Option(help="Column of a table that names the image files; path by default.")]
LabelColumn = Annotated[str | None, typer.Option(help="Column of a table that names the classes; label by default.")]
SkipMissing = Annotated[bool, typer.Option("--skip-missing", help="Leave out rows of a table whose file does not exist.")]
ClassDepth = Annotated[
    int | None,
    typer.Option(
        min=1, help="Level of folders that names the classes: 1 for the first below DATA, or below its split folders."
    ),
]
ArrayLayout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        help="Axes of the arrays in an NPZ or NPY file, such as NLC (items, length, channels), NCL, NHWC or NCDHW.",
    ),
]
CacheDir = Annotated[Path | None, typer.Option(help="Folder for decoded data, instead of the user's cache folder.")]


@app.callback(invoke_without_command=True)
def visus(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Convolutional networks: design, train, look inside and ship them, with nothing changed in silence."""
    from visus.workbench.speaking import speaks

    speaks.set(False)  # a command shows its own progress
    if version:
        from visus import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def train(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file; none for the pictures that come with visus.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A family, a design or its file, or package.module:callable.")
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            help="Begin with ImageNet weights (of the extra visus[pretrained]), or do not; left out: for few photos, where they are here."
        ),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with the weights in this file: safetensors, or a state dict of PyTorch.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Times that the training data is gone through.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Items in one step.")] = None,
    img_size: Annotated[str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for colour.")] = None,
    rule: Annotated[str | None, typer.Option(help="How a picture gets its size: squash (the default), crop or pad.")] = None,
    scale: Annotated[
        str | None, typer.Option(help="How values are scaled: mean-deviation (the default) or min-max.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Other labels: a column of the table, or a CSV file with a row path,label for each item; folders for the names of folders."
        ),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    split: Annotated[Path | None, typer.Option(help="A split.csv of an earlier run, to split in the same way.")] = None,
    split_seed: SplitSeed = None,
    max_unreadable: Annotated[
        float | None, typer.Option(help="Share of the files that may be left out as unreadable; 0.05 by default.")
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="muon, adamw or sgd.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; with muon that of filters.")] = None,
    head_rate: Annotated[
        float | None,
        typer.Option(help="With muon: highest rate of the last layer's weights, times the number of its inputs."),
    ] = None,
    bias_rate: Annotated[float | None, typer.Option(help="With muon: highest rate of biases.")] = None,
    gain_rate: Annotated[float | None, typer.Option(help="With muon: highest rate of the gains of norms.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Momentum of muon and sgd, first beta of adamw.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Decay of weights, never of biases and norms.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Fall of the learning rate: linear or cosine.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the training in which the rate rises.")] = None,
    floor: Annotated[float | None, typer.Option(help="Share of the highest learning rate that is left at the end.")] = None,
    label_smoothing: Annotated[float | None, typer.Option(help="Probability spread over all classes in the target.")] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the whole gradient.")] = None,
    averaging: Annotated[float | None, typer.Option(help="Decay of the averaged weights; 0 for none.")] = None,
    class_weights: Annotated[str | None, typer.Option(help="Weights of the classes in the loss: none or balanced.")] = None,
    sampling: Annotated[
        str | None, typer.Option(help="Order of the samples: shuffled, or balanced (each class equally often).")
    ] = None,
    flip: Annotated[
        str | None,
        typer.Option(help="Mirror items left to right: none, random (half of them) or alternating (every second epoch)."),
    ] = None,
    shift: Annotated[float | None, typer.Option(help="Largest shift, as a fraction of each axis.")] = None,
    zoom: Annotated[float | None, typer.Option(help="Largest enlargement, as a fraction cut away.")] = None,
    cutout: Annotated[float | None, typer.Option(help="Side of the blanked box, as a fraction of each axis.")] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(
            help="Sides in equal shares of the training, as parts of the whole side: 0.75,0.875,1; 1 for the whole side."
        ),
    ] = None,
    tta: Annotated[
        str | None,
        typer.Option(
            help="Views averaged when the network is used: none, flip, shift or flip+shift; unsure:flip+shift for items that one view leaves unsure."
        ),
    ] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after so many epochs without a better validation accuracy.")
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="Be done after this time, such as 90s, 5m or 1h30m: the whole command, scoring and report included. "
            "Without --model, the network is chosen to fit. With --resume: so much more time."
        ),
    ] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bfloat16 or float32.")] = None,
    convolutions: Annotated[
        str | None,
        typer.Option(
            help="Who computes the steps' convolutions: auto (the fastest for each shape) or pytorch (its own alone)."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-j", min=0, help="Decoding threads; 0 for one for each core.")] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Everything random in the training follows from it; never the split.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A recipe.yaml; options given here win.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training of this run folder; with DATA where its data was moved to.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the runs; runs by default.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network; print the run folder."""
    from visus.cli.training import Begun, DataOptions, train_and_tell
    from visus.data.reading import Reading
    from visus.units import read_duration

    settings: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "learning_rate": lr,
        "head_rate": head_rate,
        "bias_rate": bias_rate,
        "gain_rate": gain_rate,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "schedule": schedule,
        "warmup": warmup,
        "floor": floor,
        "label_smoothing": label_smoothing,
        "clip_norm": clip_norm,
        "averaging": averaging,
        "class_weights": class_weights,
        "sampling": sampling,
        "flip": flip,
        "shift": shift,
        "zoom": zoom,
        "cutout": cutout,
        "curriculum": curriculum,
        "tta": tta,
        "patience": patience,
        "time_limit_s": read_duration(time_limit) if time_limit else None,
        "precision": precision,
        "convolutions": convolutions,
        "device": device,
        "seed": seed,
    }
    given = {key: value for key, value in settings.items() if value is not None}
    reading = Reading(path_column, label_column, skip_missing, class_depth, layout)
    options = DataOptions(
        data, _size(img_size), channels, rule, scale, labels, split, split_seed, max_unreadable, cache_dir, workers, reading
    )
    begun = Begun(pretrained, weights)
    train_and_tell(options, model, begun, given, config, resume, output, name, as_json=as_json, quiet=quiet)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    data: Annotated[
        Path | None,
        typer.Argument(
            help="Other data, or the new place of the run's own, which is split as it was; none for the run's own held-out split."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="train, val or test; none for the held-out one.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the confusion matrix into this PNG file.")] = None,
    shifts: Annotated[
        bool, typer.Option("--shifts", help="Measure too how the answers change when the items move.")
    ] = False,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="With --shifts: train the design with global and blurred pooling beside it, and show both."
        ),
    ] = False,
    mistakes: Annotated[
        bool,
        typer.Option(
            "--mistakes",
            help="List too what it gets wrong, by name: the surest wrong ones, confusions, labels that may be wrong.",
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the run's report.html anew, from its folder and its data.")
    ] = False,
    most: Annotated[int | None, typer.Option(help="With --mistakes: items of each kind; 8 by default.")] = None,
    raw: Raw = False,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    max_unreadable: Annotated[float, typer.Option(help="Share of the files that may be left out as unreadable.")] = 0.05,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Score a run: accuracy with its interval beside the baseline, every class, confusion, calibration; with --shifts, whether it moves."""
    from visus.cli.show import show_scores, tell_data
    from visus.cli.show_mistakes import num_shown, show_mistakes
    from visus.workbench.own_data import is_own
    from visus.workbench.runs import load

    with contextlib.redirect_stdout(sys.stderr):  # what a person's own module prints is talk
        comparison.check_fix(shifts=shifts, fix=fix, data=data)
        comparison.check_report(report=report, data=None, split=split)
        shown = num_shown(most, mistakes=mistakes)
        loaded = load(run, device=device)
        opened = loaded.open_data(
            data,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
            path_column=path_column,
            label_column=label_column,
            skip_missing=skip_missing,
            class_depth=class_depth,
            layout=layout,
        )
        comparison.check_report(report=report, data=None if is_own(loaded.folder, opened) else data, split=None)
        written = comparison.write_report(loaded, opened) if report else None
        scores = loaded.evaluate(opened, split=split, raw=raw)
        moved = comparison.measure_moves(loaded, opened, split, fix=fix, cache_dir=cache_dir) if shifts else None
        wrong = loaded.mistakes(opened, split=split, most=shown, raw=raw, cache_dir=cache_dir) if mistakes else None
    if data is not None:
        tell_data(opened)
    if picture:
        from visus.examine.pictures import draw_confusion

        draw_confusion(scores, picture)
    if as_json:
        found = (moved.to_json() if moved else {}) | ({"mistakes": wrong.to_json()} if wrong else {})
        found |= {"report": str(written)} if written else {}
        print_json(scores.to_json() | dataclasses.asdict(loaded.calibrator(raw=raw)) | found)
    else:
        show_scores(scores)
        print(f"note: {loaded.calibration_sentence(raw=raw)}")
        if moved:
            moved.show()
        if wrong:
            show_mistakes(wrong)
        if written:
            print(f"report: {written}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    files: Annotated[list[str], typer.Argument(help="Files and folders; - for a list on stdin, one a line.")],
    top: Annotated[int, typer.Option("--top", "-k", help="How many classes to tell for each item.")] = 1,
    raw: Raw = False,
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Label files; print CSV, or a JSON list."""
    from visus.cli.prediction import predict_and_tell

    named = [name for word in files for name in (read_names() if word == "-" else [word]) if name.strip()]
    if not named:
        raise UsageError(
            "no file is named: the list on stdin is empty. Give files or folders, or a list with a name on each line."
        )
    raise typer.Exit(predict_and_tell(run, named, top, device, raw=raw, as_json=as_json, quiet=quiet))


@app.command()
def check(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file; none for the pictures that come with visus.")
    ] = None,
    img_size: Annotated[str | None, typer.Option(help="Side in pixels, or HEIGHTxWIDTH.")] = None,
    channels: Annotated[int | None, typer.Option(help="1 for grey, 3 for colour.")] = None,
    rule: Annotated[str, typer.Option(help="How a picture gets its size: squash, crop or pad.")] = "squash",
    pretrained: Annotated[
        bool | None, typer.Option(help="Read the data for ImageNet weights, or do not; left out: as visus train would.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Other labels: a column of the table, or a CSV file with a row path,label for each item; folders for the names of folders."
        ),
    ] = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    split: Annotated[Path | None, typer.Option(help="A split.csv of an earlier run, to split in the same way.")] = None,
    split_seed: SplitSeed = None,
    workers: Annotated[int, typer.Option("--workers", "-j", min=0, help="Decoding threads; 0 for one for each core.")] = 0,
    max_unreadable: Annotated[float, typer.Option(help="Share of the files that may be left out as unreadable.")] = 0.05,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Say what is in a data set, what would be done to it, and what is wrong with it, before any training."""
    from visus.cli.show import data_facts, show_data
    from visus.data.opened import open_data
    from visus.workbench.starts import choice_of, start_of, suited_data

    choice = choice_of(pretrained, channels=channels)
    opened = open_data(
        data,
        img_size=_size(img_size),
        channels=channels,
        rule=rule,  # type: ignore[arg-type]  # open_data refuses other words
        labels=labels,
        split=split,
        split_seed=split_seed,
        layout=layout,
        max_unreadable=max_unreadable,
        cache_dir=cache_dir,
        num_workers=workers,
        suit=choice,
        path_column=path_column,
        label_column=label_column,
        skip_missing=skip_missing,
        class_depth=class_depth,
    )
    if pretrained:
        opened = suited_data(opened)
    begins = start_of(opened, choice)
    if as_json:
        print_json(data_facts(opened, begins))
    else:
        show_data(opened, begins)


for command in (design.summary, design.diff, design.solve, comparison.compare, look.look, benchmark.benchmark, cache.cache):
    app.command()(command)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Versions, devices, and what is fast on this machine."""
    from visus.cli.show import show_doctor
    from visus.workbench.doctor import examine_machine

    facts = examine_machine()
    if as_json:
        print_json(facts)
    else:
        show_doctor(facts)


def _size(text: str | None) -> tuple[int, ...] | int | None:
    """A picture size such as ``96`` or ``96x128``."""
    if text is None:
        return None
    lengths = whole_numbers(text, "--img-size", "96 or 96x128")
    return lengths[0] if len(lengths) == 1 else lengths
