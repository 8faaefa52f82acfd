"""Builds an ``nn.Module`` from any form of network, with the text that rebuilds it."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from visus.design import Design, resolve_network
from visus.design.layers.registry import Softmax
from visus.errors import DesignError, UsageError, closest_name
from visus.evaluation.predictions import evaluation_mode
from visus.examine.layer_calls import first_weights
from visus.files import text_or_file
from visus.networks.build import build
from visus.networks.libraries.registry import library_network
from visus.networks.own_code import place_in_code
from visus.units import write_shape
from visus.workbench.callable_names import is_callable_name, refuse_nearly_callable, refuse_other_kind
from visus.workbench.module_checks import SOFTMAX, check_module

Network = str | Design | nn.Module
DEFAULT_NETWORK = "compact"
OBJECT_PREFIX = "# a Python object: "
"""Prefix of the text of a network that was passed as an object and cannot be rebuilt from its text."""


@dataclass(frozen=True)
class BuiltNetwork:
    """A built network.

    Args:
        module: the network; returns (samples, classes).
        text: content of ``design.txt``, from which ``make_network`` rebuilds it.
        asked: the network as the user wrote it.
        design: the design, or None for a user's module.
        warnings: warnings for the user before training.
        reason: the reason for this network, if a time limit determined it; else empty.
    """

    module: nn.Module
    text: str
    asked: str
    design: Design | None
    warnings: tuple[str, ...] = ()
    reason: str = ""

    @property
    def num_parameters(self) -> int:
        """Number of trained values."""
        return sum(parameter.numel() for parameter in self.module.parameters())


def make_network(
    network: Network | None, input_shape: tuple[int, ...], num_classes: int, *, num_samples: int | None = None, seed: int = 0
) -> BuiltNetwork:
    """The module for a design, its text, a design file, a family call, a network of another library, ``package.module:callable`` or a module.

    Args:
        network: None for ``compact``.
        input_shape: (channels, *spatial).
        num_classes: width of the last layer.
        num_samples: number of training samples, for families that depend on it.
        seed: seed of the initial weights.

    Raises:
        DesignError: the design has a syntax error or does not fit this input.
        UsageError: the callable cannot be found or called, or its module does not return one logit per class.
    """
    if network is not None and not isinstance(network, (str, Design, nn.Module)):
        refuse_other_kind(network)
    if isinstance(network, nn.Module):
        name = type(network).__qualname__
        warnings = check_module(network, input_shape, num_classes, name, seed)
        return BuiltNetwork(network, f"{OBJECT_PREFIX}{type(network).__module__}.{name}\n", name, None, warnings)
    if isinstance(network, str):
        network = _library_text(network)
    if (library := library_network(network)) is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = library.make(input_shape, num_classes)
        warnings = check_module(module, input_shape, num_classes, library.asked, seed)
        return BuiltNetwork(module, library.text + "\n", library.asked, None, warnings)
    if isinstance(network, str) and is_callable_name(network):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = call_by_name(network.strip(), input_shape, num_classes)
        warnings = check_module(module, input_shape, num_classes, network.strip(), seed)
        return BuiltNetwork(module, network.strip() + "\n", network.strip(), None, warnings)
    if isinstance(network, str) and network.startswith(OBJECT_PREFIX):
        raise UsageError(
            f"this network was given as a Python object ({network.removeprefix(OBJECT_PREFIX).strip()}) and cannot be made from its name. "
            "Give the same object: visus.load(folder, network=...), or visus.resume(folder, network=...) to go on with a training."
        )
    if isinstance(network, str):
        refuse_nearly_callable(network.strip())
    design = resolve_network(
        text_or_file(network) if isinstance(network, str) else network or DEFAULT_NETWORK,
        input_shape=input_shape,
        num_classes=num_classes,
        num_samples=num_samples,
    )
    output_shape = design.output_shape(input_shape, num_classes)
    if output_shape != (num_classes,):
        raise DesignError(
            f"this design gives {write_shape(output_shape)} numbers for a sample, and {num_classes} are needed: one for each class. "
            f"End it with globalpool, linear(classes)."
        )
    module = build(design, input_shape, num_classes, seed=seed)
    return BuiltNetwork(
        module,
        design.text + "\n",
        network if isinstance(network, str) else "a design" if network else DEFAULT_NETWORK,
        design,
        (SOFTMAX,) if isinstance(design.layers[-1], Softmax) else (),
    )


def network(network: Network, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Build a network as an ``nn.Module`` from (samples, *input_shape) to (samples, num_classes).

    Args:
        network: a design, its text, a family call such as ``"resnet(18)"``, or ``"package.module:callable"``.
        input_shape: (channels, *spatial), such as ``(3, 32, 32)``.
        num_classes: width of the last layer.

    Raises:
        DesignError: the design has a syntax error or does not fit this input.

    >>> network("conv(8, 3), relu, globalpool, linear(classes)", (3, 32, 32), 10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """
    return make_network(network, input_shape, num_classes).module


