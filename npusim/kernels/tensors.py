"""Tensors and matrices in local and global memory ("tl", "ml", "tg", "mg") as cvikernel describes them, and their
default strides.

Source: wwwuxy/cvikernel include/cvikernel/cvikernel.h and src/cv181x/cvkcv181x.c (tl_default_stride, ml_default_shape,
ml_default_stride). Strides and addresses are in bytes; an LMEM address is lane * bytes a lane + offset, a GMEM address
an offset behind a base register."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.chip import Chip
from npusim.mem.lmem import align_up, default_strides
from npusim.mem.tensor import Fmt, Shape, call_text
from npusim.mem.tensor import LocalTensor as Tl


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

    def __repr__(self) -> str:
        return call_text("Ml", vars(self))

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

    def __repr__(self) -> str:
        return call_text("Tg", vars(self))

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

    def __repr__(self) -> str:
        return call_text("Mg", vars(self))


def tg(
    addr: int, shape: Shape, fmt: Fmt, stride: Shape | None = None, *, base_reg: int = 0, label: str | None = None
) -> Tg:
    """A GMEM tensor, dense unless `stride` says otherwise."""
    if stride is None:
        _, c, h, w = shape
        size = fmt.itemsize
        stride = (c * h * w * size, h * w * size, w * size, size)
    return Tg(addr, shape, fmt, stride, base_reg=base_reg, label=label)


def mg(
    addr: int, row: int, col: int, fmt: Fmt, stride: int | None = None, *, base_reg: int = 0, label: str | None = None
) -> Mg:
    """A GMEM matrix, dense unless `stride` says otherwise."""
    return Mg(addr, row, col, fmt, col * fmt.itemsize if stride is None else stride, base_reg=base_reg, label=label)


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
    return tensor._replace(addr=tensor.addr + offset)
