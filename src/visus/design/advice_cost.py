"""Advice on what is spent or lost for nothing: channels, the first linear layer, norms, pools and softmax.

This file knows what follows from shapes, parameters and the kind of a layer. It must not know positions or how advice is printed.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import Any, Final

from visus.design.account import Row
from visus.design.advised import Advice, Facts, costs
from visus.design.changes import changed, with_layer, without
from visus.design.graph import Node
from visus.design.layers import Conv, Flatten, GlobalPool, GroupNorm, Layer, LayerNorm, Norm, Pool, globalpool
from visus.design.layers import layernorm as layer_norm
from visus.units import write_count, write_number_of, write_shape, write_share

_STACKS: Final = ("stack", "cat")  # rows that put channels together, of a design and of a traced module


def falling_channels(facts: Facts) -> Iterator[Advice]:
    """Fewer channels on a smaller map, counted by the widest convolution or stack of branches at each size of map."""
    levels: list[tuple[tuple[int, ...], int, Row]] = []  # size of map, widest channels, the first row that is so wide
    for row in facts.account.rows:
        is_map = len(row.output_shape) == len(facts.account.input_shape) > 1
        if not is_map or not (row.macs or row.layer in _STACKS):
            continue
        here, width = row.output_shape[1:], row.output_shape[0]
        known = next((index for index, level in enumerate(levels) if level[0] == here), None)
        if known is None:
            levels.append((here, width, row))
        elif width > levels[known][1]:
            levels[known] = (here, width, row)
    for (size, channels, _), (smaller, fewer, row) in itertools.pairwise(levels):
        before, after = channels * math.prod(size), fewer * math.prod(smaller)
        if math.prod(smaller) < math.prod(size) and fewer < channels:
            sentence = (
                f"the channels fall from {channels} to {fewer} while the map shrinks from {write_shape(size)} to {write_shape(smaller)}: "
                f"{channels} x {math.prod(size):,} = {before:,} numbers for each item become {fewer} x {math.prod(smaller):,} = {after:,}, "
                f"{write_share(after / before)} of them."
            )
            yield Advice("channels", row.path, sentence, tuple(_as_wide(facts, smaller, channels)), (row.path,))
            return


def large_linear(facts: Facts) -> Iterator[Advice]:
    """The first linear layer after a map holds more than half of all parameters."""
    rows = facts.account.rows
    index = next((index for index, row in enumerate(rows) if _is_linear(row)), None)
    if index is None or 2 * rows[index].num_parameters <= facts.account.num_parameters:
        return
    row = rows[index]
    features = row.macs // row.output_shape[0]
    maps = [each for each in rows[:index] if len(each.output_shape) > 1]
    if (
        not any(each.macs for each in maps)
        or math.prod(maps[-1].output_shape) != features
        or maps[-1].output_shape[0] == features
    ):
        return
    channels, *size = maps[-1].output_shape
    bias = row.num_parameters - row.macs
    less = row.output_shape[0] * channels + bias
    sentence = (
        f"this layer holds {write_share(row.num_parameters / facts.account.num_parameters)} of all parameters: "
        f"{channels} x {write_shape(size)} x {row.output_shape[0]} = {row.macs:,} weights. "
        f"Global pooling before it: {write_count(row.num_parameters)} to {write_count(less)}."
    )
    yield Advice("linear", row.path, sentence, tuple(_pooled(facts)), (row.path,))


def softmax_last(facts: Facts) -> Iterator[Advice]:
    """The network ends with a softmax, which the loss applies itself."""
    rows = facts.account.rows
    if not rows or not re.match(r"softmax", rows[-1].layer, re.IGNORECASE):
        return
    sentence = (
        "the network ends with a softmax, and the cross-entropy applies one itself: a second one squeezes "
        f"{rows[-1].output_shape[0]} answers that lie between 0 and 1 to shares of at most "
        f"e/(e + {rows[-1].output_shape[0] - 1}) = {write_share(_largest_share(rows[-1].output_shape[0]))}, "
        "and the gradient becomes small where an answer is sure."
    )
    yield Advice(
        "softmax", rows[-1].path, sentence, (f"leaving out {rows[-1].path}: no parameter is lost",), (rows[-1].path,)
    )


def pooled_points(facts: Facts) -> Iterator[Advice]:
    """A pooling over a map with one position."""
    for node in facts.leaves:
        size = node.input_shape[1:]
        if isinstance(node.layer, (Pool, GlobalPool)) and size and math.prod(size) == 1:
            sentence = (
                f"the map that is pooled here is {write_shape(size)}: the largest and the mean of 1 number are that number."
            )
            yield Advice("pool", node.path, sentence, tuple(_unpooled(facts, node)), (node.path,))


def lone_values(facts: Facts) -> Iterator[Advice]:
    """A norm over a single value, which leaves nothing of it."""
    for node in facts.leaves:
        layer, channels, positions = node.layer, node.input_shape[0], math.prod(node.input_shape[1:])
        if isinstance(layer, GroupNorm) and channels // layer.num_groups * positions == 1:
            sentence = (
                f"{channels} channels / {layer.num_groups} groups x {positions} position = 1 value in each group, and a value less "
                "its own mean is 0: what comes out is the trained shift, whatever the picture."
            )
            yield Advice("norm", node.path, sentence, tuple(_wider_norms(facts, node)), (node.path,))
        elif isinstance(layer, LayerNorm) and channels == 1:
            sentence = (
                "1 channel is normalised over its 1 value at each position, and a value less its own mean is 0: what comes out is the "
                "trained shift, whatever the picture."
            )
            yield Advice("norm", node.path, sentence, tuple(_left_out(facts, node)), (node.path,))
    yield from _lone_batches(facts)


def _lone_batches(facts: Facts) -> Iterator[Advice]:
    """Batch norms over maps with one position: one piece of advice for all of them."""
    found = [node for node in facts.leaves if isinstance(node.layer, Norm) and math.prod(node.input_shape[1:]) == 1]
    if found:
        others = f", here and in {write_number_of(len(found) - 1, 'later norm')}" if len(found) > 1 else ""
        sentence = (
            f"each channel is normalised over batch x {write_shape(found[0].input_shape[1:] or (1,))} values{others}: a training batch "
            "of 1 item, such as what is left over at the end of an epoch, gives it 1 value, of which 0 remains (torch refuses it)."
        )
        paths = tuple(node.path for node in found)
        yield Advice("norm", paths[0], sentence, tuple(_layer_norm(facts, found)), paths)


# ---- remedies ----


def _as_wide(facts: Facts, size: tuple[int, ...], channels: int) -> Iterator[str]:
    """The design with at least so many channels from this size of map on."""
    reached = False

    def widened(node: Node) -> list[Layer] | None:
        nonlocal reached
        reached = reached or node.output_shape[1:] == size
        layer: Any = node.layer
        if not reached or not isinstance(layer, Conv) or layer.groups > 1 or layer.out_channels >= channels:  # type: ignore[operator]
            return None
        return [Conv(channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=layer.bias)]

    account = facts.again(changed(facts.nodes, widened)) if facts.nodes else None
    if account is not None and account.output == facts.account.output:
        yield f"{channels} channels from there on ({costs(account)})"


def _pooled(facts: Facts) -> Iterator[str]:
    flatten = next((node for node in facts.leaves if isinstance(node.layer, Flatten)), None)
    account = facts.again(with_layer(facts.nodes, flatten.path, globalpool())) if flatten else None
    if flatten is not None and account is not None:
        yield f"globalpool in the place of {flatten.path} ({write_count(facts.account.num_parameters)} to {costs(account)})"


def _unpooled(facts: Facts, node: Node) -> Iterator[str]:
    design = (
        without(facts.nodes, [node.path]) if isinstance(node.layer, Pool) else with_layer(facts.nodes, node.path, Flatten())
    )
    account = facts.again(design)
    if account is not None and account.output == facts.account.output:
        yield (
            f"leaving it out ({costs(account)})"
            if isinstance(node.layer, Pool)
            else f"flatten in its place ({costs(account)})"
        )


def _wider_norms(facts: Facts, node: Node) -> Iterator[str]:
    channels = node.input_shape[0]
    groups = max((number for number in range(1, channels) if channels % number == 0), default=0)
    account = facts.again(with_layer(facts.nodes, node.path, GroupNorm(groups))) if groups else None
    if account is not None:
        yield f"groupnorm({groups}), {channels // groups} values in each group ({costs(account)})"


def _left_out(facts: Facts, node: Node) -> Iterator[str]:
    account = facts.again(without(facts.nodes, [node.path]))
    if account is not None:
        yield f"leaving it out ({costs(account)})"


def _layer_norm(facts: Facts, nodes: Many[Node]) -> Iterator[str]:
    paths = {node.path for node in nodes}
    if min(node.input_shape[0] for node in nodes) < 2:
        return
    account = facts.again(changed(facts.nodes, lambda node: [layer_norm()] if node.path in paths else None))
    if account is not None:
        channels = sorted({node.input_shape[0] for node in nodes})
        many = str(channels[0]) if len(channels) == 1 else f"{channels[0]} to {channels[-1]}"
        yield f"layernorm, over {many} channels of each item ({costs(account)})"


def _largest_share(num_classes: int) -> float:
    return math.e / (math.e + num_classes - 1)


def _is_linear(row: Row) -> bool:
    """Whether a row is a layer that gives features and has a weight for each pair of input and output."""
    return len(row.output_shape) == 1 and row.macs > 0 and row.num_parameters - row.macs in (0, row.output_shape[0])
