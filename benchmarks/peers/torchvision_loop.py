"""torchvision: ResNet-18 by the recipe of its reference script (references/classification), with the stem that small images need.

Where an image is smaller than 64 px the first convolution is 3 x 3 with stride 1 and the first pooling is left out, as the
ResNet article does for CIFAR-10.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, Dataset, TensorDataset

from peers.compiled_parts import make_importable
from peers.pytorch_loop import accuracy_of, statistics_of
from peers.task import Arrays, Course, Task

BATCH_SIZE = 128
SMALL_PX = 64


class Changed(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Training samples, each changed at random when it is taken: cropped out of itself padded by an eighth, and mirrored where it is a color one."""

    def __init__(self, samples: torch.Tensor, labels: torch.Tensor) -> None:
        from torchvision.transforms import v2

        height, width = samples.shape[2:]
        changes: list[nn.Module] = [v2.RandomCrop((height, width), padding=max(1, height // 8))]
        if samples.shape[1] == 3:
            changes.append(v2.RandomHorizontalFlip())
        self._change = v2.Compose(changes)
        self._samples, self._labels = samples, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._change(self._samples[place]), self._labels[place]


def train(task: Task, course: Course) -> None:
    """Train and evaluate after each epoch."""
    make_importable()
    import torchvision  # noqa: F401  # its time counts as that of an import

    device = torch.device(task.device)
    arrays = Arrays.read(task.arrays)
    course.ready(("torch", "torchvision"), str(device))
    torch.manual_seed(task.seed)
    mean, deviation = statistics_of(arrays)
    samples = (torch.from_numpy(arrays.train_samples).float() / 255 - mean) / deviation
    test_samples = (torch.from_numpy(arrays.test_samples).float() / 255 - mean) / deviation
    batches = DataLoader(Changed(samples, torch.from_numpy(arrays.train_labels)), BATCH_SIZE, shuffle=True)
    test_batches = DataLoader(TensorDataset(test_samples, torch.from_numpy(arrays.test_labels)), BATCH_SIZE)
    network = resnet18(arrays.input_shape, task.num_classes).to(device)
    optimizer = SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = CosineAnnealingLR(optimizer, T_max=task.num_epochs)
    for epoch in range(1, task.num_epochs + 1):
        network.train()
        for inputs, labels in batches:
            loss = F.cross_entropy(network(inputs.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        with course.evaluation():
            accuracy = accuracy_of(network, test_batches, device)
        if course.evaluated(epoch, accuracy):
            return


def resnet18(input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """torchvision's ResNet-18 with random weights, its first layers fit for this size and these channels."""
    from torchvision.models import resnet18 as build

    network: nn.Module = build(num_classes=num_classes)
    channels, height, width = input_shape
    if min(height, width) < SMALL_PX:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network
