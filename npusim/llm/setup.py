"""The settings of a lowering: board, precision, lengths, and how pages are gathered and programs submitted."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Literal, get_args

from npusim.board import Board
from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE

Precision = Literal["int8", "bf16"]
"""Format of the weights in GMEM. int8 has a scale for each output."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CHUNKS = (PAGE_SIZE, PAGE_SIZE // 2)
"""Tokens that a prefill program may take at once."""
ROWS = (1, 2, 4, 8, 16)
"""Sequences that a decode program may take at once."""


class Gather(Enum):
    """How the chip reads the chosen pages."""

    PATCH = "patch"
    """The CPU writes their addresses into the descriptors."""
    COPY = "copy"
    """The CPU copies them to a place whose address never changes."""


class Submit(Enum):
    """How often programs are submitted, which decides when the CPU can choose pages."""

    LAYER = "layer"
    """A submit for each layer. Between two submits the CPU chooses pages by the scores of this step."""
    TOKEN = "token"
    """One submit for each token. Pages are chosen by the scores of the step before."""


@dataclass(frozen=True)
class Setup:
    """The settings of a lowering. Raises UsageError for impossible ones.

    context     that the cache holds
    budget      that a decode step attends to, the new one included; None: everything
    chunk       tokens that a prefill program takes at once, of CHUNKS
    rows        sequences that may be decoded together, of ROWS; there is a program for each of ROWS up to it
    pool        tokens that the pages of all sequences hold; None: `rows` whole contexts, fewer where memory is short
    ion_bytes   memory for the chip's buffers; None: what the board's image gives
    """

    board: Board
    precision: Precision = "int8"
    context: int = 1024
    budget: int | None = None
    _: KW_ONLY
    gather: Gather = Gather.PATCH
    submit: Submit = Submit.LAYER
    chunk: int = PAGE_SIZE
    rows: int = 1
    pool: int | None = None
    ion_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UsageError(f"precision {self.precision!r} cannot be lowered: use {' or '.join(sorted(PRECISIONS))}")
        if self.chunk not in CHUNKS:
            most, half = CHUNKS
            raise UsageError(f"chunk is {self.chunk}: a prefill program takes {half} or {most} tokens at once")
        if self.rows not in ROWS:
            raise UsageError(f"rows is {self.rows}: programs decode {', '.join(map(str, ROWS))} sequences at once")
        for name, value in (("context", self.context), ("budget", self.budget), ("pool", self.pool)):
            if value is not None and (value < PAGE_SIZE or value % PAGE_SIZE):
                raise UsageError(f"{name} is {value}: it must be a multiple of the page's {PAGE_SIZE} tokens")
        if self.gather is Gather.COPY and self.rows > 1:
            raise UsageError(
                "pages are copied for one sequence only: gather by patch, or decode one sequence at a time"
            )
        if self.gather is Gather.COPY and self.submit is Submit.TOKEN:
            raise UsageError(
                "pages that are copied before a step do not have the step's own key: gather by patch, or submit by "
                "layer"
            )

    @property
    def num_pages(self) -> int:
        """Pages of one KV head of a sequence when the context is full."""
        return self.context // PAGE_SIZE

    @property
    def pool_pages(self) -> int:
        """Pages of one KV head of all sequences."""
        return self.rows * self.num_pages if self.pool is None else self.pool // PAGE_SIZE

    @property
    def batches(self) -> tuple[int, ...]:
        """How many sequences each decode program takes."""
        return tuple(rows for rows in ROWS if rows <= self.rows)

    @property
    def io_rows(self) -> int:
        """The most rows of any program."""
        return max(self.chunk, self.rows)

    @property
    def prunes(self) -> bool:
        """Whether a decode step may leave pages out."""
        return self.num_slots < self.num_pages

    @property
    def num_slots(self) -> int:
        """Pages that a decode step attends to."""
        return min(self.budget or self.context, self.context) // PAGE_SIZE

    @property
    def memory_bytes(self) -> int:
        """ION memory for everything that the chip reads and writes."""
        return self.board.ion_bytes if self.ion_bytes is None else self.ion_bytes
