"""What every instruction has: the descriptor that it was decoded from, its operands, a check against its chip, and a
way to run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, ClassVar, NoReturn

from npusim.chip import Chip
from npusim.errors import IllegalInstruction
from npusim.insn.operand import Footprint, Operand, Place, Role, access_of
from npusim.isa.regs import TDMA_SCHEDULING, TIU_SCHEDULING, TdmaRegs, TiuRegs
from npusim.mem.gmem import physical_range
from npusim.mem.region import LMEM
from npusim.mem.tensor import LocalTensor
from npusim.state import State

Bound = Callable[[], None]
"""An instruction tied to one machine's memory; each call executes it once."""

_TIU_WORK = attrgetter(*(name for name in TiuRegs._fields if name not in TIU_SCHEDULING))
_TDMA_WORK = attrgetter(*(name for name in TdmaRegs._fields if name not in TDMA_SCHEDULING))


class Instruction:
    """A decoded descriptor. `index` is its place in the command buffer (counting every command)."""

    __slots__ = ("chip", "index", "regs")
    mnemonic: ClassVar[str]
    """Name in disassembly and reports: cvikernel's call without its chip prefix, as in `tiu_add`."""
    operands: ClassVar[tuple[Operand, ...]]
    """Everything that it reads and writes; the manual lists them in this order."""

    def __init__(self, chip: Chip, regs: Any, index: int = -1) -> None:
        self.chip = chip
        self.regs = regs
        self.index = index

    @classmethod
    def matches(cls, regs: Any) -> bool:
        """Whether a descriptor with these fields is this instruction. Exactly one class of INSTRUCTIONS matches, or
        none."""
        raise NotImplementedError

    def check_rules(self) -> None:
        """Raises IllegalInstruction for fields that the chip refuses, wherever the operands lie."""
        raise NotImplementedError

    def bind_checked(self, state: State) -> Bound:
        """What `bind` returns, once the rules are checked. Raises AddressError for an operand that leaves its
        memory."""
        raise NotImplementedError

    def check(self, array_base: Sequence[int] | None = None) -> None:
        """Whether the chip runs this: its rules, operands within LMEM and, behind base registers `array_base`, within
        GMEM.

        Raises IllegalInstruction or AddressError. Needs no machine; without `array_base` GMEM is not looked at.
        """
        self.check_rules()
        for operand in self.operands if self.acts() else ():
            for place in operand.places(self):
                if isinstance(place, LocalTensor):
                    place.require_fits(self.chip, operand.name)
                elif array_base is not None:
                    self._require_in_gmem(operand, place, array_base)

    def _require_in_gmem(self, operand: Operand, place: Place, array_base: Sequence[int]) -> None:
        for region in place.regions(self.chip):
            if region.memory != LMEM:
                num_bytes = 1 if operand.at_most else region.end - region.start
                where = (region.memory, region.start + self.chip.gmem_base, num_bytes)
                physical_range(self.chip, array_base, self.chip.gmem_bytes, where, operand.name)

    def bind(self, state: State) -> Bound:
        """Validates the whole instruction against `state` and returns what runs it; memory is untouched until that is
        called.

        Raises IllegalInstruction or AddressError. The bound call sees the base registers as they are now.
        """
        self.check_rules()
        return self.bind_checked(state) if self.acts() else _do_nothing

    def acts(self) -> bool:
        """Whether there is anything to do."""
        return True

    def clears(self) -> bool:
        """Whether it only sets bytes to a constant: programs do so for gaps that may or may not be filled later."""
        return False

    def pairs_channels(self) -> bool:
        """Whether it takes input channels in pairs, so that an odd number of them has been padded to an even one."""
        return False

    def apart(self) -> tuple[tuple[str, str], ...]:
        """Pairs of operands that make no sense as one tensor, as in x - x or the larger of x and x."""
        return ()

    def places(self, name: str, role: Role = Role.READ) -> Sequence[Place]:
        """Where the operand of that name and role lies; nothing where the descriptor has none."""
        for operand in self.operands:
            if operand.name == name and operand.role is role:
                return operand.places(self)
        raise AssertionError(f"{self.mnemonic} has no operand {name} to {role.value}")

    def tensors(self, name: str, role: Role = Role.READ) -> tuple[LocalTensor, ...]:
        """The same as tensors in LMEM: one, its planes or its pieces."""
        return tuple(place for place in self.places(name, role) if isinstance(place, LocalTensor))

    def touched(self) -> list[tuple[Operand, Sequence[Place]]]:
        """Every operand whose bytes matter, with where it lies; none where there is nothing to do, and what is written
        alone where it only clears."""
        if not self.acts():
            return []
        clears = self.clears()
        operands = (operand for operand in self.operands if operand.role is Role.WRITE or not clears)
        return [(operand, where) for operand in operands if (where := operand.places(self))]

    def footprint(self) -> Footprint:
        """What it touches. It must be an instruction that binds: the footprint of an illegal one means nothing."""
        found = [access_of(self, operand, where) for operand, where in self.touched()]
        writes = tuple(access for access in found if access.operand.role is Role.WRITE)
        return Footprint(tuple(access for access in found if access.operand.role is not Role.WRITE), writes)

    def work(self) -> tuple:
        """Equal for two commands of one engine that do the same at the same places."""
        raise NotImplementedError

    def key(self) -> tuple:
        """What the bound call depends on besides the machine: its work, and `index` for an instruction whose run can
        fail with a message that names the command."""
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
    slides: ClassVar[bool] = False
    """A kernel window of opd1_h x opd1_w slides over opd0."""
    inner: ClassVar[str] = ""
    """The field that says over how many elements each result is summed, besides the window's."""
    multiplies: ClassVar[bool] = False
    """Its work is counted in multiply-accumulates."""

    @property
    def is_float(self) -> bool:
        """Whether its elements are bf16. What multipliers requantise are bytes, whatever opd_typ says."""
        return bool(self.regs.opd_typ and not self.regs.opt_chl_quan)

    def work(self) -> tuple:
        return _TIU_WORK(self.regs)

    key = work


class TdmaInstruction(Instruction):
    """A command of the DMA engine; `regs` is a TdmaRegs."""

    __slots__ = ()
    regs: TdmaRegs

    def work(self) -> tuple:
        return _TDMA_WORK(self.regs)

    key = work


def _do_nothing() -> None:
    """What an instruction without anything to do is bound to."""
