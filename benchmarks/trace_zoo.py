"""Every architecture of torchvision and timm that can be built, traced: what failed, which rows were hulls, multiply-adds, times.

    pip install --no-deps --target DIR torchvision==0.28.0 timm
    python benchmarks/trace_zoo.py --packages DIR [--one-per-file] [--only TEXT] [--limit-s 60] [--output FILE.json]

DIR lies outside of the project, which needs neither package. torchvision's compiled part does not load beside a CPU torch, so the two operators that its
Python part looks for are declared first; no architecture uses them before its last step. Networks are built on the meta
device, so weights take no memory. Multiply-adds are held against those of torch.utils.flop_counter, halved.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visus.networks.machine import describe
from visus.networks.trace import trace

Architecture = tuple[str, Callable[[], nn.Module], tuple[int, ...]]


def torchvision_architectures() -> Iterator[Architecture]:
    """Classification, segmentation and video networks of torchvision, with the size that each is made for."""
    from torchvision import models

    for name in models.list_models():
        group = models.get_model_builder(name).__module__.split(".")[2]
        if group == "detection" or name.startswith("quantized"):
            continue
        shape = {"video": (3, 16, 112, 112)}.get(group, (3, 299, 299) if name == "inception_v3" else (3, 224, 224))
        if name == "s3d" or (group == "video" and ("mvit" in name or "swin" in name)):
            shape = (3, 16, 224, 224)
        backbone = {"weights_backbone": None} if group == "segmentation" else {}
        if group == "optical_flow":
            continue  # takes two images
        yield f"torchvision/{name}", lambda name=name, more=backbone: models.get_model(name, weights=None, **more), shape  # type: ignore[misc]


def timm_architectures(one_per_file: bool) -> Iterator[Architecture]:
    """Networks of timm, with the size that each is made for."""
    import timm

    seen = set()
    for name in timm.list_models():
        module = timm.model_entrypoint(name).__module__
        if one_per_file and module in seen:
            continue
        seen.add(module)
        settings = timm.get_pretrained_cfg(name)
        shape = tuple(settings.input_size) if settings is not None else (3, 224, 224)
        yield f"timm/{name}", lambda name=name: timm.create_model(name, pretrained=False), shape  # type: ignore[misc]


class TooLongError(BaseException):  # so that nothing takes it for a failure of the architecture
    """An architecture took longer than the limit."""


def _too_long(*_: Any) -> None:
    raise TooLongError("took too long")


def examine(name: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> dict[str, Any]:
    """One architecture: what the trace said of it, and whether the multiply-adds agree."""
    found: dict[str, Any] = {"name": name, "input": list(shape)}
    try:
        module = _built(make).requires_grad_(False)
    except Exception as error:
        return {**found, "not_built": f"{type(error).__name__}: {str(error)[:200]}"}
    try:
        began = time.process_time()
        account = trace(module, shape)
        found["ms"] = round((time.process_time() - began) * 1000, 1)
    except TooLongError:
        return {**found, "failed": "took too long"}
    except Exception as error:
        return {**found, "failed": f"{type(error).__name__}: {str(error)[:300]}"}
    found["num_rows"] = len(account.rows)
    found["hulls"] = [row.path for row in account.rows if "hull" in row.notes]
    ran = [row for row in account.rows if row.fields]
    found["field"] = [f"{field.size}/{field.stride}" for field in ran[-1].fields] if ran else []
    found["num_parameters_agree"] = account.num_parameters == sum(values.numel() for values in module.parameters())
    found["macs"] = account.macs
    try:
        device = next((values.device for values in module.parameters()), torch.device("meta"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(torch.zeros(1, *shape, device=device))
        found["macs_of_flop_counter"] = counter.get_total_flops() / 2
    except Exception as error:
        found["macs_of_flop_counter"] = f"{type(error).__name__}: {str(error)[:100]}"
    return found


def _built(make: Callable[[], nn.Module]) -> nn.Module:
    """The network without data in its weights; with data where its making looks at numbers."""
    try:
        with torch.device("meta"):
            return make().eval()
    except Exception:
        return make().eval()


def declare_operators() -> Any:
    """The two operators of torchvision's compiled part that its Python part gives shapes for."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def is_notable(found: dict[str, Any]) -> bool:
    """Whether anything is to be said of an architecture beside its time."""
    if "ms" not in found or found["hulls"] or not found["num_parameters_agree"]:
        return True
    return bool(found["macs"] != found["macs_of_flop_counter"])


def main() -> None:
    """Trace every architecture and write one table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--packages", type=Path, required=True, help="folder with torchvision and timm")
    options.add_argument("--one-per-file", action="store_true", help="of timm, one architecture from each of its files")
    options.add_argument("--only", help="architectures with this text in their names")
    options.add_argument("--limit-s", type=int, default=60, help="longest time for one architecture")
    options.add_argument("--output", type=Path)
    chosen = options.parse_args()
    sys.path.append(str(chosen.packages))
    warnings.simplefilter("ignore")
    library = declare_operators()
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _too_long)
    results = []
    for name, make, shape in (*torchvision_architectures(), *timm_architectures(chosen.one_per_file)):
        if chosen.only and chosen.only not in name:
            continue
        signal.alarm(chosen.limit_s)
        try:
            found = examine(name, make, shape)
        except TooLongError:
            found = {"name": name, "input": list(shape), "failed": "took too long"}
        signal.alarm(0)
        results.append(found)
        print(json.dumps({**found, "hulls": len(found.get("hulls", []))}), file=sys.stderr, flush=True)
    del library
    machine = describe()
    traced = [found for found in results if "ms" in found]
    counted = [found for found in traced if isinstance(found["macs_of_flop_counter"], float)]
    table = {
        "command": "python benchmarks/trace_zoo.py --packages DIR",
        "versions": {"visus": machine["visus"], "python": machine["python"], "torch": machine["packages"]["torch"]},
        "processor": machine["processor"],
        "cores": machine["cores"],
        "threads": 1,
        "num_built": sum("not_built" not in found for found in results),
        "num_not_built": sum("not_built" in found for found in results),
        "num_traced": len(traced),
        "num_failed": sum("failed" in found for found in results),
        "num_with_hulls": sum(bool(found["hulls"]) for found in traced),
        "num_hull_rows": sum(len(found["hulls"]) for found in traced),
        "num_rows": sum(found["num_rows"] for found in traced),
        "num_macs_compared": len(counted),
        "num_macs_equal": sum(found["macs"] == found["macs_of_flop_counter"] for found in counted),
        "median_ms": statistics.median(found["ms"] for found in traced) if traced else None,
        "notable": [found for found in results if is_notable(found)],
        "ms": {found["name"]: found["ms"] for found in traced},
    }
    if chosen.output:
        chosen.output.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps({key: value for key, value in table.items() if key not in ("notable", "ms")}, indent=2))


if __name__ == "__main__":
    main()
