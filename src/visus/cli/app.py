"""The commands and their options."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visus.cli import benchmark, cache, comparison, design, experiment, look, predict, serving, settings, shipping, tuning
from visus.cli.completion import DEVICES, RESIZE_MODES, SPLITS, TASKS, run_folders, words
from visus.cli.data_options import expert, with_data_options
from visus.cli.options import ArrayLayout, ClassDepth, Json, LabelColumn, MaxUnreadable, PathColumn, Quiet, Raw, SkipMissing
from visus.cli.stopping import Commands
from visus.cli.streams import print_json
from visus.cli.words import image_size
from visus.errors import UsageError
from visus.training.recipe import Recipe
from visus.workbench.live_line import showing_work, speaks

if TYPE_CHECKING:
    from visus.workbench.runs.run import Run

app = typer.Typer(
    name="visus",
    cls=Commands,
    help="Convolutional networks: design, train, look inside and ship them, with nothing changed in silence.",
    epilog="Start with: visus train (on the images that come with visus), or visus train FOLDER (a folder for each class).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    rich_markup_mode=None,
)

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also print details.")]
SplitSeed = Annotated[
    int | None,
    typer.Option(
        min=0, help="Seed of the split into training, validation and test set, where the data has none; default: 0."
    ),
]
ValFraction = Annotated[
    float | None,
    typer.Option(
        help="Fraction of the training samples for the validation set, where the data has none; 0 for none; default: 0.1."
    ),
]
TestFraction = Annotated[
    float | None,
    typer.Option(help="Fraction of all samples for the test set, where the data has no split; 0 for none; default: 0.2."),
]
Device = Annotated[
    str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.", autocompletion=words(*DEVICES))
]
Task = Annotated[
    str | None,
    typer.Option(
        help="What a label is: single-label (one class), multi-label (a set of classes) or regression (numbers).",
        autocompletion=words(*TASKS),
    ),
]
CacheDir = Annotated[Path | None, typer.Option(help="Folder for decoded data; default: the user's cache folder.")]


@app.callback(invoke_without_command=True)
def visus(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Convolutional networks: design, train, look inside and ship them, with nothing changed in silence."""
    speaks.set(False)  # a command shows its own progress
    if version:
        from visus import __version__

        print(__version__)
        raise typer.Exit


