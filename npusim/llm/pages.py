"""Pages of keys and values in GMEM, and the choice of those that a step attends to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kv.policies.table import choose, table_of

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class PageLayout:
    """Head-major pages. Keys lie dim-major, [head_dim, page_size], so that a page is one descriptor into columns of a
    right-hand matrix; values lie token-major, [page_size, head_dim], so that a page is rows of one. Page 0 of each head
    is the null page, all zeros, which stands in for a slot that is not used."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    num_pages: int
    """Beside the null page."""
    page_size: int = 16
    itemsize: int = 2

    @property
    def page_bytes(self) -> int:
        """Of the keys, and of the values, of one page of one head."""
        return self.head_dim * self.page_size * self.itemsize

    @property
    def num_bytes(self) -> int:
        """Of keys and values of all layers."""
        return 2 * self.num_layers * self.num_kv_heads * (self.num_pages + 1) * self.page_bytes

    def offset(self, which: int, layer: int, head: int, page: int) -> int:
        """Of a page's first byte in the region; `which` is 0 for keys and 1 for values."""
        return (((layer * self.num_kv_heads + head) * 2 + which) * (self.num_pages + 1) + page) * self.page_bytes

    def key_offset(self, layer: int, head: int, page: int, slot: int) -> int:
        """Of the first element of a token's key; the next dimension is page_size elements on."""
        return self.offset(0, layer, head, page) + slot * self.itemsize

    def value_offset(self, layer: int, head: int, page: int, slot: int) -> int:
        return self.offset(1, layer, head, page) + slot * self.head_dim * self.itemsize

    def staged_offset(self, which: int, layer: int, head: int, slot: int, num_slots: int) -> int:
        """Of the page in a slot, where the CPU copies pages into one place: head after head, keys, then values."""
        return (((layer * self.num_kv_heads + head) * 2 + which) * num_slots + slot) * self.page_bytes


@dataclass(frozen=True)
class PageChoice:
    """What each KV head of one layer attends to: logical blocks int [kv_heads, slots], ascending, then -1; tokens valid
    in front."""

    blocks: IntArray
    num_valid: int


def every_block(num_kv_heads: int, num_slots: int, length: int, page_size: int) -> PageChoice:
    """All blocks of a sequence of `length` tokens, which must fit the slots."""
    count = -(-length // page_size)
    assert count <= num_slots, "the caller chooses where there are more blocks than slots"
    blocks = np.full((num_kv_heads, num_slots), -1, np.int64)
    blocks[:, :count] = np.arange(count)
    return PageChoice(blocks, length)


def best_blocks(scores: FloatArray, num_slots: int, length: int, page_size: int) -> PageChoice:
    """The last block and the highest-scored others, as kv.policies chooses. scores: float32 [kv_heads, blocks], one a
    block so far."""
    kept = choose(scores, min(num_slots, scores.shape[1]))
    table = table_of(kept, num_slots).units
    skipped = scores.shape[1] - int(kept[0].sum())
    return PageChoice(table, length - skipped * page_size)
