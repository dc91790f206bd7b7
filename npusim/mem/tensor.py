"""Where a tensor is in memory, without a machine: `LocalTensor` in LMEM ("tl") and `GlobalTensor` in GMEM ("tg").

Channel j of a local tensor is on lane (lane0 + j) % lanes, and (lane0 + j) // lanes channel strides further on. Such a
round through all lanes is called a turn. Strides and addresses are in bytes. An LMEM address is linear: lane * bytes of
a lane + offset.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import AddressError, UsageError
from npusim.isa.opcodes import TdmaFmt
from npusim.mem.region import LMEM, Region, region

Shape = tuple[int, int, int, int]


def call_text(kind: str, fields: Mapping[str, object]) -> str:
    """The Python call that makes a tensor, with its address in hexadecimal and without fields that are None."""
    words = (f"{k}={v:#x}" if k == "addr" else f"{k}={v!r}" for k, v in fields.items() if v is not None)
    return f"{kind}({', '.join(words)})"


class Fmt(Enum):
    """Element formats of tensors on the chip."""

    I8 = "i8"
    U8 = "u8"
    BF16 = "bf16"

    __hash__ = object.__hash__  # members are single objects; Enum's own hash is slow, and tensors are keys

    def __init__(self, name: str) -> None:
        self.itemsize = 2 if name == "bf16" else 1
        """Bytes of an element."""
        self.dtype: np.dtype = np.dtype({"i8": np.int8, "u8": np.uint8, "bf16": np.uint16}[name])
        """NumPy's dtype; bf16 numbers are uint16 bit patterns."""

    def __repr__(self) -> str:
        return f"Fmt.{self.name}"

    @property
    def is_signed(self) -> bool:
        return self is Fmt.I8

    @property
    def tdma(self) -> TdmaFmt:
        """`src_fmt` or `dst_fmt` of the DMA."""
        return TdmaFmt.BF16 if self is Fmt.BF16 else TdmaFmt.INT8


