"""The arrays that page ids stand for: keys and values of every page in all layers, in float32 or bf16."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from kv.arrays import FloatArray, IntArray
from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.pages.allocator import NULL_PAGE
from kv.pages.block_manager import Copies

FLOAT32: np.dtype[Any] = np.dtype(np.float32)
BF16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
DTYPES = (FLOAT32, BF16)
"""Types in which elements can be stored."""


class PagePool:
    """Keys and values of num_pages pages and of the null page, which is page 0 and all zeros.

    They are one array [2, layers, kv_heads, pages, page_size, head_dim]. So a page of one head is contiguous in memory,
    and so are neighbouring pages."""

    def __init__(self, geometry: Geometry, num_pages: int, dtype: np.dtype[Any] = FLOAT32) -> None:
        g = geometry
        self.geometry, self.num_pages, self.dtype = geometry, num_pages, dtype
        self._kv = np.zeros((2, g.num_layers, g.num_kv_heads, num_pages + 1, g.page_size, g.head_dim), dtype)

    @property
    def num_bytes(self) -> int:
        """Bytes of all pages."""
        return self._kv.nbytes

    def write(self, layer: int, slots: IntArray, k: FloatArray, v: FloatArray) -> None:
        """Stores T tokens of one layer. k, v: float32 [T, kv_heads, head_dim]; slots: int64 [T], numbers page *
        page_size + offset, ascending within a page."""
        pages, offsets = np.divmod(slots, self.geometry.page_size)
        self._kv[0, layer, :, pages, offsets] = k
        self._kv[1, layer, :, pages, offsets] = v

    def read(
        self, layer: int, pages: IntArray, heads: IntArray | None = None, scratch: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Keys and values of pages as float32 [rows, P, page_size, head_dim].

        pages   int64 [P]: these pages of every KV head, as views if they are float32 and consecutive. Or int64 [rows,
                P]: row r has pages of KV head heads[r]
        scratch float32 [2 * rows * P * page_size * head_dim], memory for gathering float32 pages
        """
        if heads is None:
            index = _of_all_heads(pages)
        elif scratch is not None and self.dtype == FLOAT32:
            return self._take(layer, heads[:, None] * (self.num_pages + 1) + pages, scratch)
        else:
            index = (heads[:, None], pages)
        return self._as_float(0, layer, index), self._as_float(1, layer, index)

    def read_keys(self, layer: int, pages: IntArray) -> FloatArray:
        """The keys that read returns for int64 [P] pages."""
        return self._as_float(0, layer, _of_all_heads(pages))

    def read_slots(self, layer: int, slots: IntArray, heads: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Keys and values of single tokens as float32 [rows, N, head_dim]. `slots` is int64 [N] or [rows, N], as
        `pages` in read."""
        heads = np.arange(self.geometry.num_kv_heads) if heads is None else heads
        pages, offsets = np.divmod(np.broadcast_to(slots, (len(heads), slots.shape[-1])), self.geometry.page_size)
        index = (heads[:, None], pages, offsets)
        return self._as_float(0, layer, index), self._as_float(1, layer, index)

    def copy(self, copies: Copies) -> None:
        """Copies whole pages in all layers."""
        if copies:
            source, destination = (list(ids) for ids in zip(*copies, strict=True))
            self._kv[:, :, :, destination] = self._kv[:, :, :, source]

    def poison(self, pages: IntArray) -> None:
        """Fills pages with NaN, to make a read of a page that nobody holds visible. Raises KVError for the null
        page."""
        if (pages == NULL_PAGE).any():
            raise KVError("the null page must stay zero: poison pages from 1 on")
        self._kv[:, :, :, pages] = np.nan

    def _take(self, layer: int, flat_pages: IntArray, scratch: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = self.geometry
        page_size = g.page_size * g.head_dim
        taken = scratch.reshape(2, flat_pages.size, page_size)
        for which in (0, 1):
            flat = self._kv[which, layer].reshape(-1, page_size)
            # mode="clip", since the default mode copies through a buffer
            np.take(flat, flat_pages.ravel(), axis=0, out=taken[which], mode="clip")
        k, v = taken.reshape(2, *flat_pages.shape, g.page_size, g.head_dim)
        return k, v

    def _as_float(self, which: int, layer: int, index: tuple[Any, ...]) -> FloatArray:
        return self._kv[which, layer][index].astype(np.float32, copy=False)


def _of_all_heads(pages: IntArray) -> tuple[Any, ...]:
    """The index of pages in an array [kv_heads, pages, ...]; with a slice if the pages are consecutive."""
    first, last = (int(pages[0]), int(pages[-1])) if len(pages) else (0, -1)
    consecutive = last - first + 1 == len(pages) and bool((np.diff(pages) == 1).all())
    return slice(None), slice(first, last + 1) if consecutive else pages
