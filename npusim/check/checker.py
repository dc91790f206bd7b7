"""Runs the checks over one command buffer after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from npusim.check.area import Area
from npusim.check.finding import Finding, Kind
from npusim.check.gmem import GlobalMemory
from npusim.check.ids import Found, check_ids
from npusim.check.local import LocalMemory
from npusim.check.need import needed_reads
from npusim.check.one_place import check_one_place
from npusim.check.ordering import Ordering, Step, ordering_of
from npusim.check.overlap import check_overlap
from npusim.check.written import SecondRead
from npusim.chip import Chip
from npusim.errors import NpusimError
from npusim.insn import Instruction
from npusim.program.cmdbuf import Cmdbuf
from npusim.program.disasm import commands, write_command
from npusim.state import NUM_BASE_REGS


def check(
    cmdbufs: Cmdbuf | Sequence[Cmdbuf], areas: Iterable[Area] = (), *, array_base: Sequence[int] | None = None
) -> list[Finding]:
    """What is wrong with `cmdbufs`: one command buffer, or the segments of a dmabuf, which share LMEM.

    `areas` are the parts of GMEM that the program may use; without them GMEM is not checked. `array_base` are the eight
    base registers (default 0), which decide whether an address is in GMEM at all. LMEM holds no data at first. A
    command that the chip refuses is a finding too, and the other checks take it as one that touches no memory. Findings
    are in the order of the commands."""
    parts = [cmdbufs] if isinstance(cmdbufs, Cmdbuf) else list(cmdbufs)
    if not parts:
        return []
    checker = Checker(parts[0].chip, GlobalMemory(areas), array_base)
    checker.submit({f"segment{i}" if len(parts) > 1 else "": part for i, part in enumerate(parts)})
    return checker.findings()


class Checker:
    """The state of memory as command buffers run one after the other, and what was found in them so far."""

    def __init__(self, chip: Chip, gmem: GlobalMemory, array_base: Sequence[int] | None = None) -> None:
        self.chip = chip
        self.gmem = gmem
        self._array_base = (0,) * NUM_BASE_REGS if array_base is None else tuple(array_base)
        self._cmdbufs: dict[str, Cmdbuf] = {}
        self._found: list[Found] = []
        self._second_reads: dict[int, list[SecondRead]] = {}

    def submit(self, segments: dict[str, Cmdbuf]) -> None:
        """Checks command buffers, by section name, that run as one job. LMEM keeps its content between them, and loses
        it after the last."""
        lmem = LocalMemory(self.chip, self._second_reads)
        for section, cmdbuf in segments.items():
            self._cmdbufs[section] = cmdbuf
            ordering = ordering_of(cmdbuf, self._refusal, section)
            found = list(self._check(ordering, lmem))
            self._found += sorted(found, key=lambda f: f[2][0].index if f[2] else -1)

    def add(self, found: Iterable[Found]) -> None:
        """Adds findings of this point of the program that are not about a command."""
        self._found += found

    def findings(self) -> list[Finding]:
        """Everything found, including what only the program's end shows."""
        found = self._found + list(self.gmem.unread(self._second_reads))
        wanted: dict[str, set[int]] = {}
        for _, _, steps in found:
            for step in steps:
                wanted.setdefault(step.section, set()).add(step.index)
        lines = {section: _disassembled(self._cmdbufs[section], sorted(places)) for section, places in wanted.items()}
        return [
            Finding(
                kind,
                text,
                tuple(s.index for s in steps),
                tuple(lines[s.section][s.index] for s in steps),
                _section(steps),
            )
            for kind, text, steps in found
        ]

    def _check(self, ordering: Ordering, lmem: LocalMemory) -> Iterator[Found]:
        for stream in ordering.streams:
            yield from ((Kind.ILLEGAL, step.refusal, (step,)) for step in stream if step.refusal)
        yield from check_ids(ordering)
        fine: set[int] = set()  # commands that do the same share their footprint
        for step in ordering.order:
            if id(step.footprint) not in fine:
                found = [*check_overlap(step, self.chip), *check_one_place(step)]
                yield from found
                fine.update([] if found else [id(step.footprint)])
        yield from lmem.check(ordering, needed_reads(self.chip, ordering.order))
        yield from self.gmem.check(ordering)

    def _refusal(self, instruction: Instruction) -> str:
        try:
            instruction.check(self._array_base)
        except NpusimError as error:
            text = str(error)
            start = "" if text.startswith("command ") else f"command {instruction.index} ({instruction.mnemonic}): "
            return start + text
        return ""


def _section(steps: tuple[Step, ...]) -> str:
    return steps[0].section if steps else ""


def _disassembled(cmdbuf: Cmdbuf, places: list[int]) -> dict[int, str]:
    """The commands at `places` as text, without offsets."""
    tiu, tdma = np.isin(cmdbuf.tiu_index, places), np.isin(cmdbuf.tdma_index, places)
    few = Cmdbuf(
        cmdbuf.chip,
        cmdbuf.headers[places],
        tiu=cmdbuf.tiu[tiu],
        tiu_index=np.searchsorted(places, cmdbuf.tiu_index[tiu]),
        tdma=cmdbuf.tdma[tdma],
        tdma_index=np.searchsorted(places, cmdbuf.tdma_index[tdma]),
    )
    lines = [write_command(command, cmdbuf.chip).split(": ", 1)[1] for command in commands(few)]
    return dict(zip(places, lines, strict=True))
