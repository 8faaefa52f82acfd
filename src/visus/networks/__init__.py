"""Networks as torch modules: built from a design with the same paths, initial values, weights in and out.

torch begins here. This room knows modules and tensors.
"""

from visus.networks.build import build
from visus.networks.initialize import initialize

__all__ = ["build", "initialize"]
