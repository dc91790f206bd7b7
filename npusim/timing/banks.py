"""Which transfers may use an LMEM bank while the TIU uses it.

A lane's LMEM is divided into equal banks with one port each. While a TIU command works on a bank, a transfer that
touches the same bank waits now and then. The TIU never waits: in the trace (constants.TRACE) its times are exact
whether or not a transfer runs at the same time. Which commands can run at the same time follows from what they wait
for, so this is a property of the program, not of a schedule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.chip import Chip
from npusim.isa.opcodes import PerEngine
from npusim.timing.spans import LmemUse

HIGHEST_BIT = 61
NEIGHBOURS = 4
"""At most this many TIU commands after the one that a transfer waits for are looked at."""


def bank_masks(spans: Ints, chip: Chip) -> Ints:
    """int64 of shape (commands,); bit b of entry i says that command i touches bank b.

    `spans`: int64 of shape (commands, operands, 2), as in LmemUse."""
    size = chip.lmem_bytes // chip.num_lmem_banks
    start, end = spans[..., 0], spans[..., 1]
    first, last = (np.minimum(at // size, HIGHEST_BIT) for at in (start, np.maximum(end - 1, 0)))
    bits = (np.int64(2) << last) - (np.int64(1) << first)
    return np.bitwise_or.reduce(np.where(end > start, bits, 0), axis=1)


def meets_tiu(use: LmemUse, needs: PerEngine[Ints], chip: Chip) -> NDArray[np.bool_]:
    """For each TDMA command, whether a TIU command that may run at the same time touches one of its banks.

    `needs` is Workload.needs. TIU commands that may run at the same time as transfer j come after the one that j waits
    for, and before the first that waits for j."""
    tiu, tdma = bank_masks(use.tiu, chip), bank_masks(use.tdma, chip)
    if not len(tiu):
        return np.zeros(len(tdma), bool)
    waits_for = np.maximum.accumulate(needs.tiu)
    first = np.maximum.accumulate(needs.tdma)
    beside = np.zeros(len(tdma), np.int64)
    place = np.arange(len(tdma))
    for step in range(NEIGHBOURS):
        at = np.minimum(first + step, len(tiu) - 1)
        runs = (first + step < len(tiu)) & (waits_for[at] <= place)
        beside |= np.where(runs, tiu[at], 0)
    return (beside & tdma) != 0
