"""The run whose weights a training starts from: its network, the size of its samples and its split."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from visus.data.images.fit import ResizeMode
from visus.data.opened import Data
from visus.data.preprocessing import Preprocessing
from visus.data.survey import InputSpec, Survey
from visus.errors import UsageError, WeightsError
from visus.networks.weights import read_metadata
from visus.training.runs import RunFolder
from visus.units import split_name, write_number_of, write_shape
from visus.workbench.modules import OBJECT_PREFIX
from visus.workbench.runs.own_data import in_own_split, is_own, num_learned
from visus.workbench.runs.saved import MAX_NAME


@dataclass(frozen=True)
class EarlierRun:
    """The run that wrote a weights file, as far as the file and its folder tell.

    Args:
        file: the weights file.
        text: the network: a design, ``package.module:callable``, or the mark of a Python object.
        preprocessing: the preprocessing of its samples.
        folder: its run folder; None if the file lies outside one.
    """

    file: Path
    text: str
    preprocessing: Preprocessing
    folder: RunFolder | None

    @classmethod
    def of(cls, weights: str | Path | None) -> EarlierRun | None:
        """The run of a weights file or of a run folder; None for other files.

        Raises:
            RunError: it is a folder and no run, or the run folder has no weights.
        """
        if weights is None:
            return None
        path = Path(weights)
        root = path.parent.parent
        is_run = path.is_dir() or ((root / "recipe.yaml").is_file() and (root / "data.json").is_file())
        folder = RunFolder.open(path if path.is_dir() else root) if is_run else None
        file = folder.weights_file() if folder is not None and path.is_dir() else path
        try:
            facts = json.loads(read_metadata(file)["visus"])
            return cls(file, facts["design"], Preprocessing.from_dict(facts["preprocessing"]), folder)
        except (KeyError, ValueError, TypeError):
            return None

    @property
    def name(self) -> str:
        """The run in a sentence."""
        return "the run that wrote these weights" if self.folder is None else f"the run {self.folder.path.name}"

    @property
    def asked(self) -> str:
        """The network as it was asked for, if that is known and short."""
        known = self.text if self.folder is None else str(self.folder.read_json("data.json")["network"])
        words = " ".join(known.split())
        return words if len(words) <= MAX_NAME else "a design of its own"

    def network(self) -> str:
        """The text of its network, for a training that names none.

        Raises:
            UsageError: the network was a Python object.
        """
        if self.text.startswith(OBJECT_PREFIX.strip()):
            raise UsageError(
                f"these weights are of the Python object {self.text.removeprefix(OBJECT_PREFIX)}, which no file can make again. Give such a "
                "module as the network.",
                where=str(self.file),
            )
        return self.text

    def input_spec(self, seen: Survey, resize_mode: ResizeMode | None = None) -> InputSpec | None:
        """The size, channels and normalization of its images, for ``open_data``; another size that was asked for is kept.

        Args:
            seen: the survey of the images.
            resize_mode: another resize mode that was asked for.
        """
        plan = self.preprocessing
        if not plan.is_image_like:
            return None
        height, width = seen.wanted_size or plan.size
        return InputSpec(plan.channels, (height, width), plan.offset, plan.divisor, resize_mode or plan.resize_mode)

    def in_its_split(self, data: Data) -> Data:
        """Data in the split of the run, if it is the run's own; other data unchanged."""
        if self.folder is None or not is_own(self.folder.path, data):
            return data
        return in_own_split(self.folder.path, data)

    def count_learned(self, data: Data) -> dict[str, int]:
        """Number of validation and of test samples of the data that the run has learned from; empty if the file lies outside a run folder."""
        return {} if self.folder is None else num_learned(self.folder.path, data)

    def sentence(self, data: Data, learned: Mapping[str, int], *, is_network_taken: bool) -> str:
        """What is taken from the run; empty if it is nothing. ``learned``: as ``count_learned`` returns it."""
        taken = [f"the network {self.asked}"] if is_network_taken else []
        if data.input_shape == self.preprocessing.input_shape and data.samples.reader.kind == "images":
            taken.append(f"the size of {write_shape(data.input_shape[1:])} px")
        if self.folder is not None and is_own(self.folder.path, data) and not learned[data.scored_split]:
            taken.append("the split")
        return f"from {self.name}: {', '.join(taken)}" if taken else ""

    def warnings(self, data: Data, learned: Mapping[str, int]) -> tuple[str, ...]:
        """Warnings about samples of another size, and about held-out samples that the run has learned from, by ``count_learned``."""
        found = []
        size, own = data.input_shape[1:], self.preprocessing.size
        if data.samples.reader.kind == "images" and len(own) == 2 and size != own:
            found.append(
                f"{self.name} read its {data.noun}s at {write_shape(own)} px, and these are read at {write_shape(size)} px. For the same size, "
                f"give the path of the data without an image size, or visus.open_data(path, img_size={own[0] if own[0] == own[1] else own})."
            )
        if self.folder is not None and learned[data.scored_split]:
            held_out = data.split(data.scored_split)
            found.append(
                f"{learned[data.scored_split]:,} of {write_number_of(len(held_out), f'{split_name(data.scored_split)} {data.noun}')} were training or validation "
                f"{data.noun}s of {self.name}, so the accuracy will be too high. Its split is {self.folder.path / 'split.csv'}: "
                "visus.open_data(path, split=...), or --split-file."
            )
        if self.folder is not None and data.scored_split != "val" and learned["val"]:
            found.append(
                f"{learned['val']:,} of {write_number_of(len(data.split('val')), f'validation {data.noun}')} were training {data.noun}s of {self.name}, so the "
                "validation scores will be too high, and with them the choice of epoch and head."
            )
        return tuple(found)

    def explained(self, error: WeightsError, data: Data, *, is_network_taken: bool) -> WeightsError:
        """The error of weights that do not fit the network, with the cause: samples of another kind, or a network that was asked for."""
        own, shape = self.preprocessing, data.input_shape
        if len(own.input_shape) != len(shape):
            return WeightsError(
                f"{self.name} reads {own.noun}s of {write_shape(own.input_shape)}, and this data has {data.noun}s of {write_shape(shape)}: the weights "
                "fit no network for them. Leave the weights out, or give weights of a run on such data.",
                where=str(self.file),
            )
        if is_network_taken:
            return error
        gap = "\n" if "\n" in error.message else " "
        error.message += (
            f"{gap}They are the weights of {self.asked}, of {self.name}: leave the network out, or give this one."
        )
        return error
