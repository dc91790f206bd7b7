"""Physical pages as ids and reference counts: no arrays, no layers, no tokens (vLLM v1, BlockPool)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kv.errors import KVError
from kv.pages.page import PageKey

NULL_PAGE = 0
"""Stands for "no page" in padded tables; never handed out, never counted."""


class PageAllocator:
    """Hands out the page ids 1..num_pages and takes them back.

    A free page keeps its key, and so its content, until it is handed out again: pages are reused in the order in which
    they were freed, which is least recently used first. Pages without a key have nothing to lose and are reused before
    all others."""

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise KVError(f"a pool of {num_pages} pages holds nothing: it needs at least 1 page")
        self.num_pages = num_pages
        self._ref_counts = [0] * (num_pages + 1)
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(
            range(1, num_pages + 1)
        )  # a linked list: O(1) from the middle
        self._keys: dict[int, PageKey] = {}
        self._pages_by_hash: dict[bytes, dict[int, PageKey]] = {}

    @property
    def num_free(self) -> int:
        """Pages that nobody holds, those with a key included."""
        return len(self._free)

    @property
    def num_used(self) -> int:
        return self.num_pages - len(self._free)

    def free_order(self) -> list[int]:
        """Free pages in the order in which they will be handed out."""
        return list(self._free)

    def ref_count(self, page: int) -> int:
        return self._ref_counts[page]

    def key(self, page: int) -> PageKey | None:
        """The key under which a page can be found, or None."""
        return self._keys.get(page)

    def find(self, key: PageKey) -> tuple[int, PageKey] | None:
        """A page that holds exactly this prefix, in use or free, with the key it was published under, or None."""
        for page, candidate in self._pages_by_hash.get(key.hash, {}).items():
            if candidate.same_content(key):
                return page, candidate
        return None

    def can_take(self, num_new: int, shared: Sequence[int] = ()) -> bool:
        """Whether take(num_new, shared) would succeed: free pages that are shared leave the queue too."""
        revived = sum(self._ref_counts[page] == 0 for page in shared)
        return num_new <= len(self._free) - revived

    def take(self, num_new: int, shared: Sequence[int] = ()) -> list[int]:
        """One more reference to each of `shared`, then num_new fresh pages, whose ids are returned. All or nothing:
        KVError if too few."""
        if not self.can_take(num_new, shared):
            raise KVError(
                f"{num_new} pages are needed and {len(self._free)} of {self.num_pages} are free: free or "
                "preempt a sequence"
            )
        for page in shared:
            if self._ref_counts[page] == 0:
                del self._free[page]
            self._ref_counts[page] += 1
        return [self._pop() for _ in range(num_new)]

    def release(self, pages: Sequence[int]) -> None:
        """Drop one reference to each page. The last pages are freed first, so the tail of a prefix is reused before its
        head."""
        for page in pages:
            if not 0 < page <= self.num_pages or self._ref_counts[page] == 0:
                raise KVError(f"page {page} is not in use: it cannot be freed (twice)")
        if len(set(pages)) != len(pages):
            raise KVError(f"pages {list(pages)} name a page twice: a sequence holds each of its pages once")
        without_key = []
        for page in reversed(pages):
            self._ref_counts[page] -= 1
            if self._ref_counts[page]:
                continue
            self._free[page] = None
            if page not in self._keys:
                without_key.append(page)
        for page in reversed(without_key):
            self._free.move_to_end(page, last=False)

    def publish(self, page: int, key: PageKey) -> None:
        """Let a full, computed page in use be found by its key. Two pages may hold the same content: ids never change
        once given out."""
        assert self._ref_counts[page] > 0 and page not in self._keys
        self._keys[page] = key
        self._pages_by_hash.setdefault(key.hash, {})[page] = key

    def forget(self, page: int) -> None:
        """Make a page unfindable, since its content is about to change."""
        key = self._keys.pop(page, None)
        if key is None:
            return
        twins = self._pages_by_hash[key.hash]
        del twins[page]
        if not twins:
            del self._pages_by_hash[key.hash]

    def _pop(self) -> int:
        page, _ = self._free.popitem(last=False)
        self.forget(page)
        self._ref_counts[page] = 1
        return page
