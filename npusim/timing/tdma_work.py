"""How much work each TDMA command is: bursts and beats of DRAM, rows and lines of LMEM. No cycles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.errors import IllegalInstruction
from npusim.isa.layout import Columns
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir, TransposeMd
from npusim.timing.bursts import BEAT_BYTES, count_tensors
from npusim.timing.distinct import Distinct

MAX_PIECES, MAX_BYTES = 1 << 22, 1 << 32
"""The most that one transfer may have: more pieces than the largest LMEM has elements, and as many bytes as GMEM."""


@dataclass(frozen=True)
class TdmaWork:
    """One entry a TDMA descriptor."""

    kind: Ints
    """Place in INSTRUCTIONS."""
    direction: Ints
    """TransDir."""
    read_bursts: Ints
    read_beats: Ints
    """16-byte granules of DRAM that are read. For compressed data, those of the decompressed data."""
    write_bursts: Ints
    write_beats: Ints
    splits: Ints
    """LMEM pieces that start in the middle of a beat."""
    lines: Ints
    """16-byte lines of LMEM, each of one lane."""
    elements: Ints
    compressed: NDArray[np.bool_]
    by_channel: NDArray[np.bool_]
    """The transfer tells the TIU when each channel has arrived (intra_cmd_paral)."""
    channels: Ints

    def __len__(self) -> int:
        return len(self.kind)


def tdma_work(commands: Distinct, columns: Columns) -> TdmaWork:
    """The work of TDMA `commands`, given also as `columns` (npusim.isa.regs.tdma_columns).

    Base registers hold multiples of 4 KiB, so they do not change how an address is cut into bursts. Raises
    IllegalInstruction for a transfer that is too large to be one.
    """
    c, kind = columns, commands.kind
    direction = c["trans_dir"]
    general, matrix, compressed = (commands.flag(name) for name in ("linear", "matrix", "compressed"))
    fills = c["spec_func"] == SpecFunc.FILL_CONSTANT
    reads = ((direction == TransDir.G2L) | (direction == TransDir.G2G)) & ~fills
    writes = (direction == TransDir.L2G) | (direction == TransDir.G2G)
    from_lmem = (direction == TransDir.L2G) | (direction == TransDir.L2L)
    src, dst = _Side(c, "src", general, matrix, compressed), _Side(c, "dst", general, matrix, compressed)
    src.check(commands.index)
    dst.check(commands.index)
    read_runs, read_bursts, read_beats = src.traffic(reads)
    _, write_bursts, write_beats = dst.traffic(writes)
    local = {
        name: np.where(from_lmem, getattr(src, name), getattr(dst, name))
        for name in ("n", "c", "h", "row_bytes", "h_str")
    }
    whole = local["h_str"] == local["row_bytes"]
    in_lmem = direction != TransDir.G2G
    pieces = local["n"] * local["c"] * np.where(whole, 1, local["h"])
    piece_bytes = local["row_bytes"] * np.where(whole, local["h"], 1)
    return TdmaWork(
        kind=kind,
        direction=direction,
        read_bursts=read_bursts,
        read_beats=read_beats,
        write_bursts=write_bursts,
        write_beats=write_beats,
        splits=np.where(piece_bytes % BEAT_BYTES == 0, 0, np.maximum(pieces - read_runs, 0)),
        lines=np.where(in_lmem, pieces * -(-piece_bytes // BEAT_BYTES), 0),
        elements=np.where(general, c["src_n_stride"], np.where(matrix, c["src_c"] * c["src_w"], _product(c, "src"))),
        compressed=compressed,
        by_channel=c.get("intra_cmd_paral", np.zeros_like(kind)) == 1,
        channels=local["c"],
    )


def _product(c: Columns, side: str) -> Ints:
    return c["src_n"] * c[f"{side}_c"] * c[f"{side}_h"] * c[f"{side}_w"]


class _Side:
    """Source or destination of every descriptor as rows of contiguous bytes."""

    def __init__(
        self,
        c: Columns,
        side: str,
        general: NDArray[np.bool_],
        matrix: NDArray[np.bool_],
        compressed: NDArray[np.bool_],
    ) -> None:
        other = "dst" if side == "src" else "src"
        wide = {end: c[f"{end}_fmt"] == TdmaFmt.BF16 for end in ("src", "dst")}
        itemsize = np.where(wide[side] & (wide[other] | (c["trans_dir"] != TransDir.G2G)), 2, 1)
        self.addr = c[f"{side}_base_addr_low"]
        in_lmem = c["trans_dir"] == (TransDir.L2G if side == "src" else TransDir.G2L)
        self.n = np.where(matrix & ~in_lmem, 1, c["src_n"])  # rows of a matrix are n in LMEM and c in GMEM
        self.c, self.h = c[f"{side}_c"], np.where(matrix, 1, c[f"{side}_h"])
        self.n_str = c[f"{side}_n_stride"]
        self.c_str = c[f"{side}_c_stride_high"] << 16 | c[f"{side}_c_stride_low"]
        self.h_str = np.where(matrix, self.c_str, c[f"{side}_h_stride"])
        self.row_bytes = c[f"{side}_w"] * itemsize
        turned = (c["spec_func"] == SpecFunc.TRANSPOSE) & (c["transpose_md"] != TransposeMd.NC) & ~matrix
        rotated = turned & (c["transpose_md"] != TransposeMd.CW) & (side == "src")
        colours = np.where(c["transpose_md"] == TransposeMd.CHW_C4, 4, 3)
        self.c = np.where(rotated, 1, self.c)
        self.row_bytes = np.where(rotated, self.row_bytes * colours, self.row_bytes)
        dense = general | compressed
        total = np.where(general, c["src_n_stride"], _product(c, side) * itemsize)
        total = np.where(compressed & matrix, c["src_c"] * c["src_w"] * itemsize, total)
        dense = dense & (general | ~in_lmem)
        for name in ("n", "c", "h"):
            setattr(self, name, np.where(dense, 1, getattr(self, name)))
        self.row_bytes = np.where(dense, total, self.row_bytes)
        self.h_str = np.where(dense, total, self.h_str)

    def check(self, index: Ints) -> None:
        """Raises IllegalInstruction for a tensor that is larger than any LMEM or GMEM."""
        pieces = self.n.astype(float) * self.c * self.h
        bad = np.flatnonzero((pieces > MAX_PIECES) | (pieces * self.row_bytes > MAX_BYTES))
        if len(bad):
            at = int(bad[0])
            size = f"{pieces[at]:.0f} pieces of {self.row_bytes[at]} bytes"
            raise IllegalInstruction(
                f"command {index[at]}: a transfer of {size}; at most {MAX_PIECES} pieces and {MAX_BYTES} bytes are "
                "possible",
                int(index[at]),
            )

    def traffic(self, active: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        """(runs, bursts, beats) where `active`, else 0."""
        which = np.flatnonzero(active & (self.n * self.c * self.h * self.row_bytes > 0))
        result = tuple(np.zeros(len(self.n), np.int64) for _ in range(3))
        shape = tuple(getattr(self, name)[which] for name in ("n", "c", "h"))
        strides = tuple(getattr(self, name)[which] for name in ("n_str", "c_str", "h_str"))
        found = count_tensors(self.addr[which], shape, strides, self.row_bytes[which])
        for column, values in zip(result, found, strict=True):
            column[which] = values
        return result  # type: ignore[return-value]
