"""The command ``peer_benchmark.py``: options, and what was found as a table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visus.cli import run
from visus.cli.stopping import print_when_stopped
from visus.cli.streams import print_json
from visus.cli.words import whole_numbers
from visus.errors import UsageError
from visus.units import write_number_of

if TYPE_CHECKING:
    from peers.benchmark import Benchmark, Evaluated, Raced, RunDone


def benchmark(
    data: Annotated[
        Path | None, typer.Argument(help="Folder, table or array file of images; none for those that come with visus.")
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            help="Accuracy to reach on the held-out samples, such as 0.93; 0.88 for the images that come with visus."
        ),
    ] = None,
    peers: Annotated[
        str | None,
        typer.Option(
            "--with",
            help="Who is trained beside visus: PEER[/NETWORK][:EPOCHS],... of pytorch (small, same, classifier), fastai (resnet18, small, same), "
            "keras and torchvision; visus:EPOCHS sets those of visus.",
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="One training of each for each seed; numbers with a comma between them.")
    ] = "0,1,2",
    time_limit: Annotated[str, typer.Option(help="Longest time of one training, such as 90s, 5m or 1h30m.")] = "10m",
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="The network that visus trains, and the peers whose network is `same`."),
    ] = None,
    config: Annotated[Path | None, typer.Option("--recipe", "-c", help="A recipe.yaml for visus.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of each training; all usable cores by default.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder in which that of the result is made.")] = Path(
        "runs"
    ),
    cache_dir: Annotated[
        Path | None, typer.Option(help="Folder for decoded data, instead of the user's cache folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Time to accuracy beside PyTorch, fastai, Keras and torchvision, each as its documentation writes it, interleaved; print a table."""
    from peers.benchmark import SAMPLE_TARGET, Plan
    from peers.benchmark import RunDone as RunFinished
    from peers.benchmark import benchmark as compare
    from peers.entries import read_contestants
    from visus.training.recipe import Recipe
    from visus.units import read_duration

    if target is None and data is not None:
        raise UsageError(
            "--target is needed for data of your own: the accuracy to reach on the held-out samples, such as 0.93."
        )
    plan = Plan(
        target=SAMPLE_TARGET if target is None else target,
        contestants=read_contestants(peers),
        seeds=whole_numbers(seeds, "--seeds", "0,1,2"),
        time_limit_s=read_duration(time_limit),
        threads=threads,
        device=device,
        network=model,
        recipe=Recipe.read(config) if config else Recipe(),
    )
    done: list[RunDone] = []

    def say(event: Evaluated | RunDone) -> None:
        if isinstance(event, RunFinished):
            done.append(event)
        if not quiet:
            _tell(event)

    with print_when_stopped(lambda: _stopped(done, output)):
        command = shlex.join(["visus", *sys.argv[1:]])
        result = compare(data, plan, output=output, cache_dir=cache_dir, tell=say, command=command)
    if as_json:
        print_json(result.to_json())
    else:
        _show(result)


def _stopped(done: list[RunDone], output: Path) -> str:
    """What is said after Ctrl-C."""
    if not done:
        return "stopped before a training was done: nothing is lost. Run the command again."
    return (
        f"stopped; {len(done)} of {write_number_of(done[-1].num_runs, 'training')} were done, and are in the newest folder benchmark-... in "
        f"{output}. A benchmark cannot be gone on with: run the command again."
    )


def _tell(event: Evaluated | RunDone) -> None:
    """One line on stderr for each evaluation and each training."""
    from peers.benchmark import Evaluated
    from visus.units import write_duration, write_share

    if isinstance(event, Evaluated):
        point = event.point
        sys.stderr.write(
            f"{event.contestant.title}, seed {event.seed}: {write_share(point.accuracy)} after epoch {point.epoch}, "
            f"{write_duration(point.seconds)} (evaluating: {write_duration(point.evaluation_s)})\n"
        )
    else:
        why = {"schedule": "its epochs are done", "settled": "settled above the target"}.get(
            event.curve.end, event.curve.end
        )
        sys.stderr.write(
            f"[{event.number}/{event.num_runs}] {event.contestant.title}, seed {event.curve.seed}: {why}"
            f"{f': {event.curve.problem}' if event.curve.problem else ''}\n"
        )


def _show(result: Benchmark) -> None:
    """A row for each contestant, then who was left out, and where the result lies."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from visus.units import write_share

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=160)
    facts = result.facts
    console.print(
        f"time to {write_share(result.plan.target)} on the held-out {facts['held_out']} samples of {facts['data']['name']}: mean of "
        f"{write_number_of(len(result.plan.seeds), 'seed')}, {write_number_of(facts['threads'], 'thread')}, {facts['device']}",
    )
    table = Table(
        "trained by", "time", "seeds", "evaluating", "from process start", "times visus", "best accuracy", box=None
    )
    for column in table.columns[1:]:
        column.justify = "right"
    own = result.raced[0]
    for one in result.raced:
        table.add_row(*map(Text, _row(one, own, result.plan.target)))
    console.print(table)
    for one in result.raced:
        for curve in (curve for curve in one.curves if curve.problem):
            console.print(f"failed: {one.contestant.title}, seed {curve.seed}: {curve.problem}", soft_wrap=True)
    for row in result.to_json()["left_out"]:
        console.print(f"left out: {row['name']} is not installed. Install it with: {row['install']}", soft_wrap=True)
    console.print(facts["weights"], soft_wrap=True)
    console.print(f"result: {result.folder / 'benchmark.json'}; drawn: {result.folder / 'accuracy.png'}", soft_wrap=True)


def _row(one: Raced, own: Raced, target: float) -> list[Any]:
    """The cells of one contestant; times since its training data was in memory."""
    from visus.units import write_duration, write_share

    best = "-" if one.best_accuracy is None else write_share(one.best_accuracy)
    reached, own_reached = one.reached(target), own.reached(target)
    if reached is None:
        return [
            one.contestant.title,
            "failed" if any(curve.problem for curve in one.curves) else "not reached",
            "",
            "",
            "",
            "",
            best,
        ]
    return [
        one.contestant.title,
        write_duration(reached.seconds),
        f"{write_duration(reached.seconds_low)} to {write_duration(reached.seconds_high)}",
        write_duration(reached.evaluation_s),
        write_duration(reached.from_start_s),
        f"{reached.seconds / own_reached.seconds:.2f}" if own_reached else "-",
        best,
    ]


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command()(benchmark)


def main() -> None:
    """Run the command; a mistake is one line and an exit code, as for ``visus``."""
    run(app)
