"""The records of CIFAR-10 at 94 % beside visus on one GPU: airbench94_muon, hiverge and Fulcrum E1, run as their authors wrote them.

    python benchmarks/records_on_gpu.py DATA --airbench airbench94_muon.py --hiverge cifar10_speedrun.py --fulcrum CHECKOUT
        [--config RECIPE.yaml] [--model TEXT] [--runs 50] [--block 10] [--output FILE.json]

Each of the three is brought by the person who measures, as a path or as an address (a script; for Fulcrum E1 a checkout or an archive of
github.com/fulcrumresearch/cifar-10-speedrun), from github.com/KellerJordan/cifar10-airbench and github.com/hiverge/cifar10-speedrun; none of
them is part of this project. Those that are not given are left out. They run on the same GPU with the same PyTorch, in alternating
blocks, each block a process of its own whose first run (compilation, warm-up) is not counted.

Two times are told. **As airbench counts it**: whitening, training and the answers for the test images with test-time augmentation, data on
the GPU and everything compiled before. Fulcrum counts otherwise: preparing and training, no answers; and its accuracy is of the last 8,000
test images. For visus the clock runs from the call of the training to the last answer, files written in between included.
**All in**: from the start of a process to its first counted result, so imports, data, compilation and warm-up are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from measuring import command_line, machine_facts, mean_of, ratio_of, write_result

MIN_RUNS = 50
GOAL = 0.75  # of the time of airbench94_muon
KINDS = ("airbench", "hiverge", "fulcrum", "visus")
_FULCRUM_LINE = re.compile(r"\[trial \d+/\d+ id=\d+\] train=[\d.]+s honest=([\d.]+)s acc=([\d.]+)")


@dataclass
class Found:
    """What one contestant gave: a (seconds, accuracy) for each run, by block, and the all-in seconds of each block."""

    blocks: list[list[tuple[float, float]]] = field(default_factory=list)
    all_in_s: list[float] = field(default_factory=list)

    @property
    def runs(self) -> list[tuple[float, float]]:
        """The runs of all blocks."""
        return [run for block in self.blocks for run in block]


def airbench_rows(lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    """(seconds, accuracy) of each final row of the tables that airbench and hiverge print; the first, of the warm-up, is left out.

    The columns are found by the head row, so their number and order may differ.
    """
    columns: list[str] = []
    is_warm = False
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "time_seconds" in cells:
            columns = cells
        elif columns and len(cells) == len(columns):
            row = dict(zip(columns, cells, strict=True))
            if row.get("epoch") != "eval":
                continue
            if is_warm:
                yield float(row["time_seconds"]), float(row["tta_val_acc"])
            is_warm = True


def fulcrum_rows(lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    """(seconds, accuracy) of each trial that Fulcrum's harness prints; the first, which warms up, is left out."""
    found = (match for line in lines if (match := _FULCRUM_LINE.search(line)))
    next(found, None)
    for match in found:
        yield float(match[1]), float(match[2])


def visus_rows(lines: Iterable[str]) -> Iterator[tuple[float, float]]:
    """(seconds, accuracy) of each training that ``--drive-visus`` prints; the first, which warms up, is left out."""
    for place, line in enumerate(line for line in lines if line.startswith("{")):
        if place:
            event = json.loads(line)
            yield event["seconds"], event["accuracy"]


ROWS = {"airbench": airbench_rows, "hiverge": airbench_rows, "fulcrum": fulcrum_rows, "visus": visus_rows}


def bring(given: str, folder: Path, name: str) -> Path:
    """A path as it is; an address, fetched, and unpacked where it is an archive.

    An archive of one folder gives that folder.
    """
    if not re.match(r"https?://", given):
        path = Path(given).resolve()
        if not path.exists():
            sys.exit(f"{given}: there is nothing at this path. Give the path or the address of what is to be run.")
        return path
    target = folder / f"{name}-{given.rstrip('/').rsplit('/', 1)[-1]}"
    with urllib.request.urlopen(given) as answer:
        target.write_bytes(answer.read())
    if target.suffix not in {".zip", ".gz", ".tgz"}:
        return target
    shutil.unpack_archive(target, folder / name)
    inside = list((folder / name).iterdir())
    return inside[0] if len(inside) == 1 else folder / name


