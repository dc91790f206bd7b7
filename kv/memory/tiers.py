"""Tiers of memory for pages: device, host, file. Pages move between them on demand, and every move is counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kv.errors import KVError

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Tier:
    """One kind of memory. The bandwidth is that of the link over which pages enter it.

    path    file that holds the pages, created when it is needed and removed by TieredPages.close; None for memory
    """

    name: str
    capacity_pages: int
    bandwidth_bytes_per_second: float
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.capacity_pages < 1 or self.bandwidth_bytes_per_second <= 0:
            raise KVError(
                f"tier {self.name!r} of {self.capacity_pages} pages at {self.bandwidth_bytes_per_second} B/s: "
                "both must be above 0"
            )


class Replacement(Enum):
    """Which page moves down if a tier is full."""

    LRU = "lru"
    """The page that was used longest ago."""
    LFU = "lfu"
    """The page that was used least often; of several, the one that was used longest ago."""


@dataclass
class Moves:
    """Counts of what entered a tier. A run is one transfer, from neighbouring places to neighbouring places."""

    pages: int = 0
    bytes: int = 0
    runs: int = 0
    seconds: float = 0.0


@dataclass
class _Level:
    """One tier's memory, and the place of each of its pages, in the order in which they were used."""

    tier: Tier
    array: Bytes
    free: list[int]
    place: OrderedDict[int, int] = field(default_factory=OrderedDict)
    moves: Moves = field(default_factory=Moves)
    hits: int = 0


