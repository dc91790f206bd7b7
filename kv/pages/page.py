"""The key by which a full page is found: a hash of its tokens and of the key of the page before it (as in vLLM v1 and
nano-vllm)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

Hash = Callable[[bytes], bytes]


def digest(content: bytes) -> bytes:
    """16 bytes of BLAKE2b. It cannot be forged, so nobody can make a prompt that hits another user's page."""
    return blake2b(content, digest_size=16).digest()


@dataclass(frozen=True, eq=False)
class PageKey:
    """The content of a full page: its tokens, the key of the page before it, and, only in the first page, the salt that
    separates users."""

    hash: bytes
    tokens: tuple[int, ...]
    parent: PageKey | None
    salt: str

    def same_content(self, other: PageKey) -> bool:
        """Whether both are keys of the same whole prefix. The tokens decide, since hashes may collide (openvino.genai
        issue 3722).

        The comparison stops at the first key that both chains have as the same object. So a prefix that was itself
        found costs one step."""
        mine: PageKey | None = self
        theirs: PageKey | None = other
        while mine is not theirs:
            if mine is None or theirs is None or mine.tokens != theirs.tokens or mine.salt != theirs.salt:
                return False
            mine, theirs = mine.parent, theirs.parent
        return True


def next_key(parent: PageKey | None, tokens: Sequence[int], salt: str = "", hash_function: Hash = digest) -> PageKey:
    """The key of the page that holds `tokens` after the page of `parent`. Keys of equal prefixes have equal hashes."""
    salt = salt if parent is None else ""
    content = (parent.hash if parent else b"") + np.asarray(tokens, np.int64).tobytes() + salt.encode()
    return PageKey(hash_function(content), tuple(tokens), parent, salt)


def key_chain(
    tokens: Sequence[int], page_size: int, parent: PageKey | None = None, salt: str = "", hash_function: Hash = digest
) -> Iterator[PageKey]:
    """The keys of the full pages of `tokens`, in order. A partly filled last page has none."""
    for start in range(0, len(tokens) - page_size + 1, page_size):
        parent = next_key(parent, tokens[start : start + page_size], salt, hash_function)
        yield parent
