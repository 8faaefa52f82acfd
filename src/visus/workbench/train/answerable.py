"""``visus.Training``: a training as events that a person loops over and answers."""

from __future__ import annotations

import contextlib
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

from torch import nn

from visus.data.opened import Data
from visus.errors import UsageError
from visus.progress import Monitor
from visus.training.answers import Answer, Finish, KeepWeights, SaveWeights, ScaleLearningRate, Stop
from visus.training.distribution import join_group
from visus.training.inbox import Inbox
from visus.training.recipe import Recipe
from visus.workbench.modules import Network
from visus.workbench.runs.run import Run, load
from visus.workbench.screen import showing
from visus.workbench.trackers.tracking import known_trackers, tracking
from visus.workbench.train.events import Prepared
from visus.workbench.train.left_events import remember_events
from visus.workbench.train.planning import Asked
from visus.workbench.train.processes import run_to_go_on_with
from visus.workbench.train.resumed import AskedAgain, resumed_training
from visus.workbench.train.stop_on_signal import StopOnSignal, is_signal_handled
from visus.workbench.train.training import new_training

Core = Callable[[Monitor, Inbox], Generator[object, None, Run]]


class Training:
    """A training as a loop over its events, which can be answered: stop, finish, change the learning rate, save or keep weights.

    Nothing is computed before the loop asks for the first event. An answer is carried out when the loop asks for the next one; ``changes.json`` of
    the run and its report name it, and a resumed training knows it. A loop that is left before its end, with ``break`` or by an error, leaves a
    checkpoint, and ``visus.resume`` goes on. Random numbers that the loop draws do not change those of the training. Of several processes, the
    answers of the first one hold for all.

    Args:
        data, network, recipe, pretrained, weights, output, name, track, progress: as for ``visus.train``.

    Raises:
        UsageError: an argument has the place or the form of another.

    >>> import visus
    >>> recipe = visus.Recipe(epochs=3, batch_size=16)
    >>> training = visus.Training(data, "conv(4, 3), relu, globalpool, linear(classes)", recipe, output=folder, progress=False)
    >>> for event in training:
    ...     if isinstance(event, visus.events.EpochDone):
    ...         training.scale_learning_rate(0.5)
    ...     if isinstance(event, visus.events.EpochDone) and event.epoch == 1:
    ...         training.finish()
    >>> len(training.run.history), training.run.scores.num_samples
    (2, 12)
    """

    def __init__(
        self,
        data: Data | str | Path | None = None,
        network: Network | None = None,
        recipe: Recipe | None = None,
        *,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        output: str | Path = "runs",
        name: str | None = None,
        track: str | Sequence[str] = (),
        progress: bool | None = None,
    ) -> None:
        asked = Asked.of(data, network, recipe, pretrained=pretrained, weights=weights, output=output, name=name)
        group = join_group()
        if begun := run_to_go_on_with(group):  # torchrun started these processes again
            own = network if isinstance(network, nn.Module) else None
            cache = data.store.folder.parent if isinstance(data, Data) else None
            again = AskedAgain.of(begun, None, network=own, changes=None, cache_dir=cache, num_workers=0)
            self._set(lambda monitor, inbox: resumed_training(again, monitor, inbox), Path(begun), own, track, progress)
        else:
            own = network if isinstance(network, nn.Module) else None
            self._set(lambda monitor, inbox: new_training(asked, group, monitor, inbox), None, own, track, progress)

    @classmethod
    def resume(
        cls,
        folder: str | Path,
        data: str | Path | None = None,
        *,
        network: nn.Module | None = None,
        changes: dict[str, Any] | None = None,
        cache_dir: str | Path | None = None,
        num_workers: int = 0,
        track: str | Sequence[str] = (),
        progress: bool | None = None,
    ) -> Training:
        """The rest of a stopped training. Its earlier answers still hold.

        Args:
            folder, data, network, changes, cache_dir, num_workers, track, progress: as for ``visus.resume``.

        Raises:
            RunError: the folder is not a run.
            UsageError: a changed setting is fixed for the run.

        >>> import visus
        >>> events = list(visus.Training.resume(run.folder, progress=False))
        >>> type(events[-1]).__name__
        'Scored'
        """
        asked = AskedAgain.of(folder, data, network=network, changes=changes, cache_dir=cache_dir, num_workers=num_workers)
        self = cls.__new__(cls)
        self._set(lambda monitor, inbox: resumed_training(asked, monitor, inbox), asked.run.path, network, track, progress)
        return self

    def _set(
        self,
        core: Core,
        folder: Path | None,
        network: nn.Module | None,
        track: str | Sequence[str],
        progress: bool | None,
    ) -> None:
        self._track = known_trackers(track)
        self._core, self._network, self._progress = core, network, progress
        self._folder = folder
        self._inbox = Inbox(is_first=join_group().is_first)
        self._run: Run | None = None
        self._events: weakref.ref[Generator[object, None, None]] | None = None

    def __repr__(self) -> str:
        state = "not begun" if self._events is None else "done" if self._run is not None else "begun"
        return f"Training({'no run yet' if self._folder is None else self._folder.name}: {state})"

    def __iter__(self) -> Iterator[object]:
        """The events, once.

        Raises:
            UsageError: the events were asked for before.
        """
        if self._events is not None:
            raise UsageError(
                "the events of this training were asked for before. Make another visus.Training, or go on with visus.Training.resume(folder)."
            )
        events = self._all_events()
        self._events = weakref.ref(events)  # so that a loop that is left ends the training
        return events

    @property
    def run(self) -> Run:
        """The run, after the loop. After ``stop`` or ``break``, it has the weights of then and no scores.

        Raises:
            UsageError: no step was taken yet.

        >>> import visus
        >>> visus.Training.resume(run.folder).run.name
        'levels'
        """
        if self._run is not None:
            return self._run
        if self._folder is None or not (self._folder / "weights" / "last.safetensors").is_file():
            raise UsageError("this training has no run yet. Loop over its events first: for event in training: ...")
        return load(self._folder, network=self._network, which="last")

    def stop(self) -> None:
        """End the training after this event, with a checkpoint. The run has no scores; ``visus.resume`` goes on.

        Raises:
            UsageError: the training is over.

        >>> import visus
        >>> visus.Training.resume(run.folder).stop()
        """
        self.answer(Stop())

    def finish(self) -> None:
        """End the training after this event as if its last epoch were done: it is validated, scored and reported.

        A new network takes at least one step.

        Raises:
            UsageError: the training is over.

        >>> import visus
        >>> visus.Training.resume(run.folder).finish()
        """
        self.answer(Finish())

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply every learning rate by ``factor`` from now on; the schedule goes on below it.

        Args:
            factor: above 0; factors of several answers multiply.

        Raises:
            UsageError: the factor is not a number above 0, or the training is over.

        >>> import visus
        >>> visus.Training.resume(run.folder).scale_learning_rate(0.5)
        """
        self.answer(ScaleLearningRate(factor))

    def save(self, file: str | Path) -> None:
        """Write the weights of now to a file: those that an epoch would validate, which are the averaged ones where there is an average.

        Args:
            file: a safetensors file. An existing one is replaced, in one step, and a missing folder is made.

        Raises:
            UsageError: the file has another suffix, or the training is over.
            StorageError: its folder cannot be made or written. The training can go on.

        >>> import visus
        >>> visus.Training.resume(run.folder).save(folder / "middle.safetensors")
        """
        self.answer(SaveWeights(file))

    def keep(self) -> None:
        """Keep the weights of the epoch that ended now as the best ones. No later epoch replaces them, unless it is kept too.

        Raises:
            UsageError: the event is not ``EpochDone``.

        >>> import visus
        >>> visus.Training.resume(run.folder).keep()
        Traceback (most recent call last):
        visus.errors.UsageError: KeepWeights answers EpochDone alone, and this is an answer before the first event. Use SaveWeights for a file.
        """
        self.answer(KeepWeights())

    def answer(self, answer: Answer) -> None:
        """Give any answer, as one of the values in ``visus.events``.

        Args:
            answer: the answer to the current event.

        Raises:
            UsageError: the training is over, or the event cannot be answered like this.

        >>> import visus
        >>> visus.Training.resume(run.folder).answer(visus.events.Stop())
        """
        self._inbox.put(answer)

    def _all_events(self) -> Generator[object, None, None]:
        """The events, in a context of their own: what visus sets for a training does not hold in the body of the loop."""
        waiting: list[object] = []
        context = copy_context()
        stop = StopOnSignal(self._folder)
        core = self._shown(Monitor(waiting.append, stop))  # its events are in ``waiting``, those of long work too
        try:
            while self._run is None:
                with _handled(stop):
                    self._run = context.run(_advance, core)
                for each in waiting:
                    self._inbox.event = each
                    if isinstance(each, Prepared):
                        self._begin(each.folder)
                    stop.follow(each)
                    yield each
                waiting.clear()
        except KeyboardInterrupt as error:
            error.args = (stop.sentence(),)
            raise
        finally:
            context.run(core.close)
        if stop.is_asked and stop.is_terminated:
            raise SystemExit(stop.exit_code)
        if stop.is_asked:
            raise KeyboardInterrupt(stop.stopped_sentence())

    def _begin(self, folder: Path) -> None:
        """Remember the run folder. The events hold no reference to themselves, so they end when nothing else does."""
        self._folder = folder
        events = None if self._events is None else self._events()
        if events is not None:
            remember_events(folder, events)

    def _shown(self, monitor: Monitor) -> Generator[object, None, Run]:
        """The events of the training; all of them are shown on stderr and passed to the monitor, those of long work before it too."""
        is_first = join_group().is_first
        with (
            showing(monitor, self._progress, is_first=is_first) as seen,
            tracking(seen, self._track, is_first=is_first) as shown,
        ):
            inner = self._core(shown, self._inbox)
            with contextlib.closing(inner):
                while True:
                    try:
                        event = next(inner)
                    except StopIteration as end:
                        run: Run = end.value
                        return run
                    shown.emit(event)
                    yield event


def _advance(core: Generator[object, None, Run]) -> Run | None:
    """Go on to the next event; the run if there is none."""
    try:
        next(core)
    except StopIteration as end:
        run: Run = end.value
        return run
    return None


@contextlib.contextmanager
def _handled(stop: StopOnSignal) -> Iterator[None]:
    """A block in which Ctrl-C asks for a stop after the step, where nothing else handles it."""
    is_main = threading.current_thread() is threading.main_thread()
    if is_signal_handled() or not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    with stop:
        yield
