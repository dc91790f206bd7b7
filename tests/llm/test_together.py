"""Several prompts continued together: each text is the one that its prompt gives alone."""

from __future__ import annotations

import json

import pytest

import reference_model
from npusim.board import board_named
from npusim.cli.main import main
from npusim.llm.generation import Generation
from npusim.llm.lowering import lower
from npusim.llm.setup import Setup, Submit
from npusim.llm.together import Together
from tests.llm.lowering import held_out, lowered, twin


@pytest.mark.slow
def test_texts_are_those_of_each_prompt_alone_even_where_pages_are_short() -> None:
    prompts = [held_out(60)[start : start + length] for start, length in ((0, 20), (7, 30), (30, 5))]
    setup = Setup(board_named("duo256m"), "bf16", 64, 32, submit=Submit.TOKEN, rows=2, pool=64)
    run = Together(lower(twin("bf16").config, setup), twin("bf16"), prompts)
    run.generate(20)
    low = lowered("bf16", 64, 32, submit=Submit.TOKEN)
    for prompt, text in zip(prompts, run.texts, strict=True):
        assert text.tokens == list(Generation(low, twin("bf16"), prompt).generate(20))
    assert run.num_preempted > 0


@pytest.mark.slow
def test_the_command_prints_every_text_and_a_line_for_each_number_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--board", "duo256m", "--max-tokens", "3", "--temperature", "0", "--json"]
    assert main(["generate", "In the beginning", "--also", "And it came", *options]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [len(tokens) for tokens in said["tokens"]] == [3, 3]
    assert [step["rows"] for step in said["steps"]] == [1, 2]
    decode = reference_model.load("builtin").tokenizer.decode
    assert said["texts"] == [decode(tokens) for tokens in said["tokens"]]


def test_several_prompts_need_a_board_and_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "In", "--also", "And"]) == 2
    assert "--also does nothing without --board" in capsys.readouterr().err
    assert main(["generate", "In", "--also", "And", "--board", "duo256m", "--compare"]) == 2
    assert "--compare does nothing with several prompts" in capsys.readouterr().err
