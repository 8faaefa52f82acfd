"""Facts about data, network and starting weights from which ``resolve`` decides a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from visus.data.tasks import TaskName
from visus.evaluation.metric_names import METRIC_NAMES

MANY_SAMPLES: Final = 20_000
SMALL_PX: Final = 40


@dataclass(frozen=True)
class DataFacts:
    """Facts about the data that ``resolve`` needs.

    Args:
        num_training: number of training samples.
        input_shape: (channels, *spatial).
        num_validation: number of validation samples.
        is_varied: whether the image files have many different sizes, as photos do.
        is_shuffled: whether one random permutation reorders the positions of every sample, so that shifting or mirroring makes no sense.
        keeps_class_mirrored: whether a mirrored sample keeps its class; None if the data leaves it open.
        mirroring: evidence for ``keeps_class_mirrored``, as text.
        task: what a label is, one of ``visus.data.tasks.TASKS``.
        is_8_bit: whether the stored values are 8-bit.
    """

    num_training: int
    input_shape: tuple[int, ...]
    num_validation: int = 0
    is_varied: bool = False
    is_shuffled: bool = False
    keeps_class_mirrored: bool | None = None
    mirroring: str = ""
    task: TaskName = "single-label"
    is_8_bit: bool = True

    @property
    def num_axes(self) -> int:
        """Spatial axes: 1 for signals, 2 for images, 3 for volumes, 0 for vectors."""
        return len(self.input_shape) - 1

    @property
    def is_small(self) -> bool:
        """Whether the training set has fewer than 20,000 samples; small sets need more augmentation."""
        return self.num_training < MANY_SAMPLES

    @property
    def is_small_gray(self) -> bool:
        """Whether samples are gray images of at most 40 px on the shorter side, for which ``compact`` is narrower."""
        channels, *size = self.input_shape
        return channels == 1 and len(size) == 2 and min(size) <= SMALL_PX


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about the network that ``resolve`` needs.

    Args:
        has_filters: whether it has convolutions or hidden linear layers.
        unknown_matrices: names of trained tensors with two or more axes that are neither filters nor the head, such as embeddings.
        other_norms: paths of norms that do not use batch statistics, such as layer norms.
        takes_smaller: whether it accepts every size of the requested (or default) progressive resizing.
        step_bytes: memory of a step of ``num_samples``, at most, as ``step_bytes(num_samples, optimizer)``; None if unknown.
        memory_bytes: memory for it; None if unknown.
    """

    has_filters: bool = True
    unknown_matrices: tuple[str, ...] = ()
    other_norms: tuple[str, ...] = ()
    takes_smaller: bool = True
    step_bytes: Callable[[int, str], int] | None = None
    memory_bytes: int | None = None

    @property
    def obstacle_to_muon(self) -> str:
        """Why muon is no good default for this network, in a few words; empty if it is one."""
        if not self.has_filters:
            return "the network has no convolutions"
        if self.unknown_matrices:
            return f"muon has no rule for {write_names(self.unknown_matrices)}"
        if self.other_norms:
            return f"{write_names(self.other_norms)} {'does' if len(self.other_norms) == 1 else 'do'} not normalize over the batch"
        return ""


@dataclass(frozen=True)
class HeadScore:
    """How well a head predicts samples that it was not fitted on.

    Args:
        metric: name of the metric, as in ``metric_names``.
        value: its value.
        num_samples: number of samples behind it.
        share_right: fraction of correct predictions; None where the task has no right predictions.
    """

    metric: str
    value: float
    num_samples: int
    share_right: float | None = None

    def words(self) -> str:
        """The metric with its value.

        >>> HeadScore("accuracy", 0.875, 40, 0.875).words(), HeadScore("mae", 15.2, 72).words()
        ('accuracy of 87.5 %', 'mean absolute error of 15.2')
        """
        name = METRIC_NAMES[self.metric]
        return f"{name.words} of {name.write(self.value)}"


@dataclass(frozen=True)
class StartFacts:
    """Facts about pretrained starting weights that ``resolve`` needs. They apply to settings that the recipe does not set.

    Args:
        layer_decay: learning rate of the first layer as a fraction of that of the last; None for the default.
        learning_rate: highest learning rate; None for the default.
        epochs: number of epochs; None for the default.
        reason: evidence for these values, as text.
        rate_reason: evidence for the learning rate, if it is another.
        note: a remark on these values for the person who trains; may be empty.
    """

    layer_decay: float | None = None
    learning_rate: float | None = None
    epochs: int | None = None
    reason: str = "usual for fine-tuning"
    rate_reason: str = ""
    note: str = ""


def write_names(names: tuple[str, ...] | list[str], max_names: int = 2) -> str:
    """Names joined as in a sentence; after ``max_names``, only the number of the remaining ones."""
    shown = list(names[:max_names])
    num_hidden = len(names) - len(shown)
    words = [*shown, f"{num_hidden} more"] if num_hidden else shown
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else words[0]
