"""`npusim generate`: continues a prompt and prints the text as it is generated."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import reference_model
from npusim.board import Board
from npusim.cli.command import Command
from npusim.cli.generate_on import BoardRequest, TogetherRequest, run_on_board, run_together
from npusim.cli.options import kinds
from npusim.cli.options.boards import BoardOption, LoweringOption, WhatIfOption
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.models import ModelOption, max_tokens_option, seed_option
from npusim.cli.options.option import Flag, Given, OnlyWith, Value
from npusim.cli.reporters.generation import GenerationReport, TextStream, Timings, closing_line
from npusim.cli.streams import working
from npusim.errors import UsageError
from npusim.llm.setup import ROWS
from reference_model.generation import Sampling, generate, stream_text

PROMPT = Value(("prompt",), "the text to continue; - reads it from standard input", kinds.text("PROMPT"))
MODEL = ModelOption()
CHAT = Flag(("--chat",), "give the prompt as a question to a model that was tuned for conversation")
MAX_TOKENS: Value[int] = max_tokens_option(default=200)
TEMPERATURE = Value(
    ("--temperature",), "sampling temperature; 0 takes the likeliest token", kinds.real(), default=0.7, metavar="T"
)
TOP_K = Value(
    ("--top-k",), "draw from the K likeliest tokens only", kinds.whole(), default=0, metavar="K", default_words="0, all"
)
TOP_P = Value(
    ("--top-p",),
    "draw from the likeliest tokens whose probabilities add up to P",
    kinds.real(),
    default=0.95,
    metavar="P",
)
SEED: Value[int] = seed_option(note="the same seed draws the same text")
JSON = JsonOutput("text, tokens and times")
MORE = Value[tuple[str, ...]](
    ("--also",),
    "another text, decoded together with the first; may be given again",
    kinds.single(kinds.text()),
    default=(),
    repeats=True,
)
BOARD = BoardOption[Board | None](note="its chip is simulated")
COMPARE = Flag(("--compare",), "show each layer's error on the chip, both accumulated and of the layer alone")
LOWERING = LoweringOption()
WHAT_IF = WhatIfOption()


class GenerateCommand(Command):
    example = (
        'npusim generate "And it came to pass" --max-tokens 60\n'
        '  npusim generate "Why is the sky blue?" --model smollm2 --chat\n'
        '  npusim generate "And it came to pass" --board duo256m --budget 64 --max-tokens 120\n'
        '  npusim generate "In the beginning" --also "And it came to pass" --also "Blessed" --board duo256m'
    )
    options = (
        *(PROMPT, MODEL, CHAT, MAX_TOKENS, TEMPERATURE, TOP_K, TOP_P, SEED, JSON),
        OnlyWith("on a simulated board", BOARD, (MORE, COMPARE, LOWERING, WHAT_IF)),
    )

    def run(self, given: Given) -> int:
        sampling = Sampling(given[TEMPERATURE], given[TOP_K], given[TOP_P], given[SEED])
        if sampling.temperature == 0:
            given.refuse((TOP_K, TOP_P, SEED), "with --temperature 0, which always takes the likeliest token")
        text = _prompt_text(given[PROMPT])
        started = time.perf_counter()
        with working(f"loading {given[MODEL]}"):
            model = reference_model.load(given[MODEL])
        prompt = _encoded(model, text, given[CHAT])
        shown, board = "" if given[CHAT] else text, given[BOARD]
        if board is not None and (more := given[MORE]):
            given.refuse((COMPARE,), "with several prompts")
            return _run_together(given, board, model, [text, *map(_prompt_text, more)])
        if board is not None:
            needed = len(prompt) + given[MAX_TOKENS]
            setup = given[LOWERING].setup(given[WHAT_IF].of(board), needed, model.config.context_length)
            request = BoardRequest(
                prompt, given[MAX_TOKENS], sampling, compare=given[COMPARE], shown=shown, json=given[JSON]
            )
            return run_on_board(model, given[MODEL], setup, request)
        return _run_here(given, model, prompt, Timings(len(prompt), time.perf_counter() - started), shown)


COMMAND = GenerateCommand()


def _run_together(given: Given, board: Board, model: reference_model.Model, texts: list[str]) -> int:
    """Several prompts at once on a simulated board."""
    prompts = [_encoded(model, text, given[CHAT]) for text in texts]
    needed = max(map(len, prompts)) + given[MAX_TOKENS]
    setup = given[LOWERING].setup(given[WHAT_IF].of(board), needed, model.config.context_length)
    rows = next((rows for rows in ROWS if rows >= len(prompts)), ROWS[-1])
    sampling = Sampling(given[TEMPERATURE], given[TOP_K], given[TOP_P], given[SEED])
    request = TogetherRequest(prompts, given[MAX_TOKENS], sampling, shown=texts, json=given[JSON])
    return run_together(model, given[MODEL], replace(setup, rows=rows), request)


def _run_here(given: Given, model: reference_model.Model, prompt: list[int], timings: Timings, shown: str) -> int:
    """Generates in float32 on this machine."""
    sampling = Sampling(given[TEMPERATURE], given[TOP_K], given[TOP_P], given[SEED])
    tokens: list[int] = []
    with TextStream(shown, quiet=given[JSON].printed) as stream:
        produced = _timed(generate(model, prompt, given[MAX_TOKENS], sampling), timings, tokens)
        for piece in stream_text(model.tokenizer, produced):
            stream.write(piece)
    timings.stopped_by = _reason(model, timings, given[MAX_TOKENS])
    given[JSON].write(GenerationReport(given[MODEL], stream.text, tokens, timings).json())
    if not given[JSON].printed:
        print(closing_line(timings), file=sys.stderr)
    return 0


def _prompt_text(given: str) -> str:
    text = sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise UsageError("the prompt is empty: give a text for the model to continue")
    return text


def _encoded(model: reference_model.Model, text: str, chat: bool) -> list[int]:
    if not chat:
        return model.tokenizer.encode(text)
    if model.tokenizer.chat is None:
        raise UsageError(
            "this model was not tuned for conversation: leave --chat out, or use a model that was, such as smollm2"
        )
    return model.tokenizer.encode(model.tokenizer.chat.render([("user", text)]))


def _reason(model: reference_model.Model, timings: Timings, max_tokens: int) -> str:
    if timings.new_tokens == max_tokens:
        return "--max-tokens"
    full = timings.prompt_tokens + timings.new_tokens > model.config.context_length
    return f"the end of the model's context of {model.config.context_length}" if full else "the model's end of text"


def _timed(produced: Iterator[int], timings: Timings, kept: list[int]) -> Iterator[int]:
    """Yields the tokens of `produced`, adds them to `kept`, and measures their times."""
    started = time.perf_counter()
    for token in produced:
        kept.append(token)
        timings.new_tokens += 1
        if timings.new_tokens == 1:
            timings.prefill_s = time.perf_counter() - started
        yield token
    timings.decode_s = time.perf_counter() - started - timings.prefill_s
