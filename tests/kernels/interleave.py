"""Orders in which the two engines may run a program.

The TIU as early as possible, the TDMA as early as possible, and at random."""

from __future__ import annotations

import numpy as np

from npusim.chip import chip_named
from npusim.execute import BoundProgram
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu
from npusim.sim import Machine
from tests.kernels.harness import ProgramCase
from tests.support.case import Outcome, initial_lmem


def run_ordered(case: ProgramCase, tiu_share: float, seed: int = 0) -> Outcome:
    """Where both engines could go on, the TIU does with probability `tiu_share`."""
    chip, rng = chip_named(case.chip), np.random.default_rng(seed)
    machine = Machine(chip)
    machine.lmem[...] = initial_lmem(case)
    for addr, data in case.gmem.items():
        machine.gmem.write(addr, data)
    cmdbuf = parse_cmdbuf(chip, case.cmdbuf)
    tiu, tdma = tiu_rows(chip, cmdbuf.tiu), tdma_rows(chip, cmdbuf.tdma)
    order, i, j = [], 0, 0
    while i < len(tiu) or j < len(tdma):
        can_tiu = i < len(tiu) and tiu[i].cmd_id_gdma <= j
        can_tdma = j < len(tdma) and tdma[j].wait_id_tpu <= i
        assert can_tiu or can_tdma, "deadlock"
        if can_tiu and (not can_tdma or rng.random() < tiu_share):
            order.append(decode_tiu(chip, tiu[i], i))
            i += 1
        else:
            order.append(decode_tdma(chip, tdma[j], j))
            j += 1
    BoundProgram(machine.state, order).run()
    return Outcome(
        machine.lmem.tobytes(), {addr: machine.gmem.read(addr, len(data)) for addr, data in case.gmem.items()}
    )
