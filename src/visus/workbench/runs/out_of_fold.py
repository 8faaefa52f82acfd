"""The out-of-fold predictions of a run for its training set, saved in its folder: each by a head that was fitted without the sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from visus.errors import RunError
from visus.networks.states import state_of
from visus.training.runs import RunFolder

FILE: Final = "out_of_fold.npz"
MAX_VALUES: Final = 2**24
"""Maximum number of logits that a run keeps (64 MiB)."""
_REMEDY: Final = "Remove it: then only held-out samples are examined for wrong labels."


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The out-of-fold predictions for a training set, in the order of its samples.

    Attributes:
        logits: (samples, classes), without test-time augmentation.
        labels: (samples,) class indices.
        network: digest of the network whose head was fitted on all folds, so that its predictions for new samples are like these; empty if the
            network keeps a head of its own, or if its features may have been learned from these labels.
    """

    logits: Tensor
    labels: Tensor
    network: str = ""

    def are_of(self, module: nn.Module) -> bool:
        """Whether these predictions show how a network predicts new samples.

        >>> module = nn.Linear(2, 2)
        >>> found = OutOfFold(torch.zeros(1, 2), torch.tensor([0]), network_digest(module))
        >>> found.are_of(module), found.are_of(nn.Linear(2, 2))
        (True, False)
        """
        return bool(self.network) and self.network == network_digest(module)


def network_digest(module: nn.Module) -> str:
    """BLAKE2b of the names and values of a network's weights and statistics, on any device and in any memory format."""
    total = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state_of(module).items()):
        if value.is_floating_point():
            values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            total.update(name.encode() + b"\0" + values.numpy().tobytes())
    return total.hexdigest()


def write_out_of_fold(folder: RunFolder, found: OutOfFold | None) -> None:
    """Save the predictions in the run; none, or more than ``MAX_VALUES`` logits, are not saved."""
    if found is None or not folder.is_ours or found.logits.numel() > MAX_VALUES:
        return
    network = np.frombuffer(found.network.encode(), np.uint8)
    folder.write_arrays(FILE, logits=found.logits.numpy(), labels=found.labels.numpy(), network=network)


def read_out_of_fold(folder: RunFolder) -> OutOfFold | None:
    """The saved predictions; None for a run without any.

    Raises:
        RunError: the file is damaged.
    """
    found = folder.read_arrays(FILE, ("logits", "labels", "network"), _REMEDY)
    if found is None:
        return None
    logits, labels, network = found
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise RunError(f"{FILE} is damaged. {_REMEDY}", where=str(folder.path))
    return OutOfFold(torch.from_numpy(logits), torch.from_numpy(labels), network.tobytes().decode())
