"""Warnings about opened data: unreadable files, images of one color, value ranges and uneven classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from visus.caller import option
from visus.data.ledger import Ledger, write_examples
from visus.data.preprocessing import Preprocessing
from visus.units import write_number_of

FAR_FROM_ZERO = 2**20  # standard deviations; float32 (24 bits) would leave 16 levels per standard deviation
IMBALANCE = 3.0
LOW_RANGE = "16-bit values in the lowest part of their range"


def unreadable_warning(ledger: Ledger) -> list[str]:
    """A warning about the files that could not be read."""
    names = list(ledger.reasons("unreadable"))
    if not names:
        return []
    files = write_number_of(len(names), "file cannot be read and was", "files cannot be read and were")
    return [f"{files} left out: {write_examples(names)}. Repair or remove {'it' if len(names) == 1 else 'them'}."]


def blank_warning(names: Sequence[str]) -> list[str]:
    """A warning about images of one color."""
    if not names:
        return []
    images = write_number_of(len(names), "image has", "images have")
    return [
        f"{images} a single color, so there is nothing in {'it' if len(names) == 1 else 'them'} to learn: {write_examples(names)}."
    ]


def low_range_warning(ledger: Ledger) -> list[str]:
    """A warning if most of the 16-bit images use only the lowest eighth of their range."""
    counts = ledger.counts
    num_dark, num_16_bit = counts.get(LOW_RANGE, 0), counts.get("16-bit values scaled to 8-bit", 0)
    if 2 * num_dark <= num_16_bit:
        return []
    return [
        f"{num_dark:,} of {num_16_bit:,} 16-bit images use only the lowest eighth of their range (up to 8,191 of 65,535), as images from 12-bit "
        f"and 13-bit cameras do. As 8-bit images they are dark, with at most 32 of 256 levels. Multiply the values by the same factor in all "
        f"files so that they fill the range, or provide them as an .npy or .npz array, which keeps all levels."
    ]


def large_offset_warning(plan: Preprocessing) -> list[str]:
    """A warning if the mean of the values is very large compared with their standard deviation."""
    if plan.normalize != "mean-deviation":
        return []
    far = [channel for channel in range(plan.channels) if abs(plan.offset[channel]) > FAR_FROM_ZERO * plan.divisor[channel]]
    if not far:
        return []
    channel = far[0]
    which = f" of channel {channel}" if plan.channels > 1 else ""
    return [
        f"the values{which} have a mean of {plan.offset[channel]:,.6g} but a standard deviation of only {plan.divisor[channel]:.2g}, like timestamps or "
        f"indices. visus normalizes them in float64 without loss, but a program that reads them as float32 loses most of their differences."
    ]


def imbalance_warning(counts: Mapping[str, int]) -> list[str]:
    """A warning if the largest class has many times the training samples of the smallest.

    Args:
        counts: number of training samples of each class; empty where samples have no class.
    """
    if not counts or min(counts.values()) == 0:
        return []
    largest, smallest = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[largest] < IMBALANCE * counts[smallest]:
        return []
    return [
        f"the classes are uneven: {largest} has {counts[largest]:,} training samples, and {smallest} has {counts[smallest]:,}. "
        f"Check the recall of each class; {option('class_weights', 'balanced')} gives rare classes more weight."
    ]
