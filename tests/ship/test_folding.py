"""Law: batch norms are folded into the layers before them when a network is exported, and the outputs stay equal to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visus.data.preprocessing import Preprocessing
from visus.ship.engines import INPUT, onnx_session
from visus.ship.graph import Deployed

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
SIZE = {1: (24,), 2: (8, 10), 3: (4, 6, 5)}
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class Network(nn.Module):
    """Every place of a batch norm: after convolutions with and without bias, in groups, depthwise, strided, transposed, in a residual branch, after a
    linear layer; and, on request, before an activation that nothing precedes."""

    def __init__(self, rank: int, *, first: bool) -> None:
        super().__init__()
        conv, norm = CONV[rank], NORM[rank]
        self.first = norm(3) if first else nn.Identity()
        self.begin = nn.Sequential(
            conv(3, 8, 3, padding=1), norm(8), nn.ReLU(), conv(8, 8, 3, padding=1, groups=8, bias=False), norm(8), nn.GELU()
        )
        self.branch = nn.Sequential(
            conv(8, 8, 3, padding=1, groups=2), norm(8), nn.ReLU(), conv(8, 8, 1, bias=False), norm(8)
        )
        self.rest = nn.Sequential(
            conv(8, 12, 3, stride=2, padding=1),
            norm(12),
            nn.SiLU(),
            TRANSPOSED[rank](12, 6, 2, stride=2),
            norm(6),
            nn.ReLU(),
        )
        self.pool = POOL[rank](1)
        self.head = nn.Sequential(nn.Linear(6, 10, bias=False), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 4))

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.first(values)) if not isinstance(self.first, nn.Identity) else values
        values = self.begin(values)
        values = self.rest(values + self.branch(values))
        return self.head(self.pool(values).flatten(1))  # type: ignore[no-any-return]


def made(rank: int, *, first: bool) -> Deployed:
    """The network with batch norms that do something, and none of which is close to zero."""
    torch.manual_seed(rank)
    network = Network(rank, first=first)
    for part in network.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
            part.running_mean = torch.randn(part.num_features) / 2
            part.running_var = torch.rand(part.num_features) + 0.25
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.uniform_(part.bias, -1, 1)
    preprocessing = Preprocessing("array", 3, SIZE[rank], "squash", "uint8", "fixed", (120.0,) * 3, (60.0,) * 3, layout="NC")
    return Deployed(network.eval(), preprocessing, 1.0, 0.0)


def exported(deployed: Deployed, rank: int) -> Any:
    from visus.ship.onnx_files import export_onnx

    return export_onnx(deployed, torch.zeros(2, 3, *SIZE[rank], dtype=torch.uint8), ["a", "b", "c", "d"], "").onnx


@pytest.mark.parametrize(
    ("rank", "first"),
    [(2, True), pytest.param(1, False, marks=pytest.mark.slow), pytest.param(3, False, marks=pytest.mark.slow)],
)
@pytest.mark.long
def test_no_batch_norm_is_left_after_a_layer_that_can_take_it(rank: int, first: bool) -> None:
    deployed = made(rank, first=first)
    graph = exported(deployed, rank)
    nodes = onnx.load_from_string(graph).graph.node
    maker = {output: node.op_type for node in nodes for output in node.output}
    left = [maker.get(node.input[0], "the input") for node in nodes if node.op_type == "BatchNormalization"]
    assert not set(left) & HEAVY, f"a batch norm is left after {left}"
    assert len(left) == first, "only the batch norm that follows no layer stays"
    samples = np.random.default_rng(0).integers(0, 256, (7, 3, *SIZE[rank]), dtype=np.uint8)
    with torch.no_grad():
        expected = deployed(torch.from_numpy(samples))[0].numpy()
    for optimize in (False, True):
        found = onnx_session(graph, 1, optimize=optimize).run(["logits"], {INPUT: samples})[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
