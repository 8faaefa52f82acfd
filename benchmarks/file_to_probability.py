"""From image files to probabilities on one thread: a bundle, OpenVINO's own benchmark tool, decoding alone, and plain eager PyTorch.

    python benchmarks/file_to_probability.py [--network "resnet(18)"] [--size 224] [--files 32] [--rounds 7] [--precision float32] [--output FILE]

The network has random weights. The files are JPEG images of 500 x 375 made of random waves, or those of ``--images FOLDER``. The process runs on one core, with
everything that it starts. In each round, by turns:

- ``visus``: ``visus.open_bundle(path, engine="openvino", threads=1).predict(files)``: every file to a label with its probability;
- ``decoding``: the same files to samples of the network's size, through the same function of visus, and nothing else;
- ``OpenVINO's tool``: ``benchmark_app`` of the package ``openvino`` on the graph of the bundle, in batches of the same size, filled with random values;
- ``eager PyTorch``: Pillow opens and resizes each file, PyTorch normalizes and computes a batch in float32.

Two ratios: samples per second of visus beside what the tool and decoding allow together, and beside eager PyTorch. Both are the median over the rounds of
the ratio within one round.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from measuring import command_line, machine_facts, write_result

MEAN, DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
CLASSES = tuple(f"class {number}" for number in range(1000))
NUM_CALIBRATION = 300
TOOL = "from openvino.tools.benchmark.main import main; main()"
WAYS = ("visus", "decoding", "OpenVINO's tool", "eager PyTorch")


def make_images(folder: Path, count: int) -> list[Path]:
    """JPEG files of 500 x 375 with smooth random waves: they compress as photos do, to some tens of kilobytes."""
    from PIL import Image

    numbers = np.random.default_rng(0)
    files = []
    for number in range(count):
        coarse = Image.fromarray(numbers.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        waves = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.float32)
        image = np.clip(waves + numbers.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)
        files.append(folder / f"{number:03}.jpg")
        Image.fromarray(image).save(files[-1], quality=90)
    return files


def make_bundle_of(network: str, shape: tuple[int, ...], folder: Path, *, int8: bool) -> tuple[Path, Any]:
    """The bundle of a network with random weights for samples (C, H, W), and the network. An image file of the folder is its golden file."""
    import torch

    from visus.data.preprocessing import Preprocessing
    from visus.evaluation.calibration import Calibrator
    from visus.ship.export import Exportable, make_bundle
    from visus.ship.golden_files import golden_images
    from visus.workbench.modules import make_network

    channels = shape[0]
    preprocessing = Preprocessing(
        "images", channels, shape[1:], "squash", "uint8", "fixed", MEAN[:channels], DEVIATION[:channels]
    )
    module = make_network(network, shape, len(CLASSES)).module.eval()
    numbers = np.random.default_rng(1)
    samples = numbers.integers(0, 256, (16, *shape), dtype=np.uint8)
    with torch.no_grad():
        labels = module(preprocessing.scaled(torch.from_numpy(samples))).argmax(dim=1).numpy()
    source = Exportable(
        name="random-weights",
        network=module,
        preprocessing=preprocessing,
        classes=CLASSES,
        calibrator=Calibrator(1.0, 0.0),
        tta="none",
        golden=golden_images([(each, ()) for each in sorted(folder.glob("*.*g"))[:1]], 1, shape[1:]),
        samples=samples,
        labels=labels,
        texts={"design.txt": network},
        facts={"accuracy": 1.0, "accuracy_low": 0.0, "accuracy_high": 1.0, "num_scored": 16, "num_parameters": 0},
        calibration=numbers.integers(0, 256, (NUM_CALIBRATION, *shape), dtype=np.uint8) if int8 else None,
        max_loss=1.0,  # the labels of a network with random weights mean nothing
    )
    make_bundle(source, folder / "bundle", ("onnx", "openvino"))
    return folder / "bundle", module


def tool_rate(bundle: Path, precision: str, shape: tuple[int, ...], seconds: float) -> float:
    """Samples per second of OpenVINO's own tool on the graph of a bundle."""
    graph = bundle / "openvino" / ("int8.xml" if precision == "int8" else "network.xml")
    hint = {"float32": "f32", "bfloat16": "bf16", "float16": "f16", "int8": "f32"}[precision]
    options = [
        "-m",
        str(graph),
        "-d",
        "CPU",
        "-hint",
        "none",
        "-nthreads",
        "1",
        "-nstreams",
        "1",
        "-infer_precision",
        hint,
        "-api",
        "sync",
    ]
    options += ["-data_shape", str(list(shape)).replace(" ", ""), "-t", str(max(1, round(seconds)))]
    done = subprocess.run([sys.executable, "-c", TOOL, *options], capture_output=True, text=True, check=True)
    return read_rate(done.stdout)


