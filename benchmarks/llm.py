"""A transformer on the chip in figures: python -m benchmarks.llm

Predicted time of a decode step of SmolLM2-135M against the physical bound and against a published run, the variants of
gathering and submitting, and how long simulating a step of the bundled model takes. No model is downloaded: sizes
decide programs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

import reference_model
from npusim.board import board_named
from npusim.llm.generation import prepare
from npusim.llm.lower import lower
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.predict import Predictor, StepTime, streamed
from npusim.llm.setup import Gather, Setup, Submit
from npusim.timing import Costs
from reference_model.config import ModelConfig

SMOLLM2 = ModelConfig(49152, 576, 1536, 30, 9, 3, 64, 8192, rope_interleaved=True)
ENOUGH = 1 << 30
"""ION bytes: SmolLM2's weights exceed what the boards' images reserve."""
PUBLISHED_MS, PUBLISHED_LOAD_MS = 4900.0, 3700.0
"""A token of SmolLM2-135M in int8 on a CV1800B board, and of it the reading of weights from SD: YorHamodelnumbernine
...-LLM-deploy."""


def lowered(board: str, precision: str, budget: int | None, context: int = 512, **more: object) -> LoweredModel:
    return lower(
        SMOLLM2, Setup(board_named(board), precision, context, budget, ion_bytes=ENOUGH, **more), prefill=False
    )  # type: ignore[arg-type]


def bound() -> None:
    print("SmolLM2-135M, one decode step on duo256m against reading its weights once from DRAM")
    print(
        "  precision  budget  submit   chip ms  all ms  tokens/s  weights MB  DRAM MB   of peak bandwidth     "
        " of what large blocks reach"
    )
    for precision, budget, submit in (
        ("int8", None, Submit.TOKEN),
        ("int8", 256, Submit.TOKEN),
        ("int8", 256, Submit.LAYER),
        ("bf16", 256, Submit.LAYER),
    ):
        low = lowered("duo256m", precision, budget, submit=submit)
        step, weights = Predictor(low).decode(low.setup.context), low.layout.weights.matrix_bytes
        nominal = weights / low.setup.board.peak_gbps / 1e6
        print(
            f"  {precision:9}  {budget or 'all':>6}  {submit.value:6}  {step.chip_ms:8.2f}  {step.ms:6.2f}  "
            f"{step.tokens_per_second:8.1f}  "
            f"{weights / 1e6:10.1f}  {step.dram_bytes / 1e6:7.1f}   {nominal:6.2f} ms = {nominal / step.chip_ms:5.1%}"
            f"       {nominal / Costs().dram_efficiency:6.2f} ms = "
            f"{nominal / Costs().dram_efficiency / step.chip_ms:5.1%}"
        )


def variants() -> None:
    print("variants of a step, SmolLM2-135M int8 on duo256m, context 2048, budget 256: ms")
    print("  gather  submit    chip    CPU  submit     all  descriptors patched")
    choices: Sequence[tuple[Gather, Submit]] = (
        (Gather.PATCH, Submit.LAYER),
        (Gather.COPY, Submit.LAYER),
        (Gather.PATCH, Submit.TOKEN),
    )
    for gather, submit in choices:
        step = Predictor(lowered("duo256m", "int8", 256, 2048, gather=gather, submit=submit)).decode(2048)
        print(
            f"  {gather.value:6}  {submit.value:6}  {step.chip_ms:6.2f} {step.cpu_ms:6.2f}  {step.submit_ms:6.2f}  "
            f"{step.ms:6.2f}  "
            f"{step.num_patched}"
        )


def published() -> None:
    low = lowered("duo", "int8", 256)
    weights, head = (
        low.layout.weights.matrix_bytes,
        sum(strip.plan.num_bytes for strip in low.layout.weights.head),
    )
    step = Predictor(low).decode(256)
    print("SmolLM2-135M int8 on duo (CV1800B), weights read from microSD for every token: s")
    rest = PUBLISHED_MS - PUBLISHED_LOAD_MS
    print(
        f"  published: {PUBLISHED_MS / 1000:.2f}, of it {PUBLISHED_LOAD_MS / 1000:.2f} reading and {rest / 1000:.2f} "
        "the rest"
    )
    for what, num_bytes in (("all weights", weights), ("all but the head, which stays in memory", weights - head)):
        total = streamed(step, num_bytes, low.setup.board.host)
        ratio = total.ms / PUBLISHED_MS - 1
        print(
            f"  predicted: {_seconds(total)} for {what} ({num_bytes / 1e6:.1f} MB), {ratio:+.0%} against the published"
        )


def _seconds(step: StepTime) -> str:
    rest = step.ms - step.storage_ms
    return f"{step.ms / 1000:.2f}, of it {step.storage_ms / 1000:.2f} reading and {rest / 1000:.3f} the rest"


def simulation() -> None:
    model = reference_model.load("builtin")
    run = prepare(model, Setup(board_named("duo256m"), "bf16", 256, 64), [])
    session, times, reference = run.session(), [], []
    kv = run.twin.new_kv()
    for token in range(40, 100):
        started = time.process_time()
        session.decode(token)
        times.append(time.process_time() - started)
        started = time.process_time()
        run.twin.forward([token], kv)
        reference.append(time.process_time() - started)
    chip, twin = float(np.median(times)), float(np.median(reference))
    print(
        f"one decode step of the bundled model simulated: {chip:.3f} s of CPU, {chip / twin:.1f} times the quantised "
        f"twin's {twin:.4f} s"
    )


if __name__ == "__main__":
    bound()
    variants()
    published()
    simulation()
