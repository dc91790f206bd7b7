"""The bundled model lowered, and the host's own run of the same sequence: what the tests hold against each other."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

import reference_model
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.memory.pool import BF16
from kv.policies import policy_named
from kv.sequence.paged_kv import PagedKV
from npusim.board import board_named
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.device import SimulatedDevice
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.session import Session
from npusim.llm.setup import Gather, Precision, Setup, Submit
from reference_model.quant.quantise import quantise
from reference_model.quant.twin import TwinModel

HELD_OUT = Path(__file__).parents[1] / "reference_model" / "data" / "held_out.txt"


@cache
def twin(precision: Precision) -> TwinModel:
    return quantise(reference_model.load("builtin"), precision)


@cache
def lowered(
    precision: Precision,
    context: int,
    budget: int | None = None,
    board: str = "duo256m",
    gather: Gather = Gather.PATCH,
    submit: Submit = Submit.LAYER,
    rows: int = 1,
) -> LoweredModel:
    setup = Setup(board_named(board), precision, context, budget, gather=gather, submit=submit, rows=rows)
    return lower(twin(precision).config, setup)


def session(low: LoweredModel) -> Session:
    return Session(low, twin(low.setup.precision), SimulatedDevice(low.setup.board.chip))


def host_cache(low: LoweredModel) -> PagedKV:
    """kv's own cache and Quest under the same budget."""
    c = low.config
    geometry = Geometry(c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim, PAGE_SIZE)
    budget = low.setup.budget if low.setup.prunes else None
    return PagedKV(
        PagedCache(geometry, low.setup.num_pages, BF16), "s", policy_named("quest") if budget else None, budget
    )


@cache
def held_out(count: int) -> list[int]:
    return twin("bf16").tokenizer.encode(HELD_OUT.read_text(encoding="utf-8"))[:count]


def bits(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32).view(np.uint32)
