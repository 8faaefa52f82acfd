"""Color jitter: what each part keeps, and PIL's formulas as the oracle."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from visus.data.augment import BatchRandom, SampleFacts
from visus.data.augment.color import ColorJitter, recolor
from visus.data.batches import random_stream

ONE = torch.ones(1)
LUMA = torch.tensor([0.299, 0.587, 0.114])


def image(seed: int = 0) -> torch.Tensor:
    """A color image (1, 3, 9, 7) in steps of 1/255."""
    return torch.randint(0, 256, (1, 3, 9, 7), generator=random_stream(seed)).float() / 255


@given(st.floats(0.3, 1.0), st.sampled_from(["Brightness", "Color"]))
def test_brightness_and_saturation_are_pillows(factor: float, kind: str) -> None:
    batch = image()
    changed = ONE * factor
    found = recolor(batch, changed, ONE, ONE) if kind == "Brightness" else recolor(batch, ONE, ONE, changed)
    pixels = Image.fromarray((batch[0] * 255).round().byte().permute(1, 2, 0).numpy())
    expected = torch.from_numpy(np.array(getattr(ImageEnhance, kind)(pixels).enhance(factor))).permute(2, 0, 1)
    assert float((found[0] * 255 - expected).abs().max()) < 1.6  # Pillow rounds twice


@given(st.floats(0.2, 1.8))
def test_contrast_keeps_the_mean_luma_and_scales_the_distances_from_it(factor: float) -> None:
    batch = image()
    found = recolor(batch, ONE, ONE * factor, ONE)
    mean = (batch[0] * LUMA[:, None, None]).sum(0).mean()
    assert torch.allclose(found - mean, (batch - mean) * factor, atol=1e-5)


@given(st.floats(-3, 3), st.floats(0.0, 2.0))
def test_hue_and_saturation_keep_the_luma_and_gray_stays_gray(angle: float, factor: float) -> None:
    batch, turn = image(), torch.tensor([angle])
    found = recolor(batch, ONE, ONE, ONE * factor, turn)
    assert torch.allclose((found[0] * LUMA[:, None, None]).sum(0), (batch[0] * LUMA[:, None, None]).sum(0), atol=1e-4)
    gray = torch.rand(1, 1, 4, 4, generator=random_stream(1)).expand(1, 3, 4, 4)
    assert torch.allclose(recolor(gray, ONE, ONE, ONE * factor, turn), gray, atol=1e-4)


def test_a_turned_hue_turns_back_and_a_whole_turn_is_none() -> None:
    batch = image()
    there = recolor(batch, ONE, ONE, ONE, torch.tensor([0.7]))
    assert float((there - batch).abs().max()) > 0.1
    assert torch.allclose(recolor(there, ONE, ONE, ONE, torch.tensor([-0.7])), batch, atol=1e-4)
    assert torch.allclose(recolor(batch, ONE, ONE, ONE, torch.tensor([2 * math.pi])), batch, atol=1e-4)


def test_gray_images_and_volumes_have_brightness_and_contrast_alone() -> None:
    batch = torch.rand(2, 1, 3, 4, 5, generator=random_stream(0))
    other = recolor(batch, torch.ones(2), torch.ones(2), torch.zeros(2), torch.ones(2))
    assert torch.allclose(other, batch)
    darker = recolor(batch, torch.full((2,), 0.5), torch.ones(2), torch.ones(2))
    assert torch.allclose(darker, batch / 2)


def test_changes_stay_within_the_strength_and_the_range_of_eight_bits() -> None:
    jitter = ColorJitter(0.4)
    (change,) = jitter.draw(BatchRandom(random_stream(0), 3000, slice(None)), (4, 4))
    assert change.shape == (3000, 4)
    assert 0.39 < float(change.abs().max()) <= 0.4
    assert abs(float(change.mean())) < 0.02
    batch = image()
    bright = torch.tensor([[0.4, 0.4, 0.4, 0.0]])
    assert float(jitter.apply(batch, (bright,)).max()) == 1.0
    wide = ColorJitter.of({"color": 0.4}, SampleFacts((9, 7), is_8_bit=False))
    assert wide is not None
    assert float(wide.apply(batch, (bright,)).max()) > 1.0
