"""Whatever a person calls a network to look at, and the sample and data that they name with it -> one module, one sample and a pool of samples.

This file knows runs, modules, designs and callables, and which of their data is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.design import Design
from visus.design.notation import read
from visus.errors import UsageError, VisusError
from visus.examine.layer_calls import eval_mode
from visus.files import text_or_file
from visus.networks.own_code import copied, shaped
from visus.training.runs import RunFolder
from visus.workbench.callable_names import is_callable_name
from visus.workbench.look.inputs import Named, SamplePool, Subject, find_sample, sample_of_tensor
from visus.workbench.modules import call_by_name, make_network
from visus.workbench.runs.run import Run

Samples = Data | Tensor | str | Path
NUM_CLASSES: Final = 1000


@dataclass(frozen=True, eq=False)
class OpenedNetwork:
    """A network with all that was found to look at it.

    Args:
        name: of the network.
        module: on the CPU.
        is_trained: whether its weights were trained, or are a person's own.
        classes: their names; none where they are only numbers.
        subject: the sample.
        pool: samples to measure over; None where there are none.
        num_classes: how many were asked for; None where the network says it itself.
        no_pool: why there are none.
        before: the network before training.
    """

    name: str
    module: nn.Module
    is_trained: bool
    classes: tuple[str, ...]
    subject: Subject
    pool: SamplePool | None
    no_pool: str = ""
    before: nn.Module | None = None
    num_classes: int | None = None


def open_network(
    network: Run | nn.Module | Design | str,
    sample: Named,
    data: Samples | None,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    classes: Sequence[str] | None,
    cache_dir: str | Path | None,
) -> OpenedNetwork:
    """The network, the sample and what to measure over; the arguments are those of ``looking.look``, with a run folder loaded.

    Raises:
        UsageError: what is given does not go together, or there is no such sample.
        ImageError: the sample cannot be read.
        DataError: the data cannot be opened.
    """
    if isinstance(network, Run):
        if input_shape is not None or classes is not None or num_classes is not None:
            raise UsageError("a run has an input shape and classes of its own. Leave input_shape and classes out.")
        if isinstance(data, Tensor):
            raise UsageError("the data of a run is a folder, a file or opened data, and no tensor.")
        return _opened_run(network, sample, data, cache_dir)
    if num_classes is not None and num_classes < 1:
        raise UsageError(f"the number of classes must be at least 1, not {num_classes}.")
    pool: SamplePool | None = None
    opened: Data | None = None
    if isinstance(data, Tensor):
        pool = SamplePool(data, None, "the samples given")
    elif data is not None:
        opened = data if isinstance(data, Data) else _open_for(data, input_shape, cache_dir)
        pool = _pool_of(opened)
    shape = tuple(input_shape) if input_shape is not None else opened.input_shape if opened is not None else None
    subject = _subject(network, sample, shape, opened)
    names = tuple(classes or (opened.classes if opened is not None else ()))
    if num_classes is not None and names and len(names) != num_classes:
        whose = "are named" if classes else "are in the data"
        raise UsageError(f"{num_classes} classes are asked for, and {len(names)} {whose}. Leave the number out.")
    no_pool = "There is no data to look in. Give some, and the patches that excite each filter most are found in it."
    if isinstance(network, nn.Module):
        asked = len(classes) if classes else num_classes
        module = _on_cpu(shaped(network, tuple(subject.scaled.shape[1:])))
        return OpenedNetwork(type(network).__qualname__, module, True, names, subject, pool, no_pool, num_classes=asked)
    if isinstance(network, str) and is_callable_name(network) and not names and num_classes is None:
        module = _called(network, tuple(subject.scaled.shape[1:]))
        return OpenedNetwork(network.strip(), _on_cpu(module), False, names, subject, pool, no_pool)
    made = make_network(network, tuple(subject.scaled.shape[1:]), len(names) or num_classes or NUM_CLASSES)
    name = made.asked if made.asked != "a design" else made.text.strip()
    return OpenedNetwork(name, made.module.eval(), False, names, subject, pool, no_pool)


def _called(name: str, input_shape: tuple[int, ...]) -> nn.Module:
    """What a callable gives of itself where nothing says how many classes there are: it may give maps, or have a number of its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return shaped(call_by_name(name.strip(), input_shape, NUM_CLASSES), input_shape).eval()


