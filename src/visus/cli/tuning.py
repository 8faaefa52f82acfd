"""``visus tune``: searches the settings of a training, and prints what it found."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from visus.cli.clock import CLOCK
from visus.cli.completion import run_folders
from visus.cli.data_options import with_data_options
from visus.cli.options import Json, Quiet
from visus.cli.settings import read_assignments, show_all_help
from visus.cli.stopping import print_when_stopped
from visus.cli.streams import print_json
from visus.errors import UsageError, refuse_with
from visus.workbench.live_line import showing_work
from visus.workbench.running_command import running


@with_data_options
def tune(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file; default: the images that come with visus.")
    ] = None,
    *,
    time_limit: Annotated[
        str | None, typer.Option(help="Limit of the whole search with the run at its end, as 90s, 10m or 1h30m.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Number of trials; default: as many as the time limit has room for.")
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="Read what is searched from a YAML file, with lines such as learning_rate: 0.01..0.3."),
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="Search this setting: name=low..high, or name=a,b,c; may be repeated; default: rates, weight decay, batch size, augmentation.",
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", "-c", help="Read settings of every trial from a recipe.yaml.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Set any setting of every trial; may be repeated."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Network, as for visus train.", rich_help_panel="Model"),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(help="Start from pretrained weights, or do not, as for visus train.", rich_help_panel="Model"),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Start from these weights, as for visus train.", rich_help_panel="Model")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the search; the trainings have that of the recipe.")] = 0,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with the search in this folder; DATA is the new place of its data.", autocompletion=run_folders
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder of search and run; default: runs.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the search; default: the name of the data and -tune.")] = None,
    quiet: Quiet = False,
    as_json: Json = False,
    help_all: Annotated[
        bool,
        typer.Option("--help-all", is_eager=True, callback=show_all_help, help="Show every option and exit."),
    ] = False,
    opening: dict[str, Any],
) -> None:
    """Search the settings of a training, and train the best."""
    with showing_work("loading PyTorch", quiet=quiet):
        from visus.cli.show import show
        from visus.cli.training import DataOptions, StartOptions, open_for_training
        from visus.training.recipe import Recipe
        from visus.workbench.screen import Screen
        from visus.workbench.tune.events import SearchStarted
        from visus.workbench.tune.space import read_searches
        from visus.workbench.tune.tuning import check_limits, stopped_sentence
        from visus.workbench.tune.tuning import tune as search_settings

    if space is not None and search:
        raise UsageError("--space and --search state the space twice. Leave one of them out.")
    options = DataOptions.of(data, opening)
    if resume is not None:
        workers = options.num_workers or None
        refuse_with("--resume", {"--recipe": recipe, "--set": assignments, **options.own_of_resumed(), "--workers": workers})
    given = Recipe.read(recipe) if recipe else Recipe()
    given, _ = given.override(**read_assignments(assignments or ()))
    check_limits(given, trials, time_limit)  # before the data is read
    folders: list[Path] = []
    on_stop = print_when_stopped(lambda: stopped_sentence(*folders))
    command = running(shlex.join(["visus", *sys.argv[1:]]), CLOCK.began)
    with contextlib.redirect_stdout(sys.stderr), on_stop, Screen(quiet, has_next=False) as screen, command:

        def follow(event: object) -> None:
            folders.extend([event.folder] if isinstance(event, SearchStarted) else [])
            screen.show(event)

        opened = data if resume is not None else open_for_training(options, model, StartOptions(pretrained, weights), screen)
        found = search_settings(
            opened,
            model,
            given,
            space=space if space is not None else read_searches(search or ()),
            time_limit=time_limit,
            trials=trials,
            pretrained=pretrained,
            weights=weights,
            seed=seed,
            output=output or Path("runs"),
            name=name,
            resume=resume,
            cache_dir=options.cache_dir if resume is not None else None,
            on_event=follow,
        )
    if as_json:
        print_json(found.to_json())
    else:
        show(found.text())
