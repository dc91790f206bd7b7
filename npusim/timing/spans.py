"""Which bytes of a lane's LMEM each command touches: one span an operand, lanes not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.layout import Columns
from npusim.isa.opcodes import TdmaFmt, TransDir, TskTyp

Ints = NDArray[np.int64]
TIU_OPERANDS = ("res0", "opd0", "opd1", "opd2")


@dataclass(frozen=True)
class LmemUse:
    """Spans [start, end) of offsets within a lane, empty (0, 0) where a command has no such operand."""

    tiu: Ints
    """Shape (TIU commands, 4 operands, 2): res0, opd0, opd1, opd2."""
    tdma: Ints
    """Shape (TDMA commands, 2, 2): source, destination."""
    lanes: int
    """Most lanes that any operand uses, counted from lane 0 on; more than the chip has where channels go round the lanes."""

    @property
    def high_water(self) -> int:
        """Highest end of any span, in bytes of a lane."""
        return int(max(self.tiu[..., 1].max(initial=0), self.tdma[..., 1].max(initial=0)))

    @classmethod
    def joined(cls, parts: Sequence[LmemUse]) -> LmemUse:
        return cls(np.concatenate([p.tiu for p in parts]), np.concatenate([p.tdma for p in parts]), max(p.lanes for p in parts))


def lmem_use(chip: Chip, tiu: Columns, tdma: Columns) -> LmemUse:
    """The use that descriptors given as columns make of LMEM."""
    operands = [_tiu_span(chip, tiu, name) for name in TIU_OPERANDS]
    sides = [_tdma_span(chip, tdma, side) for side in ("src", "dst")]
    lanes = max((int(reach.max(initial=0)) for _, reach in (*operands, *sides)), default=0)
    return LmemUse(np.stack([span for span, _ in operands], axis=1), np.stack([span for span, _ in sides], axis=1), lanes)


def _tiu_span(chip: Chip, c: Columns, name: str) -> tuple[Ints, Ints]:
    """(spans, lanes reached) of one operand."""
    conv, matmul = c["tsk_typ"] == TskTyp.CONV, c["tsk_typ"] == TskTyp.FC
    arith = c["tsk_typ"] == TskTyp.TENSOR_ARITH
    itemsize = np.where(c["opd_typ"] == 1, 2, 1)
    addr = c[f"{name}_addr"]
    if name in ("opd1", "opd2"):
        addr = c["res0_addr"] & ~0xFFFF | addr
    n, ch, h, w = (np.maximum(c[f"{name}_{dim}"], 1) for dim in "nchw")
    if name == "opd1":  # kernels and quantisation records: packed, one run a channel of the result
        n, ch, h, w = (np.where(conv, v, x) for v, x in ((1, n), (c["res0_c"], ch), (1, h), (n * h * w, w)))
        h, w = np.where(matmul, 1, h), np.where(matmul, np.maximum(c["res0_w"], 1), w)
    if name == "opd2":
        record = np.where(c["opt_chl_quan"] == 1, np.where(c["tsk_opd_num"] == 3, 9, 5), 2)
        n, ch, h, w = (np.where(matmul | arith, x, v) for v, x in ((1, n), (c["res0_c"], ch), (1, h), (record, w)))
    lane0, offset = np.divmod(addr, chip.lmem_bytes)
    turns = -(-(lane0 + ch) // chip.num_lanes)
    given = c[f"short_{name}_str"] == 3
    plane = h * w * itemsize
    packed = (c[f"short_{name}_str"] != 0) | (conv & (name in ("opd1", "opd2")))
    c_str = np.where(given, c[f"{name}_c_str"], np.where(packed, plane, -(-plane // chip.eu_num) * chip.eu_num))
    n_str = np.where(given, c[f"{name}_n_str"], c_str * turns)
    h_str = np.where(given, c[f"{name}_h_str"], w * itemsize)
    w_str = np.where(given, c[f"{name}_w_str"], itemsize)
    last = (n - 1) * n_str + (turns - 1) * c_str + (h - 1) * h_str + (w - 1) * w_str + itemsize
    end = offset + last + _planes(c, name) * c[f"{name}_b_str"]
    used = {
        "res0": np.ones(len(addr), bool),
        "opd0": c["opt_opd0_const"] == 0,
        "opd1": (c["opt_opd1_const"] == 0)
        & ~((c["tsk_typ"] == TskTyp.DEPTHWISE_POOL) & (c["tsk_eu_typ"] != 2))
        & ~(arith & (c["tsk_opd_num"] < 2)),
        "opd2": ((c["tsk_opd_num"] == 3) | ((c["opt_chl_quan"] == 1) & ~arith & ~matmul)) & (c["opt_opd2_const"] == 0),
    }[name]
    return _span(used, offset, end), np.where(used, lane0 + ch, 0)


def _planes(c: Columns, name: str) -> Ints:
    """Planes of bytes behind the first: one for 16-bit elements, three for 32-bit partial sums."""
    narrow = c["opd_typ"] == 1
    if name == "res0":
        partial = np.where(c["ps32_md"] > 0, np.where(narrow, 1, 3), 0)
        wide = (c["opt_res0_seg"] == 0) & ~narrow & (c["tsk_typ"] == TskTyp.TENSOR_ARITH)
        return np.maximum(partial, wide)
    return ((c[f"opt_{name}_seg"] == 0) & ~narrow & (c["tsk_typ"] == TskTyp.TENSOR_ARITH)).astype(np.int64)


def _tdma_span(chip: Chip, c: Columns, side: str) -> tuple[Ints, Ints]:
    direction = c["trans_dir"]
    near = np.isin(direction, (TransDir.L2G, TransDir.L2L) if side == "src" else (TransDir.G2L, TransDir.L2L))
    general = c["trans_fmt"] == 1
    itemsize = np.where(c[f"{side}_fmt"] == TdmaFmt.BF16, 2, 1)
    lane0, offset = np.divmod(c[f"{side}_base_addr_low"], chip.lmem_bytes)
    n, ch, h, w = (np.maximum(v, 1) for v in (c["src_n"], c[f"{side}_c"], c[f"{side}_h"], c[f"{side}_w"]))
    turns = -(-(lane0 + ch) // chip.num_lanes)
    c_str = c[f"{side}_c_stride_high"] << 16 | c[f"{side}_c_stride_low"]
    h_str = np.where(c["sys_dtype"] == 1, 0, c[f"{side}_h_stride"])
    end = offset + (n - 1) * c[f"{side}_n_stride"] + (turns - 1) * c_str + (h - 1) * h_str + w * itemsize
    # A general copy moves bytes on through the lanes, whatever the shape.
    reach = offset + c["src_n_stride"]
    end = np.where(general, np.minimum(reach, chip.lmem_bytes), end)
    lanes = np.where(general, lane0 + -(-reach // chip.lmem_bytes), lane0 + ch)
    offset = np.where(general & (reach > chip.lmem_bytes), 0, offset)
    return _span(near, offset, end), np.where(near, lanes, 0)


def _span(used: NDArray[np.bool_], start: Ints, end: Ints) -> Ints:
    return np.where(used[:, None], np.stack([start, end], axis=1), 0)
