"""Augmentation of whole batches on their device: a tuple of transforms, for signals, images and volumes; one file for each kind of change."""

from __future__ import annotations

from visus.data.augment.augmentation import SETTINGS, TRANSFORMS, Augmentation, UnitScale
from visus.data.augment.cutout import Cutout, cut_out
from visus.data.augment.mixing import MIXINGS, Pairs
from visus.data.augment.moves import Flip, Shift, Zoom, mirror, mirror_and_shift, zoom_and_shift
from visus.data.augment.random_numbers import BatchRandom
from visus.data.augment.resizing import shrink
from visus.data.augment.transform import SampleFacts, Transform, Values

__all__ = [
    "MIXINGS",
    "SETTINGS",
    "TRANSFORMS",
    "Augmentation",
    "BatchRandom",
    "Cutout",
    "Flip",
    "Pairs",
    "SampleFacts",
    "Shift",
    "Transform",
    "UnitScale",
    "Values",
    "Zoom",
    "cut_out",
    "mirror",
    "mirror_and_shift",
    "shrink",
    "zoom_and_shift",
]
