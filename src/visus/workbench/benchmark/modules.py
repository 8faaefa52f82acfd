"""Measures every way in which PyTorch computes a network, and compares the outputs with those of plain PyTorch."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from visus.design import Design
from visus.errors import CanceledError, UsageError, VisusError, refuse_with
from visus.evaluation.predictions import evaluation_mode
from visus.networks.machine import describe
from visus.networks.own_code import describe_failure, describe_output, shaped
from visus.progress import Monitor
from visus.timing import Work, take_turns, timed
from visus.units import write_number_of, write_shape
from visus.workbench.benchmark.result import PLAIN, PREDICTION, TRAINING, Agreement, Benchmark, Timing
from visus.workbench.benchmark.ways import Way, find_ways
from visus.workbench.modules import make_network
from visus.workbench.runs.saved import SavedRun, read_run
from visus.workbench.runs.shifts import some_samples
from visus.workbench.summaries import INPUT_SHAPE, NUM_CLASSES

NUM_COMPARED = 256  # samples whose outputs are compared, at most
MAX_VALUES = 2**25  # input values of all compared samples, at most
WARM_CALLS = 2
ROUND_S = 0.05  # a short call is repeated until it fills this time, and the median counts
MAX_CALLS = 100
UNTRAINED = "The weights are untrained: their outputs are close to one another, so a small difference can change the label."


def measure_module(
    network: str | Path | Design | nn.Module | SavedRun,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    *,
    batch_size: int,
    threads: int | None,
    device: str,
    rounds: int,
    time_limit_s: float | None,
    compile: bool,
    monitor: Monitor,
) -> Benchmark:
    """Measure a network in every way to compute it; the arguments are those of ``visus.benchmark``."""
    began = time.perf_counter()
    with _threads(threads):
        subject = _subject(network, input_shape, num_classes, device, monitor)
        ways, left_out = find_ways(subject.module, device, compile=compile)
        with contextlib.ExitStack() as stack:
            jobs = _jobs(subject, ways, batch_size, left_out, stack)
            agreements = tuple(_agreements(subject, ways, jobs, batch_size))
            until = None if time_limit_s is None else began + time_limit_s
            seconds = _measure(jobs, rounds, until, ways[0].machine.wait, monitor)
        return Benchmark(
            name=subject.name,
            input_shape=subject.input_shape,
            num_parameters=sum(each.numel() for each in subject.module.parameters()),
            device=str(ways[0].machine.device),
            threads=torch.get_num_threads(),
            num_rounds=len(seconds[0]),
            timings=tuple(
                Timing(job.way.name, job.work, job.batch_size, tuple(each)) for job, each in zip(jobs, seconds, strict=True)
            ),
            agreements=agreements,
            samples=subject.samples_in_words,
            left_out=tuple(left_out),
            machine=describe(),
            notes=subject.notes,
        )


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    """A context with this number of PyTorch's threads; None leaves it as it is."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---- what is measured ----


