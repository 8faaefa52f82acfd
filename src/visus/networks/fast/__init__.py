"""Fast layers on the CPU: convolution algorithms chosen by measurement, and fused norms, activations and pooling."""

from __future__ import annotations

from visus.networks.fast.autotuner import Autotuner
from visus.networks.fast.compiler import why_no_kernels
from visus.networks.fast.convolutions import Plan
from visus.networks.fast.fusion import SharedNorm
from visus.networks.fast.swap import is_sped_up, slow_down, speed_up, unoptimized

__all__ = ["Autotuner", "Plan", "SharedNorm", "is_sped_up", "slow_down", "speed_up", "unoptimized", "why_no_kernels"]
