"""Fused programs and the same commands one by one leave equal memory, with any commands between loads and products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from npusim.chip import chip_named
from npusim.execute import execute
from npusim.execute.fuse import Fused, fused
from npusim.insn import Instruction
from npusim.kernels import Fmt, KernelBuilder, tg
from npusim.kernels.tensors import MlShape, Tl, ml_at
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from npusim.state import State

CHIP = chip_named("cv181x")
LANES, DEPTH, WIDTH = 4, 8, 8
"""Tiles are DEPTH rows of LANES * WIDTH columns."""
TILE_BYTES = 2 * DEPTH * WIDTH
LEFT, SUMS = 0x300, 0x500
"""Offsets of left matrices and of sums in a lane; tiles lie in front of them."""
WEIGHTS, GMEM_BYTES = 0x1000, 0x4000


class Sketch:
    """A program that is put together at random, of few tensors that often overlap."""

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        self.rng, self.rows = rng, rows
        self.b = KernelBuilder(CHIP)

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def tile_addr(self) -> int:
        """One of two buffers, rarely something that overlaps them."""
        return self.pick(0, TILE_BYTES) if self.rng.random() < 0.9 else self.pick(16, TILE_BYTES - 16, LEFT - 64, SUMS)

    def load(self, addr: int, fmt: Fmt) -> None:
        shape = (1, LANES, 1, DEPTH * WIDTH)
        src = tg(WEIGHTS + 64 * int(self.rng.integers(0, 100)), shape, fmt)
        self.b.tdma_g2l_tensor_copy(src, Tl(addr, shape, (0, 0, 0, 2), Fmt.BF16))

    def product(self, tile: int, left: int, res: int, mode: int) -> None:
        left_at, right_at = MlShape(self.rows, 1, DEPTH, DEPTH), MlShape(DEPTH, LANES, WIDTH, LANES * WIDTH)
        sums = MlShape(self.rows, LANES, WIDTH, LANES * WIDTH)
        place = (ml_at(CHIP, addr, shape) for addr, shape in ((res, sums), (left, left_at), (tile, right_at)))
        self.b.tiu_matrix_multiplication(*place, ps32_mode=mode)

    def chain(self) -> None:
        """Products that go on from each other, each behind its load or one load ahead, and now and then others."""
        left, res, fmt = LEFT, SUMS + self.pick(0, 16), Fmt.I8 if self.rng.random() < 0.7 else Fmt.BF16
        count, ahead = int(self.rng.integers(1, 5)), self.rng.random() < 0.7
        addrs = [self.tile_addr() for _ in range(count)]
        for i in range(count):
            if i == 0 or not ahead:
                self.load(addrs[i], fmt)
            if ahead and i + 1 < count:
                self.load(addrs[i + 1], fmt)
            if self.rng.random() < 0.15:
                self.other()
            mode = (2 if i < count - 1 else self.pick(0, 2)) if i == 0 else (3 if i < count - 1 else 1)
            self.product(addrs[i], left + (16 * i if self.rng.random() < 0.8 else 0), res, mode)

    def other(self) -> None:
        """A command that reads or writes anywhere."""
        x, y = (
            Tl(self.pick(0, 64, TILE_BYTES, LEFT, LEFT + 32, SUMS, SUMS + 16, 0x700), shape, (64, 64, 64, 2), Fmt.BF16)
            for shape in [(1, self.pick(1, LANES), 1, self.pick(1, 32))] * 2
        )
        kind = self.pick(0, 1, 2, 3)
        if kind == 0:
            self.b.tiu_add(x, y, x)
        elif kind == 1:
            self.b.tdma_l2g_tensor_copy(x, tg(WEIGHTS + 64 * self.pick(0, 50, 100), x.shape, Fmt.BF16))
        elif kind == 2:
            self.b.tdma_g2l_tensor_copy(tg(WEIGHTS, x.shape, Fmt.BF16), x)
        else:
            self.product(self.tile_addr(), LEFT, SUMS, self.pick(0, 1, 2, 3))

    def instructions(self) -> list[Instruction]:
        return [i for buffer in self.b.build().cmdbufs for i in decode_cmdbuf(parse_cmdbuf(CHIP, buffer))]


def state_of(seed: int, spread: int) -> State:
    """Random bf16 numbers everywhere, `spread` binary orders around 1; where they are many, poison and denormals."""
    rng, state = np.random.default_rng(seed), State(CHIP, GMEM_BYTES)
    for memory in (state.lmem.reshape(-1), state.gmem.bytes):
        memory[:] = _numbers(rng, spread, memory.size // 2).view(np.uint8)
    return state


def _numbers(rng: np.random.Generator, spread: int, count: int) -> NDArray[np.uint16]:
    exponents = rng.integers(max(0, 127 - spread), min(256, 128 + spread), count)
    return (rng.integers(0, 2, count) << 15 | exponents << 7 | rng.integers(0, 128, count)).astype(np.uint16)


def run_fused(state: State, instructions: list[Instruction]) -> Fused:
    calls = [instruction.bind(state) for instruction in instructions]
    items = fused(state, instructions, calls, ())
    execute([calls[item] if isinstance(item, int) else item for item in items])
    return items


def run_one_by_one(state: State, instructions: list[Instruction]) -> None:
    execute([instruction.bind(state) for instruction in instructions])


@pytest.mark.parametrize("spread", [4, 128], ids=["ordinary numbers", "all numbers"])
@given(seed=st.integers(0, 1 << 32), rows=st.sampled_from([1, 3, 8]), count=st.integers(1, 8))
def test_a_fused_program_leaves_the_memory_of_its_commands(seed: int, rows: int, count: int, spread: int) -> None:
    rng = np.random.default_rng(seed)
    sketch = Sketch(rng, rows)
    for _ in range(count):
        (sketch.chain if rng.random() < 0.8 else sketch.other)()
    instructions, ours, theirs = sketch.instructions(), state_of(seed, spread), state_of(seed, spread)
    run_fused(ours, instructions)
    run_one_by_one(theirs, instructions)
    np.testing.assert_array_equal(ours.lmem, theirs.lmem)
    np.testing.assert_array_equal(ours.gmem.bytes, theirs.gmem.bytes)


def streamed(count: int) -> list[Instruction]:
    """One sum over `count` tiles in two buffers, each loaded one product ahead."""
    sketch = Sketch(np.random.default_rng(0), 1)
    sketch.load(0, Fmt.I8)
    for i in range(count):
        if i + 1 < count:
            sketch.load(TILE_BYTES * ((i + 1) % 2), Fmt.I8)
        sketch.product(TILE_BYTES * (i % 2), LEFT + 16 * i, SUMS, 2 if i == 0 else 1 if i == count - 1 else 3)
    return sketch.instructions()


def test_a_chain_is_one_call_but_for_what_stays_in_memory_at_the_end() -> None:
    items = run_fused(state_of(0, 4), streamed(6))
    assert len(items) == 2 and all(callable(item) for item in items)  # the last product goes on from what stays


def test_a_command_that_may_move_is_left_alone() -> None:
    instructions = streamed(3)
    calls = [instruction.bind(state_of(0, 4)) for instruction in instructions]
    loads = [place for place, insn in enumerate(instructions) if insn.mnemonic == "tdma_g2l_tensor_copy"]
    items = fused(state_of(0, 4), instructions, calls, loads)
    assert items == list(range(len(instructions)))
