"""Opens a look: a run, module, design or callable, with one sample and a pool of samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visus.data.opened import Data, open_data
from visus.data.preprocessing import Preprocessing
from visus.design import Design
from visus.design.notation import read
from visus.errors import CanceledError, UsageError, VisusError
from visus.evaluation.calibration import Calibrator
from visus.evaluation.tasks.label_thresholds import Sigmoid
from visus.evaluation.tasks.prediction_intervals import Numbers
from visus.examine.layer_calls import eval_mode
from visus.files import text_or_file
from visus.networks.own_code import copied, shaped
from visus.progress import OnEvent, ShouldStop
from visus.training.runs import RunFolder
from visus.workbench.callable_names import is_callable_name
from visus.workbench.look.inputs import LookItem, NamedSample, SamplePool, find_sample, sample_of_tensor
from visus.workbench.modules import call_by_name, make_network
from visus.workbench.runs.saved import SavedRun, read_run, unfinished_notes
from visus.workbench.runs.scoring import calibration_sentence, views_sentence
from visus.workbench.summaries import NUM_CLASSES

Network = SavedRun | nn.Module | Design | str | Path
Samples = Data | Tensor | str | Path


@dataclass(frozen=True, eq=False)
class SampleSource:
    """The source of the samples of a look, and their preprocessing.

    Args:
        network: the network as given; a module is tested with a batch.
        preprocessing: preprocessing of a run; None if the data has it, or there is none.
        input_shape: (channels, *spatial), if known.
        data: data whose splits can be named; None if there is none.
    """

    network: nn.Module | Design | str
    preprocessing: Preprocessing | None
    input_shape: tuple[int, ...] | None
    data: Data | None

    def find(self, sample: NamedSample) -> LookItem:
        """Find a sample by name.

        Raises:
            ImageError: the sample cannot be read.
            UsageError: the sample does not exist, or its preprocessing is unknown.
        """
        if self.preprocessing is not None:
            return find_sample(sample, self.preprocessing, self.data)
        return _find_without_run(self.network, sample, self.input_shape, self.data)


@dataclass(frozen=True, eq=False)
class OpenedLook:
    """A network, a sample and a pool of samples, ready for repeated measurements.

    Args:
        name: name of the network.
        module: the network, on the CPU.
        is_trained: whether its weights were trained, or come from the user.
        classes: class names; empty if classes only have numbers.
        item: the sample.
        source: the source of other samples.
        pool: samples to measure over; None if there are none.
        no_pool: the reason if there is no pool.
        before: the network before training.
        num_classes: requested number of classes; None if the network determines it.
        calibrator: calibrator of a run; None for other networks.
        answer_notes: notes on a run's predictions, such as test-time augmentation.
        has_classes: whether the outputs are those of classes; False for numbers.
    """

    name: str
    module: nn.Module
    is_trained: bool
    classes: tuple[str, ...]
    item: LookItem
    source: SampleSource
    pool: SamplePool | None
    no_pool: str = ""
    before: nn.Module | None = None
    num_classes: int | None = None
    calibrator: Calibrator | Sigmoid | None = None
    answer_notes: tuple[str, ...] = ()
    has_classes: bool = True

    def with_sample(self, sample: NamedSample) -> OpenedLook:
        """The same network and pool with another sample, named as for ``visus.look``.

        Raises:
            ImageError: the sample cannot be read.
            UsageError: the sample does not exist.
        """
        return dataclasses.replace(self, item=self.source.find(sample))


def open_look(
    network: Network,
    sample: NamedSample,
    *,
    data: Samples | None = None,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
    raw: bool = False,
    cache_dir: str | Path | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> OpenedLook:
    """Open a network, a sample and the data to measure over; ``measure_look`` measures, and can be called repeatedly.

    The arguments are those of ``visus.look``.

    Raises:
        UsageError: the arguments contradict each other, or the sample does not exist.
        ImageError: the sample cannot be read.
        DataError: the data cannot be opened.
        RunError: the run cannot be opened.
    """
    if not isinstance(network, (SavedRun, nn.Module, Design, str, Path)):
        raise UsageError(
            f"a network is a run or its folder, a module, a design or the name of a callable, and not {type(network).__name__}."
        )
    if isinstance(network, Path) or (isinstance(network, str) and names_run(network)):
        network = read_run(SavedRun, network, device="cpu")
    long = {"cache_dir": cache_dir, "on_event": on_event, "should_stop": should_stop}
    if isinstance(network, SavedRun):
        if input_shape is not None or classes is not None or num_classes is not None:
            raise UsageError("a run has its own input shape and classes. Leave input_shape and classes out.")
        if isinstance(data, Tensor):
            raise UsageError("the data of a run must be a folder, a file or opened data, not a tensor.")
        return _open_run(network, sample, data, raw, long)
    if raw:
        raise UsageError("raw is for runs: only a run has a calibration to skip. Leave it out.")
    if isinstance(network, nn.Module) and any(values.is_meta for values in (*network.parameters(), *network.buffers())):
        raise UsageError("this module is on the device meta and has no values. Load its weights first.")
    if num_classes is not None and num_classes < 1:
        raise UsageError(f"the number of classes must be at least 1, not {num_classes}.")
    return _open_network(network, sample, data, input_shape, num_classes, classes, long)


def _open_network(
    network: nn.Module | Design | str,
    sample: NamedSample,
    data: Samples | None,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    classes: Sequence[str] | None,
    long: dict[str, Any],
) -> OpenedLook:
    """A network that is no run; ``long`` are the keywords with which its data is opened."""
    pool: SamplePool | None = None
    opened: Data | None = None
    if isinstance(data, Tensor):
        pool = SamplePool(data, None, "the samples given")
    elif data is not None:
        opened = data if isinstance(data, Data) else _open_for(data, input_shape, long)
        pool = _pool_of(opened)
    shape = tuple(input_shape) if input_shape is not None else opened.input_shape if opened is not None else None
    source = SampleSource(network, None, shape, opened)
    item = source.find(sample)
    names = tuple(classes or (opened.classes if opened is not None else ()))
    if num_classes is not None and names and len(names) != num_classes:
        whose = "are named" if classes else "are in the data"
        raise UsageError(f"{num_classes} classes were requested, and {len(names)} {whose}. Leave the number out.")
    no_pool = "There is no data to search. With data, the page shows the patches that activate each filter most."
    shape = tuple(item.scaled.shape[1:])
    if isinstance(network, nn.Module):
        module, asked = _on_cpu(shaped(network, shape)), len(classes) if classes else num_classes
        name = type(network).__qualname__
        return OpenedLook(name, module, True, names, item, source, pool, no_pool, num_classes=asked)
    if isinstance(network, str) and is_callable_name(network) and not names and num_classes is None:
        module = _on_cpu(_called(network, shape))
        return OpenedLook(network.strip(), module, False, names, item, source, pool, no_pool)
    made = make_network(network, shape, len(names) or num_classes or NUM_CLASSES)
    name = made.asked if made.asked != "a design" else made.text.strip()
    return OpenedLook(name, made.module.eval(), False, names, item, source, pool, no_pool)


def names_run(words: str) -> bool:
    """Whether the text names a run folder, existing or not, rather than a design, file or callable.

    >>> names_run("runs/photos"), names_run("resnet(18)"), names_run("my.models:Net")
    (True, False, False)
    """
    is_path = "/" in words and not any(sign in words for sign in "(,:\n[") and not Path(words).suffix
    return Path(words).is_dir() or (is_path and not Path(words).is_file())


def _called(name: str, input_shape: tuple[int, ...]) -> nn.Module:
    """The module of a callable where nobody names a number of classes: it may return maps, or have its own number."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return shaped(call_by_name(name.strip(), input_shape, NUM_CLASSES), input_shape).eval()


