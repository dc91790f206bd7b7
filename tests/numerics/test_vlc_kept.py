"""Streams that were decoded before are not decoded again, within bounds."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.numerics.vlc import VlcParams, compress
from npusim.numerics.vlc_decode import decompress
from npusim.numerics.vlc_kept import KeptStreams

COUNT = 64
STREAMS = [compress(np.full(COUNT, value, np.uint8), VlcParams()) for value in range(4)]
KEPT_BYTES = max(stream.size for stream in STREAMS) + COUNT


def test_an_unchanged_stream_gives_the_elements_that_were_kept() -> None:
    kept = KeptStreams(KEPT_BYTES)
    first = kept.elements(0, STREAMS[1], COUNT, 1)
    assert kept.elements(0, STREAMS[1].copy(), COUNT, 1) is first
    assert kept.elements(64, STREAMS[1], COUNT, 1) is not first, "the room is used up"


@given(st.integers(0, 3 * KEPT_BYTES), st.lists(st.tuples(st.sampled_from((0, 64, 128)), st.integers(0, 3))))
def test_elements_are_those_of_the_stream_that_lies_there_now(room: int, reads: list[tuple[int, int]]) -> None:
    kept = KeptStreams(room)
    for start, number in reads:
        stream = STREAMS[number]
        assert np.array_equal(kept.elements(start, stream, COUNT, 1), decompress(stream, COUNT, 1))
        assert 0 <= kept.room <= room
