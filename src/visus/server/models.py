"""What is served: a bundle without PyTorch, or a run by its module; and the bundle that is watched on disk.

Shape letters: N samples, C channels, K classes, * the spatial axes.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from visus import __version__
from visus.data.images.drawing import as_image, png
from visus.data.preprocessing import Pixels, Preprocessing
from visus.errors import BundleError, DesignError, UsageError, VisusError, unknown_name
from visus.limits import usable_cores
from visus.server.batcher import Compute
from visus.ship.manifest import DESIGN, DIGEST, MANIFEST
from visus.units import write_number_of
from visus.workbench.runs.prediction import Decision

if TYPE_CHECKING:
    from visus.workbench.ship.bundle import Bundle

Row: TypeAlias = npt.NDArray[Any]
"""The probabilities (K,) of one sample, or its numbers."""
RECIPE: Final = "recipe.yaml"
NUM_CHECKED: Final = 2
"""Batches of a changed bundle are checked with this many samples, and with one."""

logger = logging.getLogger("visus.server")


@dataclass(frozen=True, eq=False)
class Model:
    """A network that is served.

    Args:
        name: of the run.
        sha256: identity of the bundle, or of the weights of a run.
        preprocessing: how a sample is read.
        classes: class names in the order of the outputs; of regression, the targets.
        compute: the probabilities, or the numbers, of stored samples (C, *); the server's batcher calls it in one thread.
        explainers: computes probabilities and saliency map (PNG) of stored samples, for each method; empty without PyTorch.
        facts: further facts for ``GET /v1/model``, without paths.
        decision: how the outputs become a prediction.
    """

    name: str
    sha256: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    compute: Compute
    explainers: Mapping[str, Compute] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    decision: Decision = field(default_factory=Decision)

    def described(self) -> dict[str, Any]:
        """Plain data for clients."""
        preprocessing, decision = self.preprocessing, self.decision
        of_task: dict[str, Any] = {"classes": list(self.classes)}
        if decision.task == "multi-label":
            of_task["thresholds"] = list(decision.thresholds)
        elif decision.task == "regression":
            of_task = {"targets": list(self.classes), "half_widths": list(decision.half_widths)}
        return {
            "name": self.name,
            "sha256": self.sha256,
            "task": decision.task,
            **of_task,
            "input": {
                "kind": preprocessing.noun,
                "shape": list(preprocessing.input_shape),
                "dtype": preprocessing.dtype,
                "takes_image_files": preprocessing.is_image_like,
                "resize_mode": preprocessing.resize_mode,
            },
            "explain": sorted(self.explainers),
            "visus": __version__,
            **self.facts,
        }

    def try_once(self) -> None:
        """Compute one sample of zeros, so that the first request is not the first computation.

        Raises:
            BundleError: the network has other outputs than it should.
        """
        preprocessing = self.preprocessing
        (row,) = self.compute([np.zeros(preprocessing.input_shape, preprocessing.dtype)])
        if row.shape != (len(self.classes),) or not np.isfinite(row).all():
            is_number = self.decision.task == "regression"
            words = ("finite number", "finite numbers") if is_number else ("finite probability", "finite probabilities")
            count = write_number_of(len(self.classes), *words)
            raise BundleError(f"for a sample of zeros, the network does not return {count}.")


@dataclass(frozen=True)
class ModelSource:
    """Where the network that is served comes from.

    Args:
        path: a bundle or a run folder.
        engine, precision: of a bundle.
        threads: threads of one prediction; None for one for each core.
        device: of a run.
    """

    path: Path
    engine: str = ""
    precision: str = "float32"
    threads: int | None = None
    device: str = "auto"

    @property
    def is_bundle(self) -> bool:
        """Whether the path is a bundle, even a damaged one: a file, or a folder with a manifest or its digest."""
        return self.path.is_file() or any((self.path / name).is_file() for name in (MANIFEST, DIGEST))

    def open(self) -> Model:
        """Open the network, and compute one sample.

        Raises:
            VisusError: it cannot be opened.
        """
        if not self.path.exists():
            raise UsageError("there is no such bundle or run. Name a bundle or a run folder.", where=str(self.path))
        if not self.is_bundle and not (self.path / RECIPE).exists():
            raise UsageError(
                f"this folder is neither a bundle, which has {MANIFEST}, nor a run, which has {RECIPE}. Name one of them.",
                where=str(self.path),
            )
        model = self._open_bundle() if self.is_bundle else _open_run(self)
        model.try_once()
        return model

    def open_checked(self) -> Model:
        """Open a bundle, and compare it with its run.

        Raises:
            VisusError: it cannot be opened, or answers differently.
        """
        from visus.ship.engines import open_engine
        from visus.ship.files import BundleFiles
        from visus.ship.parity import check_bundle
        from visus.workbench.ship.bundle import Bundle

        files = BundleFiles(self.path)  # one manifest for the check and the network, even if the files change meanwhile
        engine = open_engine(files, self.engine, self.precision, self.threads)
        check_bundle(files, (engine.name,), self.precision, (1, NUM_CHECKED))
        model = _of_bundle(Bundle(files, engine))
        model.try_once()
        return model

    def signature(self) -> tuple[tuple[str, int, int, int], ...]:
        """Path, size, time and number of each file of a bundle: it changes when the bundle does."""
        paths = sorted(self.path.rglob("*")) if self.path.is_dir() else [self.path]
        found = []
        for path in paths:
            state = path.lstat()
            found.append((path.name, state.st_size, state.st_mtime_ns, state.st_ino))
        return tuple(found)

    def _open_bundle(self) -> Model:
        from visus.workbench.ship.bundle import open_bundle

        if self.device not in ("auto", "cpu"):
            raise UsageError("a device is chosen for a run, and this is a bundle. Choose an engine with --engine.")
        return _of_bundle(open_bundle(self.path, engine=self.engine, precision=self.precision, threads=self.threads))


def _of_bundle(bundle: Bundle) -> Model:
    manifest = bundle.manifest

    def compute(samples: Sequence[Any]) -> Sequence[Row]:
        return list(bundle.probabilities(np.stack(samples)))

    engine = bundle.engine
    facts = {
        "engine": {
            "name": engine.name,
            "version": engine.version,
            "precision": engine.precision,
            "num_threads": engine.num_threads,
        },
        "license": manifest.license,
        "measured": {name: value for name, value in manifest.facts.items() if isinstance(value, (int, float))},
        "exported_by_visus": manifest.visus,
    }
    decision = bundle.decision
    explainers = {}
    if _can_build(bundle):
        explainers = _explainers(bundle.preprocessing, compute, lambda: _network_of(bundle), decision.task)
    return Model(manifest.name, bundle.sha256, bundle.preprocessing, bundle.classes, compute, explainers, facts, decision)


def _can_build(bundle: Bundle) -> bool:
    """Whether PyTorch is installed and the bundle has what it needs: a design and weights."""
    from visus.design import parse

    formats = {each.format for each in bundle.manifest.graphs}
    if not _can_explain(bundle.preprocessing) or "safetensors" not in formats or DESIGN not in bundle.manifest.files:
        return False
    try:
        parse(bundle.files.read(DESIGN).decode().strip())
    except (DesignError, UnicodeDecodeError):
        return False
    return importlib.util.find_spec("torch") is not None


def _network_of(bundle: Bundle) -> Any:
    from visus.ship.torch_engines import network_of

    return network_of(bundle.files)


def _open_run(source: ModelSource) -> Model:
    """A run by its module.

    Raises:
        RunError: there is no such run.
        UsageError: an option is for bundles only.
    """
    if source.engine or source.precision != "float32":
        raise UsageError(
            "an engine and its precision are chosen for a bundle, and this is a run. Export it with: visus export RUN"
        )
    import torch

    from visus.training.runs import RunFolder
    from visus.workbench.runs.predict import RunPredictor
    from visus.workbench.runs.run import load

    run = load(source.path, device=source.device)
    num_threads = source.threads or usable_cores()

    def compute(samples: Sequence[Any]) -> Sequence[Row]:
        torch.set_num_threads(num_threads)
        batch = run.preprocessing.scaled(torch.from_numpy(np.stack(samples)))
        return list(run.probabilities(run.logits([batch])).numpy())

    weights = hashlib.sha256(RunFolder.open(run.folder).weights_file(run.which).read_bytes()).hexdigest()
    facts = {"engine": {"name": "torch", "version": torch.__version__, "precision": "float32", "num_threads": num_threads}}
    decision = RunPredictor(run, raw=False).decision
    explainers = {}
    if _can_explain(run.preprocessing):
        explainers = _explainers(run.preprocessing, compute, lambda: run.module, decision.task)
    return Model(run.name, weights, run.preprocessing, run.classes, compute, explainers, facts, decision)


def _can_explain(preprocessing: Preprocessing) -> bool:
    return len(preprocessing.size) == 2 and preprocessing.shuffle_seed is None


def _explainers(
    preprocessing: Preprocessing, compute: Compute, open_network: Callable[[], Any], task: str
) -> dict[str, Compute]:
    """A function for each saliency method that needs no further package. PyTorch and the network are opened by the first explanation.

    It explains the most probable class, or the first number.
    """
    network = functools.cache(open_network)

    def explain(method: str, samples: Sequence[Pixels]) -> Sequence[tuple[Row, str]]:
        import torch

        from visus.examine.saliency import grad_cam, gradient_saliency

        rows, module = compute(samples), network()
        device = next((each.device for each in module.parameters()), None)
        found = []
        for sample, row in zip(samples, rows, strict=True):
            batch = preprocessing.scaled(torch.from_numpy(np.stack([sample]))).to(device)
            target = 0 if task == "regression" else int(row.argmax())
            saliency = {"grad-cam": grad_cam, "gradient": gradient_saliency}[method](module, batch, target)
            found.append((row, base64.b64encode(png(as_image(np.abs(saliency.map)))).decode()))
        return found

    return {method: functools.partial(explain, method) for method in ("grad-cam", "gradient")}


def explainer(model: Model, method: str) -> Compute:
    """The function that explains predictions by a method.

    Raises:
        UsageError: the method is unknown, or the model has none.
    """
    if method not in model.explainers:
        raise UsageError(unknown_name("saliency method", method, model.explainers))
    return model.explainers[method]


class BundleWatch:
    """Looks at the bundle on disk, and opens a changed one beside the one that is served.

    Args:
        source: the bundle.
        use: called with the network of a changed bundle that has passed its checks.
        verify: compare it with its run first.
        on_refused: called after a changed bundle was refused.
    """

    def __init__(
        self,
        source: ModelSource,
        sha256: str,
        use: Callable[[Model], None],
        *,
        verify: bool = True,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._sha256, self._use, self._verify, self._on_refused = source, sha256, use, verify, on_refused
        self._seen: Any = self._signature()
        self._tried: Any = self._seen

    async def run(self, every_s: float) -> None:
        """Look every ``every_s`` seconds, until canceled."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.look()
            except Exception:
                logger.exception("looking at the bundle failed; it is tried again")

    async def look(self) -> None:
        """Open the bundle if its files have changed, and not since the previous look: a bundle that is being written is left alone."""
        now = self._signature()
        is_settled, self._seen = now == self._seen, now
        if not is_settled or now == self._tried:
            return
        self._tried = now
        try:
            open_it = self._source.open_checked if self._verify else self._source.open
            model = await asyncio.to_thread(open_it)
        except VisusError as error:
            logger.error("the changed bundle is refused, and the earlier one stays: %s", error)
            self._on_refused()
            return
        except Exception:
            logger.exception("the changed bundle cannot be opened, and the earlier one stays")
            self._on_refused()
            return
        if model.sha256 != self._sha256:
            self._sha256 = model.sha256
            logger.warning("the changed bundle %s (sha256 %s) is served now", model.name, model.sha256)
            self._use(model)

    def _signature(self) -> Any:
        try:
            return self._source.signature()
        except OSError:  # removed, or being written
            return None
