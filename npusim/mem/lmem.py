"""Tensors in local memory ("tl"), bound to one machine: views to load from and to store to."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npusim.mem.tensor import LocalTensor, Shape
from npusim.state import State


def align_up(value: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `value`."""
    return -(-value // unit) * unit


def default_strides(shape: Shape, itemsize: int, num_lanes: int, eu_num: int = 16, *, eu_align: bool) -> Shape:
    """Byte strides (n, c, h, w) that the hardware uses if a descriptor gives none.

    With `eu_align` every channel starts at a multiple of `eu_num` bytes (cvikernel's eu_align = 1, "stride type 0");
    without, channels are packed ("stride type 2"). Source: tl_default_stride in wwwuxy/cvikernel
    src/cv181x/cvkcv181x.c."""
    _, c, h, w = shape
    c_str = h * w * itemsize
    if eu_align:
        c_str = align_up(c_str, eu_num)
    return (c_str * -(-c // num_lanes), c_str, w * itemsize, itemsize)


def lmem_tensor(state: State, tensor: LocalTensor, what: str = "tensor") -> TensorLmem:
    """`tensor` bound to the memory of `state`. Tensors are kept, since programs use a few of them many times.

    Raises AddressError if any byte is outside its lane; `what` names the tensor there.
    """
    found = state.lmem_tensors.get(tensor)
    if found is None:
        tensor.require_fits(state.chip, what)
        found = TensorLmem(state, tensor)
        if len(state.lmem_tensors) >= _MAX_KEPT:
            state.lmem_tensors.clear()
        state.lmem_tensors[tensor] = found
    return found


_MAX_KEPT = 4096


class TensorLmem:
    """A LocalTensor bound to one machine's memory.

    `load` and `store` work on arrays of shape (n, c, h, w) and the tensor's dtype, with the bytes that LMEM holds at
    the time of the call."""

    __slots__ = (
        *("_chip", "_held", "_lane0", "_order", "_padded", "_view"),
        *("is_distinct", "memory", "parts", "shape", "span", "tensor"),
    )

    def __init__(self, state: State, tensor: LocalTensor) -> None:
        lanes, lane_bytes = state.chip.num_lanes, state.chip.lmem_bytes
        lane0, offset, end = tensor.reach(state.chip)
        (n, c, h, w), (n_str, c_str, h_str, w_str) = tensor.shape, tensor.stride
        turns = -(-(lane0 + c) // lanes)
        dtype = tensor.fmt.dtype
        self.tensor = tensor
        self.shape = tensor.shape
        self.span = (offset, end)
        self.is_distinct = tensor.is_distinct(state.chip)
        """Whether no two elements share a byte. False too if the strides do not show it plainly."""
        self._chip = state.chip
        self._lane0 = lane0
        self.memory = flat = state.lmem_flat
        self._view: NDArray | None = None
        self._padded: NDArray | None = None
        self._held: NDArray[np.uint8] | None = None
        self._order: NDArray[np.int64] | None = None
        """Addresses of every element's bytes, shape (elements, bytes of one); only for tensors with shared bytes, and
        computed at the first store."""
        self.parts: list[tuple[slice, NDArray]] = []
        """The whole tensor in up to three pieces: (channels, writable view of shape (n, c, h, w) or (n, turns, lanes,
        h, w))."""
        if turns == 1:
            self._view = np.ndarray(tensor.shape, dtype, flat, tensor.addr, (n_str, lane_bytes, h_str, w_str))
            self.parts.append((slice(None), self._view))
            return
        self._padded = np.ndarray(
            (n, turns, lanes, h, w), dtype, flat, offset, (n_str, c_str, lane_bytes, h_str, w_str)
        )
        # Up to three pieces, since lanes before lane0 and after the last channel hold other tensors.
        first = lanes - lane0 if lane0 else 0
        last = (lane0 + c) % lanes
        if first:
            self.parts.append((slice(0, first), self._padded[:, 0, lane0:]))
        whole = slice(1 if first else 0, turns - 1 if last else turns)
        count = (whole.stop - whole.start) * lanes
        if count > 0:
            self.parts.append((slice(first, first + count), self._padded[:, whole]))
        if last:
            self.parts.append((slice(c - last, c), self._padded[:, turns - 1, :last]))

    @property
    def view(self) -> NDArray | None:
        """The tensor as a writable view of LMEM of shape (n, c, h, w); None if its channels pass the last lane."""
        return self._view

    @property
    def cover(self) -> NDArray:
        """A view of LMEM that covers the tensor. If its channels pass the last lane, it covers other lanes before the
        first channel and after the last one too."""
        return self._padded if self._view is None else self._view  # type: ignore[return-value]

    def element_addrs(self) -> NDArray[np.int64]:
        """Linear LMEM address of every element, int64 of shape (n, c, h, w)."""
        return self.tensor.element_addrs(self._chip)

    def load(self) -> NDArray:
        """The values, shape (n, c, h, w). May be a view of LMEM: do not write to it, and copy it to keep it."""
        if self._view is not None:
            return self._view
        assert self._padded is not None
        n, c, h, w = self.shape
        turns, lanes = self._padded.shape[1:3]
        return self._padded.reshape(n, turns * lanes, h, w)[:, self._lane0 : self._lane0 + c]

    def load_as(self, dtype: DTypeLike) -> NDArray:
        """The values in a new array of `dtype`, where that is at least as wide."""
        if self._view is not None:
            return self._view.astype(dtype, order="C")
        assert self._padded is not None
        n, c, h, w = self.shape
        padded = self._padded.astype(dtype, order="C")
        return padded.reshape(n, -1, h, w)[:, self._lane0 : self._lane0 + c]

    def held(self) -> bytes:
        """All bytes that lie between the tensor's first and last one on each of its lanes; equal ones mean equal
        values."""
        if self._held is None:
            lanes = self.memory.reshape(self._chip.num_lanes, -1)
            first, last = (0, None) if self._view is None else (self._lane0, self._lane0 + self.shape[1])
            self._held = lanes[first:last, slice(*self.span)]
        return self._held.tobytes()

    def store(self, values: NDArray) -> None:
        """Writes `values`, which broadcast to (n, c, h, w). If elements share a byte, the last one in that order
        remains."""
        if not self.is_distinct:
            self._store_in_order(values)
            return
        if self._view is not None:
            self._view[...] = values
            return
        if values.shape != self.shape:
            values = np.broadcast_to(values, self.shape)
        for channels, part in self.parts:
            part[...] = values[:, channels].reshape(part.shape)

    def _store_in_order(self, values: NDArray) -> None:
        dtype = self.tensor.fmt.dtype
        if self._order is None:
            self._order = self.element_addrs().reshape(-1, 1) + np.arange(dtype.itemsize)
        elements = np.broadcast_to(values, self.shape).astype(dtype)
        self.memory[self._order] = elements.reshape(-1, 1).view(np.uint8)
