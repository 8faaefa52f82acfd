"""What a person names for a look -> one item, as it is stored, as it is scaled and as its file is; and a pool of items to measure over.

Shape letters: N items, C channels, * spatial axes. This file knows files, rows of arrays and splits. It must not know networks or pages.
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

from visus.data import pictures
from visus.data.batches import Part, random_stream
from visus.data.ledger import Ledger
from visus.data.opened import Data
from visus.data.preprocessing import Pixels, Preprocessing, measure_scale
from visus.data.samples import SPLITS
from visus.errors import PictureError, UsageError
from visus.examine.look_facts import LookedItem
from visus.units import rank_words, write_number_of, write_shape
from visus.workbench.items import ARRAY_SUFFIXES, ArrayItem, UnreadItem, find_items

Named = str | Path | Pixels | Tensor
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class Subject:
    """One item, ready for the network and for the page.

    Args:
        facts: what the page shows of it.
        scaled: (1, C, *) as the network reads it.
        preprocessing: how stored values became these; None where they were given as they are.
    """

    facts: LookedItem
    scaled: Tensor
    preprocessing: Preprocessing | None


@dataclass(frozen=True, eq=False)
class Pool:
    """Items to measure over: a split, or scaled items.

    Args:
        items: a split, or (N, C, *).
        preprocessing: how a split is scaled; None for scaled items.
        name: what they are called, such as ``the training split``.
    """

    items: Part | Tensor
    preprocessing: Preprocessing | None
    name: str

    def __len__(self) -> int:
        return len(self.items)

    def some(self, num_items: int) -> Part | Tensor:
        """So many of them, drawn with a fixed seed, in their order; all where there are no more."""
        if num_items >= len(self):
            return self.items
        drawn = torch.randperm(len(self), generator=random_stream(0, "look"))[:num_items].sort().values
        if isinstance(self.items, Tensor):
            return self.items[drawn]
        places = drawn.numpy()
        part = self.items
        names = tuple(part.items[place] for place in places)
        return dataclasses.replace(part, indices=part.indices[places], labels=part.labels[places], items=names)

    def scaled(self, num_items: int) -> Tensor:
        """So many of them, (N, C, *), as the network reads them."""
        found = self.some(num_items)
        if isinstance(found, Tensor):
            return found
        assert self.preprocessing is not None, "a split comes with its preprocessing"
        return self.preprocessing.scaled(found.rows(np.arange(len(found))))


def item_of_tensor(values: Tensor | Pixels, name: str = "the item given") -> Subject:
    """An item that is scaled already, (C, *).

    Raises:
        PictureError: a value is not finite.
        UsageError: it has no spatial axis, or more than three.
    """
    given = torch.as_tensor(values).detach().float().cpu()
    if not 1 < given.dim() < 5:
        raise UsageError(f"one item of (channels, *spatial) is needed, and this has the shape {write_shape(given.shape)}.")
    if not bool(torch.isfinite(given).all()):
        raise PictureError("a value is not a finite number. Repair the item, or give another one.", where=name)
    plain = given.numpy()
    noun = rank_words(given.dim() - 1).item
    return Subject(LookedItem(name, noun, plain, float(plain.min()), float(plain.max())), given[None], None)


def find_item(named: Named, preprocessing: Preprocessing, data: Data | None, *, own_scale: bool = False) -> Subject:
    """The item that is meant: a file, one row of an array file (``FILE:17``), one of a split (``test:17``), or an array of stored values.

    Args:
        named: what a person said.
        preprocessing: what is done to every item.
        data: the data whose splits can be named; None where there is none.
        own_scale: scale the item by its own mean and deviation.

    Raises:
        PictureError: the file cannot be read.
        UsageError: there is no such file, row or item.
    """
    if isinstance(named, (np.ndarray, Tensor)):
        row = np.asarray(named)
        row = row[0] if row.ndim == len(preprocessing.size) + 2 and len(row) == 1 else row
        return _subject("the item given", preprocessing.fit_array(row[None])[0], preprocessing, own_scale=own_scale)
    text = str(named)
    found = re.fullmatch(r"(.+):(\d+)", text)
    if found and not Path(text).exists():
        source, index = found[1], int(found[2])
        if source in SPLITS:
            return _of_split(data, source, index, preprocessing, own_scale=own_scale)
        return _of_array_file(source, index, preprocessing, own_scale=own_scale)
    if Path(text).suffix.lower() in ARRAY_SUFFIXES:
        return _of_array_file(text, None, preprocessing, own_scale=own_scale)
    return _of_picture(text, preprocessing, own_scale=own_scale)


def _of_split(data: Data | None, split: str, index: int, preprocessing: Preprocessing, *, own_scale: bool) -> Subject:
    name = f"{split}:{index}"
    if data is None:
        raise UsageError("there is no data of which this could be an item. Give it with --data, or name a file.", where=name)
    part = data.split(split)
    if index >= len(part):
        raise UsageError(
            f"the {split} split has {write_number_of(len(part), 'item')}, counted from 0, and number {index} was asked for.",
            where=name,
        )
    row = part.rows(np.array([index]))[0].numpy()
    made = _subject(f"{name} ({part.items[index]})", row, preprocessing, own_scale=own_scale)
    truth = data.classes[int(part.labels[index])]
    original, size = _original(data.samples.root / part.items[index], preprocessing)
    sentences = (*_resized(size, preprocessing), *made.facts.sentences)
    facts = dataclasses.replace(made.facts, truth=truth, original=original, sentences=sentences)
    return dataclasses.replace(made, facts=facts)


def _original(path: Path, preprocessing: Preprocessing) -> tuple[npt.NDArray[np.uint8] | None, tuple[int, ...] | None]:
    """The picture as its file is, where the item is a file, with its size."""
    if preprocessing.kind != "pictures" or not path.is_file():
        return None, None
    try:
        pixels = pictures.decode(path).pixels
    except PictureError:
        return None, None
    return _three_channels(pixels), pixels.shape[1:]


def _three_channels(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(height, width, 3) of a decoded picture, (C, height, width) with one channel or three."""
    last = pixels.transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(last, (*last.shape[:2], 3)))


