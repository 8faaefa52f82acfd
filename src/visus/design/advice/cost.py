"""Advice on wasted parameters and lost information: channels, the first linear layer, norms, pools and softmax."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from collections.abc import Sequence as Many
from typing import Any

from visus.design.account import Row
from visus.design.advice.pieces import Advice
from visus.design.edits import changed, with_layer, without
from visus.design.facts import AdviceFound, Candidate, Facts, costs
from visus.design.flow import INPUT
from visus.design.graph import Node
from visus.design.items import Item
from visus.design.layers.registry import Conv, Flatten, GroupNorm, Pool, globalpool
from visus.design.layers.registry import layernorm as layer_norm
from visus.design.layers.registry import relu as relu_layer
from visus.units import write_count, write_number_of, write_shape, write_share

_MANY_PARAMETERS = 1_000_000  # of the first layer of a perceptron
_MAX_SHRUNK = 16  # a map shrinks at most so many times between two widths that count as one step


def falling_channels(facts: Facts) -> Iterator[AdviceFound]:
    """Fewer channels on a smaller map; the widest convolution or concat at each map size counts."""
    levels: list[tuple[tuple[int, ...], int, Row]] = []  # size of map, widest channels, the first row that is so wide
    for row, flow in zip(facts.rows, facts.flows, strict=True):
        if not facts.is_map(row.output_shape) or not (row.macs or flow.kind == "stack"):
            continue
        here, width = row.output_shape[1:], row.output_shape[0]
        known = next((index for index, level in enumerate(levels) if level[0] == here), None)
        if known is None:
            levels.append((here, width, row))
        elif width > levels[known][1]:
            levels[known] = (here, width, row)
    for (size, channels, _), (smaller, fewer, row) in itertools.pairwise(levels):
        before, after = channels * math.prod(size), fewer * math.prod(smaller)
        kept = channels * math.prod(smaller)
        if math.prod(smaller) < math.prod(size) and fewer < channels:
            sentence = (
                f"the channels fall from {channels} to {fewer} while the map shrinks from {write_shape(size)} to {write_shape(smaller)}: "
                f"of {channels} x {math.prod(size):,} = {before:,} values per sample, "
            )
            if kept * _MAX_SHRUNK < before:  # most of it is not this layer's doing
                sentence += (
                    f"the smaller map alone leaves {channels} x {math.prod(smaller):,} = {kept:,}, and fewer channels leave "
                    f"{fewer} x {math.prod(smaller):,} = {after:,} ({write_share(after / kept)} of those)."
                )
            else:
                sentence += f"{fewer} x {math.prod(smaller):,} = {after:,} remain ({write_share(after / before)})."
            advice = Advice("channels", row.path, sentence, paths=(row.path,))
            yield AdviceFound(advice, lambda size=smaller, width=channels: _as_wide(facts, size, width))  # type: ignore[misc]
            return


def large_linear(facts: Facts) -> Iterator[AdviceFound]:
    """The first linear layer after a map holds more than half of all parameters."""
    place = next((place for place, row in enumerate(facts.rows) if _is_linear(row)), None)
    if place is None or 2 * facts.rows[place].num_parameters <= facts.account.num_parameters:
        return
    row, source = facts.rows[place], _map_before(facts, place)
    features = row.macs // row.output_shape[0]
    convolved = any(each.macs for each in facts.rows[:place] if len(each.output_shape) > 1)
    channels, *size = facts.shape_at(source)
    if not convolved and size and facts.shape_at(source) == facts.input_shape and channels * math.prod(size) == features:
        yield from _large_on_image(facts, row)
        return
    if source == INPUT or not convolved or channels * math.prod(size) != features or channels == features:
        return
    bias = row.num_parameters - row.macs
    less = row.output_shape[0] * channels + bias
    sentence = (
        f"this layer holds {write_share(row.num_parameters / facts.account.num_parameters)} of all parameters: "
        f"{channels} x {write_shape(size)} x {row.output_shape[0]} = {row.macs:,} weights. "
        f"With global pooling before it, it has {write_count(less)} parameters instead of {write_count(row.num_parameters)}."
    )
    yield AdviceFound(Advice("linear", row.path, sentence, paths=(row.path,)), lambda: _pooled(facts))


def _large_on_image(facts: Facts, row: Row) -> Iterator[AdviceFound]:
    """The first layer of a perceptron on large images; on small ones, its size is what was meant."""
    if row.num_parameters < _MANY_PARAMETERS:
        return
    values = " x ".join(map(str, facts.input_shape))
    sentence = (
        f"this layer holds {write_share(row.num_parameters / facts.account.num_parameters)} of all parameters: "
        f"{values} x {row.output_shape[0]} = {row.macs:,} weights, one for each value of the image and each output. "
        "A convolution uses the same weights at every position."
    )
    yield AdviceFound(Advice("linear", row.path, sentence, paths=(row.path,)), lambda: _convolved(facts))


def softmax_last(facts: Facts) -> Iterator[AdviceFound]:
    """The network ends with a softmax, which the loss applies itself."""
    ends = [end for end in facts.account.ends if end != INPUT and facts.flows[end].kind == "softmax"]
    if len(facts.account.ends) != 1 or not ends:
        return
    row = facts.rows[ends[0]]
    answers = row.output_shape[0] if row.output_shape else 1
    sentence = (
        "the network ends with a softmax, and the cross-entropy loss applies softmax itself: the second softmax maps "
        f"the probabilities of {answers} classes to at most e/(e + {answers - 1}) = {write_share(math.e / (math.e + answers - 1))}, "
        "and the gradient becomes small where a prediction is confident."
    )
    if answers == 1:
        sentence = "the network ends with a softmax over 1 output, which is 1 for every image."
    yield AdviceFound(Advice("softmax", row.path, sentence, paths=(row.path,)), lambda: _unshared(facts, row))


def activation_last(facts: Facts) -> Iterator[AdviceFound]:
    """The network ends with an activation as a layer, and the loss needs logits; functions are for ``module_advice``."""
    if len(facts.account.ends) != 1 or facts.account.ends[0] == INPUT:
        return
    place = facts.account.ends[0]
    row, before = facts.rows[place], facts.source(place)
    if len(row.output_shape) != 1 or before == INPUT or not _is_linear(facts.rows[before]):
        return
    if sentence := limited_output(row.layer.partition("(")[0].lower(), row.output_shape[0]):
        yield AdviceFound(Advice("output", row.path, sentence, paths=(row.path,)), lambda: _unshared(facts, row))


def limited_output(activation: str, num_outputs: int) -> str:
    """Why an activation after the last layer hinders learning; empty for one that does not limit its values, or for 1 output.

    >>> limited_output("sigmoid", 10).partition(":")[2]
    ' values from 0 to 1 give a class at most e/(e + 9) = 23.2 %.'
    >>> limited_output("gelu", 10)
    ''
    """
    if num_outputs < 2:
        return ""
    start = f"the network ends with a {activation}, and the cross-entropy loss "
    if activation in ("relu", "relu6"):
        return f"{start}needs values of both signs: one below 0 becomes 0 and gets no gradient, so its class may never be learned."
    if activation in ("sigmoid", "hardsigmoid", "tanh"):
        low, power = (-1, 2) if activation == "tanh" else (0, 1)
        most = math.exp(power) / (math.exp(power) + num_outputs - 1)
        e = "e^2" if power == 2 else "e"
        return f"{start}applies softmax itself: values from {low} to 1 give a class at most {e}/({e} + {num_outputs - 1}) = {write_share(most)}."
    return ""


def pooled_points(facts: Facts) -> Iterator[AdviceFound]:
    """All pools over a map with a single position, as one piece of advice."""
    found = []
    for place, flow in enumerate(facts.flows):
        shape = facts.shape_at(facts.source(place))
        if flow.kind in ("pool", "global pool") and len(shape) > 1 and math.prod(shape[1:]) == 1:
            found.append((facts.rows[place].path, shape[1:]))
    if found:
        others = (
            f"; {write_number_of(len(found) - 1, 'later pool')} {'do' if len(found) > 2 else 'does'} too"
            if len(found) > 1
            else ""
        )
        sentence = f"this layer pools a map of {write_shape(found[0][1])}: the maximum and the mean of 1 value are that value{others}."
        paths = tuple(path for path, _ in found)
        yield AdviceFound(Advice("pool", paths[0], sentence, paths=paths), lambda: _unpooled(facts, paths))


def lone_values(facts: Facts) -> Iterator[AdviceFound]:
    """A norm over a single value, whose output does not depend on that value."""
    for row, flow in zip(facts.rows, facts.flows, strict=True):
        normed = flow.normed
        if normed is None or normed.num_values != 1 or normed.by == "batch":
            continue
        sentence = (
            f"{normed.channels} channels / {normed.num_groups} groups x 1 position = 1 value in each group. "
            if normed.by == "group"
            else "this layer normalizes each value alone. "
        ) + "A single value minus its own mean is 0, so the output is the learned bias for every image."
        yield AdviceFound(
            Advice("norm", row.path, sentence, paths=(row.path,)),
            lambda path=row.path: _wider_norms(facts, path),  # type: ignore[misc]
            1,
        )
    yield from _lone_batches(facts)


def _lone_batches(facts: Facts) -> Iterator[AdviceFound]:
    """Batch norms over one position in batches of one sample: one piece of advice for all of them."""
    found = [
        row.path
        for row, flow in zip(facts.rows, facts.flows, strict=True)
        if flow.normed is not None and flow.normed.by == "batch" and flow.normed.num_values == 1
    ]
    if found and facts.batch_size == 1:
        others = f", here and in {write_number_of(len(found) - 1, 'later norm')}" if len(found) > 1 else ""
        sentence = f"in a batch of 1 sample, each channel is normalized over 1 sample x 1 position = 1 value{others}. A single value minus its own mean is 0, and PyTorch raises an error."
        yield AdviceFound(Advice("norm", found[0], sentence, paths=tuple(found)), lambda: _layer_norm(facts, found))


# ---- remedies ----


def _tried(facts: Facts, text: str, design: Any, *, with_costs: bool = True) -> Iterator[Candidate]:
    """A change of a design that gives outputs of the same shape, with its costs."""
    tried = facts.tried(design)
    if tried is not None and tried.account.output == facts.account.output:
        yield Candidate(f"{text}: {costs(tried.account)}" if with_costs else text, design, tried)


def _as_wide(facts: Facts, size: tuple[int, ...], channels: int) -> Iterator[Candidate]:
    """The design with at least so many channels from this size of map on."""
    reached = False

    def widened(node: Node) -> list[Item] | None:
        nonlocal reached
        reached = reached or node.output_shape[1:] == size
        layer: Any = node.layer
        if not reached or not isinstance(layer, Conv) or layer.groups > 1 or layer.out_channels >= channels:  # type: ignore[operator]
            return None
        return [Conv(channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, bias=layer.bias)]

    yield from _tried(facts, f"use {channels} channels from there on", changed(facts.nodes, widened, named=True))


def _pooled(facts: Facts) -> Iterator[Candidate]:
    flatten = next((node for node in facts.leaves if isinstance(node.layer, Flatten)), None)
    design = with_layer(facts.nodes, flatten.path, globalpool(), named=True) if flatten else None
    tried = facts.tried(design)
    if flatten is not None and tried is not None:
        before = write_count(facts.account.num_parameters)
        yield Candidate(f"replace {flatten.path} with globalpool: {before} to {costs(tried.account)}", design, tried)


def _convolved(facts: Facts) -> Iterator[Candidate]:
    """Two convolutions and global pooling instead of the flattening; on axes of any number."""
    flatten = next((node for node in facts.leaves if isinstance(node.layer, Flatten)), None)
    if flatten is None:
        return
    text = "conv(32, 3, stride=2), relu, conv(64, 3, stride=2), relu, globalpool"
    layers = [Conv(32, 3, 2), relu_layer(), Conv(64, 3, 2), relu_layer(), globalpool()]
    design = changed(facts.nodes, lambda node: layers if node.path == flatten.path else None, named=True)
    tried = facts.tried(design)
    if tried is not None:
        before = write_count(facts.account.num_parameters)
        yield Candidate(f"replace {flatten.path} with {text}: {before} to {costs(tried.account)}", design, tried)


def _unshared(facts: Facts, row: Row) -> Iterator[Candidate]:
    text = f"remove {row.path}, which has no weights"
    if not facts.nodes:
        yield Candidate(text)
    else:
        yield from _tried(facts, text, without(facts.nodes, [row.path], named=True), with_costs=False)


def _unpooled(facts: Facts, paths: Many[str]) -> Iterator[Candidate]:
    """The design without these pools; a global one becomes a flatten."""

    def left_out(node: Node) -> list[Item] | None:
        if node.path not in paths:
            return None
        return [] if isinstance(node.layer, Pool) else [Flatten()]

    pools = [node for node in facts.leaves if node.path in paths]
    if not pools:
        return
    text = "remove it" if isinstance(pools[0].layer, Pool) else "replace it with flatten"
    if len(pools) > 1:
        text = "remove them" if isinstance(pools[-1].layer, Pool) else "remove them, and replace a global pool with flatten"
    yield from _tried(facts, text, changed(facts.nodes, left_out, named=True))


def _wider_norms(facts: Facts, path: str) -> Iterator[Candidate]:
    """Fewer groups if there are several channels; else no norm."""
    node = facts.node(path)
    if node is None:
        return
    channels = node.input_shape[0]
    groups = max((number for number in range(1, channels) if channels % number == 0), default=0)
    if groups and isinstance(node.layer, GroupNorm):
        text = f"use groupnorm({groups}), with {channels // groups} values in each group"
        yield from _tried(facts, text, with_layer(facts.nodes, path, GroupNorm(groups), named=True))
    yield from _tried(facts, "remove it", without(facts.nodes, [path], named=True))


def _layer_norm(facts: Facts, paths: Many[str]) -> Iterator[Candidate]:
    yield Candidate("use batches of 2 samples or more")
    nodes = [node for node in facts.leaves if node.path in paths]
    if not nodes or min(node.input_shape[0] for node in nodes) < 2:
        return
    channels = sorted({node.input_shape[0] for node in nodes})
    many = str(channels[0]) if len(channels) == 1 else f"{channels[0]} to {channels[-1]}"
    design = changed(facts.nodes, lambda node: [layer_norm()] if node.path in paths else None, named=True)
    yield from _tried(facts, f"use layernorm, over {many} channels of each sample", design)


def _map_before(facts: Facts, place: int) -> int:
    """The place of the map that features were made of: the nearest of what feeds a row, and what feeds that."""
    while place != INPUT and len(facts.shape_at(place)) < 2:
        place = next(iter(facts.flows[place].sources), INPUT)
    return place


def _is_linear(row: Row) -> bool:
    """Whether a row is a layer that gives features and has a weight for each pair of input and output."""
    return len(row.output_shape) == 1 and row.macs > 0 and row.num_parameters - row.macs in (0, row.output_shape[0])
