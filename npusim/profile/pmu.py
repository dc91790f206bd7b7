"""PMU records: what the chip's performance monitor writes of every command, measured on a board or predicted here.

A record holds the engine, the descriptor's id, start and end in TPU ticks, and for the DMA its bursts and 16-byte
beats. Records come in the order in which commands end. A copy within DRAM has two, a load and a store
(sophgo/cviruntime src/soc/*/tpu_pmu.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from npusim.insn import INSTRUCTIONS
from npusim.isa.layout import Columns
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import tdma_columns, tiu_columns
from npusim.program.cmdbuf import Cmdbuf
from npusim.timing.bursts import BEAT_BYTES
from npusim.timing.timeline import TDMA, TIU, Timeline

Ints = NDArray[np.int64]


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
"""Fields of a TDMA descriptor that stand in the vendor's file, in its order, behind the two addresses."""


@dataclass(frozen=True)
class PmuRecords:
    """One entry a record."""

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
    """The vendor's words for the command, as in "TIU PerChannel Convolution"."""
    tdma: Columns = field(default_factory=dict)
    """Of TDMA records, `src_addr`, `dst_addr`, `base_reg` and TDMA_FIELDS; 0 for the TIU. Empty where they are not
    known."""

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def ticks(self) -> int:
        """From the first start to the last end: inference_tick."""
        return int(self.end.max() - self.start.min()) if len(self) else 0

    @property
    def num_bytes(self) -> Ints:
        return self.beats * BEAT_BYTES

    def busy(self, *kinds: PmuType) -> int:
        """Ticks that commands of these kinds take together; a copy within DRAM counts once, as a load."""
        chosen = np.isin(self.kind, kinds)
        if PmuType.LOAD in kinds:
            chosen &= ~self.second_of_copy
        return int((self.end - self.start)[chosen].sum())

    @property
    def second_of_copy(self) -> NDArray[np.bool_]:
        """The stores that belong to the load before them: same descriptor, same time."""
        again = np.zeros(len(self), bool)
        again[1:] = (np.diff(self.des_id) == 0) & (np.diff(self.start) == 0) & (np.diff(self.end) == 0)
        return again & (self.kind == PmuType.STORE)


def records_of(timeline: Timeline, cmdbufs: Sequence[Cmdbuf]) -> PmuRecords:
    """The records that the PMU would write of `timeline`, whose workload is that of `cmdbufs` in turn."""
    chip = timeline.workload.chip
    tiu = _joined([tiu_columns(chip, c.tiu) for c in cmdbufs])
    tdma = _joined([tdma_columns(chip, c.tdma) for c in cmdbufs])
    direction = tdma["trans_dir"]
    loads = np.flatnonzero((direction == TransDir.G2L) | (direction == TransDir.G2G))
    stores = np.flatnonzero((direction == TransDir.L2G) | (direction == TransDir.G2G))
    moves = np.flatnonzero(direction == TransDir.L2L)
    parts = [
        _tdma_part(timeline, tdma, PmuType.LOAD, loads, timeline.workload.tdma.read_bursts, "read"),
        _tdma_part(timeline, tdma, PmuType.STORE, stores, timeline.workload.tdma.write_bursts, "write"),
        _tdma_part(timeline, tdma, PmuType.MOVE, moves, np.zeros_like(direction), None),
        _tiu_part(timeline, tiu),
    ]
    kind, des_id, bursts, beats, start, end, layer = (np.concatenate([p[i] for p in parts]) for i in range(7))
    rows = np.concatenate([loads, stores, moves, np.full(len(tiu["cmd_id_tpu"]), -1)])
    order = np.lexsort((kind, end))
    words = [_tiu_words(tiu, timeline.workload.tiu.kind, i) for i in range(len(tiu["cmd_id_tpu"]))]
    place = np.concatenate([np.zeros(len(rows) - len(words), np.int64), np.arange(len(words))])
    description = tuple(
        words[place[i]] if kind[i] == PmuType.TIU else _tdma_words(tdma, int(rows[i]), PmuType(int(kind[i])))
        for i in order.tolist()
    )
    picked = {
        name: np.where(rows >= 0, column.take(np.maximum(rows, 0), mode="clip"), 0)[order]
        for name, column in _shown(tdma).items()
    }
    kind, des_id, bursts, beats, start, end, layer = (
        v[order] for v in (kind, des_id, bursts, beats, start, end, layer)
    )
    return PmuRecords(kind, des_id, bursts, beats, start, end, layer, description, picked if len(direction) else {})


