"""Predict many small images into a table, kill the command twice with SIGKILL, and compare the table with that of a command never killed.

    python benchmarks/bulk_prediction.py [--images 100000] [--cluster] [--csv] [--output FILE.json]

The network is a small one that ``visus train`` makes on the images that come with visus; the samples are as many PNG files of 28 x 28,
a thousandth of them damaged. Each command is a process of its own, whose largest memory is measured. ``--cluster`` adds a command with
``--cluster local``, killed twice as well. The exit code is 1 if a table differs or a sample is missing or there twice.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

NETWORK = "conv(8, 3, stride=2), norm, relu, globalpool, linear(classes)"
DAMAGED_EVERY = 1_000
KILLED_AT = (0.3, 0.7)  # of the parts


def write_images(folder: Path, number: int) -> None:
    """Noise with another brightness in each image; one in a thousand is cut off."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(number):
        file = folder / f"{place:07}.png"
        middle = rng.integers(20, 235)
        Image.fromarray(rng.integers(middle - 20, middle + 20, (28, 28), dtype=np.uint8)).save(file)
        if place % DAMAGED_EVERY == DAMAGED_EVERY - 1:
            file.write_bytes(file.read_bytes()[:50])


def predict(run: Path, images: Path, table: Path, words: list[str], killed_at_part: int | None = None) -> dict[str, Any]:
    """One command; it is killed once there are so many parts.

    Returns: seconds, largest memory in bytes, and the JSON of a command that ended by itself.
    """
    began = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "visus",
        "predict",
        str(run),
        str(images),
        "--out",
        str(table),
        "--json",
        "--quiet",
        *words,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    parts = table.with_name(f"{table.name}.parts")
    if killed_at_part is not None:
        while num_parts(parts) < killed_at_part:
            if process.poll() is not None:
                sys.exit("a command ended before it was killed: take more images.")
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    answer = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found: dict[str, Any] = {"seconds": time.monotonic() - began, "max_memory_bytes": usage.ru_maxrss * 1024}
    if killed_at_part is not None:
        return {**found, "killed_after_parts": num_parts(parts)}
    if process.returncode not in (0, 1):
        sys.exit(f"a command failed with exit code {process.returncode}.")
    result = json.loads(answer)
    return {**found, **{name: result[name] for name in ("samples", "errors", "kept", "samples_per_second")}}


def num_parts(folder: Path) -> int:
    """Finished parts in a folder; 0 if there is none."""
    return sum(name.endswith(".rows") for name in os.listdir(folder)) if folder.is_dir() else 0


def killed_twice(run: Path, images: Path, table: Path, words: list[str], all_parts: int) -> list[dict[str, Any]]:
    """A command that is killed twice, and the one that ends it."""
    kills = [predict(run, images, table, words, max(1, int(share * all_parts))) for share in KILLED_AT]
    return [*kills, predict(run, images, table, words)]


def files_of(table: Path) -> Counter[str]:
    """How often each sample is in a table."""
    if table.suffix == ".parquet":
        from pyarrow import parquet

        return Counter(parquet.read_table(table, columns=["file"])["file"].to_pylist())
    return Counter(line.split(",")[0] for line in table.read_text().splitlines()[1:])


def main() -> None:
    """Run the experiment; exit code 1 where a table differs, or a sample is not there once."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=100_000)
    options.add_argument("--cluster", action="store_true")
    options.add_argument("--csv", action="store_true", help="write CSV instead of Parquet")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, suffix = Path(scratch), ".csv" if chosen.csv else ".parquet"
        train = ["-m", NETWORK, "--epochs", "1", "--output", str(folder), "--name", "run", "--quiet"]
        subprocess.run([sys.executable, "-m", "visus", "train", *train], check=True, stdout=subprocess.DEVNULL)
        run, images = folder / "run", folder / "images"
        write_images(images, chosen.images)
        whole, killed = folder / f"whole{suffix}", folder / f"killed{suffix}"
        facts: dict[str, Any] = {
            "command": f"python {' '.join(sys.argv)}",
            "images": chosen.images,
            "whole": predict(run, images, whole, []),
        }
        all_parts = chosen.images // 512
        facts["killed"] = killed_twice(run, images, killed, [], all_parts)
        tables = [killed]
        if chosen.cluster:
            tables.append(folder / f"cluster{suffix}")
            facts["cluster"] = killed_twice(run, images, tables[-1], ["--cluster", "local"], all_parts)
        seen = files_of(whole)
        facts["each_once"] = len(seen) == chosen.images and set(seen.values()) == {1}
        facts["tables_are_identical"] = all(table.read_bytes() == whole.read_bytes() for table in tables)
        facts["damaged"] = chosen.images // DAMAGED_EVERY
        facts["left_behind"] = sorted(file.name for file in folder.iterdir() if file.name.endswith(".parts"))
    print(json.dumps(facts, indent=2))
    if chosen.output:
        chosen.output.write_text(json.dumps(facts, indent=2) + "\n")
    is_right = facts["each_once"] and facts["tables_are_identical"] and facts["whole"]["errors"] == facts["damaged"]
    sys.exit(0 if is_right and not facts["left_behind"] else 1)


if __name__ == "__main__":
    main()
