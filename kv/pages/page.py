"""The key under which a full page is found again: a hash of its tokens chained to that of the page before it (vLLM v1,
nano-vllm)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

Hash = Callable[[bytes], bytes]


def digest(content: bytes) -> bytes:
    """16 bytes of BLAKE2b: not forgeable, so one user's prompt cannot be made to hit another's page."""
    return blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class PageKey:
    """What a full page holds: its tokens, the key of the page before it, and the salt that separates tenants (in the
    first page only)."""

    hash: bytes
    tokens: tuple[int, ...]
    parent: PageKey | None
    salt: str

    def same_content(self, other: PageKey) -> bool:
        """Whether both stand for the same whole prefix. A hash may collide (openvino.genai issue 3722); the tokens
        decide.

        The walk stops at the first page that both keys share as an object, so a prefix that was itself a hit costs one
        step."""
        mine: PageKey | None = self
        theirs: PageKey | None = other
        while mine is not theirs:
            if mine is None or theirs is None or mine.tokens != theirs.tokens or mine.salt != theirs.salt:
                return False
            mine, theirs = mine.parent, theirs.parent
        return True


def next_key(parent: PageKey | None, tokens: Sequence[int], salt: str = "", hash_function: Hash = digest) -> PageKey:
    """The key of the page that holds `tokens` after `parent`. Equal hashes mean equal prefixes, but for collisions."""
    salt = salt if parent is None else ""
    content = (parent.hash if parent else b"") + np.asarray(tokens, np.int64).tobytes() + salt.encode()
    return PageKey(hash_function(content), tuple(tokens), parent, salt)


def key_chain(
    tokens: Sequence[int], page_size: int, parent: PageKey | None = None, salt: str = "", hash_function: Hash = digest
) -> Iterator[PageKey]:
    """The keys of the full pages of `tokens`, in order; a partly filled last page has none."""
    for start in range(0, len(tokens) - page_size + 1, page_size):
        parent = next_key(parent, tokens[start : start + page_size], salt, hash_function)
        yield parent
