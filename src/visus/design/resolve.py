"""From the name of a network to a design: a design itself, its text, or a family call."""

from __future__ import annotations

from visus.design.arguments import Shape
from visus.design.notation import FamilyCall, read
from visus.design.plan import Design, check_input_shape


def resolve_network(
    network: str | Design, *, input_shape: Shape, num_classes: int | None, num_samples: int | None = None
) -> Design:
    """The design of a network.

    Args:
        network: a design; its text; or a family with or without arguments, such as ``"resnet(18)"`` or ``"compact"``.
        input_shape: ``(channels, *spatial)``, for families that depend on it.
        num_classes: number of classes, for families that depend on it.
        num_samples: number of samples to train on, for families that depend on it; None if unknown.

    Raises:
        DesignError: the text cannot be read, or the family does not take these arguments.

    >>> resolve_network("resnet(18)", input_shape=(3, 32, 32), num_classes=10).layers[0]
    conv(64, 3, padding=1)
    """
    if isinstance(network, Design):
        return network
    found = read(network)
    if isinstance(found, FamilyCall):
        return found.design(input_shape=check_input_shape(input_shape), num_classes=num_classes, num_samples=num_samples)
    return found
