"""``visus.benchmark``: how fast a network is on this machine, in every way to compute it and in every engine. A bundle is measured without PyTorch."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from visus.errors import CanceledError, UsageError, VisusError, install_command, refuse_with
from visus.limits import processor_name
from visus.progress import Monitor, OnEvent, ShouldStop
from visus.ship.engine_times import BATCH_SIZES, measure_engines
from visus.ship.files import BundleFiles
from visus.ship.manifest import MANIFEST
from visus.workbench.benchmark.result import Benchmark
from visus.workbench.live_line import following
from visus.workbench.ship.bundle import Bundle

if TYPE_CHECKING:
    from torch import nn

    from visus.design import Design
    from visus.workbench.runs.saved import SavedRun

BATCH_SIZE: Final = 32
_EXPORT: Final = ("onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20")
_EXPORT_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")


def benchmark(
    network: str | Path | Design | nn.Module | SavedRun | Bundle,
    input_shape: Sequence[int] | None = None,
    num_classes: int | None = None,
    *,
    batch_size: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    rounds: int = 7,
    time_limit_s: float | None = None,
    compile: bool = False,
    engines: Sequence[str] | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    should_stop: ShouldStop | None = None,
) -> Benchmark:
    """Measure how fast a network predicts and trains on this machine, in every way to compute it.

    The ways are PyTorch in float32, PyTorch in bfloat16 with channels-last where the machine has it, the kernels of visus
    where they are ready, and ``torch.compile`` on request. They take turns, round by round, so that other load on the machine
    affects all of them equally. Each way's outputs are compared with those of PyTorch in float32.

    A bundle is measured in every engine that is installed: latency and samples per second for batches of 1, 8 and 64 with one and with all threads, and
    the accuracy on the samples of the bundle. A run is measured in both ways: it is exported to a temporary bundle first, which takes a minute.

    Args:
        network: a run or its folder; a bundle, its folder or its zip file; or a network, as for ``visus.summary``.
        input_shape: ``(channels, *spatial)`` of a sample, for a network; default: (3, 224, 224). Runs and bundles have their own.
        num_classes: number of classes, for a design or a callable; default: 1000. Runs and bundles have their own.
        batch_size: samples of a batch; default: 32, and in engines 8 and 64. Predictions are measured for batches of 1 and of this size, training steps for
            this size.
        threads: number of threads on a CPU; default: as PyTorch's are set, and in engines one and all.
        device: where PyTorch computes: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        rounds: number of rounds; the result is their median.
        time_limit_s: no further round begins after so many seconds; one round is measured in any case.
        compile: also measure ``torch.compile``, which takes a minute or more to compile.
        engines: names of engines, for a run or a bundle, such as ``openvino``; default: all; ``()`` for none.
        progress: False shows nothing on stderr.
        on_event: receives a ``Progress`` after each measurement.
        should_stop: called after each measurement; True raises ``CanceledError``.

    Raises:
        UsageError: an argument is invalid, or the network does not return one tensor for a batch.
        DesignError: the design has a syntax error, or does not fit this input.
        RunError: the folder is not a run.
        BundleError: a file of the bundle was changed.

    >>> import visus
    >>> measured = visus.benchmark("conv(4, 3), relu, globalpool, linear(classes)", (3, 8, 8), 3, batch_size=8, rounds=2)
    >>> measured.agreements[0].same_labels, measured.num_rounds
    (1.0, 2)
    """
    _check(batch_size, threads, rounds, time_limit_s)
    until = None if time_limit_s is None else time.perf_counter() + time_limit_s
    with following("measuring", Monitor(on_event, should_stop), progress) as monitor:

        def of_engines(files: BundleFiles, *, trusted: bool) -> Benchmark:
            return _of_engines(
                files,
                batch_size,
                threads,
                rounds,
                until,
                compile=compile,
                engines=engines or (),
                trusted=trusted,
                monitor=monitor,
            )

        if isinstance(network, Bundle) or _is_bundle(network):
            refuse_with("a bundle, which has its own", {"input_shape": input_shape, "num_classes": num_classes})
            return of_engines(
                BundleFiles(Path(network.path if isinstance(network, Bundle) else str(network)).expanduser()), trusted=False
            )
        from visus.workbench.benchmark.modules import measure_module
        from visus.workbench.runs.saved import SavedRun, read_run

        if isinstance(network, (str, Path)) and Path(network).is_dir():
            network = read_run(SavedRun, network, device=device)
        if engines and not isinstance(network, SavedRun):
            raise UsageError("engines compute a run or a bundle, and this is a network. Train it first.")
        measured = measure_module(
            network,
            input_shape,
            num_classes,
            batch_size=batch_size or BATCH_SIZE,
            threads=threads,
            device=device,
            rounds=rounds,
            time_limit_s=time_limit_s,
            compile=compile,
            monitor=monitor,
        )
        if not isinstance(network, SavedRun) or (engines is not None and not engines):
            return measured
        missing = [each for each in _EXPORT_PACKAGES if importlib.util.find_spec(each) is None]
        if missing:
            why = f"they need an export: {install_command(*_EXPORT)}"
            return replace(measured, left_out=(*measured.left_out, ("engines", why)))
        try:
            with tempfile.TemporaryDirectory(prefix="visus-benchmark-") as folder:
                found = of_engines(_exported(network, Path(folder), monitor), trusted=True)
        except CanceledError:
            raise
        except VisusError as error:
            return replace(measured, left_out=(*measured.left_out, ("engines", str(error))))
        return replace(measured, engines=found.engines)


def _check(batch_size: int | None, threads: int | None, rounds: int, time_limit_s: float | None) -> None:
    for name, value in (("batch_size", batch_size), ("threads", threads), ("rounds", rounds)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, not {value}.")
    if time_limit_s is not None and not time_limit_s > 0:
        raise UsageError(f"time_limit_s must be above 0, not {time_limit_s:g}.")


def _is_bundle(network: object) -> bool:
    if not isinstance(network, (str, Path)):
        return False
    path = Path(network).expanduser()
    return (path / MANIFEST).is_file() or (path.suffix.lower() == ".zip" and path.is_file())


def _exported(run: SavedRun, folder: Path, monitor: Monitor) -> BundleFiles:
    """The bundle of a run in a temporary folder, in every form that an engine of this machine reads."""
    from visus.workbench.ship.exporting import export_run

    made = export_run(run, folder / "bundle", **monitor.keywords)
    return BundleFiles(made.path)


def _of_engines(
    files: BundleFiles,
    batch_size: int | None,
    threads: int | None,
    rounds: int,
    until: float | None,
    *,
    compile: bool,
    engines: Sequence[str],
    trusted: bool,
    monitor: Monitor,
) -> Benchmark:
    """The engines of a bundle as the result of a benchmark."""
    files.check()
    found = measure_engines(
        files,
        engines=engines,
        batch_sizes=BATCH_SIZES if batch_size is None else tuple(sorted({1, batch_size})),
        threads=() if threads is None else (threads,),
        rounds=rounds,
        time_limit_s=None if until is None else max(1e-9, until - time.perf_counter()),
        compile=compile,
        trusted=trusted,
        monitor=monitor,
    )
    return Benchmark(
        name=files.manifest.name,
        input_shape=files.manifest.preprocessing.input_shape,
        num_parameters=int(files.manifest.facts.get("num_parameters", 0)),
        device="cpu",
        threads=max(found.threads, default=1),
        num_rounds=found.num_rounds,
        timings=(),
        agreements=(),
        samples="",
        left_out=(),
        machine={"processor": processor_name()},
        engines=found,
    )
