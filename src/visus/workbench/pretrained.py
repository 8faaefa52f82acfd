"""A training that begins with weights that know something already: the extra's ImageNet weights, or a file of one's own.

This file knows when such weights are chosen, how pictures are read for them, and what is done before the first step. It must not know how the
steps are taken.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visus.data.batches import Part, batches_in_order
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.data.survey import Suited, Survey
from visus.errors import UsageError, WeightsError
from visus.evaluation.predictions import predict_logits
from visus.networks import pretrained, weights
from visus.networks.machine import Machine
from visus.training.events import FeaturesDone, HeadFitted
from visus.training.heads import fit_head, set_head
from visus.training.recipe import MANY_ITEMS, Recipe
from visus.units import write_number_of

SMALLEST_SIDE_PX = 128
LARGEST_SIDE_PX = pretrained.MADE_FOR_PX
FROZEN = "conv1, norm1, stage1, stage2, stage3, stage4, *depthwise*"
"""Layers of ``efficientnet_lite(0)`` that stay: the first four stages, and filters of single channels, few and slow to train on processors."""
FEATURES_BATCH = 64


class PretrainedChoice:
    """Whether a training begins with the extra's weights; asked by ``open_data`` when the headers of the pictures have been read.

    Left to itself it takes them for fewer than 20,000 training pictures from files with a short side of 128 px or more (the middle one), where
    the extra is installed. Pictures are then brought to a square whose side is the short side rounded up to a multiple of 32, at most 224 px.
    On photos of dogs and cats a head on fixed features had 90.8 % right at 96 px, 96.3 at 128, 97.9 at 160 and 99.1 at 224 (cross-validated),
    for a price that grows with the square of the side. The bound of 128 px was drawn after one folder of pictures of 100 px, which had to be
    enlarged, had been scored both ways (98.5 and 99.8 %), so it is not blind to that folder's test split.

    Args:
        wanted: True to take them where it is at all possible, None to decide.

    Attributes:
        note: what a person should know of the choice, when it was made; empty where there is nothing to say.
    """

    def __init__(self, wanted: bool | None = None) -> None:
        self.wanted, self.note = wanted, ""

    def __call__(self, seen: Survey) -> Suited | None:
        if not self.wanted:
            if seen.num_training >= MANY_ITEMS or seen.short_side_px < SMALLEST_SIDE_PX:
                return None
            if pretrained.find() is None:
                self.note = (
                    f"{write_number_of(seen.num_training, 'picture')} to learn from are few: weights that know pictures already would help. "
                    f"For them: {pretrained.INSTALL}"
                )
                return None
        return Suited(3, _size(seen), pretrained.OFFSET, pretrained.DIVISOR)


def _size(seen: Survey) -> tuple[int, int]:
    """Height and width for the pretrained network: what was asked for, else a square by the pictures' own short side."""
    if seen.wanted_size is not None:
        return seen.wanted_size[0], seen.wanted_size[1]
    side = min(LARGEST_SIDE_PX, max(SMALLEST_SIDE_PX, -(-seen.short_side_px // 32) * 32))
    return side, side


def choice_of(
    wanted: bool | None,
    *,
    network: object = None,
    file: object = None,
    channels: int | None = None,
    scale: str | None = None,
) -> PretrainedChoice | None:
    """The choice that is left where a person has said this much; None where the extra's weights are out of the question.

    Args:
        wanted: True for ``--pretrained``, False for ``--no-pretrained``, None where nothing was said.
        network: the network that was asked for; None for the default.
        file: other weights that were asked for.
        channels, scale: as for ``open_data``, None where open.

    Raises:
        UsageError: the extra's weights and something that cannot go with them, or the extra is not installed.
    """
    is_own = isinstance(network, str) and "".join(network.split()) in ("efficientnet_lite", pretrained.DESIGN)
    against = {
        f"are those of {pretrained.DESIGN}": network is not None and not is_own,
        "and other weights exclude each other": file is not None,
        "need colour (channels=3)": channels == 1,
        f"have a scaling of their own, so scale={scale} cannot be used": scale is not None,
    }
    reasons = [reason for reason, holds in against.items() if holds]
    if wanted is False or (wanted is None and (reasons or network is not None)):
        return None
    if reasons:
        raise UsageError(f"the pretrained weights {' and '.join(reasons)}. Leave one of the two out.")
    if wanted:
        pretrained.read()
    return PretrainedChoice(wanted)


@dataclass(frozen=True)
class Beginning:
    """The weights that a training begins with.

    Args:
        source: what they are, after "starts from".
        file: the file, where it is one of a person's own; None for the extra's.
        sha256: of the file.
        left_new: names of the head's tensors that are new, because the number of classes is another.
        open_settings: settings of the recipe that nobody decided, and that the fitted head may change.
        head_order: the classes here, in their order, where the file's last layer is used as it is and other programs may order such names
            differently; else empty.
    """

    source: str
    file: str | None
    sha256: str
    left_new: tuple[str, ...] = ()
    open_settings: tuple[str, ...] = ()
    head_order: tuple[str, ...] = ()

    @property
    def is_pretrained(self) -> bool:
        """Whether these are the extra's."""
        return self.file is None

    def sentences(self) -> list[str]:
        """What is said before the first step."""
        new = f"; {' and '.join(self.left_new)} are new, for another number of classes" if self.left_new else ""
        told = [f"starts from {self.source}{new}"]
        if self.head_order and not self.left_new:
            here, as_text = (", ".join(names[:4]) for names in (self.head_order, sorted(self.head_order)))
            told.append(
                f"the last layer is used as it is, in the order of the classes here: {here}, ...; torchvision and others sort names as text "
                f"({as_text}, ...), and outputs in another order would stand for the wrong classes"
            )
        return told

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``start.json``; ``from_json`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Beginning:
        """The inverse of ``to_json``."""
        names = (tuple(facts.get(name, ())) for name in ("left_new", "open_settings", "head_order"))
        return cls(facts["source"], facts["file"], facts["sha256"], *names)


def begin(module: nn.Module, file: str | Path | None = None, classes: Sequence[str] = ()) -> Beginning:
    """Give a module the weights that its training begins with, in place.

    Args:
        module: the network; for the extra's weights, ``efficientnet_lite(0)``.
        file: safetensors or a state dict; None for the extra's weights.
        classes: those of the data, in the order of the network's outputs.

    Raises:
        WeightsError: the file cannot be read, or layers do not fit; each is named.
        UsageError: the extra is not installed.
    """
    if file is None:
        left_new = weights.begin_with(module, pretrained.tensors_for(module))
        return Beginning(pretrained.SOURCE, None, pretrained.SHA256, left_new)
    path = Path(file).resolve()
    try:
        left_new = weights.begin_with(module, weights.read(path))
    except WeightsError as error:
        raise error.within(str(file)) if not error.where else error from None
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    order = tuple(classes) if list(classes) != sorted(classes) else ()
    return Beginning(f"the weights in {path.name}", str(path), digest, left_new, head_order=order)


def read_for(data: Data) -> bool:
    """Whether data was opened as the extra's weights need it: in colour, with their scaling."""
    return _is_scaled_so(data.preprocessing)


def beginning_of(data: Data, choice: PretrainedChoice | None) -> str:
    """What a training on opened data would begin with where nothing but the data is given, for a reader; with the choice's note.

    Args:
        data: opened with ``suit=choice``.
        choice: None where the extra's weights are out of the question.
    """
    if choice is not None and read_for(data):
        return f"visus train would begin with {pretrained.SOURCE} (--no-pretrained: a new network)."
    note = f" {choice.note}" if choice is not None and choice.note else ""
    return f"visus train would begin with a new network.{note}"


def suited_data(data: Data) -> Data:
    """Opened data, read in the way that the extra's weights need, at the size that it has.

    Raises:
        UsageError: these are no pictures of three channels with values from 0 to 255.
    """
    plan = data.preprocessing
    if _is_scaled_so(plan):
        return data
    if len(plan.size) != 2 or plan.channels != 3 or plan.dtype != "uint8":
        raise UsageError(
            f"the pretrained weights need colour pictures with values from 0 to 255, and these are {plan.noun}s with "
            f"{write_number_of(plan.channels, 'channel')} of {plan.dtype}. Train a new network: leave out --pretrained, or give --channels 3."
        )
    scaling = {"scale": "fixed", "offset": pretrained.OFFSET, "divisor": pretrained.DIVISOR}
    return dataclasses.replace(data, preprocessing=dataclasses.replace(plan, **scaling))  # type: ignore[arg-type]


def _is_scaled_so(plan: Preprocessing) -> bool:
    return plan.scale == "fixed" and (plan.offset, plan.divisor) == (pretrained.OFFSET, pretrained.DIVISOR)


def fit_new_head(
    module: nn.Module, data: Data, recipe: Recipe, machine: Machine, tell: Callable[[FeaturesDone | HeadFitted], None]
) -> float:
    """Fit the last linear layer on what the other layers say of each item, in place.

    Every training item is looked at once, and once mirrored where the training mirrors; no other layer changes.

    Args:
        module: where it is to be trained, on the machine's device.
        data: opened data.
        recipe: a settled recipe.
        machine: device and precision.
        tell: called with how it goes.

    Returns:
        Share of the validation items that it answers right; not a number where there are none.
    """
    found = weights.head_of(module)
    assert found is not None, "only a linear head is ever left new"
    began, head = time.perf_counter(), found[1]
    training, validation = data.split("train"), data.split("val")
    turns = (False, True) if (recipe.flip or "none") != "none" else (False,)
    features = _Features(module, head, machine, len(training) * len(turns) + len(validation), tell)
    views = torch.stack([features.of(training, data.preprocessing, is_turned=turned) for turned in turns])
    judged = None
    if len(validation):
        judged = features.of(validation, data.preprocessing, is_turned=False), torch.from_numpy(validation.labels)
    labels = torch.from_numpy(training.labels)
    balance = None
    if recipe.class_weights == "balanced":
        balance = len(labels) / (len(data.classes) * torch.bincount(labels, minlength=len(data.classes)).clamp_min(1))
    fitted = fit_head(views, labels, len(data.classes), judged, balance)
    set_head(head, fitted)
    tell(HeadFitted(len(turns), fitted.decay, time.perf_counter() - began))
    return fitted.val_accuracy


class _Features:
    """What the head of a network is given, for every item of a split, in evaluation mode; told as it goes."""

    def __init__(
        self, module: nn.Module, head: nn.Linear, machine: Machine, total: int, tell: Callable[[FeaturesDone], None]
    ) -> None:
        self.module, self.head, self.machine, self.total, self.tell = module, head, machine, total, tell
        self.done = 0

    def of(self, part: Part, preprocessing: Preprocessing, *, is_turned: bool) -> Tensor:
        """Features (items, width) in the order of the split."""
        kept: list[Tensor] = []

        def keep(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            kept.append(given[0].detach().float().cpu())

        hook = self.head.register_forward_pre_hook(keep)
        machine = self.machine
        try:
            predict_logits(
                self.module,
                self._counted(batches_in_order(part, preprocessing, FEATURES_BATCH), is_turned),
                device=machine.device,
                precision=machine.precision,
                channels_last=machine.channels_last,
            )
        finally:
            hook.remove()
        return torch.cat(kept).clone()

    def _counted(self, batches: Iterator[Tensor], is_turned: bool) -> Iterator[Tensor]:
        for batch in batches:
            yield batch.flip(-1) if is_turned else batch
            self.done += len(batch)
            self.tell(FeaturesDone(self.done, self.total))
