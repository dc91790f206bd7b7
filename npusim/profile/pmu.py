"""PMU records: what the chip's performance monitor writes for every command, measured on a board or predicted.

A record holds the engine, the descriptor's id, start and end in TPU ticks, and for the DMA its bursts and 16-byte
beats. Records are in the order in which commands end. A copy within DRAM has two records, a load and a store
(sophgo/cviruntime src/soc/*/tpu_pmu.cpp)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.isa.layout import Columns
from npusim.timing.bursts import BEAT_BYTES


class PmuType(IntEnum):
    LOAD = 1
    STORE = 2
    MOVE = 3
    TIU = 4


TDMA_FIELDS = (
    "trans_fmt", "transpose_md", "cmd_id", "wait_id_tpu", "dst_h_stride", "dst_c_stride_low", "dst_n_stride",
    "src_h_stride",
    "src_c_stride_low", "src_n_stride", "dst_c", "src_c", "dst_w", "dst_h", "src_w", "src_h", "src_n",
)  # fmt: skip
"""Fields of a TDMA descriptor that follow the two addresses in the vendor's file, in its order."""


@dataclass(frozen=True)
class PmuRecords:
    """PMU records as columns, with one entry for each record."""

    kind: Ints
    """PmuType."""
    des_id: Ints
    bursts: Ints
    """Event 0 as the driver sets it up: bursts of the DMA."""
    beats: Ints
    """Event 1: 16-byte beats."""
    start: Ints
    end: Ints
    layer: Ints
    description: tuple[str, ...]
    """The vendor's name for the command, such as "TIU PerChannel Convolution"."""
    tdma: Columns = field(default_factory=dict)
    """`src_addr`, `dst_addr`, `base_reg` and TDMA_FIELDS of TDMA records, 0 for TIU records. Empty if not known."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def ticks(self) -> int:
        """Ticks from the first start to the last end; the vendor's inference_tick."""
        return int(self.end.max() - self.start.min()) if len(self) else 0

    @property
    def num_bytes(self) -> Ints:
        return self.beats * BEAT_BYTES

    def busy(self, *kinds: PmuType) -> int:
        """Ticks that commands of these kinds take together. A copy within DRAM counts once, as a load."""
        chosen = np.isin(self.kind, kinds)
        if PmuType.LOAD in kinds:
            chosen &= ~self.second_of_copy
        return int((self.end - self.start)[chosen].sum())

    @property
    def second_of_copy(self) -> NDArray[np.bool_]:
        """bool: the store records of copies within DRAM, which have the descriptor and the times of the load before
        them."""
        again = np.zeros(len(self), bool)
        again[1:] = (np.diff(self.des_id) == 0) & (np.diff(self.start) == 0) & (np.diff(self.end) == 0)
        return again & (self.kind == PmuType.STORE)


@dataclass(frozen=True)
class LayerRecord:
    """A run of records of one layer: a row of the vendor's `_layer.csv`. Times are in ticks."""

    layer: int
    start: int
    end: int
    last_id: int
    tiu: int
    load_neuron: int
    load_weight: int
    store_neuron: int
    tdma: int
    num_bytes: int

    @property
    def ticks(self) -> int:
        return self.end - self.start


def layer_records(records: PmuRecords) -> list[LayerRecord]:
    """Runs of neighbouring records of the same layer. Loads from base register 0 count as neurons, from 1 as weights;
    every store counts as neurons."""
    if not len(records):
        return []
    bounds = [0, *(np.flatnonzero(np.diff(records.layer)) + 1).tolist(), len(records)]
    duration = records.end - records.start
    base = records.tdma.get("base_reg", np.zeros(len(records), np.int64))
    load, store = records.kind == PmuType.LOAD, records.kind == PmuType.STORE
    columns = {
        "tiu": np.where(records.kind == PmuType.TIU, duration, 0),
        "load_neuron": np.where(load & (base == 0), duration, 0),
        "load_weight": np.where(load & (base == 1), duration, 0),
        "store_neuron": np.where(store, duration, 0),
        "tdma": np.where(load | store, duration, 0),
        "num_bytes": records.num_bytes,
    }
    return [
        LayerRecord(
            layer=int(records.layer[a]),
            start=int(records.start[a:b].min()),
            end=int(records.end[a:b].max()),
            last_id=int(records.des_id[b - 1]),
            **{name: int(column[a:b].sum()) for name, column in columns.items()},
        )
        for a, b in pairwise(bounds)
    ]
