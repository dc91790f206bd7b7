"""Bursts and beats against a twin that walks through the bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from npusim.timing.bursts import count, count_tensors


def twin(addr: int, num_bytes: int) -> tuple[int, int]:
    """(bursts, beats), one burst at a time."""
    bursts = beats = 0
    end = addr + num_bytes
    while addr < end:
        reach = (addr // 64 + 1) * 64 if addr % 64 else addr + 256
        stop = min(end, reach, (addr // 4096 + 1) * 4096)
        bursts, beats, addr = bursts + 1, beats + -(-stop // 16) - addr // 16, stop
    return bursts, beats


@given(st.lists(st.tuples(st.integers(0, 20000), st.integers(0, 20000)), min_size=1, max_size=20))
def test_runs_are_cut_as_by_the_twin(runs: list[tuple[int, int]]) -> None:
    addr, num_bytes = (np.array(column) for column in zip(*runs, strict=True))
    bursts, beats = count(addr, num_bytes)
    assert list(zip(bursts.tolist(), beats.tolist(), strict=True)) == [twin(*run) for run in runs]


extent, gap = st.integers(1, 4), st.sampled_from((0, 0, 1, 16, 5000))


@given(st.integers(0, 9000), extent, extent, extent, st.integers(1, 300), gap, gap, gap)
def test_tensors_are_the_runs_that_their_strides_leave(addr, n, c, h, row, gap_h, gap_c, gap_n) -> None:  # type: ignore[no-untyped-def]
    h_str = row + gap_h
    c_str = h_str * h + gap_c
    n_str = c_str * c + gap_n
    pieces = [[(addr + i * n_str + j * c_str + k * h_str, row) for j in range(c) for k in range(h)] for i in range(n)]
    merged = []
    for plane in pieces:  # what lies without a gap is one run, but never from one n to the next
        merged.append(plane[0])
        for start, size in plane[1:]:
            last_start, last_size = merged[-1]
            # A gap inside a plane keeps planes apart too: the DMA folds c only where it has folded h.
            whole = gap_h == 0 or h == 1
            if start == last_start + last_size and whole:
                merged[-1] = (last_start, last_size + size)
            else:
                merged.append((start, size))
    expected = np.sum([twin(*run) for run in merged], axis=0)
    one = (np.array([v]) for v in (addr, n, c, h, n_str, c_str, h_str, row))
    a, n_, c_, h_, ns, cs, hs, rows = one
    runs, bursts, beats = count_tensors(a, (n_, c_, h_), (ns, cs, hs), rows)
    assert (runs[0], bursts[0], beats[0]) == (len(merged), *expected)
