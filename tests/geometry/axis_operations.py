"""Random axis operations, and the positions that each of them reads, found tap by tap."""

from __future__ import annotations

from hypothesis import strategies as st

from visus.geometry import AxisOp, TransposedWindow, Upsampling, Window

windows = st.builds(
    Window,
    st.integers(1, 12),
    stride=st.integers(1, 4),
    padding=st.tuples(st.integers(0, 7), st.integers(0, 7)),
    dilation=st.integers(1, 3),
    reflect=st.booleans(),
)


def enlarging_operations(max_scale: int, max_kernel: int) -> st.SearchStrategy[AxisOp]:
    """Upsampling by up to ``max_scale``, and transposed windows with kernels of up to ``max_kernel``."""
    return st.one_of(
        st.builds(Upsampling, st.integers(1, max_scale), st.sampled_from(["nearest", "linear"])),
        st.integers(1, 3).flatmap(
            lambda stride: st.builds(
                TransposedWindow,
                st.integers(1, max_kernel),
                stride=st.just(stride),
                padding=st.integers(0, 2),
                output_padding=st.integers(0, stride - 1),
                dilation=st.integers(1, 3),
            )
        ),
    )


enlarging = enlarging_operations(3, 4)


def taps_of(axis_op: AxisOp, place: int, size: int) -> set[int]:
    """The positions inside a map that one position after an axis operation reads; a mirror shows pixels of the map."""
    taps = axis_op.taps(place) if isinstance(axis_op, Window) else axis_op.taps_inside(place, size)
    if isinstance(axis_op, Window) and axis_op.reflect:
        return {abs(tap) if tap < size else 2 * (size - 1) - tap for tap in taps}
    return {tap for tap in taps if 0 <= tap < size}
