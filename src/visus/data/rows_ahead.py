"""Stored samples of the next step, read and copied to a CUDA device while it computes the current one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch


class RowsAhead:
    """Rows of a store on a device. On CUDA they pass through pinned memory, and those of the next step are copied on a stream of their own.

    Args:
        read: returns the stored values of the samples at some places.
        device: where they are needed.
        is_ahead: whether to read ahead; default: on CUDA.

    >>> rows = RowsAhead(torch.arange(6).__getitem__, torch.device("cpu"), is_ahead=True)
    >>> rows.start(np.array([3, 1]))
    >>> rows.get(np.array([3, 1])), rows.get(np.array([0]))
    (tensor([3, 1]), tensor([0]))
    """

    def __init__(
        self,
        read: Callable[[npt.NDArray[np.int64]], torch.Tensor],
        device: torch.device,
        *,
        is_ahead: bool | None = None,
    ) -> None:
        self._read, self._device = read, device
        self._is_cuda = device.type == "cuda"
        self._is_ahead = self._is_cuda if is_ahead is None else is_ahead
        self._stream = torch.cuda.Stream(device) if self._is_cuda else None  # type: ignore[no-untyped-call]
        self._next: tuple[npt.NDArray[np.int64], torch.Tensor] | None = None

    def start(self, places: npt.NDArray[np.int64]) -> None:
        """Begin to copy the rows that the next ``get`` will probably want."""
        if self._is_ahead:
            with torch.cuda.stream(self._stream):  # without effect for None
                self._next = places.copy(), self._copied(places)

    def get(self, places: npt.NDArray[np.int64]) -> torch.Tensor:
        """The rows at ``places`` on the device; those that ``start`` copied, if they are the same."""
        begun, self._next = self._next, None
        if begun is None or not np.array_equal(begun[0], places):
            return self._copied(places)
        rows = begun[1]
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            rows.record_stream(current)  # so that their memory is not used again before the step has read them
        return rows

    def _copied(self, places: npt.NDArray[np.int64]) -> torch.Tensor:
        rows = self._read(places)
        if self._is_cuda:
            return rows.pin_memory().to(self._device, non_blocking=True)
        return rows.to(self._device)
