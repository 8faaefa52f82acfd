"""Design, train, look inside and ship convolutional networks, with nothing changed in silence.

From a folder with a folder of images for each class to a network in use:

    import visus

    run = visus.train("photos")                  # trains; writes runs/photos with a report
    print(run)                                   # accuracy on held-out images, with interval
    for prediction in run.predict("new"):        # a folder, files or arrays
        print(prediction.file, prediction.label, prediction.probability)
    run.look("new/cat.jpg").write("cat.html")    # what the network sees in one image

Results print in a few lines, show tables in a notebook, and have text() and to_json(). Work
that takes longer than a moment shows its progress; progress=False turns that off.

Data
    open_data    open a folder, table or array file: decoded once, split, every change counted
    check        what is wrong with the data, before training
    cached_data  the decoded data on this disk
    Data         opened data: its splits, classes and warnings

Design
    parse        a design from its text, such as "conv(32, 3), relu, globalpool, linear(classes)"
    summary      shapes, parameters, multiply-adds, receptive fields of all layers; advice
    diff         two networks row by row
    solve        the size equation for any unknown; ways to a receptive field
    network      a torch.nn.Module from any form of network
    Design       a network as plain data
    design       the package of layers and families: help("visus.design")

Train
    train        train a network, and write a run folder
    Recipe       the settings of a training
    cross_validate   train a network for each fold: out-of-fold predictions, mean and spread
    CrossValidation  scores, folds, runs, ensemble
    resume       continue a stopped training
    Training     a training as a loop over its events, which can be answered
    events       the events and the answers: help("visus.events")
    tune         search the settings of a training, on validation samples only
    load         load a run from its folder
    ensemble     several networks as one: the mean of their probabilities
    Ensemble     predict, predict_to, evaluate

Look inside and measure
    Run          evaluate, predict, mistakes, shifts, look, report, compare, export
    look         what a network sees in one image
    compare      runs on the same samples
    experiment   train a run again with one change: mlp, shuffle, task, antialias
    examine      activations, filters, saliency, receptive fields as arrays
    benchmark    samples per second, in every way to compute a network
    speed_up     the fastest kernels of this machine for a network; slow_down undoes it
    doctor       versions, devices, and what is fast on this machine

Ship
    Run.export   a bundle: from file to probability, with the proof that it answers as the run
    open_bundle  use a bundle, without torch
    verify       repeat the check of a bundle, on any machine
    serve        predictions of a bundle or a run over HTTP
    Bundle       a bundle: predict, verify, manifest

Every error is a VisusError whose message names the remedy. Each name is loaded when it is first
used, so "import visus" does not load torch. The command line does the same: visus --help.

>>> import visus
>>> visus.summary("lenet5", (1, 28, 28), 10).num_parameters
44426
"""

from __future__ import annotations

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "visus.workbench.ship.bundle",
    "CrossValidation": "visus.workbench.folds.result",
    "Data": "visus.data.opened",
    "Design": "visus.design",
    "Ensemble": "visus.workbench.ensembles",
    "Recipe": "visus.training.recipe",
    "Run": "visus.workbench.runs.run",
    "Training": "visus.workbench.train.answerable",
    "VisusError": "visus.errors",
    "benchmark": "visus.workbench.benchmark.measuring",
    "cached_data": "visus.workbench.cached_data",
    "check": "visus.workbench.data_check",
    "compare": "visus.workbench.compare.runs",
    "cross_validate": "visus.workbench.folds.cross_validation",
    "diff": "visus.workbench.differences",
    "doctor": "visus.workbench.doctor",
    "ensemble": "visus.workbench.ensembles",
    "load": "visus.workbench.runs.run",
    "look": "visus.workbench.look.looking",
    "network": "visus.workbench.modules",
    "open_bundle": "visus.workbench.ship.bundle",
    "open_data": "visus.workbench.opening",
    "parse": "visus.design",
    "resume": "visus.workbench.resuming",
    "serve": "visus.server.serving",
    "slow_down": "visus.networks.fast",
    "solve": "visus.workbench.solving",
    "speed_up": "visus.networks.fast",
    "summary": "visus.workbench.summaries",
    "train": "visus.workbench.train.training",
    "tune": "visus.workbench.tune.tuning",
    "verify": "visus.workbench.ship.verifying",
}
_PACKAGES = ("design", "events", "examine", "experiment")

__all__ = [
    "Bundle",
    "CrossValidation",
    "Data",
    "Design",
    "Ensemble",
    "Recipe",
    "Run",
    "Training",
    "VisusError",
    "__version__",
    "benchmark",
    "cached_data",
    "check",
    "compare",
    "cross_validate",
    "design",
    "diff",
    "doctor",
    "ensemble",
    "events",
    "examine",
    "experiment",
    "load",
    "look",
    "network",
    "open_bundle",
    "open_data",
    "parse",
    "resume",
    "serve",
    "slow_down",
    "solve",
    "speed_up",
    "summary",
    "train",
    "tune",
    "verify",
]

if TYPE_CHECKING:
    from visus import design, events, examine, experiment
    from visus.data.opened import Data
    from visus.design import Design, parse
    from visus.errors import VisusError
    from visus.networks.fast import slow_down, speed_up
    from visus.server.serving import serve
    from visus.training.recipe import Recipe
    from visus.workbench.benchmark.measuring import benchmark
    from visus.workbench.cached_data import cached_data
    from visus.workbench.compare.runs import compare
    from visus.workbench.data_check import check
    from visus.workbench.differences import diff
    from visus.workbench.doctor import doctor
    from visus.workbench.ensembles import Ensemble, ensemble
    from visus.workbench.folds.cross_validation import cross_validate
    from visus.workbench.folds.result import CrossValidation
    from visus.workbench.look.looking import look
    from visus.workbench.modules import network
    from visus.workbench.opening import open_data
    from visus.workbench.resuming import resume
    from visus.workbench.runs.run import Run, load
    from visus.workbench.ship.bundle import Bundle, open_bundle
    from visus.workbench.ship.verifying import verify
    from visus.workbench.solving import solve
    from visus.workbench.summaries import summary
    from visus.workbench.train.answerable import Training
    from visus.workbench.train.training import train
    from visus.workbench.tune.tuning import tune


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"visus.{name}")
    if name not in _HOMES:
        words = import_module("visus.other_libraries")
        if name in words.NAMES:
            raise words.absent("visus", name, words.NAMES[name])
        raise AttributeError(f"module 'visus' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    if isinstance(value, FunctionType):
        value = import_module("visus.workbench.keywords").checked(value)
        setattr(import_module(value.__module__), name, value)  # where pickle looks for it
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
