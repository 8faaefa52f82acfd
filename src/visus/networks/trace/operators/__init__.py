"""The registrations of torch's operators, in one file for each family; ``registry`` explains how to add one."""

from visus.networks.trace.operators import (
    creation,
    elementwise,
    indexing,
    layout,
    norms,
    patches,
    products,
    recurrent,
    reductions,
    resizing,
    windows,
)
from visus.networks.trace.operators.registry import Columns, Operator, operator_of

FAMILIES = (creation, elementwise, indexing, layout, norms, patches, products, recurrent, reductions, resizing, windows)
"""The modules whose registrations are made by importing them."""

__all__ = ["FAMILIES", "Columns", "Operator", "operator_of"]
