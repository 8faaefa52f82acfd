"""Training from pretrained weights: their choice, the preprocessing that they need, and the head that is fitted first."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from visus.caller import option
from visus.data.opened import Data
from visus.data.survey import InputSpec, Survey
from visus.design.families.registry import FAMILIES
from visus.errors import RunError, UsageError
from visus.networks import initial_weights, pretrained
from visus.networks.initial_weights import InitialWeights, Normalization
from visus.networks.libraries.registry import library_network
from visus.networks.pretrained import DEFAULT, Backbone, backbone_of
from visus.training.facts import MANY_SAMPLES, HeadScore
from visus.training.runs import RunFolder
from visus.units import write_number_of, write_shape
from visus.workbench.callable_names import is_callable_name
from visus.workbench.modules import Network, call_by_name
from visus.workbench.runs.own_command import typed_command
from visus.workbench.train.library_starts import LibraryChoice, library_choice, library_weights
from visus.workbench.trained_modules import trained_in

MIN_SIDE_PX = 128
SIDES_PX = ((20_000, 1_000), (100_000, 160))
"""Up to so many training images they may have a side of so many pixels; more have 128."""


class BackboneChoice:
    """Decides whether a training starts from a backbone's weights; ``open_data`` calls it after reading the image headers.

    By default it does if the median short side of the images is at least 128 px and the package of the weights is installed. Images are then
    resized to a square. Its side is the short side rounded up to a multiple of 32, at most the size that the backbone was
    trained on, and less for very many images.
    On photos of dogs and cats, the cross-validated accuracy of a head on frozen features was 90.8 % at 96 px, 96.3 % at 128,
    97.9 % at 160 and 99.1 % at 224. The cost grows with the square of the side. The bound of 128 px was chosen after scoring
    both options on one folder of 100 px images (98.5 and 99.8 %), so it is not independent of that folder's test set.

    Args:
        wanted: True to use them whenever possible, None to decide.
        backbone: the backbone.

    Attributes:
        note: a remark on the choice, once it is made; may be empty.
    """

    def __init__(self, wanted: bool | None = None, backbone: Backbone = DEFAULT) -> None:
        self.wanted, self.backbone, self.note = wanted, backbone, ""

    def __call__(self, seen: Survey) -> InputSpec | None:
        if not self.wanted:
            if seen.short_side_px < MIN_SIDE_PX:
                if seen.has_color and seen.sizes:
                    self.note = (
                        f"ImageNet weights are not used: they are the default for images of at least {MIN_SIDE_PX} px, and the short side of these "
                        f"is {seen.short_side_px} px (median). To use them: {option('pretrained', True)}{self._first_install()}"
                    )
                return None
            if self.backbone.find() is None:
                self.note = f"weights pretrained on photos would help with these images. For them: {self.backbone.install}"
                return None
        normalization = pretrained.NORMALIZATION
        return InputSpec(3, self._size(seen), normalization.offset, normalization.divisor)

    def _first_install(self) -> str:
        """What to do before the weights can be used; empty if they are installed."""
        return "" if self.backbone.find() else f", after {self.backbone.install}"

    def _size(self, seen: Survey) -> tuple[int, int]:
        """Height and width: what was asked for, else a square by the images' own short side, the backbone and their number."""
        if seen.wanted_size is not None:
            return seen.wanted_size[0], seen.wanted_size[1]
        side = _default_side_px(self.backbone, seen.num_training, seen.short_side_px)
        return side, side


