"""Options that name a board, change it, or state how a language model is lowered for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from npusim.board import BOARDS, MIB, Board, board_named
from npusim.cli.options import kinds
from npusim.cli.options.argument import Argument
from npusim.cli.options.kinds import Kind
from npusim.cli.options.models import budget_option, context_option, policy_option, precision_option
from npusim.cli.options.option import Option, Value, Words
from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.setup import Gather, Precision, Setup, Submit
from npusim.mem.lmem import align_up

T = TypeVar("T")
MODEL_BOARDS = tuple(board for board in BOARDS if board.ion_bytes)
"""Boards that a language model can be lowered for: those whose memory for the chip's buffers is known."""


def board_by_name(boards: Iterable[Board]) -> Kind[Board]:
    """One of these boards by its name."""
    names = kinds.one_of(tuple(board.name for board in boards))
    return Kind(names.metavar, lambda text: board_named(names.read(text)), names.choices)


MODEL_BOARD = board_by_name(MODEL_BOARDS)


class BoardOption(Value[T]):
    """--board. Some commands called it --on before."""

    def __init__(self, kind: Kind[Any] = MODEL_BOARD, *, default: Any = None, **more: Any) -> None:
        super().__init__(("--board",), "board to predict for", kind, default=default, aliases=("--on",), **more)


@dataclass(frozen=True)
class WhatIf:
    """Changes to a board. None: no change."""

    clock_mhz: float | None = None
    dram_gbps: float | None = None
    lanes: int | None = None
    lmem_bytes: int | None = None
    banks: int | None = None

    def of(self, board: Board) -> Board:
        """`board` with the changes. Raises UsageError for values that such a chip cannot have."""
        return board.variant(**vars(self))


_SPEED: dict[str, Value[Any]] = {
    "clock_mhz": Value(("--clock",), "what if: another TPU clock", kinds.real(), default=None, metavar="MHZ"),
    "dram_gbps": Value(
        ("--dram-gbps",), "what if: another peak DRAM bandwidth", kinds.real(), default=None, metavar="GB/S"
    ),
}
_LAYOUT: dict[str, Value[Any]] = {
    "lanes": Value(
        ("--lanes",),
        "what if: another number of lanes (for programs without tensors of more channels than lanes)",
        kinds.whole(),
        default=None,
    ),
    "lmem_bytes": Value(
        ("--lmem",), "what if: another size of each lane's LMEM", kinds.whole(), default=None, metavar="BYTES"
    ),
    "banks": Value(("--banks",), "what if: another number of LMEM banks a lane", kinds.whole(), default=None),
}


@dataclass(frozen=True)
class WhatIfOption(Option[WhatIf]):
    """--clock and --dram-gbps, which any program can run with.

    layout      whether there are --lanes, --lmem and --banks too, with which a compiled program may be refused
    """

    layout: bool = False

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(value.argument for value in self._values.values())

    def value(self, words: Words) -> WhatIf:
        return WhatIf(**{name: value.value(words) for name, value in self._values.items()})

    @property
    def _values(self) -> dict[str, Value[Any]]:
        return _SPEED | _LAYOUT if self.layout else _SPEED


GATHER = Value(
    ("--gather",),
    "how the chip reads the chosen pages: patch writes their addresses into the commands, copy lets the CPU copy them",
    kinds.member(Gather),
    default=Gather.PATCH,
)
SUBMIT = Value(
    ("--submit",),
    "how often the chip is started: once a layer, with pages chosen by this step's scores, or once a token, with pages "
    "chosen by those of the step before",
    kinds.member(Submit),
    default=Submit.LAYER,
)


@dataclass(frozen=True)
class Lowering:
    """How a language model is lowered. `context` None: as many tokens as are needed. `budget` None: all tokens.
    `ion_bytes` None: as many as the board's image reserves."""

    precision: Precision
    budget: int | None
    context: int | None
    gather: Gather
    submit: Submit
    ion_bytes: int | None

    def setup(self, board: Board, needed_tokens: int, model_context: int) -> Setup:
        """The Setup for `board` and a model whose context is `model_context` tokens. It has room for `needed_tokens`
        unless a context was given."""
        fitting = min(align_up(needed_tokens, PAGE_SIZE), align_up(model_context, PAGE_SIZE))
        return Setup(
            board,
            self.precision,
            fitting if self.context is None else self.context,
            budget=self.budget,
            gather=self.gather,
            submit=self.submit,
            ion_bytes=self.ion_bytes,
        )


@dataclass(frozen=True)
class LoweringOption(Option[Lowering]):
    """--precision, --policy, --budget, --context, --gather, --submit and --ion."""

    @property
    def arguments(self) -> tuple[Argument, ...]:
        return tuple(value.argument for value in (_PRECISION, _POLICY, _BUDGET, _CONTEXT, GATHER, SUBMIT, _ION))

    def value(self, words: Words) -> Lowering:
        prunes = _POLICY.value(words) == "quest"
        if not prunes and _BUDGET.argument.key in words:
            raise UsageError("--budget does nothing with --policy full, which attends to all tokens: leave one out")
        ion_mib = _ION.value(words)
        return Lowering(
            _PRECISION.value(words),
            _BUDGET.value(words) if prunes else None,
            context=_CONTEXT.value(words),
            gather=GATHER.value(words),
            submit=SUBMIT.value(words),
            ion_bytes=None if ion_mib is None else ion_mib * MIB,
        )


_PRECISION: Value[Precision] = precision_option(default="int8")
_POLICY: Value[str] = policy_option(kind=kinds.one_of(("full", "quest"), "POLICY"), default="quest")
_BUDGET: Value[int] = budget_option(default=256)
_CONTEXT: Value[int | None] = context_option(default_words="as many as needed")
_ION: Value[int | None] = Value(
    ("--ion",),
    "ION memory for the chip's buffers, if the board's image reserves another size",
    kinds.whole(1),
    default=None,
    metavar="MIB",
)
