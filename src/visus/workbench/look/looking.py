"""``visus.look``: the inside of a network for one sample. A look is opened once and can be measured many times."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus import __version__
from visus.errors import UsageError, VisusError, unknown_layer
from visus.examine.layer_calls import as_batch, eval_mode
from visus.examine.saliency_types import Target
from visus.files import write_file
from visus.networks.own_code import describe_failure
from visus.pages.look.facts import Answer, LayerLook, LayerPatches, LookFacts
from visus.pages.look.page import look_page
from visus.pages.look.preview import preview
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.tables import Described, Table, Text
from visus.units import write_number_of, write_share
from visus.workbench.live_line import following
from visus.workbench.look.inputs import NamedSample
from visus.workbench.look.map_methods import check_method
from visus.workbench.look.measures import (
    Probe,
    answer_of,
    kernels_of,
    layers_of,
    patches_of,
    saliency_of,
    sum_of,
    uncalled_parts,
    unit_fields,
    unit_of,
)
from visus.workbench.look.opening import Network, OpenedLook, Samples, open_look
from visus.workbench.look.verdict import answer_sentence, layer_lines, saliency_sentences
from visus.workbench.modules import count_macs

UNTRAINED: Final = "This network is untrained: everything here shows its initial weights, and its predictions mean nothing."


@dataclass(frozen=True, eq=False, repr=False)
class Look(Described):
    """The results of a look at a network with one sample. In a notebook it shows the first saliency map and the first filters.

    ``look["conv1"]`` is a layer: ``.maps`` (channels, *spatial) for the sample, ``.fields``, ``.zero_share``, ``.dead``, ``.sparse``.

    Args:
        facts: all results. ``sample`` is the input: ``.values`` (channels, *spatial) before normalization, ``.name``, ``.truth``. ``answer``
            is the prediction: ``.classes``, ``.probabilities``, ``.order``. ``methods`` are the saliency maps that are shown, the best one
            first, and ``hidden`` the others: ``.saliency.map`` (1, *spatial), ``.is_passed``, ``.curves``, ``.weights``. ``kernels`` are the
            filters of the first layer: ``.kernels`` (F, channels, *spatial). ``patches`` are the templates of layers, ``sum`` is one output
            term by term, ``unit`` the receptive field of one unit. ``missing`` says why a part is absent.

    >>> looked.facts.sample.name
    'test:0 (x[2])'
    >>> looked["conv1"].maps.shape, looked.facts.kernels.kernels.shape
    ((4, 6, 6), (4, 3, 3, 3))
    >>> [each.saliency.map.shape for each in (looked.facts.methods + looked.facts.hidden)[:1]]
    [(1, 8, 8)]
    """

    facts: LookFacts

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        facts = self.facts
        rows = [("prediction", line)] if (line := self._answer_line()) else []
        rows += [("warning", "the network is untrained")] if not facts.is_trained else []
        if self.layers:
            ends = dict.fromkeys(each.path or "(the module)" for each in (self.layers[0], self.layers[-1]))
            rows.append(("layers", f"{len(self.layers):,}, {' to '.join(ends)}"))
        if facts.unit is not None:
            unit = facts.unit.unit
            rows.append(("unit", f"channel {unit.channel} of {unit.layer}"))
        rows.append(("next", ".layers, .layer(PATH), .facts; .write(FOLDER) writes the page, .to_json() has the measures"))
        return f"Look at {facts.sample.name}", rows

    def _tables(self) -> tuple[tuple[str, Table], ...]:
        return tuple(("layers", each) for each in self.text() if isinstance(each, Table))

    def _answer_line(self) -> str:
        """The prediction with its probability, and the label if it is known; empty if there is none."""
        answer, truth = self.facts.answer, self.facts.sample.truth
        if answer is None:
            return ""
        best = answer.order[0]
        share = write_share(float(answer.probabilities[best]))
        return f"{answer.classes[best]}, {share}{f'; its label is {truth}' if truth else ''}"

    @property
    def layers(self) -> tuple[LayerLook, ...]:
        """The layers in the order of computation: path, shape, maps, fields, share of zeros, number of dead and sparse
        filters.

        >>> [each.path for each in looked.layers]
        ['conv1', 'relu1', 'globalpool1', 'linear1']
        """
        return self.facts.layers

    def layer(self, path: str) -> LayerLook:
        """A layer by its path; ``look[path]`` is the same.

        Args:
            path: path of the layer, such as ``conv1``; ``conv1#2`` for the second call of a layer.

        Raises:
            UsageError: no layer has this path; the message has the closest one.

        >>> looked.layer("conv1").field
        '3/1'
        """
        for each in self.layers:
            if each.path == path:
                return each
        raise UsageError(unknown_layer(path, [each.path for each in self.layers]))

    def __getitem__(self, path: str) -> LayerLook:
        """As ``layer``."""
        return self.layer(path)

    def _repr_html_(self) -> str:
        return super()._repr_html_() + preview(self.facts)

    def page(self) -> str:
        """All results as one self-contained HTML page.

        >>> looked.page().startswith("<!doctype html>")
        True
        """
        return look_page(self.facts)

    def write(self, path: str | Path) -> Path:
        """Write the page. If the name is taken, a number is added, so nothing is overwritten.

        Args:
            path: a file; or a folder, in which the page gets the name of the sample.

        Returns: Path of the page.

        Raises:
            UsageError: the file is not named as an HTML file.
            StorageError: the file cannot be written.

        >>> looked.write(folder / "look.html").name
        'look.html'
        """
        wanted = Path(path)
        wanted = wanted / page_name(self.facts.sample.name) if wanted.is_dir() else wanted
        refuse_page(wanted)
        place, number = wanted, 1
        while place.exists():
            number += 1
            place = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        write_file(place, self.page())
        return place

    def text(self, *, verbose: bool = False) -> Text:
        """The verdict, then the layers, and notes on them.

        Args:
            verbose: a row for each layer.

        >>> any(isinstance(each, Table) for each in looked.text())
        True
        """
        facts, lines = self.facts, list[str | Table]()
        lines += [line for line in (answer_sentence(facts), *saliency_sentences(facts)) if line]
        lines += layer_lines(facts, verbose=verbose)
        lines += [note for note in (*facts.answer_notes, facts.missing.get("layers", "")) if note]
        for each in facts.layers:
            if each.never_positive and not each.is_rectified and len(each.shape) > 1:
                lines.append(f"never above 0 in {each.path or 'the module'}: {len(each.never_positive):,}")
        return Text(lines)

    def to_json(self) -> dict[str, Any]:
        """All measures as plain data, without maps.

        >>> list(looked.to_json())[:2]
        ['network', 'is_trained']
        """
        return self.facts.to_json()


def refuse_page(file: Path) -> None:
    """Raise an error for a file of another kind than the page of a look.

    Raises:
        UsageError: it is not named as an HTML file.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError("the page of a look is an HTML file. Name it with .html at the end.", where=str(file))


