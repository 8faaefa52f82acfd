"""Test-time augmentation and calibration in NumPy are those of the run, which are computed by PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor, nn

from visus.data.preprocessing import Pixels, Preprocessing
from visus.evaluation import calibration, test_time_augmentation
from visus.evaluation.predictions import predict_logits
from visus.ship.answers import Answerer, shuffled, unsure, views
from visus.ship.manifest import Manifest
from visus.ship.tasks.single_label import calibrated

KINDS = ("none", "flip", "shift", "flip+shift")


@st.composite
def samples(draw: Any) -> Pixels:
    """Stored samples of one to three axes, each from 1 to 70 long."""
    size = draw(st.lists(st.integers(1, 70), min_size=1, max_size=2)) + draw(st.sampled_from([[], [3]]))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 2)), *size)
    return np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, shape, dtype=np.uint8)


@given(samples(), st.sampled_from(KINDS))
def test_views_are_those_of_the_evaluation(batch: Pixels, kind: str) -> None:
    found = list(views(batch, kind))
    expected = list(test_time_augmentation.views(torch.from_numpy(batch).double(), kind))
    assert [weight for _, weight in found] == [weight for _, weight in expected]
    assert sum(weight for _, weight in found) == 1
    for (view, _), (other, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(view, other.numpy())


def logits(largest: float) -> Any:
    """Logits of one to seven classes."""
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 7))
    values = st.floats(-largest, largest, width=32)
    return shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=values))


@given(logits(1.5))
def test_unsure_predictions_are_those_of_the_evaluation(values: Any) -> None:
    exact = torch.from_numpy(values).double().softmax(1)
    if values.shape[1] > 1:  # at the threshold itself, rounding decides
        highest = exact.topk(2, 1).values
        near = (highest[:, 0] - highest[:, 1] - test_time_augmentation.SURE).abs() < 1e-5
        values = values[~near.numpy()]
    np.testing.assert_array_equal(unsure(values), test_time_augmentation.unsure(torch.from_numpy(values)).numpy())


@given(logits(60), st.floats(0.05, 20), st.sampled_from([0.0, 0.1, 0.2, 0.9]))
def test_probabilities_are_those_of_the_calibrator(values: Any, temperature: float, smoothing: float) -> None:
    expected = calibration.Calibrator(temperature, smoothing).exact(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(calibrated(values, temperature, smoothing), expected, rtol=1e-12, atol=1e-15)


@given(samples(), st.integers(0, 5))
def test_positions_are_shuffled_as_in_the_run(batch: Pixels, seed: int) -> None:
    plain = Preprocessing(
        "array", batch.shape[1], batch.shape[2:], "squash", "uint8", "fixed", (0.0,) * batch.shape[1], (1.0,) * 2, seed, None
    )
    np.testing.assert_array_equal(shuffled(batch, plain), plain.shuffled(torch.from_numpy(batch)).numpy())


class Slopes(nn.Module):
    """A network whose answer depends on the position, so that every view differs."""

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, x.shape[-1], dtype=x.dtype)
        mean = (x * ramp).flatten(1).mean(1)
        return torch.stack((mean, -mean, mean * 0.5), 1)


class Computed:
    """An engine that computes ``Slopes`` with PyTorch."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing, self.sizes = preprocessing, list[int]()

    def logits(self, batch: Pixels) -> Any:
        self.sizes.append(len(batch))
        return Slopes()(self.preprocessing.scale_values(torch.from_numpy(batch))).numpy()


@pytest.mark.parametrize("tta", test_time_augmentation.VIEWS)
@pytest.mark.parametrize("max_batch", [1, 7, 64])
def test_a_bundle_averages_the_views_of_its_run(tta: str, max_batch: int) -> None:
    preprocessing = Preprocessing("array", 1, (9, 40), "squash", "uint8", "fixed", (100.0,), (20.0,), None, None)
    manifest = Manifest("small", "0", ("a", "b", "c"), preprocessing, 1.7, 0.1, tta, (), {})
    batch = np.random.default_rng(0).integers(0, 256, (30, 1, 9, 40), dtype=np.uint8)
    engine = Computed(preprocessing)
    found = Answerer(engine, manifest, max_batch)(batch)
    logits = predict_logits(Slopes(), [preprocessing.scaled(torch.from_numpy(batch))], tta=tta)
    expected = calibration.Calibrator(1.7, 0.1).exact(logits).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert max(engine.sizes) <= max_batch
    if tta.startswith("unsure:"):
        assert test_time_augmentation.unsure(predict_logits(Slopes(), [preprocessing.scaled(torch.from_numpy(batch))])).any()