class LocalTensor(NamedTuple):
    """A tensor in LMEM: its linear address, shape and byte strides (n, c, h, w), and format."""

    addr: int
    shape: Shape
    stride: Shape
    fmt: Fmt

    def __repr__(self) -> str:
        return call_text("LocalTensor", self._asdict())

    @property
    def itemsize(self) -> int:
        return self.fmt.itemsize

    def reach(self, chip: Chip) -> tuple[int, int, int]:
        """(first lane, offset of the first byte within its lane, offset after the last byte of any lane)."""
        lane0, offset = divmod(self.addr, chip.lmem_bytes)
        (n, c, h, w), (n_str, c_str, h_str, w_str) = self.shape, self.stride
        turns = -(-(lane0 + c) // chip.num_lanes)
        last = (n - 1) * n_str + (turns - 1) * c_str + (h - 1) * h_str + (w - 1) * w_str
        return lane0, offset, offset + last + self.fmt.itemsize

    def span(self, chip: Chip) -> tuple[int, int]:
        """[start, end) of offsets within a lane that hold every byte of the tensor, on any lane."""
        return self.reach(chip)[1:]

    def require_fits(self, chip: Chip, what: str = "tensor") -> None:
        """Raises AddressError if an extent is below 1 or any byte is outside its lane; `what` names the tensor."""
        lane0, offset, end = self.reach(chip)
        if min(self.shape) < 1:
            raise AddressError(f"{what}: shape {self.shape} has an extent below 1")
        if lane0 >= chip.num_lanes or end > chip.lmem_bytes:
            raise AddressError(
                f"{what}: lane {lane0} offset {offset:#x} with shape {self.shape} and strides {self.stride} ends at "
                f"{end:#x}, but LMEM has {chip.num_lanes} lanes of {chip.lmem_bytes:#x} bytes"
            )

    def regions(self, chip: Chip) -> Iterator[Region]:
        """The tensor's bytes as regions: one, or up to three if its channels pass the last lane."""
        lanes, lane_bytes = chip.num_lanes, chip.lmem_bytes
        (n, c, h, w), (n_str, c_str, h_str, w_str) = self.shape, self.stride
        lane0, start = divmod(self.addr, lane_bytes)
        size = self.fmt.itemsize
        inner = ((n, n_str), (h, h_str), (w, w_str))
        if lane0 + c <= lanes:
            yield region(LMEM, self.addr, ((c, lane_bytes), *inner), size)
            return
        if lane0:
            yield region(LMEM, self.addr, ((lanes - lane0, lane_bytes), *inner), size)
            c -= lanes - lane0
            start += c_str
        turns, rest = divmod(c, lanes)
        if turns:
            yield region(LMEM, start, ((turns, c_str), (lanes, lane_bytes), *inner), size)
        if rest:
            yield region(LMEM, start + turns * c_str, ((rest, lane_bytes), *inner), size)

    def is_distinct(self, chip: Chip) -> bool:
        """Whether no two elements share a byte. False too if the strides do not show it plainly."""
        (n, c, h, w), (n_str, c_str, h_str, w_str) = self.shape, self.stride
        turns = -(-(self.addr // chip.lmem_bytes + c) // chip.num_lanes)
        lanes = c if turns == 1 else chip.num_lanes
        axes = ((n, n_str), (turns, c_str), (lanes, chip.lmem_bytes), (h, h_str), (w, w_str))
        return are_apart(axes, self.fmt.itemsize)

    def element_addrs(self, chip: Chip) -> NDArray[np.int64]:
        """Linear LMEM address of every element, int64 of shape (n, c, h, w)."""
        lane0, start = divmod(self.addr, chip.lmem_bytes)
        turn, lane = np.divmod(lane0 + np.arange(self.shape[1]), chip.num_lanes)
        n, _, h, w = (np.arange(extent) * stride for extent, stride in zip(self.shape, self.stride, strict=True))
        channel = start + lane * chip.lmem_bytes + turn * self.stride[1]
        return channel[:, None, None] + n[:, None, None, None] + h[:, None] + w

    def channels(self, first: int, count: int, chip: Chip) -> LocalTensor:
        """The tensor's `count` channels from `first` on."""
        lane, offset = divmod(self.addr, chip.lmem_bytes)
        turn, lane = divmod(lane + first, chip.num_lanes)
        n, _, h, w = self.shape
        addr = lane * chip.lmem_bytes + offset + turn * self.stride[1]
        return LocalTensor(addr, (n, count, h, w), self.stride, self.fmt)

    def view(self, shape: Shape, stride: Shape | None = None, offset: int = 0) -> LocalTensor:
        """A tensor of another shape in the same memory, `offset` bytes further on. By default its rows are packed
        within this tensor's channels."""
        if stride is None:
            size = self.fmt.itemsize
            stride = (self.stride[0], self.stride[1], shape[3] * size, size)
        return LocalTensor(self.addr + offset, shape, stride, self.fmt)

    def broadcast(self, shape: Shape) -> LocalTensor:
        """This tensor broadcast to `shape`: extents of 1 are repeated (stride 0). Only TIU arithmetic can read such a
        tensor. Raises UsageError for another shape."""
        if any(have not in (1, want) for have, want in zip(self.shape, shape, strict=True)):
            raise UsageError(
                f"a tensor of shape {self.shape} cannot be broadcast to {shape}; extents must be equal or 1"
            )
        n, c, h, w = (
            0 if have != want else step for have, want, step in zip(self.shape, shape, self.stride, strict=True)
        )
        return LocalTensor(self.addr, shape, (n, c, h, w), self.fmt)


def are_apart(axes: Iterable[tuple[int, int]], reach: int) -> bool:
    """Whether the strides show that elements of `reach` bytes, repeated along `axes` of (extent, stride), do not
    overlap."""
    for stride, extent in sorted((stride, extent) for extent, stride in axes if extent > 1):
        if stride < reach:
            return False
        reach += stride * (extent - 1)
    return True


class GlobalTensor(NamedTuple):
    """A tensor in GMEM: a base register, an address of 40 bits that counts from it, shape, byte strides and format."""

    base_reg: int
    addr: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    fmt: Fmt

    def __repr__(self) -> str:
        return call_text("GlobalTensor", self._asdict())

    @property
    def itemsize(self) -> int:
        return self.fmt.itemsize

    def regions(self, chip: Chip) -> Iterator[Region]:
        """The tensor's bytes as one region. It counts from the base register, without the chip's `gmem_base`."""
        axes = zip(self.shape, self.stride, strict=True)
        yield region(self.base_reg, self.addr - chip.gmem_base, axes, self.fmt.itemsize)
