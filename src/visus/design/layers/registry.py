"""The table of layers, from the word in the notation to the class. Each class in a layer file registers under its
``word``."""

from __future__ import annotations

from typing import Final

from visus.design.arguments import Shape as Shape
from visus.design.arguments import classes as classes
from visus.design.layers import activations, convolution, features, norms, pooling, scaling
from visus.design.layers import transposed as transposed_module
from visus.design.layers.activations import *  # noqa: F403  # a new layer is written in its own file alone
from visus.design.layers.convolution import *  # noqa: F403
from visus.design.layers.features import *  # noqa: F403
from visus.design.layers.layer import DoesNotFitError as DoesNotFitError
from visus.design.layers.layer import Layer as Layer
from visus.design.layers.layer import Windowed as Windowed
from visus.design.layers.norms import *  # noqa: F403
from visus.design.layers.pooling import *  # noqa: F403
from visus.design.layers.scaling import *  # noqa: F403
from visus.design.layers.transposed import *  # noqa: F403

LAYERS: Final[dict[str, type[Layer]]] = {
    cls.word: cls
    for module in (convolution, transposed_module, pooling, norms, activations, scaling, features)
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Layer) and "word" in vars(cls)
}