class TieredPages:
    """Pages of a fixed number of bytes, by id, in tiers from fast to slow. A page that is needed moves to the top tier,
    and others move down to make room.

    A page is in one tier at a time. Pinned pages stay in the top tier.
    """

    def __init__(self, page_bytes: int, tiers: Iterable[Tier], replacement: Replacement = Replacement.LRU) -> None:
        if page_bytes < 1:
            raise KVError(f"page_bytes is {page_bytes}: it must be at least 1")
        self.page_bytes = page_bytes
        self.replacement = replacement
        self._levels = [
            _Level(tier, _memory(tier, page_bytes), list(range(tier.capacity_pages))[::-1]) for tier in tiers
        ]
        if not self._levels:
            raise KVError("there are no tiers: give at least one")
        self._uses: dict[int, int] = {}
        self._pinned: set[int] = set()

    def put(self, page: int, content: Bytes) -> None:
        """Stores a new page in the top tier. Raises KVError if every tier is full; then nothing changes."""
        if page in self._uses:
            raise KVError(f"page {page} is stored already: drop it first")
        content = np.ascontiguousarray(content).view(np.uint8).ravel()
        if content.size != self.page_bytes:
            raise KVError(f"page {page} has {content.size} bytes: this store takes pages of {self.page_bytes}")
        place = self._room(0, {page})
        top = self._levels[0]
        top.array[place] = content
        top.place[page] = place
        self._uses[page] = 1

    def get(self, pages: list[int]) -> Bytes:
        """Moves pages to the top tier. -> a copy of their bytes, uint8 [len(pages), page_bytes]. Raises KVError for a
        page that is in no tier, or for more pages than the top tier holds."""
        top = self._levels[0]
        wanted = set(pages)
        unknown = sorted(wanted - self._uses.keys())
        if unknown:
            raise KVError(f"page {unknown[0]} is in no tier: it was never put, or was dropped")
        if len(wanted | self._pinned) > top.tier.capacity_pages:
            raise KVError(
                f"{len(wanted)} pages at once and {len(self._pinned)} pinned ones exceed the "
                f"{top.tier.capacity_pages} of tier {top.tier.name!r}: ask for fewer or enlarge it"
            )
        for page in dict.fromkeys(pages):
            self._uses[page] += 1
            if page in top.place:
                top.hits += 1
                top.place.move_to_end(page)
        self._raise_to_top([page for page in dict.fromkeys(pages) if page not in top.place], wanted)
        result: Bytes = top.array[[top.place[page] for page in pages]]
        return result

    def raised(self, page: int) -> Bytes:
        """Moves a page to the top tier. -> its bytes there, which may be changed in place until the next call."""
        self.get([page])
        top = self._levels[0]
        content: Bytes = top.array[top.place[page]]
        return content

    def __contains__(self, page: int) -> bool:
        return page in self._uses

    def __len__(self) -> int:
        return len(self._uses)

    def drop(self, page: int) -> None:
        """Removes a page."""
        level = self._level_of(page)
        level.free.append(level.place.pop(page))
        del self._uses[page]
        self._pinned.discard(page)

    def pin(self, page: int) -> None:
        """Keeps a page in the top tier from now on. Raises KVError if no place would be left for others."""
        if len(self._pinned | {page}) > self._levels[0].tier.capacity_pages - 1:
            raise KVError(
                f"cannot pin page {page}: tier {self._levels[0].tier.name!r} needs one place that pages can "
                "pass through"
            )
        self.get([page])
        self._pinned.add(page)

    def unpin(self, page: int) -> None:
        self._pinned.discard(page)

    def tier_of(self, page: int) -> str:
        """Name of the tier that holds a page."""
        return self._level_of(page).tier.name

    @property
    def moves(self) -> dict[str, Moves]:
        """Counts of the pages that entered each tier from another one, by the tier's name."""
        return {level.tier.name: level.moves for level in self._levels}

    @property
    def hits(self) -> int:
        """How often a page that was needed was already in the top tier."""
        return self._levels[0].hits

    def close(self) -> None:
        """Removes the tiers' files. The pages are lost."""
        for level in self._levels:
            level.array = np.zeros((0, self.page_bytes), np.uint8)
            if level.tier.path:
                level.tier.path.unlink(missing_ok=True)

    def _level_of(self, page: int) -> _Level:
        for level in self._levels:
            if page in level.place:
                return level
        raise KVError(f"page {page} is in no tier: it was never put, or was dropped")

    def _raise_to_top(self, pages: list[int], wanted: set[int]) -> None:
        runs: list[tuple[_Level, int, int]] = []
        for page in pages:
            source = self._level_of(page)
            held = source.array[source.place[page]].copy()
            start = source.place.pop(page)
            source.free.append(start)
            place = self._room(0, wanted)
            top = self._levels[0]
            top.array[place] = held
            top.place[page] = place
            runs.append((source, start, place))
        self._count(self._levels[0], runs)

    def _room(self, depth: int, keep: set[int]) -> int:
        """A free place in a tier, after moving pages down if need be. Asks all lower tiers before it moves anything."""
        if not any(level.free for level in self._levels[depth:]):
            names = ", ".join(level.tier.name for level in self._levels[depth:])
            raise KVError(f"no tier has room for one more page ({names} are full): drop pages or enlarge a tier")
        level = self._levels[depth]
        if level.free:
            return level.free.pop()
        victim = self._victim(level, keep)
        below = self._levels[depth + 1]
        place = self._room(depth + 1, set())
        source = level.place.pop(victim)
        below.array[place] = level.array[source]
        below.place[victim] = place
        self._count(below, [(level, source, place)])
        return source

    def _victim(self, level: _Level, keep: set[int]) -> int:
        movable = (page for page in level.place if page not in keep and page not in self._pinned)
        if self.replacement is Replacement.LRU:
            return next(movable)
        return min(movable, key=self._uses.__getitem__)

    def _count(self, level: _Level, moved: list[tuple[_Level, int, int]]) -> None:
        if not moved:
            return
        new_run = [
            i == 0 or moved[i - 1][0] is not source or (moved[i - 1][1] + 1, moved[i - 1][2] + 1) != (start, place)
            for i, (source, start, place) in enumerate(moved)
        ]
        level.moves.pages += len(moved)
        level.moves.bytes += len(moved) * self.page_bytes
        level.moves.runs += sum(new_run)
        level.moves.seconds += len(moved) * self.page_bytes / level.tier.bandwidth_bytes_per_second


def _memory(tier: Tier, page_bytes: int) -> Bytes:
    shape = (tier.capacity_pages, page_bytes)
    if tier.path is None:
        return np.zeros(shape, np.uint8)
    if tier.path.exists():
        raise KVError(f"tier {tier.name!r} would overwrite {tier.path}: name a file that does not exist")
    try:
        return np.memmap(tier.path, np.uint8, "w+", shape=shape)
    except OSError as error:
        raise KVError(f"tier {tier.name!r} cannot use {tier.path}: {error.strerror or error}") from error
