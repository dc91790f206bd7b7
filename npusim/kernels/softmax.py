"""Softmax of rows in LMEM, some of them on each lane: exponentials in place, and the reciprocal of each row's sum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, row_max, row_sum
from npusim.kernels.tables import InterpolatedTable, ScientificTable, interpolate, scientific
from npusim.kernels.tensors import Tl, tl_default_stride
from npusim.mem.lmem import align_up

CHUNK_BYTES = (2048, 512, 64)
"""LMEM of a lane that the exponential works on at once, best first."""
_TEMPORARIES = 2.5
"""What the exponential needs beside a chunk, in times of its size."""


@dataclass(frozen=True)
class Softmax:
    """The tables of exp and of the reciprocal."""

    exp: InterpolatedTable
    reciprocal: ScientificTable


def softmax(
    b: KernelBuilder, rows: Tl, factor: Tl, tables: Softmax, meanwhile: Callable[[], None] | None = None
) -> None:
    """rows (n, c, 1, s) become exp(rows - maximum); factor (n, c, 1, 1) becomes the reciprocal of each row's sum.

    Both lie as allocated; there are no more channels than lanes. `meanwhile` is interpolate's. Raises UsageError
    where LMEM has no room."""
    with b.lmem_scope():
        largest = b.lmem_alloc_tensor(factor.shape, BF16)
        row_max(b, largest, rows)
        for part, top in _chunks(b, rows, largest):
            b.tiu_sub(part, part, top.broadcast(part.shape))
            interpolate(b, tables.exp, part, part, meanwhile)
        row_sum(b, largest, rows)
        scientific(b, tables.reciprocal, factor, largest)


def softmax_bytes(chip: Chip, rows: int, columns: int, chunk: int) -> int:
    """LMEM of a lane, in bytes, that softmax needs for `rows` rows a lane and chunks of at least `chunk` bytes."""
    return _small(chip, rows) + int(_TEMPORARIES * min(chunk, rows * align_up(2 * columns, chip.eu_num)))


def _small(chip: Chip, rows: int) -> int:
    """Bytes of maxima and indices, one EU row for each, and what alignment takes."""
    return 3 * chip.eu_num * rows


def _chunks(b: KernelBuilder, rows: Tl, largest: Tl) -> Iterator[tuple[Tl, Tl]]:
    """What the exponential works on at once, with the maxima of these rows: whole rows, or columns of one."""
    count, lanes, _, columns = rows.shape
    free = int((b.lmem.free_bytes - _small(b.chip, count)) / _TEMPORARIES)
    if at_once := min(free // rows.stride[0], count):
        for first in range(0, count, at_once):
            extents = (min(at_once, count - first), lanes, 1, columns)
            part = Tl(rows.addr + first * rows.stride[0], extents, rows.stride, BF16)
            yield part, _maxima(largest, first, extents[0])
        return
    width = free // (2 * 8) * 8
    if width < min(32, columns):
        raise UsageError(f"a row of {columns} slots does not fit the {b.lmem.free_bytes:,} bytes of LMEM that are free")
    for first in range(count):
        for start in range(0, columns, width):
            extents = (1, lanes, 1, min(width, columns - start))
            addr = rows.addr + first * rows.stride[0] + 2 * start
            yield Tl(addr, extents, tl_default_stride(b.chip, extents, BF16), BF16), _maxima(largest, first, 1)


def _maxima(largest: Tl, first: int, count: int) -> Tl:
    return Tl(largest.addr + first * largest.stride[0], (count, *largest.shape[1:]), largest.stride, BF16)