def _open_for(path: str | Path, input_shape: Sequence[int] | None, cache_dir: str | Path | None) -> Data:
    """Data for a network that is no run, of the input shape that is asked for."""
    if input_shape is None:
        return open_data(path, cache_dir=cache_dir)
    return open_data(path, img_size=tuple(input_shape[1:]), channels=input_shape[0], cache_dir=cache_dir)


def _pool_of(data: Data) -> SamplePool:
    """The training split, from which filters come; the scored one where there is no other."""
    split = "train" if len(data.split("train")) else data.scored_split
    name = (
        "the data"
        if data.is_whole
        else {"train": "the training split", "val": "the validation split"}.get(split, "the test split")
    )
    return SamplePool(data.split(split), data.preprocessing, name)


def _subject(network: nn.Module | Design | str, sample: Named, shape: tuple[int, ...] | None, data: Data | None) -> Subject:
    if data is not None:
        return find_sample(sample, data.preprocessing, data)
    if isinstance(sample, (np.ndarray, Tensor)):
        is_batch = sample.ndim > 2 and len(sample) == 1 and _takes(network, sample) and not _takes(network, sample[None])
        return sample_of_tensor(sample[0] if is_batch else sample)
    if shape is None:
        if isinstance(network, str) and not is_callable_name(network):
            read(text_or_file(network))  # a misspelled design is the first thing to say
        if _is_of_split(sample):
            raise UsageError(
                "a sample of a split is one of data. Give the data with --data, or name a file.", where=str(sample)
            )
        raise UsageError(
            "a file is read at the size of the network's input. Give it, such as input_shape=(3, 224, 224), or --input 3,224,224."
        )
    if not 2 <= len(shape) <= 4 or any(length < 1 for length in shape):
        raise UsageError(f"an input has channels and one to three lengths, such as 3,224,224, and not {shape}.")
    kind = "images" if len(shape) == 3 else "array"
    dtype = "uint8" if kind == "images" else "float32"
    plain = (0.0,) * shape[0]
    plan = Preprocessing(kind, shape[0], shape[1:], "squash", dtype, "mean-deviation", plain, (1.0,) * shape[0])  # type: ignore[arg-type]
    return find_sample(sample, plan, None, own_scale=True)


def _takes(network: nn.Module | Design | str, batch: Any) -> bool:
    """Whether a module can be given these samples; a design takes whatever it is made for."""
    if not isinstance(network, nn.Module):
        return False
    try:
        with eval_mode(network), torch.no_grad():
            network(torch.as_tensor(batch).float().to(next((each.device for each in network.parameters()), None)))
    except Exception:  # whatever a person's own code raises
        return False
    return True


def _opened_run(run: Run, sample: Named, data: Data | str | Path | None, cache_dir: str | Path | None) -> OpenedNetwork:
    opened: Data | None = None
    no_pool = ""
    try:
        opened = data if isinstance(data, Data) else run.open_data(data, cache_dir=cache_dir)
    except VisusError as error:
        if data is not None or _is_of_split(sample):
            raise
        no_pool = f"The run's data could not be opened, so no patches were looked for in it: {error}"
    subject = find_sample(sample, run.preprocessing, opened)
    pool = _pool_of(opened) if opened is not None else None
    return OpenedNetwork(run.name, _on_cpu(run.module), True, run.classes, subject, pool, no_pool, _before_training(run))


def _is_of_split(sample: Named) -> bool:
    return (
        isinstance(sample, (str, Path))
        and str(sample).partition(":")[0] in ("train", "val", "test")
        and not Path(sample).exists()
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
    return module if all(each.device.type == "cpu" for each in values) else copied(module).cpu()
