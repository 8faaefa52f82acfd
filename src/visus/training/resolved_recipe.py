"""``ResolvedRecipe``: every setting of a training, with the reason for each one that was decided."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from visus.errors import RecipeError
from visus.training.facts import write_names
from visus.training.recipe import FIELDS, Recipe, plain

OFF_VALUES: Final[dict[str, Any]] = {
    "clip_norm": 0.0,
    "patience": 0,
    "time_limit_s": math.inf,
    "head_lr": 0.0,
    "bias_lr": 0.0,
    "norm_lr": 0.0,
    "matrix_lr": 0.0,
    "loss": "",
    "accumulate": 1,
    "policy": "",
    "transform": "",
}
"""Value that turns a setting off; ``recipe.yaml`` writes null for it."""
FORMER_VALUES: Final[dict[str, Any]] = {"select": "accuracy", "color": 0.0}
"""What runs did before there was the setting."""


@dataclass(frozen=True)
class ResolvedRecipe:
    """Every setting of a training, decided. The fields are those of ``Recipe``, and none is optional.

    Args:
        reasons: setting name -> why it has this value, for settings that the recipe did not set.
    """

    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    head_lr: float
    bias_lr: float
    norm_lr: float
    matrix_lr: float
    layer_decay: float
    momentum: float
    weight_decay: float
    schedule: str
    warmup: float
    min_lr_ratio: float
    label_smoothing: float
    loss: str
    select: str
    clip_norm: float
    ema_decay: float
    final_ema: float
    class_weights: str
    sampling: str
    flip: str
    translate: float
    zoom: float
    cutout: float
    vertical_flip: str
    rotate90: str
    rotate: float
    crop: float
    color: float
    policy: str
    mixup: float
    cutmix: float
    transform: str
    progressive_resize: str
    tta: str
    frozen: str
    norm_statistics: str
    patience: int
    time_limit_s: float
    checkpoint_every_s: float
    precision: str
    accumulate: int
    kernels: str
    device: str
    seed: int
    reasons: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def sides(self) -> tuple[float, ...]:
        """Input sizes of the equally long phases of the training, as fractions of the full side."""
        return tuple(float(word) for word in self.progressive_resize.split(","))

    @property
    def request(self) -> Recipe:
        """A recipe that sets every setting to this value."""
        values: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        values |= {name: None for name, off in OFF_VALUES.items() if values[name] == off}
        return Recipe(**values)

    def replace(self, **changes: Any) -> ResolvedRecipe:
        """A copy with other settings, within the types and ranges of ``Recipe``.

        Raises:
            RecipeError: unknown name, or invalid value.
        """
        return ResolvedRecipe.of(self.request.replace(**changes), self.reasons)

    @classmethod
    def of(cls, recipe: Recipe, reasons: dict[str, str] | None = None) -> ResolvedRecipe:
        """From a recipe that sets everything, such as the ``recipe.yaml`` of a run.

        Raises:
            RecipeError: a setting is None.
        """
        values = {name: getattr(recipe, name) for name in FIELDS}
        known = OFF_VALUES | FORMER_VALUES
        values = {name: known.get(name) if value is None else value for name, value in values.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise RecipeError(
                f"this recipe does not set {write_names(missing, len(missing))}. Use the recipe.yaml of a run, which holds every setting."
            )
        return cls(**values, reasons=dict(reasons or {}))

    @classmethod
    def read(cls, file: Path) -> ResolvedRecipe:
        """Read the ``recipe.yaml`` of a run.

        Raises:
            UsageError: the file cannot be read.
            RecipeError: the content is invalid, or a setting is missing.
        """
        try:
            return cls.of(Recipe.read(file))
        except RecipeError as error:
            raise error if error.where else error.within(str(file)) from None

    def to_yaml(self) -> str:
        """YAML with the meaning of each setting, and the reason if ``resolve`` decided it; ``Recipe.from_yaml`` reads it back."""
        lines = []
        for name, value in ((name, getattr(self.request, name)) for name in FIELDS):
            text = yaml.safe_dump(plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()
            reason = f"; here: {self.reasons[name]}" if name in self.reasons else ""
            lines.append(f"{name}: {text}  # {FIELDS[name].metadata['describe']}{reason}")
        return "\n".join(lines) + "\n"
