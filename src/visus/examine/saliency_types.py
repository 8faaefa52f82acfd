"""The target of a saliency map, a class or a unit, and the result of every method: shared by methods and checks.

Shape letters: N samples, C channels, * the spatial axes of the input.
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
from visus.examine.layer_calls import Array, Box, TracedFields, check_channel, output_of, resolve_position
from visus.examine.layer_outputs import all_tensors, first_tensor
from visus.tables import ShortFields


@dataclass(frozen=True)
class Unit:
    """One unit of a layer.

    Args:
        layer: the layer's path.
        channel: from 0.
        position: in the layer's map; None for the middle.

    >>> Unit("conv1", channel=3).layer
    'conv1'
    """

    layer: str
    channel: int
    position: tuple[int, ...] | None = None


Target = int | Sequence[int] | Unit | None
"""A class, a class for each sample, or a unit; None for the predicted class of each sample."""


@dataclass(frozen=True, eq=False, repr=False)
class Saliency(ShortFields):
    """The importance of each pixel for the target.

    Args:
        method: ``gradient``, ``Grad-CAM``, ``integrated gradients`` or ``occlusion``.
        target: a class for each sample, or a unit with its position.
        scores: (N,) the output of the class before any softmax, or the value of the unit.
        map: (N, *) one number for each pixel: the maximum over the channels of the absolute gradient, for the other methods the sum over
            the channels. Negative where a pixel lowers the score (never for gradients and Grad-CAM).
        values: (N, C, *) with signs; None for Grad-CAM, which does not distinguish input channels.
        layer: the layer of Grad-CAM; empty for the other methods.
        reason: a sentence why this layer; empty if it was given.
        layer_map: (N, *) the map of Grad-CAM in the size of its layer; None for the other methods.
        clipped_share: share of the map that lay outside the exact receptive field and was set to 0; 0 if nothing was.
        convergence_delta: for integrated gradients, (N,) sum of the values minus the change of the score, which should be equal.
        traced: receptive fields of the layers; the module is traced at their first use.
        notes: notes for the reader: cells that were not placed at the centers of their fields, and which output was read.
    """

    method: str
    target: tuple[int, ...] | Unit
    scores: Array
    map: Array
    values: Array | None
    traced: TracedFields
    layer: str = ""
    reason: str = ""
    layer_map: Array | None = None
    clipped_share: float = 0.0
    convergence_delta: Array | None = None
    notes: tuple[str, ...] = ()

    @cached_property
    def box(self) -> Box | None:
        """The exact receptive field of the unit, or of the last layer; None if it reads no pixel."""
        return exact_box(self.traced, self.target)

    @property
    def outside_box(self) -> float:
        """Share of the map outside ``box``; more than 0 means that the map marks pixels that cannot matter."""
        return share_outside(self.map, self.box)


def share_outside(maps: Array, box: Box | None) -> float:
    """Share of the absolute values of maps (N, *) outside a box; 0 for maps of zeros.

    >>> share_outside(np.array([[1.0, 1.0, 2.0]]), ((0, 1),))
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


def exact_box(traced: TracedFields, target: tuple[int, ...] | Unit) -> Box | None:
    """The exact receptive field of a unit; for classes, that of the last layer."""
    if isinstance(target, Unit):
        row = next((row for row in traced.account.rows if row.path == target.layer), None)
        shape = row.output_shape if row is not None else ()
        position = target.position or ()
        spatial = shape[1:] if len(shape) == len(position) + 1 else ()
        return traced.box(target.layer, position, spatial)
    last = [row for row in traced.account.rows if row.fields][-1]
    return traced.box(last.path, (), ())


def class_scores(output: Any) -> tuple[Tensor | None, str]:
    """The class scores in a module's output, its first tensor of shape (N, classes); and a sentence where there is more than one tensor.

    >>> class_scores((torch.zeros(2, 8, 4, 4), torch.zeros(2, 3)))[1]
    'The module returns 2 tensors; the class scores are number 2, the first of shape (samples, classes).'
    """
    found = list(all_tensors(output))
    place = next((place for place, each in enumerate(found) if each.dim() == 2), None)
    if place is None:
        return None, ""
    note = f"The module returns {len(found)} tensors; the class scores are number {place + 1}, the first of shape (samples, classes)."
    return found[place], note if len(found) > 1 else ""


class TargetScores:
    """The score of the target, class or unit, as a function of the module's inputs.

    Args:
        module: the module, in ``eval_mode``.
        batch: the samples.
        target: see ``Target``.
    """

    def __init__(self, module: nn.Module, batch: Tensor, target: Target) -> None:
        self.module, self.batch, self.target = module, batch, target
        self.note = ""
        self.resolved: tuple[int, ...] | Unit = target if isinstance(target, Unit) else ()

    def scores(self, x: Tensor) -> Tensor:
        """The score of each sample; the first call resolves the classes or the position.

        Raises:
            UsageError: the class, layer, channel or position does not exist.
        """
        return self._of_unit(x) if isinstance(self.resolved, Unit) else self._of_classes(x)

    def _of_unit(self, x: Tensor) -> Tensor:
        assert isinstance(self.resolved, Unit), "asked for a unit"
        return self.of_layer_output(output_of(self.module, x, self.resolved.layer))

    def of_layer_output(self, output: Tensor) -> Tensor:
        """The scores, from the output (N, C, *) of the unit's layer."""
        unit = self.resolved
        assert isinstance(unit, Unit), "asked for a unit"
        position = resolve_position(output.shape[2:], unit.position, unit.layer)
        self.resolved = Unit(unit.layer, check_channel(output.shape[1], unit.channel, unit.layer), position)
        index: tuple[Any, ...] = (slice(None), unit.channel, *position)
        return output[index]

    def _of_classes(self, x: Tensor) -> Tensor:
        return self.of_module_output(self.module(x))

    def of_module_output(self, output: Any) -> Tensor:
        """The scores, from the output of the module."""
        logits, self.note = class_scores(output)
        if logits is None:
            first = first_tensor(output)
            found = "no tensor" if first is None else f"a tensor of shape {tuple(first.shape)}"
            raise UsageError(
                f"a class needs a module that returns (samples, classes), and this one returns {found}. Give a Unit as target."
            )
        if not self.resolved:
            self.resolved = self._classes(logits)
        classes = torch.tensor(self.resolved, device=logits.device)
        classes = classes.repeat_interleave(len(logits) // len(classes)) if len(logits) != len(classes) else classes
        return logits.gather(1, classes[:, None])[:, 0]

    def _classes(self, logits: Tensor) -> tuple[int, ...]:
        asked, num_samples, num_classes = self.target, len(self.batch), logits.shape[1]
        if asked is None:
            return tuple(int(place) for place in logits[:num_samples].argmax(1))
        assert not isinstance(asked, Unit), "units have a layer"
        classes = (asked,) * num_samples if isinstance(asked, int) else tuple(int(each) for each in asked)
        if len(classes) != num_samples:
            raise UsageError(
                f"{len(classes)} classes were given for {num_samples} samples: give one class, or one for each sample."
            )
        for each in classes:
            if not 0 <= each < num_classes:
                raise UsageError(f"there are {num_classes} classes, counted from 0; class {each} does not exist.")
        return classes
