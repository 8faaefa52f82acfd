"""What was asked of a training, with the facts of the data, of the network and of the start -> what will be done, with the reasons.

``resolve`` is one pure function: the same request and facts give the same ``ResolvedRecipe``, in which nothing is optional.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from visus.errors import RecipeError, joined
from visus.evaluation.test_time_augmentation import STEPS_PER_SIDE
from visus.training.recipe import FIELDS, Recipe

NEVER: Final[dict[str, Any]] = {
    "clip_norm": 0.0,
    "patience": 0,
    "time_limit_s": math.inf,
    "head_lr": 0.0,
    "bias_lr": 0.0,
    "norm_lr": 0.0,
    "matrix_lr": 0.0,
}
"""Settings that may be out of use, with the value that says so; ``recipe.yaml`` writes null for it."""
MANY_SAMPLES: Final = 20_000
SMALL_PX: Final = 40
FILTER_RATE: Final = (
    0.16  # of muon, for batches of 2,000; Jordan has 0.24 there, and batches of 500 to 1,000 did better with less
)
HEAD_RATE, BIAS_RATE = 1.1, 0.14  # of the Adam beside it
ADAMW_RATE: Final = 0.002  # for batches of 64
PROGRESSIVE_SIZES: Final = "0.75, 0.75, 0.875, 0.875, 1"
MIN_STEPS: Final = 4 * len(PROGRESSIVE_SIZES.split(","))
"""Steps of a training from which samples are seen at several sizes: four for each part."""
_MUON_RATES: Final = ("head_lr", "bias_lr", "norm_lr", "matrix_lr")


@dataclass(frozen=True)
class DataFacts:
    """What a training needs to know of its data.

    Args:
        num_training: number of training samples.
        input_shape: (channels, *spatial).
        num_validation: number of validation samples.
        is_varied: image files of many different sizes, as a camera or a collection gives them.
        is_shuffled: the positions of every sample are in one random order, so that moved or mirrored ones are no samples.
        keeps_class_mirrored: whether a mirrored sample keeps its class; None where the data does not tell.
        mirroring: how that was found, for a reader.
    """

    num_training: int
    input_shape: tuple[int, ...]
    num_validation: int = 0
    is_varied: bool = False
    is_shuffled: bool = False
    keeps_class_mirrored: bool | None = None
    mirroring: str = ""

    @property
    def num_axes(self) -> int:
        """Spatial axes: 1 for signals, 2 for images, 3 for volumes, 0 for vectors."""
        return len(self.input_shape) - 1

    @property
    def is_small(self) -> bool:
        """Few samples, which profit from being changed more."""
        return self.num_training < MANY_SAMPLES

    @property
    def is_small_gray(self) -> bool:
        """Images for which ``compact`` is narrower."""
        channels, *size = self.input_shape
        return channels == 1 and len(size) == 2 and min(size) <= SMALL_PX


@dataclass(frozen=True)
class NetworkFacts:
    """What a training needs to know of its network.

    Args:
        has_filters: it has convolutions or hidden linear layers.
        unknown_matrices: names of trained tensors of two axes or more that are neither filters nor the head, such as embeddings.
        other_norms: paths of norms that do not go by the statistics of the batch, such as layer norms.
        takes_smaller: it takes samples at every size of the progressive resizing that is asked for, or that is the default.
    """

    has_filters: bool = True
    unknown_matrices: tuple[str, ...] = ()
    other_norms: tuple[str, ...] = ()
    takes_smaller: bool = True

    @property
    def suits_muon(self) -> str:
        """Why muon does not suit it, in a few words; empty where it does."""
        if not self.has_filters:
            return "the network has no convolutions"
        if self.unknown_matrices:
            return f"muon does not know {_few(self.unknown_matrices)}"
        if self.other_norms:
            return f"{_few(self.other_norms)} {'does' if len(self.other_norms) == 1 else 'do'} not normalize over the batch"
        return ""


@dataclass(frozen=True)
class StartFacts:
    """What a training needs to know of the weights that it starts from, where these know something already.

    Args:
        frozen: layers that stay as they are, where nothing else is asked for.
        layer_decay: rate of the first layer as a share of that of the last.
        learning_rate: highest rate, as it was found; None for the default.
        epochs: number of epochs, as it was found; None for the default.
        reason: how these were found, for a reader.
    """

    frozen: str = ""
    layer_decay: float | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    reason: str = "usual for fine-tuning"


@dataclass(frozen=True)
class ResolvedRecipe:
    """Everything that a training will do; the fields are those of ``Recipe``, and none is optional.

    Args:
        reasons: why a setting that was not asked for has its value, by name.
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
    clip_norm: float
    ema_decay: float
    final_ema: float
    class_weights: str
    sampling: str
    flip: str
    translate: float
    zoom: float
    cutout: float
    progressive_resize: str
    tta: str
    frozen: str
    norm_statistics: str
    patience: int
    time_limit_s: float
    checkpoint_every_s: float
    precision: str
    kernels: str
    device: str
    seed: int
    reasons: dict[str, str] = field(default_factory=dict, compare=False)

    @property
    def sides(self) -> tuple[float, ...]:
        """Parts of the full input size at which samples are seen, in equal shares of the training."""
        return tuple(float(word) for word in self.progressive_resize.split(","))

    @property
    def request(self) -> Recipe:
        """A recipe that asks for exactly this."""
        values: dict[str, Any] = {name: getattr(self, name) for name in FIELDS}
        values |= {name: None for name, out_of_use in NEVER.items() if values[name] == out_of_use}
        return Recipe(**values)

    def replace(self, **changes: Any) -> ResolvedRecipe:
        """A copy with other settings, each of the type and range that ``Recipe`` allows.

        Raises:
            RecipeError: a name that does not exist, or a value that cannot be used.
        """
        return ResolvedRecipe.of(self.request.replace(**changes), self.reasons)

    @classmethod
    def of(cls, recipe: Recipe, reasons: dict[str, str] | None = None) -> ResolvedRecipe:
        """From a recipe that asks for everything, such as the ``recipe.yaml`` of a run.

        Raises:
            RecipeError: settings are left open.
        """
        values = {name: getattr(recipe, name) for name in FIELDS}
        values = {name: NEVER.get(name) if value is None else value for name, value in values.items()}
        if missing := [name for name, value in values.items() if value is None]:
            raise RecipeError(
                f"this recipe leaves {_few(missing, len(missing))} open. Take the recipe.yaml of a run, which holds every setting."
            )
        return cls(**values, reasons=dict(reasons or {}))

    @classmethod
    def read(cls, file: Path) -> ResolvedRecipe:
        """The ``recipe.yaml`` of a run.

        Raises:
            UsageError: the file cannot be read.
            RecipeError: its content cannot be used, or leaves settings open.
        """
        try:
            return cls.of(Recipe.read(file))
        except RecipeError as error:
            raise error if error.where else error.within(str(file)) from None

    def to_yaml(self) -> str:
        """Every setting with its meaning, and the reason where it was decided; ``Recipe.from_yaml`` reads it back."""
        lines = []
        for name, value in ((name, getattr(self.request, name)) for name in FIELDS):
            text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
            reason = f"; here: {self.reasons[name]}" if name in self.reasons else ""
            lines.append(f"{name}: {text}  # {FIELDS[name].metadata['describe']}{reason}")
        return "\n".join(lines) + "\n"


