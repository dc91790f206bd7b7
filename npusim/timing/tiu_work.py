"""How much work each TIU command is: units (16 bytes of results on each lane), steps of a unit, LMEM lines. No
cycles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from npusim.arrays import Ints
from npusim.errors import IllegalInstruction
from npusim.insn import INSTRUCTIONS, TiuInstruction
from npusim.isa.layout import Columns
from npusim.timing.distinct import Distinct

MAX_STEPS = 1 << 44


@dataclass(frozen=True)
class TiuWork:
    """One entry a TIU descriptor."""

    kind: Ints
    """Place in INSTRUCTIONS."""
    units: Ints
    """n * (turns of the lanes) * (rows of EUs of one channel's plane)."""
    taps: Ints
    """Elements of the kernel window; 1 for an instruction without one."""
    depth: Ints
    """Input channels of a convolution, inner dimension of a matrix product, else 1."""
    lines: NDArray[np.float64]
    """LMEM lines of opd0 that one unit reads, summed over the taps."""
    macs: Ints
    """Multiply-accumulates of useful results."""
    elements: Ints
    """Elements of the result."""
    bf16: NDArray[np.bool_]
    per_channel: NDArray[np.bool_]
    """Each channel is requantised with its own multiplier."""
    double: NDArray[np.bool_]
    """The descriptor asks for two input channels a cycle."""
    wide_source: NDArray[np.bool_]
    """opd0 has 16-bit integers, in two planes."""
    wide_result: NDArray[np.bool_]
    constant: NDArray[np.bool_]
    """opd1 is a constant."""
    aligned: NDArray[np.bool_]
    """Every channel of the result starts at a multiple of 16 bytes of LMEM, so a unit is written at once."""
    partial: Ints
    """ps32 mode: bit 0 reads, bit 1 writes 32-bit partial sums."""
    starts_early: NDArray[np.bool_]
    """The command may start when the first channel of the transfer that it waits for has arrived (cmd_pre_exe bit
    0)."""
    channels: Ints
    """Channels of the result."""

    def __len__(self) -> int:
        return len(self.kind)

    def is_a(self, *classes: type) -> NDArray[np.bool_]:
        """Which descriptors are one of these instructions."""
        return members(classes)[self.kind]


def tiu_work(commands: Distinct, columns: Columns) -> TiuWork:
    """The work of TIU `commands`, given also as `columns` (npusim.isa.regs.tiu_columns)."""
    c, chip, kind = columns, commands.chip, commands.kind
    slides, multiplies = (commands.flag(name) for name in ("slides", "multiplies"))
    bf16 = c["opd_typ"] == 1
    eu = np.where(bf16, chip.eu_num // 2, chip.eu_num)
    lane0 = c["res0_addr"] // chip.lmem_bytes
    turns = -(-(lane0 + c["res0_c"]) // chip.num_lanes)
    plane = c["res0_h"] * c["res0_w"]
    elements = c["res0_n"] * c["res0_c"] * c["res0_h"] * c["res0_w"]
    taps = np.where(slides, c["opd1_h"] * c["opd1_w"], 1)
    depth = np.ones_like(taps)
    for number, insn in enumerate(INSTRUCTIONS):
        if issubclass(insn, TiuInstruction) and insn.inner:
            depth = np.where(kind == number, c[insn.inner], depth)
    _check_size(c, taps, depth, commands.index)
    return TiuWork(
        kind=kind,
        units=c["res0_n"] * turns * -(-plane // eu),
        taps=taps,
        depth=depth,
        lines=np.where(slides, c["opd1_h"] * _lines_of_row(c, np.where(slides, c["opd1_w"], 0), eu), 1.0),
        macs=np.where(multiplies, elements * taps * depth, 0),
        elements=elements,
        bf16=bf16,
        per_channel=c["opt_chl_quan"] == 1,
        double=c["double_conv"] == 1,
        wide_source=~bf16 & (c["opt_opd0_seg"] == 0),
        wide_result=~bf16 & (c["opt_res0_seg"] == 0),
        constant=c["opt_opd1_const"] == 1,
        aligned=(c["short_res0_str"] != 3) | (c["res0_c_str"] % chip.eu_num == 0),
        partial=c["ps32_md"],
        starts_early=c.get("cmd_pre_exe", np.zeros_like(kind)) & 1 == 1,
        channels=c["res0_c"],
    )


def _check_size(c: Columns, taps: Ints, depth: Ints, index: Ints) -> None:
    """Raises IllegalInstruction for a command with more work than a chip does in hours. Sums of the others fit into 64
    bits."""
    elements = c["res0_n"].astype(float) * c["res0_c"] * c["res0_h"] * c["res0_w"]
    bad = np.flatnonzero(elements * np.maximum(taps, 1) * np.maximum(depth, 1) > MAX_STEPS)
    if len(bad):
        at = int(bad[0])
        work = f"{elements[at]:.0f} results of {taps[at]} taps and {depth[at]} inputs each"
        raise IllegalInstruction(
            f"command {index[at]}: {work} are too much for one command; at most {MAX_STEPS} steps are possible",
            int(index[at]),
        )


@cache
def members(classes: tuple[type, ...]) -> NDArray[np.bool_]:
    """For each place in INSTRUCTIONS, whether it is one of `classes`."""
    return np.array([kind in classes for kind in INSTRUCTIONS])


def _lines_of_row(c: Columns, taps: Ints, eu: Ints) -> NDArray[np.float64]:
    """LMEM lines that hold one unit's inputs, summed over the `taps` of a row of the kernel. Each tap reads
    1 + (eu - 1) * stride elements from its offset on."""
    stride = np.maximum(c["conv_op_x_str"], 1)
    dilation, insert = c["conv_opd1_x_ins0"] + 1, c["conv_opd0_x_ins0"] + 1
    width = np.minimum(eu, np.maximum(c["res0_h"] * c["res0_w"], 1))
    span = ((width - 1) * stride) // insert + 1
    total = np.zeros(len(eu), np.float64)
    for tap in range(int(taps.max(initial=0))):
        offset = (tap * dilation - c["conv_opd0_lf_pad"]) // insert % eu
        total += np.where(tap < taps, (offset + span - 1) // eu + 1, 0)
    return total
