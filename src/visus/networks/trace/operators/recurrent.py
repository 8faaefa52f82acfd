"""Recurrent layers: one operator for all time steps of a layer, where torch dispatches the operators of every step.

Letters of shapes: T time steps, N samples, F features, H hidden features, L layers, D directions (2 if bidirectional).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor

from visus.networks.trace.annotation import Axes, axes_of
from visus.networks.trace.coordinates.dependence import Shape, Terms
from visus.networks.trace.coordinates.gaps import inexact
from visus.networks.trace.coordinates.mixing import reduced
from visus.networks.trace.coordinates.reshaping import broadcast, permuted
from visus.networks.trace.coordinates.steps import recurrent
from visus.networks.trace.coordinates.unions import stacked, united
from visus.networks.trace.operators.registry import Call, operator, register
from visus.networks.trace.operators.shapes import new_like

WHOLE: Final = {
    torch.gru: torch.ops.aten.gru.input,
    torch.lstm: torch.ops.aten.lstm.input,
    torch.rnn_tanh: torch.ops.aten.rnn_tanh.input,
    torch.rnn_relu: torch.ops.aten.rnn_relu.input,
}
"""The operators of recurrent layers by the functions of torch that call them."""


def recurrent_operator(func: Any, args: Sequence[Any]) -> Any:
    """The operator of a recurrent layer that a function of torch calls; None for other functions, and for packed sequences."""
    is_padded = len(args) == 9 and isinstance(args[3], bool)  # packed ones have the sizes of their batches before hx
    return WHOLE.get(func) if is_padded else None


def _recurrent_shape(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    x, hx, weights, is_bidirectional, is_batch_first = args[0], args[1], args[2], args[7], args[8]
    if x.dim() != 3 or x.shape[2] != weights[0].shape[1] or x.dtype != weights[0].dtype:
        return None  # torch says why
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    width = states[0].shape[-1] * (2 if is_bidirectional else 1)
    out = new_like((*x.shape[:2], width), x)
    if is_batch_first:  # torch computes with the time steps first
        out = new_like((x.shape[1], x.shape[0], width), x).transpose(0, 1)
    return (out, *(new_like(tuple(state.shape), x) for state in states))


def _recurrent_macs(args: Sequence[Any], out: Any) -> int:
    """Multiply-adds of a recurrent layer: every weight matrix once for every time step of every sample.

    These are the matrix products in the equations of ``torch.nn.GRU`` and ``torch.nn.LSTM`` (Cho et al. 2014, arXiv:1406.1078;
    Hochreiter and Schmidhuber 1997; the projection: Sak et al. 2014, arXiv:1402.1128): for a layer of width H on F features, a GRU
    has 3 H (F + H), an LSTM 4 H (F + H). Products element by element, as with a gate, do not count.
    """
    return int(math.prod(args[0].shape[:2]) * sum(values.numel() for values in args[2] if values.dim() == 2))


@operator("gru", "lstm", "rnn_tanh", "rnn_relu", kind="values", shape=_recurrent_shape, macs=_recurrent_macs)
def recurrent_layer(call: Call) -> list[Axes | None]:
    """``gru(x, hx, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)``.

    Each time step depends on itself and on all before it; in a bidirectional layer, the other half of the channels depends on itself and
    on all after it, and with several layers everything depends on everything. The last states depend on all time steps.
    """
    x, hx, num_layers, is_bidirectional, is_batch_first = (call.args[place] for place in (0, 1, 4, 7, 8))
    states = [hx] if isinstance(hx, Tensor) else list(hx)
    order = (1, 0, 2) if is_batch_first else (0, 1, 2)
    num_steps, num_samples, num_features = (x.shape[dim] for dim in order)
    after = (num_steps, num_samples, call.out_shape[2])
    outputs: list[Terms] = []
    last: list[list[Terms]] = [[] for _ in states]
    for axis in range(max(len(axes_of(value) or ()) for value in (x, *states))):
        found: list[Any] = []
        ends: list[Any] = []
        if (axes := axes_of(x)) is not None:
            seen = reduced(permuted(axes[axis], order), (num_steps, num_samples, num_features), (2,), True, keep_own=False)
            shape = (num_steps, num_samples, 1)
            whole = reduced(seen, shape, (0,), True, keep_own=False)
            found += _outputs_of(seen, whole, after, num_layers, is_bidirectional)
            ends += whole
        for state in states:
            if (axes := axes_of(state)) is not None:
                of_state = _of_state(axes[axis], tuple(state.shape))
                ends += of_state
                is_mixed = num_layers == 1 and is_bidirectional  # the halves of the output read a state each
                found += broadcast(inexact(of_state) if is_mixed else of_state, (1, num_samples, 1), after)
        outputs.append(permuted(united(found, after), order))
        for place, state in enumerate(states):
            last[place].append(united(broadcast(tuple(ends), (1, num_samples, 1), tuple(state.shape)), tuple(state.shape)))
    return [tuple(outputs), *(tuple(terms) for terms in last)]


def _outputs_of(seen: Terms, whole: Terms, after: Shape, num_layers: int, is_bidirectional: bool) -> Terms:
    """What the outputs, T N (D H), depend on: from ``seen``, T N 1, and its union over all time steps, 1 N 1."""
    shape = (*after[:2], 1)
    if not is_bidirectional:
        return recurrent(seen, shape, 0)
    if num_layers > 1:
        return broadcast(whole, (1, after[1], 1), after)
    half = (*after[:2], after[2] // 2)
    sides = [(recurrent(seen, shape, 0, is_reverse=is_reverse), half) for is_reverse in (False, True)]
    return stacked(sides, 2)[0]


def _of_state(terms: Terms, shape: Shape) -> Terms:
    """What depends on the first states, (L D) N H: 1 N 1. Each layer reads its own and those of the layers before."""
    whole = reduced(terms, shape, (0, 2), True, keep_own=False)
    return whole if shape[0] == 1 else inexact(whole)


def _mkldnn_macs(args: Sequence[Any], out: Any) -> int:
    x, of_input, of_state = (value.shape for value in args[:3])
    return int(math.prod(x[:-1]) * (math.prod(of_input) + math.prod(of_state)))


register("mkldnn_rnn_layer", kind="values", macs=_mkldnn_macs)
register("_cudnn_rnn", "miopen_rnn", "_lstm_mps", "quantized_lstm", "quantized_gru", kind="values", is_counted=False)
