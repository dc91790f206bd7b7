"""What a program computes in different orders of the engines and over different bytes in memory.

This decides whether a program is sound and whether a change to it is a fault. Nothing of npusim.check is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from golden import read_archive
from npusim import Model, NpusimError
from npusim.execute import BoundProgram
from npusim.insn import Instruction
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.mem.region import LMEM
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.decode import decode_cmdbuf, decode_tdma, decode_tiu
from npusim.program.model import section_cmdbufs
from npusim.runtime.bind import HOST_OFFSET, placed_tensors
from npusim.runtime.memory_map import PAGE_BYTES, WEIGHT, plan_memory

Order = list[Instruction]
HANG, FOREIGN, REFUSED, RESULT = "hang", "foreign memory", "refused", "another result"
FILLS = (1, 2)
"""Seeds of the bytes that memory holds in front of a run."""


class Subject:
    """A model, and what it computes with one of its sections replaced."""

    def __init__(self, path: Path, inputs: Path | None = None) -> None:
        self.path = path
        model = Model(path, verify_md5=False)
        self._loaded, self._program, self._state = model._loaded, model._program, model.state
        inputs = inputs or path.with_name(f"{path.stem.split('_')[0]}.in.npz")
        for name, array in model._checked(read_archive(inputs), reshape=False).items():
            self._loaded.tensors[name].array[...] = array
        self.gmem = self._state.gmem.bytes.copy()
        """GMEM before a run, with the inputs in place."""
        file = load_cvimodel(path, verify_md5=False)
        activations, weights = placed_tensors(file, self._program)
        extents = [(offset, info.num_bytes) for info, offset in activations + weights if offset != HOST_OFFSET]
        self._map = plan_memory(file, self._program, extents)
        self.cmdbufs = {
            r.section: section_cmdbufs(file, r.section)[0] for r in self._program.routines if isinstance(r, TpuRoutine)
        }
        self.decoded = cache(lambda section: decode_cmdbuf(self.cmdbufs[section]))
        self._kept: dict[tuple[Any, str], Any] = {}
        self._unset = self._never_set()
        self.right = cache(lambda section: self.outputs(section, self.decoded(section)))
        """The outputs of the program as it is."""

    def kept(self, make: Callable[[Cmdbuf], Any], section: str) -> Any:
        """What `make` makes of a section, made once."""
        key = (make, section)
        if key not in self._kept:
            self._kept[key] = make(self.cmdbufs[section])
        return self._kept[key]

    def base(self, register: int) -> int:
        return self._state.array_base[register]

    def region_bytes(self, register: int) -> int:
        """Bytes behind a base register that the program has, in whole pages."""
        return -(-self._map.sizes[register] // PAGE_BYTES) * PAGE_BYTES

    def outputs(self, section: str, order: Order, fill: int = FILLS[0], gmem: bool = True) -> bytes | None:
        """The outputs with `order` in the place of `section`; None where the machine refuses it. LMEM starts with
        random bytes, and so does, with `gmem`, what neither the file nor the host sets of GMEM."""
        state = self._state
        rng = np.random.default_rng(fill)
        state.gmem.bytes[:] = self.gmem
        state.lmem[...] = rng.integers(0, 256, state.lmem.shape, np.uint8)
        if gmem:
            np.copyto(state.gmem.bytes, rng.integers(0, 256, state.gmem.bytes.shape, np.uint8), where=self._unset)
        try:
            for routine, step in zip(self._program.routines, self._loaded.steps, strict=True):
                if isinstance(routine, TpuRoutine) and routine.section == section:
                    BoundProgram(state, order).run()
                else:
                    step()
        except NpusimError:
            return None
        return b"".join(self._loaded.tensors[name].array.tobytes() for name in self._program.outputs)

    def is_sound(self, section: str) -> bool:
        """Whether the program as it is computes the same in every run of `runs`."""
        return all(found == self.right(section) for found in self.runs(section, self.cmdbufs[section]))

    def runs(self, section: str, cmdbuf: Cmdbuf) -> Iterator[bytes | None]:
        """Outputs in both orders over both fills; None for a refusal."""
        orders = [eager(cmdbuf, tiu_first) for tiu_first in (True, False)]
        for order, fill in product(orders, FILLS):
            assert order is not None
            yield self.outputs(section, order, fill)

    def effect(self, section: str, cmdbuf: Cmdbuf) -> str:
        """What another program in the place of `section` does wrong; "" for nothing."""
        try:
            order = eager(cmdbuf, tiu_first=True)
            if order is None:
                return HANG
            for insn in order:
                insn.check(self._state.array_base)
        except NpusimError:
            return REFUSED
        if any(self._is_foreign(insn) for insn in order):
            return FOREIGN
        for found in self.runs(section, cmdbuf):
            if found != self.right(section):
                return REFUSED if found is None else RESULT
        return ""

    def _is_foreign(self, insn: Instruction) -> bool:
        footprint = insn.footprint()
        return any(
            region.start < 0
            or (region.start + 1 if access.operand.at_most else region.end) > self.region_bytes(region.memory)
            for access in footprint.reads + footprint.writes
            for region in access.regions
            if region.memory != LMEM
        )

    def _never_set(self) -> np.ndarray:
        """Which bytes of GMEM neither the file nor the host sets."""
        unset = np.ones(self.gmem.shape, bool)
        weights = self.base(WEIGHT)
        unset[weights : weights + self.region_bytes(WEIGHT)] = False
        base = self._state.gmem.bytes.ctypes.data
        for name in self._program.inputs:
            array = self._loaded.tensors[name].array
            start = array.ctypes.data - base
            if 0 <= start < unset.size:
                unset[start : start + array.nbytes] = False
        return unset


def eager(cmdbuf: Cmdbuf, tiu_first: bool) -> Order | None:
    """The order in which one engine goes on as long as its waits let it before the other does a command; None for a
    deadlock."""
    chip = cmdbuf.chip
    rows: tuple[list[Any], list[Any]] = tiu_rows(chip, cmdbuf.tiu), tdma_rows(chip, cmdbuf.tdma)
    places = (cmdbuf.tiu_index.tolist(), cmdbuf.tdma_index.tolist())
    waits = ([r.cmd_id_gdma if r.cmd_id_en else 0 for r in rows[0]], [r.wait_id_tpu for r in rows[1]])
    ids = ([r.cmd_id_tpu for r in rows[0]], [r.cmd_id for r in rows[1]])
    next_of, done, order = [0, 0], [0, 0], []
    while next_of != [len(rows[0]), len(rows[1])]:
        for engine in (0, 1) if tiu_first else (1, 0):
            at = next_of[engine]
            if at < len(rows[engine]) and waits[engine][at] <= done[1 - engine]:
                order.append((decode_tiu, decode_tdma)[engine](chip, rows[engine][at], places[engine][at]))
                done[engine], next_of[engine] = ids[engine][at], at + 1
                break
        else:
            return None
    return order
