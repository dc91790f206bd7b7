"""Sequences and the ids of the pages that they hold: admission, growth, fork, copy on write, prefix sharing (as vLLM's
BlockSpaceManager and KVCacheManager)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from enum import Enum, auto

from kv.errors import KVError
from kv.pages.allocator import PageAllocator
from kv.pages.block_table import BlockTable
from kv.pages.page import Hash, PageKey, digest, key_chain, next_key

Copies = list[tuple[int, int]]
"""Pages whose content must be copied before the next write: (source, destination)."""


class Admission(Enum):
    """Whether a sequence can be admitted."""

    OK = auto()
    LATER = auto()
    """Too few pages are free now."""
    NEVER = auto()
    """It needs more pages than the pool has without its watermark, so waiting does not help."""


class BlockManager:
    """The block tables of many sequences that share one pool of pages.

    watermark_pages     pages that stay free when a sequence is admitted, so that running sequences can grow
    sharing             whether published pages are found and shared
    """

    def __init__(
        self,
        num_pages: int,
        page_size: int,
        watermark_pages: int = 0,
        sharing: bool = True,
        hash_function: Hash = digest,
    ) -> None:
        if page_size < 1:
            raise KVError(f"page_size is {page_size}: it must be at least 1")
        if not 0 <= watermark_pages < num_pages:
            raise KVError(
                f"watermark_pages is {watermark_pages}: it must be from 0 to {num_pages - 1}, below the pool's size"
            )
        self.page_size = page_size
        self.allocator = PageAllocator(num_pages)
        self.tables: dict[Hashable, BlockTable] = {}
        self._watermark = watermark_pages
        self._sharing = sharing
        self._hash_function = hash_function

    def __repr__(self) -> str:
        return f"<BlockManager: {self.summary}>"

    @property
    def summary(self) -> str:
        """How many pages and sequences it holds, in words."""
        used, pages = self.allocator.num_used, self.allocator.num_pages
        return f"{used} of {pages} pages of {self.page_size} tokens used, sequences: {len(self.tables)}"

    @property
    def max_tokens(self) -> int:
        """Number of tokens of the longest sequence that can be admitted."""
        return (self.allocator.num_pages - self._watermark) * self.page_size

    def admission(self, tokens: Sequence[int], salt: str = "") -> Admission:
        """Whether a sequence that starts with these tokens can be admitted."""
        return self._admission(len(tokens), self._hits(tokens, salt))

    def allocate(self, seq: Hashable, tokens: Sequence[int], salt: str = "") -> BlockTable:
        """Admits a sequence: it shares the longest cached prefix of full pages and takes new pages for the rest.

        At least one token is left to compute, because its output is needed. So if the whole prompt is cached, its last
        page is not shared. Raises KVError if the sequence exists or does not fit."""
        self._require_unknown(seq)
        hits = self._hits(tokens, salt)
        state = self._admission(len(tokens), hits)
        if state is not Admission.OK:
            advice = "free or preempt a sequence" if state is Admission.LATER else "use a larger pool"
            raise KVError(
                f"sequence {seq!r} of {len(tokens)} tokens does not fit, {self.allocator.num_free} pages are "
                f"free: {advice}"
            )
        shared = list(hits)
        fresh = self.allocator.take(self._num_pages(len(tokens)) - len(hits), shared)
        table = BlockTable(
            self.page_size,
            pages=shared + fresh,
            length=len(tokens),
            num_cached=len(hits) * self.page_size,
            keys=list(hits.values()),
            salt=salt,
        )
        self.tables[seq] = table
        return table

    def can_append(self, seq: Hashable, num_tokens: int) -> bool:
        """Whether append(seq, num_tokens) would find enough free pages."""
        return self.allocator.can_take(self._growth(self._table(seq), num_tokens))

    def append(self, seq: Hashable, num_tokens: int) -> Copies:
        """Adds slots for `num_tokens` more positions. A last page that is shared and partly filled is first replaced by
        a copy (copy on write). -> the copies to make. Raises KVError if too few pages are free."""
        table = self._table(seq)
        if num_tokens < 1:
            raise KVError(f"cannot append {num_tokens} tokens to sequence {seq!r}: give at least 1")
        fresh = self.allocator.take(self._growth(table, num_tokens))
        copies: Copies = []
        if table.wasted_slots:
            last = table.pages[-1]
            if self.allocator.ref_count(last) > 1:
                table.pages[-1] = fresh.pop(0)
                copies.append((last, table.pages[-1]))
                self.allocator.release([last])
            else:
                self.allocator.forget(last)
        table.pages += fresh
        table.length += num_tokens
        return copies

    def publish(self, seq: Hashable, tokens: Sequence[int]) -> None:
        """Allows others to share the full pages of `tokens`, the sequence's first tokens, which must be computed."""
        table = self._table(seq)
        if len(tokens) > table.length:
            raise KVError(
                f"sequence {seq!r} has {table.length} slots, not the {len(tokens)} tokens to publish: append first"
            )
        if not self._sharing:
            return
        known = len(table.keys)
        unhashed = tokens[known * self.page_size :]
        for key in key_chain(
            unhashed, self.page_size, table.keys[-1] if known else None, table.salt, self._hash_function
        ):
            page = table.pages[len(table.keys)]
            published = self.allocator.key(page)
            if published is None:
                self.allocator.publish(page, key)
            table.keys.append(published or key)

    def fork(self, parent: Hashable, child: Hashable) -> BlockTable:
        """Adds a second sequence with the same content. Every page is shared; none is copied or taken."""
        table = self._table(parent)
        self._require_unknown(child)
        self.allocator.take(0, table.pages)
        self.tables[child] = table.copy()
        return self.tables[child]

    def truncate(self, seq: Hashable, length: int) -> None:
        """Removes the slots from position `length` on."""
        table = self._table(seq)
        if not 0 <= length <= table.length:
            raise KVError(
                f"cannot truncate sequence {seq!r} to {length} tokens: give a length from 0 to {table.length}"
            )
        kept = self._num_pages(length)
        self.allocator.release(table.pages[kept:])
        del table.pages[kept:]
        del table.keys[length // self.page_size :]
        table.length = length
        table.num_cached = min(table.num_cached, length)

    def free(self, seq: Hashable) -> None:
        """Removes a sequence and releases its pages. Pages with a key can still be found until they are reused."""
        self.allocator.release(self._table(seq).pages)
        del self.tables[seq]

    def _num_pages(self, num_tokens: int) -> int:
        return -(-num_tokens // self.page_size)

    def _growth(self, table: BlockTable, num_tokens: int) -> int:
        """Number of pages that an append takes, including one for copying a shared last page."""
        shared = table.wasted_slots > 0 and self.allocator.ref_count(table.pages[-1]) > 1
        return self._num_pages(table.length + num_tokens) - len(table.pages) + shared

    def _admission(self, num_tokens: int, hits: dict[int, PageKey]) -> Admission:
        needed = self._num_pages(num_tokens)
        if num_tokens > self.max_tokens:
            return Admission.NEVER
        fits = self.allocator.can_take(needed - len(hits) + self._watermark, list(hits))
        return Admission.OK if fits else Admission.LATER

    def _hits(self, tokens: Sequence[int], salt: str) -> dict[int, PageKey]:
        """The pages of the longest cached prefix, in order, each with its key. The prompt's last token is never part of
        it.

        Each key is made from the key that was found for the page before, not from an equal one. So each comparison of
        keys stops after one page."""
        hits: dict[int, PageKey] = {}
        parent: PageKey | None = None
        size = self.page_size
        whole = (len(tokens) - 1) // size * size if self._sharing else 0
        for start in range(0, whole, size):
            wanted = next_key(parent, tokens[start : start + size], salt, self._hash_function)
            hit = self.allocator.find(wanted)
            if hit is None:
                break
            page, parent = hit
            hits[page] = parent
        return hits

    def _table(self, seq: Hashable) -> BlockTable:
        if seq not in self.tables:
            raise KVError(f"sequence {seq!r} is not in the cache: allocate or fork it first")
        return self.tables[seq]

    def _require_unknown(self, seq: Hashable) -> None:
        if seq in self.tables:
            raise KVError(f"sequence {seq!r} exists already: free it first, or use another name")
