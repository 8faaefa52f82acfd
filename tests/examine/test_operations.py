"""Operations outside of layers, such as the sum of a residual block, are looked at by the paths of their rows in the account."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visus.errors import UsageError
from visus.examine import activations, effective_field, effective_field_sampled
from visus.examine.layer_calls import find_operations, output_of
from visus.networks.trace import trace

IMAGE = (3, 14, 12)


class Residual(nn.Module):
    """A block with two sums, the second in place, and a part that is dropped."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.wide = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(x + self.conv(x))
        z = self.wide(y)
        z += y
        return z


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers = nn.Conv2d(3, 4, 3), nn.Sequential(Residual(4), Residual(4), Residual(4))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(self.stem(x))
        x = torch.cat([x, x.roll(1, -1)], 1)
        return self.head(torch.einsum("nchw->nc", x))


class Twin(nn.Module):
    """The same with a layer in the place of each sum, so that its output is that of a layer."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        self.inner, self.sums = module, nn.ModuleList([nn.Identity() for _ in range(6)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner.stem(x)
        for index, block in enumerate(self.inner.layers):
            y = F.relu(self.sums[2 * index](x + block.conv(x)))  # type: ignore[operator, union-attr]
            x = self.sums[2 * index + 1](block.wide(y) + y)  # type: ignore[operator, union-attr]
        x = torch.cat([x, x.roll(1, -1)], 1)
        return self.inner.head(x.sum((2, 3)))


SUMS = [f"layers.{block}.add{again}" for block in range(3) for again in ("", "#2")]


@pytest.fixture
def module() -> Module:
    torch.manual_seed(0)
    return Module().eval()


def test_the_account_names_the_function_of_every_operation(module: Module) -> None:
    costs = trace(module, IMAGE)
    rows = [row.path for row in costs.rows if row.path not in dict(module.named_modules())]
    assert [path for path in rows if "add" in path] == SUMS
    assert set(costs.function_calls) == set(rows)
    assert {"cat", "roll"} <= {path.partition("#")[0] for path in rows}


@pytest.mark.parametrize("place", range(6))
def test_the_output_of_an_operation_is_that_of_a_layer_in_its_place(module: Module, place: int) -> None:
    x = torch.rand(2, *IMAGE)
    torch.testing.assert_close(output_of(module, x, SUMS[place]), output_of(Twin(module), x, f"sums.{place}"))


@pytest.mark.parametrize("place", [0, 3, 5])
@pytest.mark.parametrize("channel", [None, 1])
def test_the_effective_field_of_an_operation_is_that_of_a_layer_in_its_place(
    module: Module, place: int, channel: int | None
) -> None:
    x = torch.randn(8, *IMAGE)
    twin = Twin(module)
    for field in (effective_field, effective_field_sampled):
        mine, other = field(module, x, SUMS[place], None, channel), field(twin, x, f"sums.{place}", None, channel)
        np.testing.assert_allclose(mine.strength, other.strength, rtol=1e-4, atol=1e-7)
        assert (mine.box, mine.position) == (other.box, other.position)


def test_the_activations_of_operations_stand_among_those_of_layers(module: Module) -> None:
    x = torch.rand(3, *IMAGE)
    found = activations(module, x, ["head", SUMS[4], "stem", SUMS[1]])
    assert [(each.path, each.shape) for each in found.layers] == [
        ("stem", (4, 12, 10)),
        (SUMS[1], (4, 12, 10)),
        (SUMS[4], (4, 12, 10)),
        ("head", (2,)),
    ]
    twin = activations(Twin(module), x, ["sums.1", "sums.4"])
    for path, other in ((SUMS[1], "sums.1"), (SUMS[4], "sums.4")):
        np.testing.assert_allclose(found[path].values, twin[other].values, rtol=1e-5, atol=1e-6)
    assert found[SUMS[4]].layer == "add"
    assert found[SUMS[4]].fields == {row.path: row.fields for row in trace(module, IMAGE).rows}[SUMS[4]]


def test_an_operation_that_several_calls_make_up_is_found(module: Module) -> None:
    x = torch.rand(2, *IMAGE)
    assert output_of(module, x, "einsum").shape == (2, 8)


def test_an_unknown_operation_is_refused_like_a_layer(module: Module) -> None:
    assert find_operations(module, IMAGE, "layers.9.add") == {}
    with pytest.raises(UsageError, match=r"unknown layer 'layers\.9\.add'\. Did you mean 'layers\.2\.wide'"):
        effective_field_sampled(module, torch.rand(1, *IMAGE), "layers.9.add")