def write_images(data: str, folder: Path) -> None:
    """CIFAR-10 as airbench and its heirs look for it: ``cifar10/train.pt`` and ``test.pt`` with uint8 images (N, 32, 32, 3)."""
    from visus.data.opened import open_data

    opened = open_data(data)
    (folder / "cifar10").mkdir()
    for name, splits in (("train", ("train", "val")), ("test", ("test",))):
        parts = [opened.split(split) for split in splits if len(opened.split(split))]
        images = torch.cat([torch.from_numpy(part.pixels[part.indices]) for part in parts]).permute(0, 2, 3, 1).contiguous()
        labels = torch.cat([torch.from_numpy(part.labels) for part in parts])
        torch.save({"images": images, "labels": labels, "classes": list(opened.classes)}, folder / "cifar10" / f"{name}.pt")


def command_for(kind: str, brought: Path | None, chosen: argparse.Namespace, num_runs: int) -> list[str]:
    """The process of one block."""
    if kind in ("airbench", "hiverge"):
        return [sys.executable, str(brought)]
    if kind == "fulcrum":
        return [sys.executable, __file__, chosen.data, "--drive-fulcrum", str(brought), "--runs", str(num_runs)]
    more = [
        *(["--recipe", str(chosen.config.resolve())] if chosen.config else []),
        *(["--model", chosen.model] if chosen.model else []),
    ]
    return [sys.executable, __file__, str(Path(chosen.data).resolve()), "--drive-visus", "--runs", str(num_runs), *more]