def _default_side_px(backbone: Backbone, num_training: int, short_side_px: int) -> int:
    """The side at which images are read for a backbone, unless another size was asked for."""
    allowed = next((side for number, side in SIDES_PX if num_training <= number), MIN_SIDE_PX)
    return min(backbone.size_px, allowed, max(MIN_SIDE_PX, -(-short_side_px // 32) * 32))


def noted(data: Data, choice: BackboneChoice | LibraryChoice | None) -> Data:
    """Opened data with the note of the choice that it was opened with."""
    return data if choice is None else dataclasses.replace(data, note=choice.note)


def size_warnings(data: Data, backbone: Backbone) -> tuple[str, ...]:
    """A warning if images are read smaller than a backbone's weights need them; else empty."""
    side = _default_side_px(backbone, len(data.split("train")), data.short_side_px)
    size = data.input_shape[1:]
    if min(size) >= side:
        return ()
    return (
        f"the {backbone.source} were trained at {backbone.size_px} px, and these images are read at {write_shape(size)} px: the accuracy "
        f"is probably lower than at the default of {side} px. For that, leave out the image size, or open the data with pretrained=True.",
    )


def unused_weights_note(data: Data) -> str:
    """A note for data that was opened for pretrained weights and is trained from random ones; else empty."""
    if not read_for(data) or not data.short_side_px:  # 0 for the data of a run, opened for another training of it
        return ""
    return (
        f"this data was opened for ImageNet weights ({write_shape(data.input_shape[1:])} px, their scaling), and this training does not start "
        "from them. For the size and scaling of a new network: visus.open_data(path, pretrained=False)"
    )


def random_weights_note(data: Data, network: object, line: str) -> str:
    """A note for a training of a named design on few photos, with the command that starts from pretrained weights; else empty.

    Few photos are those whose short side is as long as pretrained weights need it by default, and for which a recipe counts as small.

    Args:
        data: opened data.
        network: the requested network.
        line: the command line that trains it; empty if Python was called.
    """
    plan, num_training = data.preprocessing, len(data.split("train"))
    is_photo = data.short_side_px >= MIN_SIDE_PX and (plan.kind, plan.channels) == ("images", 3)
    words = shlex.split(typed_command(line))
    is_own_scaling = plan.normalize == "min-max" or any(word.startswith("--normalize") for word in words)
    if not is_photo or is_own_scaling or num_training >= MANY_SAMPLES:
        return ""
    backbone = backbone_of(network)
    first = "" if (backbone or DEFAULT).find() else f" (after {(backbone or DEFAULT).install})"
    if line:
        typed = words or ["visus", "train", "DATA"]
        with_imagenet = shlex.join([*(typed if backbone else _without_network(typed)), "--pretrained"])
        with_own = f"{shlex.join(typed)} --weights FILE"
    else:
        with_imagenet = f"visus.train(path{', network' if backbone else ''}, pretrained=True)"
        with_own = "visus.train(path, network, weights=file)"
    own = "" if backbone else f". With weights that you have for this network: {with_own}"
    return (
        f"this network starts from random weights, and with {write_number_of(num_training, f'training {data.noun}')} pretrained weights are "
        f"usually better. With ImageNet weights{first}: {with_imagenet}{own}"
    )


def _without_network(words: Sequence[str]) -> list[str]:
    """The words of a command line without the option of the network.

    >>> _without_network(["visus", "train", "photos", "-m", "resnet18", "--epochs", "3"])
    ['visus', 'train', 'photos', '--epochs', '3']
    """
    kept, rest = [], iter(words)
    place = words.index("train") if "train" in words else 0  # torchrun has an option -m of its own
    for number, word in enumerate(rest):
        if number < place or not (word == "--model" or word.startswith(("-m", "--model="))):
            kept.append(word)
        elif word in ("-m", "--model"):
            next(rest, None)
    return kept


def choice_of(
    wanted: bool | None,
    *,
    network: object = None,
    file: object = None,
    channels: int | None = None,
    normalize: str | None = None,
) -> BackboneChoice | LibraryChoice | None:
    """The choice of a backbone as far as the options leave it open; None if a backbone's weights cannot be used.

    For a network of another library, it is the choice of that library's weights.

    Args:
        wanted: True for ``--pretrained``, False for ``--no-pretrained``, None for neither.
        network: the requested network; None for the default.
        file: other requested weights.
        channels, normalize: as for ``open_data``; None if not set.

    Raises:
        UsageError: an option contradicts the backbone's weights, or the package of the weights is not installed.
    """
    if (library := library_network(network)) is not None:
        return library_choice(library, wanted, file, channels=channels, normalize=normalize)
    backbone = backbone_of(network)
    against = {
        f"are those of {' and '.join(pretrained.BACKBONES)}": network is not None and backbone is None,
        "and other weights exclude each other": file is not None,
        "need color (channels=3)": channels == 1,
        f"have their own scaling, so normalize={normalize} cannot be used": normalize is not None,
    }
    reasons = [reason for reason, holds in against.items() if holds]
    if wanted is False or (wanted is None and (reasons or network is not None)):
        return None
    if reasons:
        raise UsageError(
            f"the pretrained weights {' and '.join(reasons)}. Leave one of the two out.{_library_hint(network)}"
        )
    if wanted:
        (backbone or DEFAULT).read()
    return BackboneChoice(wanted, backbone or DEFAULT)


def _library_hint(network: object) -> str:
    """How a name that is no design of visus, such as ``resnet34``, is written as that of another library; else empty."""
    if not isinstance(network, str) or not network.isidentifier() or network in FAMILIES:
        return ""
    return f" For {network} with weights of timm or torchvision, write timm:{network} or torchvision:{network}."


@dataclass(frozen=True)
class Start:
    """The initial weights of a training, as saved in the run.

    Args:
        source: name of the weights, as text after "starts from".
        file: the file, if the user gave one.
        sha256: hash of the file; empty if there is none.
        left_new: names of the head's tensors that are new, because the number of classes differs.
        has_own_head: whether the network's own head is used, not a fitted one.
        head: score of the head on samples that it was not fitted on: cross-validated, or on the validation set for the network's own head; None if
            not measured.
        head_order: classes in output order, if the last layer comes from a file and other programs may sort such names
            differently; else empty.
        can_predict: whether the network can predict before its first step; a head that is new and was not fitted cannot.
    """

    source: str
    file: str | None
    sha256: str
    left_new: tuple[str, ...] = ()
    has_own_head: bool = True
    head: HeadScore | None = None
    head_order: tuple[str, ...] = ()
    can_predict: bool = True

    def sentences(self, outputs: str = "classes") -> list[str]:
        """The sentences printed before the first step.

        Args:
            outputs: word for the outputs of the network.

        >>> Start("the weights in w.pt", None, "", ("fc.weight", "fc.bias")).sentences("outputs")
        ['starts from the weights in w.pt; fc.weight and fc.bias are new, for another number of outputs']
        """
        new = f"; {' and '.join(self.left_new)} are new, for another number of {outputs}" if self.left_new else ""
        lines = [f"starts from {self.source}{new}"]
        if self.head_order:
            here, as_text = (", ".join(names[:4]) for names in (self.head_order, sorted(self.head_order)))
            lines.append(
                f"the last layer is used as it is, in the order of the classes here: {here}, ...; torchvision and others sort names as text "
                f"({as_text}, ...), and outputs in another order would stand for the wrong classes"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``start.json``; ``from_json`` reads it back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Start:
        """The inverse of ``to_json``."""
        own = {field.name: facts[field.name] for field in dataclasses.fields(cls) if field.name in facts}
        names = {name: tuple(own.get(name, ())) for name in ("left_new", "head_order")}
        head = None if own.get("head") is None else HeadScore(**own["head"])
        return cls(**own | names | {"head": head})


def known_weights(
    network: Network | None,
    module: nn.Module,
    data: Data,
    file: str | Path | None,
    backbone: Backbone | None,
    pretrained: bool | None = None,
) -> InitialWeights | None:
    """The pretrained weights of a network; None for a new one.

    Args:
        network: the network as given.
        module: the built network.
        data: opened data.
        file: the requested weights file.
        backbone: the chosen backbone.
        pretrained: whether the weights of another library are wanted, for its networks.

    Raises:
        WeightsError: the file cannot be read.
    """
    if (library := library_network(network)) is not None:
        return library_weights(library, module, data.input_shape, file, pretrained)
    if file is not None:
        return initial_weights.from_file(file).named_as(module)
    if backbone is not None:
        return backbone.initial_weights(module)
    if (folder := trained_in(network)) is not None:
        source = f"this module's weights, trained in {folder}"
        return dataclasses.replace(initial_weights.from_module(module, source), normalization=_normalization_in(folder))
    if isinstance(network, nn.Module) and initial_weights.is_trained(module):
        return initial_weights.from_module(module, f"the weights that {type(module).__name__} brings")
    if isinstance(network, str) and is_callable_name(network):
        name = network.strip()
        if initial_weights.is_seed_independent(lambda: call_by_name(name, data.input_shape, len(data.classes))):
            return initial_weights.from_module(module, f"the weights that {name} brings")
    return None


def _normalization_in(folder: Path) -> Normalization | None:
    """The input normalization of a run; None if its folder is gone."""
    try:
        plan = RunFolder.open(folder).read_json("data.json")["preprocessing"]
    except RunError:
        return None
    return Normalization(tuple(map(float, plan["offset"])), tuple(map(float, plan["divisor"])))


def trained_note(network: object) -> str:
    """A note for a module that was trained before in this process, with the way to new weights; else empty."""
    if (folder := trained_in(network)) is None:
        return ""
    return (
        f"this module was trained before, in {folder}, and this training goes on from its weights. For new weights, make the module again for each "
        "training, or train copies: visus.train(data, copy.deepcopy(module))"
    )


def begin(module: nn.Module, initial: InitialWeights, classes: Sequence[str] = ()) -> Start:
    """Load the initial weights of a training into a module, in place.

    Args:
        module: the network.
        initial: the weights.
        classes: class names in the order of the network's outputs.

    Raises:
        WeightsError: layers do not fit; the message names each.
    """
    left_new = initial.load_into(module, len(classes) or None)
    is_order_told = initial.tensors is not None and not left_new and list(classes) != sorted(classes)
    return Start(initial.source, initial.file, initial.sha256, left_new, head_order=tuple(classes) if is_order_told else ())


def read_for(data: Data, normalization: Normalization = pretrained.NORMALIZATION) -> bool:
    """Whether data was opened with this scaling."""
    plan = data.preprocessing
    return plan.normalize == "fixed" and (plan.offset, plan.divisor) == (normalization.offset, normalization.divisor)


def start_of(data: Data, choice: BackboneChoice | LibraryChoice | None) -> str:
    """A sentence on the initial weights of a training with default options on opened data, with the note of the choice.

    Args:
        data: opened data, ``noted``.
        choice: the choice; None if a backbone's weights cannot be used.
    """
    if isinstance(choice, BackboneChoice) and read_for(data):
        return f"a training would start from {choice.backbone.source} ({option('pretrained', False)}: a new network)."
    note = f" {data.note}" if data.note else ""
    return f"a training would start from a new network.{note}"


def suited_data(data: Data, normalization: Normalization = pretrained.NORMALIZATION) -> Data:
    """Opened data with the scaling that the weights need, at its present size.

    Raises:
        UsageError: the data is not images with the same number of channels and values from 0 to 255.
    """
    plan, num_channels = data.preprocessing, len(normalization.offset)
    if read_for(data, normalization):
        return data
    if len(plan.size) != 2:
        raise UsageError(
            f"there are no pretrained weights for {plan.noun}s, only for images. Train a new network: leave out {option('pretrained')}."
        )
    if plan.channels != num_channels or plan.dtype != "uint8":
        # Only image files are read with another number of channels; arrays have their own.
        remedy = f", or give {option('channels', num_channels)}" if data.samples.reader.kind == "images" else ""
        kind = "color images" if num_channels == 3 else f"images of {write_number_of(num_channels, 'channel')}"
        raise UsageError(
            f"the pretrained weights need {kind} with values from 0 to 255, and these are {plan.noun}s with "
            f"{write_number_of(plan.channels, 'channel')} of {plan.dtype}. Train a new network: leave out {option('pretrained')}{remedy}."
        )
    scaling = {"normalize": "fixed", "offset": normalization.offset, "divisor": normalization.divisor}
    return dataclasses.replace(data, preprocessing=dataclasses.replace(plan, **scaling))  # type: ignore[arg-type]