@dataclass(frozen=True, eq=False)
class _Subject:
    """A network with the samples that it is measured on.

    Args:
        name: its name in the result.
        module: the network, in evaluation mode.
        input_shape: (channels, *spatial).
        samples: (N, channels, *spatial), as the network reads them.
        samples_in_words: what they are.
        notes: remarks for the result.
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, ...]
    samples: Tensor
    samples_in_words: str
    notes: tuple[str, ...] = ()


def _subject(
    network: str | Path | Design | nn.Module | SavedRun,
    input_shape: Sequence[int] | None,
    num_classes: int | None,
    device: str,
    monitor: Monitor,
) -> _Subject:
    if isinstance(network, (str, Path)) and Path(network).is_dir():
        network = read_run(SavedRun, network, device=device)
    if isinstance(network, SavedRun):
        refuse_with("a run, which has its own", {"input_shape": input_shape, "num_classes": num_classes})
        return _subject_of_run(network, monitor)
    shape = tuple(input_shape or INPUT_SHAPE)
    if isinstance(network, nn.Module):
        refuse_with("a module, which has its own", {"num_classes": num_classes})
        name, module = type(network).__name__, shaped(network, shape)
    else:
        text = str(network) if isinstance(network, Path) else network
        made = make_network(text, shape, num_classes or NUM_CLASSES)
        name, module = _name(text), made.module
    samples = _random_samples(shape)
    words = f"{write_number_of(len(samples), 'random sample')} of a normal distribution"
    notes = () if isinstance(network, nn.Module) else (UNTRAINED,)
    return _Subject(name, module, shape, samples, words, notes)


def _name(network: str | Design) -> str:
    line = " ".join(str(network).split())
    return line if len(line) <= 60 else "a design"


def _num_compared(shape: Sequence[int]) -> int:
    return max(2, min(NUM_COMPARED, MAX_VALUES // max(1, math.prod(shape))))


def _random_samples(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(_num_compared(shape), *shape, generator=torch.Generator().manual_seed(0))


def _subject_of_run(run: SavedRun, monitor: Monitor) -> _Subject:
    """A run with its own held-out samples; with random ones if its data is missing."""
    shape, noun = run.preprocessing.input_shape, run.preprocessing.noun
    notes: tuple[str, ...] = ()
    try:
        data = run.open_data(**monitor.keywords)
        samples, _ = some_samples(run, data.split(data.scored_split), _num_compared(shape))
        words = write_number_of(len(samples), f"held-out {noun}")
    except CanceledError:
        raise
    except VisusError as error:
        samples = _random_samples(shape)
        words = f"{write_number_of(len(samples), 'random sample')} of a normal distribution"
        notes = (f"The run's data could not be opened, so random samples were used: {error}",)
    return _Subject(run.name, run.module, shape, run.preprocessing.shuffled(samples), words, notes)


# ---- measuring ----


@dataclass(frozen=True, eq=False)
class _Job:
    """One kind of work, computed in one way.

    Args:
        way: the way to compute it.
        work: ``prediction`` or ``training step``.
        batch_size: samples of one call.
        call: computes it once.
        num_calls: calls in one round.
        network: the network that it computes.
    """

    way: Way
    work: str
    batch_size: int
    call: Callable[[], object]
    num_calls: int
    network: nn.Module


def _jobs(
    subject: _Subject, ways: list[Way], batch_size: int, left_out: list[tuple[str, str]], stack: contextlib.ExitStack
) -> list[_Job]:
    """All that is measured, after its first calls; what fails is added to ``left_out``, with the reason.

    Raises:
        UsageError: the network does not return one tensor for a batch of samples.
    """
    _check_output(subject)
    jobs = []
    for work, size in [(PREDICTION, each) for each in sorted({1, batch_size})] + [(TRAINING, batch_size)]:
        for way in ways:
            try:
                jobs.append(_begun(subject, way, work, size, stack))
            except Exception as error:  # whatever a person's own code, or a compiler, raises
                left_out.append((f"{work}, batch {size:,}, {way.name}", describe_failure(error, subject.module)))
    return jobs


def _begun(subject: _Subject, way: Way, work: str, size: int, stack: contextlib.ExitStack) -> _Job:
    network = way.network(subject.module, is_training=work == TRAINING)
    inputs = way.placed(_batch(subject.samples, size))
    call: Work
    if work == TRAINING:
        context = way.running(network)
        call = way.training_step(network, inputs)
    else:
        context = contextlib.nullcontext()
        call = way.prediction(network, inputs)
    with contextlib.ExitStack() as begun:
        begun.enter_context(context)
        for _ in range(WARM_CALLS):
            call()
        seconds = timed(call, way.machine.wait)
        stack.enter_context(begun.pop_all())
    num_calls = max(1, min(MAX_CALLS, math.ceil(ROUND_S / max(seconds, 1e-9))))
    return _Job(way, work, size, call, num_calls, network)


def _check_output(subject: _Subject) -> None:
    try:
        values = next((each for each in subject.module.parameters()), None)
        device = values.device if values is not None else None
        with evaluation_mode(subject.module), torch.inference_mode():
            output = subject.module(subject.samples[:2].to(device))
    except Exception as error:  # whatever a person's own code raises
        shape = write_shape(subject.input_shape)
        failure = describe_failure(error, subject.module)
        raise UsageError(f"this network cannot take samples of {shape}: {failure}.", where=subject.name) from error
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (2,):
        raise UsageError(
            f"a benchmark needs a network that returns one tensor (samples, ...) of numbers, and this one returns {describe_output(output)}.",
            where=subject.name,
        )


def _batch(samples: Tensor, size: int) -> Tensor:
    """The first samples, repeated where there are fewer."""
    return samples[torch.arange(size) % len(samples)]


def _measure(jobs: list[_Job], rounds: int, until: float | None, wait: Work, monitor: Monitor) -> list[list[float]]:
    total, done = rounds * len(jobs), 0

    def after_each() -> None:
        nonlocal done
        done += 1
        monitor.step("measuring", done, total)

    monitor.step("measuring", 0, total)
    calls = [job.num_calls for job in jobs]
    return take_turns([job.call for job in jobs], rounds=rounds, until=until, calls=calls, wait=wait, after_each=after_each)


# ---- comparing ----


def _agreements(subject: _Subject, ways: list[Way], jobs: list[_Job], batch_size: int) -> Iterator[Agreement]:
    """How far each way's outputs are from those of plain PyTorch, for every way that predicts."""
    networks = {job.way.name: job.network for job in jobs if job.work == PREDICTION and job.batch_size == batch_size}
    plain = _outputs(ways[0], networks[PLAIN], subject.samples, batch_size)
    for way in ways:
        if way.name in networks:
            outputs = plain if way.name == PLAIN else _outputs(way, networks[way.name], subject.samples, batch_size)
            labels = (outputs.argmax(1) == plain.argmax(1)).double().mean().item() if plain.ndim == 2 else None
            yield Agreement(way.name, float((outputs - plain).abs().max()), float(plain.abs().max()), labels)


def _outputs(way: Way, network: nn.Module, samples: Tensor, batch_size: int) -> Tensor:
    """The outputs for all samples, in whole batches."""
    parts = []
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        outputs = way.prediction(network, way.placed(_batch(batch, batch_size)))()
        parts.append(outputs[: len(batch)].cpu())
    return torch.cat(parts)
