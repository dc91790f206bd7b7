"""The base classes of instructions: a decoded descriptor with its operands, its rules, and a way to run it."""

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
"""An instruction bound to one machine's memory. Each call executes it once."""

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
        """Raises IllegalInstruction for fields that the chip refuses; it does not check where operands are."""
        raise NotImplementedError

    def bind_checked(self, state: State) -> Bound:
        """The result of `bind`, after the rules were checked. Raises AddressError for an operand outside its memory."""
        raise NotImplementedError

    def check(self, array_base: Sequence[int] | None = None) -> None:
        """Checks without a machine whether the chip runs this: its rules, whether its operands are in LMEM, and, if
        base registers `array_base` are given, whether they are in GMEM.

        Raises IllegalInstruction or AddressError.
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
        """Validates the whole instruction and binds it to `state`. -> the function that runs it. Memory does not change
        until that is called.

        Raises IllegalInstruction or AddressError. The function uses the base registers as they are now.
        """
        self.check_rules()
        return self.bind_checked(state) if self.acts() else _do_nothing

    def acts(self) -> bool:
        """Whether there is anything to do."""
        return True

    def clears(self) -> bool:
        """Whether it only sets bytes to a constant. Programs clear gaps so, which may or may not be filled later."""
        return False

    def pairs_channels(self) -> bool:
        """Whether it takes input channels in pairs, so that an odd number of them has been padded to an even one."""
        return False

    def apart(self) -> tuple[tuple[str, str], ...]:
        """Pairs of operands that should not be the same tensor, as in x - x or the larger of x and x."""
        return ()

    def places(self, name: str, role: Role = Role.READ) -> Sequence[Place]:
        """Where the operand with that name and role is; empty if the descriptor has none."""
        for operand in self.operands:
            if operand.name == name and operand.role is role:
                return operand.places(self)
        raise AssertionError(f"{self.mnemonic} has no operand {name} to {role.value}")

    def tensors(self, name: str, role: Role = Role.READ) -> tuple[LocalTensor, ...]:
        """The operand's tensors in LMEM: one, its planes, or its pieces."""
        return tuple(place for place in self.places(name, role) if isinstance(place, LocalTensor))

    def touched(self) -> list[tuple[Operand, Sequence[Place]]]:
        """(operand, where it is) for every operand whose bytes are used: none if there is nothing to do, and only the
        result if it only clears."""
        if not self.acts():
            return []
        clears = self.clears()
        operands = (operand for operand in self.operands if operand.role is Role.WRITE or not clears)
        return [(operand, where) for operand in operands if (where := operand.places(self))]

    def footprint(self) -> Footprint:
        """The bytes that it reads and writes. The instruction must be legal."""
        found = [access_of(self, operand, where) for operand, where in self.touched()]
        writes = tuple(access for access in found if access.operand.role is Role.WRITE)
        return Footprint(tuple(access for access in found if access.operand.role is not Role.WRITE), writes)

    def work(self) -> tuple:
        """A key that is equal for two commands of one engine that do the same to the same bytes."""
        raise NotImplementedError

    def key(self) -> tuple:
        """A key of everything that the bound function depends on besides the machine: its work, and also `index` if
        running it can fail with a message that names the command."""
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
    """The field with the number of elements that each result sums, in addition to those of the window; "" for none."""
    multiplies: ClassVar[bool] = False
    """Its work is counted in multiply-accumulates."""

    @property
    def is_float(self) -> bool:
        """Whether its elements are bf16. With per-channel requantisation they are bytes, for any opd_typ."""
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
    """Runs an instruction that has nothing to do."""
