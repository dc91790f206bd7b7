"""Functions by table: 256 entries on every lane, looked up by the low byte of each element.

An interpolating table adds slope * (distance from the nearest of 256 steps). A scientific one multiplies an entry
for the exponent by one for the fraction. Both are two tables of 256 bf16 entries, 1 KiB in GMEM, one after the
other. Source of the sequences: wwwuxy/cvikernel src/cv181x, and sophgo/tpu-mlir's use of mv_lut_idx and int8
conversions."""

from __future__ import annotations

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


def interpolate(b: KernelBuilder, table: InterpolatedTable, res: Tl, x: Tl) -> None:
    """res = base[i] + slope[i] * (scale * x - i), where i is scale * x rounded to nearest.

    Both are (n, c, 1, w); res lies as allocated and may be x."""
    if x.shape != res.shape or x.shape[2] != 1:
        raise UsageError(f"x has shape {x.shape} and res {res.shape}; a table takes (n, c, 1, w), both alike")
    with b.lmem_scope():
        index, near = (
            b.lmem_alloc_tensor(x.shape, BF16, way_out="take fewer rows or columns at a time") for _ in range(2)
        )
        scaled = res
        b.tiu_max(scaled, x, table.low)
        b.tiu_min(scaled, scaled, table.high)
        b.tiu_mul(scaled, scaled, table.scale)
        octets = _low_bytes(index)
        b.tdma_l2l_tensor_copy(Tl(scaled.addr, octets.shape, (scaled.stride[0], scaled.stride[1], 2, 2), BF16), octets)
        b.tdma_l2l_tensor_copy(octets, Tl(near.addr, octets.shape, (near.stride[0], near.stride[1], 2, 2), BF16))
        b.tiu_sub(near, scaled, near)
        b.tiu_lookup_table(scaled, index, table.base)
        b.tiu_lookup_table(index, index, table.slope)
        b.tiu_mac(scaled, index, near)


def _low_bytes(tensor: Tl) -> Tl:
    """The low byte of each bf16 element of (n, c, 1, w), as int8 (n, c, w, 1). A lookup reads this byte."""
    n, c, _, w = tensor.shape
    return Tl(tensor.addr, (n, c, w, 1), (tensor.stride[0], tensor.stride[1], 2, 1), Fmt.I8)
