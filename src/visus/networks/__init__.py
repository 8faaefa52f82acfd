"""Networks as PyTorch modules: building from a design, initialization, weights files, tracing, fast kernels."""

from visus.networks.build import build
from visus.networks.initialize import initialize

__all__ = ["build", "initialize"]
