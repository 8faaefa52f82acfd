"""A finished (or stopped) run: load it, score it, use it.

This file knows run folders and how to get from files to labels.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from visus.data.batches import MAX_VALUES, Part, batches_in_order
from visus.data.contents import hash_rows
from visus.data.ledger import Ledger
from visus.data.opened import Data, open_scoring_data
from visus.data.preprocessing import Pixels, Preprocessing
from visus.data.reading import Reading
from visus.data.store import MAX_UNREADABLE
from visus.errors import DataError, ImageError, RunError, UsageError
from visus.evaluation.calibration import UNCALIBRATED, Calibrator, TemperatureFit
from visus.evaluation.predictions import predict_logits, top_k
from visus.evaluation.scores import Scores, score
from visus.evaluation.test_time_augmentation import describe_views
from visus.networks import weights
from visus.networks.machine import Machine, choose, freed_memory_kept, suited
from visus.training.loop import EVALUATION_BATCH
from visus.training.recipe import Recipe
from visus.training.runs import RunFolder
from visus.units import Described, write_count, write_number_of, write_shape, write_share
from visus.workbench.late import late
from visus.workbench.modules import make_network
from visus.workbench.progress_display import working
from visus.workbench.runs.calibration import read_calibration
from visus.workbench.runs.learned_samples import Known, Marks, known_samples, read_known
from visus.workbench.runs.own_data import as_own, open_own_data, remember_place
from visus.workbench.runs.predict_inputs import ArraySample, Sample, UnreadSample, array_rows, find_samples, numbers_of
from visus.workbench.runs.reuse import reuse_sentence

if TYPE_CHECKING:
    from visus.examine.mistake_report import MistakeReport

Labeled = tuple[Any, Any]
"""Samples and their labels."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one sample.

    Args:
        file: the file, with the row in brackets where it holds several samples.
        labels: class names, the most probable first.
        probabilities: theirs, 0 to 1.
        problem: why there is no answer; empty where there is one.
    """

    file: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    problem: str = ""

    @property
    def label(self) -> str:
        """The most probable class; empty where there is no answer."""
        return self.labels[0] if self.labels else ""

    @property
    def probability(self) -> float:
        """That of ``label``; 0 where there is no answer."""
        return self.probabilities[0] if self.probabilities else 0.0


@dataclass(frozen=True, eq=False, repr=False)
class Run(Described):
    """A trained network with all that belongs to it.

    Args:
        folder: the run folder.
        module: the network with its best weights, in evaluation mode.
        classes: class names in the order of the network's outputs.
        preprocessing: what is done to every sample.
        machine: where it is computed.
        which: ``best`` or ``last``: the weights that it has.
    """

    folder: Path
    module: nn.Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    machine: Machine
    which: str = "best"

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        design = (
            (self.folder / "design.txt").read_text("utf-8", "replace").strip()
            if (self.folder / "design.txt").is_file()
            else ""
        )
        network = design.removeprefix("# a Python object: ")
        network = network if len(network) <= 60 and "\n" not in network else f"{network.splitlines()[0][:57]}..."
        num_parameters = sum(each.numel() for each in self.module.parameters())
        rows = [("network", f"{network or type(self.module).__name__}, {write_count(num_parameters)} parameters")]
        try:
            scores = self.scores
            low, high = write_share(scores.accuracy_low), write_share(scores.accuracy_high)
            rows.append(("accuracy", f"{write_share(scores.accuracy)} ({low} to {high}) on {scores.num_samples:,} samples"))
        except RunError:
            rows.append(("accuracy", "not known: the training was not finished"))
        rows.append(("folder", str(self.folder)))
        return f"Run {self.name}: {len(self.classes):,} classes", rows

    @cached_property
    def recipe(self) -> Recipe:
        """How it was trained."""
        return Recipe.read(self.folder / "recipe.yaml")

    @property
    def calibration(self) -> TemperatureFit:
        """The temperature that calibrates its probabilities; 1, with the reason, where none is used.

        Raises:
            RunError: ``calibration.json`` is damaged.
        """
        return read_calibration(RunFolder.open(self.folder), self.which, self.recipe.tta or "none")

    def calibrator(self, *, raw: bool = False) -> Calibrator:
        """What makes probabilities of its outputs.

        Args:
            raw: the network's own softmax.
        """
        return UNCALIBRATED if raw else self.calibration.calibrator

    def probabilities(self, logits: torch.Tensor, *, raw: bool = False) -> torch.Tensor:
        """The probabilities (samples, classes) that the network gives for outputs of ``logits`` or ``answers``.

        Args:
            logits: (samples, classes).
            raw: the network's own, not calibrated; the most probable class is the same.
        """
        return self.calibrator(raw=raw)(logits)

    @property
    def scores(self) -> Scores:
        """The scores that were written when the training was done.

        Raises:
            RunError: the training was not finished, or the file is damaged.
        """
        return Scores.from_json(RunFolder.open(self.folder).read_json("scores.json"))

    def logits(self, batches: Iterable[torch.Tensor]) -> torch.Tensor:
        """The network's outputs (samples, classes) for batches of scaled inputs: the mean over the views that the recipe names.

        They are not calibrated; ``probabilities`` does that.
        """
        machine = self.machine
        return predict_logits(
            self.module,
            batches,
            device=machine.device,
            precision=machine.precision,
            channels_last=machine.channels_last,
            tta=self.recipe.tta or "none",
        )

    @property
    def views_sentence(self) -> str:
        """Over which views of a sample an answer is the mean; empty where it is looked at once."""
        return describe_views(self.recipe.tta or "none", self.preprocessing.noun)

    def evaluate(
        self,
        data: str | Path | Data | Labeled | None = None,
        *,
        split: str | None = None,
        raw: bool = False,
        cache_dir: str | Path | None = None,
    ) -> Scores:
        """Score the network.

        Args:
            data: other data: a path, opened data, or a pair of arrays ``(samples, labels)``, samples as for ``predict`` and labels as names of
                classes or their numbers; None for the run's own, split as it was.
            split: ``train``, ``val`` or ``test``; None for the held-out one.
            raw: score the network's own probabilities, not calibrated.
            cache_dir: another folder for the decoded samples.

        Raises:
            DataError: the data has a class that the network does not know, or has changed since the training.
        """
        with working("scoring"):
            if isinstance(data, tuple):
                if split is not None:
                    raise UsageError(f"a pair of arrays has no split {split!r}. Leave the split out.")
                return self._score_arrays(*data, raw=raw)
            opened = data if isinstance(data, Data) else self.open_data(data, cache_dir=cache_dir)
            scores = self.score(opened, split or opened.scored_split, raw=raw)
        return dataclasses.replace(scores, notes=(*scores.notes, *self._unfinished_notes()))

    def calibration_sentence(self, *, raw: bool = False) -> str:
        """How its probabilities came about, for a reader."""
        if raw and self.calibration.is_used:
            return "Probabilities are the network's own (raw), not calibrated."
        return self.calibration.sentence(self.preprocessing.noun)

    def _score_arrays(self, samples: Pixels | torch.Tensor, labels: Any, *, raw: bool) -> Scores:
        """Scores of arrays and their labels."""
        rows = [self._fitted(sample) for sample in array_rows(samples, "samples", self.preprocessing)]
        truth = numbers_of(labels, self.classes)
        if len(rows) != len(truth):
            raise UsageError(f"there are {len(rows):,} samples and {len(truth):,} labels. Give one label for each sample.")
        chunks = (rows[start : start + EVALUATION_BATCH] for start in range(0, len(rows), EVALUATION_BATCH))
        batches = (self.preprocessing.scaled(torch.from_numpy(np.stack(chunk))) for chunk in chunks)
        notes = [self.views_sentence] if self.views_sentence else []
        chances, learned = self.probabilities(self.logits(batches), raw=raw), read_known(RunFolder.open(self.folder))
        known = learned.marks(hash_rows(rows)) if learned is not None else None
        return score(chances, torch.from_numpy(truth), self.classes, split="", notes=notes, known=known)

    def shifts(
        self, data: str | Path | Data | None = None, *, split: str | None = None, cache_dir: str | Path | None = None
    ) -> Any:
        """How the answers change when the samples move by a few pixels, which layer breaks it, and what helps.

        Args:
            data, split, cache_dir: as for ``mistakes``.

        Returns:
            A ``visus.workbench.runs.shifts.ShiftReport``.
        """
        with working("moving samples"):
            opened = data if isinstance(data, Data) else self.open_data(data, cache_dir=cache_dir)
            return late("runs.shifts").report_shifts(self, opened, split)

    def look(self, sample: Any, **options: Any) -> Any:
        """What the network sees in one sample; ``sample``, the options and the result are those of ``visus.look``."""
        return late("look.looking").look(self, sample, **options)

    def report(self, *, cache_dir: str | Path | None = None) -> Path:
        """Write ``report.html`` of the run anew; where it is.

        Raises:
            RunError: the training was not finished, or a file is missing or damaged.
            DataError: the data has changed since the training.
        """
        with working("measuring for the report"):
            written: Path = late("report.reports").rewrite_report(self, cache_dir=cache_dir)
            return written

    def compare(
        self,
        other: Run | str | Path,
        data: str | Path | None = None,
        *,
        split: str | None = None,
        cache_dir: str | Path | None = None,
    ) -> Any:
        """This run and another one on the same samples, sample by sample.

        Args:
            other: a run or its folder.
            data, split, cache_dir: other data for both; without it, the samples that both runs held out.

        Returns:
            A ``visus.workbench.compare.comparisons.Comparison``.

        Raises:
            UsageError: the runs know different classes.
            DataError: the runs were trained on different data and none was given.
        """
        with working("comparing"):
            right = other if isinstance(other, Run) else load(other)
            return late("compare.comparisons").compare_runs(self, right, data, split=split, cache_dir=cache_dir)

    def answers(self, data: Data, split: str) -> torch.Tensor:
        """The network's outputs (samples, classes) for one split of opened data, in the order of its samples.

        Raises:
            DataError: the split is empty.
        """
        part = data.split(split)
        if not len(part):
            raise DataError(
                f"the {split} split of this data is empty. Choose another with --split.", where=str(data.samples.root)
            )
        with freed_memory_kept():
            return self.logits(batches_in_order(part, self.preprocessing, EVALUATION_BATCH))

    def score(self, data: Data, split: str, answers: torch.Tensor | None = None, *, raw: bool = False) -> Scores:
        """Score the network on one split of opened data.

        Args:
            data: opened data.
            split: which split of it.
            answers: what ``answers`` gave for it, where that is at hand.
            raw: score the network's own probabilities, not calibrated.

        Raises:
            DataError: the split is empty.
        """
        logits = self.answers(data, split) if answers is None else answers
        shown = "all" if data.is_whole else split
        labels = torch.from_numpy(data.split(split).labels)
        chances = self.probabilities(logits, raw=raw)
        known, notes = self.known(data.split(split), data)
        notes = [*self.notes_on(data, split), *notes]
        return score(chances, labels, self.classes, split=shown, notes=notes, known=known)

    def known(self, part: Part, data: Data) -> tuple[Marks | None, list[str]]:
        """Which samples have the content of one that it learned from, and of one that chose its weights; and a note where that is not known.

        Args:
            part: the samples.
            data: what they are of.
        """
        cache = data.store.folder.parent
        return known_samples(RunFolder.open(self.folder), part, data, lambda: self.open_data(cache_dir=cache))

    def mistakes(
        self,
        data: str | Path | Data | None = None,
        *,
        split: str | None = None,
        limit: int = 8,
        raw: bool = False,
        cache_dir: str | Path | None = None,
    ) -> MistakeReport:
        """The answers that are worth a look: the surest wrong ones, the least sure right ones, confusions, labels that may be wrong.

        Beside each stand the training samples that are most like it to the network; at most 5,000 are compared.

        Args:
            data: other data; None for the run's own, split as it was.
            split: ``train``, ``val`` or ``test``; None for the held-out one.
            limit: samples of each kind.
            raw: judge by the network's own probabilities, not calibrated.
            cache_dir: another folder for the decoded samples.

        Raises:
            DataError: the split is empty, or the data has changed since the training.
            UsageError: fewer than one sample is asked for.
        """
        from visus.workbench.runs.mistakes import Answering, named_mistakes  # a prediction does not need it

        with working("looking for mistakes"):
            opened = data if isinstance(data, Data) else self.open_data(data, cache_dir=cache_dir)
            chosen = split or opened.scored_split
            network = Answering(self.module, self.classes, self.preprocessing)
            training, notes = self._training_samples(opened, cache_dir)
            shown = "all" if opened.is_whole else chosen
            chances = self.probabilities(self.answers(opened, chosen), raw=raw)
            found = named_mistakes(network, opened.split(chosen), chances, training, split=shown, limit=limit)
            known, unknown = self.known(opened.split(chosen), opened)
        if known is not None and known[0].any() and chosen != "train":
            many = f"{int(known[0].sum()):,} of {write_number_of(len(known[0]), opened.noun)}"
            notes = [f"{many} were learned from: the network knows many of their labels by heart.", *notes]
        notes += unknown
        return dataclasses.replace(found, notes=(*found.notes, *notes))

    def _training_samples(self, data: Data, cache_dir: str | Path | None) -> tuple[Part | None, list[str]]:
        """The samples that the network learned from; for other data, why they are not there if they are not."""
        if not data.is_whole and len(data.split("train")):
            return data.split("train"), []
        try:
            return self.open_data(cache_dir=cache_dir).split("train"), []
        except DataError as error:
            return None, [f"Similar training samples were not looked for: {error.message}"]

    def notes_on(self, data: Data, split: str) -> list[str]:
        """What a reader of the scores must know about the samples and the network."""
        notes = [self.views_sentence] if self.views_sentence else []
        facts = RunFolder.open(self.folder).read_json("data.json")
        if split == "val" and not len(data.split("test")):
            notes.append(
                "This data has no test split. The validation split was scored, which also chose the weights: expect a little less elsewhere."
            )
        elif split == "val" and not data.is_whole:
            notes.append("The validation split also chose the weights: expect a little less elsewhere.")
        if split == "test" and data.fingerprint == facts["fingerprint"] and not data.is_whole:
            notes += [sentence] if (sentence := reuse_sentence(self.folder, data.noun)) else []
        return notes

    def _unfinished_notes(self) -> list[str]:
        if (self.folder / "scores.json").is_file() or not RunFolder.open(self.folder).checkpoint.is_file():
            return []
        return [
            f"This training was stopped before its end. Go on with: visus train --resume {shlex.quote(str(self.folder))}"
        ]

    def open_data(
        self,
        data: str | Path | None = None,
        *,
        max_unreadable: float = MAX_UNREADABLE,
        cache_dir: str | Path | None = None,
        path_column: str | None = None,
        label_column: str | None = None,
        skip_missing: bool = False,
        class_depth: int | None = None,
        layout: str | None = None,
    ) -> Data:
        """Other data with this network's preprocessing and classes, or the run's own as it was split.

        Where ``data`` is the run's own at a new place, it is split as it was too, and the run remembers where it is. The last five are as for
        ``visus.open_data``, and for other data alone.

        Raises:
            UsageError: one of the last five without other data.
            DataError: the data has a class that the network does not know; or it is gone, or has changed.
        """
        reading = Reading(path_column, label_column, skip_missing, class_depth, layout)
        if data is None:
            if reading != Reading():
                raise UsageError(
                    f"{', '.join(reading.options()[::2])} without other data: the run reads its own as it was trained on. Leave it out."
                )
            return open_own_data(self.folder, self.preprocessing, cache_dir=cache_dir)
        facts = RunFolder.open(self.folder).read_json("data.json")
        if reading == Reading() and (facts.get("labels") or facts.get("reading")):
            with contextlib.suppress(DataError):  # other data then, or without these labels
                return self._remembered(open_own_data(self.folder, self.preprocessing, data, cache_dir=cache_dir))
        opened = open_scoring_data(
            data, self.preprocessing, self.classes, max_unreadable=max_unreadable, cache_dir=cache_dir, reading=reading
        )
        own = as_own(self.folder, opened)
        return opened if own is None else self._remembered(own)

    def _remembered(self, data: Data) -> Data:
        note = remember_place(self.folder, data)
        if not note:
            return data
        return dataclasses.replace(data, samples=dataclasses.replace(data.samples, notes=(*data.samples.notes, note)))

    def predict(
        self,
        files: str | Path | Pixels | torch.Tensor | Iterable[str | Path | Pixels | torch.Tensor],
        *,
        top: int = 1,
        ledger: Ledger | None = None,
        raw: bool = False,
    ) -> Iterator[Prediction]:
        """Labels for files, folders of files, or arrays; one prediction for each sample, in order.

        A file that cannot be read has a prediction with its ``problem``; nothing is silently left out.

        Args:
            files: one of these, or several: an image file, a folder (searched with its sub-folders, as for a training), a pattern such as
                ``new/*.jpg``, a table with a column ``path``, a ``.npy`` or ``.npz`` file, or arrays and tensors: (samples, channels, *spatial),
                one sample (channels, *spatial), and images with their channels last, (height, width, 3), where the first axis cannot be the
                channels.
            top: how many classes to tell for each sample.
            ledger: gets what was done to the samples.
            raw: the network's own probabilities, not calibrated; the labels are the same.

        Raises:
            UsageError: an array that does not fit the network, or more classes asked for than it has.
        """
        if top < 1:
            raise UsageError(f"the number of classes to tell must be at least 1, not {top}.")
        if top > len(self.classes):
            raise UsageError(f"{top} classes were asked for, and this network has {len(self.classes)}.")
        notes = ledger if ledger is not None else Ledger()
        named = [files] if isinstance(files, (str, os.PathLike, np.ndarray, torch.Tensor)) else files
        if not isinstance(named, Iterable):
            raise UsageError(
                f"files are paths or arrays, and not a {type(files).__name__}. Give an image of Pillow as an array: numpy.asarray(image)."
            )
        samples = find_samples(named, self.preprocessing, notes)
        calibrator = self.calibrator(raw=raw)
        learned = read_known(RunFolder.open(self.folder))
        size = max(16, min(EVALUATION_BATCH, MAX_VALUES // math.prod(self.preprocessing.input_shape)))
        while chunk := list(islice(samples, size)):
            yield from self._predict_chunk(chunk, top, notes, calibrator, learned)

    def _predict_chunk(
        self, chunk: Sequence[Sample], top: int, ledger: Ledger, calibrator: Calibrator, learned: Known | None
    ) -> Iterator[Prediction]:
        rows: list[Pixels] = []
        outcomes: list[int | str] = []
        for sample in chunk:
            try:
                rows.append(self._read(sample, ledger))
                outcomes.append(len(rows) - 1)
                if self.preprocessing.shuffle_seed is not None:
                    ledger.note("shuffled", sample.name)
            except ImageError as error:
                ledger.note("unreadable", sample.name, error.message)
                outcomes.append(error.message)
        answers = []
        if rows and learned is not None:
            names = [sample.name for sample, outcome in zip(chunk, outcomes, strict=True) if not isinstance(outcome, str)]
            for place in np.flatnonzero(learned.marks(hash_rows(rows))[0]):
                ledger.note("learned from", names[place])
        if rows:
            batch = self.preprocessing.scaled(torch.from_numpy(np.stack(rows)))
            answers = top_k(calibrator(self.logits([batch])), self.classes, top)
        for sample, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, str):
                yield Prediction(sample.name, problem=outcome)
            else:
                yield Prediction(
                    sample.name, tuple(name for name, _ in answers[outcome]), tuple(share for _, share in answers[outcome])
                )

    def _fitted(self, sample: ArraySample) -> Pixels:
        """One row of an array at the size of the network."""
        found: Pixels = self.preprocessing.fit_array(sample.row[None])[0]
        return found

    def _read(self, sample: Sample, ledger: Ledger) -> Pixels:
        if isinstance(sample, UnreadSample):
            raise ImageError(sample.problem, where=sample.name)
        if isinstance(sample, ArraySample):
            return self._fitted(sample)
        if self.preprocessing.kind == "array" and not self.preprocessing.is_image_like:
            raise ImageError(
                f"this network reads {self.preprocessing.noun}s of {write_shape(self.preprocessing.input_shape)} from NPZ or NPY files, "
                f"and this is an image."
            )
        pixels = self.preprocessing.read_image(sample.path, ledger, name=sample.name)
        if self.preprocessing.looks_inverted(pixels):
            ledger.note("looks inverted", sample.name)
        return pixels


def load(folder: str | Path, *, network: nn.Module | None = None, device: str = "auto", which: str = "best") -> Run:
    """A run from its folder.

    Args:
        folder: the run folder that a training left.
        network: the module itself, for a run that was trained with a module object.
        device: where to compute; see ``Recipe.device``.
        which: ``best`` or ``last`` weights.

    Raises:
        RunError: the folder is not a run, or a file is missing or damaged.
        WeightsError: the weights do not fit the design.
    """
    run = RunFolder.open(Path(folder))
    tensors, metadata = weights.load(run.weights_file(which))
    if "visus" not in metadata:
        raise RunError("these weights were not written by a training of visus.", where=str(run.weights_file(which)))
    facts: dict[str, Any] = json.loads(metadata["visus"])
    preprocessing = Preprocessing.from_dict(facts["preprocessing"])
    classes = tuple(facts["classes"])
    module = make_network(
        run.read_text("design.txt").rstrip("\n") if network is None else network, preprocessing.input_shape, len(classes)
    ).module
    weights.fit(module, tensors)
    precision = Recipe.read(run.path / "recipe.yaml").precision
    machine = suited(choose(device, precision), module)
    return Run(run.path, module.to(machine.device).eval(), classes, preprocessing, machine, which)
