"""Runs one elementwise instruction on flat arrays, through a command buffer, for the tests of tensor arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim import Machine
from npusim.isa.opcodes import ArithEuTyp
from npusim.program.cmdbuf import build_cmdbuf
from tests.support.case import tiu

ROW = 64
PLANES = {1: np.uint8, 2: np.uint16}


class Bench:
    """Lays operands out over all lanes, one plane after the other, and builds the descriptor on the way."""

    def __init__(self, chip: str, eu_typ: ArithEuTyp, itemsize: int = 1, **fields: int) -> None:
        self.machine = Machine(chip)
        self.itemsize = itemsize
        self.fields = dict(
            tsk_typ=3, tsk_eu_typ=int(eu_typ), opd_typ=itemsize - 1, opt_res0_sign=1, opt_opd0_sign=1, opt_opd1_sign=1
        )
        self.fields.update(
            tsk_opd_num=1 if eu_typ == ArithEuTyp.COPY else 2, opt_res_add=int(eu_typ == ArithEuTyp.MAC), **fields
        )
        self.free = 0
        self.count = 0

    def place(self, opd: str, values: NDArray, wide: bool = False) -> Bench:
        """Operand (or, for res0, what is there before) `values`: one plane of itemsize bytes an element, or `wide`: two
        of one byte."""
        lanes = self.machine.chip.num_lanes
        self.count = self.count or len(values)
        height = -(-len(values) // (lanes * ROW))
        plane = height * ROW * self.itemsize
        padded = np.resize(values, (lanes, height * ROW))
        self._view(self.free, padded.shape[1])[...] = padded.astype(PLANES[self.itemsize], casting="unsafe")
        if wide:
            self._view(self.free + plane, padded.shape[1])[...] = (padded >> 8).astype(np.uint8)
        strides = {
            f"{opd}_n_str": plane,
            f"{opd}_c_str": plane,
            f"{opd}_h_str": ROW * self.itemsize,
            f"{opd}_w_str": self.itemsize,
        }
        extents = {f"{opd}_n": 1, f"{opd}_c": lanes, f"{opd}_h": height, f"{opd}_w": ROW}
        self.fields.update(
            strides, **extents, **{f"{opd}_addr": self.free, f"{opd}_b_str": plane, f"short_{opd}_str": 3}
        )
        self.fields[f"opt_{opd}_seg"] = int(not wide)
        self.free += plane * (1 + wide)
        return self

    def constant(self, opd: str, value: int, wide: bool = False) -> Bench:
        """Operand `opd` as a constant; res0 or the other operand has been placed."""
        other = "opd0" if opd == "opd1" else "opd1"
        self.fields.update({f"{opd}_{dim}": self.fields[f"{other}_{dim}"] for dim in "nchw"})
        self.fields.update({f"{opd}_addr": value, f"opt_{opd}_const": 1, f"opt_{opd}_seg": int(not wide)})
        return self

    def run(self) -> None:
        self.machine.run_cmdbuf(build_cmdbuf(self.machine.chip, [tiu(self.machine.chip, **self.fields)]))

    def result(self, dtype: type, wide: bool = False) -> NDArray:
        """Runs, and gives the result as `dtype`, read as two planes of bytes if `wide`."""
        self.run()
        width = self.fields["res0_h"] * ROW
        low = self._view(self.fields["res0_addr"], width).reshape(-1)[: self.count]
        if not wide:
            return low.view(dtype)
        high = self._view(self.fields["res0_addr"] + self.fields["res0_b_str"], width).reshape(-1)[: self.count]
        return (low.astype(np.uint16) | high.astype(np.uint16) << 8).view(dtype)

    def _view(self, offset: int, width: int) -> NDArray:
        return self.machine.lmem[:, offset : offset + width * self.itemsize].view(PLANES[self.itemsize])
