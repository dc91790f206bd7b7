"""The DMA's lossless compression: blocks of 16 symbols, each Golomb-Rice coded with the parameter k that makes it
shortest.

A stream is a header of 16 bytes, a table, and the blocks' bits. The table has one byte for each block (k, and the
length of the unary part) and is padded to 16 bytes. The bits have no gaps, lowest bit first, and are padded to 16
bytes. A symbol is an int8 element, or the exponent of a bf16 element, whose sign and fraction follow its block as 8
raw bits. Before coding, symbols are remapped so that frequent ones become small. Format: wwwuxy/cvikernel
include/cvikernel/cvk_vlc_compress.h."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 16
"""Symbols of a block."""
MAX_K = 5
RAW = 7
"""k in the table for a block that is not coded: its 128 bits follow as they are."""
MAX_UNARY_BITS = 47
HEADER_BYTES = 16
ROOM = np.arange(BLOCK * 8)
"""Bit positions of the longest block."""


@dataclass(frozen=True)
class VlcParams:
    """How symbols are remapped: `bias0`, `bias1` and `zero_guard` as in the header.

    The DMA itself compresses int8 with biases of 0, and bf16 with bias0 127. With `zero_guard`, elements of exponent
    0 lose their sign and fraction."""

    bf16: bool = False
    signed: bool = False
    bias0: int = 0
    bias1: int = 0
    zero_guard: bool = False

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return 2 if self.bf16 else 1

    def header(self, data_bytes: int) -> NDArray[np.uint8]:
        """The 16 bytes in front of a stream with `data_bytes` bytes of data."""
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
    """Bytes of the table after the header."""
    return -(-num_blocks // 16) * 16


def stream_bytes(stream: NDArray[np.uint8], num_elements: int) -> int:
    """Bytes of a stream of `num_elements` elements, as its header says."""
    return HEADER_BYTES + table_bytes(-(-num_elements // BLOCK)) + VlcParams.from_header(stream)[1]


def stream_limit(num_elements: int, itemsize: int) -> int:
    """The most bytes that a stream of `num_elements` elements can have."""
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


def _choose_k(coded: NDArray[np.uint8], zero_guard: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each block the lowest k among the shortest codes, and the length of its unary part.

    RAW where no k gives at most 128 bits."""
    unary = np.stack([(coded >> k).sum(axis=1, dtype=np.int64) + BLOCK for k in range(MAX_K + 1)])
    orders = np.arange(MAX_K + 1)[:, None]
    lengths = np.where(unary <= MAX_UNARY_BITS, unary + BLOCK * orders + 4 * (zero_guard & (orders > 0)), 255)
    best = np.argmin(lengths, axis=0)
    blocks = np.arange(len(coded))
    return np.where(lengths[best, blocks] > BLOCK * 8, RAW, best), unary[best, blocks]


def coded_bits(k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool) -> NDArray[np.int64]:
    """Bits of each block, without its fractions."""
    return np.where(k == RAW, BLOCK * 8, BLOCK * k + 4 * (zero_guard & (k > 0)) + unary_bits)


def _code(
    coded: NDArray[np.uint8], k: NDArray[np.int64], unary_bits: NDArray[np.int64], zero_guard: bool
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The bits of every block, shape (blocks, 128), and which of them are used.

    In order: k bit planes, the number of zeros, the unary part."""
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
    return bits, coded_bits(k, unary_bits, zero_guard)[:, None] > ROOM


def _zigzag(values: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Maps 0, -1, 1, -2, 2 ... to 0, 1, 2, 3, 4 ..."""
    return (2 * np.abs(values) - (values < 0)).astype(np.uint8)


def _unzigzag(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    magnitude = (codes + 1) >> 1
    return np.where(codes & 1, -magnitude, magnitude)


def _shifted(symbols: NDArray[np.int64], bias0: int, bias1: int) -> NDArray[np.int64]:
    """int8 `symbols` moved towards 0, positive ones by bias0 and negative ones by bias1.

    What passes 0 comes in again at the far end."""
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
    """Exponents numbered by their distance from `bias`, alternately below and above it.

    With `zero_guard`, 0 stays 0 and the others follow it."""
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
