"""fastai: ``DataLoaders`` over arrays and ``fit_one_cycle``, as its documentation writes it.

- ``resnet18``: ``vision_learner`` without pretrained weights and ``fit_one_cycle(5, 5e-3)``, as in its tutorial on Imagenette, with
  ``aug_transforms()`` where the images are color ones.
- ``small``: the network of PyTorch's MNIST example in a ``Learner``, as in its guide to coming from PyTorch, ``fit_one_cycle`` with its own rate.
- ``same``: the network that visus trains, in a ``Learner`` too.
"""

from __future__ import annotations

from typing import Any

import torch

from peers.compiled_parts import make_importable
from peers.pytorch_loop import network_of, statistics_of
from peers.task import Arrays, Course, Task


def train(task: Task, course: Course) -> None:
    """Train with its own loop, which evaluates after each epoch."""
    make_importable()
    from fastai.callback.core import CancelFitException
    from fastai.vision import all as fastai

    arrays = Arrays.read(task.arrays)
    course.ready(("torch", "fastai"), task.device)
    fastai.set_seed(task.seed)
    loaders = _loaders(fastai, arrays, torch.device(task.device))

    class Follow(fastai.Callback):  # type: ignore[misc]
        """Tells each evaluation that the learner makes."""

        order = 60  # after the recorder, which keeps the metrics

        def before_validate(self) -> None:
            self._evaluating = course.evaluation()
            self._evaluating.__enter__()

        def after_validate(self) -> None:
            self._evaluating.__exit__(None, None, None)

        def after_epoch(self) -> None:
            if course.evaluated(self.epoch + 1, float(self.recorder.values[-1][-1])):
                raise CancelFitException

    parts: dict[str, Any] = {"metrics": fastai.accuracy, "loss_func": fastai.CrossEntropyLossFlat(), "cbs": Follow()}
    if task.network == "resnet18":
        learner = fastai.vision_learner(
            loaders,
            fastai.resnet18,
            pretrained=False,
            normalize=False,
            n_in=arrays.input_shape[0],
            n_out=task.num_classes,
            **parts,
        )
        rate: tuple[float, ...] = (5e-3,)
    else:
        learner, rate = fastai.Learner(loaders, network_of(task, arrays), **parts), ()
    with learner.no_bar():
        learner.fit_one_cycle(task.num_epochs, *rate)


def _loaders(fastai: Any, arrays: Arrays, device: torch.device) -> Any:
    """``DataLoaders`` of image tensors from 0 to 1, scaled and changed batch by batch."""
    mean, deviation = statistics_of(arrays)
    parts = [
        [
            (fastai.TensorImage(sample), fastai.TensorCategory(label))
            for sample, label in zip(torch.from_numpy(samples).float() / 255, torch.from_numpy(labels), strict=True)
        ]
        for samples, labels in ((arrays.train_samples, arrays.train_labels), (arrays.test_samples, arrays.test_labels))
    ]
    changes = fastai.aug_transforms() if arrays.input_shape[0] == 3 else []
    scaling = fastai.Normalize.from_stats(mean.flatten().tolist(), deviation.flatten().tolist(), cuda=device.type == "cuda")
    training, held_out = (
        fastai.TfmdDL(
            part,
            bs=64,
            shuffle=is_training,
            drop_last=is_training,
            num_workers=0,
            after_batch=[*changes, scaling],
            device=device,
        )
        for part, is_training in zip(parts, (True, False), strict=True)
    )
    return fastai.DataLoaders(training, held_out)
