"""Lowered programs: nothing is wrong with them, and they do on the vendor's model what they do here."""

from __future__ import annotations

import hashlib
import json
import multiprocessing as mp
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npusim.check import check
from npusim.llm.device import Device, SimulatedDevice
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.session import Session
from npusim.program.cmdbuf import parse_cmdbuf
from tests.llm.lowering import bits, held_out, host_cache, lowered, session, twin

pytestmark = pytest.mark.slow

RECORD = Path(__file__).parent / "vendor.json"
"""What the vendor's model gave: CVI_LIB=DIR python -m tests.llm.record"""
PROMPT, STEPS = 70, 64
CASES = (("bf16", "duo256m"), ("int8", "duo256m"), ("int8", "duo"))


@pytest.mark.parametrize(
    ("precision", "context", "budget", "rows"), [("bf16", 128, 48, 1), ("int8", 64, None, 1), ("int8", 128, 48, 8)]
)
def test_no_program_has_a_finding(precision: str, context: int, budget: int | None, rows: int) -> None:
    for program in lowered(precision, context, budget, rows=rows).programs.values():
        for cmdbuf in program.cmdbufs:
            assert check(parse_cmdbuf(program.chip, cmdbuf)) == []


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_prefill_in_chunks_gives_the_twins_bits_and_quests_boxes(precision: str) -> None:
    low = lowered(precision, 128, 48)
    chip, kv, tokens = session(low), host_cache(low), held_out(90)
    logits = chip.prefill(tokens)
    dense = len(tokens) - 1
    twin(precision).forward(tokens[:dense], kv)
    for token in tokens[dense:]:
        wanted = twin(precision).forward([token], kv)[0]
    np.testing.assert_array_equal(bits(logits), bits(wanted))
    for choice, table in zip(chip.choices, kv.last_table, strict=True):
        assert table is not None
        np.testing.assert_array_equal(choice.blocks, table.units)


def case(precision: str, board: str) -> LoweredModel:
    return lowered(precision, 256, 64, board)


def digests(low: LoweredModel, device: Device) -> dict[str, str]:
    """SHA-256 of the logits of every step, and of the whole cache and its boxes in the end."""
    chip, logits = Session(low, twin(low.setup.precision), device), hashlib.sha256()
    tokens = held_out(PROMPT + STEPS)
    logits.update(chip.prefill(tokens[:PROMPT]).tobytes())
    for token in tokens[PROMPT:]:
        logits.update(chip.decode(token).tobytes())
    found = {"logits": logits.hexdigest()}
    for name in ("kv pages", "page boxes"):
        region = low.memory[name]
        found[name] = hashlib.sha256(device.read(region.addr, region.num_bytes)).hexdigest()
    return found


@pytest.mark.parametrize(("precision", "board"), CASES)
def test_prefill_and_64_steps_leave_what_the_vendors_model_left(precision: str, board: str) -> None:
    low = case(precision, board)
    assert digests(low, SimulatedDevice(low.setup.board.chip)) == json.loads(RECORD.read_text())[f"{precision} {board}"]


def on_vendor(work: Callable[[Device], Any], chip: str) -> Any:
    """What `work` makes of the vendor's model, in a child process: its runtime keeps the first chip that it opened, and
    is noisy."""
    here, there = mp.get_context("fork").Pipe(False)

    def serve() -> None:
        from tests.llm.vendor_device import VendorDevice

        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        there.send(work(VendorDevice(chip)))
        os._exit(0)

    child = mp.get_context("fork").Process(target=serve)
    child.start()
    there.close()
    try:
        return here.recv()
    finally:
        child.join()


def vendor_digests(precision: str, board: str) -> dict[str, str]:
    low = case(precision, board)
    found: dict[str, str] = on_vendor(partial(digests, low), low.setup.board.chip.name)
    return found


@pytest.mark.skipif("CVI_LIB" not in os.environ, reason="CVI_LIB does not name the vendor's functional model")
@pytest.mark.parametrize(("precision", "board"), CASES)
def test_the_record_is_what_the_vendors_model_gives(precision: str, board: str) -> None:
    assert vendor_digests(precision, board) == json.loads(RECORD.read_text())[f"{precision} {board}"]
