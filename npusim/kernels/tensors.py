"""Tensors and matrices in local and global memory ("tl", "ml", "tg", "mg") as cvikernel describes them, and their
default strides.

Source: wwwuxy/cvikernel include/cvikernel/cvikernel.h and src/cv181x/cvkcv181x.c (tl_default_stride, ml_default_shape,
ml_default_stride). Strides and addresses are in bytes; an LMEM address is lane * bytes a lane + offset, a GMEM address
an offset behind a base register."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.isa.opcodes import TdmaFmt
from npusim.mem.lmem import Shape, align_up, default_strides


class Fmt(Enum):
    """Element formats of tensors on the chip."""

    I8 = "i8"
    U8 = "u8"
    BF16 = "bf16"

    @property
    def itemsize(self) -> int:
        return 2 if self is Fmt.BF16 else 1

    @property
    def is_signed(self) -> bool:
        return self is Fmt.I8

    @property
    def tdma(self) -> TdmaFmt:
        return TdmaFmt.BF16 if self is Fmt.BF16 else TdmaFmt.INT8


@dataclass(frozen=True)
class Tl:
    """A tensor in LMEM: shape and byte strides (n, c, h, w); channel j lies on lane (lane0 + j) % lanes."""

    addr: int
    shape: Shape
    stride: Shape
    fmt: Fmt

    def view(self, shape: Shape, stride: Shape | None = None, offset: int = 0) -> Tl:
        """The same memory under another shape, `offset` bytes on; strides default to packed rows within this tensor's
        channels."""
        if stride is None:
            size = self.fmt.itemsize
            stride = (self.stride[0], self.stride[1], shape[3] * size, size)
        return Tl(self.addr + offset, shape, stride, self.fmt)

    def broadcast(self, shape: Shape) -> Tl:
        """This tensor under `shape`: extents of 1 are repeated (stride 0). Only TIU arithmetic reads such a tensor."""
        if any(have not in (1, want) for have, want in zip(self.shape, shape, strict=True)):
            raise UsageError(
                f"a tensor of shape {self.shape} cannot be broadcast to {shape}; extents must be equal or 1"
            )
        stride = tuple(
            0 if have != want else step for have, want, step in zip(self.shape, shape, self.stride, strict=True)
        )
        return Tl(self.addr, shape, stride, self.fmt)  # type: ignore[arg-type]


@dataclass(frozen=True)
class MlShape:
    """`n` rows of `col` columns, cut into `c` pieces (one a lane) of `w` columns, the last of which may be shorter."""

    n: int
    c: int
    w: int
    col: int


@dataclass(frozen=True)
class Ml:
    """A matrix in LMEM at aligned strides, as matrix multiplication takes it."""

    addr: int
    shape: MlShape
    fmt: Fmt
    n_stride: int
    c_stride: int

    @property
    def tl(self) -> Tl:
        """The matrix as a tensor (n, c, 1, w)."""
        size = self.fmt.itemsize
        return Tl(
            self.addr,
            (self.shape.n, self.shape.c, 1, self.shape.w),
            (self.n_stride, self.c_stride, self.shape.w * size, size),
            self.fmt,
        )


@dataclass(frozen=True)
class Tg:
    """A tensor in GMEM: physical offset (or offset behind base register `base_reg`), shape and byte strides (n, c, h,
    w).

    With a `label`, `addr` counts from wherever Program.patch puts the label (from 0 until then).
    """

    addr: int
    shape: Shape
    fmt: Fmt
    stride: Shape
    base_reg: int = 0
    label: str | None = None

    @property
    def num_bytes(self) -> int:
        """From the first byte to behind the last one."""
        return (
            sum((extent - 1) * step for extent, step in zip(self.shape, self.stride, strict=True)) + self.fmt.itemsize
        )


@dataclass(frozen=True)
class Mg:
    """A matrix in GMEM, `row` rows of `col` columns, `stride` bytes from one row to the next."""

    addr: int
    row: int
    col: int
    fmt: Fmt
    stride: int
    base_reg: int = 0
    label: str | None = None


def tg(
    addr: int, shape: Shape, fmt: Fmt, stride: Shape | None = None, *, base_reg: int = 0, label: str | None = None
) -> Tg:
    """A GMEM tensor, dense unless `stride` says otherwise."""
    if stride is None:
        _, c, h, w = shape
        size = fmt.itemsize
        stride = (c * h * w * size, h * w * size, w * size, size)
    return Tg(addr, shape, fmt, stride, base_reg, label)


def mg(
    addr: int, row: int, col: int, fmt: Fmt, stride: int | None = None, *, base_reg: int = 0, label: str | None = None
) -> Mg:
    """A GMEM matrix, dense unless `stride` says otherwise."""
    return Mg(addr, row, col, fmt, col * fmt.itemsize if stride is None else stride, base_reg, label)


def tl_default_stride(chip: Chip, shape: Shape, fmt: Fmt, eu_align: bool = True) -> Shape:
    """Strides that the hardware assumes: channels aligned to EUs, or packed."""
    return default_strides(shape, fmt.itemsize, chip.num_lanes, chip.eu_num, eu_align=eu_align)


def ml_default_shape(chip: Chip, row: int, col: int, fmt: Fmt = Fmt.BF16) -> MlShape:
    """The vendor's spread of `col` columns over the lanes: whole EU rows a lane, as even as they allow; few columns
    stay on one lane."""
    unit = chip.eu_num // fmt.itemsize
    if col < unit:
        return MlShape(row, 1, col, col)
    w = unit * -(-col // (unit * chip.num_lanes))
    return MlShape(row, -(-col // w), w, col)


def ml_at(chip: Chip, addr: int, shape: MlShape, fmt: Fmt = Fmt.BF16) -> Ml:
    """The matrix of `shape` at `addr`, at aligned strides (lmem_init_matrix)."""
    c_stride = align_up(shape.w * fmt.itemsize, chip.eu_num)
    return Ml(addr, shape, fmt, c_stride * -(-shape.c // chip.num_lanes), c_stride)


def moved(tensor: Tl, offset: int) -> Tl:
    """`tensor` `offset` bytes further on every lane."""
    return replace(tensor, addr=tensor.addr + offset)
