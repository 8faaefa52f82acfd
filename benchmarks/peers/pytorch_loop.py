"""Plain PyTorch: the loop that its documentation teaches, over a ``DataLoader``, in float32.

- ``small``: the MNIST example (github.com/pytorch/examples, mnist): batches of 64, Adadelta at 1.0, times 0.7 after each epoch, 14 epochs.
- ``classifier``: the tutorial "Training a classifier": batches of 4, SGD at 0.001 with momentum 0.9, 2 epochs.
- ``same``: the network that visus trains, with the optimizer that most tutorials take: Adam at 0.001, batches of 64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, Adadelta, Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, StepLR
from torch.utils.data import DataLoader, TensorDataset

from peers.small_networks import classifier_network, example_network
from peers.task import Arrays, Course, Task
from visus.workbench.modules import make_network

TEST_BATCH = 1000


@dataclass(frozen=True)
class Recipe:
    """What one of the documents does: batch, optimizer and, where there is one, schedule."""

    batch_size: int
    optimizer: Callable[[nn.Module], Optimizer]
    schedule: Callable[[Optimizer], LRScheduler] | None = None


RECIPES = {
    "small": Recipe(64, lambda net: Adadelta(net.parameters(), lr=1.0), lambda opt: StepLR(opt, step_size=1, gamma=0.7)),
    "classifier": Recipe(4, lambda net: SGD(net.parameters(), lr=0.001, momentum=0.9)),
    "same": Recipe(64, lambda net: Adam(net.parameters(), lr=0.001)),
}


def train(task: Task, course: Course) -> None:
    """Train and evaluate after each epoch."""
    device = torch.device(task.device)
    arrays = Arrays.read(task.arrays)
    course.ready(("torch",), str(device))
    torch.manual_seed(task.seed)
    recipe = RECIPES[task.network]
    mean, deviation = statistics_of(arrays)
    training, held_out = (
        TensorDataset((torch.from_numpy(samples).float() / 255 - mean) / deviation, torch.from_numpy(labels))
        for samples, labels in ((arrays.train_samples, arrays.train_labels), (arrays.test_samples, arrays.test_labels))
    )
    batches = DataLoader(training, batch_size=recipe.batch_size, shuffle=True)
    test_batches = DataLoader(held_out, batch_size=TEST_BATCH)
    network = network_of(task, arrays).to(device)
    optimizer = recipe.optimizer(network)
    schedule = recipe.schedule(optimizer) if recipe.schedule else None
    for epoch in range(1, task.num_epochs + 1):
        network.train()
        for samples, labels in batches:
            samples, labels = samples.to(device), labels.to(device)
            optimizer.zero_grad()
            F.cross_entropy(network(samples), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        if schedule:
            schedule.step()
        with course.evaluation():
            accuracy = accuracy_of(network, test_batches, device)
        if course.evaluated(epoch, accuracy):
            return


def network_of(task: Task, arrays: Arrays) -> nn.Module:
    """The network that the task asks for."""
    if task.network == "small":
        return example_network(arrays.input_shape, task.num_classes)
    if task.network == "classifier":
        return classifier_network(arrays.input_shape, task.num_classes)
    made = make_network(
        task.design, arrays.input_shape, task.num_classes, num_samples=len(arrays.train_labels), seed=task.seed
    )
    return made.module


def statistics_of(arrays: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of each channel over the training samples, from 0 to 1, shape (1, C, 1, 1)."""
    values = torch.from_numpy(arrays.train_samples).float() / 255
    return values.mean((0, 2, 3), keepdim=True), values.std((0, 2, 3), keepdim=True)


def accuracy_of(network: nn.Module, batches: DataLoader[tuple[torch.Tensor, ...]], device: torch.device) -> float:
    """Share of the samples that the network gets right."""
    network.eval()
    num_right = num_samples = 0
    with torch.no_grad():
        for samples, labels in batches:
            answers = network(samples.to(device)).argmax(dim=1)
            num_right += int((answers == labels.to(device)).sum())
            num_samples += len(labels)
    return num_right / num_samples
