"""Models that are known by name, as a table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from npusim.cli.printing import Grid


@dataclass(frozen=True)
class KnownModel:
    """A model that `--model` knows by name. num_bytes is the size of its file; path is None if it is not on this
    machine."""

    name: str
    description: str
    num_bytes: int
    licence: str
    path: Path | None


def language_model_table(models: Iterable[KnownModel]) -> Grid:
    """One line a model."""
    table = Grid("name", "what it is", "MB", "licence", "where", right=("MB",))
    for model in models:
        where = str(model.path) if model.path else f"not here: npusim model fetch {model.name}"
        table.add_row(model.name, model.description, f"{model.num_bytes / 1e6:.1f}", model.licence, where)
    return table
