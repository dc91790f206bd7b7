"""What every instruction has: the descriptor that it was decoded from, a check against its chip, and a way to run."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, ClassVar, NoReturn

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.isa.regs import TDMA_SCHEDULING, TIU_SCHEDULING, TdmaRegs, TiuRegs
from npusim.state import State

Bound = Callable[[], None]
"""An instruction tied to one machine's memory; each call executes it once."""


_TIU_MEANING = attrgetter(*(name for name in TiuRegs._fields if name not in TIU_SCHEDULING))
_TDMA_MEANING = attrgetter(*(name for name in TdmaRegs._fields if name not in TDMA_SCHEDULING))


class Instruction:
    """A decoded descriptor. `index` is its place in the command buffer (counting every command)."""

    __slots__ = ("chip", "index", "regs")
    mnemonic: ClassVar[str]
    """Name in disassembly and reports: cvikernel's call without its chip prefix, as in `tiu_add`."""

    def __init__(self, chip: Chip, regs: Any, index: int = -1) -> None:
        self.chip = chip
        self.regs = regs
        self.index = index

    @classmethod
    def matches(cls, regs: Any) -> bool:
        """Whether a descriptor with these fields is this instruction. Exactly one class of INSTRUCTIONS matches, or
        none."""
        raise NotImplementedError

    def bind(self, state: State) -> Bound:
        """Validates the whole instruction against `state` and returns what runs it; memory is untouched until that is
        called.

        Raises IllegalInstruction or AddressError. The bound call sees the base registers as they are now.
        """
        raise NotImplementedError

    def meaning(self) -> tuple:
        """What the bound call depends on besides the machine: equal for two commands of one engine that do the same.

        An instruction whose run can fail, with a message that names the command, adds `index`.
        """
        raise NotImplementedError

    def execute(self, state: State) -> None:
        """Validates, then runs once."""
        self.bind(state)()

    def refuse(self, rule: str) -> NoReturn:
        raise IllegalInstruction(f"command {self.index} ({self.mnemonic} on {self.chip.name}): {rule}", self.index)

    def require(self, condition: bool, rule: str) -> None:
        """Raises IllegalInstruction with `rule`, a clause that names the field, its value and what is allowed, unless
        `condition`."""
        if not condition:
            self.refuse(rule)

    def require_feature(self, feature: str) -> None:
        """Refuses the instruction on a chip whose feature set lacks `feature` (a name of cvikernel's configuration
        headers)."""
        self.require(feature not in self.chip.missing, f"{self.chip.name} lacks the feature {feature}")


class TiuInstruction(Instruction):
    """A command of the tensor instruction unit; `regs` is a TiuRegs."""

    __slots__ = ()
    regs: TiuRegs

    def meaning(self) -> tuple:
        return _TIU_MEANING(self.regs)


class TdmaInstruction(Instruction):
    """A command of the DMA engine; `regs` is a TdmaRegs."""

    __slots__ = ()
    regs: TdmaRegs

    def meaning(self) -> tuple:
        return _TDMA_MEANING(self.regs)
