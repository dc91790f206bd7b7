"""The int8 LRN of the vendor's compiler of 2021 and 2022, as commands to be timed.

Today's compiler makes LRN of bf16 commands, which take twice as long. The kernel is described command by command in
lib/Dialect/TPU/Backend/Kernel/TgFixedLrnKernel.cpp of sophgo/tpu_compiler @6299ea0: tiles of whole channels go through
squares by table, sums of shifted channels in 16 bits, a power by table, and a product. Every command waits for the one
before it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

from npusim.chip import Chip
from npusim.isa.opcodes import ArithEuTyp, Engine, TransDir
from npusim.program.cmdbuf import Cmdbuf, build_cmdbuf, parse_cmdbuf
from tests.support.case import Command
from tests.support.commands import eltwise, lookup, transfer

LOCAL_SIZE = 5
_BLOBS, _TABLES_BYTES = 6, 512


def lrn(chip: Chip, c: int, h: int, w: int) -> Cmdbuf:
    """Local response normalisation of an int8 tensor (1, c, h, w) in GMEM."""
    turns = -(-c // chip.num_lanes)
    rows, columns = h, w
    while _BLOBS * turns * -(-rows * columns // 16) * 16 > chip.lmem_bytes - _TABLES_BYTES:
        rows, columns = (rows - 1, columns) if rows > 1 else (rows, -(-columns // 2))
    out = _Serial(chip)
    for top, left in product(range(0, h, rows), range(0, w, columns)):
        _tile(out, (1, c, min(rows, h - top), min(columns, w - left)), (c * h * w, h * w, w))
    return parse_cmdbuf(chip, build_cmdbuf(chip, out.commands))


def lrns_of_googlenet(chip: Chip) -> list[Cmdbuf]:
    """Both LRN layers of BVLC GoogLeNet."""
    return [lrn(chip, 64, 56, 56), lrn(chip, 192, 56, 56)]


@dataclass
class _Serial:
    """Commands each of which waits for the last one of the other engine."""

    chip: Chip
    commands: list[Command] = field(default_factory=list)
    last: dict[Engine, int] = field(default_factory=lambda: {Engine.TIU: 0, Engine.TDMA: 0})

    def tiu(self, eu: ArithEuTyp, shape, **more: int) -> None:  # type: ignore[no-untyped-def]
        self.last[Engine.TIU] += 1
        ids = {"cmd_id_tpu": self.last[Engine.TIU], "cmd_id_gdma": self.last[Engine.TDMA], "cmd_id_en": 1}
        make = (
            lookup(self.chip, shape, bf16=False, **ids)
            if eu == ArithEuTyp.LOOKUP
            else eltwise(self.chip, eu, shape, **ids, **more)
        )
        self.commands.append(make)

    def tdma(self, direction: TransDir, shape, strides=None) -> None:  # type: ignore[no-untyped-def]
        self.last[Engine.TDMA] += 1
        ids = {"cmd_id": self.last[Engine.TDMA], "wait_id_tpu": self.last[Engine.TIU]}
        self.commands.append(transfer(self.chip, direction, shape, strides=strides, **ids))


def _tile(out: _Serial, shape: tuple[int, int, int, int], far: tuple[int, int, int]) -> None:
    wide = {"opt_res0_seg": 0}
    out.tdma(TransDir.G2L, shape, far)
    out.tiu(ArithEuTyp.LOOKUP, shape)
    out.tiu(ArithEuTyp.COPY, shape)
    for _ in range(2):
        out.tiu(ArithEuTyp.XOR, shape)
    for step in range(1, (LOCAL_SIZE - 1) // 2 + 1):
        for _ in ("left", "right"):
            out.tdma(TransDir.L2L, (1, shape[1] - step, shape[2], shape[3]))
            out.tiu(ArithEuTyp.MAC, shape, **wide)
    out.tiu(ArithEuTyp.MUL, shape, **wide)
    out.tiu(ArithEuTyp.MAC, shape)
    out.tiu(ArithEuTyp.LOOKUP, shape)
    for _ in range(2):
        out.tiu(ArithEuTyp.MUL, shape, **wide)
    out.tiu(ArithEuTyp.MAC, shape)
    out.tiu(ArithEuTyp.MIN, shape)
    out.tdma(TransDir.L2G, shape, far)
