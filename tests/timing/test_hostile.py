"""Descriptors of random bits are refused in a sentence, or timed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim.board import default_board
from npusim.chip import CHIPS, CV181X
from npusim.errors import NpusimError
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.isa.opcodes import Engine, TransDir
from npusim.program.cmdbuf import build_cmdbuf
from npusim.timing import time_workload, workload_of_bytes
from tests.support.commands import transfer, workload_of


@pytest.mark.slow
@settings(max_examples=150)
@given(
    st.sampled_from(CHIPS),
    st.integers(0, 1 << 32),
    st.lists(st.booleans(), min_size=1, max_size=6),
    st.sampled_from((0.1, 0.5, 0.9)),
)
def test_random_descriptors_are_refused_or_timed(chip, seed: int, kinds: list[bool], density: float) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    commands = []
    for is_tiu in kinds:
        layout = tiu_layout(chip) if is_tiu else tdma_layout(chip)
        bits = rng.random(layout.num_bytes * 8) < density
        fields = layout.decode(np.packbits(bits)[None])
        if is_tiu:
            fields["tsk_typ"] %= 4  # else all of them would be refused for that alone
        commands.append((Engine.TIU if is_tiu else Engine.TDMA, layout.encode(fields, 1).tobytes()))
    try:
        timeline = time_workload(workload_of_bytes(chip, build_cmdbuf(chip, commands)), default_board(chip))
    except NpusimError as error:
        assert str(error) and "\n" not in str(error)
        return
    assert 0 <= timeline.ps < 1 << 62
    assert all((ends >= starts).all() for starts, ends in zip(timeline.start_ps, timeline.end_ps, strict=True))
    assert timeline.workload.macs >= 0 and timeline.dram_read_bytes >= 0 and timeline.dram_write_bytes >= 0


def test_a_transfer_of_more_pieces_than_lmem_has_bytes_is_refused() -> None:
    command = transfer(CV181X, TransDir.G2L, (65535, 65535, 65535, 1), strides=(0, 70000, 7))
    try:
        workload_of([command], CV181X)
    except NpusimError as error:
        assert "command 0" in str(error) and "pieces" in str(error)
    else:
        raise AssertionError("it was not refused")
