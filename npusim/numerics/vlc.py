"""The DMA's lossless compression: blocks of 16 symbols, each Golomb-Rice coded under the parameter k that makes it shortest.

A stream is a header of 16 bytes, one byte a block (k and length of the unary part; the table is padded to 16 bytes), and the blocks' bits
without gaps, lowest bit first, padded to 16 bytes. A symbol is an int8 element, or the exponent of a bf16 element, whose sign and fraction
follow its block as 8 raw bits. In front of coding, symbols are remapped so that frequent ones become small. Format:
wwwuxy/cvikernel include/cvikernel/cvk_vlc_compress.h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Symbols of a block."""
MAX_K = 5
RAW = 7
"""k in the table where a block is not coded: 128 bits as they are."""
MAX_UNARY_BITS = 47
HEADER_BYTES = 16
ROOM = np.arange(BLOCK * 8)
"""Bit positions of the longest block."""


@dataclass(frozen=True)
class VlcParams:
    """How symbols are remapped. `bias0`, `bias1` and `zero_guard` as in the header; the DMA itself compresses int8 with biases of 0, bf16
    with bias0 127. With `zero_guard` elements of exponent 0 lose sign and fraction."""

    bf16: bool = False
    signed: bool = False
    bias0: int = 0
    bias1: int = 0
    zero_guard: bool = False

    @property
    def itemsize(self) -> int:
        return 2 if self.bf16 else 1

    def header(self, data_bytes: int) -> NDArray[np.uint8]:
        flags = self.signed << 28 | self.bf16 << 29 | self.bias0 << 32 | self.bias1 << 40 | self.zero_guard << 47
        return np.frombuffer((data_bytes | flags).to_bytes(HEADER_BYTES, "little"), np.uint8)

    @staticmethod
    def from_header(header: NDArray[np.uint8]) -> tuple[VlcParams, int]:
        """The parameters with the number of data bytes."""
        bits = int.from_bytes(header[:HEADER_BYTES].tobytes(), "little")
        bf16 = bool(bits >> 29 & 1)
        signed = bool(bits >> 28 & 1)
        return VlcParams(bf16, signed, bits >> 32 & 0xFF, bits >> 40 & 0x7F, bool(bits >> 47 & 1)), bits & 0xFFFFFF

    def remap(self) -> NDArray[np.uint8]:
        """What is coded for each of the 256 symbols."""
        symbols = np.arange(256)
        if self.bf16:
            return _centered(symbols, self.bias0, self.zero_guard)
        return _zigzag(_shifted(symbols, self.bias0, self.bias1)) if self.signed else symbols.astype(np.uint8)

    def unmap(self) -> NDArray[np.uint8]:
        """The inverse of remap, as the decoder computes it."""
        symbols = np.arange(256)
        if self.bf16:
            return _uncentered(symbols, self.bias0, self.zero_guard)
        return _unshifted(_unzigzag(symbols), self.bias0, self.bias1) if self.signed else symbols.astype(np.uint8)


