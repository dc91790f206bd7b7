"""Tensors in global memory ("tg"): plain strided bytes behind a base register."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npusim.errors import AddressError
from npusim.state import State


def physical_addr(state: State, base_reg: int, addr: int, what: str = "tensor") -> int:
    """Offset into GMEM of `addr` (40 bits, as a descriptor holds it) behind base register `base_reg`."""
    offset = addr + state.array_base[base_reg] - state.chip.gmem_base
    if not 0 <= offset < len(state.gmem):
        raise AddressError(
            f"{what}: address {addr:#x} plus base register {base_reg} ({state.array_base[base_reg]:#x}) lies outside "
            "GMEM, "
            f"[{state.chip.gmem_base:#x}, {state.chip.gmem_base + len(state.gmem):#x})"
        )
    return offset


def gmem_tensor(
    state: State,
    base_reg: int,
    addr: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: DTypeLike,
    what: str = "tensor",
) -> TensorGmem:
    """The tensor with byte `strides` at `addr`; raises AddressError where any byte lies outside GMEM."""
    offset = physical_addr(state, base_reg, addr, what)
    end = (
        offset
        + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        + np.dtype(dtype).itemsize
    )
    if min(shape) < 1:
        raise AddressError(f"{what}: shape {shape} has an extent below 1")
    if end > len(state.gmem):
        raise AddressError(
            f"{what}: shape {shape} with strides {strides} from {offset:#x} ends at {end:#x}, past GMEM's end"
        )
    return TensorGmem(state.gmem.bytes, np.ndarray(shape, dtype, state.gmem.bytes, offset, strides), (offset, end))


class TensorGmem:
    """A strided tensor in GMEM, bound to one machine's memory; the counterpart of TensorLmem, with the axes that it is
    given."""

    __slots__ = ("memory", "parts", "shape", "span", "view")

    def __init__(self, memory: NDArray[np.uint8], view: NDArray, span: tuple[int, int]) -> None:
        """`view` is a writable view of GMEM's bytes `memory` that starts at offset `span[0]` and ends in front of
        `span[1]`."""
        self.memory = memory
        self.view = view
        self.span = span
        self.shape = view.shape
        self.parts = [(slice(None), view)]

    @property
    def footprint(self) -> NDArray:
        return self.view

    def load(self) -> NDArray:
        return self.view

    def store(self, values: NDArray) -> None:
        self.view[...] = values

    def element_addrs(self) -> NDArray[np.int64]:
        """Physical offset of every element, in the tensor's shape."""
        addrs = np.full(self.shape, self.span[0], np.int64)
        for axis, (extent, stride) in enumerate(zip(self.shape, self.view.strides, strict=True)):
            addrs += (np.arange(extent) * stride).reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return addrs

    def reshaped(self, shape: tuple[int, ...]) -> TensorGmem:
        """The same elements in the same order under another shape, or the tensor itself where that needs other than one
        stride an axis."""
        if not self.view.flags.c_contiguous:
            return self
        return TensorGmem(self.memory, self.view.reshape(shape), self.span)

    def transposed(self, *axes: int) -> TensorGmem:
        """The same elements with the axes in another order."""
        return TensorGmem(self.memory, self.view.transpose(axes), self.span)
