"""How the TDMA cuts contiguous DRAM bytes into bursts.

The rule was found by matching the event counters of a PMU trace (constants.TRACE). If the start is not a multiple of
64 bytes, a first burst goes up to the next multiple. Bursts of 256 bytes follow, none of which crosses a 4 KiB
boundary. A beat is a 16-byte granule that a burst touches. All 567 uncompressed transfers of the trace have exactly
these counts (benchmarks/pmu_trace.py)."""

from __future__ import annotations

import numpy as np

from npusim.arrays import Ints

BURST_BYTES, BEAT_BYTES, ALIGN_BYTES, PAGE_BYTES = 256, 16, 64, 4096
RUNS_AT_ONCE = 1 << 20
"""Runs that are counted at once. This bounds memory."""


def count(addr: Ints, num_bytes: Ints) -> tuple[Ints, Ints]:
    """(bursts, beats) of runs of `num_bytes` contiguous bytes that start at `addr`. All are int64, one entry a run."""
    beats = -(-(addr + num_bytes) // BEAT_BYTES) - addr // BEAT_BYTES
    head = np.minimum(-addr % ALIGN_BYTES, num_bytes)
    start, rest = addr + head, num_bytes - head
    in_page = np.minimum(-start % PAGE_BYTES, rest)
    rest = rest - in_page
    pages, tail = np.divmod(rest, PAGE_BYTES)
    bursts = (head > 0) + _up(in_page) + pages * (PAGE_BYTES // BURST_BYTES) + _up(tail)
    return bursts.astype(np.int64), np.where(num_bytes > 0, beats, 0)


def _up(num_bytes: Ints) -> Ints:
    return -(-num_bytes // BURST_BYTES)


def count_tensors(
    addr: Ints, shape: tuple[Ints, Ints, Ints], strides: tuple[Ints, Ints, Ints], row_bytes: Ints
) -> tuple[Ints, Ints, Ints]:
    """(runs, bursts, beats) of strided tensors.

    A tensor has `row_bytes` contiguous bytes at each position of `shape` (n, c, h); `strides` are in bytes. Every array
    is int64 with one entry a tensor. Rows that follow one another without a gap are one run.
    """
    (n, c, h), (n_str, c_str, h_str) = shape, strides
    h, h_str, row_bytes = _merge(h, h_str, row_bytes)
    flat = h == 1
    c, c_str, merged = _merge(np.where(flat, c, 1), c_str, row_bytes)
    c, row_bytes = np.where(flat, c, shape[1]), np.where(flat, merged, row_bytes)
    # Nothing is merged over n, as in the vendor's profiler; the trace holds no such tensor.
    runs = n * c * h
    keys, inverse = np.unique(
        np.stack([addr % PAGE_BYTES, n, c, h, n_str % PAGE_BYTES, c_str % PAGE_BYTES, h_str % PAGE_BYTES, row_bytes]),
        axis=1,
        return_inverse=True,
    )
    bursts, beats = _count_unique(keys)
    inverse = inverse.reshape(-1)
    return runs, bursts[inverse], beats[inverse]


def _merge(extent: Ints, stride: Ints, row_bytes: Ints) -> tuple[Ints, Ints, Ints]:
    """Folds one axis into the rows where there are no gaps between the rows."""
    joined = (stride == row_bytes) | (extent == 1)
    return np.where(joined, 1, extent), stride, np.where(joined, row_bytes * extent, row_bytes)


def _count_unique(keys: Ints) -> tuple[Ints, Ints]:
    """(bursts, beats) of each column (addr, n, c, h, their strides, bytes of a run) of `keys`."""
    after = np.cumsum(keys[1] * keys[2] * keys[3])
    total = int(after[-1]) if len(after) else 0
    cuts = np.unique(np.searchsorted(after, np.arange(0, total + RUNS_AT_ONCE, RUNS_AT_ONCE)).clip(max=keys.shape[1]))
    parts = [_count_all(keys[:, a:b]) for a, b in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)]
    if not parts:
        return np.zeros(keys.shape[1], np.int64), np.zeros(keys.shape[1], np.int64)
    return np.concatenate([bursts for bursts, _ in parts]), np.concatenate([beats for _, beats in parts])


def _count_all(keys: Ints) -> tuple[Ints, Ints]:
    addr, n, c, h, n_str, c_str, h_str, row_bytes = keys
    runs = n * c * h
    owner = np.repeat(np.arange(len(runs)), runs)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(runs) - runs, runs)
    i, rest = np.divmod(place, (c * h)[owner])
    j, k = np.divmod(rest, h[owner])
    start = addr[owner] + i * n_str[owner] + j * c_str[owner] + k * h_str[owner]
    bursts, beats = count(start, row_bytes[owner])
    size = len(runs)
    return (
        np.bincount(owner, bursts, size).astype(np.int64),
        np.bincount(owner, beats, size).astype(np.int64),
    )
