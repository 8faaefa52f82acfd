"""The preprocessing that follows from the settings of ``open_data`` and from the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from numbers import Integral
from typing import Any

from visus.caller import option
from visus.data.images.fit import RESIZE_MODES, ResizeMode
from visus.data.ledger import Ledger
from visus.data.preprocessing import NORMALIZATIONS, Normalize, Preprocessing
from visus.data.samples import Samples
from visus.data.survey import InputChooser, Survey, suitable_size, survey_images
from visus.errors import DataError, UsageError, unknown_name
from visus.units import write_number_of, write_shape


def check_settings(
    img_size: int | Sequence[int] | None, channels: int | None, resize_mode: str, normalize: str, max_unreadable: float
) -> None:
    """Check the settings of ``open_data``, before anything is read.

    Raises:
        UsageError: one of them cannot be used.
    """
    given: Any = img_size
    sizes = [] if given is None else list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if any(isinstance(size, bool) or not isinstance(size, Integral) for size in sizes):
        raise UsageError(
            f"img_size must be a whole number of pixels, or one for each axis, such as 224 or (224, 320), not {given!r}."
        )
    if any(size < 1 for size in sizes):
        raise UsageError(f"the image size must be at least 1 pixel, not {write_shape(sizes)}.")
    if channels not in (None, 1, 3):
        raise UsageError(f"channels must be 1 (gray) or 3 (color), not {channels!r}.")
    if resize_mode not in RESIZE_MODES:
        raise UsageError(unknown_name("resize mode", resize_mode, RESIZE_MODES))
    if normalize not in NORMALIZATIONS:
        raise UsageError(unknown_name("normalization", normalize, NORMALIZATIONS))
    if not 0 <= max_unreadable < 1:
        raise UsageError(f"the fraction of unreadable files must be at least 0 and below 1, not {max_unreadable}.")


def plan_preprocessing(
    samples: Samples,
    ledger: Ledger,
    img_size: int | Sequence[int] | None,
    channels: int | None,
    resize_mode: ResizeMode,
    normalize: Normalize,
    choose_input: InputChooser | None,
) -> tuple[Preprocessing, Survey | None]:
    """The preprocessing of a dataset for training, and the survey of its image files; None for arrays.

    Args:
        samples: the table.
        ledger: receives what was found in the image files.
        img_size, channels, resize_mode, normalize, choose_input: as for ``open_data``.

    Raises:
        UsageError: a setting does not suit the data.
    """
    if samples.reader.kind == "array":
        assert samples.reader.shape is not None, "rows of arrays have a shape"
        own_channels, *own_size = samples.reader.shape
        if resize_mode != "squash":
            raise UsageError(
                f"the resize mode {resize_mode} applies to image files, but these are arrays. Omit it.",
                where=samples.place,
            )
        if channels not in (None, own_channels):
            raise UsageError(
                f"these arrays have {write_number_of(own_channels, 'channel')}, not {option('channels', channels)}.",
                where=samples.place,
            )
        size = _wanted_size(img_size, len(own_size)) or tuple(own_size)
        if any(wanted > length for wanted, length in zip(size, own_size, strict=True)):
            raise UsageError(
                f"visus does not enlarge arrays: the size {write_shape(size)} was requested, but they are {write_shape(own_size)}.",
                where=samples.place,
            )
        unit = ((0.0,) * own_channels, (1.0,) * own_channels)
        stored = getattr(samples.reader, "layout", None)
        plan = Preprocessing(
            "array", own_channels, size, resize_mode, str(samples.reader.dtype), normalize, *unit, layout=stored
        )
        return plan, None
    survey = dataclasses.replace(survey_images(samples, ledger), wanted_size=_wanted_size(img_size, 2))
    if choose_input and (chosen := choose_input(survey)):
        plan = Preprocessing(
            "images",
            chosen.channels,
            chosen.size,
            chosen.resize_mode or resize_mode,
            "uint8",
            "fixed" if chosen.offset else normalize,
            chosen.offset or (0.0,) * chosen.channels,
            chosen.divisor or (1.0,) * chosen.channels,
        )
        return plan, survey
    num_channels = channels or (3 if survey.has_color else 1)
    unit = ((0.0,) * num_channels, (1.0,) * num_channels)
    size = survey.wanted_size or suitable_size(survey.sizes)
    return Preprocessing("images", num_channels, size, resize_mode, "uint8", normalize, *unit), survey


def _wanted_size(img_size: int | Sequence[int] | None, num_axes: int) -> tuple[int, ...] | None:
    if img_size is None:
        return None
    size = tuple(img_size) if isinstance(img_size, Sequence) else (int(img_size),) * num_axes
    if len(size) != num_axes:
        raise UsageError(f"the size {write_shape(size)} has {len(size)} axes, and the data has {num_axes}.")
    return size


def check_kind(samples: Samples, plan: Preprocessing) -> None:
    """Check that the data is of the network's kind: image files or arrays.

    Raises:
        DataError: the network reads image files and the data is arrays, or the reverse.
    """
    kinds = {"images": "image files", "array": "arrays"}
    if samples.reader.kind == "images" and plan.is_image_like:
        return
    if samples.reader.kind == "array" and plan.kind == "images" and samples.reader.shape and len(samples.reader.shape) == 3:
        return
    if samples.reader.kind != plan.kind:
        raise DataError(
            f"this network reads {kinds[plan.kind]}, but these are {kinds[samples.reader.kind]}.", where=samples.place
        )