def read_rate(text: str) -> float:
    """Samples per second in the output of the tool.

    >>> read_rate("[ INFO ] Latency:\\n[ INFO ] Throughput:   683.94 FPS\\n")
    683.94
    """
    match = re.search(r"Throughput:\s*([0-9.]+) FPS", text)
    if match is None:
        raise SystemExit(f"the tool of OpenVINO printed no throughput: {text[-300:]}")
    return float(match[1])


def eager_pytorch(files: list[Path], module: Any, size: int, batch_size: int) -> Any:
    """Probabilities of all files, as a script without visus computes them."""
    import torch
    from PIL import Image

    mean, deviation = (torch.tensor(each).reshape(3, 1, 1) for each in (MEAN, DEVIATION))
    answers = []
    with torch.inference_mode():
        for start in range(0, len(files), batch_size):
            images = [
                Image.open(each).convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
                for each in files[start : start + batch_size]
            ]
            batch = torch.stack([torch.from_numpy(np.array(each)).permute(2, 0, 1) for each in images])
            answers.append(torch.softmax(module((batch - mean) / deviation), dim=1))
    return torch.cat(answers)


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """The two ratios, each the median over the rounds.

    >>> found = ratios({"visus": [8.0], "decoding": [40.0], "OpenVINO's tool": [10.0], "eager PyTorch": [2.0]})
    >>> found["of tool and decoding"], found["times eager PyTorch"]
    (1.0, 4.0)
    """
    rounds = list(zip(*(rates[way] for way in WAYS), strict=True))
    allowed = [visus * (1 / tool + 1 / decoding) for visus, decoding, tool, _ in rounds]
    faster = [visus / eager for visus, _, _, eager in rounds]
    return {"of tool and decoding": statistics.median(allowed), "times eager PyTorch": statistics.median(faster)}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Samples per second of each way in each round."""
    import torch

    import visus
    from visus.data.ledger import Ledger

    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="visus-benchmark-") as folder:
        files = (
            sorted(options.images.iterdir())[: options.files] if options.images else make_images(Path(folder), options.files)
        )
        if options.images:
            make_images(Path(folder), 1)  # the golden file
        path, module = make_bundle_of(
            options.network, (3, options.size, options.size), Path(folder), int8=options.precision == "int8"
        )
        bundle = visus.open_bundle(path, engine="openvino", precision=options.precision, threads=1)
        preprocessing = bundle.preprocessing
        batch_size = min(bundle.chunk, len(files))

        ledger = Ledger()

        def predict() -> None:
            answers = list(
                bundle.predict([str(each) for each in files], progress=False)
            )  # they are computed as they are read
            assert len(answers) == len(files)

        def decode() -> None:
            for each in files:
                preprocessing.read_image(each.read_bytes(), ledger, name=each.name)

        works: dict[str, Callable[[], object]] = {
            "visus": predict,
            "decoding": decode,
            "eager PyTorch": lambda: eager_pytorch(files, module, options.size, batch_size),
        }
        for work in works.values():
            work()
        for number in range(options.rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                if way in works:
                    began = time.perf_counter()
                    works[way]()
                    rates[way].append(len(files) / (time.perf_counter() - began))
                else:
                    rates[way].append(
                        tool_rate(path, options.precision, (batch_size, *preprocessing.input_shape), options.tool_seconds)
                    )
            print(", ".join(f"{way} {rates[way][-1]:.1f}" for way in WAYS), "samples per second", flush=True)
        kilobytes = statistics.median(each.stat().st_size for each in files) / 1000
    return {"rates": rates, "batch_size": batch_size, "file_kilobytes": kilobytes, "ratios": ratios(rates)}


def main() -> None:
    """Measure and print; write the result where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet(18)")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=Path, help="a folder of image files, instead of made ones")
    parser.add_argument("--files", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", choices=("float32", "bfloat16", "float16", "int8"), default="float32")
    parser.add_argument("--tool-seconds", type=float, default=3.0, help="how long OpenVINO's tool measures in each round")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    found = measure(options)
    import importlib.metadata

    versions = {each: importlib.metadata.version(each) for each in ("openvino", "torch", "pillow", "simplejpeg", "numpy")}
    medians = {way: statistics.median(found["rates"][way]) for way in WAYS}
    buffer = io.StringIO()
    for way in WAYS:
        print(f"{way:<16} {medians[way]:8.1f} samples per second (median of {options.rounds} rounds)", file=buffer)
    print(
        f"visus reaches {found['ratios']['of tool and decoding']:.2f} of what OpenVINO's tool and decoding allow together",
        file=buffer,
    )
    print(f"visus is {found['ratios']['times eager PyTorch']:.2f} times as fast as eager PyTorch with Pillow", file=buffer)
    print(buffer.getvalue(), end="")
    settings = {
        "network": options.network,
        "size": options.size,
        "files": options.files,
        "precision": options.precision,
        "threads": 1,
    }
    table = {
        "command": command_line(),
        "settings": settings,
        **found,
        "medians": medians,
        "packages": versions,
        "machine": machine_facts(1),
    }
    write_result(options.output, table)


if __name__ == "__main__":
    main()
