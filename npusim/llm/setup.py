"""What a model is lowered for: board, precision, lengths, and how pages are chosen, gathered and submitted."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from npusim.board import Board
from npusim.errors import UsageError

PAGE_SIZE = 16
MIB = 1 << 20


class Gather(Enum):
    """How the chosen pages come before the chip."""

    PATCH = "patch"
    """Their addresses are written into the descriptors."""
    COPY = "copy"
    """The CPU copies them into one place, whose address never changes."""


class Submit(Enum):
    """When the CPU may choose pages."""

    LAYER = "layer"
    """One submit a layer: scores of this step, chosen by the CPU between two submits."""
    TOKEN = "token"
    """One submit a token: pages chosen by the scores of the step before."""


@dataclass(frozen=True)
class Setup:
    """A lowering. Lengths are tokens.

    context     that the cache holds
    budget      that a decode step attends to, the new one included; None: everything
    chunk       tokens that a prefill program takes at once, a page or half of one
    ion_bytes   memory for the chip's buffers; None: what the board's image gives
    """

    board: Board
    precision: str = "int8"
    context: int = 1024
    budget: int | None = None
    gather: Gather = Gather.PATCH
    submit: Submit = Submit.LAYER
    chunk: int = 16
    ion_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "int8"):
            raise UsageError(f"precision {self.precision!r} has no decode program: use bf16 or int8")
        if self.chunk not in (8, 16):
            raise UsageError(f"chunk is {self.chunk}: a prefill program takes 8 or {PAGE_SIZE} tokens at once")
        for name, value in (
            ("context", self.context),
            *((("budget", self.budget),) if self.budget is not None else ()),
        ):
            if value < PAGE_SIZE or value % PAGE_SIZE:
                raise UsageError(f"{name} is {value}: it must be a multiple of the page's {PAGE_SIZE} tokens")
        if self.gather is Gather.COPY and self.submit is Submit.TOKEN:
            raise UsageError(
                "pages that are copied before a step lack the step's own key: gather by patch, or submit by layer"
            )

    @property
    def num_pages(self) -> int:
        """Pages of one KV head when the context is full."""
        return self.context // PAGE_SIZE

    @property
    def prunes(self) -> bool:
        """Whether a decode step may leave pages out."""
        return self.budget is not None and self.budget < self.context

    @property
    def num_slots(self) -> int:
        """Pages that a decode step attends to."""
        return (self.budget if self.prunes and self.budget is not None else self.context) // PAGE_SIZE

    @property
    def memory_bytes(self) -> int:
        return self.board.ion_bytes if self.ion_bytes is None else self.ion_bytes
