"""``visus train``: reads the options, trains, shows the events and prints the run folder."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import typer

from visus.cli.clock import CLOCK
from visus.cli.settings import option_of
from visus.cli.stopping import print_when_stopped
from visus.cli.streams import print_json
from visus.cli.words import image_size
from visus.data.images.fit import ResizeMode
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Normalize
from visus.data.reading import DEFAULT_READING, Reading, one_column
from visus.data.store import MAX_UNREADABLE
from visus.data.survey import InputChooser
from visus.errors import RecipeError, UsageError
from visus.networks.machine import choose
from visus.training.distribution import ALONE, Group, join_group, report_first_error
from visus.training.recipe import Recipe
from visus.workbench.callable_names import refuse_nearly_callable
from visus.workbench.folds.cross_validation import cross_validate
from visus.workbench.folds.result import CrossValidation
from visus.workbench.resuming import resume
from visus.workbench.running_command import running
from visus.workbench.runs.fold_folders import is_folds_folder
from visus.workbench.runs.run import Run
from visus.workbench.screen import Screen
from visus.workbench.train.earlier_runs import EarlierRun
from visus.workbench.train.starts import choice_of, noted
from visus.workbench.train.stop_on_signal import StopOnSignal
from visus.workbench.train.training import train


@dataclass(frozen=True)
class DataOptions:
    """The options of the data; the arguments of ``open_data``."""

    path: Path | None
    img_size: tuple[int, ...] | int | None
    channels: int | None
    resize_mode: str | None
    normalize: str | None
    labels: str | None
    split: Path | None
    split_seed: int | None
    val: float | None
    test: float | None
    max_unreadable: float | None
    cache_dir: Path | None
    num_workers: int
    reading: Reading = DEFAULT_READING

    @classmethod
    def of(cls, path: Path | None, opening: Mapping[str, Any]) -> DataOptions:
        """The options as ``with_data_options`` passes them on.

        Raises:
            UsageError: the image size cannot be parsed, or an option for reading the data is out of range.
        """
        values = dict(opening) | {"label_column": one_column(opening["label_column"])}
        reading = Reading(**{each.name: values.pop(each.name) for each in fields(Reading)})
        size, workers = image_size(values.pop("img_size")), values.pop("workers")
        return cls(path, size, num_workers=workers, reading=reading, **values)

    def own_of_resumed(self) -> dict[str, object]:
        """The values of the options that a resumed training has itself, by option; None for those that are not given."""
        words: dict[str, object] = {
            "--img-size": self.img_size,
            "--channels": self.channels,
            "--labels": self.labels,
            "--split-file": self.split,
            "--split-seed": self.split_seed,
            "--val": self.val,
            "--test": self.test,
            "--resize-mode": self.resize_mode,
            "--normalize": self.normalize,
            "--max-unreadable": self.max_unreadable,
        }
        return words | {word: True for word in self.reading.options() if word.startswith("--")}

    @property
    def has_split(self) -> bool:
        """Whether an option asks for a split."""
        return any(each is not None for each in (self.split, self.split_seed, self.val, self.test))

    def input_of(self, earlier: EarlierRun) -> InputChooser | None:
        """The input of an earlier run, as far as no option asks for another."""
        if self.channels not in (None, earlier.preprocessing.channels) or self.normalize is not None:
            return None
        return partial(earlier.input_spec, resize_mode=self.resize_mode)  # type: ignore[arg-type]

    def open(self, screen: Screen, choose_input: InputChooser | None = None) -> Data:
        """Open the data and show the progress of decoding; ``choose_input`` as for ``open_data``."""
        resize_mode: ResizeMode = self.resize_mode or "squash"  # type: ignore[assignment]  # open_data refuses other words
        normalize: Normalize = self.normalize or "mean-deviation"  # type: ignore[assignment]
        return open_data(
            self.path,
            img_size=self.img_size,
            channels=self.channels,
            resize_mode=resize_mode,
            normalize=normalize,
            labels=self.labels,
            split=self.split,
            split_seed=self.split_seed,
            val=self.val,
            test=self.test,
            max_unreadable=MAX_UNREADABLE if self.max_unreadable is None else self.max_unreadable,
            cache_dir=self.cache_dir,
            num_workers=self.num_workers,
            choose_input=choose_input,
            on_event=screen.show,
            **self.reading.to_json(),
        )


@dataclass(frozen=True)
class StartOptions:
    """The options of the weights that a training starts from; the arguments of ``train``."""

    pretrained: bool | None = None
    weights: Path | None = None


def train_and_print(
    options: DataOptions,
    model: str | None,
    start: StartOptions,
    given: dict[str, Any],
    config: Path | None,
    resumed: Path | None,
    output: Path | None,
    name: str | None,
    track: list[str],
    folds: int | None,
    *,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Train or resume, one run or those of all folds; print the folder, or with ``as_json`` its scores.

    Raises:
        UsageError: the options contradict each other.
        typer.Exit: with code 130 after Ctrl-C, and 143 after SIGTERM.
    """
    if name is not None and not name.strip():
        raise UsageError("--name is empty. Give a word, or leave it out for the name of the data.")
    stop = StopOnSignal(resumed)
    # Stdout is for the run folder alone: what a person's own module prints goes to stderr.
    group = join_group()
    on_stop = print_when_stopped(stop.sentence if group.is_first else str, lambda: stop.exit_code)
    is_crossed = folds is not None or (resumed is not None and is_folds_folder(resumed))
    screen = Screen(quiet or not group.is_first, verbose=verbose, has_next=not is_crossed)
    run: Run | CrossValidation
    command = running(shlex.join([*_launched(group), "visus", *sys.argv[1:]]), CLOCK.began)
    with on_stop, report_first_error(group), contextlib.redirect_stdout(sys.stderr), screen, stop, command:

        def follow(event: object) -> None:
            stop.follow(event)
            screen.show(event)

        choose(str(given.get("device", "auto")))  # refused before the data is read
        if model is not None:
            refuse_nearly_callable(model.strip())
        if resumed is not None:
            _refuse_with_resume(options, model, start, config, name, output, folds)
            run = resume(
                resumed,
                options.path,
                changes=given,
                cache_dir=options.cache_dir,
                num_workers=options.num_workers,
                track=track,
                on_event=follow,
                should_stop=stop,
            )
        else:
            recipe = _recipe(config, given, screen)
            choose(recipe.device, recipe.precision)
            data = open_for_training(options, model, start, screen, group, folds=folds)
            train_it = train if folds is None else partial(cross_validate, folds=folds)
            run = train_it(
                data,
                model,
                recipe,
                pretrained=start.pretrained,
                weights=start.weights,
                output=output or Path("runs"),
                name=name,
                track=track,
                on_event=follow,
                should_stop=stop,
            )
    if not group.is_first:
        return
    if stop.is_asked:
        if quiet:  # else the screen has said it
            sys.stderr.write(f"{stop.stopped_sentence()}\n")
        raise typer.Exit(stop.exit_code)
    if as_json:
        scores = run if isinstance(run, CrossValidation) else run.scores
        print_json({"run": str(run.folder)} | scores.to_json())
    else:
        print(run.folder)


