"""The ifmap of a convolution in the form of the matrix that the kernels multiply."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from npusim.insn.window import Window
from npusim.mem.lmem import TensorLmem
from npusim.mem.tensor import Shape
from npusim.state import State

Block = tuple[slice, NDArray[np.float32]]
"""Rows of the result, and a matrix of shape (kh * kw * ic, n * rows * ow): a column has, for one element of these rows,
the elements of the ifmap in its window, in the order of summation."""

_BLOCK = 1 << 18
"""Elements of one block, which stays in a processor's cache."""
_MOST_KEPT = 1 << 20
"""Elements of all blocks that are kept for the next convolution."""


class Columns:
    """Blocks of columns of one ifmap. They are kept until those of another ifmap are needed: a layer that is divided by
    channels reads the same ifmap tens of times."""

    def __init__(self, state: State, opd0: TensorLmem, window: Window, fill: float, ofmap: Shape) -> None:
        self._opd0, self._window, self._fill, self._ofmap = opd0, window, fill, ofmap
        self._key = (opd0.tensor, window, fill, ofmap[2:])
        count = math.prod(window.kernel) * opd0.shape[1] * ofmap[0] * ofmap[3]
        self._num_rows = max(1, _BLOCK // count)
        self._kept = state.columns if count * ofmap[2] <= _MOST_KEPT else None

    def blocks(self, values: Callable[[], NDArray[np.float32]]) -> Iterable[Block]:
        """`values` gives the ifmap as numbers, shape (n, c, h, w)."""
        if self._kept is None:
            return self._made(values())
        return self._kept.get(self._key, self._opd0.held(), lambda: list(self._made(values())))

    def _made(self, values: NDArray[np.float32]) -> Iterator[Block]:
        extended = self._window.extend(values, self._fill)
        taps = self._window.taps(extended, self._ofmap[2:]).transpose(0, 1, 3, 2, 4, 5)
        count = math.prod(taps.shape[:3])
        for first in range(0, self._ofmap[2], self._num_rows):
            rows = slice(first, first + self._num_rows)
            yield rows, taps[..., rows, :].reshape(count, -1)
