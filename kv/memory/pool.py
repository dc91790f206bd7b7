"""The arrays behind the page ids: keys and values of every page in all layers, in float32, bf16 or int8."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from kv.errors import KVError
from kv.memory.geometry import Geometry
from kv.pages.allocator import NULL_PAGE
from kv.pages.block_manager import Copies

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class Layout(Enum):
    """Order of a layer's pool in memory: what is contiguous decides how many runs a gather of pages makes."""

    HEAD_MAJOR = "head_major"
    """[kv_heads, pages, page_size, head_dim]: a page of one head is one run, and so are neighbouring pages."""
    TOKEN_MAJOR = "token_major"
    """[pages, page_size, kv_heads, head_dim]: a page of all heads is one run, a page of one head is page_size runs
    (Quest's pool)."""


@dataclass(frozen=True)
class Storage:
    """How an element is stored. Scaled storage has one float32 scale for the keys and one for the values of each page,
    layer and head."""

    name: str
    dtype: np.dtype[Any]
    scaled: bool = False


FLOAT32 = Storage("float32", np.dtype(np.float32))
BF16 = Storage("bf16", np.dtype(ml_dtypes.bfloat16))
INT8 = Storage("int8", np.dtype(np.int8), scaled=True)
STORAGES = (FLOAT32, BF16, INT8)

_PLACES = {Layout.HEAD_MAJOR: (0, 1, 2, 3, 4), Layout.TOKEN_MAJOR: (0, 3, 1, 2, 4)}
"""Where (layer, head, page, slot, dim) are found in memory order."""


