"""Decompression of the streams that numerics/vlc.py describes: all blocks at once, eight symbols to a 64-bit word."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.vlc import BLOCK, HEADER_BYTES, MAX_K, RAW, VlcParams, coded_bits, stream_limit, table_bytes


def decompress(stream: NDArray[np.uint8], num_elements: int, itemsize: int) -> NDArray:
    """The first `num_elements` elements, uint8 or uint16 by `itemsize`. Bytes after the stream are not looked at.

    Raises ValueError, with a clause that says what is wrong, where the stream is damaged or of the other element
    type."""
    num_blocks = -(-num_elements // BLOCK)
    data_start = HEADER_BYTES + table_bytes(num_blocks)
    if stream.size < data_start:
        raise ValueError(f"{stream.size} bytes cannot hold header and table of {num_blocks} blocks, {data_start} bytes")
    params, data_bytes = VlcParams.from_header(stream)
    if params.itemsize != itemsize:
        raise ValueError(f"its header says elements of {params.itemsize} bytes, not {itemsize}")
    if data_bytes > stream_limit(num_elements, itemsize):
        raise ValueError(f"its header says {data_bytes} bytes of data, more than {num_elements} elements can have")
    data = stream[data_start : stream_limit(num_elements, itemsize)]
    table = stream[HEADER_BYTES : HEADER_BYTES + num_blocks].astype(np.int64)
    k, unary_bits = table >> 5, (table & 0x1F) + BLOCK
    if np.any(k == MAX_K + 1):
        raise ValueError(f"block {int(np.argmax(k == MAX_K + 1))} has order {MAX_K + 1}, beyond the highest, {MAX_K}")
    starts = _block_starts(params, k, unary_bits, data)
    reader = _BitReader(data)
    symbols = params.unmap().take(_decode(reader, starts, k, unary_bits, params.zero_guard and params.bf16))
    if not params.bf16:
        return symbols.reshape(-1)[:num_elements]
    fractions = _fractions(reader, starts + coded_bits(k, unary_bits, params.zero_guard), symbols, params.zero_guard)
    exponents = symbols.astype(np.uint16) << 7
    return ((fractions & 0x80) << 8 | exponents | fractions & 0x7F).reshape(-1)[:num_elements]


def _block_starts(
    params: VlcParams, k: NDArray[np.int64], unary_bits: NDArray[np.int64], data: NDArray[np.uint8]
) -> NDArray[np.int64]:
    """First bit of each block. Raises ValueError where the blocks are longer than `data`."""
    lengths = coded_bits(k, unary_bits, params.zero_guard and params.bf16)
    if params.bf16 and params.zero_guard:
        starts, end = _guarded_starts(k.tolist(), unary_bits.tolist(), lengths.tolist(), data.tobytes())
    else:
        ends = np.cumsum(lengths + (BLOCK * 8 if params.bf16 else 0))
        starts, end = np.concatenate([[0], ends[:-1]]), int(ends[-1])
    if end > data.size * 8:
        raise ValueError(f"its blocks take {end} bits, but {data.size * 8} remain after the table")
    return starts


def _guarded_starts(
    k: list[int], unary_bits: list[int], lengths: list[int], data: bytes
) -> tuple[NDArray[np.int64], int]:
    """Starts, and the end, of blocks that leave out the fractions of zeros.

    How many zeros a block has is known only once its start is."""
    starts, at = [], 0
    for order, unary, length in zip(k, unary_bits, lengths, strict=True):
        starts.append(at)
        bits = int.from_bytes(data[at >> 3 : (at >> 3) + BLOCK + 1], "little") >> (at & 7)
        if order == RAW:
            zeros = (bits & (1 << BLOCK * 8) - 1).to_bytes(BLOCK, "little").count(0)
        elif order:
            zeros = bits >> BLOCK * order & 15
        else:  # a zero is a set bit at the start or right behind another
            zeros = (bits & (bits << 1 | 1) & (1 << unary) - 1).bit_count()
        at += length + 8 * (BLOCK - zeros)
    return np.array(starts, np.int64), at


class _BitReader:
    """Reads runs of bits from any bit positions of a stream, lowest bit first. Beyond its end there are zeros."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        padded = np.concatenate([data, np.zeros(2 * BLOCK * 8, np.uint8)])
        # One word for every byte offset, so that a gather fetches unaligned words.
        self._words = np.ndarray(len(padded) - 8, "<u8", padded, strides=(1,))

    def octets(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """8 bits from each of `places`."""
        return self.long(places).astype(np.uint8)

    def long(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """At least 57 bits from each of `places`."""
        return self._words[places >> 3] >> (places & 7).astype(np.uint64)

    def blocks(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """16 octets from each of `places`, shape (places, 16)."""
        first, shift = places >> 3, (places & 7).astype(np.uint64)
        low, middle, high = (self._words[first + 8 * i] for i in range(3))
        words = np.empty((len(places), 2), np.uint64)
        words[:, 0] = low >> shift | middle << np.uint64(1) << (np.uint64(63) - shift)  # a shift by 64 is undefined
        words[:, 1] = middle >> shift | high << np.uint64(1) << (np.uint64(63) - shift)
        return words.view(np.uint8)


def _decode(
    reader: _BitReader, starts: NDArray[np.int64], k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool
) -> NDArray[np.uint8]:
    """Remapped symbols, shape (blocks, 16). Eight symbols are one word, a byte each."""
    raw = np.flatnonzero(k == RAW)
    unary = reader.long(starts + BLOCK * k + 4 * (zero_guard & (k > 0)))
    unary &= (np.uint64(1) << unary_bits.astype(np.uint64)) - np.uint64(1)
    unary[raw] = (1 << BLOCK) - 1
    counts = _num_ones(unary)
    if np.any(counts != BLOCK):
        bad = int(np.argmax(counts != BLOCK))
        raise ValueError(f"block {bad} codes {int(counts[bad])} symbols, not {BLOCK}")
    words = _unary_symbols(unary).view(np.uint64)
    words &= _HIGH_PARTS.take(k)[:, None]
    words <<= k.astype(np.uint64)[:, None]
    words |= _low_parts(reader, starts, k)
    symbols = words.view(np.uint8)
    symbols[raw] = reader.blocks(starts[raw])
    return symbols


def _low_parts(reader: _BitReader, starts: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The k low bits of every symbol, uint64 (blocks, 2), from k planes of 16 bits that lie one after another."""
    turned = np.zeros((len(starts), 2, 8), np.uint8)
    for first in range(0, int(np.max(k, where=k != RAW, initial=0)), 3):
        word = reader.long(starts + BLOCK * first)
        word &= _PLANES[first].take(k)
        octets = word.view(np.uint8).reshape(-1, 8)
        for plane in range(first, min(first + 3, MAX_K)):
            turned[:, 0, plane] = octets[:, 2 * (plane - first)]
            turned[:, 1, plane] = octets[:, 2 * (plane - first) + 1]
    words = turned.view(np.uint64)[..., 0]
    for shift, mask in _TRANSPOSITION:
        exchanged = (words ^ words >> shift) & mask
        words ^= exchanged ^ exchanged << shift
    return words


_PLANES = {
    first: np.array([0 if k == RAW else (1 << BLOCK * max(min(k - first, 3), 0)) - 1 for k in range(8)], np.uint64)
    for first in (0, 3)
}
"""By plane and k: which bits belong to the three planes that begin there."""
_HIGH_PARTS = np.array([(0xFF >> k) * 0x0101010101010101 if k != RAW else 0 for k in range(8)], np.uint64)
"""By k: the bits of eight symbols that stay within their byte when shifted up by k."""
_TRANSPOSITION = tuple(
    (np.uint64(shift), np.uint64(mask))
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0))
)
"""Turns 8 x 8 bits: bit c of byte r becomes bit r of byte c (Warren, Hacker's Delight, 7-3)."""


def _unary_symbols(unary: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """How many zeros lie in front of each of the 16 set bits of each word; shape (blocks, 16)."""
    gaps, used = _four_gaps()
    quads = np.empty((len(unary), 4), np.uint32)
    rest, longest = unary.copy(), np.zeros(len(unary), np.uint8)
    for i in range(4):
        window = rest.astype(np.uint16)
        quads[:, i] = gaps.take(window)
        length = used.take(window)
        np.maximum(longest, length, out=longest)
        rest >>= length
    symbols = quads.view(np.uint8)
    rows = np.flatnonzero(longest == _TOO_LONG)
    bits = np.unpackbits(unary[rows].view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    symbols[rows] = _gaps((np.flatnonzero(bits).reshape(-1, BLOCK) & 63).astype(np.uint8))
    return symbols


_TOO_LONG = 63
"""Length of four unary numbers that do not end within 16 bits."""


def _num_ones(words: NDArray) -> NDArray[np.uint8]:
    """How many bits of each 64-bit word are set (np.bitwise_count came with NumPy 2)."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words)
    return np.unpackbits(words.view(np.uint8).reshape(*words.shape, 8), axis=-1).sum(axis=-1, dtype=np.uint8)


def _gaps(places: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """How many zeros lie in front of each set bit, from ascending `places` along the last axis."""
    return np.diff(places, prepend=np.uint8(255)) - np.uint8(1)  # 255 is -1


@cache
def _four_gaps() -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """For each 16-bit word: the zeros in front of its first four set bits, a byte each, and how many bits these
    take."""
    rest, places = np.arange(1 << 16), np.empty((1 << 16, 4), np.uint8)
    for i in range(4):
        places[:, i] = _num_ones((rest & -rest) - 1)
        rest &= rest - 1
    enough = _num_ones(np.arange(1 << 16)) >= 4
    return _gaps(places).view(np.uint32)[:, 0], np.where(enough, places[:, 3] + np.uint8(1), np.uint8(_TOO_LONG))


def _fractions(
    reader: _BitReader, starts: NDArray[np.int64], exponents: NDArray[np.uint8], zero_guard: bool
) -> NDArray[np.uint16]:
    """Sign (bit 7) and fraction of every element; 0 where an element of exponent 0 stores none."""
    if not zero_guard:
        return reader.blocks(starts).astype(np.uint16)
    kept = exponents != 0
    octets = reader.octets(starts[:, None] + 8 * (np.cumsum(kept, axis=1) - kept))
    return np.where(kept, octets, 0).astype(np.uint16)
