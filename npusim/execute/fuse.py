"""Executes chains of commands as one: products that read tiles of weights, together with the loads of the tiles.

At the end, memory is as if every command had run alone, in order:

- Commands are only deferred: a chain runs at the place of its last command. A command is moved past another only if
  neither writes what the other reads or writes. What a command touches is its footprint; a command whose addresses can
  move may touch all of GMEM.
- A chain computes from memory as it is before its first command. Nothing in it writes what one of its products reads,
  except the product's own tile and the sum that it continues.
- A tile or an unfinished sum is not written to LMEM only if every byte of it is written again before a command reads
  it. The contents of LMEM at the end count as read.
- Before a command that can fail, everything before it is executed and written.
- If a sum may not be a normal number, the commands of the chain run one by one (npusim.insn.streamed).

Between commands, memory differs from that of commands that run one by one. Who needs it there must bind each command
alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from npusim.execute.chains import MOST_PAIRS, Chains, Pair
from npusim.execute.touch import Touch, all_are, paint
from npusim.insn import Instruction
from npusim.insn.base import Bound, TiuInstruction
from npusim.insn.streamed import Step, bind_chain, can_stream, tile_in_gmem
from npusim.insn.tdma_copy import G2lTensorCopy
from npusim.insn.tiu_matmul import MatrixMultiplication
from npusim.state import State

Fused = list[int | Bound]
"""Places of commands that run alone, and functions that run chains."""


class _Commands(NamedTuple):
    state: State
    instructions: Sequence[Instruction]
    calls: Sequence[Bound]
    touches: Sequence[Touch]


def fused(state: State, instructions: Sequence[Instruction], calls: Sequence[Bound], movable: Collection[int]) -> Fused:
    """The commands that `calls` run, of which some are replaced by chains, with the base registers as they are now.

    movable     places of commands that may be bound again to another address in GMEM"""
    pairs = _pairs(instructions, movable)
    if not 0 < len(pairs) <= MOST_PAIRS:
        return list(range(len(calls)))
    touches = _touches(instructions, state.array_base, movable)
    commands = _Commands(state, instructions, calls, touches)
    is_dead = np.zeros(state.lmem.size, np.bool_)
    found: Fused = []
    for item in reversed(Chains(instructions, touches).ordered(pairs)):
        if isinstance(item, int):
            touches[item].mark(is_dead)
            found.append(item)
        else:
            found += _segments(commands, item, is_dead)
    return found[::-1]


def _touches(instructions: Sequence[Instruction], array_base: Sequence[int], movable: Collection[int]) -> list[Touch]:
    """What each command touches. The TIU's have no addresses in GMEM, and many do the same."""
    known: dict[tuple, Touch] = {}
    found = []
    for place, insn in enumerate(instructions):
        key = insn.work() if isinstance(insn, TiuInstruction) else (place,)
        if key not in known:
            known[key] = Touch.of(insn, array_base, place in movable)
        found.append(known[key])
    return found


def _pairs(instructions: Sequence[Instruction], movable: Collection[int]) -> dict[int, int]:
    """For the place of every product that may be part of a chain, the place of its load."""
    loads: dict[int, tuple[int, G2lTensorCopy]] = {}
    pairs: dict[int, int] = {}
    for place, insn in enumerate(instructions):
        if isinstance(insn, G2lTensorCopy) and place not in movable:
            loads[insn.dst_addr] = place, insn
        elif isinstance(insn, MatrixMultiplication) and can_stream(insn):
            load = loads.pop(insn.tensors("opd1")[0].addr, None)
            if load is not None and tile_in_gmem(load[1], insn) is not None:
                pairs[place] = load[0]
    return pairs


def _segments(commands: _Commands, pairs: Sequence[Pair], is_dead: NDArray[np.bool_]) -> list[Bound]:
    """The functions that run a chain, the last one first: one, or several if a sum in between has to be written.

    `is_dead` has the bytes of LMEM that are written again before they are read, as seen after the chain. It is changed
    to what is seen before the chain."""
    touches, found = commands.touches, []
    end, kept = len(pairs), list[Bound]()
    for i in range(len(pairs) - 1, -1, -1):
        load, product = pairs[i]
        if i < end - 1 and not all_are(is_dead, touches[product].writes, True):
            found.append(_bind(commands, pairs[i + 1 : end], kept[::-1]))
            paint(is_dead, touches[pairs[i + 1][1]].sums, False)
            end, kept = i + 1, []
        paint(is_dead, touches[product].writes, True)
        paint(is_dead, touches[product].reads, False)
        if not all_are(is_dead, touches[load].writes, True):
            kept.append(commands.calls[load])
        paint(is_dead, touches[load].writes, True)
    found.append(_bind(commands, pairs[:end], kept[::-1]))
    paint(is_dead, touches[pairs[0][1]].sums, False)
    return found


def _bind(commands: _Commands, pairs: Sequence[Pair], kept: Sequence[Bound]) -> Bound:
    steps = []
    for load, product in pairs:
        tile, factor = commands.instructions[load], commands.instructions[product]
        assert isinstance(tile, G2lTensorCopy) and isinstance(factor, MatrixMultiplication)
        steps.append(Step(tile, factor, (commands.calls[load], commands.calls[product])))
    return bind_chain(commands.state, steps, kept)
