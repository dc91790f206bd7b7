"""Keeps the elements of compressed streams that were decoded. A network reads the same weights in every run, and a
tiled one several times in each run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.vlc import stream_bytes
from npusim.numerics.vlc_decode import decompress


class KeptStreams:
    """Decodes streams of one memory, and keeps as many as fit.

    room   bytes that are left; a stream that is kept takes its own bytes and those of its elements
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: dict[tuple[int, int, int], tuple[NDArray[np.uint8], NDArray]] = {}

    def elements(self, start: int, stream: NDArray[np.uint8], count: int, itemsize: int) -> NDArray:
        """As decompress. `stream` is at offset `start` of the memory. The elements must not be written to."""
        key = (start, count, itemsize)
        if key in self._kept:
            used, elements = self._kept[key]
            if np.array_equal(stream[: used.size], used):
                return elements
            del self._kept[key]
            self.room += used.size + elements.nbytes
        elements = decompress(stream, count, itemsize)
        used = stream[: stream_bytes(stream, count)]
        if used.size + elements.nbytes <= self.room:
            self.room -= used.size + elements.nbytes
            self._kept[key] = used.copy(), elements
        return elements
