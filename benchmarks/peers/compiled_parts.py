"""torchvision where its compiled part does not load: beside a PyTorch built for the processor alone, the wheel of the registry is one for CUDA.

Models and transforms work without those operators; its detection operators do not.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

import torch

_SCHEMAS: Final = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[torch.library.Library] = []  # a library's operators are gone once it is


def make_importable() -> None:
    """Declare the operators that torchvision's import asks for, where its compiled part cannot be loaded; to be called before the import."""
    found = importlib.util.find_spec("torchvision")
    if _kept or found is None or not found.submodule_search_locations:
        return
    compiled = Path(found.submodule_search_locations[0]) / "_C.so"
    try:
        if compiled.is_file():
            torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]
            return
    except OSError:
        pass
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _kept.append(library)
