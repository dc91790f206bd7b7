"""Scalar twin of a DMA tensor copy: one element at a time, n, c, h, w, in one flat memory of bytes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

Shape = tuple[int, int, int, int]


def lmem_addrs(addr: int, shape: Shape, strides: Shape, num_lanes: int, lane_bytes: int) -> Iterator[int]:
    """Linear LMEM address of every element: channels go round the lanes, one channel stride further each time."""
    lane0, offset = divmod(addr, lane_bytes)
    for n, c, h, w in product(*map(range, shape)):
        turn, lane = divmod(lane0 + c, num_lanes)
        yield lane * lane_bytes + offset + n * strides[0] + turn * strides[1] + h * strides[2] + w * strides[3]


def copy_in_order(memory: bytearray, read: list[int], write: list[int], itemsize: int) -> None:
    """Element i goes from read[i] to write[i] before element i + 1 is looked at."""
    for source, destination in zip(read, write, strict=True):
        memory[destination : destination + itemsize] = memory[source : source + itemsize]
