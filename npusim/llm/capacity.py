"""Which boards a model fits, how fast it is there, and what limits the speed, for every precision, context length and
page budget.

The programs of two layers differ only in addresses. So models of two and of three layers are lowered and timed, and the
figures of a model with more layers follow from the difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

from npusim.board import MIB, Board
from npusim.errors import NpusimError
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.layout import lay_out_model
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.lowering import lower
from npusim.llm.predict import Predictor, StepTime, streamed
from npusim.llm.setup import PRECISIONS, Gather, Precision, Setup, Submit
from npusim.mem.lmem import align_up
from reference_model.config import ModelConfig

CONTEXTS = (256, 1024, 4080)
BUDGETS: tuple[int | None, ...] = (128, 256, 512, None)
_TILE_BYTES = 8192
_ENOUGH = 1 << 32


@dataclass(frozen=True)
class Capacity:
    """Whether a model fits a board with one setup, and how fast it is.

    needed_bytes    ION memory that is needed; without that of the programs if these do not fit LMEM
    step            time of a decode step at a full context; None if the programs do not fit LMEM
    reason          why the model does not fit; "" if it does
    """

    setup: Setup
    needed_bytes: int
    step: StepTime | None
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether the programs fit LMEM and everything fits the board's ION memory."""
        return not self.reason

    def json(self) -> dict[str, Any]:
        """JSON-ready data. If the model does not fit the memory, the speed is what it would be with enough of it."""
        setup, step = self.setup, self.step
        return {
            "board": setup.board.name,
            "precision": setup.precision,
            "context": setup.context,
            "budget": setup.budget,
            "fits": self.fits,
            "reason": self.reason,
            "needed_bytes": self.needed_bytes,
            "ion_bytes": setup.memory_bytes,
            "tokens_per_second": step and step.tokens_per_second,
            "ms_per_token": step
            and {"chip": step.chip_ms, "cpu": step.cpu_ms, "submit": step.submit_ms, "total": step.ms},
            "dram_bytes_per_token": step and step.dram_bytes,
            "binds": step and step.binds,
        }


@dataclass(frozen=True)
class _Timed:
    """Times and sizes of a model of two layers and of one of three, on a board."""

    steps: tuple[StepTime, StepTime]
    command_bytes: tuple[int, int]

    @classmethod
    def on(cls, board: Board, lowered: tuple[LoweredModel, LoweredModel], context: int) -> _Timed:
        two, three = lowered
        return cls(
            (Predictor(two, board).decode(context), Predictor(three, board).decode(context)),
            (two.command_bytes, three.command_bytes),
        )

    def step(self, num_layers: int) -> StepTime:
        """The time of a decode step of a model of `num_layers` layers."""
        two, three = self.steps
        values = {
            f.name: getattr(two, f.name) + (num_layers - 2) * (getattr(three, f.name) - getattr(two, f.name))
            for f in fields(two)
        }
        return StepTime(**values)

    def commands(self, num_layers: int) -> int:
        """Bytes of all command buffers of a model of `num_layers` layers."""
        two, three = self.command_bytes
        return two + (num_layers - 2) * (three - two)


def contexts_of(config: ModelConfig) -> list[int]:
    """The default context lengths: CONTEXTS, none longer than the model's own context."""
    longest = min(align_up(config.context_length, PAGE_SIZE), CONTEXTS[-1])
    return sorted({min(context, longest) for context in CONTEXTS})


def capacities(
    config: ModelConfig,
    boards: Sequence[Board],
    *,
    precisions: Sequence[Precision] = PRECISIONS,
    contexts: Sequence[int] = CONTEXTS,
    gather: Gather = Gather.PATCH,
    submit: Submit = Submit.LAYER,
) -> Iterator[Capacity]:
    """Yields a Capacity for every combination as it is found. Boards with the same chip share lowerings."""
    for precision, context, budget in product(precisions, contexts, BUDGETS):
        if budget is None or budget < context:
            setups = [Setup(board, precision, context, budget, gather=gather, submit=submit) for board in boards]
            yield from _answers(config, setups)


def _answers(config: ModelConfig, setups: Sequence[Setup]) -> Iterator[Capacity]:
    """The capacities of `setups`, which differ only in the board."""
    small: dict[str, tuple[LoweredModel, LoweredModel] | NpusimError] = {}
    for setup in setups:
        chip = setup.board.chip.name
        if chip not in small:
            small[chip] = _lowerings(config, setup)
        layout, few = lay_out_model(setup, config, _TILE_BYTES), small[chip]
        needed = layout.memory.num_bytes
        if isinstance(few, NpusimError):
            yield Capacity(setup, needed, None, str(few))
            continue
        timed = _Timed.on(setup.board, few, setup.context)
        step, needed = timed.step(config.num_layers), needed + timed.commands(config.num_layers)
        reason = ""
        if needed > setup.memory_bytes:
            streaming = _from_storage(step, layout.weights.matrix_bytes, setup.board)
            reason = f"needs {needed / MIB:.0f} MiB of ION memory{streaming}"
        yield Capacity(setup, needed, step, reason)


def _from_storage(step: StepTime, weight_bytes: int, board: Board) -> str:
    """In words, the speed if the weights are read from storage for every token; "" if the storage's speed is not
    known."""
    if not board.host.storage_bytes_per_s:
        return ""
    return (
        f"; {streamed(step, weight_bytes, board.host).tokens_per_second:.2f} tokens/s with weights from "
        f"{board.host.storage}"
    )


def _lowerings(config: ModelConfig, setup: Setup) -> tuple[LoweredModel, LoweredModel] | NpusimError:
    setup = replace(setup, ion_bytes=_ENOUGH)
    try:
        two, three = (
            lower(replace(config, num_layers=n, sliding_layers=(False,) * n), setup, prefill=False) for n in (2, 3)
        )
    except NpusimError as error:
        return error
    return two, three
