"""The libraries by the prefix of their names."""

from __future__ import annotations

import json
from typing import Final

from visus.errors import UsageError
from visus.networks.libraries.library import LibraryNetwork
from visus.networks.libraries.timm_networks import TimmNetwork
from visus.networks.libraries.torchvision_networks import TorchvisionNetwork
from visus.networks.libraries.transformers_networks import TransformersNetwork

LIBRARIES: Final[dict[str, type[LibraryNetwork]]] = {
    each.prefix: each for each in (TimmNetwork, TorchvisionNetwork, TransformersNetwork)
}


def library_network(network: object) -> LibraryNetwork | None:
    """The network of another library that a text names; None for anything else.

    Raises:
        UsageError: the text has a prefix and no name, or a damaged architecture.

    >>> library_network("timm:resnet18")
    TimmNetwork(name='resnet18', config=None)
    >>> library_network("resnet18") is None
    True
    """
    words = network.strip() if isinstance(network, str) else ""
    prefix, colon, rest = words.partition(":")
    if not colon or prefix not in LIBRARIES:
        return None
    name, _, stored = rest.partition("\n")
    if not name.strip():
        raise UsageError(f"{prefix}: needs a name, such as {prefix}:{LIBRARIES[prefix].example}.")
    try:
        config = json.loads(stored) if stored.strip() else None
    except ValueError as error:
        raise UsageError(
            "the stored architecture is damaged. Put design.txt back, or train again.", where=name.strip()
        ) from error
    return LIBRARIES[prefix](name.strip(), config)
