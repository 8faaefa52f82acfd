"""Two independent answers agree: the account of a design, and the trace of the module that is built from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from visus.design import Account, Design, account, alexnet, convnext, densenet, inception, mobilenet, parse, resnet, vgg
from visus.networks import build
from visus.networks.trace import trace

from ..test_build import placed, stemless


def assert_same(design: Design, shape: tuple[int, ...], num_classes: int = 5) -> None:
    """Every row of the design's account has its equal in the trace; what the trace has more costs nothing."""
    expected = account(design, shape, num_classes)
    found = trace(build(design, shape, num_classes), shape)
    rows = {row.path: row for row in found.rows}
    known = set()
    for row in expected.rows:
        path = {"sum": f"{row.path}.add", "stack": f"{row.path}.cat"}.get(row.layer, row.path)
        known.add(path)
        assert figures(rows[path]) == figures(row), path
        for mine, theirs in zip(rows[path].fields, row.fields, strict=True):
            if len(mine.intervals) == len(theirs.intervals):
                assert mine.intervals.pairs() == theirs.intervals.pairs(), path
            else:
                assert mine.intervals.pairs() == theirs.intervals.collapsed().pairs(), path
    extra = [row for row in found.rows if row.path not in known]
    assert all(row.num_parameters == row.macs == 0 for row in extra)
    assert (found.output, found.num_parameters, found.macs) == (expected.output, expected.num_parameters, expected.macs)
    assert found.bytes_weights == expected.bytes_weights


def figures(row: Any) -> tuple[Any, ...]:
    """What two rows must have in common, the text of the layer and the boxes apart."""
    return (
        *(row.output_shape, row.num_parameters, row.macs, row.fields, row.aligned, row.notes),
        *(row.bytes_weights, row.bytes_output, row.unread_px),
    )


@pytest.mark.slow
@settings(max_examples=150)
@given(placed(stemless))
def test_trace_of_a_built_design_is_its_account(case: tuple[Design, tuple[int, ...]]) -> None:
    assert_same(*case)


FAMILIES = {
    "alexnet": (alexnet(), 127),
    "vgg": (vgg(11), 64),
    "resnet18": (resnet(18), 97),
    "resnet50": (resnet(50), 64),
    "inception": (inception(), 139),
    "densenet": (densenet(121), 64),
    "mobilenet": (mobilenet(2), 64),
    "convnext": (convnext("tiny"), 64),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_trace_of_a_family_is_its_account(name: str) -> None:
    design, size = FAMILIES[name]
    assert_same(design, (3, size, size + 3))


def field(costs: Account, path: str) -> tuple[int, Any, Any]:
    """Size, step and start of a row's field on its first axis."""
    (row,) = [row for row in costs.rows if row.path == path]
    return row.fields[0].size, row.fields[0].stride, row.fields[0].start


@pytest.mark.parametrize(("depth", "size"), [(18, 435), (34, 899), (50, 427), (101, 971), (152, 1451)])
def test_fields_of_resnets_are_the_published_ones(depth: int, size: int) -> None:
    costs = trace(build(resnet(depth), (3, 224, 224), 10), (3, 224, 224))
    last = [row for row in costs.rows if len(row.output_shape) == 3][-1]
    assert (last.fields[0].size, last.fields[0].stride) == (size, 32)


@pytest.mark.long
def test_fields_of_alexnet_and_vgg16_are_the_published_ones() -> None:  # Araujo et al. 2019, doi:10.23915/distill.00021
    one = trace(build(alexnet(), (3, 224, 224), 10), (3, 224, 224))
    two = trace(build(vgg(16), (3, 224, 224), 10), (3, 224, 224))
    assert field(one, "pool3")[:2] == (195, 32)
    assert field(two, "stage5.pool1") == (212, 32, -90)


def test_field_of_mobilenet_v1_is_the_published_one() -> None:  # the article's row for 321 px, where padding is symmetric
    blocks = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    text = ", ".join(f"depthwise(3, stride={step}, padding=1), conv({width}, 1)" for width, step in blocks)
    costs = trace(build(parse(f"conv(32, 3, stride=2, padding=1), {text}"), (3, 321, 321)), (3, 321, 321))
    last = costs.rows[-1].fields[0]
    assert (last.size, last.stride, last.start) == (315, 32, -157)


def test_field_of_inception_v3_is_the_published_one() -> None:
    costs = trace(build(inception(), (3, 299, 299), 10), (3, 299, 299))
    last = [row for row in costs.rows if len(row.output_shape) == 3][-1].fields[0]
    assert (last.size, last.stride, last.start) == (1311, 32, -618)
