"""``visus.summary``: the account of a network in any form, and advice on it.

Torch is loaded only for modules.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from visus.design import Account, Design, account, resolve_network
from visus.design.account import check_detail
from visus.design.account_walk import account_so_far
from visus.design.advice.advise import Advice, advise, most_serious_first
from visus.design.advice.pieces import per_axis_text
from visus.design.facts import Facts
from visus.design.families.compact import TRADE_OFFS, is_compact
from visus.design.memory.moments import checked_batch_size
from visus.design.plan import check_lengths
from visus.errors import DesignError, UsageError, VisusError
from visus.files import text_or_file
from visus.units import write_byte_sum, write_shape
from visus.workbench.callable_names import is_callable_name, refuse_folder, refuse_nearly_callable, refuse_other_kind
from visus.workbench.live_line import working

if TYPE_CHECKING:
    from torch import nn

    Network = str | Design | nn.Module

Detail = Literal["layers", "operations"]
INPUT_SHAPE: Final = (3, 224, 224)
"""Input of a network that is given without one: (channels, height, width)."""
NUM_CLASSES: Final = 1000
"""Classes of a network that is given without their number."""
InputShape = Sequence[int] | Sequence[Sequence[int]]


@dataclass(frozen=True)
class StepMemory:
    """The memory of a training step with adamw, in bytes as in ``Account.bytes_training``.

    Args:
        batch_size: samples of the batch.
        parts: the parts of the peak memory by name, as in ``Account.training_parts``; empty if unknown.
        why: the reason if the memory is unknown.
    """

    batch_size: int
    parts: Mapping[str, int] = field(default_factory=dict)
    why: str = ""

    @property
    def bytes_training(self) -> int | None:
        """Peak memory, the sum of its parts; None if it is unknown."""
        return sum(self.parts.values()) if self.parts else None

    @property
    def sentence(self) -> str:
        """The memory and its parts in one line, or the reason why it is unknown."""
        if not self.parts:
            return self.why
        return f"memory of a training step with batches of {self.batch_size}: {write_byte_sum(self.parts)}"


def training_of(costs: Account, batch_size: int) -> StepMemory:
    """The memory of a training step; unknown for a module that cannot run without data.

    Raises:
        UsageError: the batch size is not a positive integer.
    """
    checked_batch_size(batch_size)
    try:
        return StepMemory(batch_size, costs.training_parts(batch_size))
    except UsageError as error:
        return StepMemory(batch_size, why=str(error))


@dataclass(frozen=True)
class Summary:
    """A network's account and the advice on it.

    Args:
        account: the rows and the advice; if ``error`` is set, the rows up to the layer that fails.
        design: the design, or None for a module.
        error: the error at which the account ends early; else None.
        object_px: size of the objects in the images; None if unknown.
    """

    account: Account
    design: Design | None = None
    error: VisusError | None = None
    object_px: int | None = None

    @property
    def fits(self) -> str:
        """A sentence with the sizes if the last map sees whole objects; empty if it does not, or if their size is unknown."""
        facts = Facts(self.account)
        row, tokens = facts.last_map(), facts.whole_tokens()
        if self.object_px is None or row is None or any(each.kind == "object" for each in self.advice):
            return ""
        if tokens is not None:
            size = write_shape(self.account.input_shape[1:])
            return f"objects of {self.object_px} px fit: every token of {tokens.path} sees the whole image of {size}."
        sizes = [field.size for field in row.fields]
        return (
            f"objects of {self.object_px} px fit: the last map ({row.path}) has a receptive field of {per_axis_text(sizes)} px, "
            f"{min(sizes) - self.object_px} px more than an object, in images of {write_shape(self.account.input_shape[1:])}."
        )

    def output_note(self, num_classes: int | None) -> str:
        """A sentence if a module does not return one number for each class; empty otherwise, and for designs.

        Args:
            num_classes: the number of classes; None if it was not given, which leaves out the shape.
        """
        output = self.account.output
        if self.design is not None or self.error is not None:
            return ""
        if not self.account.ends and not output:
            return "forward returns no tensor that depends on the input, and a training needs one number for each class. End forward with return."
        if num_classes is None or output == (num_classes,):
            return ""
        return f"the network returns {write_shape(output) or 'one number'} for a sample, and a training needs {num_classes}: one number for each class."

    @property
    def advice(self) -> tuple[Advice, ...]:
        """The advice, the most serious first."""
        return self.account.advice

    def to_json(self) -> dict[str, Any]:
        """The account and the advice as plain data."""
        return self.account.to_json()


def summary(
    network: Network,
    input_shape: InputShape,
    num_classes: int = NUM_CLASSES,
    *,
    detail: Detail = "layers",
    object_px: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> Account:
    """The account of any network: shapes, parameters, multiply-adds and receptive fields of every layer, and advice.

    The advice is in ``.advice``: each piece has ``kind``, ``path``, ``sentence``, ``remedies`` and, as one line, ``text``.

    Args:
        network: a design, its text, a family call such as ``"resnet(18)"``, a design file, ``"package.module:callable"`` or a module.
        input_shape: ``(channels, *spatial)``, without the batch axis; for a module with several inputs a list with the shape of each.
            An embedding or another module for integers receives integers, which the first row notes.
        num_classes: the value of ``classes``.
        detail: ``"layers"`` for a row for each layer, ``"operations"`` for a row for each intermediate tensor.
        object_px: size of the objects in the images, in pixels of the input: advice then checks whether a position of the
            last map can see a whole object.
        batch_size: samples of a training batch; with 1, advice names batch norms over one position.
        progress: False shows nothing on stderr.

    Raises:
        DesignError: the design has a syntax error, or a layer cannot take its input.
        UsageError: the module cannot be found, or cannot take this input.

    >>> costs = summary("conv(64, 3, padding=1)", (3, 224, 224))
    >>> costs.num_parameters, costs.macs, costs.output
    (1792, 86704128, (64, 224, 224))
    >>> [advice.kind for advice in summary("conv(64, 3, stride=7), globalpool", (3, 224, 224)).advice]
    ['stride']
    """
    with working("following the network", progress):
        found = summarize(network, input_shape, num_classes, detail=detail, object_px=object_px, batch_size=batch_size)
    if found.error is not None:
        raise found.error
    return found.account


def summarize(
    network: Network,
    input_shape: InputShape,
    num_classes: int = 1000,
    *,
    detail: Detail = "layers",
    object_px: int | None = None,
    batch_size: int | None = None,
) -> Summary:
    """The account and the advice; if a layer fails, the rows end there and ``error`` is set.

    ``compact`` gets no advice on its own measured trade-offs (``visus.design.families.compact``).

    Raises:
        DesignError: the design has a syntax error, or the input shape is invalid.
        UsageError: the module cannot be found, the detail does not exist, or the input shape is invalid.
    """
    check_detail(detail)
    if object_px is not None and object_px < 1:
        raise UsageError(f"the size of objects must be at least 1 px, not {object_px}.")
    if batch_size is not None:
        checked_batch_size(batch_size)
    shapes = _shapes_of(input_shape)
    shape = shapes[0]
    design = design_of(network, shape, num_classes)
    if design is None:
        given = shape if len(shapes) == 1 else shapes
        return _of_module(_module_of(network, shape, num_classes), given, detail, object_px, batch_size)
    if len(shapes) > 1:
        raise UsageError(
            f"a design takes one input, and {len(shapes)} shapes are given. Give one, or a module with several inputs."
        )
    try:
        costs = account(design, shape, num_classes)
    except DesignError as error:
        return Summary(account_so_far(design, shape, num_classes), design, error)
    advice = advise(costs, design, num_classes, object_px=object_px, batch_size=batch_size)
    if is_compact(design, shape):
        advice = tuple(each for each in advice if each.kind not in TRADE_OFFS)
    if detail == "operations":
        from visus.networks.build import build
        from visus.networks.trace import trace

        costs = trace(build(design, shape, num_classes), shape, detail=detail)
    return Summary(replace(costs, advice=advice), design, object_px=object_px)


def _shapes_of(input_shape: Any) -> tuple[tuple[int, ...], ...]:
    """One shape, or those of several inputs, as tuples of whole numbers.

    Raises:
        UsageError: it is none.
        DesignError: an axis is too long.
    """
    try:
        given = tuple(input_shape)
        is_several = bool(given) and all(isinstance(each, (tuple, list)) for each in given)
        shapes = tuple(tuple(map(operator.index, each)) for each in (given if is_several else (given,)))
    except TypeError as error:
        raise UsageError(
            f"the input shape is (channels, *lengths), such as (3, 224, 224), and not {_described(input_shape)}."
        ) from error
    for shape in shapes:
        check_lengths(shape)
    return shapes


def _described(given: Any) -> str:
    """A wrong input shape in a few words: a tensor or an array is not printed."""
    shape = getattr(given, "shape", None)
    if shape is None:
        return repr(given)
    own = tuple(shape)
    hint = f"; the shape of one of its samples is {own[1:]}" if len(own) > 2 else ""
    return f"a {type(given).__name__} of shape {own}{hint}"


def required_design(what: str, network: Network, input_shape: tuple[int, ...], num_classes: int) -> Design:
    """The network as a design, for something that needs one.

    Args:
        what: what needs it, in the plural.
        network, input_shape, num_classes: as for ``design_of``.

    Raises:
        UsageError: it is none; and the errors of ``design_of``.
    """
    design = design_of(network, input_shape, num_classes)
    if design is None:
        is_run = isinstance(network, str) and _is_run_of_module(network.strip())
        found = "the network of this run is a module of Python" if is_run else "this is the name of a Python callable"
        raise UsageError(f"{what} need a design, and {found}.", where=str(network))
    return design


def design_of(network: Network, input_shape: tuple[int, ...], num_classes: int) -> Design | None:
    """The network as a design; None for a module, for the name of a callable, and for a run whose network is one.

    Raises:
        DesignError: the text cannot be read.
        UsageError: the text resembles the name of a callable, or names a folder or an unreadable file; or the number of
            classes is below 1.
    """
    if num_classes < 1:
        raise UsageError(f"the number of classes must be at least 1, not {num_classes}.")
    if isinstance(network, Design):
        return network
    if not isinstance(network, str) or is_callable_name(network):
        return None
    refuse_nearly_callable(network.strip())
    try:
        return resolve_network(text_or_file(network), input_shape=input_shape, num_classes=num_classes)
    except UsageError:
        if _is_run_of_module(network.strip()):
            return None
        if text := _design_text_of_run(network.strip()):
            return resolve_network(text, input_shape=input_shape, num_classes=num_classes)
        refuse_folder(network.strip())
        raise


def input_of_run(name: str) -> tuple[tuple[int, ...], int] | None:
    """The input shape and the number of classes of a run that is named in the place of a network; None if it is none."""
    folder = Path(name)
    if not _network_of_run(name):
        return None
    try:
        facts = json.loads((folder / "data.json").read_text(encoding="utf-8"))["preprocessing"]
        classes = (folder / "classes.txt").read_text(encoding="utf-8").splitlines()
        return (int(facts["channels"]), *map(int, facts["size"])), len(classes)
    except (OSError, ValueError, KeyError, TypeError):  # a damaged run: its design is read all the same
        return None


def _design_text_of_run(name: str) -> str:
    """The design in a run folder; empty if the name is no such folder, or if the run's network is a Python callable or object."""
    text = _network_of_run(name)
    return "" if text.startswith("#") or is_callable_name(text) else text


