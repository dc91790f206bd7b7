"""Damaged files, made from good ones."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

HEADER_BYTES, MD5 = 48, slice(14, 30)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

DEEP, HUGE = "deep", "huge"
HOSTILE = [
    *(None, True, -1, 0, 1, 2.5, 1 << 31, -(1 << 63), 1 << 64, 1 << 40, float("inf"), float("nan"), HUGE, DEEP),
    *("", "x", "5", "\0", "\x1b]0;x\x07", "\ud800", "[/red]", "a" * 5000, [], {}, [[1]], [1, "a", None], {"a": 1}),
]
"""Values that a reader may not expect. DEEP becomes 100,000 brackets, HUGE a whole number of 401 digits."""
WORDS = (
    *(
        "",
        "0",
        "-1",
        "007",
        "0x",
        "1e400",
        "nan",
        "9" * 19,
        "9" * 400,
        "4294967296",
        "²",
        "٣",
        "\0",
        "\x1b[2J",
        "\ud800",
    ),
    *(",", '"', "{", "[" * 5000, "a" * 5000, ".section", "null", "true", "\t", ";", "="),
)


def damaged(rng: np.random.Generator, data: bytes, kind: str) -> bytes:
    """A damaged copy of a file of a kind that tests.support.formats names."""
    match kind:
        case "a .cvimodel with its md5":
            return mutate(rng, data)
        case "a .npy in a .npz":
            return _rezipped(rng, data)
        case "json" if rng.random() < 0.7:
            return json_damaged(rng, data)
        case "text" if rng.random() < 0.7:
            return _words_damaged(rng, data)
    return _bytes_damaged(rng, data)


def _bytes_damaged(rng: np.random.Generator, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(int(rng.integers(1, 5))):
        size = len(data)
        if size < 2:
            break
        # What decides how a file is read stands at its beginning.
        at = int(rng.integers(0, min(size, 400) if rng.random() < 0.6 else size))
        match int(rng.integers(6)):
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + 4] = int(rng.choice(EXTREMES)).to_bytes(4, "little")
            case 2:
                source = int(rng.integers(0, size))
                data[at : at + 16] = data[source : source + 16]
            case 3 if rng.random() < 0.3:
                del data[int(rng.integers(1, size)) :]
            case 4 if rng.random() < 0.3:
                data[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 40)), dtype=np.uint8))
            case _:
                data[at] = int(rng.integers(256))
    return bytes(data)


def json_damaged(rng: np.random.Generator, original: bytes) -> bytes:
    """A JSON file with one or two of its values or names replaced, or lost."""
    value = json.loads(original)
    for _ in range(int(rng.integers(1, 3))):
        holders = [(holder, key) for holder in _holders(value) for key in _keys(holder)]
        if not holders:
            break
        holder, key = holders[int(rng.integers(len(holders)))]
        if rng.random() < 0.15:
            del holder[key]
        elif isinstance(holder, dict) and rng.random() < 0.1:
            holder[f"{key}x"] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(HOSTILE[int(rng.integers(len(HOSTILE)))])
    text = json.dumps(value)
    return text.replace(f'"{DEEP}"', "[" * 100_000).replace(f'"{HUGE}"', "1" + "0" * 400).encode()


def _holders(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for child in list(value.values() if isinstance(value, dict) else value)[:40]:
            yield from _holders(child)


def _keys(holder: Any) -> list[Any]:
    return list(holder)[:40] if isinstance(holder, dict) else list(range(min(len(holder), 40)))


def _words_damaged(rng: np.random.Generator, original: bytes) -> bytes:
    """A text with a few words or lines replaced, doubled or lost."""
    lines = original.decode().split("\n")
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        words = re.split(r"(\W+)", lines[at])
        place = int(rng.integers(len(words)))
        match int(rng.integers(5)):
            case 0:
                lines[at:at] = [lines[int(rng.integers(len(lines)))]]
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                del words[place]
            case _:
                words[place] = WORDS[int(rng.integers(len(WORDS)))]
        if at < len(lines):
            lines[at] = "".join(words)
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _rezipped(rng: np.random.Generator, original: bytes) -> bytes:
    """An archive whose checksums are right, and the .npy in it damaged."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(original)) as source, zipfile.ZipFile(out, "w") as target:
        victim = int(rng.integers(len(source.namelist())))
        for index, name in enumerate(source.namelist()):
            data = source.read(name)
            target.writestr(name, _bytes_damaged(rng, data) if index == victim else data)
    return out.getvalue()


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
