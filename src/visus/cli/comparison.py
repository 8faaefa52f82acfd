"""``visus compare``, and the shift report of ``visus evaluate``: options -> workbench, results -> tables or JSON.

This file knows which of its options go together. It must not know how anything is trained, measured or drawn. Nothing here loads
torch for a design.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visus.cli.streams import print_json
from visus.cli.words import shape_of

if TYPE_CHECKING:
    from visus.data.opened import Data
    from visus.workbench.comparisons import Comparison
    from visus.workbench.runs import Run
    from visus.workbench.shifts import ShiftReport


def compare(
    first: Annotated[str, typer.Argument(metavar="RUN|NETWORK", help="A run folder; or a network, as for visus summary.")],
    second: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Another run folder.")] = None,
    with_mlp: Annotated[
        bool, typer.Option("--with-mlp", help="Beside its perceptron twins; those of a run are trained as it was.")
    ] = False,
    shuffle_pixels: Annotated[
        bool,
        typer.Option(
            "--shuffle-pixels", help="Train it, and with --with-mlp its twins, on pictures in one random order of pixels."
        ),
    ] = False,
    task: Annotated[
        str | None,
        typer.Option(
            help="Train it for another task and compare the filters: reconstruction, or other labels (a column of its table, or a CSV file)."
        ),
    ] = None,
    control: Annotated[
        bool, typer.Option("--control/--no-control", help="With --task: train the run's own task from the other start too.")
    ] = True,
    data: Annotated[
        Path | None, typer.Option(help="With two runs: the data to compare them on, instead of their own.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With two runs: train, val or test; none for the held-out one.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the runs that are trained; that of the run by default.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="With runs: auto, cpu, cuda, cuda:N or mps; auto by default.")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="With runs: folder for decoded data, instead of the user's cache folder.")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option("--input", help="With a network: channels and lengths; 3,224,224 by default.")
    ] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="With a network: number of classes; 1000 by default.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of a training but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value to stdout.")] = False,
) -> None:
    """Two runs item by item; a run, or a design, beside its perceptron twins; or a run beside itself, trained for another task."""
    of_runs = {"--data": data, "--split": split}
    of_task = {"--task": task, "--no-control": not control}
    of_training = {"--shuffle-pixels": shuffle_pixels, "--output": output, "--quiet": quiet} | of_task
    of_run = {"--device": device, "--cache-dir": cache_dir}
    of_design = {"--input": input_shape, "--classes": classes}
    if second is not None:
        _refuse("two runs", {"--with-mlp": with_mlp} | of_training | of_design)
        _tell(_two_runs(Path(first), second, data, split, device or "auto", cache_dir), as_json=as_json)
    elif task is not None:
        _refuse("--task", {"--with-mlp": with_mlp, "--shuffle-pixels": shuffle_pixels} | of_runs | of_design)
        _compare_tasks(Path(first), task, control, output, device or "auto", cache_dir, quiet=quiet, as_json=as_json)
    elif Path(first).is_dir() or (shuffle_pixels and not _is_design(first, of_design)):
        _refuse("one run", of_runs | of_design | {"--no-control": not control})
        _need_other(with_mlp or shuffle_pixels, "Name another run, or add --with-mlp, --shuffle-pixels or --task.")
        with contextlib.redirect_stdout(sys.stderr):  # what a person's own module prints is talk
            found = _trained(Path(first), with_mlp, shuffle_pixels, output, device or "auto", cache_dir, quiet=quiet)
        _tell(found, as_json=as_json)
    else:
        _refuse("a network", of_runs | of_training | of_run)
        _need_other(with_mlp, "Add --with-mlp; two networks side by side are shown by visus diff.")
        _compare_design(first, input_shape or "3,224,224", classes or 1000, as_json=as_json)


def _is_design(first: str, of_design: dict[str, Any]) -> bool:
    """Whether the words can be no run folder, or are asked about as a design is."""
    return any(sign in first for sign in "(,") or any(value is not None for value in of_design.values())


def _need_other(is_there: bool, remedy: str) -> None:
    from visus.errors import UsageError

    if not is_there:
        raise UsageError(f"what to compare with is missing. {remedy}")


def _two_runs(
    left: Path, right: Path, data: Path | None, split: str | None, device: str, cache_dir: Path | None
) -> Comparison:
    from visus.workbench.comparisons import compare_runs
    from visus.workbench.runs import load

    with contextlib.redirect_stdout(sys.stderr):
        return compare_runs(load(left, device=device), load(right, device=device), data, split=split, cache_dir=cache_dir)


def _trained(
    folder: Path,
    with_mlp: bool,
    shuffle_pixels: bool,
    output: Path | None,
    device: str,
    cache_dir: Path | None,
    *,
    quiet: bool,
) -> Comparison:
    from visus.workbench.comparisons import compare_shuffled, compare_with_twins
    from visus.workbench.progress import Screen
    from visus.workbench.runs import load

    run = load(folder, device=device)
    with Screen(quiet) as screen:
        given: dict[str, Any] = {
            "output": output,
            "cache_dir": cache_dir,
            "on_event": screen.tell,
            "command": shlex.join(["visus", *sys.argv[1:]]),
        }
        if not with_mlp:
            return compare_shuffled(run, **given)
        return compare_with_twins(run, with_shuffled=shuffle_pixels, **given)


def _compare_tasks(
    folder: Path,
    task: str,
    control: bool,
    output: Path | None,
    device: str,
    cache_dir: Path | None,
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    from visus.cli.show_compare import show_tasks
    from visus.workbench.progress import Screen
    from visus.workbench.runs import load
    from visus.workbench.tasks import compare_tasks

    with contextlib.redirect_stdout(sys.stderr), Screen(quiet) as screen:
        found = compare_tasks(
            load(folder, device=device), task, with_control=control, output=output, cache_dir=cache_dir,
            on_event=screen.tell, on_drawn=screen.drawn, command=shlex.join(["visus", *sys.argv[1:]]),
        )  # fmt: skip
    if as_json:
        print_json(found.to_json())
    else:
        show_tasks(found)


def _tell(found: Comparison, *, as_json: bool) -> None:
    from visus.cli.show_compare import show_comparison

    if as_json:
        print_json(found.to_json())
    else:
        show_comparison(found)


def _compare_design(network: str, input_shape: str, classes: int, *, as_json: bool) -> None:
    from visus.cli.show_design import show_twins
    from visus.design.twins import perceptron_twins
    from visus.errors import UsageError
    from visus.workbench.summaries import design_of

    shape = shape_of(input_shape)
    design = design_of(network, shape, classes)
    if design is None:
        raise UsageError("perceptron twins are made of designs, and this is the name of a Python callable.", where=network)
    twins = perceptron_twins(design, shape, classes)
    if as_json:
        print_json([twin.to_json() for twin in twins])
    else:
        show_twins(twins, shape)


def _refuse(what: str, options: dict[str, Any]) -> None:
    """No setting is ever silently ignored: what plays no part is refused."""
    from visus.errors import UsageError

    if given := [word for word, value in options.items() if value not in (None, False)]:
        raise UsageError(f"{', '.join(given)} cannot be given with {what}. Leave it out.")


@dataclass(frozen=True)
class Moves:
    """The shift report of a run, and where it was asked for, that of the changed design and both side by side."""

    report: ShiftReport
    fixed: ShiftReport | None = None
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """What ``visus evaluate --json`` has beside the scores."""
        facts: dict[str, Any] = {"shifts": self.report.to_json()}
        if self.fixed is not None and self.comparison is not None:
            facts |= {"shifts_fixed": self.fixed.to_json(), "comparison": self.comparison.to_json()}
        return facts

    def show(self) -> None:
        """Print the tables."""
        from visus.cli.show_compare import show_comparison, show_shifts

        show_shifts(self.report)
        if self.fixed is not None and self.comparison is not None:
            changed = self.comparison.contenders[1]
            show_shifts(self.fixed, title=f"with {changed.kind}, {changed.folder}")
            show_comparison(self.comparison)


def check_fix(*, shifts: bool, fix: bool, data: Path | None) -> None:
    """Refuse ``--fix`` where it could only be ignored.

    Raises:
        UsageError: it stands without ``--shifts``, or with other data.
    """
    from visus.errors import UsageError

    if fix and not shifts:
        raise UsageError("--fix needs --shifts. Add it, or leave --fix out.")
    if fix and data is not None:
        raise UsageError("--fix trains on the run's own data, so other data cannot be given with it. Leave it out.")


def check_report(*, report: bool, data: Path | None, split: str | None) -> None:
    """Refuse what a report, which tells of the run's own held-out items, could only ignore.

    Raises:
        UsageError: other data or a split is given with it.
    """
    if report:
        _refuse("--report, which tells of the run's own held-out items", {"DATA": data, "--split": split})


def write_report(run: Run, data: Data) -> Path:
    """Write the report of a run anew; where it is."""
    from visus.workbench.reports import rewrite_report

    return rewrite_report(run, data)


def measure_moves(run: Run, data: Data, split: str | None, *, fix: bool, cache_dir: Path | None) -> Moves:
    """The shift report of a run; with ``fix``, the changed design is trained and measured too.

    Raises:
        UsageError: there is nothing to change.
    """
    from visus.errors import UsageError
    from visus.workbench.comparisons import compare_trained, train_again
    from visus.workbench.progress import Screen
    from visus.workbench.shifts import report_shifts, steadier_design

    if not fix:
        return Moves(report_shifts(run, data, split))
    steadier = steadier_design(run)
    if steadier is None:
        raise UsageError(
            "this network has no flatten and no stride that could be changed, or is no design. Leave --fix out.",
            where=str(run.folder),
        )
    design, changes = steadier
    report = report_shifts(run, data, split)
    with Screen(quiet=False) as screen:
        command = shlex.join(["visus", *sys.argv[1:]])
        other = train_again(run, design, f"{run.name}-steadier", cache_dir=cache_dir, on_event=screen.tell, command=command)
    both = compare_trained([(run, "network"), (other, changes)], cache_dir=cache_dir)
    return Moves(report, report_shifts(other, data, split), both)
