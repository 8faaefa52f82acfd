"""A folder of photos by the default command, beside fastai's ``vision_learner`` with the same backbone, weights, split and size.

    python benchmarks/photos.py FOLDER [--seeds 0 1 2] [--peer PYTHON] [--epochs 3] [--output FILE.json]

``FOLDER`` has train, validation and test folders, each with a folder for each class. visus is ``visus train FOLDER`` and nothing more, in a process of
its own with an empty cache, timed from its start to its end. ``--peer`` names a Python that has fastai: its learner gets EfficientNet-Lite0 with
the same weights, ``fine_tune(epochs)`` with its defaults, its usual augmentation, and is timed in the same way. Both are scored on the test folder.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import command_line, machine_facts, mean_of, write_result

PEER = """
import json, sys, torch
import visus
from peers.compiled_parts import make_importable
make_importable()
from fastai.vision.all import *
from visus.networks.pretrained import DEFAULT
folder, epochs, seed, side = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
set_seed(seed, True)

def backbone(pretrained=True):
    network = visus.network(DEFAULT.design, (3, side, side), 1000)
    DEFAULT.initial_weights(network).load_into(network)
    return network

def body(network):
    parts = [part for name, part in network.named_children()]
    return nn.Sequential(*parts[:-3])

valid = "validation" if (folder / "validation").is_dir() else "val"
data = ImageDataLoaders.from_folder(folder, train="train", valid=valid, bs=64, num_workers=0,
    sample_tfms=RandomResizedCrop(side, min_scale=0.35), batch_tfms=[*aug_transforms(), Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3)])
model_meta[backbone] = {"cut": body, "split": default_split}  # vision_learner ignores its own cut
learner = vision_learner(data, backbone, normalize=False, metrics=accuracy)
learner.fine_tune(epochs)
test = data.test_dl(get_image_files(folder / "test"), with_labels=True)
_, right = learner.validate(dl=test)
print(json.dumps({"accuracy": float(right)}))
"""


def timed(words: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """What a command prints last, as JSON, with its seconds and its largest memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    seconds = time.monotonic() - began
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = after.ru_maxrss / 2**20
    said = [
        line
        for line in done.stderr.splitlines()
        if line.startswith(("epoch", "head", "fine-tuning", "time", "trained", "before"))
    ]
    return json.loads(done.stdout.splitlines()[-1]) | {
        "seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "largest_gib_so_far": round(peak, 2),
        "said": said,
    }


def main() -> None:
    """Train in turn, and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", type=Path)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--peer", help="a Python that has fastai and visus")
    options.add_argument("--epochs", type=int, default=3, help="of the peer's fine_tune")
    options.add_argument("--side", type=int, default=224, help="of the peer's images, in pixels")
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            environment = {**os.environ, "VISUS_CACHE": f"{scratch}/cache"}
            own = [sys.executable, "-m", "visus", "train", str(given.folder), "--seed", str(seed), "-o", scratch, "--json"]
            runs.setdefault("visus", []).append({"seed": seed} | timed(own, environment))
            print(
                f"visus, seed {seed}: {100 * runs['visus'][-1]['accuracy']:.1f} % in {runs['visus'][-1]['seconds']:.0f} s",
                file=sys.stderr,
            )
            if given.peer:
                words = [given.peer, "-c", PEER, str(given.folder), str(given.epochs), str(seed), str(given.side)]
                runs.setdefault("fastai", []).append({"seed": seed} | timed(words, environment))
                print(
                    f"fastai, seed {seed}: {100 * runs['fastai'][-1]['accuracy']:.1f} % in {runs['fastai'][-1]['seconds']:.0f} s",
                    file=sys.stderr,
                )
    means = {
        name: {
            what: mean_of([run[what] for run in found]).to_json() for what in ("accuracy", "seconds", "processor_seconds")
        }
        for name, found in runs.items()
    }
    write_result(given.output, {"command": command_line(), **machine_facts(), "means": means, "runs": runs})


if __name__ == "__main__":
    main()
