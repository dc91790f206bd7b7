"""A session on the simulated chip against the quantised twin with the same pages: equal bits, equal choices."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from npusim.board import board_named
from npusim.chip import Chip
from npusim.errors import UsageError
from npusim.execute import BoundProgram
from npusim.kernels.program import Program
from npusim.llm.device import SimulatedDevice
from npusim.llm.lowering import lower
from npusim.llm.session import Session
from npusim.llm.setup import Gather, Precision, Setup, Submit
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from tests.llm.lowering import bits, held_out, host_cache, lowered, session, twin

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_dense_decode_gives_the_twins_bits(precision: str) -> None:
    low = lowered(precision, 64)
    chip, kv = session(low), host_cache(low)
    for token in held_out(40):
        np.testing.assert_array_equal(bits(chip.decode(token)), bits(twin(precision).forward([token], kv)[0]))


@pytest.mark.parametrize(("precision", "board"), [("bf16", "duo256m"), ("int8", "duo")])
def test_quest_on_the_chip_chooses_the_hosts_pages_and_gives_the_twins_bits(precision: Precision, board: str) -> None:
    low = lowered(precision, 128, 48, board)
    chip, kv, num_choices = session(low), host_cache(low), 0
    for token in held_out(100):
        logits, wanted = chip.decode(token), twin(precision).forward([token], kv)[0]
        for choice, table in zip(chip.choices, kv.last_table, strict=True):
            if table is not None:
                np.testing.assert_array_equal(choice.blocks, table.units)
                num_choices += 1
        np.testing.assert_array_equal(bits(logits), bits(wanted))
    assert num_choices == 52 * low.config.num_layers


def test_copied_pages_give_the_same_bits_as_patched_descriptors() -> None:
    patched, copied = (session(lowered("bf16", 128, 32, gather=gather)) for gather in Gather)
    for token in held_out(50):
        np.testing.assert_array_equal(bits(patched.decode(token)), bits(copied.decode(token)))
    assert copied.driver.num_patched < patched.driver.num_patched


def test_choice_by_the_step_before_is_one_program_and_keeps_the_last_pages_at_first() -> None:
    low = lowered("bf16", 128, 32, submit=Submit.TOKEN)
    assert len(low.decode) == 1
    chip = session(low)
    for token in held_out(50):
        chip.decode(token)
    assert all(choice.blocks.shape == (2, 2) and (choice.blocks[:, -1] == 3).all() for choice in chip.choices)


class OneByOne(SimulatedDevice):
    """Binds every command of a program again for each run."""

    def __init__(self, chip: Chip) -> None:
        super().__init__(chip)
        self._patched: dict[str, Program] = {}

    def load(self, name: str, program: Program) -> None:
        self._patched[name] = program

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        program = self._patched[name] = self._patched[name].patch(addrs)
        for cmdbuf in program.cmdbufs:
            BoundProgram(self.state, decode_cmdbuf(parse_cmdbuf(self.state.chip, cmdbuf))).run()
        return len(addrs)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_fused_programs_leave_the_memory_of_their_commands(precision: Precision) -> None:
    low, tokens = lowered(precision, 64), held_out(24)
    fused, plain = session(low), Session(low, twin(precision), OneByOne(low.setup.board.chip))
    for chip in (fused, plain):
        chip.prefill(tokens[:20])
    for token in tokens[20:]:
        fused.decode(token)
        plain.decode(token)
        ours, theirs = fused.device.state, plain.device.state
        np.testing.assert_array_equal(ours.lmem, theirs.lmem)
        assert ours.gmem.read(0, low.memory.num_bytes) == theirs.gmem.read(0, low.memory.num_bytes)


def test_a_full_cache_is_refused_and_unharmed() -> None:
    chip = session(lowered("bf16", 16))
    for token in held_out(16):
        chip.decode(token)
    with pytest.raises(UsageError, match="17 tokens do not fit the 16"):
        chip.decode(5)
    assert chip.length == 16


def test_a_prompt_longer_than_prefill_can_see_goes_on_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npusim.llm.lowering.MAX_PAGES", 2)
    low = lower(twin("bf16").config, Setup(board_named("duo256m"), "bf16", 128, 48))
    assert low.prefills[-1].num_slots == 2
    chip, kv, tokens = session(low), host_cache(low), held_out(60)
    logits = chip.prefill(tokens)
    twin("bf16").forward(tokens[:32], kv)
    for token in tokens[32:]:
        wanted = twin("bf16").forward([token], kv)[0]
    np.testing.assert_array_equal(bits(logits), bits(wanted))
