"""``visus look``: whatever a person calls a network, and one of their samples -> all that can be seen inside, measured.

This file knows which parts a look has and what is told where one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from visus import __version__
from visus.design import Design
from visus.errors import UsageError, VisusError
from visus.evaluation.calibration import Calibrator
from visus.examine.layer_calls import as_batch, eval_mode
from visus.examine.saliency_types import Target
from visus.files import write_file
from visus.networks.own_code import describe_failure
from visus.pages.look.facts import Answer, LayerLook, LayerPatches, LookFacts
from visus.pages.look.page import look_page
from visus.units import Described, write_number_of
from visus.workbench.look.inputs import Named
from visus.workbench.look.map_methods import check_method
from visus.workbench.look.measures import (
    Subjected,
    answer_of,
    fields_of,
    kernels_of,
    layers_of,
    left_out,
    patches_of,
    saliency_of,
    sum_of,
    unit_of,
)
from visus.workbench.look.networks import OpenedNetwork, Samples, open_network
from visus.workbench.modules import count_macs
from visus.workbench.progress_display import working
from visus.workbench.runs.run import Run, load

Network = Run | nn.Module | Design | str | Path
UNTRAINED: Final = (
    "This network was not trained: its weights are those that it begins with. What is seen here is what random filters do, and no answer means "
    "anything."
)


@dataclass(frozen=True, eq=False, repr=False)
class Look(Described):
    """What was found inside a network with one sample.

    Args:
        facts: all of it, as plain values.
    """

    facts: LookFacts

    def _facts(self) -> tuple[str, list[tuple[str, str]]]:
        sample = self.facts.sample
        rows = [
            ("layers", f"{len(self.layers):,}"),
            ("next", "look.write(FOLDER) writes the page; .to_json() gives the measures"),
        ]
        return f"Look at {sample.name}", rows

    @property
    def layers(self) -> tuple[LayerLook, ...]:
        """The layers in the order of computation: path, shape, maps, fields, share of zeros, dead and sparse filters."""
        return self.facts.layers

    def page(self) -> str:
        """All of it on one HTML page, which needs no other file."""
        return look_page(self.facts)

    def write(self, path: str | Path) -> Path:
        """Write the page, under a number where the name is taken: nothing is overwritten.

        Args:
            path: a file; or a folder, where the page is named after the sample.

        Returns:
            Where it is.

        Raises:
            StorageError: the file cannot be written.
        """
        wanted = Path(path)
        wanted = wanted / page_name(self.facts.sample.name) if wanted.is_dir() else wanted
        place, number = wanted, 1
        while place.exists():
            number += 1
            place = wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
        write_file(place, self.page())
        return place

    def to_json(self) -> dict[str, Any]:
        """All measures as plain data, without maps."""
        return self.facts.to_json()


def names_run(words: str) -> bool:
    """Whether words name a run folder, there or not, and no design, file or callable.

    >>> names_run("runs/photos"), names_run("resnet(18)"), names_run("my.models:Net")
    (True, False, False)
    """
    is_path = "/" in words and not any(sign in words for sign in "(,:\n[") and not Path(words).suffix
    return Path(words).is_dir() or (is_path and not Path(words).is_file())


def page_name(named: object) -> str:
    """The file name of a page about a sample.

    >>> page_name("photos/cat one.jpg"), page_name("test:17")
    ('look-cat-one.html', 'look-test-17.html')
    """
    name = Path(named).name if isinstance(named, (str, Path)) else "sample"
    stem = re.sub(r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|npy|npz)\b", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "sample"
    return f"look-{plain}.html"


def look(
    network: Network,
    sample: Named,
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
) -> Look:
    """What a network sees in one sample: its answer, where it looked and whether that can be believed, the maps of every layer, filters,
    templates, one output as a sum, and what one unit reads.

    Args:
        network: a run or its folder; any module; or a design or ``package.module:callable``, which is looked at untrained.
        sample: a file; ``FILE:17`` for a row of an array file; ``test:17`` for a sample of the data; or an array: of stored values for a
            run or for data, of scaled values (channels, *spatial) for a module.
        layer: path of the layer whose unit is taken apart; None for one that is chosen.
        channel: its channel; None for that with the highest value for the sample.
        at: its position in the map; None for that of the highest value.
        target: class that saliency explains, by name or number; None for the network's answer.
        saliency: show this method's map whether it passes its checks or not: ``grad-cam``, ``gradient``, ``integrated-gradients``, ``occlusion``
            or ``all``; None for the maps that pass deletion and insertion against random order.
        object_px: size of the objects in the samples, in pixels, for the growth of fields.
        templates: whether to look for the patches that excite filters most, which takes a pass over data.
        data: other data, or scaled samples (N, channels, *spatial) for a module; None for a run's own.
        input_shape: (channels, *spatial) for a network that is no run, where neither sample nor data says it.
        num_classes: of a design or a callable, where no data says it; None for 1000. Of a module it must be what it gives.
        classes: names of a module's classes.
        raw: a run's own probabilities, not calibrated.
        cache_dir: another folder for the decoded data.

    Raises:
        UsageError: no such layer, channel, position, class or sample.
        ImageError: the sample cannot be read.
        RunError: the run cannot be opened.

    >>> from torch import nn
    >>> found = look(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), torch.rand(1, 8, 8))
    >>> [(each.path, each.shape, each.field) for each in found.layers[:2]]
    [('0', (4, 6, 6), '3/1'), ('1', (4, 6, 6), '3/1')]
    """
    check_method(saliency)
    if object_px is not None and object_px < 1:
        raise UsageError(f"the size of objects must be at least 1, not {object_px}.")
    if not isinstance(network, (Run, nn.Module, Design, str, Path)):
        raise UsageError(
            f"a network is a run or its folder, a module, a design or the name of a callable, and not {type(network).__name__}."
        )
    if isinstance(network, Path) or (isinstance(network, str) and names_run(network)):
        network = load(network, device="cpu")
    if raw and not isinstance(network, Run):
        raise UsageError("raw is for runs: only a run has a temperature to leave out. Leave it out.")
    if isinstance(network, nn.Module) and any(values.is_meta for values in (*network.parameters(), *network.buffers())):
        raise UsageError("this module lies on the device meta and has no numbers. Load its weights first.")
    views = network.views_sentence if isinstance(network, Run) else ""
    calibrator = network.calibrator(raw=raw) if isinstance(network, Run) else None
    calibration = network.calibration_sentence(raw=raw) if isinstance(network, Run) else ""
    with working("looking"):
        opened = open_network(network, sample, data, input_shape, num_classes, classes, cache_dir)
        try:
            return Look(
                _facts(
                    opened,
                    layer,
                    channel,
                    at,
                    target,
                    saliency,
                    object_px,
                    templates=templates,
                    views=views,
                    calibrator=calibrator,
                    calibration=calibration,
                )
            )
        except (VisusError, MemoryError):
            raise
        except Exception as error:  # whatever a person's own code makes of a gradient
            if not isinstance(network, nn.Module):
                raise
            raise UsageError(
                f"{opened.name} cannot be looked into: {describe_failure(error, opened.module)}. A look needs numbers, and a gradient from the answer to the input."
            ) from error


def _facts(
    opened: OpenedNetwork,
    layer: str | None,
    channel: int | None,
    at: Sequence[int] | None,
    target: str | int | None,
    asked: str | None,
    object_px: int | None,
    *,
    templates: bool,
    views: str,
    calibrator: Calibrator | None,
    calibration: str,
) -> LookFacts:
    module, is_trained = opened.module, opened.is_trained
    x = as_batch(module, opened.subject.scaled)
    missing = {} if is_trained else {"training": UNTRAINED}
    if views:
        missing["views"] = f"All here is about the {opened.subject.facts.noun} as it is. visus predict averages: {views}"
    if calibration:
        missing["calibration"] = calibration
    _try(module, x, opened.name)
    subject = Subjected(module, x, max(1, count_macs(module, tuple(x.shape[1:]))), calibrator)
    layers, num_over, no_fields = layers_of(subject, opened.pool)
    missing["layers"] = left_out(module, layers)
    unit = unit_of(subject, layers, layer, channel, at)
    answer = answer_of(subject, opened.classes, target)
    if opened.num_classes is not None:
        _refuse_other_number(opened.num_classes, answer)
    if answer is None:
        missing["answer"] = (
            "This network gives something else than one number for each class, so it has no answer of that kind."
        )
        if target is not None:
            raise UsageError(
                "this network gives something else than one number for each class, so no class can be explained."
            )
    explained: Target = unit if answer is None else [answer.target]
    maps = saliency_of(subject, explained, asked, is_trained=is_trained)
    missing["methods"] = maps.missing
    found, missing["sum"] = sum_of(subject, layers, unit if layer is not None else None)
    patches: tuple[LayerPatches, ...] = ()
    patches_in = ""
    if no_fields:
        missing["fields"] = missing["patches"] = no_fields
    elif not templates:
        missing["patches"] = "Templates were left out, as was asked."
    elif opened.pool is None:
        missing["patches"] = opened.no_pool
    else:
        patches, patches_in = patches_of(subject, layers, opened.pool)
        missing["patches"] = "" if patches else "No layer of this network is a convolution."
    kernels = kernels_of(module, [each.path for each in layers])
    missing["kernels"] = "" if kernels else "No layer of this network has kernels."
    return LookFacts(
        name=opened.name,
        is_trained=is_trained,
        made_with=__version__,
        sample=opened.subject.facts,
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
        unit=None if no_fields else fields_of(subject, layers, unit, opened.pool, opened.before),
        object_px=object_px,
        missing={part: why for part, why in missing.items() if why},
    )


def _refuse_other_number(num_classes: int, answer: Answer | None) -> None:
    """Refuse a number of classes that a module does not give: a module is not made for it, as a design is."""
    if answer is None:
        raise UsageError(
            f"this module gives something else than one number for each class, and {num_classes} classes are asked for. Leave them out."
        )
    if len(answer.classes) != num_classes:
        raise UsageError(
            f"this module gives {write_number_of(len(answer.classes), 'number')} for a sample, and {num_classes} classes are asked for. Name "
            f"{len(answer.classes)}, or leave them out."
        )


def _try(module: nn.Module, x: Tensor, name: str) -> None:
    """Refuse a module that cannot take the sample, with its own words."""
    try:
        with eval_mode(module), torch.no_grad():
            module(x)
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"this module cannot take a sample of {tuple(x.shape[1:])}: {error}", where=name) from error
