"""A matrix of weights in panels of 64 columns.

BLAS keeps the sums of that many columns in registers and adds in the order of the inner dimension, as the chip does.
A panel is one piece of memory, so the product of few rows reads the weights once, from front to back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from reference_model.kv_store import FloatArray, IntArray

PANEL = 64
"""Columns of a panel."""
SIDE_BY_SIDE = 16
"""Panels laid side by side at a time, at most: pieces are of about one size, as BLAS is slow with a narrow one."""


@dataclass(frozen=True, eq=False)
class Panels:
    """A float32 matrix [in, out] that rows are multiplied by.

    panels   float32 [P, in, 64]: panel p holds the columns from 64 p on; zeros fill the last one up
    """

    panels: FloatArray
    num_columns: int

    @classmethod
    def gather(cls, depth: int, num_columns: int, parts: Iterable[FloatArray]) -> Panels:
        """From its columns, which come as the rows of `parts`, [any, in] each, one after another."""
        panels = np.zeros((-(-num_columns // PANEL), depth, PANEL), np.float32)
        start = 0
        for part in parts:
            end = start + len(part)
            for first in range(start - start % PANEL, end, PANEL):
                low, high = max(first, start), min(first + PANEL, end)
                panels[first // PANEL, :, low - first : high - first] = part[low - start : high - start].T
            start = end
        return cls(panels, num_columns)

    @classmethod
    def of(cls, weight: np.ndarray) -> Panels:
        """`weight` [out, in], as a model's files hold it: row o becomes column o."""
        return cls.gather(weight.shape[1], len(weight), [weight])

    def columns(self, which: IntArray) -> FloatArray:
        """A copy of some columns, [n, in]."""
        panel, column = np.divmod(which, PANEL)
        return self.panels[panel, :, column]

    def weight(self) -> FloatArray:
        """A copy of the whole, [out, in] as `of` takes it."""
        return self.panels.swapaxes(1, 2).copy().reshape(-1, self.panels.shape[1])[: self.num_columns]

    def side_by_side(self) -> Iterator[tuple[slice, FloatArray]]:
        """Some columns at a time, and these columns [in, n]; read them before the next are asked for."""
        count, depth, _ = self.panels.shape
        together = -(-count // -(-count // SIDE_BY_SIDE))
        room = np.empty(depth * together * PANEL, np.float32)
        for first in range(0, count, together):
            part = self.panels[first : first + together]
            right = room[: part.size].reshape(depth, len(part), PANEL)
            right[...] = part.swapaxes(0, 1)
            start = first * PANEL
            end = min(start + len(part) * PANEL, self.num_columns)
            yield slice(start, end), right.reshape(depth, -1)[:, : end - start]


def multiply(x: FloatArray, panels: FloatArray, height: int) -> FloatArray:
    """x [..., T, in] times panels [..., P, in, 64] -> [..., T, 64 P], by BLAS calls of `height` rows and one panel."""
    *stack, num_rows, depth = x.shape
    num_panels, count = panels.shape[-3], -(-num_rows // height)
    left = x
    if num_rows != count * height:
        left = np.zeros((*stack, count * height, depth), np.float32)
        left[..., :num_rows, :] = x
    out = np.empty((*stack, count, height, num_panels, PANEL), np.float32)
    left = left.reshape(*stack, 1, count, height, depth)
    np.matmul(left, panels[..., None, :, :], out=out.swapaxes(-2, -3).swapaxes(-3, -4))
    return out.reshape(*stack, count * height, num_panels * PANEL)[..., :num_rows, :]


def panels_of(right: FloatArray, depth: int) -> FloatArray:
    """Matrices [..., in, out] laid out in panels [..., P, depth, 64], with zeros behind the last row and column."""
    *stack, rows, width = right.shape
    whole = width - width % PANEL
    panels = np.zeros((*stack, -(-width // PANEL), depth, PANEL), np.float32)
    full = right[..., :whole].reshape(*stack, rows, whole // PANEL, PANEL)
    panels[..., : whole // PANEL, :rows, :] = full.swapaxes(-2, -3)
    panels[..., whole // PANEL :, :rows, : width - whole] = right[..., None, :, whole:]
    return panels


def height_for(num_rows: int) -> int:
    """Rows of one BLAS call where there are this many: BLAS is at its best with 2 and with 4."""
    return 2 if num_rows == 1 else 4
