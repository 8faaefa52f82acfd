"""Modules with recurrent layers, each small: directions, layouts, what is made of their outputs, and where their first states come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from .hard_modules import Made

SIGNAL, IMAGE = (3, 12), (3, 6, 5)


def steps_last(layer: nn.Module, *, then: Callable[[Any, Tensor], Tensor] = lambda m, y: y, **more: Any) -> nn.Module:
    """A strided convolution, a recurrent layer over its positions, and what is made of its output, channels first."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.conv(x)
        y = m.layer(x.mT)[0].mT if m.layer.batch_first else m.layer(x.permute(2, 0, 1))[0].permute(1, 2, 0)
        return then(m, y)

    return Made(forward, conv=nn.Conv1d(3, 4, 3, 2, padding=1), layer=layer, **more)


def _from_the_image(m: Any, x: Tensor) -> Tensor:
    """The first states come from the start of the signal."""
    first = m.start(x[:, :, 2:5].mean(-1))
    return m.layer(x[:, :, 6:].mT, first[None].repeat(m.layer.num_layers, 1, 1))[0].mT  # type: ignore[no-any-return]


def _rows_in_the_batch(m: Any, x: Tensor) -> Tensor:
    """Along every row of an image: the rows are samples of the layer."""
    n, c, h, w = x.shape
    y = m.layer(x.permute(0, 2, 3, 1).reshape(n * h, w, c))[0]
    return y.view(n, h, w, -1).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def _packed(m: Any, x: Tensor) -> Tensor:
    packed = pack_padded_sequence(x.mT, torch.full((len(x),), x.shape[2]), batch_first=True)
    return pad_packed_sequence(m.layer(packed)[0], batch_first=True)[0].mT


def _states(m: Any, x: Tensor) -> Tensor:
    """The last hidden and cell state, added to all steps."""
    y, (hidden, cell) = m.layer(x[:, :, 2:].mT)
    return y.mT + (hidden[-1] + cell[0])[..., None]  # type: ignore[no-any-return]


def _made(forward: Callable[..., Any], layer: nn.Module, **more: Any) -> nn.Module:
    return Made(forward, layer=layer, **more)


RECURRENT: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "GRU": (lambda: steps_last(nn.GRU(4, 5, batch_first=True)), SIGNAL),
    "LSTM": (lambda: steps_last(nn.LSTM(4, 5, batch_first=True)), SIGNAL),
    "tanh": (lambda: steps_last(nn.RNN(4, 5, batch_first=True)), SIGNAL),
    "ReLU": (lambda: steps_last(nn.RNN(4, 5, nonlinearity="relu", bias=False)), SIGNAL),
    "time steps first": (lambda: steps_last(nn.GRU(4, 5)), SIGNAL),
    "two layers": (lambda: steps_last(nn.GRU(4, 5, 2, dropout=0.5)), SIGNAL),
    "both directions": (lambda: steps_last(nn.GRU(4, 5, bidirectional=True, batch_first=True)), SIGNAL),
    "two layers, both directions": (lambda: steps_last(nn.LSTM(4, 5, 2, bidirectional=True)), SIGNAL),
    "projected": (lambda: steps_last(nn.LSTM(4, 6, proj_size=2, batch_first=True)), SIGNAL),
    "the half that reads forwards": (lambda: steps_last(nn.GRU(4, 5, bidirectional=True), then=lambda m, y: y[:, :5]), SIGNAL),
    "the half that reads backwards": (lambda: steps_last(nn.LSTM(4, 5, bidirectional=True, batch_first=True), then=lambda m, y: y[:, 5:]), SIGNAL),
    "a convolution after it": (lambda: steps_last(nn.GRU(4, 5), then=lambda m, y: m.last(y), last=nn.Conv1d(5, 2, 3)), SIGNAL),
    "a convolution after both directions": (lambda: steps_last(nn.GRU(4, 5, bidirectional=True), then=lambda m, y: m.last(y[:, :5]), last=nn.Conv1d(5, 2, 3, padding=1)), SIGNAL),
    "one after the other": (lambda: steps_last(nn.GRU(4, 5), then=lambda m, y: m.more(y.permute(2, 0, 1))[0].permute(1, 2, 0), more=nn.LSTM(5, 3)), SIGNAL),
    "the last step": (lambda: steps_last(nn.GRU(4, 5), then=lambda m, y: y[:, :, -1]), SIGNAL),
    "some of the steps": (lambda: steps_last(nn.GRU(4, 5), then=lambda m, y: y[:, :, 1:-1:2]), SIGNAL),
    "with what it reads": (lambda: _made(lambda m, x: torch.cat([x, m.layer(x.mT)[0].mT], 1), nn.GRU(3, 5, batch_first=True)), SIGNAL),
    "the last states": (lambda: _made(_states, nn.LSTM(3, 5, batch_first=True)), SIGNAL),
    "enlarged before it": (lambda: _made(lambda m, x: m.layer(F.interpolate(x, scale_factor=2, mode="linear").mT)[0].mT, nn.GRU(3, 5, batch_first=True)), (3, 7)),
    "first states from the signal": (lambda: _made(_from_the_image, nn.GRU(3, 5, batch_first=True), start=nn.Linear(3, 5)), SIGNAL),
    "rows are samples": (lambda: _made(_rows_in_the_batch, nn.GRU(3, 4, batch_first=True)), IMAGE),
    "columns are features": (lambda: _made(lambda m, x: m.layer(x.mean(1))[0], nn.GRU(5, 4, batch_first=True)), IMAGE),
    "without a batch": (lambda: _made(lambda m, x: torch.stack([m.layer(each.mT)[0].mT for each in x]), nn.GRU(3, 4)), SIGNAL),
    "one step": (lambda: _made(lambda m, x: m.layer(x[:, :, 4:5].mT)[0].mT, nn.GRU(3, 4, batch_first=True)), SIGNAL),
    "packed": (lambda: _made(_packed, nn.GRU(3, 4, batch_first=True)), SIGNAL),
}  # fmt: skip
"""Each module with the shape of its input."""