def open_for_training(
    options: DataOptions,
    model: str | None,
    start: StartOptions,
    screen: Screen,
    group: Group = ALONE,
    *,
    folds: int | None = None,
) -> Data:
    """The data of a new training, or of folds, read as its initial weights need it."""
    choice = choice_of(
        start.pretrained, network=model, file=start.weights, channels=options.channels, normalize=options.normalize
    )
    earlier = EarlierRun.of(start.weights)
    with group.local_first():
        data = noted(options.open(screen, choice if earlier is None else options.input_of(earlier)), choice)
    if earlier is not None and not options.has_split and folds is None:
        data = earlier.in_its_split(data)
    return data


def _launched(group: Group) -> list[str]:
    """What was typed before the name of the command, where there are several processes."""
    return [] if group.is_alone else ["torchrun", "--nproc-per-node", str(group.local_size), "-m"]


def _recipe(config: Path | None, given: dict[str, Any], screen: Screen) -> Recipe:
    """The recipe of a file and of the options, which win; a message about a setting names the option."""
    recipe = Recipe.read(config) if config else Recipe()
    try:
        recipe, opened = recipe.override(**given)
        if opened:
            screen.say(
                "note",
                f"these settings are decided again, because the options change the settings they depend on in {config}: {', '.join(opened)}",
            )
        return recipe
    except RecipeError as error:
        for setting in given:
            error.message = error.message.replace(f"{setting} must", f"{option_of(setting)} must")
        raise


def _refuse_with_resume(
    options: DataOptions,
    model: str | None,
    start: StartOptions,
    config: Path | None,
    name: str | None,
    output: Path | None,
    folds: int | None,
) -> None:
    """Refuse options that would be ignored, since the run has its own."""
    words = {
        "--model": model,
        "--pretrained": start.pretrained,
        "--weights": start.weights,
        "--recipe": config,
        "--name": name,
        "--folds": folds,
        "--output": output,
        **options.own_of_resumed(),
    }
    given = [word for word, value in words.items() if value is not None]
    if given:
        raise UsageError(
            f"{', '.join(given)} cannot be given with --resume: the run has its own. Leave it out, or start a new run."
        )
