"""Small programs for the checker's tests.

int8 tensors of 1 x 8 x 1 x w go from GMEM to LMEM, through the TIU, and back."""

from __future__ import annotations

from dataclasses import dataclass, field

from npusim.chip import CV181X
from npusim.program.cmdbuf import Cmdbuf, build_cmdbuf, parse_cmdbuf
from tests.support.case import Command, tdma, tiu

CHANNELS = 8
W = 16


@dataclass
class Program:
    """Commands in buffer order; each call adds one and returns its id. `wait` is an id of the other engine."""

    commands: list[Command] = field(default_factory=list)
    num_tiu: int = 0
    num_tdma: int = 0

    @property
    def cmdbuf(self) -> Cmdbuf:
        return parse_cmdbuf(CV181X, build_cmdbuf(CV181X, self.commands))

    def tdma(self, **fields: int) -> int:
        self.num_tdma += 1
        self.commands.append(tdma(CV181X, **{"cmd_id": self.num_tdma, **fields}))
        return self.num_tdma

    def tiu(self, **fields: int) -> int:
        self.num_tiu += 1
        self.commands.append(tiu(CV181X, **{"cmd_id_tpu": self.num_tiu, **fields}))
        return self.num_tiu

    def load(self, to: int, at: int = 0, wait: int = 0, w: int = W, fmt: int = 1, **more: int) -> int:
        return self.transfer(0, at, to, wait, w, fmt, more)

    def store(self, of: int, at: int = 0x1000, wait: int = 0, w: int = W, fmt: int = 1, **more: int) -> int:
        return self.transfer(1, of, at, wait, w, fmt, more)

    def move(self, of: int, to: int, wait: int = 0, w: int = W, **more: int) -> int:
        return self.transfer(3, of, to, wait, w, 1, more)

    def transfer(self, direction: int, src: int, dst: int, wait: int, w: int, fmt: int, more: dict[str, int]) -> int:
        fields = {"trans_dir": direction, "src_fmt": fmt, "dst_fmt": fmt, "wait_id_tpu": wait, "src_n": 1}
        return self.tdma(**{**fields, **side("src", src, w, fmt), **side("dst", dst, w, fmt), **more})

    def arith(self, eu_typ: int, res: int, opd0: int, opd1: int | None, wait: int = 0, w: int = W, **more: int) -> int:
        fields = dict(
            tsk_typ=3, tsk_eu_typ=eu_typ, cmd_id_gdma=wait, tsk_opd_num=1 if opd1 is None else 2, opt_shift_typ=0
        )
        fields |= {
            "opt_opd1_sign": 0,
            **elements("res0", res, w),
            **elements("opd0", opd0, w),
            **elements("opd1", opd1 or 0, w),
        }
        return self.tiu(**{**fields, **more})

    def copy(self, res: int, opd0: int, wait: int = 0, w: int = W, **more: int) -> int:
        return self.arith(10, res, opd0, None, wait, w, **more)

    def maximum(self, res: int, opd0: int, opd1: int, wait: int = 0, w: int = W, **more: int) -> int:
        return self.arith(4, res, opd0, opd1, wait, w, **more)

    def pool(
        self, res: int, opd0: int, ifmap: tuple[int, int], ofmap: tuple[int, int], wait: int = 0, **more: int
    ) -> int:
        """Maximum pooling under a window of 1x1, if `more` says no other."""
        fields = dict(
            tsk_typ=1, tsk_eu_typ=0, cmd_id_gdma=wait, tsk_opd_num=1, opd1_h=1, opd1_w=1, opt_res0_seg=1, opt_opd0_seg=1
        )
        fields |= dict(conv_op_x_str=1, conv_op_y_str=1, opt_rshift_typ=1, opt_opd1_sign=0, opt_opd2_sign=1)
        for name, addr, (h, w) in (("res0", res, ofmap), ("opd0", opd0, ifmap)):
            fields |= elements(name, addr, w)
            fields |= {f"{name}_h": h, f"{name}_n_str": h * w, f"{name}_c_str": h * w}
        return self.tiu(**{**fields, **more})

    def clear(self, res: int, wait: int = 0, w: int = W) -> int:
        return self.arith(9, res, res, res, wait, w)


def side(name: str, addr: int, w: int, fmt: int) -> dict[str, int]:
    """A dense tensor of a DMA command: channels w elements apart, on one lane each in LMEM."""
    row = w * fmt
    extents = {f"{name}_c": CHANNELS, f"{name}_h": 1, f"{name}_w": w}
    strides = {f"{name}_n_stride": CHANNELS * row, f"{name}_c_stride_low": row, f"{name}_h_stride": row}
    return {**extents, **strides, f"{name}_base_addr_low": addr}


def elements(name: str, addr: int, w: int) -> dict[str, int]:
    extents = {f"{name}_n": 1, f"{name}_c": CHANNELS, f"{name}_h": 1, f"{name}_w": w}
    strides = {f"{name}_n_str": w, f"{name}_c_str": w, f"{name}_h_str": w, f"{name}_w_str": 1}
    return {f"{name}_addr": addr, f"short_{name}_str": 3, **extents, **strides}
