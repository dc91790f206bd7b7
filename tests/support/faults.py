"""Faults seeded into programs of the vendor's compiler: of what kinds, and how they are made.

Whether a change is a fault is told by running the program (tests/support/oracle.py), never by the checker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from npusim.insn import Instruction, TdmaInstruction
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import TransDir
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.cmdbuf import Cmdbuf, write_cmdbuf
from tests.support.buffers import buffers_of
from tests.support.oracle import Subject

Rng = np.random.Generator
Seed = tuple[str, Cmdbuf, frozenset[int]]
"""What was changed, the program with the change, and the places of the commands that have to do with it."""


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
    effect: str
    """What running it shows: another result, a refusal, a hang or foreign memory. "" for nothing."""

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


def _picked(rng: Rng, things: list[Any]) -> Any:
    return things[rng.integers(len(things))]


def _change(cmdbuf: Cmdbuf, place: int, old: Any, changes: dict[str, int]) -> Seed:
    told = ", ".join(f"{name} {getattr(old, name)} -> {value}" for name, value in changes.items())
    return f"command {place}: {told}", edited(cmdbuf, {place: changes}), frozenset((place,))


def _wait(rng: Rng, subject: Subject, section: str, lower: Callable[[int], int]) -> Seed:
    waits = []
    for insn in subject.decoded(section):
        field = "wait_id_tpu" if isinstance(insn, TdmaInstruction) else "cmd_id_gdma"
        if getattr(insn.regs, field):
            waits.append((insn, field))
    insn, field = _picked(rng, waits)
    return _change(subject.cmdbufs[section], insn.index, insn.regs, {field: lower(getattr(insn.regs, field))})


def dropped_wait(rng: Rng, subject: Subject, section: str) -> Seed:
    """A command waits for nothing."""
    return _wait(rng, subject, section, lambda wait: 0)


def lowered_wait(rng: Rng, subject: Subject, section: str) -> Seed:
    """A command waits for an earlier one than it must."""
    return _wait(rng, subject, section, lambda wait: int(_picked(rng, [wait - 1, rng.integers(wait)])))


def swapped_commands(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """Two commands of one engine, up to three apart, change places; ids and waits stay where they were."""
    cmdbuf = subject.cmdbufs[section]
    name = _picked(rng, ["tiu", "tdma"])
    layout = {"tiu": tiu_layout, "tdma": tdma_layout}[name](cmdbuf.chip)
    ids = ("cmd_id_tpu", "cmd_id_gdma", "cmd_id_en") if name == "tiu" else ("cmd_id", "wait_id_tpu")
    rows, places = getattr(cmdbuf, name), getattr(cmdbuf, f"{name}_index").tolist()
    first, distance = int(rng.integers(len(rows))), int(rng.integers(1, 4))
    second = first + distance
    if second >= len(rows):
        return None
    columns = layout.decode(rows)
    for field, column in columns.items():
        if field not in ids:
            column[[first, second]] = column[[second, first]]
    found = frozenset((places[first], places[second]))
    encoded: dict[str, Any] = {name: layout.encode(columns, len(rows))}
    changed = replace(cmdbuf, **encoded)
    return f"commands {places[first]} and {places[second]} change places", changed, found


def _transfers(subject: Subject, section: str, *directions: TransDir) -> list[Instruction]:
    found = (i for i in subject.decoded(section) if isinstance(i, TdmaInstruction))
    return [i for i in found if i.regs.trans_dir in directions]


def cut_store(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """A store of fewer bytes: one extent is halved, or one less."""
    insn = _picked(rng, _transfers(subject, section, TransDir.L2G))
    regs = insn.regs
    pairs: list[tuple[str, ...]]
    if regs.trans_fmt:
        pairs = [("src_n_stride",)]
    elif regs.sys_dtype:
        pairs = [("src_n", "dst_c")]
    else:
        pairs = [(f"src_{d}", f"dst_{d}") for d in "chw" if getattr(regs, f"src_{d}") == getattr(regs, f"dst_{d}")]
        pairs.append(("src_n",))
    pairs = [pair for pair in pairs if getattr(regs, pair[0]) > 1]
    if not pairs:
        return None
    pair = _picked(rng, pairs)
    extent = getattr(regs, pair[0])
    return _change(
        subject.cmdbufs[section], insn.index, regs, dict.fromkeys(pair, _picked(rng, [extent - 1, extent // 2]))
    )


def dropped_load(rng: Rng, subject: Subject, section: str) -> Seed:
    """A load is left out, and all ids and waits are counted down as if it had never been there."""
    cmdbuf = subject.cmdbufs[section]
    insn = _picked(rng, _transfers(subject, section, TransDir.G2L))
    row = cmdbuf.tdma_index.tolist().index(insn.index)
    return f"command {insn.index} removed", _without_tdma(cmdbuf, row), frozenset()


def _without_tdma(cmdbuf: Cmdbuf, row: int) -> Cmdbuf:
    """`cmdbuf` as if its TDMA command in `row` had never been there."""
    tiu, tdma = tiu_layout(cmdbuf.chip), tdma_layout(cmdbuf.chip)
    place, gone = int(cmdbuf.tdma_index[row]), tdma.decode(cmdbuf.tdma)["cmd_id"][row]
    tiu_columns, tdma_columns = tiu.decode(cmdbuf.tiu), tdma.decode(np.delete(cmdbuf.tdma, row, 0))
    tiu_columns["cmd_id_gdma"] -= tiu_columns["cmd_id_gdma"] >= gone
    tdma_columns["cmd_id"] -= tdma_columns["cmd_id"] >= gone
    tiu_index, tdma_index = cmdbuf.tiu_index, np.delete(cmdbuf.tdma_index, row)
    return Cmdbuf(
        cmdbuf.chip,
        np.delete(cmdbuf.headers, place, 0),
        tiu.encode(tiu_columns, len(cmdbuf.tiu)),
        tiu_index - (tiu_index > place),
        tdma.encode(tdma_columns, len(cmdbuf.tdma) - 1),
        tdma_index - (tdma_index > place),
    )


def early_reuse(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """A load is issued up to eight commands of its engine earlier, without its wait: its buffer is still in use.

    Every other wait is for the same commands as before, or for one that stands behind them."""
    cmdbuf = subject.cmdbufs[section]
    tiu, tdma = tiu_layout(cmdbuf.chip), tdma_layout(cmdbuf.chip)
    insn = _picked(rng, _transfers(subject, section, TransDir.G2L))
    row = cmdbuf.tdma_index.tolist().index(insn.index)
    to = row - int(rng.integers(1, 9))
    if to < 0:
        return None
    columns, waiting = tdma.decode(cmdbuf.tdma), tiu.decode(cmdbuf.tiu)
    order = np.arange(len(cmdbuf.tdma))
    order[to : row + 1] = [row, *range(to, row)]
    ids = columns["cmd_id"].copy()
    moved = {field: column[order] for field, column in columns.items()} | {"cmd_id": ids}
    moved["wait_id_tpu"][to] = 0
    waits = waiting["cmd_id_gdma"]
    later = (waits >= ids[to]) & (waits < ids[row])
    waits[later] = ids[np.searchsorted(ids, waits[later]) + 1]
    changed = replace(cmdbuf, tiu=tiu.encode(waiting, len(cmdbuf.tiu)), tdma=tdma.encode(moved, len(cmdbuf.tdma)))
    place = int(cmdbuf.tdma_index[to])
    return f"the load of command {insn.index} at {place}, without its wait", changed, frozenset((place,))


def address_outside(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """A transfer's address in GMEM so high that it ends behind its region, or an address outside LMEM."""
    insn = _picked(rng, subject.decoded(section))
    regs = insn.regs
    if not isinstance(insn, TdmaInstruction):
        name, addr = _picked(rng, ["res0_addr", "opd0_addr"]), insn.chip.lmem_total_bytes + int(rng.integers(1 << 12))
        if addr >= tiu_layout(insn.chip).by_name[name].limit:
            return None
        return _change(subject.cmdbufs[section], insn.index, regs, {name: addr})
    if regs.trans_dir == TransDir.L2L:
        return None
    side = _picked(rng, [s for s, local in (("src", TransDir.L2G), ("dst", TransDir.G2L)) if regs.trans_dir != local])
    size = subject.region_bytes(getattr(regs, f"{side}_base_reg_sel"))
    addr = insn.chip.gmem_base + size - int(rng.integers(0, 4)) + int(rng.integers(0, 1 << 14))
    fields = {f"{side}_base_addr_low": addr & 0xFFFFFFFF, f"{side}_base_addr_high": addr >> 32}
    return _change(subject.cmdbufs[section], insn.index, regs, fields)


