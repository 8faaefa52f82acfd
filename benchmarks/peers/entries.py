"""What can be trained beside visus, each by a name: whose loop, which network, for how many epochs.

>>> [contestant.title for contestant in read_contestants("pytorch, fastai/small:3")]
['visus', 'pytorch', 'fastai/small, 3 epochs']
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Final

from visus.errors import UsageError, join_messages, unknown_name
from visus.units import write_number_of


@dataclass(frozen=True)
class Peer:
    """A package with the recipes of its documentation.

    Args:
        packages: what must be there to import.
        install: how it is installed.
        epochs: for each network, the first being the one that is meant where none is named, the epochs that its documentation trains for.
        source: where the recipe is documented.
    """

    packages: tuple[str, ...]
    install: str
    epochs: dict[str, int]
    source: str


VISUS: Final = "visus"
PEERS: Final = {
    "pytorch": Peer(
        ("torch",),
        "pip install torch",
        {"small": 14, "same": 14, "classifier": 2},
        "github.com/pytorch/examples (mnist); docs.pytorch.org/tutorials, Training a classifier",
    ),
    "fastai": Peer(
        ("fastai", "torchvision"),
        "pip install fastai",
        {"resnet18": 5, "small": 5, "same": 5},
        "docs.fast.ai, Training a model on Imagenette; docs.fast.ai, Pytorch to fastai",
    ),
    "keras": Peer(("keras",), "pip install keras", {"small": 15}, "keras.io/examples/vision/mnist_convnet"),
    "torchvision": Peer(
        ("torchvision",),
        "pip install torchvision",
        {"resnet18": 90},
        "github.com/pytorch/vision, references/classification",
    ),
}
DEFAULT: Final = ("pytorch", "pytorch/same", "fastai", "keras", "torchvision")


@dataclass(frozen=True)
class Contestant:
    """One way to train, as it was named.

    Args:
        peer: ``visus``, or a name of ``PEERS``.
        network: one of the peer's networks; for visus, empty.
        epochs: what its schedule is made for; None for what visus settles itself.
        is_given: the epochs were named, and are not those of the documentation.
    """

    peer: str
    network: str = ""
    epochs: int | None = None
    is_given: bool = False

    @property
    def title(self) -> str:
        """What it is called in a table: the peer, its network where it is not the first, its epochs where they were named."""
        is_first = self.peer == VISUS or self.network == next(iter(PEERS[self.peer].epochs))
        name = self.peer if is_first else f"{self.peer}/{self.network}"
        return f"{name}, {write_number_of(self.epochs or 0, 'epoch')}" if self.is_given else name

    @property
    def lacking(self) -> tuple[str, ...]:
        """Packages that it needs and that are not installed."""
        needed = () if self.peer == VISUS else PEERS[self.peer].packages
        return tuple(name for name in needed if importlib.util.find_spec(name) is None)


def read_contestants(text: str | None) -> tuple[Contestant, ...]:
    """The contestants of a list such as ``pytorch,fastai/small:3``; visus comes first, whether it is named or not.

    Args:
        text: names with a comma between them, each ``PEER[/NETWORK][:EPOCHS]``; None for ``DEFAULT``.

    Raises:
        UsageError: all names that cannot be used, together.
    """
    found: list[Contestant] = []
    mistakes: list[str] = []
    for word in (part.strip() for part in (",".join(DEFAULT) if text is None else text).split(",")):
        try:
            found.append(_read_one(word))
        except UsageError as error:
            mistakes.append(error.message)
    if not mistakes:
        mistakes = [f"{one.title} is named twice. Name each once." for one in dict.fromkeys(found) if found.count(one) > 1]
    if mistakes:
        raise UsageError(join_messages(mistakes), where="--with")
    own = [one for one in found if one.peer == VISUS] or [Contestant(VISUS)]
    return (*own, *(one for one in found if one.peer != VISUS))


def _read_one(word: str) -> Contestant:
    """One contestant by its name."""
    name, _, after = word.partition(":")
    peer, slash, network = name.partition("/")
    known = (VISUS, *PEERS)
    if peer not in known:
        raise UsageError(unknown_name("peer", peer, known))
    networks = PEERS[peer].epochs if peer != VISUS else {}
    if slash and network not in networks:
        if not networks:
            raise UsageError("visus takes its network from --model, not from a word after a stroke.")
        raise UsageError(unknown_name("network", network, list(networks)))
    if ":" in word and not re.fullmatch(r"[1-9]\d{0,5}", after):
        raise UsageError(f"{word!r} does not end with a number of epochs. Write it as {name}:5.")
    chosen = network or next(iter(networks), "")
    return Contestant(peer, chosen, int(after) if after else networks.get(chosen), is_given=bool(after))
