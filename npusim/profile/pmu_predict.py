"""Predicts the PMU records that a board would write for a program, from its timeline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npusim.arrays import Ints
from npusim.insn import INSTRUCTIONS
from npusim.isa.layout import Columns
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import tdma_columns
from npusim.profile.pmu import TDMA_FIELDS, PmuRecords, PmuType
from npusim.program.cmdbuf import Cmdbuf
from npusim.timing.bursts import BEAT_BYTES
from npusim.timing.timeline import TDMA, TIU, Timeline

DIRECTIONS = {
    PmuType.LOAD: (TransDir.G2L, TransDir.G2G),
    PmuType.STORE: (TransDir.L2G, TransDir.G2G),
    PmuType.MOVE: (TransDir.L2L,),
}
"""The transfers that have a record of each type."""


def records_of(timeline: Timeline, cmdbufs: Sequence[Cmdbuf]) -> PmuRecords:
    """The records that the PMU would write for `timeline`, whose workload is that of `cmdbufs` in turn."""
    parts = [tdma_columns(cmdbuf.chip, cmdbuf.tdma) for cmdbuf in cmdbufs]
    tdma = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = {kind: np.flatnonzero(np.isin(tdma["trans_dir"], which)) for kind, which in DIRECTIONS.items()}
    parts = [_tdma_part(timeline, kind, at) for kind, at in rows.items()] + [_tiu_part(timeline)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.lexsort((columns["kind"], columns["end"]))
    # Descriptor fields and names of TDMA records; TIU records, which come last, have no such fields.
    row, num_tdma = np.concatenate(list(rows.values())), sum(map(len, rows.values()))
    num_tiu = len(order) - num_tdma
    fields = {name: np.append(column[row], np.zeros(num_tiu, np.int64))[order] for name, column in _shown(tdma).items()}
    words = np.array(
        _tdma_words(columns["kind"][:num_tdma], tdma["sys_dtype"][row], tdma["compress_en"][row])
        + _tiu_words(timeline),
        object,
    )
    return PmuRecords(
        **{name: column[order] for name, column in columns.items()},
        description=tuple(words[order]),
        tdma=fields if len(tdma["trans_dir"]) else {},
    )


def _tdma_part(timeline: Timeline, kind: PmuType, rows: Ints) -> Columns:
    work = timeline.workload.tdma
    none = np.zeros(len(work), np.int64)
    bursts, moved = {
        PmuType.LOAD: (work.read_bursts, timeline.dram_bytes("read")),
        PmuType.STORE: (work.write_bursts, timeline.dram_bytes("write")),
        PmuType.MOVE: (none, none),
    }[kind]
    part = _common(timeline, TDMA) | {"bursts": bursts, "beats": moved // BEAT_BYTES}
    return {"kind": np.full(len(rows), kind)} | {name: column[rows] for name, column in part.items()}


def _tiu_part(timeline: Timeline) -> Columns:
    none = np.zeros(len(timeline.workload.tiu), np.int64)
    return {"kind": none + PmuType.TIU, "bursts": none, "beats": none} | _common(timeline, TIU)


def _common(timeline: Timeline, engine: int) -> Columns:
    tick, work = timeline.board.tick_ps, timeline.workload
    start, end = (np.rint(t[engine] / tick).astype(np.int64) for t in (timeline.start_ps, timeline.end_ps))
    return {"des_id": work.cmd_id[engine], "layer": work.layer[engine], "start": start, "end": end}


def _shown(tdma: Columns) -> Columns:
    addresses = {
        f"{side}_addr": tdma[f"{side}_base_addr_high"] << 32 | tdma[f"{side}_base_addr_low"] for side in ("src", "dst")
    }
    return addresses | {"base_reg": tdma["src_base_reg_sel"]} | {name: tdma[name] for name in TDMA_FIELDS}


def _tdma_words(kinds: Ints, matrix: Ints, compressed: Ints) -> list[str]:
    words = {
        (kind, is_matrix, packed): (
            f"TDMA {('Tensor', 'Matrix')[is_matrix]} {kind.name.capitalize()}{' Compression' if packed else ''}"
        )
        for kind in DIRECTIONS
        for is_matrix in (0, 1)
        for packed in (0, 1)
    }
    return [words[key] for key in zip(kinds.tolist(), matrix.tolist(), compressed.tolist(), strict=True)]


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
"""Commands whose name in the vendor's file is the same in bf16."""


def _tiu_words(timeline: Timeline) -> list[str]:
    work = timeline.workload.tiu
    keys, inverse = np.unique(4 * work.kind + 2 * work.per_channel + work.bf16, return_inverse=True)
    words = [_words(INSTRUCTIONS[key // 4].mnemonic, bool(key & 2), bool(key & 1)) for key in keys.tolist()]
    return [words[i] for i in inverse.tolist()]


def _words(mnemonic: str, per_channel: bool, bf16: bool) -> str:
    name = _WORDS.get(mnemonic, f"Element-wise {mnemonic.removeprefix('tiu_').capitalize()}")
    if per_channel and mnemonic == "tiu_depthwise_convolution":
        return "TIU Depthwise PerChannel Convolution"
    if per_channel and mnemonic in ("tiu_convolution", "tiu_matrix_multiplication"):
        return f"TIU PerChannel {name}"
    return f"TIU {'BF16 ' if bf16 and mnemonic not in _NO_FORMAT else ''}{name}"