def for_new_network(recipe: Recipe) -> Recipe:
    """A run's recipe for a network with random weights: what holds for weights that know something alone is decided anew.

    >>> for_new_network(Recipe(frozen="stage1", epochs=3)).frozen is None
    True
    """
    return recipe.replace(frozen=None, norm_statistics=None, layer_decay=None, epochs=recipe.epochs or None)


def resolve(recipe: Recipe, data: DataFacts, network: NetworkFacts, start: StartFacts | None = None) -> ResolvedRecipe:
    """Decide every setting that was left open, and refuse what could only be ignored.

    Args:
        recipe: what was asked for.
        data, network: facts.
        start: of weights that know something already; None for new ones.

    Raises:
        RecipeError: settings that contradict each other, the data, the network or the start; all of them together.

    >>> decided = resolve(Recipe(seed=3), DataFacts(7_200, (1, 28, 28)), NetworkFacts())
    >>> decided.optimizer, decided.epochs, decided.reasons["optimizer"]
    ('muon', 32, 'every matrix is a filter or the head, and norms go by the batch')
    """
    mistakes = _contradictions(recipe, data, network, start)
    if mistakes:
        raise RecipeError(joined(mistakes))
    decided = _Decided(recipe)
    _decide_optimizer(decided, data, network, start)
    _decide_augmentation(decided, data, network, start)
    if "flip" in decided["tta"] and decided["flip"] == "none":  # as the data decided
        raise RecipeError(
            f"tta={decided['tta']} mirrors samples, and this training does not ({decided.reasons.get('flip', 'flip=none')}). Leave it out, or train with flips."
        )
    _decide_rates(decided, data, start)
    is_resized, why = _progressive(decided, data, network, knows=start is not None)
    decided.choose("progressive_resize", PROGRESSIVE_SIZES if is_resized else "1", why)
    values: dict[str, Any] = {name: NEVER[name] if value is None else value for name, value in decided.values.items()}
    return ResolvedRecipe(**values, reasons=decided.reasons)


