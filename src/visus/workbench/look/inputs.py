"""The sample of a look: a file, a row of an array file, a sample of a split or an array; and a pool of samples to measure over.

Shape letters: N samples, C channels, * spatial axes.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visus.data.batches import Part, random_stream
from visus.data.contact_sheet import label_caption
from visus.data.images import decode as images
from visus.data.ledger import Ledger
from visus.data.opened import Data
from visus.data.preprocessing import Pixels, Preprocessing, measure_scale
from visus.data.samples import SPLITS
from visus.errors import ImageError, UsageError
from visus.pages.look.facts import LookedSample
from visus.units import rank_words, write_number_of, write_shape
from visus.workbench.runs.predict_inputs import ARRAY_SUFFIXES, ArraySample, UnreadSample, find_samples

NamedSample = str | Path | Pixels | Tensor
_IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class LookItem:
    """One sample, ready for the network and for the page.

    Args:
        facts: the facts shown on the page.
        scaled: (1, C, *) as the network reads it.
        preprocessing: the preprocessing of the stored values; None if the values were scaled already.
    """

    facts: LookedSample
    scaled: Tensor
    preprocessing: Preprocessing | None


@dataclass(frozen=True, eq=False)
class SamplePool:
    """Samples to measure over: a split, or scaled samples.

    Args:
        samples: a split, or (N, C, *).
        preprocessing: the preprocessing of a split; None for scaled samples.
        name: display name, such as ``the training split``.
    """

    samples: Part | Tensor
    preprocessing: Preprocessing | None
    name: str

    def __len__(self) -> int:
        return len(self.samples)

    def some(self, num_samples: int) -> Part | Tensor:
        """A subset of this size, drawn with a fixed seed and in order; all samples if there are fewer."""
        if num_samples >= len(self):
            return self.samples
        drawn = torch.randperm(len(self), generator=random_stream(0, "look"))[:num_samples].sort().values
        if isinstance(self.samples, Tensor):
            return self.samples[drawn]
        places = drawn.numpy()
        part = self.samples
        names = tuple(part.names[place] for place in places)
        return dataclasses.replace(part, indices=part.indices[places], labels=part.labels[places], names=names)

    def scaled(self, num_samples: int) -> Tensor:
        """A subset of this size as scaled samples (N, C, *)."""
        found = self.some(num_samples)
        if isinstance(found, Tensor):
            return found
        assert self.preprocessing is not None, "a split needs its preprocessing"
        return self.preprocessing.scaled(found.rows(np.arange(len(found))))


def sample_of_tensor(values: Tensor | Pixels, name: str = "the sample given") -> LookItem:
    """A sample from scaled values (C, *).

    Raises:
        ImageError: a value is not finite.
        UsageError: it has no spatial axis, or more than three.
    """
    given = torch.as_tensor(values).detach().float().cpu()
    if not 1 < given.dim() < 5:
        raise UsageError(f"one sample of (channels, *spatial) is needed, and this has the shape {write_shape(given.shape)}.")
    if not bool(torch.isfinite(given).all()):
        raise ImageError("a value is not a finite number. Repair the sample, or give another one.", where=name)
    plain = given.numpy()
    noun = rank_words(given.dim() - 1).sample
    return LookItem(LookedSample(name, noun, plain, float(plain.min()), float(plain.max())), given[None], None)


def find_sample(named: NamedSample, preprocessing: Preprocessing, data: Data | None, *, own_scale: bool = False) -> LookItem:
    """Find a sample by name: a file, one row of an array file (``FILE:17``), one of a split (``test:17``), or an array of
    stored values.

    Args:
        named: the name of the sample, or an array.
        preprocessing: the preprocessing of every sample.
        data: data whose splits can be named; None if there is none.
        own_scale: scale the sample by its own mean and standard deviation.

    Raises:
        ImageError: the file cannot be read.
        UsageError: there is no such file, row or sample.
    """
    if isinstance(named, (np.ndarray, Tensor)):
        row = np.asarray(named)
        row = row[0] if row.ndim == len(preprocessing.size) + 2 and len(row) == 1 else row
        return _item("the sample given", preprocessing.fit_array(row[None])[0], preprocessing, own_scale=own_scale)
    text = str(named)
    found = re.fullmatch(r"(.+):(\d+)", text)
    if found and not Path(text).exists():
        source, index = found[1], int(found[2])
        if source in SPLITS:
            return _of_split(data, source, index, preprocessing, own_scale=own_scale)
        return _of_array_file(source, index, preprocessing, own_scale=own_scale)
    if Path(text).suffix.lower() in ARRAY_SUFFIXES:
        return _of_array_file(text, None, preprocessing, own_scale=own_scale)
    return _of_image(text, preprocessing, own_scale=own_scale)


def _of_split(data: Data | None, split: str, index: int, preprocessing: Preprocessing, *, own_scale: bool) -> LookItem:
    name = f"{split}:{index}"
    if data is None:
        raise UsageError("a sample of a split needs data. Give the data with --data, or give a file.", where=name)
    part = data.split(split)
    if index >= len(part):
        raise UsageError(
            f"the {split} split has {write_number_of(len(part), 'sample')}, counted from 0, and number {index} was requested.",
            where=name,
        )
    row = part.rows(np.array([index]))[0].numpy()
    made = _item(f"{name} ({part.names[index]})", row, preprocessing, own_scale=own_scale)
    truth = label_caption(part.labels[index], data.task, data.classes)
    original, size = _original(data.samples.root / part.names[index], preprocessing)
    sentences = (*_resized(size, preprocessing), *made.facts.sentences)
    facts = dataclasses.replace(made.facts, truth=truth, original=original, sentences=sentences)
    return dataclasses.replace(made, facts=facts)


def _original(path: Path, preprocessing: Preprocessing) -> tuple[npt.NDArray[np.uint8] | None, tuple[int, ...] | None]:
    """The image as its file is, where the sample is a file, with its size."""
    if preprocessing.kind != "images" or not path.is_file():
        return None, None
    try:
        pixels = images.decode(path).pixels
    except ImageError:
        return None, None
    return _three_channels(pixels), pixels.shape[1:]


def _three_channels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(height, width, 3) of a decoded image, (C, height, width) with one channel or three."""
    last = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(last, (*last.shape[:2], 3)))


