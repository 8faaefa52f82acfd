"""Networks as torch modules: built from a design with the same paths, initial values, weights in and out.

torch begins here. This room knows modules and tensors. It must not know data or training.
"""

from visus.networks.build import build
from visus.networks.initialize import initialize

__all__ = ["build", "initialize"]
