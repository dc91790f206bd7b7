"""Tensors in global memory ("tg"), bound to one machine: strided views whose addresses count from a base register."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import AddressError
from npusim.mem.tensor import GlobalTensor, are_apart
from npusim.state import State


def physical_addr(state: State, base_reg: int, addr: int, num_bytes: int = 1, what: str = "tensor") -> int:
    """Offset into GMEM of `addr`, a descriptor's address of 40 bits that counts from base register `base_reg`.

    Raises AddressError if any of the `num_bytes` bytes that start there is outside GMEM; `what` names the tensor there.
    """
    offset = addr + state.array_base[base_reg] - state.chip.gmem_base
    if offset < 0 or offset + num_bytes > state.gmem.bytes.size:
        physical_range(state.chip, state.array_base, len(state.gmem), (base_reg, addr, num_bytes), what)
    return offset


def physical_range(
    chip: Chip, array_base: Sequence[int], gmem_bytes: int, place: tuple[int, int, int], what: str = "tensor"
) -> int:
    """As physical_addr, without a machine: with its base registers and its size of GMEM. `place` is (base register,
    address, number of bytes)."""
    base_reg, addr, num_bytes = place
    offset = addr + array_base[base_reg] - chip.gmem_base
    if not 0 <= offset < gmem_bytes:
        raise AddressError(
            f"{what}: address {addr:#x} plus base register {base_reg} ({array_base[base_reg]:#x}) lies outside GMEM, "
            f"[{chip.gmem_base:#x}, {chip.gmem_base + gmem_bytes:#x})"
        )
    if offset + num_bytes > gmem_bytes:
        end = offset + num_bytes
        raise AddressError(
            f"{what}: {num_bytes} bytes from {offset:#x} end at {end:#x}, past GMEM's end at {gmem_bytes:#x}"
        )
    return offset


def gmem_tensor(state: State, tensor: GlobalTensor, what: str = "tensor") -> TensorGmem:
    """`tensor` bound to the memory of `state`. Raises AddressError if an extent is below 1 or any byte is outside
    GMEM; `what` names the tensor there."""
    base_reg, addr, shape, stride, fmt = tensor
    num_bytes = fmt.itemsize
    for extent, step in zip(shape, stride, strict=True):
        if extent < 1:
            raise AddressError(f"{what}: shape {shape} has an extent below 1")
        num_bytes += (extent - 1) * step
    offset = physical_addr(state, base_reg, addr, num_bytes, what)
    memory = state.gmem.bytes
    return TensorGmem(memory, np.ndarray(shape, fmt.dtype, memory, offset, stride), (offset, offset + num_bytes))


class TensorGmem:
    """A GlobalTensor bound to one machine's memory: what TensorLmem is for a LocalTensor, with any number of axes."""

    __slots__ = ("memory", "parts", "shape", "span", "view")

    def __init__(self, memory: NDArray[np.uint8], view: NDArray, span: tuple[int, int]) -> None:
        """`view` is a writable view of `memory`, the bytes of GMEM. It covers offsets `span[0]` up to, but not
        including, `span[1]`."""
        self.memory = memory
        self.view = view
        self.span = span
        self.shape = view.shape
        self.parts = [(slice(None), view)]

    @property
    def cover(self) -> NDArray:
        return self.view

    @property
    def is_distinct(self) -> bool:
        """Whether no two elements share a byte. False too if the strides do not show it plainly."""
        return are_apart(zip(self.view.shape, self.view.strides, strict=True), self.view.itemsize)

    def load(self) -> NDArray:
        return self.view

    def store(self, values: NDArray) -> None:
        self.view[...] = values

    def element_addrs(self) -> NDArray[np.int64]:
        """Physical offset of every element, int64 in the tensor's shape."""
        addrs = np.full(self.shape, self.span[0], np.int64)
        for axis, (extent, stride) in enumerate(zip(self.shape, self.view.strides, strict=True)):
            addrs += (np.arange(extent) * stride).reshape(-1, *(1,) * (len(self.shape) - axis - 1))
        return addrs

    def reshaped(self, shape: tuple[int, ...]) -> TensorGmem:
        """The same elements in the same order under another shape. If the elements are not contiguous, the tensor
        itself."""
        if not self.view.flags.c_contiguous:
            return self
        return TensorGmem(self.memory, self.view.reshape(shape), self.span)

    def transposed(self, *axes: int) -> TensorGmem:
        """The same elements with the axes in another order."""
        return TensorGmem(self.memory, self.view.transpose(axes), self.span)
