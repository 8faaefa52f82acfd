"""Predictions: every sample once and in order, the module left as it was found."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visus.errors import DataError, UsageError
from visus.evaluation.calibration import UNCALIBRATED
from visus.evaluation.predictions import predict_logits


def small_network(num_axes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[num_axes]
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[num_axes]
    network = nn.Sequential(conv(2, 8, 3), norm(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(2))
    network = nn.Sequential(network, Mean(), nn.Linear(8, 4))
    network(torch.randn(16, 2, *[6] * num_axes))  # gives the normalization some statistics
    return network


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=-1)


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_every_sample_is_predicted_once_whatever_its_batch(lengths: list[int]) -> None:
    network, samples = small_network(), torch.randn(sum(lengths), 2, 6, 6, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([predict_logits(network, [samples[place : place + 1]]) for place in range(len(samples))])
    together = predict_logits(network, samples.split(lengths))
    assert together.shape == (sum(lengths), 4)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_axes", [1, 2, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision_and_layout_change_the_logits_by_rounding_only(num_axes: int, precision: str) -> None:
    network, batch = small_network(num_axes), torch.randn(3, 2, *[6] * num_axes)
    network.eval()
    with torch.no_grad():
        plain = network(batch)
    logits = predict_logits(network, [batch], precision=precision, channels_last=True)
    assert (logits.dtype, logits.device.type) == (torch.float32, "cpu")
    assert not logits.is_inference()
    assert not logits.requires_grad
    torch.testing.assert_close(logits, plain, rtol=0, atol=1e-5 if precision == "float32" else 0.03)


def test_each_part_returns_to_its_own_mode_even_after_an_error() -> None:
    network = small_network()
    network[0][1].eval()
    modes = [part.training for part in network.modules()]
    predict_logits(network, [torch.randn(2, 2, 6, 6)])
    assert [part.training for part in network.modules()] == modes
    with pytest.raises(UsageError) as caught:
        predict_logits(network, [torch.randn(2, 99, 6, 6)])
    assert str(caught.value).startswith("the network stopped on a batch of 2 x 99 x 6 x 6: RuntimeError: Given groups=1")
    assert [part.training for part in network.modules()] == modes


def test_predicting_leaves_weights_and_statistics_alone() -> None:
    network = small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    predict_logits(network, [torch.randn(4, 2, 6, 6)], precision="bfloat16")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_batches_are_made_with_gradients_as_the_caller_has_them() -> None:
    seen = []

    def batches() -> list[Tensor]:
        for _ in range(2):
            seen.append(torch.is_inference_mode_enabled())
            yield torch.randn(1, 2, 6, 6)

    predict_logits(small_network(), batches())
    assert seen == [False, False]


def test_probabilities_are_the_softmax() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 0.0]])
    assert UNCALIBRATED(logits).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_what_cannot_be_predicted_is_refused_in_words() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Changing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.new_zeros(len(x), len(x))

    batch = torch.zeros(3, 2, 4, 4)
    cases = [
        (nn.Flatten(), [], DataError, "there is nothing to predict: no samples were given."),
        (Pair(), [batch], UsageError, "the network returned a tuple, and a tensor of shape (samples, classes) is needed."),
        (nn.ReLU(), [batch], UsageError, "the network returned a tensor of shape (3, 2, 4, 4) for a batch of shape (3, 2, 4, 4), and (3, classes) is needed."),
        (nn.Flatten(0, 2), [batch], UsageError, "the network returned a tensor of shape (24, 4) for a batch of shape (3, 2, 4, 4), and (3, classes) is needed."),
        (Changing(), [batch, batch[:2]], UsageError, "the network returned a tensor of shape (2, 2) for a batch of shape (2, 2, 4, 4), and (2, 3) is needed."),
    ]  # fmt: skip
    for module, batches, kind, text in cases:
        with pytest.raises(kind) as caught:
            predict_logits(module, batches)
        assert str(caught.value) == text
