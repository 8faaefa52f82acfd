"""How the receptive field grows over depth: the one chart of it, for the report and the look page."""

from __future__ import annotations

from collections.abc import Sequence

from visus.pages.parts.charts import Points, legend, line_chart
from visus.pages.parts.document import figure


def field_growth_figure(
    layers: Sequence[tuple[str, int]],
    noun: str,
    unit: str,
    length: int,
    *,
    object_px: int | None = None,
    title: str = "Receptive field over depth",
) -> str:
    """The receptive field of each layer, the first at the left, with the length of the sample and of its objects, as a ``<figure>``.

    Args:
        layers: path and receptive field of each layer in the order of computation; drawn in full, however far beyond the sample.
        noun: word for one sample.
        unit: of all lengths, such as ``px``.
        length: length of the sample's axis.
        object_px: length of the objects; None if unknown.
        title: title of the figure.
    """
    sizes = [size for _, size in layers]
    last = float(len(sizes))
    lines: list[tuple[str, Points]] = [
        ("val", [(float(place), float(size)) for place, size in enumerate(sizes, start=1)]),
        ("size", [(1.0, float(length)), (last, float(length))]),
    ]
    keys = [("", f"receptive field in {unit}"), ("size", f"the {noun}: {length:,} {unit}")]
    if object_px is not None:
        lines.append(("train", [(1.0, float(object_px)), (last, float(object_px))]))
        keys.append(("train", f"an object: {object_px} {unit}"))
    ends = f"{sizes[0]} {unit} in {layers[0][0]} to {sizes[-1]} {unit} in {layers[-1][0]}"
    label = f"From {ends}. The {noun} has {length} {unit}."
    chart = line_chart(
        "Receptive field over depth",
        label,
        lines,
        lambda value: f"{value:,.0f}",
        lowest=0.0,
        along="layer, in the order of computation",
    )
    return figure(f"<b>{title}</b> {legend(keys)}", chart, "growth")
