"""Puts a program in an order in which products that continue each other's sum are together, with the loads of their
tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npusim.execute.touch import Spans, Touch, all_are, last_of, paint
from npusim.insn import Instruction
from npusim.insn.tiu_matmul import MatrixMultiplication

Pair = tuple[int, int]
"""(place of a load, place of the product that reads its tile)."""
Order = list[int | list[Pair]]
"""Places of commands, and chains."""
MOST_PAIRS = (1 << 16) - 1
"""The largest number that an element of the maps can hold."""


class _Chain:
    """Commands that are deferred: a single load, or the steps of a sum that is not finished."""

    def __init__(self, number: int, load: int, before: int, from_gmem: Spans) -> None:
        self.number = number
        """Its number in the maps; later chains have larger ones."""
        self.load = load
        self.before = before
        """The largest number in the maps at the bytes that the load writes."""
        self.from_gmem = from_gmem
        self.pairs: list[Pair] = []


class Chains:
    """Goes through a program once. Two maps have, for each byte of LMEM, the number of the last deferred chain that
    writes it and of the last that reads it.

    Deferred chains are executed in their order, the first one first. So a number of a chain that was executed never
    hides one of a chain that is still deferred."""

    def __init__(self, instructions: Sequence[Instruction], touches: Sequence[Touch]) -> None:
        self._instructions, self._touches = instructions, touches
        num_bytes = instructions[0].chip.lmem_total_bytes
        self._written, self._read = np.zeros(num_bytes, np.uint16), np.zeros(num_bytes, np.uint16)
        self._put: list[_Chain] = []
        self._count = 0
        self._order: Order = []

    def ordered(self, pairs: dict[int, int]) -> Order:
        """The commands in an order with the same result, in which the commands of a chain are together. `pairs`: the
        place of the load for that of each product."""
        loads = set(pairs.values())
        for place in range(len(self._instructions)):
            if place in loads:
                self._put_off(place)
            elif place not in pairs or not self._join(pairs[place], place):
                self._execute(place)
        self._flush(len(self._put))
        return self._order

    def _put_off(self, load: int) -> None:
        touch = self._touches[load]
        self._count += 1
        before = max(last_of(self._written, touch.writes), last_of(self._read, touch.writes))
        self._put.append(_Chain(self._count, load, before, list(touch.from_gmem)))
        paint(self._written, touch.writes, self._count)

    def _execute(self, place: int) -> None:
        """Executes a single command, after the deferred chains that must come before it."""
        if self._put:
            touch = self._touches[place]
            last = self._count if touch.can_fail else self._met(touch)
            for chain in self._put if touch.to_gmem else ():
                if any(a < end and start < b for a, b in chain.from_gmem for start, end in touch.to_gmem):
                    last = max(last, chain.number)
            self._flush(sum(chain.number <= last for chain in self._put))
        self._order.append(place)

    def _met(self, touch: Touch) -> int:
        """The number of the last deferred chain that must come before the command."""
        reads = (*touch.reads, *touch.sums, *touch.tile, *touch.writes)
        return max(last_of(self._written, reads), last_of(self._read, touch.writes))

    def _join(self, load: int, place: int) -> bool:
        """Adds the product and its load to a chain, if possible. -> whether it was."""
        product, touch, writes = self._instructions[place], self._touches[place], self._touches[load].writes
        assert isinstance(product, MatrixMultiplication)
        loaded = next((chain for chain in self._put if chain.load == load and not chain.pairs), None)
        if loaded is None or not all(all_are(self._written, r, loaded.number) for r in (writes, touch.tile)):
            return False
        chain = next((chain for chain in self._put if self._goes_on(chain, product)), loaded)
        number = chain.number
        if chain is loaded:
            free = max(last_of(self._written, touch.reads), last_of(self._written, touch.sums)) < number
        else:
            reads = last_of(self._written, touch.reads) < number and last_of(self._written, touch.sums) <= number
            free = reads and loaded.before <= number
        if not free or max(last_of(self._written, touch.writes), last_of(self._read, touch.writes)) > number:
            return False
        if chain is not loaded:
            self._put.remove(loaded)
            chain.from_gmem += loaded.from_gmem
        chain.pairs.append((load, place))
        for region in (*writes, *touch.writes):
            region.view(self._written)[...] = number
        for region in (*touch.reads, *touch.sums, *touch.tile):
            view = region.view(self._read)
            np.maximum(view, number, out=view)
        if not product.is_unfinished:
            self._flush(self._put.index(chain) + 1)
        return True

    def _goes_on(self, chain: _Chain, product: MatrixMultiplication) -> bool:
        if not chain.pairs:
            return False
        last = self._instructions[chain.pairs[-1][1]]
        assert isinstance(last, MatrixMultiplication)
        return product.goes_on_from(last)

    def _flush(self, count: int) -> None:
        """Executes the first `count` deferred chains."""
        for chain in self._put[:count]:
            self._order.append(chain.pairs or chain.load)
        del self._put[:count]
