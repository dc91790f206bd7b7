"""One differential case: a command buffer with the memory it starts from, and how npusim runs it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from npusim import Machine, chip_named
from npusim.chip import Chip
from npusim.isa.descriptors import CV183X_ALIASES, TIU_CV183X, tdma_layout, tiu_layout
from npusim.isa.opcodes import Engine
from npusim.program.cmdbuf import build_cmdbuf

Command = tuple[Engine, bytes]


@dataclass(frozen=True)
class Case:
    """`lmem_seed` makes the LMEM that the case starts from (see `initial_lmem`); `gmem` maps physical offsets to bytes
    before the run."""

    chip: str
    kind: str
    commands: list[Command]
    lmem_seed: int
    gmem: dict[int, bytes] = field(default_factory=dict)
    array_base: tuple[int, ...] = (0,) * 8
    bf16_lmem: bool = False
    lmem_patch: tuple[tuple[int, bytes], ...] = ()
    """(linear address, bytes) written over the random LMEM."""

    @property
    def cmdbuf(self) -> bytes:
        return build_cmdbuf(chip_named(self.chip), self.commands)


@dataclass(frozen=True)
class Outcome:
    """Memory after a run: LMEM bytes, and for each range of `Case.gmem` its bytes."""

    lmem: bytes
    gmem: dict[int, bytes]


def initial_lmem(case: Case) -> NDArray[np.uint8]:
    """LMEM before the run, shape (lanes, bytes)."""
    lmem = _random_lmem(case)
    flat = lmem.reshape(-1)
    for addr, data in case.lmem_patch:
        flat[addr : addr + len(data)] = np.frombuffer(data, np.uint8)
    return lmem


def _random_lmem(case: Case) -> NDArray[np.uint8]:
    """Random bytes, or with `bf16_lmem` random bf16 numbers of ordinary size with a few special ones among them."""
    chip, rng = chip_named(case.chip), np.random.default_rng(case.lmem_seed)
    shape = (chip.num_lanes, chip.lmem_bytes)
    if not case.bf16_lmem:
        return rng.integers(0, 256, shape, np.uint8)
    spread = rng.integers(1, 24)
    sign = rng.integers(0, 2, (shape[0], shape[1] // 2)) << 15
    exponent = rng.integers(127 - spread, 127 + spread, sign.shape) << 7
    words = (sign | exponent | rng.integers(0, 128, sign.shape)).astype("<u2")
    if rng.integers(0, 3) == 0:
        special = np.array(
            [0, 0x8000, 1, 0x807F, 0x0080, 0x8080, 0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC0, 0x0100, 0x7E00], "<u2"
        )
        where = rng.random(sign.shape) < rng.choice([0.001, 0.02])
        words[where] = rng.choice(special, int(where.sum()))
    return words.view(np.uint8).reshape(shape)


def run_npusim(case: Case) -> Outcome:
    machine = Machine(case.chip)
    machine.lmem[...] = initial_lmem(case)
    for addr, data in case.gmem.items():
        machine.gmem.write(addr, data)
    machine.run_cmdbuf(case.cmdbuf, case.array_base)
    return Outcome(
        machine.lmem.tobytes(), {addr: machine.gmem.read(addr, len(data)) for addr, data in case.gmem.items()}
    )


TIU_RESET = dict(
    cmd_en=1, cmd_id_en=1, cmd_id_tpu=1, tsk_opd_num=2, opt_shift_typ=1, opt_rshift_typ=1, opt_opd1_sign=1,
    opt_opd2_sign=1,
    opt_res0_seg=1, opt_opd0_seg=1, opt_opd1_seg=1, rsvd1=1, rsvd2=2, rsvd3=3, rsvd4=4, rsvd5=5, rsvd6=6,
    conv_op_x_str=1, conv_op_y_str=1,
    **{f"{opd}_{dim}": 1 for opd in ("res0", "opd0", "opd1", "opd2") for dim in "nchw"},
    **{f"{opd}_{dim}_str": step for opd in ("res0", "opd0", "opd1", "opd2") for dim, step in (("n", 16), ("c", 16),
    ("w", 1), ("b", 16))},
)  # fmt: skip
"""Fields that every legal TIU descriptor starts from (reset_tiu_reg in cvikernel's cv181x_tiu_reg.h)."""


def tiu(chip: Chip, **fields: int) -> Command:
    """A TIU command of `fields` under the cv181x names, on top of TIU_RESET."""
    values = {**TIU_RESET, **fields}
    if chip.tiu_layout == "cv183x":
        back = {new: old for old, new in CV183X_ALIASES.items()}
        values = {back.get(name, name): value for name, value in values.items()}
        if values.get("opd_typ"):
            values["opd0_ins_fp"] = values.pop("opd0_ins_val", 0)
        values = {name: value for name, value in values.items() if name in TIU_CV183X.by_name}
        values.update(rsvd1=1 << 12, rsvd2=2 << 8, rsvd4=4 << 12, rsvd5=5 << 12)
    return Engine.TIU, tiu_layout(chip).encode_one(values)


def tdma(chip: Chip, **fields: int) -> Command:
    """A TDMA command of `fields`."""
    return Engine.TDMA, tdma_layout(chip).encode_one({"vld": 1, **fields})