@app.command(
    cls=settings.GroupedCommand,
    epilog="All options: visus train --help-all. Each setting of the training also by --set NAME=VALUE, or in a recipe.yaml.",
)
@settings.with_settings
@with_data_options
def train(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file; default: the images that come with visus.")
    ] = None,
    *,
    folds: Annotated[
        int | None,
        expert(
            "Data",
            min=2,
            help="Cross-validate: train a network for each of so many folds, and predict each sample by one that did not learn from it.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Network: a family, a design or its file, timm:NAME, torchvision:NAME, hf:FOLDER, or package.module:callable.",
            rich_help_panel="Model",
        ),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            help="Start from ImageNet weights, or from those of timm, torchvision or the hub; default: ImageNet weights for photos of at least 128 px, if they are installed (extra pretrained).",
            rich_help_panel="Model",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            help="Start from these weights: the folder of a run, a safetensors file, or a PyTorch state dict. A run brings its network, image size and split.",
            rich_help_panel="Model",
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            "--recipe", "-c", help="Read the settings from a recipe.yaml; options override it.", rich_help_panel="Training"
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Set any setting of the training; may be repeated.",
            rich_help_panel="Training",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Resume the training of this run folder; DATA is the new place of its data.", autocompletion=run_folders
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of the runs; default: runs.")] = None,
    name: Annotated[str | None, expert("Output", help="Name of the run; default: the name of the data.")] = None,
    track: Annotated[
        list[str] | None,
        expert(
            "Output",
            metavar="TRACKER",
            help="Track the run with tensorboard, mlflow or wandb; may be repeated. Each writes to the run folder, unless it has a server.",
            autocompletion=words("mlflow", "tensorboard", "wandb"),
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    help_all: Annotated[
        bool,
        typer.Option("--help-all", is_eager=True, callback=settings.show_all_help, help="Show every option and exit."),
    ] = False,
    given: dict[str, Any],
    opening: dict[str, Any],
) -> None:
    """Train a network, or one for each fold; print the run folder."""
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other. Leave one of them out.")
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.cli.training import DataOptions, StartOptions, train_and_print
    train_and_print(
        DataOptions.of(data, opening),
        model,
        StartOptions(pretrained, weights),
        given,
        recipe,
        resume,
        output,
        name,
        track or [],
        folds,
        as_json=as_json,
        quiet=quiet,
        verbose=verbose,
    )


@app.command(cls=settings.GroupedCommand)
def evaluate(
    run: Annotated[Path, typer.Argument(help="Run folder.", autocompletion=run_folders)],
    data: Annotated[
        Path | None,
        typer.Argument(help="Other data, or the new place of the run's own data; default: the run's own held-out split."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to score: train, val or test; default: the held-out one.", autocompletion=words(*SPLITS)),
    ] = None,
    confusion_png: Annotated[Path | None, typer.Option(help="Write the confusion matrix to this PNG file.")] = None,
    shifts: Annotated[
        bool, typer.Option("--shifts", help="Also measure how the answers change when the samples move.")
    ] = False,
    mistakes: Annotated[
        bool,
        typer.Option(
            "--mistakes",
            help="Also list mistakes: most confident wrong answers, confusions, labels that may be wrong.",
        ),
    ] = False,
    limit: Annotated[int | None, typer.Option(help="With --mistakes: number of samples of each kind; default: 8.")] = None,
    raw: Raw = False,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    max_unreadable: MaxUnreadable = 0.05,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Score a run: accuracy, classes, confusion matrix."""
    num_shown = _num_shown(limit, mistakes=mistakes)
    with contextlib.redirect_stdout(sys.stderr), showing_work("loading PyTorch") as on_event:
        # stdout is for the result; what a person's own module prints is none
        from visus.cli.show import show, warn
        from visus.data.reading import Reading, one_column
        from visus.data.store import MAX_UNREADABLE
        from visus.evaluation.scores import Scores
        from visus.workbench.data_check import data_notes
        from visus.workbench.runs.run import load
        from visus.workbench.runs.scoring import calibration_sentence, needs_confusion

        loaded = load(run, device=device)
        opened = loaded.open_data(
            data,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
            path_column=path_column,
            label_column=one_column(label_column),
            skip_missing=skip_missing,
            class_depth=class_depth,
            layout=layout,
            on_event=on_event,
        )
        if confusion_png:
            needs_confusion(loaded)
        scores = loaded.evaluate(opened, split=split, raw=raw, on_event=on_event)
        moved = loaded.shifts(opened, split=split, on_event=on_event) if shifts else None
        wrong = None
        if mistakes:
            wrong = loaded.mistakes(opened, split=split, limit=num_shown, raw=raw, cache_dir=cache_dir, on_event=on_event)
    if data is not None:
        warn([str(note) for note in data_notes(opened)], "")
        warn(opened.warnings)
    if confusion_png:
        from visus.pages.parts.confusion import draw_confusion

        assert isinstance(scores, Scores), "other runs were refused"
        draw_confusion(scores, confusion_png)
    if as_json:
        found = ({"shifts": moved.to_json()} if moved else {}) | ({"mistakes": wrong.to_json()} if wrong else {})
        print_json(scores.to_json() | _calibration_facts(loaded, raw=raw) | found)
    else:
        show((*scores.text(), f"note: {calibration_sentence(loaded, raw=raw)}"))
        show((*(moved.text() if moved else ()), *(wrong.text() if wrong else ())))
        if wrong is None and not (isinstance(scores, Scores) and scores.num_right == scores.num_samples):
            reading = Reading(path_column, one_column(label_column), skip_missing, class_depth, layout)
            words = [str(run), *([str(data)] if data is not None else []), *(["--split", split] if split else [])]
            words += [
                *reading.options(),
                *(["--max-unreadable", f"{max_unreadable:g}"] if max_unreadable != MAX_UNREADABLE else []),
            ]
            words += [*(["--cache-dir", str(cache_dir)] if cache_dir else []), *(["--raw"] if raw else [])]
            show((f"next: visus evaluate {shlex.join(words)} --mistakes",))


def _calibration_facts(run: Run, *, raw: bool) -> dict[str, Any]:
    """What turns outputs into answers, as plain data."""
    from visus.workbench.runs.saved import run_evaluation

    if run.task.name == "single-label":
        return dataclasses.asdict(run.calibrator(raw=raw))
    return {"calibration": run_evaluation(run, raw=raw).fit.to_json()}


def _num_shown(limit: int | None, *, mistakes: bool) -> int:
    """How many samples of each kind are asked for.

    Raises:
        UsageError: a number where no mistakes are asked for, or one below 1.
    """
    if limit is not None and not mistakes:
        raise UsageError("--limit needs --mistakes. Add it, or leave --limit out.")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}.")
    return 8 if limit is None else limit


@app.command(cls=settings.GroupedCommand)
def report(
    run: Annotated[Path, typer.Argument(help="Run folder.", autocompletion=run_folders)],
    data: Annotated[Path | None, typer.Argument(help="New place of the run's own data; default: where it was.")] = None,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Write the report of a run anew; print its path."""
    with contextlib.redirect_stdout(sys.stderr), showing_work("loading PyTorch") as on_event:
        from visus.workbench.runs.run import load

        loaded = load(run, device=device)
        written = loaded.report(data, cache_dir=cache_dir, on_event=on_event)
    if as_json:
        print_json(written.to_json())
    else:
        print(written.path)


app.command(cls=settings.GroupedCommand)(predict.predict)


@app.command(cls=settings.GroupedCommand)
def check(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file; default: the images that come with visus.")
    ] = None,
    img_size: Annotated[str | None, typer.Option(help="Size of the images: side in pixels, or HEIGHTxWIDTH.")] = None,
    channels: Annotated[
        int | None, typer.Option(help="Number of channels: 1 for gray, 3 for color; default: color where any image has it.")
    ] = None,
    resize_mode: Annotated[
        str, typer.Option(help="How an image is resized: squash, crop or pad.", autocompletion=words(*RESIZE_MODES))
    ] = "squash",
    pretrained: Annotated[
        bool | None, typer.Option(help="Read the data for ImageNet weights, or do not; default: as visus train does.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="Other labels: a column of the table, a CSV file with a row path,label for each sample, or folders."
        ),
    ] = None,
    task: Task = None,
    path_column: PathColumn = None,
    label_column: LabelColumn = None,
    skip_missing: SkipMissing = False,
    class_depth: ClassDepth = None,
    layout: ArrayLayout = None,
    split: Annotated[
        Path | None, typer.Option("--split-file", help="Split as the split.csv of an earlier run does.")
    ] = None,
    split_seed: SplitSeed = None,
    val: ValFraction = None,
    test: TestFraction = None,
    workers: Annotated[
        int, typer.Option("--workers", "-j", min=0, help="Number of decoding threads; 0: one for each core.")
    ] = 0,
    max_unreadable: MaxUnreadable = 0.05,
    augment: Annotated[
        bool, typer.Option("--augment", help="Also write a contact sheet of samples and their augmented versions.")
    ] = False,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set a setting of the training for --augment; may be repeated."),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", "-c", help="Read the settings for --augment from a recipe.yaml.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="PNG file of the contact sheet; default: augmentation.png."),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Check a dataset before training: classes, splits, problems."""
    if not augment and (assignments or recipe or output):
        raise UsageError("--recipe, --set and --output belong to the contact sheet. Add --augment, or leave them out.")
    own = settings.read_assignments(assignments or ())
    given, _ = (Recipe.read(recipe) if recipe else Recipe()).override(**own)
    with showing_work("loading PyTorch") as on_event:
        from visus.cli.show import show
        from visus.data.reading import one_column
        from visus.workbench.data_check import check as check_data

        found = check_data(
            data,
            pretrained=pretrained,
            img_size=image_size(img_size),
            channels=channels,
            resize_mode=resize_mode,
            labels=labels,
            split=split,
            split_seed=split_seed,
            task=task,
            val=val,
            test=test,
            layout=layout,
            max_unreadable=max_unreadable,
            cache_dir=cache_dir,
            num_workers=workers,
            path_column=path_column,
            label_column=one_column(label_column),
            skip_missing=skip_missing,
            class_depth=class_depth,
            augment=given if augment else False,
            output=output,
            on_event=on_event,
        )
    if recipe is not None:
        found = dataclasses.replace(found, settings=own, recipe_file=str(recipe))
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())


app.command(cls=settings.GroupedCommand, epilog="All options: visus tune --help-all.")(tuning.tune)

for command in (
    design.summary,
    design.diff,
    design.solve,
    comparison.compare,
    look.look,
    cache.cache,
    benchmark.benchmark,
    shipping.export,
    shipping.verify,
    serving.serve,
):
    app.command(cls=settings.GroupedCommand)(command)


@app.command(cls=settings.GroupedCommand)
def doctor(as_json: Json = False) -> None:
    """Show versions, devices, and what is fast on this machine."""
    with showing_work("examining this machine"):
        from visus.cli.show import show
        from visus.workbench.doctor import doctor as examine_machine

        found = examine_machine()
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())


app.add_typer(experiment.app, name="experiment")