class PagePool:
    """Keys and values of num_pages pages and of the null page, which is page 0 and all zeros.

    Whatever the layout, arrays are addressed as [layer, kv_head, page, slot, head_dim]. An int8 page is quantised once,
    when its last slot is written; until then it is kept in float32 beside the pool (as KIVI keeps its residual), so
    that what is stored does not depend on the sizes of the appends that filled it."""

    def __init__(
        self, geometry: Geometry, num_pages: int, storage: Storage = FLOAT32, layout: Layout = Layout.HEAD_MAJOR
    ) -> None:
        self.geometry = geometry
        self.num_pages = num_pages
        self.storage = storage
        self.layout = layout
        g = geometry
        shape = (g.num_layers, g.num_kv_heads, num_pages + 1, g.page_size, g.head_dim)
        memory_order = [axis for axis, _ in sorted(enumerate(_PLACES[layout]), key=lambda pair: pair[1])]
        memory = np.zeros((2, *(shape[axis] for axis in memory_order)), storage.dtype)
        self._kv = memory.transpose(0, *(1 + place for place in _PLACES[layout]))
        self._scales = np.ones((2, g.num_layers, g.num_kv_heads, num_pages + 1), np.float32) if storage.scaled else None
        self._open: dict[int, FloatArray] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes of all pages and scales, and of the pages that are open in float32."""
        scales = 0 if self._scales is None else self._scales.nbytes
        return self._kv.nbytes + scales + sum(page.nbytes for page in self._open.values())

    def write(self, layer: int, slots: IntArray, k: FloatArray, v: FloatArray) -> None:
        """Store T tokens of one layer at flat slots. k, v: float32 [T, kv_heads, head_dim]; slots of a page
        ascending."""
        pages, offsets = np.divmod(slots, self.geometry.page_size)
        if self._scales is None:
            self._kv[0, layer, :, pages, offsets] = k
            self._kv[1, layer, :, pages, offsets] = v
            return
        kv = np.stack([k, v])
        starts = np.flatnonzero(np.diff(pages, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(pages)], strict=True):
            self._write_scaled(layer, int(pages[start]), int(offsets[start]), kv[:, start:stop].swapaxes(1, 2))

    def read(
        self, layer: int, pages: IntArray, heads: IntArray | None = None, scratch: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Keys and values of pages as float32 [rows, P, page_size, head_dim].

        pages   int [P]: of every KV head, as views where float32 pages are consecutive; or int [rows, P], row r of KV
                head heads[r]
        scratch float32 [2 * rows * P * page_size * head_dim] that head-major float32 pages are gathered into
        """
        if heads is None:
            index = _of_all_heads(pages)
        else:
            if scratch is not None and self.storage is FLOAT32 and self.layout is Layout.HEAD_MAJOR:
                return self._take(layer, heads[:, None] * (self.num_pages + 1) + pages, scratch)
            index = (heads[:, None], pages)
        k, v = (self._as_float(which, layer, index) for which in (0, 1))
        self._overlay_open(layer, pages, heads, k, v)
        return k, v

    def read_keys(self, layer: int, pages: IntArray) -> FloatArray:
        """The keys that read would return for int [P] pages."""
        return self.read(layer, pages)[0] if self._open else self._as_float(0, layer, _of_all_heads(pages))

    def read_slots(self, layer: int, slots: IntArray, heads: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Keys and values of single tokens as float32 [rows, N, head_dim]; slots is [N] or [rows, N] as pages are in
        read."""
        heads = np.arange(self.geometry.num_kv_heads) if heads is None else heads
        pages, offsets = np.divmod(np.broadcast_to(slots, (len(heads), slots.shape[-1])), self.geometry.page_size)
        index = (heads[:, None], pages, offsets)
        k, v = (self._kv[which, layer][index].astype(np.float32, copy=False) for which in (0, 1))
        if self._scales is not None:
            k *= self._scales[0, layer][index[:2]][..., None]
            v *= self._scales[1, layer][index[:2]][..., None]
        self._overlay_open(layer, pages, heads, k, v, offsets)
        return k, v

    def _take(self, layer: int, flat_pages: IntArray, scratch: FloatArray) -> tuple[FloatArray, FloatArray]:
        g = self.geometry
        page_size = g.page_size * g.head_dim
        taken = scratch.reshape(2, flat_pages.size, page_size)
        for which in (0, 1):
            flat = self._kv[which, layer].reshape(-1, page_size)
            np.take(
                flat, flat_pages.ravel(), axis=0, out=taken[which], mode="clip"
            )  # the default mode would copy through a buffer
        k, v = taken.reshape(2, *flat_pages.shape, g.page_size, g.head_dim)
        return k, v

    def _overlay_open(
        self,
        layer: int,
        pages: IntArray,
        heads: IntArray | None,
        k: FloatArray,
        v: FloatArray,
        offsets: IntArray | None = None,
    ) -> None:
        """Put the float32 content of open pages over what was read from the pool."""
        for page in self._open.keys() & set(pages.ravel().tolist()) if self._open else ():
            rows, places = np.nonzero(np.broadcast_to(pages, k.shape[:2]) == page)
            index: tuple[Any, ...] = (slice(None), layer, rows if heads is None else heads[rows])
            k[rows, places], v[rows, places] = self._open[page][
                index if offsets is None else (*index, offsets[rows, places])
            ]

    def copy(self, copies: Copies, target: PagePool | None = None) -> None:
        """Copy whole pages, here or into another pool of the same geometry and storage, all layers at once."""
        if not copies:
            return
        target = target or self
        source, destination = (list(ids) for ids in zip(*copies, strict=True))
        target._kv[:, :, :, destination] = self._kv[:, :, :, source]
        if self._scales is not None and target._scales is not None:
            target._scales[..., destination] = self._scales[..., source]
        for page, twin in copies:
            target._open.pop(twin, None)
            if page in self._open:
                target._open[twin] = self._open[page].copy()

    def close(self, pages: IntArray) -> None:
        """Drop the float32 copies of pages that nobody holds any more."""
        for page in pages.tolist():
            self._open.pop(page, None)

    def poison(self, pages: IntArray) -> None:
        """Fill pages with NaN (int8: with its lowest value), so that a read of a page that nobody holds shows."""
        if (pages == NULL_PAGE).any():
            raise KVError("the null page must stay zero: poison pages from 1 on")
        self._kv[:, :, :, pages] = -128 if self._scales is not None else np.nan
        self.close(pages)

    def _as_float(self, which: int, layer: int, index: tuple[Any, ...]) -> FloatArray:
        stored = self._kv[which, layer][index]
        if self._scales is not None:
            return stored * self._scales[which, layer][index][..., None, None]
        return stored.astype(np.float32, copy=False)

    def _write_scaled(self, layer: int, page: int, offset: int, kv: FloatArray) -> None:
        """Write kv, float32 [2, kv_heads, n, head_dim], into a page; quantise this layer's page when its last slot is
        written."""
        assert self._scales is not None
        stop = offset + kv.shape[2]
        if offset == 0 and layer == 0:
            self._open.pop(page, None)
        if page not in self._open:
            self._open[page] = self._kv[:, :, :, page] * self._scales[..., page, None, None]
        page_kv = self._open[page][:, layer]
        page_kv[:, :, offset:stop] = kv
        if stop < self.geometry.page_size:
            return
        scales = np.abs(page_kv).max((-2, -1)) / np.float32(127)
        scales[scales == 0] = 1
        self._scales[:, layer, :, page] = scales
        self._kv[:, layer, :, page] = np.rint(page_kv / scales[..., None, None])
        page_kv[...] = self._kv[:, layer, :, page] * scales[..., None, None]
        if layer == self.geometry.num_layers - 1:
            del self._open[page]


def _of_all_heads(pages: IntArray) -> tuple[Any, ...]:
    """The index of pages in [kv_heads, pages]: a slice where they are consecutive."""
    first, last = (int(pages[0]), int(pages[-1])) if len(pages) else (0, -1)
    consecutive = last - first + 1 == len(pages) and bool((np.diff(pages) == 1).all())
    return slice(None), slice(first, last + 1) if consecutive else pages