def _resized(size: tuple[int, ...] | None, preprocessing: Preprocessing) -> tuple[str, ...]:
    if size is None or tuple(size) == tuple(preprocessing.size):
        return ()
    return (f"Brought from {write_shape(size)} to {write_shape(preprocessing.size)} px by the rule {preprocessing.rule}.",)


def _of_array_file(text: str, index: int | None, preprocessing: Preprocessing, *, own_scale: bool) -> Subject:
    items = list(find_items([text], preprocessing, Ledger()))
    if len(items) == 1 and isinstance(items[0], UnreadItem):
        raise PictureError(items[0].problem, where=items[0].name)
    if index is None and len(items) > 1:
        raise UsageError(
            f"this file holds {write_number_of(len(items), 'item')}: say which, from {text}:0 to {text}:{len(items) - 1}.",
            where=text,
        )
    if index is not None and index >= len(items):
        raise UsageError(
            f"this file holds {write_number_of(len(items), 'item')}, counted from 0, and number {index} was asked for.",
            where=text,
        )
    item = items[index or 0]
    if not isinstance(item, ArrayItem):
        raise UsageError("this is no array file, so it has no numbered rows. Name the file alone.", where=text)
    try:
        row = preprocessing.fit_array(item.row[None])[0]
    except PictureError as error:
        raise error.within(item.name) from error
    return _subject(item.name, row, preprocessing, own_scale=own_scale)


def _of_picture(text: str, preprocessing: Preprocessing, *, own_scale: bool) -> Subject:
    path = Path(text)
    if path.is_dir():
        raise PictureError("this is a folder, and one item is looked at. Name one of its files.", where=text)
    if not path.is_file():
        raise PictureError(
            "there is no such file. Name a picture, FILE:17 for a row of an array file, or test:17.", where=text
        )
    if preprocessing.kind == "array" and not preprocessing.is_picture_like:
        raise PictureError(
            f"this network reads {preprocessing.noun}s of {write_shape(preprocessing.input_shape)} from NPZ or NPY files, "
            f"and this is {'a picture' if path.suffix.lower() in _PICTURES else 'neither'}.",
            where=text,
        )
    ledger = Ledger()
    row = preprocessing.read_picture(path, ledger, name=path.name)
    made = _subject(path.name, row, preprocessing, own_scale=own_scale)
    original, _ = _original(path, dataclasses.replace(preprocessing, kind="pictures"))
    facts = dataclasses.replace(made.facts, original=original, sentences=(*ledger.sentences(), *made.facts.sentences))
    return dataclasses.replace(made, facts=facts)


def _subject(name: str, row: Pixels, preprocessing: Preprocessing, *, own_scale: bool) -> Subject:
    """An item of stored values, (C, *)."""
    plan = preprocessing
    if own_scale:
        offset, divisor = measure_scale(row[None], "mean-deviation")
        plan = dataclasses.replace(preprocessing, offset=offset, divisor=divisor)
    scaled = plan.scaled(torch.from_numpy(np.ascontiguousarray(row))[None])
    stored = plan.stored_values(scaled)[0].numpy()
    lowest, highest = (0.0, 255.0) if plan.dtype == "uint8" else (float(stored.min()), float(stored.max()))
    return Subject(LookedItem(name, plan.noun, stored, lowest, highest, sentences=_scaling(plan, own_scale)), scaled, plan)


def _scaling(plan: Preprocessing, own_scale: bool) -> tuple[str, ...]:
    def listed(values: Any) -> str:
        return ", ".join(f"{value:.4g}" for value in values)

    whose = f"of this {plan.noun} itself" if own_scale else "of the training split"
    if plan.scale == "min-max":
        sentence = f"Scaled so that the lowest value {whose} ({listed(plan.offset)}) is 0, and the highest 1."
    elif plan.scale == "fixed" and not own_scale:
        sentence = f"Scaled as the network's first weights were trained: {listed(plan.offset)} is taken away, the rest divided by {listed(plan.divisor)}."
    else:
        sentence = f"Scaled: the mean {whose} ({listed(plan.offset)}) is taken away, the rest divided by its deviation ({listed(plan.divisor)})."
    order = () if plan.shuffle_seed is None else ("All positions are in one fixed random order, as in the training.",)
    return (sentence, *order)
