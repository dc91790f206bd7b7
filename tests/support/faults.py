"""Faults seeded into programs of the vendor's compiler. What is a fault is told by running, never by the checker.

- A wait id lowered: the outputs differ between two orders that the ids allow, one with the TIU and one with the TDMA as
early as can be.
- Two buffers moved onto each other: the outputs differ from those of the program as it was.
- A load removed, all ids and waits counted down as if it had never been there: the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from golden import read_archive
from npusim import Model, NpusimError
from npusim.execute import BoundProgram
from npusim.insn import Instruction, TdmaInstruction
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import TransDir
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import Cvimodel, TpuRoutine
from npusim.mem.region import LMEM, Region
from npusim.program.cmdbuf import Cmdbuf, write_cmdbuf
from npusim.program.decode import decode_cmdbuf, decode_tdma, decode_tiu
from npusim.program.model import section_cmdbufs

Order = list[Instruction]


@dataclass(frozen=True)
class Fault:
    """A program with one fault: the model's file with the section `section` replaced."""

    kind: str
    path: Path
    section: str
    what: str
    cmdbuf: Cmdbuf
    commands: frozenset[int]
    """Commands of the faulty program that have to do with the fault, by place."""

    def model(self) -> Cvimodel:
        return with_section(load_cvimodel(self.path), self.section, self.cmdbuf)


def with_section(file: Cvimodel, name: str, cmdbuf: Cmdbuf) -> Cvimodel:
    """`file` with another program in section `name`."""
    data = write_cmdbuf(cmdbuf)
    sections = tuple(
        replace(s, offset=len(file.payload), num_bytes=len(data), decompressed_bytes=0)
        if s is file.section_named(name)
        else s
        for s in file.sections
    )
    return replace(file, sections=sections, payload=memoryview(bytes(file.payload[:]) + data))


class Subject:
    """A model, and what it computes with one of its sections replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        model = Model(path)
        self._loaded, self._program, self._state = model._loaded, model._program, model.state
        given = read_archive(path.with_name(f"{path.stem.split('_')[0]}.in.npz"))
        for name, array in model._checked(given, reshape=False).items():
            self._loaded.tensors[name].array[...] = array
        self.gmem = self._state.gmem.bytes.copy()
        """GMEM before a run, with the inputs in place."""
        file = load_cvimodel(path)
        self.cmdbufs = {
            r.section: section_cmdbufs(file, r.section)[0] for r in self._program.routines if isinstance(r, TpuRoutine)
        }
        self.decoded = cache(lambda section: decode_cmdbuf(self.cmdbufs[section]))
        self.buffers = cache(lambda section: buffers_of(self.cmdbufs[section]))
        self.right = cache(lambda section: self.outputs(section, self.decoded(section)))
        """The outputs of the program as it is."""

    def base(self, register: int) -> int:
        return self._state.array_base[register]

    def outputs(self, section: str, order: Order, lmem_seed: int = 1) -> bytes | None:
        """The outputs with `order` in the place of `section`; None where the machine refuses it. LMEM starts with
        random bytes."""
        state = self._state
        state.gmem.bytes[:] = self.gmem
        state.lmem[...] = np.random.default_rng(lmem_seed).integers(0, 256, state.lmem.shape, np.uint8)
        try:
            for routine, step in zip(self._program.routines, self._loaded.steps, strict=True):
                if isinstance(routine, TpuRoutine) and routine.section == section:
                    BoundProgram(state, order).run()
                else:
                    step()
        except NpusimError:
            return None
        return b"".join(self._loaded.tensors[name].array.tobytes() for name in self._program.outputs)


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


def edited(cmdbuf: Cmdbuf, changes: dict[int, dict[str, int]]) -> Cmdbuf:
    """`cmdbuf` with other fields, by place of the command, in some of its descriptors."""
    found: dict[str, Any] = {}
    for name, layout in (("tiu", tiu_layout(cmdbuf.chip)), ("tdma", tdma_layout(cmdbuf.chip))):
        rows, places = getattr(cmdbuf, name), getattr(cmdbuf, f"{name}_index").tolist()
        columns = layout.decode(rows)
        for row, place in enumerate(places):
            for field, value in changes.get(place, {}).items():
                columns[field][row] = value
        found[name] = layout.encode(columns, len(rows))
    return replace(cmdbuf, **found)


def lowered_wait(rng: np.random.Generator, subject: Subject, section: str) -> Fault | None:
    cmdbuf, waits = subject.cmdbufs[section], []
    for insn in subject.decoded(section):
        field = "wait_id_tpu" if isinstance(insn, TdmaInstruction) else "cmd_id_gdma"
        if getattr(insn.regs, field):
            waits.append((insn.index, field, getattr(insn.regs, field)))
    place, field, wait = waits[rng.integers(len(waits))]
    lower = int(rng.choice([0, wait - 1, rng.integers(wait)]))
    faulty = edited(cmdbuf, {place: {field: lower}})
    early, late = eager(faulty, True), eager(faulty, False)
    if early is None or late is None or subject.outputs(section, early) == subject.outputs(section, late):
        return None
    return Fault(
        "wait lowered",
        subject.path,
        section,
        f"command {place}: {field} {wait} -> {lower}",
        faulty,
        frozenset((place,)),
    )


def removed_load(rng: np.random.Generator, subject: Subject, section: str) -> Fault | None:
    cmdbuf = subject.cmdbufs[section]
    loads = [i for i, r in enumerate(tdma_rows(cmdbuf.chip, cmdbuf.tdma)) if r.trans_dir == TransDir.G2L]
    row = loads[rng.integers(len(loads))]
    faulty, place = _without_tdma(cmdbuf, row)
    outputs = subject.outputs(section, decode_cmdbuf(faulty))
    if outputs is None or outputs == subject.right(section):
        return None
    return Fault("load removed", subject.path, section, f"command {place} removed", faulty, frozenset())


def _without_tdma(cmdbuf: Cmdbuf, row: int) -> tuple[Cmdbuf, int]:
    """`cmdbuf` as if its TDMA command in `row` had never been there, and the place where it was."""
    tiu, tdma = tiu_layout(cmdbuf.chip), tdma_layout(cmdbuf.chip)
    place, gone = int(cmdbuf.tdma_index[row]), tdma.decode(cmdbuf.tdma)["cmd_id"][row]
    tiu_columns, tdma_columns = tiu.decode(cmdbuf.tiu), tdma.decode(np.delete(cmdbuf.tdma, row, 0))
    tiu_columns["cmd_id_gdma"] -= tiu_columns["cmd_id_gdma"] >= gone
    tdma_columns["cmd_id"] -= tdma_columns["cmd_id"] >= gone
    tiu_index, tdma_index = cmdbuf.tiu_index, np.delete(cmdbuf.tdma_index, row)
    shorter = Cmdbuf(
        cmdbuf.chip,
        np.delete(cmdbuf.headers, place, 0),
        tiu.encode(tiu_columns, len(cmdbuf.tiu)),
        tiu_index - (tiu_index > place),
        tdma.encode(tdma_columns, len(cmdbuf.tdma) - 1),
        tdma_index - (tdma_index > place),
    )
    return shorter, place


@dataclass(frozen=True)
class Buffer:
    """What one command wrote to LMEM at `addr`, and the operands that read it, all of them alone and from there on."""

    addr: int
    uses: tuple[tuple[int, str], ...]
    """(place of the command, name of its operand), the writer's first."""

    @property
    def lifetime(self) -> tuple[int, int]:
        return self.uses[0][0], self.uses[-1][0]


