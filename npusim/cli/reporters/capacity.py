"""Answers of `npusim capacity` as a table."""

from __future__ import annotations

from typing import Any

from rich.table import Table

MIB = 1 << 20


def capacity_table(rows: list[dict[str, Any]]) -> Table:
    """One line a board, precision, context and budget. Speeds of what does not fit are those that it would have with
    enough memory."""
    table = Table(box=None, pad_edge=False)
    columns = ("board", "precision", "context", "budget", "fits", "MiB", "of", "tokens/s", "ms", "binds", "")
    for name in columns:
        table.add_column(
            name, justify="right" if name in ("context", "budget", "MiB", "of", "tokens/s", "ms") else "left"
        )
    for row in rows:
        ms = row["ms_per_token"]
        table.add_row(
            row["board"],
            row["precision"],
            str(row["context"]),
            str(row["budget"] or "all"),
            "yes" if row["fits"] else "no",
            f"{row['needed_bytes'] / MIB:.1f}",
            f"{row['ion_bytes'] / MIB:.0f}",
            f"{row['tokens_per_second']:.1f}" if ms else "",
            f"{ms['total']:.2f}" if ms else "",
            row["binds"] or "",
            row["reason"],
            style=None if row["fits"] else "dim",
        )
    return table
