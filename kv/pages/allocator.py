"""Physical pages as ids with reference counts, without arrays, layers or tokens (as vLLM v1's BlockPool)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from kv.errors import KVError
from kv.pages.page import PageKey

NULL_PAGE = 0
"""The page of padding entries in tables. It is never handed out and never counted."""


class PageAllocator:
    """Hands out the page ids 1 to num_pages and takes them back.

    A free page keeps its key and its content until it is handed out again. Pages are reused in the order in which they
    were freed, so the least recently used first. Pages without a key cannot be found again and are reused before all
    others."""

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise KVError(f"a pool of {num_pages} pages holds nothing: it needs at least 1 page")
        self.num_pages = num_pages
        self._ref_counts = [0] * (num_pages + 1)
        self._free = OrderedDict.fromkeys(range(1, num_pages + 1))  # removes from the middle in O(1)
        self._keys: dict[int, PageKey] = {}
        self._pages_by_hash: dict[bytes, dict[int, PageKey]] = {}

    @property
    def num_free(self) -> int:
        """Number of pages that nobody holds, including those with a key."""
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
        """(page, the key that it was published with) of a page that holds exactly this prefix, in use or free; None if
        there is none."""
        for page, candidate in self._pages_by_hash.get(key.hash, {}).items():
            if candidate.same_content(key):
                return page, candidate
        return None

    def can_take(self, num_new: int, shared: Sequence[int] = ()) -> bool:
        """Whether take(num_new, shared) would succeed. Shared pages that are free use up free pages too."""
        revived = sum(self._ref_counts[page] == 0 for page in shared)
        return num_new <= len(self._free) - revived

    def take(self, num_new: int, shared: Sequence[int] = ()) -> list[int]:
        """Adds a reference to each page of `shared` and takes `num_new` free pages. -> the ids of the new pages. Raises
        KVError if too few are free; then nothing changes."""
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
        """Removes one reference to each page. The last pages are freed first, so the end of a prefix is reused before
        its start. Raises KVError for a page that is not in use or is given twice."""
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
        """Makes a full, computed page that is in use findable by its key. Two pages may hold the same content, since a
        sequence's page ids never change."""
        assert self._ref_counts[page] > 0 and page not in self._keys
        self._keys[page] = key
        self._pages_by_hash.setdefault(key.hash, {})[page] = key

    def forget(self, page: int) -> None:
        """Makes a page unfindable, because its content will change."""
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
