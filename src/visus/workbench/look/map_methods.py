"""The saliency methods to try on a network, and their names."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

from visus.errors import MissingExtraError, UsageError, unknown_name
from visus.examine.layer_calls import Inputs
from visus.examine.saliency import WINDOWS, grad_cam, gradient_saliency, integrated_gradients, occlusion
from visus.examine.saliency_layer import fine_layer
from visus.examine.saliency_types import Saliency, Target, Unit

MapMethod = Callable[[nn.Module, Inputs, Target], Saliency]

METHODS: Final = {
    "grad-cam": "Grad-CAM",
    "gradient": "gradient",
    "integrated-gradients": "integrated gradients",
    "occlusion": "occlusion",
}
"""What a person types, and what the method is called."""
ALL: Final = "all"


@dataclass(frozen=True)
class TriedMethod:
    """A method with its settings.

    Args:
        name: a key of ``METHODS``.
        make: computes its map for other samples, targets or weights.
        is_cheap: whether it takes at most two passes.
        reason: a sentence on its layer; empty if it has none.
    """

    name: str
    make: MapMethod
    is_cheap: bool
    reason: str = ""


def check_method(name: str | None) -> None:
    """Raise an error for an unknown method.

    Raises:
        UsageError: with the closest name.
    """
    if name is not None and name not in (*METHODS, ALL):
        raise UsageError(unknown_name("saliency method", name, (*METHODS, ALL)))


def tried_methods(
    module: nn.Module, x: Tensor, target: Target, *, is_costly: bool, only_cheap: bool = False, has_layers: bool = True
) -> tuple[list[tuple[TriedMethod, Saliency]], str]:
    """All methods with their maps for some samples, and a sentence on each unavailable method.

    Grad-CAM is tried at the last layer with a fine map and at the last layer with a map; other methods need no layer.

    Args:
        module: the module.
        x: scaled samples (N, C, *).
        target: the class or unit to explain.
        is_costly: use coarser steps.
        only_cheap: skip methods that take many passes.
        has_layers: whether the layers' maps align with the samples.
    """
    found: list[tuple[TriedMethod, Saliency]] = []
    missing: list[str] = []
    if has_layers:
        fine = None if isinstance(target, Unit) else fine_layer(module, x)
        if fine is not None:
            found.append(_tried("grad-cam", functools.partial(grad_cam, layer=fine[0]), module, x, target, reason=fine[1]))
        try:
            last = grad_cam(module, x, target)
            if fine is None or last.layer != fine[0]:
                found.append(
                    (TriedMethod("grad-cam", functools.partial(grad_cam, layer=last.layer), True, last.reason), last)
                )
        except UsageError as error:
            if fine is None:
                missing.append(f"There is no Grad-CAM: {error.message}")
    else:
        missing.append(
            "There is no Grad-CAM: the network reads shuffled positions, so its maps do not align with the sample."
        )
    found.append(_tried("gradient", gradient_saliency, module, x, target))
    if only_cheap:
        return found, " ".join(missing)
    window, stride = occlusion_windows(tuple(x.shape[2:]), is_costly)
    costly: dict[str, MapMethod] = {
        "integrated-gradients": functools.partial(integrated_gradients, steps=12 if is_costly else 32),
        "occlusion": functools.partial(occlusion, window=window, stride=stride),
    }
    try:
        for name, make in costly.items():
            found.append(_tried(name, make, module, x, target, is_cheap=False))
    except MissingExtraError as error:
        missing.append(str(error))
    return found, " ".join(missing)


def _tried(
    name: str, make: MapMethod, module: nn.Module, x: Tensor, target: Target, *, is_cheap: bool = True, reason: str = ""
) -> tuple[TriedMethod, Saliency]:
    return TriedMethod(name, make, is_cheap, reason), make(module, x, target)


def occlusion_windows(spatial: tuple[int, ...], is_costly: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Occlusion windows and their strides. A window is an eighth of each axis, with a stride of half a window, or of a whole
    window if that takes too many passes.

    For a volume, a window is a quarter of each axis, with a stride of a whole window, so there are at most 64.

    >>> occlusion_windows((32, 32), False), occlusion_windows((32, 32), True)
    (((4, 4), (2, 2)), ((4, 4), (4, 4)))
    """
    parts = WINDOWS // 2 if len(spatial) > 2 else WINDOWS
    windows = tuple(-(-length // parts) for length in spatial)
    return windows, windows if is_costly or len(spatial) > 2 else tuple(max(1, length // 2) for length in windows)
