"""Weights in GMEM, tile after tile, in the order in which a program reads them.

A matrix [k, n] is cut into tiles of some rows and, on every lane, some columns. Lane c holds the columns from c *
lane_columns on. Tile t of them is columns t * w and on of each lane. A tile lies in GMEM as [lane][row][column]: one
contiguous burst, and one row of LMEM on each lane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.kernels.tensors import Fmt, ml_default_shape
from npusim.mem.lmem import align_up

DEFAULT_BUFFER_BYTES = 8192
"""LMEM of a lane for one tile: two banks. Two or more buffers are in use at a time."""
_EU_COLUMNS = 8
"""bf16 columns that a lane computes at once. A tile has a multiple of them."""
_MAX_EXTENT = 4095
_MORE_PIECES = 16
"""So many finer cuts of k are tried after the coarsest. The one with the fewest, hence largest, tiles is taken, and of
several the one with the most rows, whose partial sums are read and written least often."""


@dataclass(frozen=True)
class Tile:
    """Rows [k, k + rows) and columns [w, w + columns) of those on every lane."""

    k: int
    rows: int
    w: int
    columns: int
    offset: int
    """Bytes from the start of the packed weights."""
    lane_elements: int
    """Elements from one lane's to the next lane's, in GMEM."""

    @property
    def elements(self) -> int:
        """Elements on one lane."""
        return self.rows * self.columns


@dataclass(frozen=True)
class WeightPlan:
    """How a [k, n] matrix is cut for a chip.

    `fmt` is the format in GMEM. After int8 weights follows one bf16 scale for each column."""

    lanes: int
    k: int
    n: int
    fmt: Fmt
    lane_columns: int
    tile_rows: int
    tile_columns: int
    near_fmt: Fmt = Fmt.BF16
    """The format in LMEM: int8 becomes bf16 when it is loaded."""
    parts: int = 1
    """In so many steps a program loads each tile, rows behind rows; the bytes in GMEM are the same."""

    @property
    def num_lanes_used(self) -> int:
        """Lanes that hold columns."""
        return -(-self.n // self.lane_columns)

    @cached_property
    def tiles(self) -> tuple[Tile, ...]:
        """In reading order: all rows of some columns, then the next columns."""
        found, offset, size = [], 0, self.fmt.itemsize
        for w in range(0, self.lane_columns, self.tile_columns):
            columns = min(self.tile_columns, self.lane_columns - w)
            for k in range(0, self.k, self.tile_rows):
                rows = min(self.tile_rows, self.k - k)
                for start in range(0, rows, self.part_rows):
                    count, at = min(self.part_rows, rows - start), offset + start * columns * size
                    found.append(Tile(k + start, count, w, columns, offset=at, lane_elements=rows * columns))
                offset += rows * columns * self.num_lanes_used * size
        return tuple(found)

    @property
    def part_rows(self) -> int:
        """Rows that are loaded at once, but for a tile's last ones."""
        return align_up(-(-self.tile_rows // self.parts), _EU_COLUMNS) if self.parts > 1 else self.tile_rows

    @property
    def pieces(self) -> tuple[tuple[int, int], ...]:
        """(first row, rows) of what is loaded at once: the pieces of k in which a left operand is needed."""
        return tuple((tile.k, tile.rows) for tile in self.tiles if tile.w == 0)

    @property
    def scale_offset(self) -> int:
        """Byte at which the scales begin, a multiple of 16."""
        return align_up(self.num_lanes_used * self.lane_columns * self.k * self.fmt.itemsize, 16)

    @property
    def num_bytes(self) -> int:
        """Bytes of the packed weights with their scales, a multiple of 16."""
        scales = self.num_lanes_used * self.lane_columns * 2 if self.fmt is Fmt.I8 else 0
        return align_up(self.scale_offset + scales, 16)


def plan_weight(
    chip: Chip, k: int, n: int, fmt: Fmt, buffer_bytes: int = DEFAULT_BUFFER_BYTES, *, lane_columns: int | None = None
) -> WeightPlan:
    """The cut of a [k, n] matrix whose tiles fit `buffer_bytes` of a lane as bf16.

    `lane_columns`, a multiple of 8, is how many columns a lane holds; by default they are spread evenly. Raises
    UsageError where no cut fits."""
    if fmt not in (Fmt.BF16, Fmt.I8):
        raise UsageError(f"weights in {fmt.value} are not supported; use bf16 or i8")
    lane_columns = lane_columns or align_up(ml_default_shape(chip, 1, n).w, _EU_COLUMNS)
    if lane_columns > _MAX_EXTENT:
        raise UsageError(
            f"{n:,} columns are too many at once for {chip.name}; plan at most "
            f"{_MAX_EXTENT // 8 * 8 * chip.num_lanes:,}"
        )
    most_rows = min(buffer_bytes // (2 * _EU_COLUMNS), _MAX_EXTENT) // _EU_COLUMNS * _EU_COLUMNS
    if most_rows < _EU_COLUMNS:
        raise UsageError(
            f"a weight buffer of {buffer_bytes} bytes a lane holds no tile; the smallest is "
            f"{2 * _EU_COLUMNS * _EU_COLUMNS} bytes"
        )
    least = -(-k // most_rows)
    cuts = [_cut(k, lane_columns, pieces, buffer_bytes) for pieces in range(least, least + _MORE_PIECES)]
    _, rows, columns = min(cuts, key=lambda cut: (cut[0], -cut[1]))
    return WeightPlan(chip.num_lanes, k, n, fmt, lane_columns=lane_columns, tile_rows=rows, tile_columns=columns)


def _cut(k: int, lane_columns: int, pieces: int, buffer_bytes: int) -> tuple[int, int, int]:
    """(tiles, rows, columns) of a cut of k into `pieces` even parts, each as wide as the buffer allows."""
    rows = min(align_up(-(-k // pieces), _EU_COLUMNS), align_up(k, _EU_COLUMNS)) if pieces > 1 else k
    columns = min(max(buffer_bytes // (2 * rows) // _EU_COLUMNS, 1) * _EU_COLUMNS, lane_columns)
    groups = -(-lane_columns // columns)
    return -(-k // rows) * groups, rows, align_up(-(-lane_columns // groups), _EU_COLUMNS)


def pack_weight(plan: WeightPlan, weight: NDArray, scale: NDArray[np.uint16] | None = None) -> bytes:
    """`weight` [k, n] as the plan's tiles, plan.num_bytes bytes.

    It is uint16 (bf16 patterns), or int8 with `scale`, one bf16 pattern for each column. Raises UsageError where it
    is not what the plan is for."""
    wanted = np.dtype(np.int8 if plan.fmt is Fmt.I8 else np.uint16)
    if weight.shape != (plan.k, plan.n) or weight.dtype != wanted:
        raise UsageError(
            f"weights are {weight.dtype} of shape {weight.shape}; the plan is for {wanted} of {(plan.k, plan.n)}"
        )
    lanes = plan.num_lanes_used
    assert plan.parts == 1, "the cut in GMEM is the whole tiles'"
    padded = np.zeros((plan.k, lanes * plan.lane_columns), wanted)
    padded[:, : plan.n] = weight
    by_lane = padded.reshape(plan.k, lanes, plan.lane_columns).transpose(1, 0, 2)
    parts = [by_lane[:, t.k : t.k + t.rows, t.w : t.w + t.columns].tobytes() for t in plan.tiles]
    packed = b"".join(parts).ljust(plan.scale_offset, b"\0")
    if plan.fmt is Fmt.I8:
        if scale is None or scale.shape != (plan.n,) or scale.dtype != np.uint16:
            raise UsageError(f"int8 weights need one bf16 pattern (uint16) a column as scale, shape ({plan.n},)")
        packed += np.pad(scale, (0, lanes * plan.lane_columns - plan.n)).tobytes()
    return packed.ljust(plan.num_bytes, b"\0")