def _open_for(path: str | Path, input_shape: Sequence[int] | None, long: dict[str, Any]) -> Data:
    """Data for a network that is no run, of the input shape that is asked for."""
    if input_shape is None:
        return open_data(path, **long)
    return open_data(path, img_size=tuple(input_shape[1:]), channels=input_shape[0], **long)


def _pool_of(data: Data) -> SamplePool:
    """The training split, from which filters come; the scored one where there is no other."""
    split = "train" if len(data.split("train")) else data.scored_split
    name = (
        "the data"
        if data.is_whole
        else {"train": "the training split", "val": "the validation split"}.get(split, "the test split")
    )
    return SamplePool(data.split(split), data.preprocessing, name)


def _find_without_run(
    network: nn.Module | Design | str, sample: NamedSample, shape: tuple[int, ...] | None, data: Data | None
) -> LookItem:
    if data is not None:
        return find_sample(sample, data.preprocessing, data)
    if isinstance(sample, (np.ndarray, Tensor)):
        is_batch = sample.ndim > 2 and len(sample) == 1 and _takes(network, sample) and not _takes(network, sample[None])
        return sample_of_tensor(sample[0] if is_batch else sample)
    if shape is None:
        if isinstance(network, str) and not is_callable_name(network):
            read(text_or_file(network))  # a misspelled design is reported first
        if _is_of_split(sample):
            raise UsageError("a sample of a split needs data. Give the data with --data, or name a file.", where=str(sample))
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


def _open_run(
    run: SavedRun, sample: NamedSample, data: Data | str | Path | None, raw: bool, long: dict[str, Any]
) -> OpenedLook:
    opened: Data | None = None
    no_pool = ""
    try:
        opened = data if isinstance(data, Data) else run.open_data(data, **long)
    except CanceledError:
        raise
    except VisusError as error:
        if data is not None or _is_of_split(sample):
            raise
        no_pool = f"The run's data could not be opened, so no patches were looked for in it: {error}"
    source = SampleSource(run.module, run.preprocessing, run.preprocessing.input_shape, opened)
    noun = run.preprocessing.noun
    views = (
        f"This page is about the unchanged {noun}. In a prediction: {sentence}" if (sentence := views_sentence(run)) else ""
    )
    notes = (*unfinished_notes(run), views, calibration_sentence(run, raw=raw))
    return OpenedLook(
        name=run.name,
        module=_on_cpu(run.module),
        is_trained=True,
        classes=run.classes,
        item=source.find(sample),
        source=source,
        pool=_pool_of(opened) if opened is not None else None,
        no_pool=no_pool,
        before=_before_training(run),
        calibrator=None if isinstance(to_answers := run.calibrator(raw=raw), Numbers) else to_answers,
        has_classes=run.task.name != "regression",
        answer_notes=tuple(note for note in notes if note),
    )


def _is_of_split(sample: NamedSample) -> bool:
    return (
        isinstance(sample, (str, Path))
        and str(sample).partition(":")[0] in ("train", "val", "test")
        and not Path(sample).exists()
    )


def _before_training(run: SavedRun) -> nn.Module | None:
    """The network as its seed made it; None if it was a Python object."""
    text = RunFolder.open(run.folder).read_text("design.txt").rstrip("\n")
    try:
        return make_network(text, run.preprocessing.input_shape, len(run.classes), seed=run.recipe.seed).module.eval()
    except UsageError:
        return None


def _on_cpu(module: nn.Module) -> nn.Module:
    """The module itself where it is on the CPU, else a copy there."""
    values = [*module.parameters(), *module.buffers()]
    return module if all(each.device.type == "cpu" for each in values) else copied(module).cpu()