def moved_buffer(rng: np.random.Generator, subject: Subject, section: str) -> Fault | None:
    cmdbuf, buffers = subject.cmdbufs[section], subject.buffers(section)
    if len(buffers) < 2:
        return None
    moved, other = (buffers[i] for i in rng.choice(len(buffers), 2, replace=False))
    (start, end), (other_start, other_end) = moved.lifetime, other.lifetime
    if moved.addr == other.addr or start > other_end or other_start > end:
        return None
    changes: dict[int, dict[str, int]] = {}
    for place, operand in moved.uses:
        field = {"src": "src_base_addr_low", "dst": "dst_base_addr_low"}.get(operand, f"{operand}_addr")
        changes.setdefault(place, {})[field] = other.addr
    faulty = edited(cmdbuf, changes)
    outputs = subject.outputs(section, decode_cmdbuf(faulty))
    if outputs is None or outputs == subject.right(section):
        return None
    what = f"buffer of command {start} at {moved.addr:#x} moved onto that of command {other_start} at {other.addr:#x}"
    touched = frozenset(place for buffer in (moved, other) for place, _ in buffer.uses)
    return Fault("buffer moved", subject.path, section, what, faulty, touched)


def buffers_of(cmdbuf: Cmdbuf) -> list[Buffer]:
    """Buffers of `cmdbuf` that can be moved by changing address fields alone."""
    chip = cmdbuf.chip
    owner = np.full(chip.lmem_total_bytes, -1, np.int32)
    uses: dict[int, list[tuple[int, str]]] = {}
    addrs: dict[int, int] = {}
    shared: set[int] = set()

    def local(regions: tuple[Region, ...]) -> list[Region]:
        return [r for r in regions if r.memory == LMEM]

    for insn in sorted(decode_cmdbuf(cmdbuf), key=lambda i: i.index):
        footprint = insn.footprint()
        for operand in footprint.reads:
            if regions := local(operand.regions):
                owners = {int(o) for r in regions for o in np.unique(r.view(owner))}
                (writer, *more) = owners
                if more or addrs.get(writer) != regions[0].start:
                    shared |= owners
                uses.setdefault(writer, []).append((insn.index, operand.name))
        for operand in footprint.writes:
            if regions := local(operand.regions):
                uses[insn.index] = [(insn.index, operand.name)]
                addrs[insn.index] = regions[0].start
                for r in regions:
                    r.view(owner)[...] = insn.index
    # Addresses of opd1 and opd2 have 16 bits: buffers on lane 0 stay on it.
    fit = [w for w in addrs if w not in shared and len(uses[w]) > 1 and addrs[w] < chip.lmem_bytes]
    return [Buffer(addrs[w], tuple(uses[w])) for w in fit]


MAKERS: dict[str, Callable[[np.random.Generator, Subject, str], Fault | None]] = {
    "wait lowered": lowered_wait,
    "buffer moved": moved_buffer,
    "load removed": removed_load,
}


def draw_faults(rng: np.random.Generator, subject: Subject, kind: str, count: int, tries: int = 400) -> list[Fault]:
    """Up to `count` different faults of one kind in one model."""
    found: dict[str, Fault] = {}
    sections = sorted(subject.cmdbufs, key=lambda s: -subject.cmdbufs[s].num_commands)[:2]
    for _ in range(tries):
        if len(found) == count:
            break
        fault = MAKERS[kind](rng, subject, str(rng.choice(sections)))
        if fault:
            found.setdefault(f"{fault.section} {fault.what}", fault)
    return list(found.values())
