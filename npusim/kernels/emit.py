"""What KernelBuilder's calls stand on: command ids, waits between the engines, and the finished command buffers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from npusim.chip import Chip, chip_named
from npusim.errors import NpusimError, UsageError
from npusim.isa.opcodes import Engine
from npusim.kernels.encode import Fields, instruction_of, tdma_bytes, tiu_bytes
from npusim.kernels.hazards import HazardTracker, Touched, touched_by
from npusim.kernels.lmem import LmemStack
from npusim.kernels.program import Program, Relocation
from npusim.kernels.tensors import Mg, Tg
from npusim.program.cmdbuf import HEADER_BYTES, build_cmdbuf
from npusim.program.waits import ID_FIELD, LAST_ID, WAIT_FIELD


@dataclass
class _Command:
    engine: Engine
    fields: Fields
    labels: list[tuple[str, str, int]] = field(default_factory=list)
    """(label, side, addend)."""


class Emitter:
    """Takes commands in program order and gives each its id and the id that it waits for.

    With `sync="hazards"` a command waits for the last command of the other engine that conflicts with it in LMEM, so
    the engines run in parallel as far as the data allow. With `sync="vendor"` it waits for everything before it, as
    cvikernel does, but for what stands between parallel_enable and parallel_disable: that waits only for what came
    before the pair.

    Ids start at 1 in every command buffer. One ends behind a command with the last id, and a longer program goes on in
    the next one."""

    def __init__(self, chip: Chip | str, *, sync: str = "hazards") -> None:
        if sync not in ("hazards", "vendor"):
            raise UsageError(
                f"sync is {sync!r}; it is 'hazards' (waits follow from the operands) or 'vendor' (cvikernel's modes)"
            )
        self.chip = chip_named(chip) if isinstance(chip, str) else chip
        self.lmem = LmemStack(self.chip)
        self._hazards = HazardTracker(self.chip) if sync == "hazards" else None
        self._buffers: list[list[_Command]] = [[]]
        self._last_id = {Engine.TIU: 0, Engine.TDMA: 0}
        self._waited = {Engine.TIU: 0, Engine.TDMA: 0}
        self._before_parallel: dict[Engine, int] | None = None
        self._previous: Engine | None = None
        """Engine of the last command, None behind a parallel region."""
        self._layer_id = 0

    def set_layer_id(self, layer_id: int) -> None:
        """Marks the commands that follow; profiles and disassembly show it."""
        if not 0 <= layer_id < 1 << 16:
            raise UsageError(f"layer_id is {layer_id}; it has 16 bits (0 to 65535)")
        self._layer_id = layer_id

    def parallel_enable(self) -> None:
        """From here on commands wait only for what stands before this call. Changes nothing with sync="hazards"."""
        self._before_parallel = dict(self._last_id)

    def parallel_disable(self) -> None:
        """Ends parallel_enable: the next command waits for everything before it."""
        self._before_parallel = None

    def start_cmdbuf(self) -> None:
        """Ends the command buffer: what follows is submitted apart, when all before is done."""
        if self._buffers[-1]:
            self._buffers.append([])
        self._last_id = dict.fromkeys(self._last_id, 0)
        self._waited = dict.fromkeys(self._waited, 0)
        if self._before_parallel is not None:
            self._before_parallel = dict.fromkeys(self._last_id, 0)
        if self._hazards is not None:
            self._hazards.forget()

    def emit_tiu(self, fields: Fields) -> None:
        touched = _touched(self.chip, Engine.TIU, tuple(fields.items()))
        self._emit(_Command(Engine.TIU, {**fields, "layer_info": self._layer_id}), touched)

    def emit_tdma(self, fields: Fields, far: Sequence[tuple[str, Tg | Mg]] = ()) -> None:
        """`far` names the sides that lie in GMEM with their tensors; their addresses are put in here."""
        touched = _touched(self.chip, Engine.TDMA, tuple(fields.items()))
        command = _Command(Engine.TDMA, {**fields, "layer_ID": self._layer_id})
        for side, tensor in far:
            addr = tensor.addr + self.chip.gmem_base
            command.fields[f"{side}_base_addr_low"] = addr & 0xFFFFFFFF
            command.fields[f"{side}_base_addr_high"] = addr >> 32
            command.fields[f"{side}_base_reg_sel"] = tensor.base_reg
            if tensor.label is not None:
                command.labels.append((tensor.label, side, tensor.addr))
        self._emit(command, touched)

    def _emit(self, command: _Command, touched: Touched) -> None:
        engine = command.engine
        if LAST_ID in self._last_id.values():
            self.start_cmdbuf()
        self._last_id[engine] += 1
        command_id = self._last_id[engine]
        other = Engine.TDMA if engine == Engine.TIU else Engine.TIU
        if self._hazards is not None:
            # A command before this one may have waited for more: then that is done too, and waits never go back.
            wait = self._waited[engine] = max(self._waited[engine], self._hazards.needed(engine, touched))
            self._hazards.record(engine, command_id, touched)
        else:
            wait = self._vendor_wait(other)
            if engine == Engine.TDMA:  # cvikernel lets no DMA command wait for less than the one before it
                wait = self._waited[engine] = max(self._waited[engine], wait)
            self._previous = engine if self._before_parallel is None else None
        command.fields[ID_FIELD[engine]] = command_id
        command.fields[WAIT_FIELD[engine]] = wait
        self._buffers[-1].append(command)

    def _vendor_wait(self, other: Engine) -> int:
        """In serial mode a command depends on the one before it, in whichever engine; behind a parallel region on all
        before."""
        if self._before_parallel is not None:
            return self._before_parallel[other]
        return self._last_id[other] if self._previous in (None, other) else 0

    def build(self) -> Program:
        """The program of all commands so far."""
        buffers, points = [], []
        for number, commands in enumerate(buffer for buffer in self._buffers if buffer):
            buffer, found = self._encode(number, commands)
            buffers.append(buffer)
            points += found
        counts = [
            sum(command.engine == engine for buffer in self._buffers for command in buffer)
            for engine in (Engine.TIU, Engine.TDMA)
        ]
        return Program(self.chip, tuple(buffers), tuple(points), self.lmem.high_water, *counts)

    def _encode(self, number: int, commands: list[_Command]) -> tuple[bytes, list[Relocation]]:
        bodies = {
            Engine.TIU: iter(tiu_bytes(self.chip, [c.fields for c in commands if c.engine == Engine.TIU])),
            Engine.TDMA: iter(tdma_bytes(self.chip, [c.fields for c in commands if c.engine == Engine.TDMA])),
        }
        pairs = [(command.engine, next(bodies[command.engine])) for command in commands]
        points, at = [], 0
        for index, (command, (_, body)) in enumerate(zip(commands, pairs, strict=True)):
            for label, side, addend in command.labels:
                points.append(
                    Relocation(label, buffer=number, command=index, side=side, offset=at + HEADER_BYTES, addend=addend)
                )
            at += HEADER_BYTES + len(body)
        return build_cmdbuf(self.chip, pairs), points


@lru_cache(1 << 14)
def _touched(chip: Chip, engine: Engine, fields: tuple[tuple[str, int], ...]) -> Touched:
    """What a command's own descriptor says that it touches in LMEM. Layers repeat their commands, so it is kept.

    Raises UsageError where the chip would refuse the command.
    """
    try:
        instruction = instruction_of(chip, engine, dict(fields))
        instruction.check()
    except NpusimError as error:
        raise UsageError(f"no command of {chip.name}: {error}") from None
    return touched_by(instruction)