def table_bytes(num_blocks: int) -> int:
    """Bytes of the table behind the header."""
    return -(-num_blocks // 16) * 16


def stream_limit(num_elements: int, itemsize: int) -> int:
    """The most bytes that a stream of so many elements can have."""
    num_blocks = -(-num_elements // BLOCK)
    return HEADER_BYTES + table_bytes(num_blocks) + num_blocks * BLOCK * itemsize


def compress(elements: NDArray, params: VlcParams) -> NDArray[np.uint8]:
    """The stream of `elements`, a flat array of uint8, or of uint16 where `params.bf16`."""
    num_blocks = -(-elements.size // BLOCK)
    blocks = np.zeros((num_blocks, BLOCK), elements.dtype)
    blocks.reshape(-1)[: elements.size] = elements
    coded = params.remap()[blocks >> 7 & 0xFF if params.bf16 else blocks]
    k, unary_bits = _choose_k(coded, params.zero_guard)
    bits, used = _code(coded, k, unary_bits, params.zero_guard)
    if params.bf16:
        fractions = (blocks >> 8 & 0x80 | blocks & 0x7F).astype(np.uint8)
        kept = (blocks & 0x7F80 != 0) | (not params.zero_guard)
        bits = np.hstack([bits, np.unpackbits(fractions, axis=1, bitorder="little")])
        used = np.hstack([used, kept.repeat(8, axis=1)])
    data = np.packbits(bits[used], bitorder="little")
    table = np.zeros(table_bytes(num_blocks), np.uint8)
    table[:num_blocks] = np.where(k == RAW, RAW << 5, k << 5 | unary_bits - BLOCK)
    padding = np.zeros(-data.size % 16, np.uint8)
    return np.concatenate([params.header(data.size + padding.size), table, data, padding])


def decompress(stream: NDArray[np.uint8], num_elements: int, itemsize: int) -> NDArray:
    """The first `num_elements` elements, uint8 or uint16 by `itemsize`. Bytes behind the stream are not looked at.

    Raises ValueError, a clause about what is wrong, where the stream is damaged or of the other element type.
    """
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
    symbols = params.unmap()[_decode(reader, starts, k, unary_bits, params.zero_guard and params.bf16)]
    if not params.bf16:
        return symbols.reshape(-1)[:num_elements]
    fractions = _fractions(reader, starts + _coded_bits(k, unary_bits, params.zero_guard), symbols, params.zero_guard)
    exponents = symbols.astype(np.uint16) << 7
    return ((fractions & 0x80) << 8 | exponents | fractions & 0x7F).reshape(-1)[:num_elements]


def _choose_k(coded: NDArray[np.uint8], zero_guard: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each block the lowest k among the shortest, and the length of its unary part; RAW where no k is within 128 bits."""
    unary = np.stack([(coded >> k).sum(axis=1, dtype=np.int64) + BLOCK for k in range(MAX_K + 1)])
    orders = np.arange(MAX_K + 1)[:, None]
    lengths = np.where(unary <= MAX_UNARY_BITS, unary + BLOCK * orders + 4 * (zero_guard & (orders > 0)), 255)
    best = np.argmin(lengths, axis=0)
    blocks = np.arange(len(coded))
    return np.where(lengths[best, blocks] > BLOCK * 8, RAW, best), unary[best, blocks]


def _coded_bits(k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool) -> NDArray[np.int64]:
    """Bits of each block without its fractions."""
    return np.where(k == RAW, BLOCK * 8, BLOCK * k + 4 * (zero_guard & (k > 0)) + unary_bits)


def _code(
    coded: NDArray[np.uint8], k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Bits of every block, shape (blocks, 128), and which of them are used: k bit planes, the number of zeros, the unary part."""
    bits = np.zeros((len(coded), BLOCK * 8), np.uint8)
    raw = k == RAW
    bits[raw] = np.unpackbits(coded[raw], axis=1, bitorder="little")
    for plane in range(MAX_K):
        rows = ~raw & (k > plane)
        bits[rows, BLOCK * plane : BLOCK * (plane + 1)] = coded[rows] >> plane & 1
    unary_start = BLOCK * k
    if zero_guard:
        rows = np.flatnonzero(~raw & (k > 0))
        num_zeros = (coded[rows] == 0).sum(axis=1)
        for bit in range(4):
            bits[rows, unary_start[rows] + bit] = num_zeros >> bit & 1
        unary_start = unary_start + 4 * (k > 0)
    rows = np.flatnonzero(~raw)
    ends = np.cumsum((coded[rows] >> k[rows, None]).astype(np.int64) + 1, axis=1) - 1
    bits[rows[:, None], unary_start[rows, None] + ends] = 1
    return bits, _coded_bits(k, unary_bits, zero_guard)[:, None] > ROOM


def _block_starts(params: VlcParams, k: NDArray[np.int64], unary_bits: NDArray[np.int64], data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """First bit of each block. Raises ValueError where the blocks are longer than `data`."""
    lengths = _coded_bits(k, unary_bits, params.zero_guard and params.bf16)
    if params.bf16 and params.zero_guard:
        starts, end = _guarded_starts(k.tolist(), unary_bits.tolist(), lengths.tolist(), data.tobytes())
    else:
        ends = np.cumsum(lengths + (BLOCK * 8 if params.bf16 else 0))
        starts, end = np.concatenate([[0], ends[:-1]]), int(ends[-1])
    if end > data.size * 8:
        raise ValueError(f"its blocks take {end} bits, but {data.size * 8} are left behind the table")
    return starts


def _guarded_starts(k: list[int], unary_bits: list[int], lengths: list[int], data: bytes) -> tuple[NDArray[np.int64], int]:
    """Starts and the end of blocks that leave out the fractions of zeros: how many is known only at each block's own place."""
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
    """Reads runs of bits at any bit positions of a stream, lowest bit first; behind the end there are zeros."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        padded = np.concatenate([data, np.zeros(2 * BLOCK * 8, np.uint8)])
        # One word for every byte offset, so that a gather fetches unaligned words.
        self._words = np.ndarray(len(padded) - 8, "<u8", padded, strides=(1,))
        self._halves = np.ndarray(len(padded) - 8, "<u2", padded, strides=(1,))

    def octets(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """8 bits from each of `places`."""
        return (self._halves[places >> 3] >> (places & 7).astype(np.uint16)).astype(np.uint8)

    def long(self, places: NDArray[np.int64]) -> NDArray[np.uint64]:
        """At least 57 bits from each of `places`."""
        return self._words[places >> 3] >> (places & 7).astype(np.uint64)


def _decode(
    reader: _BitReader, starts: NDArray[np.int64], k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool
) -> NDArray[np.uint8]:
    """Remapped symbols, shape (blocks, 16)."""
    symbols = np.zeros((len(starts), BLOCK), np.uint8)
    raw = np.flatnonzero(k == RAW)
    symbols[raw] = reader.octets(starts[raw, None] + 8 * np.arange(BLOCK))
    for plane in range(MAX_K):
        rows = np.flatnonzero((k > plane) & (k != RAW))
        columns = reader.long(starts[rows] + BLOCK * plane).astype("<u2").view(np.uint8).reshape(-1, 2)
        symbols[rows] |= np.unpackbits(columns, axis=1, bitorder="little") << plane
    rows = np.flatnonzero(k != RAW)
    unary = reader.long(starts[rows] + BLOCK * k[rows] + 4 * (zero_guard & (k[rows] > 0)))
    unary &= (np.uint64(1) << unary_bits[rows].astype(np.uint64)) - np.uint64(1)
    counts = np.bitwise_count(unary)
    if np.any(counts != BLOCK):
        bad = int(np.argmax(counts != BLOCK))
        raise ValueError(f"block {int(rows[bad])} codes {int(counts[bad])} symbols, not {BLOCK}")
    ends = np.empty((BLOCK, len(rows)), np.uint8)
    for i in range(BLOCK):  # the i-th set bit ends symbol i
        ends[i] = np.bitwise_count((unary & -unary) - np.uint64(1))
        unary &= unary - np.uint64(1)
    ends[1:] -= ends[:-1] + np.uint8(1)
    symbols[rows] += (ends << k[rows].astype(np.uint8)).T
    return symbols


def _fractions(reader: _BitReader, starts: NDArray[np.int64], exponents: NDArray[np.uint8], zero_guard: bool) -> NDArray[np.uint16]:
    """Sign (bit 7) and fraction of every element; 0 where exponent 0 has none."""
    if not zero_guard:
        return reader.octets(starts[:, None] + 8 * np.arange(BLOCK)).astype(np.uint16)
    kept = exponents != 0
    octets = reader.octets(starts[:, None] + 8 * (np.cumsum(kept, axis=1) - kept))
    return np.where(kept, octets, 0).astype(np.uint16)


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return (2 * np.abs(values) - (values < 0)).astype(np.uint8)


def _unzigzag(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    magnitude = (codes + 1) >> 1
    return np.where(codes & 1, -magnitude, magnitude)


def _shifted(symbols: NDArray[np.int64], bias0: int, bias1: int) -> NDArray[np.int64]:
    """int8 `symbols` moved towards 0 by bias0 (positive ones) or bias1 (negative ones), what passes 0 coming in again at the far end."""
    values = symbols.astype(np.uint8).astype(np.int8).astype(np.int64)
    negative = values < 0
    magnitude = np.abs(values) - np.where(negative, bias1, bias0)
    magnitude += np.where(magnitude <= 0, 127 + negative, 0)
    return np.where(values == 0, 0, _as_int8(np.where(negative, -magnitude, magnitude)))


def _unshifted(values: NDArray[np.int64], bias0: int, bias1: int) -> NDArray[np.uint8]:
    values = _as_int8(values)
    negative = values < 0
    magnitude = np.abs(values) + np.where(negative, bias1, bias0)
    over = magnitude - (127 + negative)
    magnitude = np.where(over <= 0, magnitude, over)
    return np.where(values == 0, 0, np.where(negative, -magnitude, magnitude)).astype(np.uint8)


def _as_int8(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return values.astype(np.int8).astype(np.int64)


def _centered(symbols: NDArray[np.int64], bias: int, zero_guard: bool) -> NDArray[np.uint8]:
    """Exponents numbered by their distance from `bias`, alternating below and above; with `zero_guard` 0 stays and the others follow it."""
    near = _zigzag(_as_int8(symbols - bias)) + zero_guard
    if bias <= 128:
        codes = np.where(symbols >= 2 * bias, symbols, near)
    else:
        codes = np.where(symbols < 2 * bias - 255, 255 - symbols + zero_guard, near)
    return np.where((symbols == 0) & zero_guard, 0, codes).astype(np.uint8)


def _uncentered(codes: NDArray[np.int64], bias: int, zero_guard: bool) -> NDArray[np.uint8]:
    behind_zero = (codes - zero_guard) & 0xFF
    near = _unzigzag(behind_zero) + bias
    if bias <= 128:
        symbols = np.where(codes >= 2 * bias, codes, near)
    else:
        symbols = np.where(behind_zero > 2 * (255 - bias), 255 - codes + zero_guard, near)
    return np.where((codes == 0) & zero_guard, 0, symbols).astype(np.uint8)
