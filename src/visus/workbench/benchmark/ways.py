"""The ways to compute a network that exist on this machine. A further way is one more entry of ``find_ways``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from visus.networks.fast import slow_down, speed_up, why_no_kernels
from visus.networks.float32_layers import float32_where_needed
from visus.networks.machine import Machine, choose, memory_format, suited
from visus.networks.own_code import copied
from visus.networks.step_cost import training_passes
from visus.timing import Work
from visus.workbench.benchmark.result import PLAIN

LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Way:
    """One way to compute a network.

    Args:
        name: its name in the table.
        machine: device, precision and memory format.
        change: changes a copy of the network so that it computes in this way, and returns it.
    """

    name: str
    machine: Machine
    change: Callable[[nn.Module], nn.Module]

    def network(self, module: nn.Module, *, is_training: bool) -> nn.Module:
        """A copy of a network that computes in this way, in training or in evaluation mode."""
        twin = slow_down(copied(module)).to(self.machine.device).train(is_training)
        if self.machine.channels_last:
            twin = twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self.change(twin)

    def placed(self, samples: Tensor) -> Tensor:
        """Samples (N, channels, *spatial) on the device, in the memory format of this way."""
        layout = memory_format(samples.ndim) if self.machine.channels_last else torch.contiguous_format
        return samples.to(self.machine.device).contiguous(memory_format=layout)

    def prediction(self, network: nn.Module, inputs: Tensor) -> Callable[[], Tensor]:
        """A function that computes the outputs (N, ...) for inputs of ``placed``, as float32."""

        def predict() -> Tensor:
            with torch.inference_mode(), self.machine.autocast():
                outputs: Tensor = network(inputs)
            return outputs.float()

        return predict

    def training_step(self, network: nn.Module, inputs: Tensor) -> Work:
        """A function that takes one training step: forward, cross-entropy, backward, and an update by SGD with momentum."""
        weights = [value for value in network.parameters() if value.requires_grad]
        optimizer = torch.optim.SGD(weights, lr=LEARNING_RATE, momentum=0.9)
        passes = training_passes(network, inputs, self.machine)

        def step() -> None:
            passes()
            optimizer.step()

        return step

    def running(self, network: nn.Module) -> contextlib.AbstractContextManager[None]:
        """A context for training steps: convolutions whose bfloat16 gradients are wrong or slow compute in float32."""
        return float32_where_needed(network, self.machine.precision)


def find_ways(module: nn.Module, device: str, *, compile: bool) -> tuple[list[Way], list[tuple[str, str]]]:
    """The ways that exist on this machine, plain PyTorch first; and those that do not, with the reason.

    Args:
        module: the network.
        device: device, as for ``visus.networks.machine.choose``.
        compile: whether to add ``torch.compile``.
    """
    plain, chosen = choose(device, "float32"), suited(choose(device), module)
    ways, left_out = [Way(PLAIN, plain, _unchanged)], []
    if chosen.precision == "bfloat16":
        layout = ", channels last" if chosen.channels_last else ""
        ways.append(Way(f"PyTorch, bfloat16{layout}", chosen, _unchanged))
    else:
        left_out.append(("PyTorch, bfloat16", chosen.reason))
    if why := _why_no_kernels(chosen):
        left_out.append(("kernels of visus, bfloat16", why))
    else:
        ways.append(Way("kernels of visus, bfloat16", chosen, speed_up))
    if compile:
        ways.append(Way("torch.compile, float32", plain, _compiled))
    return ways, left_out


def _why_no_kernels(machine: Machine) -> str:
    """Why ``speed_up`` would change nothing; empty if it does."""
    if machine.device.type != "cpu":
        return f"they are for the CPU, and the device is {machine.device.type}"
    if machine.precision != "bfloat16":
        return "they are for bfloat16, which this machine does not compute"
    return why_no_kernels() or ""


def _unchanged(module: nn.Module) -> nn.Module:
    return module


def _compiled(module: nn.Module) -> nn.Module:
    compiled: nn.Module = torch.compile(module)  # type: ignore[assignment]
    return compiled
