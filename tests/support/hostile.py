"""Damaged .cvimodel files, made from good ones."""

from __future__ import annotations

import hashlib

import numpy as np

HEADER_BYTES, MD5 = 48, slice(14, 30)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutate(rng: np.random.Generator, original: bytes) -> bytes:
    """A few bit flips, extreme words, moved or lost bytes; mostly with the md5 made good again, so that what lies
    behind it is reached."""
    data = bytearray(original)
    description = HEADER_BYTES + int.from_bytes(data[8:12], "little")
    for _ in range(int(rng.integers(1, 5))):
        where = int(rng.integers(0, min(description, len(data)) if rng.random() < 0.6 else len(data)))
        kind = rng.integers(5)
        if kind == 0:
            data[where] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[where : where + 4] = int(rng.choice(EXTREMES)).to_bytes(4, "little")
        elif kind == 2:
            source = int(rng.integers(0, len(data)))
            data[where : where + 16] = data[source : source + 16]
        elif kind == 3 and rng.random() < 0.3:
            del data[int(rng.integers(30, len(data))) :]
        else:
            data[where] = int(rng.integers(256))
        if len(data) <= HEADER_BYTES:
            break
    if rng.random() < 0.9:
        data[MD5] = hashlib.md5(data[HEADER_BYTES:], usedforsecurity=False).digest()
    return bytes(data)
