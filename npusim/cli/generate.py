"""`npusim generate`: a prompt continued, its text as it comes."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import reference_model
from npusim.cli.board_options import add_board_options, board_names
from npusim.cli.command import Command, check_writable, working, write_json
from npusim.cli.generate_on import run_on_board
from npusim.cli.reporters.generation import TextStream, Timings, closing_line
from npusim.errors import UsageError
from reference_model.generate import Sampling, generate, stream_text

MODEL_HELP = (
    "builtin, smollm2 (after `npusim model fetch smollm2`), a .gguf or .bin file, a directory with config.json "
    "(default: builtin)"
)


class GenerateCommand(Command):
    name = "generate"
    summary = (
        "Continue a prompt with a language model and print the text as it comes; tokens per second follow on "
        "standard error."
    )
    example = (
        'npusim generate "And it came to pass" --max-tokens 60\n'
        '  npusim generate "Why is the sky blue?" --model smollm2 --chat\n'
        '  npusim generate "And it came to pass" --on duo256m --policy quest --budget 256'
    )

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("prompt", metavar="PROMPT", help="the text to continue; - reads it from standard input")
        parser.add_argument("--model", default="builtin", metavar="NAME|PATH", help=MODEL_HELP)
        parser.add_argument(
            "--chat",
            action="store_true",
            help="put the prompt as a question to a model that was tuned for conversation",
        )
        parser.add_argument(
            "--max-tokens", type=int, default=200, metavar="N", help="stop after N tokens (default: 200)"
        )
        parser.add_argument(
            "--temperature", type=float, default=0.7, metavar="T", help="0 takes the likeliest token (default: 0.7)"
        )
        parser.add_argument(
            "--top-k", type=int, default=0, metavar="K", help="draw from the K likeliest tokens only (default: 0, all)"
        )
        parser.add_argument(
            "--top-p",
            type=float,
            default=0.95,
            metavar="P",
            help="draw from the likeliest tokens that reach P together (default: 0.95)",
        )
        parser.add_argument(
            "--seed", type=int, default=0, help="another seed draws another text; the same seed the same (default: 0)"
        )
        parser.add_argument(
            "--json",
            nargs="?",
            const="-",
            metavar="FILE",
            help="text, tokens and times as JSON: into FILE, or printed",
        )
        on = parser.add_argument_group("on a simulated board")
        on.add_argument(
            "--on", choices=board_names(), metavar="BOARD", help=f"run on this board's chip: {', '.join(board_names())}"
        )
        on.add_argument(
            "--compare", action="store_true", help="each layer's error on the chip, accumulated and its own"
        )
        add_board_options(on)

    def run(self, options: argparse.Namespace) -> int:
        sampling = Sampling(options.temperature, options.top_k, options.top_p, options.seed)
        if options.max_tokens < 1:
            raise UsageError(f"--max-tokens is {options.max_tokens}: use at least 1")
        if options.json and options.json != "-":
            check_writable(Path(options.json))
        text = _prompt_text(options.prompt)
        started = time.perf_counter()
        with working(f"loading {options.model}"):
            model = reference_model.load(options.model)
        prompt = _encoded(model, text, options.chat)
        if options.on:
            return run_on_board(options, model, prompt, text, sampling)
        timings = Timings(len(prompt), time.perf_counter() - started)
        tokens: list[int] = []
        with TextStream("" if options.chat else text, quiet=options.json == "-") as stream:
            produced = _timed(generate(model, prompt, options.max_tokens, sampling), timings, tokens)
            for piece in stream_text(model.tokenizer, produced):
                stream.write(piece)
        timings.stopped_by = _reason(model, timings, options.max_tokens)
        if options.json:
            rates = {
                "prefill_tokens_per_s": timings.prefill_tokens_per_s,
                "decode_tokens_per_s": timings.decode_tokens_per_s,
            }
            write_json(
                options.json,
                {"model": options.model, "text": stream.text, "tokens": tokens, **asdict(timings), **rates},
            )
        if options.json != "-":
            print(closing_line(timings), file=sys.stderr)
        return 0


def _prompt_text(given: str) -> str:
    text = sys.stdin.read() if given == "-" else given
    if not text.strip():
        raise UsageError("the prompt is empty: give the text that the model shall continue")
    return text


def _encoded(model: reference_model.Model, text: str, chat: bool) -> list[int]:
    if not chat:
        return model.tokenizer.encode(text)
    if model.tokenizer.chat is None:
        raise UsageError(
            "this model was not tuned for conversation: leave --chat out, or use one that was, such as smollm2"
        )
    return model.tokenizer.encode(model.tokenizer.chat.render([("user", text)]))


def _reason(model: reference_model.Model, timings: Timings, max_tokens: int) -> str:
    if timings.new_tokens == max_tokens:
        return "--max-tokens"
    full = timings.prompt_tokens + timings.new_tokens > model.config.context_length
    return f"the end of the model's context of {model.config.context_length}" if full else "the model's end of text"


def _timed(produced: Iterator[int], timings: Timings, kept: list[int]) -> Iterator[int]:
    """Passes tokens on, keeps them, and notes when they came."""
    started = time.perf_counter()
    for token in produced:
        kept.append(token)
        timings.new_tokens += 1
        if timings.new_tokens == 1:
            timings.prefill_s = time.perf_counter() - started
        yield token
    timings.decode_s = time.perf_counter() - started - timings.prefill_s
