"""Functions by table: 256 entries on every lane, looked up by the low byte of each element.

An interpolating table adds slope * (distance from the nearest of 256 steps). A scientific one multiplies an entry
for the exponent by one for the fraction. Both are two tables of 256 bf16 entries, 1 KiB in GMEM, one after the
other. Source of the sequences: wwwuxy/cvikernel src/cv181x, and sophgo/tpu-mlir's use of mv_lut_idx and int8
conversions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.tensors import Fmt, Tg, Tl, tg

BF16 = Fmt.BF16
TABLE_BYTES = 1024
"""Bytes of a pair of tables in GMEM."""


@dataclass(frozen=True)
class InterpolatedTable:
    """base and slope in LMEM, and the constants of the index.

    The constants are bf16 patterns: the limits `low` and `high`, and `scale`, a power of two."""

    base: Tl
    slope: Tl
    low: int
    high: int
    scale: int


@dataclass(frozen=True)
class ScientificTable:
    """The two tables in LMEM."""

    by_exponent: Tl
    by_fraction: Tl


def load_tables(b: KernelBuilder, src: Tg) -> tuple[Tl, Tl]:
    """Loads both tables of a pair from GMEM to every lane, in one transfer. Only the address of `src` matters."""
    lanes = b.chip.num_lanes
    pair = b.lmem_alloc_tensor((2, lanes, 32, 8), BF16, way_out="free what is not used by the function")
    b.tdma_g2l_tensor_copy(
        tg(src.addr, pair.shape, BF16, (TABLE_BYTES // 2, 0, 16, 2), base_reg=src.base_reg, label=src.label), pair
    )
    one = (1, lanes, 32, 8)
    return pair.view(one, pair.stride), pair.view(one, pair.stride, pair.stride[0])


def scientific(b: KernelBuilder, table: ScientificTable, res: Tl, x: Tl) -> None:
    """res = by_exponent[floor(log2 x) + 63] * by_fraction[low byte of x].

    res and x are (1, m, 1, w) and different tensors."""
    with b.lmem_scope():
        index = b.lmem_alloc_tensor(x.shape, BF16)
        b.tdma_l2l_tensor_copy(x, index, mv_lut_idx=True)
        b.tiu_lookup_table(index, index, table.by_exponent)
        b.tiu_lookup_table(res, x, table.by_fraction)
        b.tiu_mul(res, index, res)


def interpolate(
    b: KernelBuilder, table: InterpolatedTable, res: Tl, x: Tl, meanwhile: Callable[[], None] | None = None
) -> None:
    """res = base[i] + slope[i] * (scale * x - i), where i is scale * x rounded to nearest.

    Both are (n, c, 1, w); res lies as allocated and may be x. `meanwhile` issues what the DMA can do while the TIU
    looks up."""
    with b.lmem_scope():
        work = Interpolation(b, table, res)
        work.index(x)
        if meanwhile is not None:
            meanwhile()
        work.look_up()


class Interpolation:
    """interpolate in two steps, between which other commands may be issued."""

    def __init__(self, b: KernelBuilder, table: InterpolatedTable, res: Tl) -> None:
        """Takes LMEM for 2.5 times `res`."""
        way_out = "take fewer rows or columns at a time"
        self.b, self.table, self.res = b, table, res
        self._index, self._near = (b.lmem_alloc_tensor(res.shape, BF16, way_out=way_out) for _ in range(2))
        self._octets = b.lmem_alloc_tensor(res.shape, Fmt.I8, way_out=way_out)

    def index(self, x: Tl) -> None:
        """The places of x in the table, by the TIU and then the DMA; `res` becomes scale * x."""
        b, table, scaled = self.b, self.table, self.res
        if x.shape != scaled.shape or x.shape[2] != 1:
            raise UsageError(f"x has shape {x.shape} and res {scaled.shape}; a table takes (n, c, 1, w), both alike")
        b.tiu_max(scaled, x, table.low)
        b.tiu_min(scaled, scaled, table.high)
        b.tiu_mul(scaled, scaled, table.scale)
        b.tdma_l2l_tensor_copy(scaled, self._octets)
        b.tdma_l2l_tensor_copy(self._octets, self._near)

    def look_up(self) -> None:
        """The rest, by the TIU."""
        b, res = self.b, self.res
        # The DMA would move single bytes one lane after the other; the TIU takes all lanes at once.
        b.tiu_copy(_low_bytes(self._index), _by_row(self._octets))
        b.tiu_sub(self._near, res, self._near)
        b.tiu_lookup_table(res, self._index, self.table.base)
        b.tiu_lookup_table(self._index, self._index, self.table.slope)
        b.tiu_mac(res, self._index, self._near)


def _by_row(octets: Tl) -> Tl:
    """Bytes (n, c, 1, w) as (n, c, w, 1)."""
    n, c, _, w = octets.shape
    return Tl(octets.addr, (n, c, w, 1), (octets.stride[0], octets.stride[1], 1, 1), Fmt.I8)


def _low_bytes(tensor: Tl) -> Tl:
    """The low byte of each bf16 element of (n, c, 1, w), as int8 (n, c, w, 1). A lookup reads this byte."""
    n, c, _, w = tensor.shape
    return Tl(tensor.addr, (n, c, w, 1), (tensor.stride[0], tensor.stride[1], 2, 1), Fmt.I8)
