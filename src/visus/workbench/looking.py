"""``visus look``: whatever a person calls a network, and one of their items -> all that can be seen inside, measured.

This file knows runs, designs and modules, and which of their data is taken. It must not know how a part is measured or drawn, nor terminals.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus import __version__
from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.design import Design
from visus.design.notation import read
from visus.errors import UsageError, VisusError
from visus.examine.explained import Target
from visus.examine.layer_calls import at_rest
from visus.examine.look_facts import LayerLook, LayerPatches, LookFacts
from visus.examine.look_page import look_page
from visus.files import text_or_file, write_file
from visus.training.runs import RunFolder
from visus.workbench.looked_items import Named, Pool, Subject, find_item, item_of_tensor
from visus.workbench.looked_parts import (
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
from visus.workbench.modules import count_macs, make_network
from visus.workbench.named import is_callable_name
from visus.workbench.runs import Run, load

Network = Run | nn.Module | Design | str | Path
Items = Data | Tensor | str | Path
NUM_CLASSES: Final = 1000
UNTRAINED: Final = (
    "This network was not trained: its weights are those that it begins with. What is seen here is what random filters do, and no answer means "
    "anything."
)


@dataclass(frozen=True, eq=False)
class Look:
    """What was found inside a network with one item.

    Args:
        facts: all of it, as plain values.
    """

    facts: LookFacts

    @property
    def layers(self) -> tuple[LayerLook, ...]:
        """The layers in the order of computation: path, shape, maps, fields, share of zeros, dead and sparse filters."""
        return self.facts.layers

    def page(self) -> str:
        """All of it on one HTML page, which needs no other file."""
        return look_page(self.facts)

    def write(self, path: str | Path) -> Path:
        """Write the page, under a number where the name is taken: nothing is overwritten.

        Returns:
            Where it is.

        Raises:
            StorageError: the file cannot be written.
        """
        wanted = Path(path)
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
    """The file name of a page about an item.

    >>> page_name("photos/cat one.jpg"), page_name("test:17")
    ('look-cat-one.html', 'look-test-17.html')
    """
    name = Path(named).name if isinstance(named, (str, Path)) else "item"
    stem = re.sub(r"\.(?:jpe?g|png|gif|bmp|webp|tiff?|npy|npz)\b", "", name, flags=re.IGNORECASE)
    plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "item"
    return f"look-{plain}.html"


def look(
    network: Network,
    item: Named,
    *,
    layer: str | None = None,
    channel: int | None = None,
    at: Sequence[int] | None = None,
    target: str | int | None = None,
    object_px: int | None = None,
    templates: bool = True,
    data: Items | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
) -> Look:
    """What a network sees in one item: its answer, where it looked and whether that can be believed, the maps of every layer, filters,
    templates, one output as a sum, and what one unit reads.

    Args:
        network: a run or its folder; any module; or a design or ``package.module:callable``, which is looked at untrained.
        item: a file; ``FILE:17`` for a row of an array file; ``test:17`` for an item of the data; or an array: of stored values for a
            run or for data, of scaled values (channels, *spatial) for a module.
        layer: path of the layer whose unit is taken apart; None for one that is chosen.
        channel: its channel; None for that with the highest value for the item.
        at: its position in the map; None for that of the highest value.
        target: class that saliency explains, by name or number; None for the network's answer.
        object_px: size of the objects in the items, in pixels, for the growth of fields.
        templates: whether to look for the patches that excite filters most, which takes a pass over data.
        data: other data, or scaled items (N, channels, *spatial) for a module; None for a run's own.
        input_shape: (channels, *spatial) for a network that is no run, where neither item nor data says it.
        num_classes: of a design or a callable, where no data says it; None for 1000.
        classes: names of a module's classes.
        cache_dir: another folder for the decoded data.

    Raises:
        UsageError: no such layer, channel, position, class or item.
        PictureError: the item cannot be read.
        RunError: the run cannot be opened.

    >>> from torch import nn
    >>> found = look(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)), torch.rand(1, 8, 8))
    >>> [(each.path, each.shape, each.field) for each in found.layers[:2]]
    [('0', (4, 6, 6), '3/1'), ('1', (4, 6, 6), '3/1')]
    """
    if object_px is not None and object_px < 1:
        raise UsageError(f"the size of objects must be at least 1 px, not {object_px}.")
    if not isinstance(network, (Run, nn.Module, Design, str, Path)):
        raise UsageError(
            f"a network is a run or its folder, a module, a design or the name of a callable, and not {type(network).__name__}."
        )
    if isinstance(network, Path) or (isinstance(network, str) and names_run(network)):
        network = load(network, device="cpu")
    opened = _opened(network, item, data, input_shape, num_classes, classes, cache_dir)
    return Look(_facts(opened, layer, channel, at, target, object_px, templates=templates))


@dataclass(frozen=True, eq=False)
class _Opened:
    """A network with all that was found to look at it.

    Args:
        name: of the network.
        module: on the CPU.
        is_trained: whether its weights were trained, or are a person's own.
        classes: their names; none where they are only numbers.
        subject: the item.
        pool: items to measure over; None where there are none.
        no_pool: why there are none.
        before: the network before training.
    """

    name: str
    module: nn.Module
    is_trained: bool
    classes: tuple[str, ...]
    subject: Subject
    pool: Pool | None
    no_pool: str = ""
    before: nn.Module | None = None


def _opened(
    network: Run | nn.Module | Design | str,
    item: Named,
    data: Items | None,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    classes: Sequence[str] | None,
    cache_dir: str | Path | None,
) -> _Opened:
    if isinstance(network, Run):
        if input_shape is not None or classes is not None or num_classes is not None:
            raise UsageError("a run has an input shape and classes of its own. Leave input_shape and classes out.")
        if isinstance(data, Tensor):
            raise UsageError("the data of a run is a folder, a file or opened data, and no tensor.")
        return _opened_run(network, item, data, cache_dir)
    pool: Pool | None = None
    opened: Data | None = None
    if isinstance(data, Tensor):
        pool = Pool(data, None, "the items given")
    elif data is not None:
        opened = data if isinstance(data, Data) else _open_for(data, input_shape, cache_dir)
        pool = _pool_of(opened)
    shape = tuple(input_shape) if input_shape is not None else opened.input_shape if opened is not None else None
    subject = _subject(network, item, shape, opened)
    names = tuple(classes or (opened.classes if opened is not None else ()))
    if num_classes is not None and names and len(names) != num_classes:
        whose = "are named" if classes else "are in the data"
        raise UsageError(f"{num_classes} classes are asked for, and {len(names)} {whose}. Leave the number out.")
    no_pool = "There is no data to look in. Give some, and the patches that excite each filter most are found in it."
    if isinstance(network, nn.Module):
        return _Opened(type(network).__qualname__, _on_cpu(network), True, names, subject, pool, no_pool)
    made = make_network(network, tuple(subject.scaled.shape[1:]), len(names) or num_classes or NUM_CLASSES)
    name = made.asked if made.asked != "a design" else made.text.strip()
    return _Opened(name, made.module.eval(), False, names, subject, pool, no_pool)


def _open_for(path: str | Path, input_shape: Sequence[int] | None, cache_dir: str | Path | None) -> Data:
    """Data for a network that is no run, of the input shape that is asked for."""
    if input_shape is None:
        return open_data(path, cache_dir=cache_dir)
    return open_data(path, img_size=tuple(input_shape[1:]), channels=input_shape[0], cache_dir=cache_dir)


def _pool_of(data: Data) -> Pool:
    """The training split, from which filters come; the scored one where there is no other."""
    split = "train" if len(data.split("train")) else data.scored_split
    name = (
        "the data"
        if data.is_whole
        else {"train": "the training split", "val": "the validation split"}.get(split, "the test split")
    )
    return Pool(data.split(split), data.preprocessing, name)


def _subject(network: nn.Module | Design | str, item: Named, shape: tuple[int, ...] | None, data: Data | None) -> Subject:
    if data is not None:
        return find_item(item, data.preprocessing, data)
    if isinstance(item, (np.ndarray, Tensor)):
        is_batch = item.ndim > 2 and len(item) == 1 and _takes(network, item) and not _takes(network, item[None])
        return item_of_tensor(item[0] if is_batch else item)
    if shape is None:
        if isinstance(network, str) and not is_callable_name(network):
            read(text_or_file(network))  # a misspelt design is the first thing to say
        if _is_of_split(item):
            raise UsageError(
                "an item of a split is one of data. Give the data with --data, or name a file.", where=str(item)
            )
        raise UsageError(
            "a file is read at the size of the network's input. Give it, such as input_shape=(3, 224, 224), or --input 3,224,224."
        )
    if not 2 <= len(shape) <= 4 or any(length < 1 for length in shape):
        raise UsageError(f"an input has channels and one to three lengths, such as 3,224,224, and not {shape}.")
    kind = "pictures" if len(shape) == 3 else "array"
    dtype = "uint8" if kind == "pictures" else "float32"
    plain = (0.0,) * shape[0]
    plan = Preprocessing(kind, shape[0], shape[1:], "squash", dtype, "mean-deviation", plain, (1.0,) * shape[0])  # type: ignore[arg-type]
    return find_item(item, plan, None, own_scale=True)


def _takes(network: nn.Module | Design | str, batch: Any) -> bool:
    """Whether a module can be given these items; a design takes whatever it is made for."""
    if not isinstance(network, nn.Module):
        return False
    try:
        with at_rest(network), torch.no_grad():
            network(torch.as_tensor(batch).float().to(next((each.device for each in network.parameters()), None)))
    except Exception:  # whatever a person's own code raises
        return False
    return True


def _opened_run(run: Run, item: Named, data: Data | str | Path | None, cache_dir: str | Path | None) -> _Opened:
    opened: Data | None = None
    no_pool = ""
    try:
        opened = data if isinstance(data, Data) else run.open_data(data, cache_dir=cache_dir)
    except VisusError as error:
        if data is not None or _is_of_split(item):
            raise
        no_pool = f"The run's data could not be opened, so no patches were looked for in it: {error}"
    subject = find_item(item, run.preprocessing, opened)
    pool = _pool_of(opened) if opened is not None else None
    return _Opened(run.name, _on_cpu(run.module), True, run.classes, subject, pool, no_pool, _before_training(run))


def _is_of_split(item: Named) -> bool:
    return (
        isinstance(item, (str, Path)) and str(item).partition(":")[0] in ("train", "val", "test") and not Path(item).exists()
    )


def _before_training(run: Run) -> nn.Module | None:
    """The network as its seed made it; None where it was a Python object."""
    text = RunFolder.open(run.folder).read_text("design.txt").rstrip("\n")
    try:
        return make_network(text, run.preprocessing.input_shape, len(run.classes), seed=run.recipe.seed).module.eval()
    except UsageError:
        return None


def _on_cpu(module: nn.Module) -> nn.Module:
    """The module itself where it is on the CPU, else a copy there."""
    values = [*module.parameters(), *module.buffers()]
    return module if all(each.device.type == "cpu" for each in values) else copy.deepcopy(module).cpu()


def _facts(
    opened: _Opened,
    layer: str | None,
    channel: int | None,
    at: Sequence[int] | None,
    target: str | int | None,
    object_px: int | None,
    *,
    templates: bool,
) -> LookFacts:
    module, x = opened.module, opened.subject.scaled
    missing = {} if opened.is_trained else {"training": UNTRAINED}
    _try(module, x, opened.name)
    subject = Subjected(module, x, max(1, count_macs(module, tuple(x.shape[1:]))))
    layers, num_over, no_fields = layers_of(subject, opened.pool)
    missing["layers"] = left_out(module, layers)
    unit = unit_of(subject, layers, layer, channel, at)
    answer = answer_of(subject, opened.classes, target)
    if answer is None:
        missing["answer"] = (
            "This network gives something else than one number for each class, so it has no answer of that kind."
        )
        if target is not None:
            raise UsageError(
                "this network gives something else than one number for each class, so no class can be explained."
            )
    explained: Target = unit if answer is None else [answer.target]
    methods, reason, missing["methods"] = saliency_of(subject, explained, is_trained=opened.is_trained)
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
        is_trained=opened.is_trained,
        made_with=__version__,
        item=opened.subject.facts,
        layers=layers,
        answer=answer,
        methods=methods,
        reason=reason,
        kernels=kernels,
        patches=patches,
        patches_of=patches_in,
        num_over=num_over,
        sum=found,
        unit=None if no_fields else fields_of(subject, layers, unit, opened.pool, opened.before),
        object_px=object_px,
        missing={part: why for part, why in missing.items() if why},
    )


def _try(module: nn.Module, x: Tensor, name: str) -> None:
    """Refuse a module that cannot take the item, with its own words."""
    try:
        with at_rest(module), torch.no_grad():
            module(x)
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"this module cannot take an item of {tuple(x.shape[1:])}: {error}", where=name) from error