def address_wrong(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """An address that is another one, and legal."""
    insn = _picked(rng, subject.decoded(section))
    regs = insn.regs
    if isinstance(insn, TdmaInstruction):
        name = _picked(rng, ["src_base_addr_low", "dst_base_addr_low"])
    else:
        name = _picked(rng, ["res0_addr", "opd0_addr", "opd1_addr"])
    addr = getattr(regs, name) + int(_picked(rng, [-64, -16, 16, 64, 256, 1024]))
    return _change(subject.cmdbufs[section], insn.index, regs, {name: addr}) if addr >= 0 else None


def element_type(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """Another element type: int8 for bf16 or the other way round, of a TIU command or of one side or both of a
    transfer."""
    insn = _picked(rng, subject.decoded(section))
    regs = insn.regs
    if not isinstance(insn, TdmaInstruction):
        return _change(subject.cmdbufs[section], insn.index, regs, {"opd_typ": 1 - regs.opd_typ})
    sides = _picked(rng, [("src_fmt",), ("dst_fmt",), ("src_fmt", "dst_fmt")])
    return _change(subject.cmdbufs[section], insn.index, regs, {side: 3 - getattr(regs, side) for side in sides})


def moved_buffer(rng: Rng, subject: Subject, section: str) -> Seed | None:
    """A tensor in LMEM is moved onto another one that is in use at the same time."""
    cmdbuf, buffers = subject.cmdbufs[section], subject.kept(buffers_of, section)
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
    what = f"buffer of command {start} at {moved.addr:#x} moved onto that of command {other_start} at {other.addr:#x}"
    touched = frozenset(place for buffer in (moved, other) for place, _ in buffer.uses)
    return what, edited(cmdbuf, changes), touched


MAKERS: dict[str, Callable[[Rng, Subject, str], Seed | None]] = {
    "wait dropped": dropped_wait,
    "wait lowered": lowered_wait,
    "commands swapped": swapped_commands,
    "store cut short": cut_store,
    "load dropped": dropped_load,
    "buffer moved": moved_buffer,
    "buffer reused early": early_reuse,
    "address outside": address_outside,
    "element type": element_type,
    "address wrong": address_wrong,
}


def draw_faults(
    rng: Rng, subject: Subject, kind: str, count: int, *, tries: int = 400, idle: bool = False
) -> list[Fault]:
    """Up to `count` different faults of one kind in one model; with `idle` also changes that have no effect."""
    found: dict[str, Fault] = {}
    sections = sorted(subject.cmdbufs, key=lambda s: -subject.cmdbufs[s].num_commands)[:2]
    seen: set[str] = set()
    for _ in range(tries):
        if len(found) == count:
            break
        section = str(rng.choice(sections))
        seed = MAKERS[kind](rng, subject, section)
        if seed is None or f"{section} {seed[0]}" in seen:
            continue
        what, cmdbuf, commands = seed
        seen.add(f"{section} {what}")
        effect = subject.effect(section, cmdbuf)
        if effect or idle:
            found[f"{section} {what}"] = Fault(kind, subject.path, section, what, cmdbuf, commands, effect)
    return list(found.values())
