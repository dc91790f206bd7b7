"""Which bytes of a lane's LMEM each command touches: one span an operand, lanes not told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.layout import Columns
from npusim.isa.opcodes import ArithEuTyp, PoolEuTyp, TdmaFmt, TransDir, TskTyp

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
    """Most lanes that any operand uses, counted from lane 0 on; more than the chip has where channels go round the
    lanes."""

    @property
    def high_water(self) -> int:
        """Highest end of any span, in bytes of a lane."""
        return int(max(self.tiu[..., 1].max(initial=0), self.tdma[..., 1].max(initial=0)))

    @classmethod
    def joined(cls, parts: Sequence[LmemUse]) -> LmemUse:
        return cls(
            np.concatenate([p.tiu for p in parts]), np.concatenate([p.tdma for p in parts]), max(p.lanes for p in parts)
        )


def lmem_use(chip: Chip, tiu: Columns, tdma: Columns) -> LmemUse:
    """The use that descriptors given as columns make of LMEM."""
    operands = [_tiu_span(chip, tiu, name) for name in TIU_OPERANDS]
    sides = [_tdma_span(chip, tdma, side) for side in ("src", "dst")]
    lanes = max((int(reach.max(initial=0)) for _, reach in (*operands, *sides)), default=0)
    return LmemUse(
        np.stack([span for span, _ in operands], axis=1), np.stack([span for span, _ in sides], axis=1), lanes
    )


def _tiu_span(chip: Chip, c: Columns, name: str) -> tuple[Ints, Ints]:
    """(spans, lanes reached) of one operand."""
    itemsize = np.where(c["opd_typ"] == 1, 2, 1)
    addr = c[f"{name}_addr"]
    if name in ("opd1", "opd2"):
        addr = c["res0_addr"] & ~0xFFFF | addr
    n, ch, h, w = _extents(c, name)
    lane0, offset = np.divmod(addr, chip.lmem_bytes)
    turns = -(-(lane0 + ch) // chip.num_lanes)
    given = c[f"short_{name}_str"] == 3
    packed = (c[f"short_{name}_str"] != 0) | ((c["tsk_typ"] == TskTyp.CONV) & (name in ("opd1", "opd2")))
    plane = h * w * itemsize
    c_str = np.where(given, c[f"{name}_c_str"], np.where(packed, plane, -(-plane // chip.eu_num) * chip.eu_num))
    n_str = np.where(given, c[f"{name}_n_str"], c_str * turns)
    h_str = np.where(given, c[f"{name}_h_str"], w * itemsize)
    w_str = np.where(given, c[f"{name}_w_str"], itemsize)
    last = (n - 1) * n_str + (turns - 1) * c_str + (h - 1) * h_str + (w - 1) * w_str + itemsize
    used = _is_used(c, name)
    return _span(used, offset, offset + last + _planes(c, name) * c[f"{name}_b_str"]), np.where(used, lane0 + ch, 0)


def _extents(c: Columns, name: str) -> tuple[Ints, Ints, Ints, Ints]:
    """(n, c, h, w) as the operand lies in LMEM: kernels, biases and records are one run for each channel of the
    result."""
    conv, matmul = c["tsk_typ"] == TskTyp.CONV, c["tsk_typ"] == TskTyp.FC
    n, ch, h, w = (np.maximum(c[f"{name}_{dim}"], 1) for dim in "nchw")
    width = np.maximum(c["res0_w"], 1)
    if name == "opd1":
        n, ch, h, w = (np.where(conv, v, x) for v, x in ((1, n), (c["res0_c"], ch), (1, h), (n * h * w, w)))
        return n, ch, np.where(matmul, 1, h), np.where(matmul, width, w)
    if name == "opd2":
        quantised = c["opt_chl_quan"] == 1
        record = np.where(quantised, np.where(c["tsk_opd_num"] == 3, 9, 5), 2)
        row = np.where(c["tsk_typ"] == TskTyp.TENSOR_ARITH, w, record)
        bias_planes = np.where(quantised, 4, 2)
        return np.where(matmul, bias_planes, 1), c["res0_c"], np.ones_like(h), np.where(matmul, width, row)
    return n, ch, h, w


def _is_used(c: Columns, name: str) -> NDArray[np.bool_]:
    """Which commands read or write the operand in LMEM."""
    pool = (c["tsk_typ"] == TskTyp.DEPTHWISE_POOL) & (c["tsk_eu_typ"] != PoolEuTyp.DEPTHWISE)
    arith = c["tsk_typ"] == TskTyp.TENSOR_ARITH
    if name == "res0":
        return np.ones(len(arith), bool)
    tensor = c[f"opt_{name}_const"] == 0
    if name == "opd1":
        return tensor & ~pool & ~(arith & (c["tsk_opd_num"] < 2))
    if name == "opd2":
        records = (c["opt_chl_quan"] == 1) & ~arith & (c["tsk_typ"] != TskTyp.FC)
        return tensor & ((c["tsk_opd_num"] == 3) | records)
    return tensor


def _planes(c: Columns, name: str) -> Ints:
    """Planes of bytes behind the first: one for 16-bit elements and for what mac adds to, three for 32-bit partial
    sums."""
    bf16, arith = c["opd_typ"] == 1, c["tsk_typ"] == TskTyp.TENSOR_ARITH
    wide = (c[f"opt_{name}_seg"] == 0) & ~bf16 & arith
    if name == "res0":
        partial = np.where(c["ps32_md"] > 0, np.where(bf16, 1, 3), 0)
        return np.maximum(partial, wide | (arith & ~bf16 & (c["tsk_eu_typ"] == ArithEuTyp.MAC)))
    return wide.astype(np.int64)


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
