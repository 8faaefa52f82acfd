"""``visus check``: the contents, preprocessing and problems of a dataset, before any training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from visus.caller import train_call
from visus.data.ledger import Ledger
from visus.data.opened import Data, open_data
from visus.data.samples import SPLITS
from visus.errors import UsageError
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text, listed, notes
from visus.training.recipe import Recipe
from visus.units import write_bytes, write_number_of, write_shape
from visus.workbench.augmented_samples import SHEET, AugmentedSamples, draw_augmented
from visus.workbench.live_line import following
from visus.workbench.train.library_starts import LibraryChoice
from visus.workbench.train.starts import BackboneChoice, choice_of, noted, read_for, start_of, suited_data
from visus.workbench.training_lines import scaling


@dataclass(frozen=True, eq=False, repr=False)
class DataCheck(Described):
    """An opened dataset, with its check.

    Args:
        data: the opened data.
        begins: a sentence that names the initial weights of a training.
        augmented: the contact sheet of augmented samples; None if it was not asked for.
        options: the arguments of ``visus.open_data`` that were given and differ from the default.
        pretrained: whether pretrained weights were asked for; None if nothing was asked.
        settings: the settings of the augmentation that were given.
        recipe_file: the ``recipe.yaml`` that was given on the command line; its settings are not in ``settings``.

    >>> visus.check(data).begins
    'a training would start from a new network.'
    """

    data: Data
    begins: str
    augmented: AugmentedSamples | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    recipe_file: str | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about possible problems of the data, and of the augmentation if its contact sheet was asked for.

        >>> visus.check(data).warnings
        ()
        """
        return (*self.data.warnings, *(self.augmented.warnings if self.augmented else ()))

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        data = self.data
        counts = ", ".join(f"{len(data.split(split)):,} {split}" for split in SPLITS)
        rows = [
            ("samples", f"{counts}; each {write_shape(data.input_shape)}"),
            ("targets" if data.task == "regression" else "classes", f"{len(data.classes):,}: {listed(data.classes)}"),
            ("warnings", write_number_of(len(self.warnings), "warning") if self.warnings else "none"),
            ("ledger", ledger_entries(data.ledger)),
            *([("augmented", str(self.augmented.file))] if self.augmented else []),
            ("next", ".warnings, .data; .text() has all of it, and visus.train(check.data) trains"),
        ]
        return f"Check of {data.name} ({data.samples.kind})", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return (("samples of each class", self._class_table()),)

    def text(self) -> Text:
        """Whether there are warnings, then classes and splits, changes to the samples, and the next step.

        >>> [each.headings for each in visus.check(data).text() if isinstance(each, Table)]
        [('class', 'train', 'val', 'test')]
        """
        data = self.data
        found = write_number_of(len(self.warnings), "warning") if self.warnings else "no warnings"
        samples = f"{data.num_samples:,} {data.noun}s of {write_shape(data.input_shape)}"
        return Text(
            (
                f"{found}: {data.name} ({data.samples.kind}), {samples}, {_outputs(data)}",
                *(f"warning: {warning}" for warning in self.warnings),
                self._class_table(),
                *data_notes(data),
                f"{scaling(data)}; decoded into {write_bytes(data.store.pixels.nbytes)} at {data.store.folder}",
                self.begins,
                *([self.augmented.sentence] if self.augmented else []),
                f"next: {train_call(data.typed, None, {**data.reading.to_json(), **self.options}, self.pretrained, self.settings, self.recipe_file)}",
            )
        )

    def _class_table(self) -> Table:
        data = self.data
        if data.task == "regression":
            return _target_table(data)
        counts = [data.class_counts(split) for split in SPLITS]
        rows = [(name, *(f"{each[name]:,}" for each in counts)) for name in data.classes]
        rows.append(("all", *(f"{len(data.split(split)):,}" for split in SPLITS)))
        return Table(tuple(rows), ("class", *SPLITS), (1, 2, 3))

    def to_json(self) -> dict[str, Any]:
        """The dataset as plain data.

        >>> visus.check(data).to_json()["num_samples"]
        {'train': 43, 'val': 5, 'test': 12}
        """
        data = self.data
        return {
            "name": data.name,
            "kind": data.samples.kind,
            "input_shape": list(data.input_shape),
            "normalize": data.preprocessing.normalize,
            "begins": self.begins,
            "task": data.task,
            "classes": list(data.classes),
            "num_samples": {split: len(data.split(split)) for split in SPLITS},
            "class_counts": {split: data.class_counts(split) for split in SPLITS},
            "ledger": data.ledger.as_dict(),
            "warnings": list(self.warnings),
            "notes": list(data.samples.notes),
            "fingerprint": data.fingerprint,
            "cache": {"folder": str(data.store.folder), "bytes": int(data.store.pixels.nbytes)},
            **({"augmentation": self.augmented.to_json()} if self.augmented else {}),
        }


def _outputs(data: Data) -> str:
    """The number of classes or targets, with the task where it is not that of single labels."""
    if data.task == "regression":
        return f"{write_number_of(len(data.classes), 'target')} (regression)"
    return (
        f"{write_number_of(len(data.classes), 'class', 'classes')}{' (multi-label)' if data.task == 'multi-label' else ''}"
    )


