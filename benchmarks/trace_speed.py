"""How long ``visus.networks.trace.trace`` takes, beside torchinfo, flop_counter and the network's own forward.

    OMP_NUM_THREADS=1 python benchmarks/trace_speed.py [--packages DIR] [--runs 5] [--shape-functions] [--output FILE.json]

DIR is a folder with torchvision and torchinfo (see ``trace_zoo.py``); without it, the networks are those of visus. Processor
milliseconds of this process, one thread, weights on the CPU; median over the runs after one that is not counted. The clock
runs around the whole call: for the trace, every layer with shape, parameters, multiply-adds and receptive field on both
axes; for torchinfo, ``summary(module, input_size)`` as it is documented, printing nothing; for flop_counter, one forward on
tensors with data.

With ``--shape-functions``, what the shape functions of operators earn by themselves: the trace with them, and without, where torch
is asked for each shape on tensors without data; the runs of the two take turns.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visus.design import alexnet, convnext, densenet, inception, mobilenet, resnet, vgg
from visus.networks import build
from visus.networks.machine import describe
from visus.networks.trace import trace
from visus.networks.trace.operators.registry import REGISTERED, operator_of

GOALS_MS = {
    "resnet18": 10,
    "resnet50": 20,
    "efficientnet_b0": 40,
    "mobilenet_v3_large": 40,
    "inception_v3": 80,
    "densenet121": 80,
    "convnext_tiny": 50,
}


def own_networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """The families of visus that have a counterpart among the goals, and three more."""
    designs = {
        "resnet18": resnet(18),
        "resnet50": resnet(50),
        "inception_v3": inception(),
        "densenet121": densenet(121),
        "convnext_tiny": convnext("tiny"),
        "mobilenet_v2": mobilenet(2),
        "alexnet": alexnet(),
        "vgg16": vgg(16),
    }
    sizes = {"inception_v3": 299}
    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
    for name, design in designs.items():
        shape = (3, sizes.get(name, 224), sizes.get(name, 224))
        found[name] = (lambda design=design, shape=shape: build(design, shape, 1000)), shape  # type: ignore[misc]
    return found


def their_networks() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """The same of torchvision, and those of the goals that visus has no family for."""
    from torchvision import models

    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
    for name in (*GOALS_MS, "mobilenet_v2", "alexnet", "vgg16"):
        more = {"init_weights": False} if name == "inception_v3" else {}
        shape = (3, 299, 299) if name == "inception_v3" else (3, 224, 224)
        found[name] = (lambda name=name, more=more: models.get_model(name, weights=None, **more)), shape  # type: ignore[misc]
    return found


def median_ms(work: Callable[[], Any], runs: int) -> float:
    """Median processor milliseconds of ``runs`` calls, after one that is not counted."""
    work()
    times = []
    for _ in range(runs):
        began = time.process_time()
        work()
        times.append((time.process_time() - began) * 1000)
    return round(statistics.median(times), 2)


@contextmanager
def without_shape_functions() -> Iterator[None]:
    """Torch is asked for the shape of every output."""
    before = dict(REGISTERED)
    REGISTERED.update({name: dataclasses.replace(known, shape=None) for name, known in before.items()})
    operator_of.cache_clear()
    try:
        yield
    finally:
        REGISTERED.update(before)
        operator_of.cache_clear()


def measure_shape_functions(name: str, module: nn.Module, shape: tuple[int, ...], runs: int) -> dict[str, Any]:
    """One network traced with shape functions and without them, in turn; the first of each is not counted."""
    module.eval()
    times: dict[str, list[float]] = {"trace_ms": [], "trace_without_shape_functions_ms": []}
    for _ in range(runs + 1):
        for key, state in (("trace_ms", nullcontext()), ("trace_without_shape_functions_ms", without_shape_functions())):
            with state:
                trace(nn.Identity(), shape)
                began = time.process_time()
                trace(module, shape)
                times[key].append((time.process_time() - began) * 1000)
    found = {key: round(statistics.median(values[1:]), 2) for key, values in times.items()}
    ratio = found["trace_without_shape_functions_ms"] / found["trace_ms"]
    return {"network": name, "input": list(shape), **found, "times_as_long_without": round(ratio, 2)}


def transformer_encoder() -> nn.Module:
    """Six layers of a transformer, 256 features wide."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


def measure(name: str, module: nn.Module, shape: tuple[int, ...], runs: int) -> dict[str, Any]:
    """One network by all that can be measured here."""
    module.eval()
    x = torch.rand(1, *shape)
    account = trace(module, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)

    def forward() -> None:
        with torch.no_grad():
            module(x)

    def counted() -> None:
        with FlopCounterMode(display=False), torch.no_grad():
            module(x)

    found = {
        "network": name,
        "input": list(shape),
        "goal_ms": GOALS_MS.get(name),
        "trace_ms": median_ms(lambda: trace(module, shape), runs),
        "trace_operations_ms": median_ms(lambda: trace(module, shape, detail="operations"), runs),
        "forward_ms": median_ms(forward, runs),
        "flop_counter_ms": median_ms(counted, runs),
        "num_rows": len(account.rows),
        "macs": account.macs,
        "macs_of_flop_counter": counter.get_total_flops() // 2,
        "field": [f"{field.size}/{field.stride}" for field in _last_map(account).fields],
    }
    if importlib.util.find_spec("torchinfo") is not None:
        from torchinfo import summary

        found["torchinfo_ms"] = median_ms(lambda: summary(module, input_size=(1, *shape), verbose=0), runs)
        found["macs_of_torchinfo"] = int(summary(module, input_size=(1, *shape), verbose=0).total_mult_adds)
    return found


def _last_map(account: Any) -> Any:
    return [row for row in account.rows if len(row.output_shape) == 3 and row.fields[0].stride != 0][-1]


def main() -> None:
    """Measure every network and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packages", type=Path, help="folder with torchvision and torchinfo")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--shape-functions", action="store_true", help="the trace with them and without")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    networks = own_networks()
    library = None
    if chosen.packages:
        sys.path.append(str(chosen.packages))
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        networks = their_networks()
    work = measure
    if chosen.shape_functions:
        work, networks["transformer_encoder"] = measure_shape_functions, (transformer_encoder, (64, 256))
    results = []
    for name, (make, shape) in networks.items():
        results.append(work(name, make(), shape, chosen.runs))
        print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    del library
    machine = describe()
    table = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/trace_speed.py"
        + (" --packages DIR" if chosen.packages else "")
        + (" --shape-functions" if chosen.shape_functions else ""),
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "device": "cpu",
        "cores": machine["cores"],
        "threads": 1,
        "num_runs": chosen.runs,
        "clock": "processor time of the process",
        "largest_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "results": results,
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(table, indent=2) + "\n")
    print(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
