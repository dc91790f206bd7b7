"""A setup that cannot work is refused in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npusim.board import board_named
from npusim.cli.main import main
from npusim.errors import UsageError
from npusim.llm.lowering import lower
from npusim.llm.setup import Gather, Setup, Submit
from tests.llm.lowering import bits, held_out, host_cache, lowered, session, twin

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a context of part of a page": ({"context": 100}, "context is 100: it must be a multiple"),
    "no budget at all": ({"budget": 0}, "budget is 0"),
    "int8 activations": ({"precision": "w8a8"}, "use bf16 or int8"),
    "copies before the step's own key is there": ({"gather": Gather.COPY, "submit": Submit.TOKEN}, "gather by patch"),
    "a chunk of three": ({"chunk": 3}, "8 or 16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    options, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        Setup(board_named("duo256m"), **options)


def test_a_budget_above_the_context_prunes_nothing_and_is_one_program() -> None:
    setup = Setup(board_named("duo256m"), "bf16", 64, 128)
    assert lower(twin("bf16").config, setup, prefill=False).decode == ("decode1",)


@pytest.mark.slow
def test_copied_pages_hold_the_new_key_even_where_nothing_is_pruned() -> None:
    low = lowered("bf16", 32, gather=Gather.COPY)
    chip, kv = session(low), host_cache(low)
    for token in held_out(18):
        np.testing.assert_array_equal(bits(chip.decode(token)), bits(twin("bf16").forward([token], kv)[0]))


@pytest.mark.parametrize("model", ["tests/reference_model/data/tiny_gemma3"])
def test_a_model_without_programs_is_refused_by_the_command(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "hello", "--model", model, "--on", "duo256m"]) == 2
    assert "use a model of the Llama family" in capsys.readouterr().err
