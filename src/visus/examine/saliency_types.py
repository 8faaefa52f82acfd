"""What a saliency map explains, a class or a unit, and the value of a map: what both methods and checks share.

Shape letters: N samples, C channels, * the spatial axes of the input. This file knows scores, maps and boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import UsageError
from visus.examine.layer_calls import Array, Box, TracedFields, channel_in, output_of, position_in
from visus.examine.layer_outputs import all_tensors, first_tensor


@dataclass(frozen=True)
class Unit:
    """One unit of a layer.

    Args:
        layer: the layer's path.
        channel: from 0.
        position: its place in the layer's map; None for the middle.
    """

    layer: str
    channel: int
    position: tuple[int, ...] | None = None


Target = int | Sequence[int] | Unit | None
"""What is explained: a class, a class for each sample, a unit, or, where it is None, the class that the module gives to each sample."""


@dataclass(frozen=True, eq=False)
class Saliency:
    """How much each pixel mattered to what is explained.

    Args:
        method: ``gradient``, ``Grad-CAM``, ``integrated gradients`` or ``occlusion``.
        target: what was explained; a class for each sample, or a unit with its position.
        scores: (N,) what the module said: the class's output before any softmax, or the unit's value.
        map: (N, *) one number for each pixel. The channels' largest size for gradients, their sum for the others; negative
            where a pixel spoke against it (never for gradients and Grad-CAM).
        values: (N, C, *) with signs; None for Grad-CAM, which knows no channels of the input.
        layer: the layer that Grad-CAM looked at; empty for the others.
        reason: a sentence why this layer; empty where it was asked for.
        coarse: (N, *) Grad-CAM's map as large as its layer's; None for the others.
        spilled: share of the map that lay outside what the unit reads before it was cut off there; 0 where nothing was cut.
        gap: for integrated gradients, (N,) how far the sum of the values is from the change of the score, which it should equal.
        sights: what the layers see; traced when it is first asked for.
        notes: what a reader must know: where cells were placed in another way than at the centers of their fields, which output was read.
    """

    method: str
    target: tuple[int, ...] | Unit
    scores: Array
    map: Array
    values: Array | None
    sights: TracedFields
    layer: str = ""
    reason: str = ""
    coarse: Array | None = None
    spilled: float = 0.0
    gap: Array | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def box(self) -> Box | None:
        """The pixels that the unit really reads, or that the module's last layer reads; None where it reads none."""
        return box_of(self.sights, self.target)

    @property
    def outside_box(self) -> float:
        """Share of the map that lies outside ``box``: exactly 0, or the map shows what its unit cannot have seen."""
        return outside_share(self.map, self.box)


def outside_share(maps: Array, box: Box | None) -> float:
    """Share of the absolute values of maps (N, *) that lies outside a box; 0 for maps of zeros.

    >>> outside_share(np.array([[1.0, 1.0, 2.0]]), ((0, 1),))
    0.5
    """
    sizes = np.abs(np.asarray(maps, dtype=np.float64))
    total = float(sizes.sum())
    if not total:
        return 0.0
    outside = np.ones(sizes.shape[1:], dtype=bool)
    if box is not None:
        outside[tuple(slice(first, last + 1) for first, last in box)] = False
    return float(sizes[:, outside].sum()) / total


def box_of(sights: TracedFields, target: tuple[int, ...] | Unit) -> Box | None:
    """What a unit reads; for classes, what the last layer reads."""
    if isinstance(target, Unit):
        row = next((row for row in sights.account.rows if row.path == target.layer), None)
        shape = row.output_shape if row is not None else ()
        position = target.position or ()
        spatial = shape[1:] if len(shape) == len(position) + 1 else ()
        return sights.box(target.layer, position, spatial)
    last = [row for row in sights.account.rows if row.fields][-1]
    return sights.box(last.path, (), ())


def class_scores(output: Any) -> tuple[Tensor | None, str]:
    """The scores of classes in a module's output: its first tensor of shape (N, classes), and a sentence where there is more than one tensor.

    >>> class_scores((torch.zeros(2, 8, 4, 4), torch.zeros(2, 3)))[1]
    'The module returns 2 tensors; its classes are read from number 2, the first of shape (samples, classes).'
    """
    found = list(all_tensors(output))
    place = next((place for place, each in enumerate(found) if each.dim() == 2), None)
    if place is None:
        return None, ""
    note = f"The module returns {len(found)} tensors; its classes are read from number {place + 1}, the first of shape (samples, classes)."
    return found[place], note if len(found) > 1 else ""


class Explained:
    """The score of a module that is explained, as a function of its inputs.

    Args:
        module: the module, at rest.
        batch: the samples.
        target: what is explained; see ``Target``.
    """

    def __init__(self, module: nn.Module, batch: Tensor, target: Target) -> None:
        self.module, self.batch, self.target = module, batch, target
        self.note = ""
        self.settled: tuple[int, ...] | Unit = target if isinstance(target, Unit) else ()

    def scores(self, x: Tensor) -> Tensor:
        """The score of each sample: the first call settles the classes or the position.

        Raises:
            UsageError: no such class, layer, channel or position.
        """
        return self._of_unit(x) if isinstance(self.settled, Unit) else self._of_classes(x)

    def _of_unit(self, x: Tensor) -> Tensor:
        assert isinstance(self.settled, Unit), "asked for a unit"
        return self.picked(output_of(self.module, x, self.settled.layer))

    def picked(self, output: Tensor) -> Tensor:
        """The unit in its layer's output (N, C, *)."""
        unit = self.settled
        assert isinstance(unit, Unit), "asked for a unit"
        position = position_in(output.shape[2:], unit.position, unit.layer)
        self.settled = Unit(unit.layer, channel_in(output.shape[1], unit.channel, unit.layer), position)
        index: tuple[Any, ...] = (slice(None), unit.channel, *position)
        return output[index]

    def _of_classes(self, x: Tensor) -> Tensor:
        return self.classed(self.module(x))

    def classed(self, output: Any) -> Tensor:
        """The classes in the module's output."""
        logits, self.note = class_scores(output)
        if logits is None:
            first = first_tensor(output)
            found = "no tensor" if first is None else f"a tensor of shape {tuple(first.shape)}"
            raise UsageError(
                f"classes are explained where a module gives (samples, classes), and this one gives {found}. Name a Unit."
            )
        if not self.settled:
            self.settled = self._classes(logits)
        classes = torch.tensor(self.settled, device=logits.device)
        classes = classes.repeat_interleave(len(logits) // len(classes)) if len(logits) != len(classes) else classes
        return logits.gather(1, classes[:, None])[:, 0]

    def _classes(self, logits: Tensor) -> tuple[int, ...]:
        asked, num_samples, num_classes = self.target, len(self.batch), logits.shape[1]
        if asked is None:
            return tuple(int(place) for place in logits[:num_samples].argmax(1))
        assert not isinstance(asked, Unit), "units are explained by their layer"
        classes = (asked,) * num_samples if isinstance(asked, int) else tuple(int(each) for each in asked)
        if len(classes) != num_samples:
            raise UsageError(
                f"{len(classes)} classes were given for {num_samples} samples: give one, or one for each sample."
            )
        for each in classes:
            if not 0 <= each < num_classes:
                raise UsageError(
                    f"there are {num_classes} classes, and class {each} was asked for: they are counted from 0."
                )
        return classes
