"""Several sequences on one device: each gives the bits that it gives alone, whatever the others do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from kv.errors import KVError
from npusim.board import board_named
from npusim.errors import UsageError
from npusim.llm.device import Device, SimulatedDevice
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.pages import FloatArray
from npusim.llm.session import Session
from npusim.llm.setup import Precision, Setup, Submit
from tests.llm.lowering import bits, held_out, lowered, session, twin
from tests.llm.test_programs import RECORD

pytestmark = pytest.mark.slow

LENGTHS = (3, 17, 40, 64, 70, 5, 33, 90)
BUDGETS = (None, 16, 32, None, 48, 32, 16, 32)
CASES: tuple[tuple[Precision, str, Submit, int], ...] = (
    ("int8", "duo256m", Submit.TOKEN, 8),
    ("bf16", "duo", Submit.TOKEN, 4),
    ("int8", "duo", Submit.LAYER, 4),
    ("bf16", "duo256m", Submit.LAYER, 8),
)
TOGETHER: dict[int, tuple[tuple[int, ...], ...]] = {
    8: ((0, 1, 2, 3, 4, 5, 6, 7), (0, 5, 7), (6, 2), (0, 1, 2, 3, 4), (7,)),
    4: ((0, 1, 2, 3), (3, 1), (0, 1, 3), (2,)),
}
"""Which sequences go on in each step: programs of 8, 4, 2, 8 and 1 rows, and of 4, 2, 4 and 1."""


def text(number: int, count: int) -> list[int]:
    """Tokens of the `number`-th sequence."""
    return held_out(400)[20 * number : 20 * number + count]


def alone(low: LoweredModel, number: int, count: int) -> list[FloatArray]:
    """Logits after a sequence's prompt and each of `count` tokens behind it, with no other beside it."""
    chip, length = single(low), LENGTHS[number]
    found = [chip.admit("alone", text(number, length), BUDGETS[number])]
    found += [chip.step({"alone": token})["alone"] for token in text(number, length + count)[length:]]
    chip.free("alone")
    return found


@cache
def single_of(precision: Precision, board: str, submit: Submit, rows: int) -> Session:
    return session(lowered(precision, 128, 48, board, submit=submit, rows=rows))


def single(low: LoweredModel) -> Session:
    """A session of `low` for one sequence at a time."""
    setup = low.setup
    return single_of(setup.precision, setup.board.name, setup.submit, setup.rows)


def vendor_digest(low: LoweredModel, device: Device) -> str:
    """SHA-256 of the logits of as many sequences as `low` has rows: behind their prompts, and of 16 steps together."""
    chip, count, digest = Session(low, twin(low.setup.precision), device), low.setup.rows, hashlib.sha256()
    lengths = LENGTHS[-count:]
    for number, length in enumerate(lengths):
        digest.update(chip.admit(number, text(number, length), BUDGETS[number]).tobytes())
    for step in range(16):
        rows = chip.step({number: text(number, length + step + 1)[-1] for number, length in enumerate(lengths)})
        for logits in rows.values():
            digest.update(logits.tobytes())
    return digest.hexdigest()


VENDOR_CASES: dict[str, tuple[Precision, str, int]] = {
    "8 rows int8 duo256m": ("int8", "duo256m", 8),
    "4 rows bf16 duo": ("bf16", "duo", 4),
}


@pytest.mark.parametrize("name", VENDOR_CASES)
def test_16_steps_of_4_and_8_rows_give_the_logits_that_the_vendors_model_gave(name: str) -> None:
    low = vendor_case(name)
    assert vendor_digest(low, SimulatedDevice(low.setup.board.chip)) == json.loads(RECORD.read_text())[name]


def vendor_case(name: str) -> LoweredModel:
    precision, board, rows = VENDOR_CASES[name]
    return lowered(precision, 128, 48, board, submit=Submit.TOKEN, rows=rows)


def equal(found: list[FloatArray], wanted: list[FloatArray]) -> None:
    np.testing.assert_array_equal(bits(np.stack(found)), bits(np.stack(wanted)))


