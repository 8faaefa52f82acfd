"""The bytes that visus says a training step and an inference take, against those that PyTorch's allocator handed out.

    python benchmarks/memory_of_training.py [DESIGN ...] [--batch-size 4] [--optimizer adamw] [--modules] [--output FILE.json]

Each network takes two steps (forward, cross-entropy, backward, update) on random numbers of 3 x 224 x 224 (Inception-v3: 299) and 1000 classes, in
float32 on the CPU; the running total of the allocator's records in the second step, added to what was there before it (weights, buffers, the
optimizer's numbers), is held against ``Account.bytes_training``. With ``--modules`` the account is that of the built module, not of the design.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from visus.design import account, parse, resolve_network
from visus.networks.build import build
from visus.networks.machine import describe

DESIGNS = (
    *("resnet(18)", "resnet(50)", "vgg(11)", "mobilenet(2)", "densenet(121)", 'convnext("tiny")', "alexnet()"),
    *("efficientnet_lite(0)", "mobilenet(1)", "inception(3)"),
)
NUM_CLASSES = 1000


def highest_total(work: Callable[[], Any]) -> tuple[int, int]:
    """The highest running total of the allocator's records while ``work`` runs, and the total at its end, in bytes."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as records:
        work()
    events = [event for event in records.profiler.kineto_results.events() if event.name() == "[memory]"]
    total = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        total += event.nbytes()
        highest = max(highest, total)
    return highest, total


def check_the_measure() -> None:
    """A linear layer whose bytes are known: input, output and a ones' gradient come and stay."""
    layer = nn.Linear(1000, 500)
    held: list[Any] = []

    def work() -> None:
        held.append(torch.zeros(8, 1000))
        held.append(layer(held[0]))
        torch.zeros(100_000)

    known = 4 * 8 * 1000 + 4 * 8 * 500
    assert highest_total(work) == (known + 400_000, known), "the allocator's records are not read as they should be"


def measured_training(module: nn.Module, shape: tuple[int, ...], batch_size: int, optimizer: str) -> int:
    """Most bytes at once in the second training step."""
    module.train()
    make: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
        "adamw": lambda values: torch.optim.AdamW(values, lr=1e-5),
        "sgd": lambda values: torch.optim.SGD(values, lr=1e-5, momentum=0.9, nesterov=True, weight_decay=1e-4),
        "none": lambda values: torch.optim.SGD(values, lr=1e-5),
    }
    update = make[optimizer](list(module.parameters()))

    def step() -> None:
        update.zero_grad(set_to_none=True)
        x, labels = torch.randn(batch_size, *shape), torch.zeros(batch_size, dtype=torch.int64)
        logits = module(x)
        loss = F.cross_entropy(logits, labels)
        loss.backward()
        update.step()

    step()
    update.zero_grad(set_to_none=True)
    before = _bytes_of(module) + sum(
        value.nbytes for state in update.state.values() for value in state.values() if isinstance(value, Tensor)
    )
    return before + highest_total(step)[0]


def measured_inference(module: nn.Module, shape: tuple[int, ...], batch_size: int) -> int:
    """Most bytes at once in an inference."""
    module.eval()

    def infer() -> None:
        with torch.no_grad():
            module(torch.randn(batch_size, *shape))

    infer()
    return _bytes_of(module) + highest_total(infer)[0]


def _bytes_of(module: nn.Module) -> int:
    return sum(value.nbytes for value in (*module.parameters(), *module.buffers()))


def compare(text: str, batch_size: int, optimizer: str, *, by_module: bool) -> dict[str, Any]:
    """One network: what is said, what was measured, and their ratios."""
    shape = (3, 299, 299) if text.startswith("inception") else (3, 224, 224)
    design = resolve_network(text, input_shape=shape, num_classes=NUM_CLASSES) if "(" in text else parse(text)
    module = build(design, shape, NUM_CLASSES)
    costs = account(design, shape, NUM_CLASSES)
    if by_module:
        from visus.networks.trace import trace

        costs = trace(module, shape)
    began = time.process_time()
    said = costs.bytes_training(batch_size, optimizer), costs.bytes_inference(batch_size)
    seconds = time.process_time() - began
    measured = measured_training(module, shape, batch_size, optimizer), measured_inference(module, shape, batch_size)
    return {
        "network": text,
        "input": list(shape),
        "weights_bytes": costs.bytes_weights,
        "kept_bytes": costs.bytes_saved(batch_size),
        "training_said_bytes": said[0],
        "training_measured_bytes": measured[0],
        "training_ratio": round(said[0] / measured[0], 4),
        "training_ratio_without_weights": round(
            _beside(costs, said[0], optimizer) / _beside(costs, measured[0], optimizer), 4
        ),
        "inference_said_bytes": said[1],
        "inference_measured_bytes": measured[1],
        "inference_ratio": round(said[1] / measured[1], 4),
        "seconds_to_say": round(seconds, 4),
    }


def _beside(costs: Any, total: int, optimizer: str) -> int:
    """What is left of a total without the weights and the optimizer's numbers."""
    states = {"adamw": 2, "sgd": 1, "none": 0}[optimizer]
    return int(total - costs.bytes_weights - 4 * states * costs.num_parameters)


def main() -> None:
    """Compare every network and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("designs", nargs="*", default=list(DESIGNS))
    options.add_argument("--batch-size", type=int, default=4)
    options.add_argument("--optimizer", default="adamw")
    options.add_argument("--modules", action="store_true")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    check_the_measure()
    results = []
    for text in chosen.designs:
        results.append(compare(text, chosen.batch_size, chosen.optimizer, by_module=chosen.modules))
        found = results[-1]
        print(
            f"{text:22} training {found['training_said_bytes'] / 1e6:9.1f} MB said, {found['training_measured_bytes'] / 1e6:9.1f} measured: "
            f"{found['training_ratio']:.3f} (without weights {found['training_ratio_without_weights']:.3f}); "
            f"inference {found['inference_ratio']:.3f}; {found['seconds_to_say']:.3f} s",
            file=sys.stderr,
            flush=True,
        )
    machine = describe()
    words = [f"{text!r}" for text in chosen.designs] if chosen.designs != list(DESIGNS) else []
    table = {
        "command": " ".join(
            [
                "python benchmarks/memory_of_training.py",
                *words,
                f"--batch-size {chosen.batch_size} --optimizer {chosen.optimizer}",
            ]
        )
        + (" --modules" if chosen.modules else ""),
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "features": machine["features"],
        "threads": torch.get_num_threads(),
        "batch_size": chosen.batch_size,
        "optimizer": chosen.optimizer,
        "device": "cpu",
        "results": results,
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