@dataclass(frozen=True)
class LayerRecord:
    """A run of records of one layer, as a row of the vendor's `_layer.csv`. Times in ticks."""

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
    """Runs of neighbouring records with the same layer. Loads from base register 0 are neurons, from 1 weights; every
    store is neurons."""
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


def _tdma_part(
    timeline: Timeline, tdma: Columns, kind: PmuType, rows: Ints, bursts: Ints, side: str | None
) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints]:
    beats = timeline.dram_bytes(side) // BEAT_BYTES if side else np.zeros_like(bursts)
    start, end = _ticks(timeline, TDMA)
    return (
        np.full(len(rows), kind),
        tdma["cmd_id"][rows],
        bursts[rows],
        beats[rows],
        start[rows],
        end[rows],
        tdma["layer_ID"][rows],
    )


def _tiu_part(timeline: Timeline, tiu: Columns) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints, Ints]:
    none = np.zeros_like(tiu["cmd_id_tpu"])
    return np.full(len(none), PmuType.TIU), tiu["cmd_id_tpu"], none, none, *_ticks(timeline, TIU), tiu["layer_info"]


def _ticks(timeline: Timeline, engine: int) -> tuple[Ints, Ints]:
    tick = timeline.board.tick_ps
    return tuple(np.rint(t[engine] / tick).astype(np.int64) for t in (timeline.start_ps, timeline.end_ps))  # type: ignore[return-value]


def _shown(tdma: Columns) -> Columns:
    addresses = {
        f"{side}_addr": tdma[f"{side}_base_addr_high"] << 32 | tdma[f"{side}_base_addr_low"] for side in ("src", "dst")
    }
    return addresses | {"base_reg": tdma["src_base_reg_sel"]} | {name: tdma[name] for name in TDMA_FIELDS}


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _tdma_words(tdma: Columns, row: int, kind: PmuType) -> str:
    what = "Matrix" if tdma["sys_dtype"][row] else "Tensor"
    return f"TDMA {what} {kind.name.capitalize()}{' Compression' if tdma['compress_en'][row] else ''}"


_WORDS = {
    "tiu_convolution": "Convolution",
    "tiu_depthwise_convolution": "Depthwise Convolution",
    "tiu_max_pooling": "Max Pooling",
    "tiu_min_pooling": "Min Pooling",
    "tiu_average_pooling": "Average Pooling",
    "tiu_matrix_multiplication": "Matrix Multiplication",
    "tiu_arith_shift": "Element-wise Shift",
    "tiu_mul_qm": "Element-wise Mul(QDM)",
    "tiu_lookup_table": "Lookup Table",
    "tiu_mdsum": "Mdsum",
} | {f"tiu_{name}": f"Element-wise {name.upper()}" for name in ("and", "or", "xor")}
_NO_FORMAT = ("tiu_lookup_table", "tiu_mdsum", "tiu_mul_qm", "tiu_arith_shift")
"""Commands that the vendor's file calls the same in bf16."""


def _tiu_words(tiu: Columns, kinds: Ints, row: int) -> str:
    mnemonic = INSTRUCTIONS[int(kinds[row])].mnemonic
    name = _WORDS.get(mnemonic, f"Element-wise {mnemonic.removeprefix('tiu_').capitalize()}")
    if tiu["opt_chl_quan"][row] and mnemonic in (
        "tiu_convolution",
        "tiu_depthwise_convolution",
        "tiu_matrix_multiplication",
    ):
        return (
            "TIU Depthwise PerChannel Convolution"
            if mnemonic == "tiu_depthwise_convolution"
            else f"TIU PerChannel {name}"
        )
    return f"TIU {'BF16 ' if tiu['opd_typ'][row] and mnemonic not in _NO_FORMAT else ''}{name}"