class _Decided:
    """Settings as they are decided one after another; what was asked for stays."""

    def __init__(self, recipe: Recipe) -> None:
        self.values: dict[str, Any] = {name: getattr(recipe, name) for name in FIELDS}
        self.reasons: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def choose(self, name: str, value: Any, reason: str) -> None:
        """Decide a setting that nobody asked for."""
        if self.values[name] is None:
            self.values[name], self.reasons[name] = value, reason


def _decide_optimizer(decided: _Decided, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> None:
    """Optimizer, batch size, epochs and the average of the weights."""
    if start is not None:
        decided.choose("optimizer", "adamw", "muon would give filters a size of its own, and the start knows theirs")
    elif network.suits_muon:
        decided.choose("optimizer", "adamw", network.suits_muon)
    decided.choose("optimizer", "muon", "every matrix is a filter or the head, and norms go by the batch")
    is_muon = decided["optimizer"] == "muon"
    if start is None:
        decided.choose(
            "batch_size", default_batch_size(data.num_training, is_muon=is_muon), "by the number of training samples"
        )
    decided.choose("batch_size", 32, "fine-tuning takes small steps")
    if decided["batch_size"] > data.num_training:
        decided.values["batch_size"], decided.reasons["batch_size"] = data.num_training, "there are no more training samples"
    decided.choose(
        "ema_decay",
        0.0 if is_muon or decided["final_ema"] else 0.998,
        "muon averages its last steps" if is_muon else "adamw and sgd average all steps",
    )
    decided.choose(
        "final_ema",
        0.03 if is_muon and not decided["ema_decay"] else 0.0,
        "the average of the last steps, at a low rate" if is_muon else "the average holds all steps",
    )


def _decide_augmentation(decided: _Decided, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> None:
    """How training samples are changed, and how the network is asked in use."""
    is_muon, is_image = decided["optimizer"] == "muon", data.num_axes >= 2
    if data.keeps_class_mirrored is not None:
        decided.choose("flip", "alternating" if data.keeps_class_mirrored else "none", data.mirroring)
    is_likely = (data.input_shape[0] == 3 and data.num_axes == 2) or data.num_axes == 3
    decided.choose(
        "flip",
        "alternating" if is_likely else "none",
        "color images and volumes mostly keep their class" if is_likely else "mirroring may change the class",
    )
    many_sizes = "images of many sizes" if data.is_varied else "samples of one size"
    if data.num_axes == 0:
        for name in ("zoom", "translate", "cutout"):
            decided.choose(name, 0.0, "vectors have no positions")
    decided.choose("zoom", (0.2 if start else 0.4) if data.is_varied and is_image else 0.0, many_sizes)
    decided.choose("translate", 0.1 if data.is_varied or (start and is_image) else 0.05, many_sizes)
    few = f"{'fewer' if data.is_small else 'no fewer'} than {MANY_SAMPLES:,} training samples"
    decided.choose(
        "cutout",
        0.0 if start or not data.is_small else 0.3 if decided["zoom"] or is_muon else 0.4,
        "the start knows its features" if start else few,
    )
    views = "none" if data.is_shuffled else _default_tta(decided["flip"], decided["translate"], data.input_shape[1:])
    decided.choose("tta", views, "what training does to its samples")


def _progressive(decided: _Decided, data: DataFacts, network: NetworkFacts, *, knows: bool) -> tuple[bool, str]:
    """Whether samples are seen at smaller sizes first, and why."""
    is_muon = decided["optimizer"] == "muon"
    num_steps = decided["epochs"] * max(1, data.num_training // decided["batch_size"])
    if data.num_axes == 1:
        return False, "a smaller signal has another pitch"
    if data.is_shuffled or data.num_axes == 0:
        return False, "these samples have no smaller form"
    if knows:
        return False, "the start knows its input size"
    if not network.takes_smaller:
        return False, "the network takes no smaller samples"
    if num_steps < MIN_STEPS:
        return False, f"{num_steps} steps are too few for several sizes"
    return (True, "small first is faster, and no less accurate") if is_muon else (False, "measured with muon alone")


def _decide_rates(decided: _Decided, data: DataFacts, start: StartFacts | None) -> None:
    """Epochs, rates and their schedule, decay and smoothing."""
    optimizer, batch_size = decided["optimizer"], decided["batch_size"]
    is_muon = optimizer == "muon"
    decided.choose(
        "frozen", start.frozen if start else "", start.reason if start else "a new network learns all its weights"
    )
    decided.choose(
        "norm_statistics",
        "stored" if start else "batch",
        "the start knows its statistics" if start else "a new network has no statistics yet",
    )
    if start is not None:
        decided.choose(
            "epochs",
            fine_tuning_epochs(data.num_training) if start.epochs is None else start.epochs,
            start.reason or "by the number of training samples",
        )
        if start.learning_rate is not None:
            decided.choose("learning_rate", start.learning_rate, start.reason)
        if start.layer_decay is not None:
            decided.choose("layer_decay", start.layer_decay, start.reason)
        decided.choose("weight_decay", 0.05, "fine-tuning changes little")
        decided.choose("warmup", 0.1, "the first steps are small, so that the start survives them")
    decided.choose(
        "epochs",
        default_epochs(
            data.num_training, is_zoomed=bool(decided["zoom"]), is_muon=is_muon, is_small_gray=data.is_small_gray
        ),
        "by the number of training samples",
    )
    decays = {"sgd": 5e-4, "adamw": 0.5 if data.is_small else 0.2, "muon": 0.05}
    decided.choose("weight_decay", decays[optimizer], f"usual for {optimizer}")
    decided.choose("warmup", 0.0 if is_muon else 0.2, f"usual for {optimizer}")
    decided.choose(
        "min_lr_ratio",
        0.05 if decided["final_ema"] else 0.0,
        "averaged steps still move" if decided["final_ema"] else "the last step is small",
    )
    decided.choose("label_smoothing", 0.2 if is_muon else 0.1, f"usual for {optimizer}")
    decided.choose("layer_decay", 1.0, "all layers are new")
    for name, value in _default_rates(decided, optimizer, batch_size).items():
        decided.choose(name, value, f"usual for {optimizer} with batches of {batch_size}")


def _default_rates(decided: _Decided, optimizer: str, batch_size: int) -> dict[str, float]:
    """Rates and momentum. Muon goes by Jordan 2024 (airbench94_muon) and by our own trials; smaller batches have smaller steps and remember more of
    them, both by the root of their size.
    """
    adamw_rate = round(min(ADAMW_RATE * math.sqrt(batch_size / 64), 0.4), 6)
    if optimizer != "muon":
        return {
            "learning_rate": round(min(0.1 * batch_size / 64, 0.4), 6) if optimizer == "sgd" else adamw_rate,
            "momentum": 0.9,
        }
    share = math.sqrt(batch_size / 2000)
    bias_lr = decided["bias_lr"] or round(BIAS_RATE * min(share, 1.0), 6)
    return {
        "learning_rate": round(FILTER_RATE * min(share, 1.0), 6),
        "head_lr": round(HEAD_RATE * min(share, 1.0), 6),
        "bias_lr": bias_lr,
        "norm_lr": max(1e-12, float(f"{bias_lr / 10:.6g}")),
        "matrix_lr": adamw_rate,
        "momentum": round(max(0.6, 1 - 0.4 * share), 4),
    }


def _contradictions(recipe: Recipe, data: DataFacts, network: NetworkFacts, start: StartFacts | None) -> list[str]:
    """What cannot be done, or could only be ignored."""
    found = []
    if recipe.ema_decay and recipe.final_ema:
        found.append(
            f"ema_decay={recipe.ema_decay:g} averages all steps, and final_ema={recipe.final_ema:g} the last ones: a training has one average. Leave one of them out."
        )
    if recipe.sampling == "balanced" and recipe.class_weights == "balanced":
        found.append(
            "sampling=balanced draws every class equally often, and class_weights=balanced would then weigh the rare ones once more: every sample would be "
            "taken for a rare class. Leave one of them out."
        )
    unused = [name for name in _MUON_RATES if getattr(recipe, name) is not None]
    other = recipe.optimizer or ("adamw" if start is not None or network.suits_muon else "muon")
    if unused and other != "muon":
        why = (
            ""
            if recipe.optimizer
            else f", which this training takes ({network.suits_muon or 'it starts from weights that know something'})"
        )
        found.append(
            f"{_few(unused, 4)} {'is a rate' if len(unused) == 1 else 'are rates'} of muon, and {other} has one rate for all{why}. Leave {'it' if len(unused) == 1 else 'them'} out, or give learning_rate."
        )
    if start is None and recipe.epochs == 0:
        found.append(
            "epochs=0 trains nothing, and this network starts from random weights. Leave it out, or start from weights that know something."
        )
    if start is None and recipe.frozen:
        found.append(
            f"frozen={recipe.frozen!r} keeps layers as they start, and this network starts from random weights. Leave it out, or start from weights that know something."
        )
    if start is None and recipe.norm_statistics == "stored":
        found.append(
            "norm_statistics=stored goes by statistics that the start brings, and this network is new. Leave it out, or start from weights that know something."
        )
    if start is not None and recipe.optimizer == "muon":
        found.append(
            "muon gives every filter a size of its own, which undoes what the start knows. Use adamw or sgd, or leave the optimizer out."
        )
    if (
        start is None
        and recipe.layer_decay not in (None, 1.0)
        and recipe.optimizer in (None, "muon")
        and not network.suits_muon
    ):
        found.append("layer_decay is for adamw and sgd, and muon has rates of its own. Leave it out, or give optimizer.")
    if data.num_axes == 1 and recipe.zoom:
        found.append("zoom stretches a signal, which changes its pitch. Leave it out.")
    if data.num_axes == 1 and min(recipe.sides) < 1:
        found.append("progressive_resize resamples a signal, which changes its pitch. Leave it out.")
    elif min(recipe.sides) < 1 and not network.takes_smaller:
        found.append(
            "progressive_resize needs a network that takes smaller samples too, as with globalpool, and this one does not. Leave it out."
        )
    if data.num_axes == 0 and (recipe.zoom or recipe.translate or recipe.cutout):
        found.append("zoom, translate and cutout need samples with positions, and these are vectors. Leave them out.")
    if recipe.patience and not data.num_validation:
        found.append("patience needs a validation set, and this data leaves none. Leave it out.")
    tta = recipe.tta or "none"
    if "flip" in tta and recipe.flip == "none":
        found.append(
            f"tta={tta} mirrors samples, and this training does not (flip=none). Leave it out, or train with flips."
        )
    if "shift" in tta and max(data.input_shape[1:], default=1) == 1:
        found.append(f"tta={tta} moves samples, and these have a single position. Leave it out.")
    if tta != "none" and data.is_shuffled:
        found.append(f"tta={tta} needs samples whose positions are in order, and these are shuffled. Leave it out.")
    return found


def _default_tta(flip: str, shift: float, size: tuple[int, ...]) -> str:
    """Test-time augmentation of unsure answers: mirrored where training mirrors, moved where training moves at least as far."""
    moves = all(round(shift * length) >= max(1, round(length / STEPS_PER_SIDE)) for length in size)
    found = "+".join([*(["flip"] if flip != "none" else []), *(["shift"] if moves and size else [])])
    return f"unsure:{found}" if found else "none"


def default_batch_size(num_samples: int, *, is_muon: bool = False) -> int:
    """64 for small sets, 128 from 20,000 samples on. Muon: about ``3 * sqrt(num_samples)``, a multiple of 16 between 16 and 2,000.

    Steps stay many enough to converge within few epochs.

    >>> [default_batch_size(number, is_muon=True) for number in (100, 2_700, 7_200, 50_000)]
    [32, 160, 256, 672]
    """
    if is_muon:
        return max(16, min(2000, 16 * round(3 * math.sqrt(num_samples) / 16)))
    return 64 if num_samples < MANY_SAMPLES else 128


def default_epochs(num_samples: int, *, is_zoomed: bool = False, is_muon: bool = False, is_small_gray: bool = False) -> int:
    """``1500 / sqrt(num_samples)``, at most 80 and at least 30, from 20,000 samples on at least 11: small sets are seen more often.

    Muon: ``2750 / sqrt(num_samples)``, at most 48 and at least 8. Where images are enlarged at random it is two fifths more, since no
    image is then seen twice in the same way. From 20,000 gray images of up to 40 px on it is three tenths more: each says less, and
    ``compact``, which is narrower for them, takes the same time.

    >>> [default_epochs(number) for number in (200, 1_500, 7_200, 58_000)]
    [80, 39, 30, 11]
    >>> [default_epochs(number, is_muon=True) for number in (200, 1_500, 7_200, 58_000)]
    [48, 48, 32, 11]
    >>> default_epochs(58_000, is_muon=True, is_small_gray=True)
    15
    """
    if is_muon:
        share = 1.3 if is_small_gray and num_samples >= MANY_SAMPLES else 1.0
        epochs = max(8, min(48, round(share * 2750 / math.sqrt(num_samples))))
    else:
        epochs = max(30 if num_samples < MANY_SAMPLES else 11, min(80, round(1500 / math.sqrt(num_samples))))
    return round(1.4 * epochs) if is_zoomed else epochs


def fine_tuning_epochs(num_samples: int) -> int:
    """So many that 12,000 samples are seen, at least 4 and at most 30.

    >>> [fine_tuning_epochs(number) for number in (60, 1_000, 3_000, 10_000)]
    [30, 12, 4, 4]
    """
    return max(4, min(30, math.ceil(12_000 / num_samples)))


def _few(names: tuple[str, ...] | list[str], most: int = 2) -> str:
    """Names in a sentence; the rest of many as a number."""
    shown = list(names[:most])
    rest = len(names) - len(shown)
    words = [*shown, f"{rest} more"] if rest else shown
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