def _network_of_run(name: str) -> str:
    """The text of the network in a run folder: a design, the name of a callable, or a comment on a Python object; empty if the
    name is no such folder."""
    file = Path(name) / "design.txt"
    try:
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    except (OSError, ValueError):  # also a name that is too long for a file
        return ""


def _is_run_of_module(name: str) -> bool:
    """Whether the name is that of a run folder whose network is a Python callable or object."""
    return bool(_network_of_run(name)) and not _design_text_of_run(name)


def _module_of(network: Any, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    from torch import nn

    from visus.networks.own_code import shaped
    from visus.workbench.modules import call_by_name

    if isinstance(network, str):
        name = network.strip()
        made = (
            _module_of_run(name, input_shape, num_classes)
            if _is_run_of_module(name)
            else call_by_name(name, input_shape, num_classes)
        )
        return shaped(made, input_shape)
    if not isinstance(network, nn.Module):
        refuse_other_kind(network)
    return shaped(network, input_shape)


def _module_of_run(name: str, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The trained module of a run whose network is a Python callable; for another input or number of classes, a new one.

    Raises:
        UsageError: the network was given as a Python object, or the callable cannot be found or called.
        RunError: a file of the run is missing or damaged.
        WeightsError: the weights do not fit the module.
    """
    from visus.workbench.modules import OBJECT_PREFIX, call_by_name
    from visus.workbench.runs.saved import SavedRun, read_run

    text = _network_of_run(name)
    if not is_callable_name(text):
        raise UsageError(
            f"the network of this run was given as a Python object ({text.removeprefix(OBJECT_PREFIX.strip()).strip()}) and cannot be "
            f"made from its name. In Python, give the object itself: visus.summary(network, input_shape).",
            where=name,
        )
    if input_of_run(name) == (input_shape, num_classes):
        return read_run(SavedRun, name, device="cpu").module
    return call_by_name(text, input_shape, num_classes)


def _of_module(
    module: nn.Module, input_shape: InputShape, detail: Detail, object_px: int | None, batch_size: int | None
) -> Summary:
    from visus.networks.trace import TraceError, trace
    from visus.networks.trace.module_advice import module_advice

    try:
        costs = trace(module, input_shape, detail=detail)
        layers = costs if detail == "layers" else trace(module, input_shape)  # advice speaks of layers
    except TraceError as error:
        return Summary(error.account, error=_of_other_shape(module, input_shape) or error)
    advice = [*advise(layers, object_px=object_px, batch_size=batch_size)]
    if layers.find_flows is not None:  # with several inputs of different sizes, it is not known which rows are samples
        advice += module_advice(module, layers)
    return Summary(replace(costs, advice=most_serious_first(advice)), object_px=object_px)


def _of_other_shape(module: nn.Module, input_shape: InputShape) -> UsageError | None:
    """The error for a shape with the channels last, or with the batch, where the module accepts the shape that is meant; else None."""
    from visus.networks.trace import TraceError, trace

    shape = tuple(each for each in input_shape if isinstance(each, int))
    if len(shape) != len(input_shape) or len(shape) < 3:
        return None
    others = {}
    if shape[-1] <= 4 < shape[0]:
        swapped = (shape[-1], *shape[:-1])
        others[swapped] = f"looks like channels last; channels come first: {swapped}"
    if len(shape) > 3:
        others[shape[1:]] = f"looks like one with the batch; leave out the batch: {shape[1:]}"
    for other, sentence in others.items():
        try:
            trace(module, other)
        except TraceError:
            continue
        return UsageError(f"the input shape {shape} {sentence}, which this module accepts.")
    return None
