"""The memory of recurrent layers on long sequences: that of the pass through every step, without its time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from visus.networks.trace import recurrent_memory
from visus.networks.trace.inputs import Inputs
from visus.networks.trace.memory import ModuleMemory


class Sequence(nn.Module):
    """A convolution, a recurrent layer, and a linear layer on the last states or on all outputs."""

    def __init__(self, layer: nn.RNNBase, reads: str) -> None:
        super().__init__()
        width = layer.proj_size or layer.hidden_size
        self.stem, self.layer, self.reads = nn.Conv1d(2, layer.input_size, 3, padding=1), layer, reads
        self.head = nn.Linear(width if reads == "state" else width * (2 if layer.bidirectional else 1), 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        outputs, states = self.layer(x.transpose(1, 2) if self.layer.batch_first else x.permute(2, 0, 1))
        if self.reads == "state":
            last = states[0][-1] if isinstance(states, tuple) else states[-1]
        else:
            last = outputs.mean(1 if self.layer.batch_first else 0)
        logits: Tensor = self.head(last)
        return logits


def figures(module: nn.Module, num_steps: int, batch_size: int) -> tuple[int, int, int]:
    """Bytes of an inference, of a training step, and those that autograd saves."""
    memory = ModuleMemory(module, Inputs(((2, num_steps),), (torch.float32,)))
    return memory.inference(batch_size), memory.training(batch_size, "sgd"), memory.saved(batch_size)


@pytest.mark.filterwarnings("ignore:LSTM with projections")  # PyTorch says that oneDNN has none
@pytest.mark.parametrize(
    ("layer", "options", "reads"),
    [
        (nn.GRU, {"batch_first": True}, "state"),
        pytest.param(nn.GRU, {"num_layers": 2, "dropout": 0.5}, "outputs", marks=pytest.mark.slow),
        (nn.RNN, {"bias": False}, "outputs"),
        (nn.LSTM, {"proj_size": 3, "batch_first": True}, "state"),
        (nn.LSTM, {"num_layers": 2}, "state"),
    ],
)
@pytest.mark.long
def test_two_short_runs_give_the_memory_of_every_step(
    layer: Any, options: dict[str, Any], reads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Sequence(layer(6, 8, **options), reads)
    found = figures(module, 16, 2)
    monkeypatch.setattr(recurrent_memory, "LENGTHS", (100, 101))  # so that the sequence counts as short
    step_by_step = figures(module, 16, 2)
    assert found == pytest.approx(step_by_step, rel=0.02)


@pytest.mark.slow
def test_a_long_sequence_dispatches_no_more_operators_than_a_short_one() -> None:
    class Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
        num = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.num += 1
            return func(*args, **(kwargs or {}))

    module, nums = Sequence(nn.GRU(6, 8, batch_first=True), "state"), []
    for num_steps in (20, 100_000):
        with Counted() as counted:  # type: ignore[no-untyped-call]
            figures(module, num_steps, 2)
        nums.append(counted.num)
    assert nums[0] == nums[1]
