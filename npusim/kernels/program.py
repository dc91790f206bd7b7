"""A finished program: command buffers, and where in them GMEM addresses can be changed without building again."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property

from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.isa.descriptors import tdma_layout


@dataclass(frozen=True)
class Relocation:
    """One address field of one TDMA descriptor, which a label stands for."""

    label: str
    buffer: int
    """Which of the program's command buffers."""
    command: int
    """Place among the commands of that buffer, as errors and disassembly count."""
    side: str
    """"src" or "dst"."""
    offset: int
    """Byte in the command buffer at which the descriptor starts."""
    addend: int
    """Added to the label's address: this tensor's distance from it."""

    def base_fields(self, chip: Chip, addr: int) -> dict[str, int]:
        """The descriptor's address fields where the label is at `addr`. UsageError where that is not an address."""
        value = addr + self.addend + chip.gmem_base
        if addr < 0 or value >= 1 << 40:
            raise UsageError(f"label {self.label!r} is given the address {addr:#x}; an address has 40 bits")
        return {f"{self.side}_base_addr_low": value & 0xFFFFFFFF, f"{self.side}_base_addr_high": value >> 32}


@dataclass(frozen=True)
class Program:
    """The result of KernelBuilder.build.

    `cmdbufs` are submitted in order. All but the longest programs have one."""

    chip: Chip
    cmdbufs: tuple[bytes, ...]
    relocations: tuple[Relocation, ...]
    lmem_bytes: int
    """The most LMEM of a lane that was in use."""
    num_tiu: int
    num_tdma: int

    def __repr__(self) -> str:
        labels = f", labels {', '.join(self.labels)}" if self.labels else ""
        commands = f"{self.num_tiu:,} TIU and {self.num_tdma:,} TDMA commands"
        return f"<Program for {self.chip.name}: {commands}, {self.lmem_bytes:,} bytes of LMEM in a lane{labels}>"

    @property
    def cmdbuf(self) -> bytes:
        """The command buffer of a program that has only one. Raises UsageError for several."""
        if len(self.cmdbufs) != 1:
            raise UsageError(f"the program has {len(self.cmdbufs)} command buffers; submit each of `cmdbufs` in order")
        return self.cmdbufs[0]

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that can be moved."""
        return tuple(self._by_label)

    @property
    def label_set(self) -> Set[str]:
        """The same, to look one up."""
        return self._by_label.keys()

    @cached_property
    def _by_label(self) -> dict[str, tuple[Relocation, ...]]:
        found: dict[str, list[Relocation]] = {}
        for point in self.relocations:
            found.setdefault(point.label, []).append(point)
        return {label: tuple(points) for label, points in found.items()}

    def patch(self, addrs: Mapping[str, int]) -> Program:
        """The program with the labels in `addrs` at these GMEM addresses.

        Addresses are offsets from the tensors' base registers. Raises UsageError for an unknown label."""
        buffers = [bytearray(buffer) for buffer in self.cmdbufs]
        for label, addr in addrs.items():
            for point in self.relocations_of(label):
                _write_addr(self.chip, buffers[point.buffer], point, addr)
        return replace(self, cmdbufs=tuple(map(bytes, buffers)))

    def relocations_of(self, label: str) -> tuple[Relocation, ...]:
        """The places that follow a label. UsageError where the program has none of that name."""
        if label not in self._by_label:
            known = ", ".join(list(self._by_label)[:8]) or "none"
            raise UsageError(
                f"the program has no label {label!r}; it has {known}{', ...' if len(self._by_label) > 8 else ''}"
            )
        return self._by_label[label]


def _write_addr(chip: Chip, cmdbuf: bytearray, point: Relocation, addr: int) -> None:
    layout = tdma_layout(chip)
    for name, value in point.base_fields(chip, addr).items():
        field = layout.by_name[name]
        at, num_bytes = point.offset + field.lsb // 8, field.width // 8
        cmdbuf[at : at + num_bytes] = value.to_bytes(num_bytes, "little")