def _target_table(data: Data) -> Table:
    """The mean of each target in each split, with its smallest and largest number."""
    rows = []
    for place, name in enumerate(data.classes):
        columns = [data.split(split).labels[:, place] for split in SPLITS]
        rows.append(
            (name, *(f"{each.mean():.4g} ({each.min():.4g} to {each.max():.4g})" if len(each) else "-" for each in columns))
        )
    rows.append(("samples", *(f"{len(data.split(split)):,}" for split in SPLITS)))
    return Table(tuple(rows), ("target", *SPLITS), (1, 2, 3))


def check(
    data: Data | str | Path | None = None,
    *,
    pretrained: bool | None = None,
    augment: bool | Recipe = False,
    output: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
    **settings: Any,
) -> DataCheck:
    """Check a dataset before any training: its classes and splits, its preprocessing, and its problems.

    Args:
        data: opened data, or its path; None for the images that come with visus.
        pretrained: read images as ImageNet weights need them, or do not; default: as ``visus.train`` does.
        augment: True writes a contact sheet of training samples and their augmented versions, as a training with all defaults would see them; a
            recipe, as one with these settings would.
        output: the PNG file of the contact sheet, which is replaced; default: ``augmentation.png``.
        progress: False shows nothing on stderr.
        on_event: receives a ``Progress`` for each decoded sample.
        should_stop: called after each decoded sample; True raises ``CanceledError``.
        settings: keyword arguments of ``visus.open_data``, such as ``img_size``, for data that is not opened.

    Raises:
        DataError: the data is unusable; the message names the remedy.
        UsageError: a setting is invalid, or the data is opened already.
        RecipeError: a setting of the augmentation does not suit the data.

    >>> import visus
    >>> visus.check(data)
    Check of levels (npz)
      samples   43 train, 5 val, 12 test; each 3 x 8 x 8
      classes   3: 0, 1, 2
      warnings  none
      ledger    empty: no sample was changed or left out
      next      .warnings, .data; .text() has all of it, and visus.train(check.data) trains
    """
    if output is not None and augment is False:
        raise UsageError(
            "output is the file of the contact sheet of augmented samples. Give augment=True too, or leave it out."
        )
    sheet = None if augment is False else Path(output or SHEET)
    recipe = augment if isinstance(augment, Recipe) else Recipe()
    if isinstance(data, Data):
        given = sorted(settings if pretrained is None else [*settings, "pretrained"])
        if given:
            raise UsageError(f"{', '.join(given)} cannot be given with opened data. Give its path, or leave it out.")
        monitor = Monitor(on_event, should_stop)
        return _checked(data, choice_of(None) if read_for(data) else None, recipe, sheet, monitor)
    choice = choice_of(pretrained, channels=settings.get("channels"), normalize=settings.get("normalize"))
    with following("decoding", Monitor(on_event, should_stop), progress) as monitor:
        opened = noted(open_data(data, choose_input=choice, **settings, **monitor.keywords), choice)
        if pretrained:
            opened = suited_data(opened)
        found = _checked(opened, choice, recipe, sheet, monitor)
    return replace(found, options=_changed(settings, opened), pretrained=pretrained, settings=_asked(recipe))


def _checked(
    data: Data, choice: BackboneChoice | LibraryChoice | None, recipe: Recipe, sheet: Path | None, monitor: Monitor
) -> DataCheck:
    """The check of opened data, with a contact sheet of its augmentation if a file is given for it."""
    begins = start_of(data, choice)
    if sheet is None:
        return DataCheck(data, begins)
    is_pretrained = choice is not None and read_for(data)
    return DataCheck(data, begins, draw_augmented(data, recipe, sheet, is_pretrained=is_pretrained, monitor=monitor))


def _changed(settings: Mapping[str, Any], data: Data) -> dict[str, Any]:
    """The arguments of ``visus.open_data`` that differ from its defaults, without those of the reading of the data."""
    defaults = inspect.signature(open_data).parameters
    known = data.reading.to_json().keys()
    return {
        name: value
        for name, value in settings.items()
        if name not in known and value is not None and value != defaults[name].default
    }


def _asked(recipe: Recipe) -> dict[str, Any]:
    """The settings of a recipe that differ from the default."""
    default = Recipe()
    return {
        each.name: getattr(recipe, each.name)
        for each in fields(recipe)
        if getattr(recipe, each.name) != getattr(default, each.name)
    }


def ledger_entries(ledger: Ledger) -> str:
    """How often each action is on a ledger, in the order of the ledger.

    >>> ledger = Ledger()
    >>> ledger.note("resized", "a.jpg")
    >>> ledger.note("resized", "b.jpg")
    >>> ledger.note("unreadable", "c.jpg")
    >>> ledger_entries(ledger)
    '3 entries: resized (2), unreadable (1)'
    """
    counts = ledger.counts
    if not counts:
        return "empty: no sample was changed or left out"
    total = write_number_of(sum(counts.values()), "entry", "entries")
    return f"{total}: {', '.join(f'{action} ({count:,})' for action, count in counts.items())}"


def data_notes(data: Data) -> Text:
    """The notes on a dataset, and the preprocessing of its samples."""
    return Text((*notes(data.samples.notes), *(f"ledger: {sentence}" for sentence in data.ledger.sentences())))
