"""Scalar twin of npusim.numerics.vlc.

A stream is one long Python integer, lowest bit first, read and written symbol by symbol."""

from __future__ import annotations

from npusim.numerics.vlc import VlcParams


def signed8(value: int) -> int:
    return (value + 128) % 256 - 128


def remap(symbol: int, params: VlcParams) -> int:
    """What is coded for a symbol: an int8 element, or the exponent of a bf16 element."""
    if params.bf16:
        return _remap_exponent(symbol, params.bias0, params.zero_guard)
    if not params.signed or symbol == 0:
        return symbol
    value = signed8(symbol)
    magnitude = abs(value) - (params.bias1 if value < 0 else params.bias0)
    if magnitude <= 0:
        magnitude += 128 if value < 0 else 127
    return _alternate(signed8(-magnitude if value < 0 else magnitude))


def _alternate(value: int) -> int:
    return (2 * abs(value) - (value < 0)) % 256


def _remap_exponent(exponent: int, bias: int, zero_guard: bool) -> int:
    if exponent == 0 and zero_guard:
        return 0
    near = (_alternate(signed8(exponent - bias)) + zero_guard) % 256
    if bias <= 128:
        return exponent if exponent >= 2 * bias else near
    return (255 - exponent + zero_guard) % 256 if exponent < 2 * bias - 255 else near


def code_block(symbols: list[int], zero_guard: bool) -> tuple[int, int, int]:
    """(table entry, bits as an integer, their number) of 16 remapped symbols."""
    best_k, best = -1, 129
    for k in range(6):
        unary = sum((symbol >> k) + 1 for symbol in symbols)
        length = 16 * k + unary + (4 if zero_guard and k else 0)
        if unary <= 47 and length < best:
            best_k, best = k, length
    if best_k < 0:
        return 0xE0, sum(symbol << 8 * i for i, symbol in enumerate(symbols)), 128
    bits, at = 0, 0
    for plane in range(best_k):
        for symbol in symbols:
            bits |= (symbol >> plane & 1) << at
            at += 1
    if zero_guard and best_k:
        bits |= symbols.count(0) << at
        at += 4
    unary_start = at
    for symbol in symbols:
        at += symbol >> best_k
        bits |= 1 << at
        at += 1
    return best_k << 5 | (at - unary_start - 16), bits, at


def compress(elements: list[int], params: VlcParams) -> bytes:
    """The stream of `elements`, bytes or bf16 patterns."""
    padded = elements + [0] * (-len(elements) % 16)
    table, bits, at = bytearray(), 0, 0
    for start in range(0, len(padded), 16):
        block = padded[start : start + 16]
        symbols = [element >> 7 & 0xFF if params.bf16 else element for element in block]
        entry, coded, length = code_block([remap(symbol, params) for symbol in symbols], params.zero_guard)
        table.append(entry)
        bits, at = bits | coded << at, at + length
        for element, symbol in zip(block, symbols, strict=True):
            if params.bf16 and (symbol or not params.zero_guard):
                bits, at = bits | (element >> 15 << 7 | element & 0x7F) << at, at + 8
    num_bytes = -(-at // 128) * 16
    flags = params.signed << 28 | params.bf16 << 29 | params.bias0 << 32 | params.bias1 << 40 | params.zero_guard << 47
    header = (num_bytes | flags).to_bytes(16, "little")
    return header + bytes(table) + bytes(-len(table) % 16) + bits.to_bytes(num_bytes, "little")
