"""Which boards can hold a model, at what speed, and what binds, for every precision, context length and page budget.

A layer's programs differ from another layer's in addresses alone, so two and three layers are lowered and timed, and
the others follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from npusim.board import Board
from npusim.errors import NpusimError
from npusim.llm.layout import lay_out_model
from npusim.llm.lower import lower
from npusim.llm.predict import Predictor, StepTime, streamed
from npusim.llm.setup import PAGE_SIZE, Gather, Setup, Submit
from npusim.mem.lmem import align_up
from reference_model.config import ModelConfig

PRECISIONS = ("int8", "bf16")
CONTEXTS = (256, 1024, 4080)
BUDGETS: tuple[int | None, ...] = (128, 256, 512, None)
_TILE_BYTES = 8192
_ENOUGH = 1 << 32


@dataclass(frozen=True)
class Capacity:
    """One question's answer. `step` is None where the programs do not fit LMEM; `reason` says why something does not
    fit."""

    board: str
    precision: str
    context: int
    budget: int | None
    needed_bytes: int
    ion_bytes: int
    fits: bool
    step: StepTime | None
    reason: str = ""


@dataclass(frozen=True)
class _Timed:
    """Two lowerings of a few layers, on a board."""

    steps: tuple[StepTime, StepTime]
    command_bytes: tuple[int, int]

    def step(self, num_layers: int) -> StepTime:
        two, three = self.steps
        values = {
            f.name: getattr(two, f.name) + (num_layers - 2) * (getattr(three, f.name) - getattr(two, f.name))
            for f in fields(two)
        }
        return StepTime(**values)

    def commands(self, num_layers: int) -> int:
        two, three = self.command_bytes
        return two + (num_layers - 2) * (three - two)


def contexts_of(config: ModelConfig) -> list[int]:
    """The lengths asked by default: CONTEXTS as far as the model goes, and its own where that is shorter."""
    longest = min(align_up(config.context_length, PAGE_SIZE), CONTEXTS[-1])
    return sorted({min(context, longest) for context in CONTEXTS})


def capacity(
    config: ModelConfig,
    boards: Sequence[Board],
    precisions: Sequence[str] = PRECISIONS,
    contexts: Sequence[int] = CONTEXTS,
    gather: Gather = Gather.PATCH,
    submit: Submit = Submit.LAYER,
) -> Iterator[Capacity]:
    """Every answer, as it is found; boards with the same chip share lowerings."""
    for precision in precisions:
        for context in contexts:
            for budget in BUDGETS:
                if budget is not None and budget >= context:
                    continue
                yield from _answers(
                    config, [Setup(board, precision, context, budget, gather, submit) for board in boards]
                )


def _answers(config: ModelConfig, setups: Sequence[Setup]) -> Iterator[Capacity]:
    """For setups that differ in the board alone."""
    small: dict[str, tuple[Predictor, Predictor] | NpusimError] = {}
    for setup in setups:
        board, context = setup.board, setup.context
        if board.chip.name not in small:
            small[board.chip.name] = _lowerings(config, setup)
        placed = lay_out_model(setup, config, _TILE_BYTES)
        found, step, reason = small[board.chip.name], None, ""
        needed = placed.memory.num_bytes
        if isinstance(found, NpusimError):
            reason = str(found)
        else:
            on_board = [Predictor(p.lowered, board) for p in found]
            timed = _Timed(
                (on_board[0].decode(context), on_board[1].decode(context)),
                (found[0].lowered.command_bytes, found[1].lowered.command_bytes),
            )
            step, needed = timed.step(config.num_layers), needed + timed.commands(config.num_layers)
            if needed > board.ion_bytes:
                reason = (
                    f"needs {needed / 2**20:.0f} MiB of ION "
                    f"memory{_from_storage(step, placed.weights.matrix_bytes, board)}"
                )
        yield Capacity(
            board.name, setup.precision, context, setup.budget, needed, board.ion_bytes, not reason, step, reason
        )


def _from_storage(step: StepTime, weight_bytes: int, board: Board) -> str:
    """What reading the weights for every token would come to, where anybody has published how fast that is."""
    if not board.host.storage_bytes_per_s:
        return ""
    return (
        f"; {streamed(step, weight_bytes, board.host).tokens_per_second:.2f} tokens/s with weights from "
        f"{board.host.storage}"
    )


def _lowerings(config: ModelConfig, setup: Setup) -> tuple[Predictor, Predictor] | NpusimError:
    try:
        two, three = (
            lower(
                replace(config, num_layers=n, sliding_layers=(False,) * n),
                replace(setup, ion_bytes=_ENOUGH),
                prefill=False,
            )
            for n in (2, 3)
        )
    except NpusimError as error:
        return error
    return Predictor(two), Predictor(three)
