"""Softmax of rows in GMEM: exponentials are written back in place, the reciprocal of each row's sum stays in LMEM.

All rows are taken at once where they fit, otherwise as many as there are lanes. In that case the exponential, which
needs room, works on some columns at a time."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, alloc_rows, row_max, row_sum, rows_of
from npusim.kernels.tables import InterpolatedTable, ScientificTable, interpolate, scientific
from npusim.kernels.tensors import Tg, Tl, tg, tl_default_stride
from npusim.mem.lmem import align_up

_TEMPORARIES = 3
"""How many tensors of a chunk's size the exponential needs, plus a spare one."""
_LEAST_CHUNK = 32


@dataclass(frozen=True)
class Softmax:
    """The tables of exp and of the reciprocal."""

    exp: InterpolatedTable
    reciprocal: ScientificTable


def softmax(b: KernelBuilder, rows: Tl, factor: Tl, tables: Softmax, chunk: int | None = None) -> None:
    """rows (1, m, 1, s) become exp(rows - maximum); factor (1, m, 1, 1) becomes the reciprocal of each row's sum.

    `chunk` columns at a time go through the table. More rows than lanes take all columns at once."""
    columns = rows.shape[3]
    chunk = columns if chunk is None else chunk
    with b.lmem_scope():
        total = b.lmem_alloc_tensor(factor.shape, BF16)
        row_max(b, total, rows)
        for start in range(0, columns, chunk):
            part = _chunk(b, rows, start, min(chunk, columns - start))
            b.tiu_sub(part, part, total.broadcast(part.shape))
            interpolate(b, tables.exp, part, part)
        row_sum(b, total, rows)
        scientific(b, tables.reciprocal, factor, total)


def softmax_bytes(chip: Chip, count: int, columns: int) -> int:
    """The least LMEM of a lane, in bytes, that softmax_rows needs."""
    return _small(chip, count) + align_up(2 * columns, chip.eu_num) + _TEMPORARIES * 2 * min(columns, _LEAST_CHUNK)


def softmax_rows(b: KernelBuilder, far: Tg, factor: Tl, tables: Softmax) -> None:
    """Softmax of the dense rows `far` (1, m, 1, s) in GMEM, in place; factor (1, m, 1, 1) starts on lane 0."""
    _, count, _, columns = far.shape
    at_once, chunk = _cut(b, count, columns)
    for first in range(0, count, at_once):
        rows = min(at_once, count - first)
        with b.lmem_scope():
            near, addr = alloc_rows(b, rows, columns), far.addr + 2 * first * columns
            for start in range(0, columns, chunk):
                part = _chunk(b, near, start, min(chunk, columns - start))
                source = tg(addr + 2 * start, part.shape, BF16, (0, 2 * columns, 0, 2), base_reg=far.base_reg)
                b.tdma_g2l_tensor_copy(source, part)
            softmax(b, near, rows_of(b, factor, first, rows), tables, chunk)
            b.tdma_l2g_tensor_copy(near, tg(addr, near.shape, BF16, base_reg=far.base_reg))


def _cut(b: KernelBuilder, count: int, columns: int) -> tuple[int, int]:
    """(rows, columns) that are worked on at once."""
    chip, free = b.chip, b.lmem.free_bytes
    row_bytes = align_up(2 * columns, chip.eu_num)
    if -(-count // chip.num_lanes) * row_bytes * (1 + _TEMPORARIES) + _small(chip, count) <= free:
        return count, columns
    left = free - row_bytes - _small(chip, count)
    chunk = min(left // (2 * _TEMPORARIES) // 16 * 16, columns)
    if chunk < min(_LEAST_CHUNK, columns):
        fit = (free - _small(chip, count)) // 2 - _TEMPORARIES * _LEAST_CHUNK
        raise UsageError(
            f"a row of {columns} slots does not fit the {free:,} bytes of LMEM that are free; at most {fit} would: "
            "use fewer pages"
        )
    return min(count, chip.num_lanes), chunk


def _small(chip: Chip, count: int) -> int:
    """Bytes of sums, factors and indices: 16 for each row."""
    return 4 * chip.eu_num * -(-count // chip.num_lanes)


def _chunk(b: KernelBuilder, rows: Tl, start: int, count: int) -> Tl:
    """Some columns of rows, as a tensor of its own.

    Where there are no more rows than lanes, any channel stride will do."""
    if count == rows.shape[3]:
        return rows
    if rows.shape[1] > b.chip.num_lanes:
        raise UsageError(
            f"{rows.shape[1]} rows go through a table in chunks only up to the {b.chip.num_lanes} lanes of "
            f"{b.chip.name}"
        )
    shape = (1, rows.shape[1], 1, count)
    return Tl(rows.addr + 2 * start, shape, tl_default_stride(b.chip, shape, BF16), BF16)