@pytest.mark.parametrize(("precision", "board", "submit", "rows"), CASES)
def test_rows_of_a_batch_equal_the_same_sequences_alone(
    precision: Precision, board: str, submit: Submit, rows: int
) -> None:
    low = lowered(precision, 128, 48, board, submit=submit, rows=rows)
    chip = session(low)
    found = [[chip.admit(number, text(number, LENGTHS[number]), BUDGETS[number])] for number in range(rows)]
    for names in TOGETHER[rows]:
        next_tokens = {n: text(n, LENGTHS[n] + len(found[n]))[-1] for n in names}
        for number, logits in chip.step(next_tokens).items():
            found[number].append(logits)
    for number, logits in enumerate(found):
        equal(logits, alone(low, number, len(logits) - 1))


@pytest.fixture(params=[Submit.LAYER, Submit.TOKEN], ids=["a submit a layer", "a submit a token"])
def chip(request: pytest.FixtureRequest) -> Iterator[Session]:
    yield session(lowered("bf16", 128, 48, submit=request.param, rows=4))


def test_a_fork_goes_on_as_its_parent_and_neither_changes_the_other(chip: Session) -> None:
    tokens, other = text(0, 64), text(9, 64)
    chip.admit("parent", tokens[:54])
    chip.step({"parent": tokens[54]})
    chip.fork("parent", "child")
    chip.step({"parent": tokens[55], "child": other[0]})
    rows = chip.step({"parent": tokens[56], "child": other[1]})
    for name, path in (("parent", tokens[54:57]), ("child", [tokens[54], *other[:2]])):
        other_chip = single(chip.lowered)
        other_chip.admit("s", tokens[:54])
        wanted = [other_chip.step({"s": token})["s"] for token in path]
        other_chip.free("s")
        equal([rows[name]], wanted[-1:])


def test_a_preempted_sequence_goes_on_with_the_same_bits_on_other_pages(chip: Session) -> None:
    found = [chip.admit(4, text(4, LENGTHS[4]), BUDGETS[4]), chip.step({4: text(4, 71)[-1]})[4]]
    before = chip.sequence(4).table.pages
    chip.preempt(4)
    chip.admit("other", text(7, 100))
    chip.resume(4)
    assert chip.sequence(4).table.pages != before
    found += [chip.step({4: text(4, count)[-1], "other": 7})[4] for count in (72, 73)]
    equal(found, alone(chip.lowered, 4, 3))


def test_a_prefix_that_the_cache_holds_is_not_computed_again(chip: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    chip.admit(7, text(7, LENGTHS[7]), BUDGETS[7])
    chip.free(7)
    chunks: list[int] = []
    prefill = chip.driver.prefill
    monkeypatch.setattr(
        chip.driver, "prefill", lambda s, program, tokens: (chunks.append(len(tokens)), prefill(s, program, tokens))
    )
    found = [chip.admit(7, text(7, LENGTHS[7]), BUDGETS[7])]
    assert chunks == [9]  # 89 tokens go through prefill, 80 of them lie in whole pages
    found += [chip.step({7: text(7, count)[-1]})[7] for count in (91, 92)]
    equal(found, alone(chip.lowered, 7, 2))


def test_what_a_session_cannot_do_is_refused_and_changes_nothing() -> None:
    setup = Setup(board_named("duo256m"), "bf16", 128, 48, rows=2, pool=64)
    chip = session(lower(twin("bf16").config, setup))
    chip.admit("a", text(0, 32))
    with pytest.raises(KVError, match="'b' of 33 tokens does not fit, 2 pages are free"):
        chip.admit("b", text(1, 33))
    chip.admit("b", text(1, 32))
    pages = {name: list(s.table.pages) for name, s in chip.sequences.items()}
    with pytest.raises(KVError, match="free or preempt a sequence"):
        chip.step({"a": 1, "b": 2})
    assert {name: list(s.table.pages) for name, s in chip.sequences.items()} == pages
    for call, message in (
        (lambda: chip.admit("c", [1]), "2 sequences are in the cache"),
        (lambda: chip.fork("z", "c"), "'z' is not in the cache: admit or fork it first"),
        (lambda: chip.resume("a"), "'a' was not preempted"),
        (lambda: chip.step({}), "a step of 0 sequences: the programs decode 1 to 2"),
    ):
        with pytest.raises((KVError, UsageError), match=message):
            call()
    chip.preempt("a")
    chip.step({"b": 2})
    with pytest.raises(KVError, match="resume it first"):
        chip.step({"a": 1})
    with pytest.raises(UsageError, match="whole pages of 16, 3 at most"):
        chip.admit("c", text(2, 5), budget=64)