def run_block(kind: str, command: list[str], num_runs: int, folder: Path) -> tuple[list[tuple[float, float]], float]:
    """So many counted runs of one contestant, and the seconds from the start of its process to the first of them."""
    rows: list[tuple[float, float]] = []
    all_in_s = 0.0
    began = time.perf_counter()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    said = folder / f"{kind}.txt"
    with (
        said.open("w") as errors,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        for row in ROWS[kind](process.stdout):
            all_in_s = all_in_s or time.perf_counter() - began
            rows.append(row)
            if len(rows) == num_runs:
                break
        process.kill()
    if len(rows) < num_runs:
        sys.exit(f"{kind} gave {len(rows)} runs of {num_runs}; the end of what it said:\n{said.read_text()[-2000:]}")
    return rows, all_in_s


def drive_fulcrum(checkout: Path, num_runs: int) -> None:
    """Fulcrum's own harness on E1, without the service that its authors rented and without its demand for one kind of GPU."""
    sys.path.insert(0, str(checkout))
    from runners import harness, targets  # type: ignore[import-not-found]

    harness.sxm_single_gpu_or_exit = harness.gpu_name
    data = str(Path("cifar10").resolve())
    harness.run_trials(
        targets.E1Target(), data_path=data, overrides={}, trial_ids=list(range(num_runs + 1)), seed_base=0, container_id=0
    )


def drive_visus(chosen: argparse.Namespace) -> None:
    """Trainings by visus in one process, a line of JSON for each; the first warms up."""
    from visus.data.opened import open_data
    from visus.training.events import Finished
    from visus.training.recipe import Recipe
    from visus.workbench.runs.run import load
    from visus.workbench.train.training import train

    recipe = (Recipe.read(chosen.config) if chosen.config else Recipe()).replace(device="cuda")
    data = open_data(chosen.data)
    labels = torch.from_numpy(data.split("test").labels)
    for seed in range(chosen.runs + 1):
        began = time.perf_counter()

        def tell(event: object, began: float = began, seed: int = seed) -> None:
            if isinstance(event, Finished):
                answers = load(Path("runs") / f"seed-{seed}", device="cuda").answers(data, "test")
                accuracy = float((answers.argmax(1) == labels).double().mean())
                torch.cuda.synchronize()
                seconds = time.perf_counter() - began
                print(
                    json.dumps({"seed": seed, "seconds": seconds, "training_s": event.seconds, "accuracy": accuracy}),
                    flush=True,
                )

        shutil.rmtree(Path("runs") / f"seed-{seed}", ignore_errors=True)
        train(data, chosen.model, recipe.replace(seed=seed), output="runs", name=f"seed-{seed}", on_event=tell)


def tabulate(found: dict[str, Found]) -> dict[str, Any]:
    """A row for each contestant, and what the goal says."""
    rows = {}
    for kind, one in found.items():
        seconds, accuracies = zip(*one.runs, strict=True)
        rows[kind] = {
            "accuracy": mean_of(accuracies).to_json(),
            "seconds": mean_of(seconds).to_json(),
            "all_in_s": mean_of(one.all_in_s).to_json(),
            "block_seconds": [round(statistics.fmean(run[0] for run in block), 4) for block in one.blocks],
        }
    ratios = {}
    if "visus" in found:
        own = [statistics.fmean(run[0] for run in block) for block in found["visus"].blocks]
        for kind in (kind for kind in found if kind != "visus"):
            other = [statistics.fmean(run[0] for run in block) for block in found[kind].blocks]
            ratios[kind] = ratio_of(own, other).to_json()
    is_reached = None
    if "airbench" in ratios:
        is_accurate = rows["visus"]["accuracy"]["mean"] >= 0.94
        is_fast = ratios["airbench"]["mean"] <= GOAL and all(ratio["mean"] <= 1 for ratio in ratios.values())
        is_reached = is_accurate and is_fast
    return {"contestants": rows, "visus_to": ratios, "goal_of_airbench": GOAL, "is_reached": is_reached}


def markdown(table: dict[str, Any]) -> str:
    """The table as it goes into the log."""
    lines = ["| | runs | accuracy | seconds, as airbench counts | all in |", "|---|---|---|---|---|"]
    for kind, row in table["contestants"].items():
        accuracy, seconds = row["accuracy"], row["seconds"]
        lines.append(
            f"| {kind} | {seconds['num']:.0f} | {100 * accuracy['mean']:.2f} % ({100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f}) "
            f"| {seconds['mean']:.3f} ({seconds['low']:.3f} to {seconds['high']:.3f}) | {row['all_in_s']['mean']:.1f} |"
        )
    return "\n".join(lines)


def read_options() -> argparse.Namespace:
    """The command line; what cannot be used ends with exit code 2, a machine without a GPU with 1."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", help="folder of CIFAR-10, binary or Python batches")
    for name in KINDS[:-1]:
        options.add_argument(f"--{name}", help="path or address")
    options.add_argument("--config", type=Path, help="recipe.yaml for visus")
    options.add_argument("--model", help="network for visus")
    options.add_argument("--runs", type=int, default=MIN_RUNS, help="of each, 50 at least for a result")
    options.add_argument("--block", type=int, default=10, help="runs in one process")
    options.add_argument("--output", type=Path)
    options.add_argument("--drive-fulcrum", type=Path, help=argparse.SUPPRESS)
    options.add_argument("--drive-visus", action="store_true", help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if not (chosen.drive_fulcrum or chosen.drive_visus):
        if chosen.runs < 1 or chosen.block < 1 or chosen.runs % chosen.block:
            options.error(f"--runs {chosen.runs} must be a multiple of --block {chosen.block}")
        if not any(getattr(chosen, name) for name in KINDS[:-1]):
            options.error("give at least one of --airbench, --hiverge and --fulcrum to stand beside visus")
    if not torch.cuda.is_available():
        sys.exit(f"records_on_gpu.py needs a CUDA device, and PyTorch {torch.__version__} finds none here.")
    return chosen


def main() -> None:
    """Alternating blocks, and the table after each round."""
    chosen = read_options()
    if chosen.drive_fulcrum:
        drive_fulcrum(chosen.drive_fulcrum, chosen.runs)
        return
    if chosen.drive_visus:
        drive_visus(chosen)
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        brought = {name: bring(getattr(chosen, name), folder, name) for name in KINDS[:-1] if getattr(chosen, name)}
        write_images(chosen.data, folder)
        found = {kind: Found() for kind in (*brought, "visus")}
        for number in range(chosen.runs // chosen.block):
            for kind in found if number % 2 == 0 else reversed(found):
                command = command_for(kind, brought.get(kind), chosen, chosen.block)
                rows, all_in_s = run_block(kind, command, chosen.block, folder)
                found[kind].blocks.append(rows)
                found[kind].all_in_s.append(all_in_s)
                print(
                    f"block {number + 1}: {kind}: {statistics.fmean(row[0] for row in rows):.3f} s",
                    file=sys.stderr,
                    flush=True,
                )
            gpu = torch.cuda.get_device_name()
            table = {"command": command_line(), "gpu": gpu, **machine_facts(), **tabulate(found)}
            table["is_too_few_runs"] = len(found["visus"].runs) < MIN_RUNS
            write_result(chosen.output, table)
    print(markdown(table))


if __name__ == "__main__":
    main()
