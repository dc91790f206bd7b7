"""A transformer on the chip in figures: predicted times of a decode step of SmolLM2-135M, and how long simulating a
step of the bundled model takes. No model is downloaded: sizes decide programs."""

from __future__ import annotations

import reference_model
from benchmarks.claim import Say
from benchmarks.cpu import Timer, take_turns, timed
from npusim.board import board_named
from npusim.llm.generation import prepare
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.predict import Predictor, StepTime, streamed
from npusim.llm.setup import Gather, Setup, Submit
from npusim.numerics.backend import use_backend
from npusim.timing import Costs
from reference_model.config import ModelConfig

SMOLLM2 = ModelConfig(49152, 576, 1536, 30, 9, 3, 64, 8192, rope_interleaved=True)
ENOUGH = 1 << 30
"""ION bytes: SmolLM2's weights exceed what the boards' images reserve."""
PUBLISHED_MS, PUBLISHED_LOAD_MS = 4900.0, 3700.0
"""A token of SmolLM2-135M in int8 on a CV1800B board, and of it the reading of weights from SD: YorHamodelnumbernine
...-LLM-deploy."""


def lowered(board: str, precision: str, budget: int | None, context: int = 512, **more: object) -> LoweredModel:
    """SmolLM2's programs for a decode step."""
    setup = Setup(board_named(board), precision, context, budget, ion_bytes=ENOUGH, **more)  # type: ignore[arg-type]
    return lower(SMOLLM2, setup, prefill=False)


def bandwidth(say: Say) -> float:
    """Percent of a step's time on the chip that reading its weights once at the nominal bandwidth takes; of int8, 256
    tokens, a submit a token on duo256m."""
    say("SmolLM2-135M, one decode step on duo256m against reading its weights once from DRAM")
    say("precision  budget  submit   chip ms  all ms  weights MB  DRAM MB  of peak  of what large blocks reach")
    shares = {}
    for precision, budget, submit in (
        ("int8", None, Submit.TOKEN),
        ("int8", 256, Submit.TOKEN),
        ("int8", 256, Submit.LAYER),
        ("bf16", 256, Submit.LAYER),
    ):
        low = lowered("duo256m", precision, budget, submit=submit)
        step, weights = Predictor(low).decode(low.setup.context), low.layout.weights.matrix_bytes
        share = weights / low.setup.board.peak_gbps / 1e6 / step.chip_ms
        shares[precision, budget, submit] = share
        say(
            f"{precision:9}  {budget or 'all':>6}  {submit.value:6}  {step.chip_ms:8.2f}  {step.ms:6.2f}  "
            f"{weights / 1e6:10.1f}  {step.dram_bytes / 1e6:7.1f}  {share:7.1%}  {share / Costs().dram_efficiency:7.1%}"
        )
    return 100 * shares["int8", 256, Submit.TOKEN]


def variants(say: Say) -> dict[tuple[Gather, Submit], StepTime]:
    """The ways to gather pages and to submit, of int8 on duo256m at a context of 2048 and a budget of 256."""
    say("variants of a step, SmolLM2-135M int8 on duo256m, context 2048, budget 256: ms")
    say("gather  submit    chip    CPU  submit     all  descriptors patched")
    found = {}
    for gather, submit in ((Gather.PATCH, Submit.LAYER), (Gather.COPY, Submit.LAYER), (Gather.PATCH, Submit.TOKEN)):
        step = Predictor(lowered("duo256m", "int8", 256, 2048, gather=gather, submit=submit)).decode(2048)
        found[gather, submit] = step
        parts = f"{step.chip_ms:6.2f} {step.cpu_ms:6.2f}  {step.submit_ms:6.2f}  {step.ms:6.2f}  {step.num_patched}"
        say(f"{gather.value:6}  {submit.value:6}  {parts}")
    return found


def patching(say: Say) -> float:
    """How many times as much CPU time copying pages takes as patching their addresses."""
    steps = variants(say)
    return steps[Gather.COPY, Submit.LAYER].cpu_ms / steps[Gather.PATCH, Submit.LAYER].cpu_ms


def published(say: Say) -> float:
    """Percent by which the predicted time of a token is off the published one, where the head stays in memory."""
    low = lowered("duo", "int8", 256)
    weights = low.layout.weights
    head = sum(strip.plan.num_bytes for strip in weights.head)
    step = Predictor(low).decode(256)
    say("SmolLM2-135M int8 on duo (CV1800B), weights read from microSD for every token: s")
    say(f"published: {_seconds(PUBLISHED_MS, PUBLISHED_LOAD_MS)}")
    for what, num_bytes in (
        ("all weights", weights.matrix_bytes),
        ("all but the head, which stays in memory", weights.matrix_bytes - head),
    ):
        total = streamed(step, num_bytes, low.setup.board.host)
        off = total.ms / PUBLISHED_MS - 1
        say(f"predicted: {_seconds(total.ms, total.storage_ms)}, {off:+.0%}, for {what} ({num_bytes / 1e6:.1f} MB)")
    return 100 * abs(off)


def _seconds(ms: float, storage_ms: float) -> str:
    return f"{ms / 1000:.2f}, of it {storage_ms / 1000:.2f} reading and {(ms - storage_ms) / 1000:.3f} the rest"


def compiled_step(say: Say) -> float:
    """CPU time of a decode step of the bundled model with compiled kernels, in times of that in NumPy."""
    model = reference_model.load("builtin")
    run = prepare(model, Setup(board_named("duo256m"), "bf16", 256, 64), [])
    session, tokens = run.session(), iter(range(40, 240))

    def step(backend: str) -> Timer:
        decode = timed(lambda: session.decode(next(tokens)))

        def timer() -> float:
            use_backend(backend)
            return decode()

        return timer

    turns = take_turns({name: step(name) for name in ("numpy", "numba")}, 60, warm=3)
    use_backend("numpy")
    say(f"one decode step of the bundled model: {turns.median('numba'):.4f} s, in NumPy {turns.median('numpy'):.4f} s")
    return turns.ratio("numba", "numpy")


def simulated_step(say: Say) -> float:
    """CPU seconds that simulating a decode step of the bundled model takes."""
    model = reference_model.load("builtin")
    run = prepare(model, Setup(board_named("duo256m"), "bf16", 256, 64), [])
    session, kv, tokens = run.session(), run.twin.new_kv(), iter(range(40, 240))
    turns = take_turns(
        {
            "chip": timed(lambda: session.decode(next(tokens))),
            "twin": timed(lambda: run.twin.forward([next(tokens)], kv)),
        },
        60,
    )
    say(
        f"one decode step of the bundled model simulated: {turns.median('chip'):.4f} s, "
        f"{turns.ratio('chip', 'twin'):.1f} times the quantised twin's {turns.median('twin'):.4f} s"
    )
    return turns.median("chip")
