"""Models that are known by name, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from rich.table import Table


class KnownModelLike(Protocol):
    """One line of the table."""

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> str: ...

    @property
    def num_bytes(self) -> int: ...

    @property
    def licence(self) -> str: ...

    @property
    def path(self) -> Path | None: ...


def language_model_table(models: Iterable[KnownModelLike]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "what it is"):
        table.add_column(column, overflow="fold")
    table.add_column("MB", justify="right")
    table.add_column("licence")
    table.add_column("where", overflow="fold")
    for model in models:
        where = str(model.path) if model.path else f"not here: npusim model fetch {model.name}"
        table.add_row(model.name, model.description, f"{model.num_bytes / 1e6:.1f}", model.licence, where)
    return table
