"""Tensors in local memory ("tl"): channel j lies on lane (lane0 + j) % lanes, one channel stride further for each turn
of the lanes."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npusim.errors import AddressError
from npusim.state import State

Shape = tuple[int, int, int, int]


def align_up(value: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `value`."""
    return -(-value // unit) * unit


def default_strides(shape: Shape, itemsize: int, num_lanes: int, eu_num: int = 16, *, eu_align: bool) -> Shape:
    """Byte strides (n, c, h, w) that the hardware assumes where a descriptor gives none.

    With `eu_align` every channel starts at a multiple of `eu_num` bytes (cvikernel's eu_align = 1, "stride type 0");
    without, channels are packed ("stride type 2"). Source: tl_default_stride in wwwuxy/cvikernel
    src/cv181x/cvkcv181x.c."""
    _, c, h, w = shape
    c_str = h * w * itemsize
    if eu_align:
        c_str = align_up(c_str, eu_num)
    return (c_str * -(-c // num_lanes), c_str, w * itemsize, itemsize)


def lmem_tensor(
    state: State, addr: int, shape: Shape, strides: Shape, dtype: DTypeLike, what: str = "tensor"
) -> TensorLmem:
    """The tensor at linear address `addr`, as TensorLmem makes it, or the one that `state` has: programs name few
    tensors, many times."""
    key = (addr, shape, strides, dtype)
    found = state.lmem_tensors.get(key)
    if found is None:
        found = TensorLmem(state, addr, shape, strides, dtype, what)
        if len(state.lmem_tensors) >= _MAX_KEPT:
            state.lmem_tensors.clear()
        state.lmem_tensors[key] = found
    return found


_MAX_KEPT = 4096


class TensorLmem:
    """A strided (n, c, h, w) tensor in LMEM, bound to one machine's memory.

    `load` and `store` work on arrays of shape (n, c, h, w) and of the bound dtype; both see the bytes as they are at
    the time of the call."""

    __slots__ = ("_chip", "_lane0", "_padded", "_strides", "_view", "memory", "parts", "shape", "span")

    def __init__(
        self, state: State, addr: int, shape: Shape, strides: Shape, dtype: DTypeLike, what: str = "tensor"
    ) -> None:
        """`addr` is linear (lane * bytes a lane + offset), `strides` are in bytes. Raises AddressError where any byte
        leaves its lane."""
        lanes, lane_bytes = state.chip.num_lanes, state.chip.lmem_bytes
        lane0, offset = divmod(addr, lane_bytes)
        n, c, h, w = shape
        n_str, c_str, h_str, w_str = strides
        turns = -(-(lane0 + c) // lanes)
        end = (
            offset
            + (n - 1) * n_str
            + (turns - 1) * c_str
            + (h - 1) * h_str
            + (w - 1) * w_str
            + np.dtype(dtype).itemsize
        )
        if min(shape) < 1:
            raise AddressError(f"{what}: shape {shape} has an extent below 1")
        if lane0 >= lanes or end > lane_bytes:
            raise AddressError(
                f"{what}: lane {lane0} offset {offset:#x} with shape {shape} and strides {strides} ends at {end:#x}, "
                f"but LMEM has {lanes} lanes of {lane_bytes:#x} bytes"
            )
        self.shape = shape
        self.span = (offset, end)
        """Offsets within a lane between which every byte lies, whatever the lane."""
        self._chip = state.chip
        self._lane0 = lane0
        self._strides = strides
        self.memory = flat = state.lmem_flat
        self._view: NDArray | None = None
        self._padded: NDArray | None = None
        self.parts: list[tuple[slice, NDArray]] = []
        """(channels, writable view of them): the whole tensor in up to three pieces, each (n, c, h, w) or (n, turns,
        lanes, h, w)."""
        if turns == 1:
            self._view = np.ndarray(shape, dtype, flat, addr, (n_str, lane_bytes, h_str, w_str))
            self.parts.append((slice(None), self._view))
            return
        self._padded = np.ndarray(
            (n, turns, lanes, h, w), dtype, flat, offset, (n_str, c_str, lane_bytes, h_str, w_str)
        )
        # Written in up to three runs, since the lanes before lane0 and behind the last channel hold other tensors.
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
        """The tensor as a writable (n, c, h, w) view of LMEM, where no channel wraps round the lanes; else None."""
        return self._view

    @property
    def footprint(self) -> NDArray:
        """A view of LMEM that covers the tensor, and with wrapped channels the lanes in front of the first and behind
        the last one too."""
        return self._padded if self._view is None else self._view  # type: ignore[return-value]

    def element_addrs(self) -> NDArray[np.int64]:
        """Linear LMEM address of every element, shape (n, c, h, w)."""
        c_str, lane_bytes = self._strides[1], self._chip.lmem_bytes
        turn, lane = np.divmod(self._lane0 + np.arange(self.shape[1]), self._chip.num_lanes)
        n, _, h, w = (np.arange(extent) * stride for extent, stride in zip(self.shape, self._strides, strict=True))
        channel = self.span[0] + lane * lane_bytes + turn * c_str
        return channel[:, None, None] + n[:, None, None, None] + h[:, None] + w

    def load(self) -> NDArray:
        """The values, shape (n, c, h, w). May be a view of LMEM: do not write to it, and copy it to keep it."""
        if self._view is not None:
            return self._view
        assert self._padded is not None
        n, c, h, w = self.shape
        turns, lanes = self._padded.shape[1:3]
        return self._padded.reshape(n, turns * lanes, h, w)[:, self._lane0 : self._lane0 + c]

    def store(self, values: NDArray) -> None:
        """Writes `values`, which broadcast to (n, c, h, w)."""
        if self._view is not None:
            self._view[...] = values
            return
        values = np.broadcast_to(values, self.shape)
        for channels, part in self.parts:
            part[...] = values[:, channels].reshape(part.shape)
