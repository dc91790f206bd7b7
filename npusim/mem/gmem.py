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
            f"{what}: address {addr:#x} plus base register {base_reg} ({state.array_base[base_reg]:#x}) lies outside GMEM, "
            f"[{state.chip.gmem_base:#x}, {state.chip.gmem_base + len(state.gmem):#x})"
        )
    return offset


def gmem_view(
    state: State, base_reg: int, addr: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: DTypeLike, what: str = "tensor"
) -> NDArray:
    """A writable view of GMEM with byte `strides`; raises AddressError where any byte lies outside."""
    offset = physical_addr(state, base_reg, addr, what)
    end = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)) + np.dtype(dtype).itemsize
    if min(shape) < 1 or end > len(state.gmem):
        raise AddressError(f"{what}: shape {shape} with strides {strides} from {offset:#x} ends at {end:#x}, past GMEM's end")
    return np.ndarray(shape, dtype, state.gmem.bytes, offset, strides)