def page_name(named: object) -> str:
    """The file name of a page about a sample.

    >>> page_name("photos/cat one.jpg"), page_name("test:17")
    ('look-cat-one.html', 'look-test-17.html')
    """
    name = Path(named).name if isinstance(named, (str, Path)) else "sample"
    stem = re.sub(r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|npy|npz)\b", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "sample"
    return f"look-{plain}.html"


@dataclass(frozen=True)
class LookRequest:
    """The options of a measurement; the fields are arguments of ``visus.look``.

    Raises:
        UsageError: the saliency method is unknown, or a size is below 1.
    """

    layer: str | None = None
    channel: int | None = None
    at: Sequence[int] | None = None
    target: str | int | None = None
    saliency: str | None = None
    object_px: int | None = None
    templates: bool = True

    def __post_init__(self) -> None:
        check_method(self.saliency)
        if self.object_px is not None and self.object_px < 1:
            raise UsageError(f"the size of objects must be at least 1, not {self.object_px}.")


def look(
    network: Network,
    sample: NamedSample,
    *,
    layer: str | None = None,
    channel: int | None = None,
    at: Sequence[int] | None = None,
    target: str | int | None = None,
    saliency: str | None = None,
    object_px: int | None = None,
    templates: bool = True,
    data: Samples | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    raw: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Look:
    """Show what a network sees in one sample. The result has the prediction, saliency maps with their checks, the maps of
    every layer, filters, templates, one output as a sum, and the receptive field of one unit; ``Look`` describes where each is.

    Args:
        network: a run or its folder; any module; or a design or ``package.module:callable``, which is not trained.
        sample: a file; ``FILE:17`` for a row of an array file; ``test:17`` for a sample of the data; or an array: of stored values for a
            run or for data, of scaled values (channels, *spatial) for a module.
        layer: path of the layer whose unit is shown, or of an operation outside of layers, such as ``block.add``; default: the last convolution whose receptive field is smaller than the
            sample.
        channel: channel of the unit; default: the one with the highest value for the sample.
        at: position of the unit in the map; default: that of the highest value.
        target: class that saliency explains, by name or number; default: the predicted class.
        saliency: show the map of this method even if it fails its checks: ``grad-cam``, ``gradient``,
            ``integrated-gradients``, ``occlusion``
            or ``all``; default: the maps that pass deletion and insertion against random order.
        object_px: size of the objects in the samples, in pixels, for the growth of fields.
        templates: whether to search for the patches that activate filters most, which takes a pass over the data.
        data: other data, or scaled samples (N, channels, *spatial) for a module; None for a run's own.
        input_shape: (channels, *spatial) for a network without a run, if neither sample nor data determines it.
        num_classes: number of classes of a design or a callable, if no data determines it; default: 1000. For a module, the
            number of its outputs.
        classes: names of a module's classes.
        raw: return a run's own probabilities, not calibrated.
        cache_dir: another folder for the decoded data.
        progress: False shows nothing on stderr; default: work that takes longer than a moment shows its progress.
        on_event: receives a ``Progress`` after each part.
        should_stop: called after each part; True raises ``CanceledError``.

    Raises:
        UsageError: the layer, channel, position, class or sample does not exist.
        ImageError: the sample cannot be read.
        RunError: the run cannot be opened.

    >>> from torch import nn
    >>> found = look(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), torch.rand(1, 8, 8))
    >>> [(each.path, each.shape, each.field) for each in found.layers[:2]]
    [('0', (4, 6, 6), '3/1'), ('1', (4, 6, 6), '3/1')]
    """
    request = LookRequest(layer, channel, at, target, saliency, object_px, templates)
    with following("looking", Monitor(on_event, should_stop), progress) as monitor:
        opened = open_look(
            network,
            sample,
            data=data,
            input_shape=input_shape,
            num_classes=num_classes,
            classes=classes,
            raw=raw,
            cache_dir=cache_dir,
            **monitor.keywords,
        )
        return measure_look(opened, request, **monitor.keywords)


def measure_look(
    opened: OpenedLook,
    request: LookRequest | None = None,
    *,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Look:
    """Measure everything that a look shows. It can be called again with another request.

    Args:
        opened: result of ``open_look``.
        request: options of the measurement; default: all defaults.
        on_event, should_stop: as for ``visus.look``.

    Raises:
        UsageError: the layer, channel, position or class does not exist, or the module cannot be analyzed.
    """
    try:
        return Look(_measure(opened, request or LookRequest(), Monitor(on_event, should_stop)))
    except (VisusError, MemoryError):
        raise
    except Exception as error:  # whatever a person's own code makes of a gradient
        if not isinstance(opened.source.network, nn.Module) or opened.calibrator is not None:
            raise
        raise UsageError(
            f"{opened.name} cannot be analyzed: {describe_failure(error, opened.module)}. A look needs an output of numbers with a gradient to the input."
        ) from error


def _measure(opened: OpenedLook, request: LookRequest, monitor: Monitor) -> LookFacts:
    step = functools.partial(monitor.step, "looking", total=6)
    step(0)
    module, is_trained, missing = opened.module, opened.is_trained, dict[str, str]()
    x = as_batch(module, opened.item.scaled)
    _try(module, x, opened.name)
    macs = max(1, count_macs(module, tuple(x.shape[1:])))
    probe = Probe(module, x, macs, opened.calibrator, opened.has_classes)
    layers, num_over, no_fields = layers_of(probe, opened.pool, request.layer)
    missing["layers"] = uncalled_parts(module, layers)
    unit = unit_of(probe, layers, request.layer, request.channel, request.at)
    step(1)
    answer = _answer(probe, opened, request.target)
    if answer is None:
        missing["answer"] = "This network does not return one value per class, so it has no class prediction."
    explained: Target = unit if answer is None else [answer.target]
    maps = saliency_of(probe, explained, request.saliency, is_trained=is_trained)
    missing["methods"] = maps.missing
    step(2)
    found, missing["sum"] = sum_of(probe, layers, unit if request.layer is not None else None)
    step(3)
    patches, patches_in, missing["patches"] = _patches(probe, opened, layers, no_fields, is_asked=request.templates)
    step(4)
    kernels = kernels_of(module, [each.path for each in layers])
    missing["kernels"] = "" if kernels else "No layer of this network has kernels."
    missing["fields"] = no_fields
    fields = None if no_fields else unit_fields(probe, layers, unit, opened.pool, opened.before)
    step(5)
    return LookFacts(
        name=opened.name,
        is_trained=is_trained,
        made_with=__version__,
        sample=opened.item.facts,
        layers=layers,
        answer=answer,
        methods=maps.shown,
        hidden=maps.hidden,
        reason=maps.reason,
        kernels=kernels,
        patches=patches,
        patches_of=patches_in,
        num_over=num_over,
        sum=found,
        unit=fields,
        object_px=request.object_px,
        warning="" if is_trained else UNTRAINED,
        answer_notes=opened.answer_notes,
        missing={part: why for part, why in missing.items() if why},
    )


def _answer(probe: Probe, opened: OpenedLook, target: str | int | None) -> Answer | None:
    """The answer of the network; None if it has none.

    Raises:
        UsageError: a class to explain, or a number of classes, that the network does not have.
    """
    answer = answer_of(probe, opened.classes, target)
    if opened.num_classes is not None:
        _refuse_other_number(opened.num_classes, answer)
    if answer is None and target is not None:
        raise UsageError("this network does not return one value per class, so no class can be explained.")
    return answer


def _patches(
    probe: Probe, opened: OpenedLook, layers: Sequence[LayerLook], no_fields: str, *, is_asked: bool
) -> tuple[tuple[LayerPatches, ...], str, str]:
    """The strongest patches of the pool, the samples that they come from in words, and why there are none."""
    if no_fields:
        return (), "", no_fields
    if not is_asked:
        return (), "", "Templates were left out: templates=False, or --no-templates."
    if opened.pool is None:
        return (), "", opened.no_pool
    patches, where = patches_of(probe, layers, opened.pool)
    return patches, where, "" if patches else "No layer of this network is a convolution."


def _refuse_other_number(num_classes: int, answer: Answer | None) -> None:
    """Refuse a number of classes that a module does not give: a module is not made for it, as a design is."""
    if answer is None:
        raise UsageError(
            f"this module does not return one value per class, and {num_classes} classes were requested. Leave them out."
        )
    if len(answer.classes) != num_classes:
        raise UsageError(
            f"this module gives {write_number_of(len(answer.classes), 'number')} for a sample, and {num_classes} classes were requested. Name "
            f"{len(answer.classes)}, or leave them out."
        )


def _try(module: nn.Module, x: Tensor, name: str) -> None:
    """Refuse a module that cannot take the sample, with its own words."""
    try:
        with eval_mode(module), torch.no_grad():
            module(x)
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"this module cannot take a sample of {tuple(x.shape[1:])}: {error}", where=name) from error
