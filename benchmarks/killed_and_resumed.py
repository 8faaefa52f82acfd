"""Kill a training with SIGKILL at random moments, resume it each time, and compare its weights with those of one never killed.

    python benchmarks/killed_and_resumed.py [--kills 20] [--seed 0] [--output FILE.json]

Every kill is followed by a look at the run folder: no file in it may be half-written. The training is ``visus train`` on the images that come
with visus, as a process of its own, with checkpoints every half second.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import safetensors
import torch

from measuring import same_weights

RECIPE = "epochs: 3\ncheckpoint_every_s: 0.5\n"
NETWORK = "conv(16, 3, padding=1), norm, relu, maxpool(2), dropout(0.1), conv(32, 3, padding=1), norm, relu, globalpool, linear(classes)"


def start(folder: Path, name: str | None = None) -> subprocess.Popen[str]:
    """A training process: a new one, or one that goes on in ``folder``."""
    new = ["-m", NETWORK, "-c", str(folder / "recipe.yaml"), "--output", str(folder), "--name", name or ""]
    arguments = new if name else ["--resume", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "visus", "train", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def broken_files(run: Path) -> list[str]:
    """Files of a run that cannot be read whole."""
    broken = []
    for file in run.rglob("*"):
        if file.name.startswith(".") or file.is_dir():
            continue
        try:
            if file.suffix == ".safetensors":
                with safetensors.safe_open(file, framework="pt") as tensors:
                    for key in tensors.keys():  # noqa: SIM118 - not a mapping
                        tensors.get_tensor(key)
            elif file.suffix == ".json":
                json.loads(file.read_text())
            elif file.name == "results.csv":
                rows = file.read_text().splitlines()
                assert all(len(row.split(",")) == len(rows[0].split(",")) for row in rows)
        except (ValueError, AssertionError, safetensors.SafetensorError) as error:
            broken.append(f"{file}: {error}")
    return broken


def main() -> None:
    """Run the experiment; exit code 1 where a weight differs or a file is broken."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "recipe.yaml").write_text(RECIPE)
        began = time.monotonic()
        whole = start(folder, "whole")
        if whole.wait():
            sys.exit(f"the training that is never killed failed:\n{whole.stderr and whole.stderr.read()}")
        whole_s = time.monotonic() - began
        killed, broken, kills, starts = folder / "killed", [], [], 0
        process = start(folder, "killed")
        while True:
            wait = rng.uniform(0.0, 0.5 * whole_s)
            has_checkpoint = (killed / "checkpoint" / "last.safetensors").exists
            while not has_checkpoint() and process.poll() is None:
                time.sleep(0.01)
            try:
                if len(kills) < chosen.kills:
                    process.wait(wait)
                else:
                    process.wait()
                if process.returncode:
                    sys.exit(f"a resumed training failed:\n{process.stderr and process.stderr.read()}")
                if len(kills) >= chosen.kills:
                    break
                # Finished before the kill: begin the killed run anew, so that every kill meets a training.
                assert same_weights(folder / "whole", killed), "a finished training has other weights"
                killed = folder / f"killed-{len(kills)}"
                process = start(folder, killed.name)
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills.append(round(wait, 3))
                broken += broken_files(killed)
                process = start(killed)
                starts += 1
        equal = same_weights(folder / "whole", killed)
    result = {
        "command": " ".join(sys.argv),
        "kills": len(kills),
        "seconds_before_each_kill": kills,
        "seconds_never_killed": round(whole_s, 2),
        "equal_bit_for_bit": equal,
        "broken_files": broken,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if chosen.output:
        chosen.output.write_text(text + "\n")
    sys.exit(0 if equal and not broken else 1)


if __name__ == "__main__":
    main()
