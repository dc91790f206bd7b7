"""A sequence's map from logical blocks to physical pages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from kv.arrays import IntArray
from kv.pages.page import PageKey


@dataclass
class BlockTable:
    """Block i of the sequence is in page pages[i]. Position t is in the pool's slot pages[t // page_size] * page_size +
    t % page_size.

    length      number of positions that have a slot; only the last page may be partly filled
    num_cached  number of positions that were found in the prefix cache when the sequence was admitted
    keys        keys of the first full pages, those that are computed and whose tokens are known
    """

    page_size: int
    pages: list[int] = field(default_factory=list)
    length: int = 0
    num_cached: int = 0
    keys: list[PageKey] = field(default_factory=list)
    salt: str = ""

    def slots(self, start: int, stop: int) -> IntArray:
        """The pool's slot of each position in [start, stop): int64 [stop - start]."""
        positions = np.arange(start, stop)
        first = start // self.page_size
        pages = np.asarray(self.pages[first : -(-stop // self.page_size)], np.int64)
        return pages[positions // self.page_size - first] * self.page_size + positions % self.page_size

    @property
    def wasted_slots(self) -> int:
        """Number of unused slots of the last page, at most page_size - 1."""
        return len(self.pages) * self.page_size - self.length

    def copy(self) -> BlockTable:
        return replace(self, pages=list(self.pages), keys=list(self.keys))
