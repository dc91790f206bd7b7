"""Keeps what was last made from some bytes of memory, because the next command often needs the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class LastMade:
    """Keeps one thing."""

    def __init__(self) -> None:
        self._key: Any = None
        self._source = b""
        self._made: Any = None

    def get(self, key: tuple[Any, ...], source: bytes, make: Callable[[], T]) -> T:
        """The result of `make`, which must depend only on `key` and the bytes `source`. It must not be written to."""
        if key != self._key or source != self._source:
            self._key = self._made = None  # freed first, so that both need not fit into memory together
            self._made = make()
            self._key, self._source = key, source
        made: T = self._made
        return made
