"""Every family of designs, modules of a person's own, pretrained weights, signals and volumes, in all formats: the same answers on 500 samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import visus
from visus import design
from visus.data.preprocessing import Pixels, Preprocessing
from visus.evaluation.calibration import Calibrator
from visus.networks import pretrained
from visus.ship.export import Exportable, make_bundle
from visus.ship.files import BundleFiles
from visus.ship.golden_files import golden_rows
from visus.ship.proof import Proof, read_proof

pytestmark = pytest.mark.slow

NUM_SAMPLES = 500
TOLERANCE = 1e-4
FAMILIES: dict[str, tuple[design.Design, tuple[int, ...]]] = {
    "lenet5": (design.lenet5(), (1, 28, 28)),
    "alexnet": (design.alexnet(), (3, 64, 64)),
    "vgg": (design.vgg(11), (3, 32, 32)),
    "resnet": (design.resnet(18), (3, 32, 32)),
    "mobilenet": (design.mobilenet(2), (3, 48, 48)),
    "densenet": (design.densenet(121), (3, 32, 32)),
    "efficientnet_lite": (design.efficientnet_lite(0), (3, 48, 48)),
    "convnext": (design.convnext("tiny"), (3, 32, 32)),
}


def check(path: Path) -> None:
    """All three formats give 100 % of the labels and nearly the probabilities of the run; the first two were compared without PyTorch by the gate."""
    files = BundleFiles(path)
    engines = {each["engine"] for each in files.manifest.checks}
    assert engines == {"onnxruntime", "openvino"}
    for each in files.manifest.checks:
        assert (each["agreement"], each["num_samples"]) == (1.0, NUM_SAMPLES), each
        assert each["max_difference"] <= TOLERANCE, each
    check_program(path, read_proof(files))


def check_program(path: Path, proof: Proof) -> None:
    """The program of ``torch.export`` computes the logits of the run."""
    program = torch.export.load(path / "network.pt2").module()
    samples = proof.all_samples()
    with torch.no_grad():
        logits = torch.cat([program(torch.from_numpy(samples[at : at + 50]))[0] for at in range(0, len(samples), 50)])
    expected = torch.from_numpy(proof.plain_logits)
    assert (logits.softmax(1) - expected.softmax(1)).abs().max() <= TOLERANCE
    assert (logits.argmax(1) == expected.argmax(1)).double().mean() == 1


def random_samples(shape: tuple[int, ...]) -> Pixels:
    """Stored samples (N, C, *) with stripes of random directions and brightness."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 200, (NUM_SAMPLES, shape[0], *([1] * len(shape[1:]))))
    return (levels + rng.integers(0, 56, (NUM_SAMPLES, *shape))).astype(np.uint8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_answers_in_every_format_as_in_pytorch(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    asked, shape = FAMILIES[family]
    network = visus.network(asked, shape, 5)
    samples = random_samples(shape)
    labels = np.arange(NUM_SAMPLES) % 5
    preprocessing = Preprocessing(
        "array",
        shape[0],
        shape[1:],
        "squash",
        "uint8",
        "mean-deviation",
        (120.0,) * shape[0],
        (60.0,) * shape[0],
        None,
        None,
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for at in (0, 16):  # the norms get statistics
        batch = preprocessing.scaled(torch.from_numpy(samples[at : at + 16]))
        loss = nn.functional.cross_entropy(network.train()(batch), torch.from_numpy(labels[at : at + 16]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    golden = golden_rows(list(samples[:10]), 10, shape[1:], are_images=True)
    source = Exportable(
        name=family,
        network=network.eval(),
        preprocessing=preprocessing,
        classes=("a", "b", "c", "d", "e"),
        calibrator=Calibrator(1.3, 0.1),
        tta="unsure:flip",
        golden=golden,
        samples=samples,
        labels=labels,
        texts={},
    )
    make_bundle(source, tmp_path / family)
    check(tmp_path / family)


OWN = """
import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.left = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.GELU())
        self.right = nn.Conv2d(3, 8, 1)
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        both = torch.cat((self.left(x), self.right(x)), 1)
        return self.head(both.flatten(2).topk(4).values.mean(-1))


def make(num_classes):
    return Own(num_classes)
"""


def arrays(folder: Path, shape: tuple[int, ...], dtype: type = np.uint8) -> Path:
    """A file of 1,200 samples of two classes, half of which are for the test."""
    rng = np.random.default_rng(0)
    labels = np.arange(1200) % 2
    values = rng.normal(100, 30, (1200, *shape)) + 40 * labels.reshape(-1, *([1] * len(shape)))
    path = folder / "data.npz"
    split = 600
    np.savez(
        path,
        x_train=np.clip(values[:split], 0, 255).astype(dtype),
        y_train=labels[:split],
        x_test=np.clip(values[split:], 0, 255).astype(dtype),
        y_test=labels[split:],
    )
    return path


RECIPE = visus.Recipe(epochs=1, batch_size=64, precision="float32")


def exported(run: Any, folder: Path) -> Path:
    """The bundle of a run, in all formats."""
    return run.export(folder / "bundle", progress=False).path


@pytest.mark.parametrize(
    ("network", "shape", "dtype"),
    [
        ("shipped_networks:make", (3, 12, 12), np.uint8),
        ("conv(8, 5), norm, relu, globalpool, linear(classes)", (1, 64), np.float32),
        ("conv(8, 3), norm, relu, maxpool(2), globalpool, linear(classes)", (1, 8, 10, 12), np.uint8),
    ],
    ids=["own module", "signals", "volumes"],
)
def test_a_run_answers_in_every_format_as_in_pytorch(
    network: str, shape: tuple[int, ...], dtype: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shipped_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run = visus.train(arrays(tmp_path, shape, dtype), network, RECIPE, output=tmp_path / "runs", progress=False)
    check(exported(run, tmp_path))


@pytest.mark.skipif(pretrained.DEFAULT.find() is None, reason="needs the extra pretrained")
def test_a_pretrained_run_answers_in_every_format_as_in_pytorch(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label, middle in (("dark", 70), ("light", 180)):
        for split, count in (("train", 20), ("test", 260)):
            (tmp_path / "photos" / split / label).mkdir(parents=True)
            for number in range(count):
                values = np.clip(rng.normal(middle, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
                image = Image.fromarray(values).resize((80, 64), Image.Resampling.NEAREST)
                image.save(tmp_path / "photos" / split / label / f"{number}.jpg", quality=80)
    recipe = visus.Recipe(epochs=0, precision="float32")
    data = visus.open_data(tmp_path / "photos", img_size=64, pretrained=True, progress=False)
    run = visus.train(data, None, recipe, pretrained=True, output=tmp_path / "runs", progress=False)
    check(exported(run, tmp_path))