def _library_text(network: str) -> str:
    """The content of a file that names a network of another library, such as the ``design.txt`` of a run; any other text unchanged."""
    if is_callable_name(network) or "\n" in network or not network.endswith("design.txt") or not Path(network).is_file():
        return network
    content = Path(network).read_text(encoding="utf-8", errors="replace")
    return content if library_network(content) is not None else network


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-adds of one sample: half the FLOPs that PyTorch's counter returns for convolutions and matrix products."""
    values = first_weights(module)
    device = torch.device("cpu") if values is None else values.device
    with evaluation_mode(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *input_shape, device=device, dtype=None if values is None else values.dtype))
    return int(counter.get_total_flops()) // 2


def call_by_name(reference: str, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """The module that ``package.module:callable`` returns, or the network of another library; the current folder is searched for packages too.

    Raises:
        UsageError: the callable cannot be found or called, or does not return a module.
    """
    if (library := library_network(reference)) is not None:
        return library.make(input_shape, num_classes)
    module_name, _, attribute = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            found: Any = importlib.import_module(module_name)
    except Exception as error:  # whatever a person's own code raises
        raise UsageError(f"the module {module_name} cannot be imported: {error}.", where=reference) from error
    for name in attribute.split("."):
        if not hasattr(found, name):
            guess = closest_name(name, [each for each in dir(found) if not each.startswith("_")])
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise UsageError(f"{module_name} has no {attribute}.{hint}{_own_classes(found, module_name)}", where=reference)
        found = getattr(found, name)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise UsageError(f"{attribute} is neither a torch.nn.Module nor a callable that makes one.", where=reference)
    given = _arguments(found, attribute, reference, input_shape, num_classes)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            module = found(**given)
    except Exception as error:  # whatever a person's own code raises
        sentence = " ".join(str(error).split()).rstrip(".")
        failure = f"{type(error).__name__}{f': {sentence}' if sentence else ''}{place_in_code(error)}"
        remedy = " Call super().__init__() first." if "before Module.__init__() call" in sentence else ""
        raise UsageError(f"the code of {attribute} failed with {failure}.{remedy}", where=reference) from error
    if not isinstance(module, nn.Module):
        raise UsageError(f"{attribute} gave {type(module).__name__}, and a torch.nn.Module is needed.", where=reference)
    return module


def _own_classes(module: Any, module_name: str) -> str:
    """The networks that a Python module defines itself, as a sentence; empty if there are none."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, nn.Module)]
    names = list(dict.fromkeys(each.__name__ for each in classes if each.__module__ == module_name))
    return f" Its classes: {', '.join(names)}." if names else ""


def _arguments(
    found: Callable[..., Any], attribute: str, reference: str, input_shape: tuple[int, ...], num_classes: int
) -> dict[str, Any]:
    """What a callable is called with, of the three that are known; a class of modules without an ``__init__`` takes nothing.

    Raises:
        UsageError: it needs something else.
    """
    if isinstance(found, type) and inspect.getattr_static(found, "__init__") is nn.Module.__init__:
        return {}
    known = {"num_classes": num_classes, "input_shape": input_shape, "in_channels": input_shape[0]}
    try:
        signature = inspect.signature(found)
        wanted = signature.parameters
        takes_all = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in wanted.values())
        given = {name: value for name, value in known.items() if name in wanted or (takes_all and name == "num_classes")}
        signature.bind(**given)
    except (TypeError, ValueError) as error:
        remedy = _remedy_for_arguments(found, attribute, reference, known)
        raise UsageError(
            f"{attribute} cannot be called with num_classes, input_shape or in_channels alone: {error}.{remedy}",
            where=reference,
        ) from error
    return given


_OTHER_ARGUMENTS = {
    **dict.fromkeys(
        (
            "n_classes",
            "nclasses",
            "classes",
            "num_class",
            "n_class",
            "nb_classes",
            "num_labels",
            "n_labels",
            "num_outputs",
            "out_features",
        ),
        "num_classes",
    ),
    **dict.fromkeys(("in_chans", "in_ch", "in_channel", "channels", "n_channels", "num_channels", "n_in"), "in_channels"),
}
"""Usual names of arguments that visus calls otherwise."""


def _remedy_for_arguments(found: Callable[..., Any], attribute: str, reference: str, known: Mapping[str, Any]) -> str:
    """What to do about arguments that visus does not know, as a sentence with a space before it; empty if they are unknown."""
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return ""
    several = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    missing = [each.name for each in parameters if each.default is inspect.Parameter.empty and each.kind not in several]
    missing = [name for name in missing if name not in known]
    if not missing:
        return ""
    renamed = {name: _OTHER_ARGUMENTS[name] for name in missing if name in _OTHER_ARGUMENTS}
    if len(renamed) == len(missing):
        return " " + "; ".join(f"Rename {name} to {word}" for name, word in renamed.items()) + "."
    taken = ["num_classes=num_classes"] if "num_classes" in inspect.signature(found).parameters else []
    values = ", ".join([*taken, *(f"{name}=..." for name in missing)])
    module_name = reference.partition(":")[0]
    return (
        f" Write a function in {module_name} that makes the network, and name it instead ({module_name}:make): "
        f"def make(num_classes): return {attribute}({values})."
    )
