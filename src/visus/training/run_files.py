"""The files of a run folder: each with its meaning, and when it is written.

``RunFolder`` writes no other file to a run, so the list is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final


@dataclass(frozen=True)
class RunFile:
    """One file of a run folder.

    Args:
        path: path in the run folder; ``*`` stands for any letters.
        holds: what the file holds.
        condition: when the file is written; empty: in every finished run.
    """

    path: str
    holds: str
    condition: str = ""


RUN_FILES: Final = (
    RunFile("README.md", "the model card: what the network is for, its accuracy, its training data and its limits"),
    RunFile("report.html", "the report: one page that opens without a network connection"),
    RunFile("recipe.yaml", "every training setting, with its meaning and the reason for its value"),
    RunFile("design.txt", "the network as text: a design, or the name of a Python callable"),
    RunFile("classes.txt", "the class names, one per line, in the order of the network's outputs"),
    RunFile("split.csv", "each sample with its label, its split and its group"),
    RunFile("data.json", "the dataset: path, fingerprint, number of samples, preprocessing, warnings; and the command"),
    RunFile("ledger.json", "every kind of change that was made to the data, counted, with the first ten names"),
    RunFile("ledger.csv", "every change that was made to the data: the change, the file, and the detail where there is one"),
    RunFile("environment.json", "versions, the machine, and what decides the rounding"),
    RunFile("contents.npz", "hashes of the training samples, by which visus finds copies of them in other data"),
    RunFile("contents.csv", "the SHA-256 of each sample, by which visus recognizes data that was moved"),
    RunFile("results.csv", "loss, accuracy, learning rate and time of each epoch", "if at least one epoch was trained"),
    RunFile(
        "changes.json",
        "what was changed while the training ran: answers to its events, steps that were divided because of memory",
        "if anything was",
    ),
    RunFile("times.json", "seconds of each part of the command: start and data, head, training, scoring, report"),
    RunFile("curves.png", "the same as a chart", "if at least one epoch was trained"),
    RunFile("scores.json", "the scores on the held-out samples, with confidence intervals"),
    RunFile(
        "calibration.json", "the calibration of the probabilities, and the expected calibration error before and after it"
    ),
    RunFile("inside.json", "the measurements of the report: calibration, shifts, mistakes, receptive field of each layer"),
    RunFile("confusion.csv", "the confusion matrix"),
    RunFile("confusion.png", "the same as an image"),
    RunFile(
        "weights/best.safetensors", "the weights that visus uses, with the facts that are needed to use them in the header"
    ),
    RunFile("weights/last.safetensors", "the weights at the end of the training"),
    RunFile("checkpoint/last.safetensors", "everything that is needed to resume the training"),
    RunFile("checkpoint/training.lock", "the process that trains the run, which no other may train", "while it is trained"),
    RunFile("mirrors.json", "the test that decides whether samples are flipped", "if the recipe leaves flip open"),
    RunFile("start.json", "the trained weights that the training starts from", "if it does not start from random weights"),
    RunFile(
        "out_of_fold.npz",
        "the cross-validated predictions of the head for the training samples: they show wrong labels, and calibrate where the validation set is small",
        "if the head of trained weights was fitted, for up to 16.8 million values",
    ),
    RunFile("whitening.json", "the filters that were computed from the training data", "if the network has a whiten layer"),
    RunFile("trackers.json", "the experiment trackers of the run, with their own names of it", "if the run is tracked"),
    RunFile("trackers/*", "what TensorBoard, MLflow and Weights & Biases wrote", "if the run is tracked"),
    RunFile("arithmetic.json", "the kernel that was chosen for each shape", "if visus compiled kernels of its own"),
    RunFile("look-*.html", "the page of visus look, one for each sample", "after visus look"),
    RunFile(
        "tasks.html", "the comparison of two tasks, as a page", "in the run of the other task, after visus experiment task"
    ),
    RunFile("tasks.json", "the same as numbers", "in the run of the other task, after visus experiment task"),
    RunFile(
        "reconstruction.json", "loss and explained variance of each epoch of an autoencoder", "if the task is reconstruction"
    ),
)
"""Every file that visus writes to a run folder."""


FOLDS_FILE: Final = "folds.json"
"""The file that marks the folder of a cross-validation, which has a run for each fold."""


def is_run_file(path: str) -> bool:
    """Whether a path, relative to the run folder, is listed.

    >>> is_run_file("scores.json"), is_run_file("look-test-17.html"), is_run_file("notes.txt")
    (True, True, False)
    """
    return any(fnmatchcase(path, each.path) for each in RUN_FILES)
