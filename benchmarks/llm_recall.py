"""Whether a model with a pruned cache gives the same answers on the chip as on the host.

Key-value questions to the bundled model (reference_model.train.recall): the prompt's whole pages are prefilled densely,
the rest and the answer go token by token under Quest. On the simulated chip in bf16 and int8, and in the float model
over kv's own cache and Quest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

import reference_model
from benchmarks.claim import Say
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16
from kv.policies import policy_named
from kv.sequence.paged_kv import PagedKV
from npusim.board import board_named
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.generation import Generation
from npusim.llm.lowering import lower
from npusim.llm.setup import Precision, Setup
from reference_model.quant.quantise import quantise
from reference_model.train.recall import Recall

LENGTH, CONTEXT, BUDGETS = 200, 208, (32, 64)
DISTANCES, QUESTIONS = (64, 128, 160), 5
TEXT = Path(__file__).parents[1] / "tests" / "reference_model" / "data" / "held_out.txt"

Answer = Callable[[list[int]], int]


def on_chip(model: reference_model.Model, precision: Precision, budget: int) -> tuple[Answer, int]:
    setup = Setup(board_named("duo256m"), precision, CONTEXT, budget)
    run = Generation(lower(model.config, setup), quantise(model, precision), [])
    return lambda tokens: int(run.session().prefill(tokens).argmax()), run.lowered.setup.chunk


def on_host(model: reference_model.Model, budget: int, chunk: int) -> Answer:
    c = model.config
    geometry = Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim, PAGE_SIZE)

    def answer(tokens: list[int]) -> int:
        cache = PagedCache(geometry, CONTEXT // PAGE_SIZE, BF16)
        kv = PagedKV(cache, "s", policy_named("quest"), budget)
        dense = (len(tokens) - 1) // chunk * chunk
        model.forward(tokens[:dense], kv)
        for token in tokens[dense:]:
            logits = model.forward([token], kv)[0]
        return int(logits.argmax())

    return answer


def same_answers(say: Say) -> float:
    """Percent of the questions to which the chip in bf16 and the host give the same answer."""
    model = reference_model.load("builtin")
    recall = Recall.of(model.tokenizer.backend)
    text = np.array(model.tokenizer.encode(TEXT.read_text(encoding="utf-8")))
    say(f"recalled of {QUESTIONS} at each distance of {DISTANCES} tokens, prompts of {LENGTH}")
    say("budget  chip bf16  chip int8  host float  same answers, bf16 and host")
    all_same: list[bool] = []
    for budget in BUDGETS:
        (bf16, chunk), (int8, _) = on_chip(model, "bf16", budget), on_chip(model, "int8", budget)
        host = on_host(model, budget, chunk)
        right, same = np.zeros(3, int), []
        for distance in DISTANCES:
            for seed in range(QUESTIONS):
                tokens, value = recall.question(np.random.default_rng(seed), text, LENGTH, distance)
                answers = [answer(tokens.tolist()) for answer in (bf16, int8, host)]
                right += [answer == value for answer in answers]
                same.append(answers[0] == answers[2])
        shares = right / len(same)
        say(f"{budget:6}  {shares[0]:9.1%}  {shares[1]:9.1%}  {shares[2]:10.1%}  {sum(same)} of {len(same)}")
        all_same += same
    return 100 * float(np.mean(all_same))
