"""What was made last from some bytes of memory: the command that follows often needs the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class LastMade:
    """Holds one thing."""

    def __init__(self) -> None:
        self._key: Any = None
        self._source = b""
        self._made: Any = None

    def get(self, key: tuple[Any, ...], source: bytes, make: Callable[[], T]) -> T:
        """What `make` gives, which depends on `key` and the bytes `source` alone and is not to be written to."""
        if key != self._key or source != self._source:
            self._key = self._made = None  # what is held and what takes its place need not fit beside each other
            self._made = make()
            self._key, self._source = key, source
        made: T = self._made
        return made
