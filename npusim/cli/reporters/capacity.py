"""The results of `npusim capacity` as a table."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.board import MIB
from npusim.cli.printing import Grid
from npusim.llm.capacity import Capacity


def capacity_table(answers: Sequence[Capacity]) -> Grid:
    """One line for each board, precision, context and budget. If a model does not fit, the speed is what it would be
    with enough memory."""
    columns = ("board", "precision", "context", "budget", "fits", "MiB", "of", "tokens/s", "ms", "binds", "")
    table = Grid(*columns, right=("context", "budget", "MiB", "of", "tokens/s", "ms"))
    for answer in answers:
        setup, step = answer.setup, answer.step
        table.add_row(
            setup.board.name,
            setup.precision,
            str(setup.context),
            str(setup.budget or "all"),
            "yes" if answer.fits else "no",
            f"{answer.needed_bytes / MIB:.1f}",
            f"{setup.memory_bytes / MIB:.0f}",
            f"{step.tokens_per_second:.1f}" if step else "",
            f"{step.ms:.2f}" if step else "",
            step.binds if step else "",
            answer.reason,
            style="" if answer.fits else "dim",
        )
    return table
