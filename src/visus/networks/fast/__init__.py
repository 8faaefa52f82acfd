"""How a convolution is computed: the fastest exact algorithm for its shape on this machine.

This room knows algorithms for the arithmetic of layers, and which of them is fastest here.
"""

from __future__ import annotations

from visus.networks.fast.autotuner import Autotuner
from visus.networks.fast.compiler import why_no_kernels
from visus.networks.fast.convolutions import Plan
from visus.networks.fast.fusion import SharedNorm
from visus.networks.fast.swap import is_sped_up, plain, slow_down, speed_up

__all__ = ["Autotuner", "Plan", "SharedNorm", "is_sped_up", "plain", "slow_down", "speed_up", "why_no_kernels"]