def _resized(size: tuple[int, ...] | None, preprocessing: Preprocessing) -> tuple[str, ...]:
    if size is None or tuple(size) == tuple(preprocessing.size):
        return ()
    return (
        f"Brought from {write_shape(size)} to {write_shape(preprocessing.size)} px with the resize mode {preprocessing.resize_mode}.",
    )


def _of_array_file(text: str, index: int | None, preprocessing: Preprocessing, *, own_scale: bool) -> LookItem:
    samples = list(find_samples([text], preprocessing, Ledger()))
    if len(samples) == 1 and isinstance(samples[0], UnreadSample):
        raise ImageError(samples[0].problem, where=samples[0].name)
    if index is None and len(samples) > 1:
        raise UsageError(
            f"this file holds {write_number_of(len(samples), 'sample')}: say which, from {text}:0 to {text}:{len(samples) - 1}.",
            where=text,
        )
    if index is not None and index >= len(samples):
        raise UsageError(
            f"this file holds {write_number_of(len(samples), 'sample')}, counted from 0, and number {index} was requested.",
            where=text,
        )
    sample = samples[index or 0]
    if not isinstance(sample, ArraySample):
        raise UsageError(
            "this is not an array file, so it has no numbered rows. Give the file without a number.", where=text
        )
    try:
        row = preprocessing.fit_array(sample.row[None])[0]
    except ImageError as error:
        raise error.within(sample.name) from error
    return _item(sample.name, row, preprocessing, own_scale=own_scale)


def _of_image(text: str, preprocessing: Preprocessing, *, own_scale: bool) -> LookItem:
    path = Path(text)
    if path.is_dir():
        raise ImageError("this is a folder, and a look needs one sample. Give one of its files.", where=text)
    if not path.is_file():
        raise ImageError("there is no such file. Name an image, FILE:17 for a row of an array file, or test:17.", where=text)
    if preprocessing.kind == "array" and not preprocessing.is_image_like:
        raise ImageError(
            f"this network reads {preprocessing.noun}s of {write_shape(preprocessing.input_shape)} from NPZ or NPY files, "
            f"and this is {'an image' if path.suffix.lower() in _IMAGES else 'neither'}.",
            where=text,
        )
    ledger = Ledger()
    row = preprocessing.read_image(path, ledger, name=path.name)
    made = _item(path.name, row, preprocessing, own_scale=own_scale)
    original, _ = _original(path, dataclasses.replace(preprocessing, kind="images"))
    facts = dataclasses.replace(made.facts, original=original, sentences=(*ledger.sentences(), *made.facts.sentences))
    return dataclasses.replace(made, facts=facts)


def _item(name: str, row: Pixels, preprocessing: Preprocessing, *, own_scale: bool) -> LookItem:
    """A sample of stored values, (C, *)."""
    plan = preprocessing
    if own_scale:
        offset, divisor = measure_scale(row[None], "mean-deviation")
        plan = dataclasses.replace(preprocessing, offset=offset, divisor=divisor)
    scaled = plan.scaled(torch.from_numpy(np.ascontiguousarray(row))[None])
    stored = plan.stored_values(scaled)[0].numpy()
    lowest, highest = (0.0, 255.0) if plan.dtype == "uint8" else (float(stored.min()), float(stored.max()))
    return LookItem(
        LookedSample(name, plan.noun, stored, lowest, highest, sentences=_scaling(plan, own_scale)), scaled, plan
    )


def _scaling(plan: Preprocessing, own_scale: bool) -> tuple[str, ...]:
    def listed(values: Any) -> str:
        return ", ".join(f"{value:.4g}" for value in values)

    whose = f"of this {plan.noun} itself" if own_scale else "of the training set"
    if plan.normalize == "min-max":
        sentence = f"Values are normalized: the minimum {whose} ({listed(plan.offset)}) becomes 0, and the maximum 1."
    elif plan.normalize == "fixed" and not own_scale:
        sentence = f"Values are normalized like the training data of the pretrained weights: (value - {listed(plan.offset)}) / {listed(plan.divisor)}."
    else:
        sentence = f"Values are normalized: (value - {listed(plan.offset)}) / {listed(plan.divisor)}, by the mean and the standard deviation {whose}."
    order = () if plan.shuffle_seed is None else ("All positions are in one fixed random order, as in the training.",)
    return (sentence, *order)
