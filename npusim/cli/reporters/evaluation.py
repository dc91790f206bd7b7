"""An evaluation as it goes on, and its rows as tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from types import TracebackType
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from kv.policies.base import Policy
from kv.policies.wrapper import Wrapper

Rows = list[dict[str, Any]]
MEASURES = (
    ("score", "score", "{:.3g}", 1),
    ("kl", "KL from dense, nats", "{:.3f}", 1),
    ("bytes_per_step", "kB a step", "{:,.0f}", 1e-3),
    ("descriptors_per_step", "descriptors a step", "{:,.0f}", 1),
    ("moved_bytes_per_step", "kB moved a step", "{:,.0f}", 1e-3),
)
"""Field, title, format, factor."""


class EvaluationProgress:
    """A bar with the time left on a terminal; elsewhere a line for each finished sample. On standard error."""

    def __init__(self, cells: Sequence[tuple[int, int]], num_done: int) -> None:
        self._weights = {cell: float(cell[0]) for cell in cells}
        self._shares = dict.fromkeys(cells, 0.0)
        self._skipped = num_done
        self._begin = time.monotonic()
        self._before = 0.0
        err = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err,
            disable=not err.is_terminal,
            transient=True,
        )
        self._is_bar = err.is_terminal
        self._task = self._bar.add_task("prompts", total=sum(self._weights.values()))

    def __enter__(self) -> EvaluationProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, cell: tuple[int, int], share: float) -> None:
        """`cell` is done to this share; a cell that is reported as done without having begun was done in an earlier
        run."""
        resumed = share == 1 and self._shares[cell] == 0
        if self._shares[cell] == 1:
            return
        self._shares[cell] = share
        done = sum(self._weights[other] * part for other, part in self._shares.items())
        if resumed:
            self._before += self._weights[cell]
        self._bar.update(self._task, completed=done, description=f"{cell[0]:,} tokens, sample {cell[1] + 1}")
        if share == 1 and not resumed and not self._is_bar:
            self._say(cell, done)

    def _say(self, cell: tuple[int, int], done: float) -> None:
        elapsed = time.monotonic() - self._begin
        left = elapsed * (sum(self._weights.values()) - done) / (done - self._before)
        finished = sum(part == 1 for part in self._shares.values())
        print(
            f"{cell[0]:,} tokens, sample {cell[1] + 1}: {finished} of {len(self._shares)} samples after "
            f"{elapsed / 60:.1f} min, "
            f"about {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


def result_tables(rows: Rows) -> Iterator[RenderableType]:
    """For each context a headline and one table a measure: policies down, budgets across."""
    for heading, what, budgets, lines in _grids(rows):
        if heading:
            yield f"\n[bold]{heading}[/]"
        table = Table(box=None, pad_edge=False)
        table.add_column(f"{what} \\ budget", min_width=26)
        for budget in budgets:
            table.add_column(f"{budget:,}", justify="right", min_width=7)
        for name, values in lines:
            table.add_row(name, *values)
        yield table


def markdown(rows: Rows) -> str:
    """The same tables as Markdown."""
    parts = []
    for heading, what, budgets, lines in _grids(rows):
        if heading:
            parts.append(f"### {heading[:1].upper()}{heading[1:]}\n")
        parts.append(f"| {what} | " + " | ".join(f"{budget:,}" for budget in budgets) + " |")
        parts.append("|---|" + "--:|" * len(budgets))
        parts += [f"| {name} | " + " | ".join(values) + " |" for name, values in lines]
        parts.append("")
    return "\n".join(parts)


def _grids(rows: Rows) -> Iterator[tuple[str, str, list[int], list[tuple[str, list[str]]]]]:
    """(headline of a context before its first measure, measure, budgets, (policy, its values)) of each context and
    measure."""
    budgets = sorted({row["budget"] for row in rows})
    for context in dict.fromkeys(row["context"] for row in rows):
        here = [row for row in rows if row["context"] == context]
        count = here[0]["samples"]
        heading = f"{here[0]['task']}, {context:,} tokens, {here[0]['model']}, {count} sample{'s' * (count > 1)}"
        for field, what, form, factor in MEASURES:
            if field == "moved_bytes_per_step" and not here[0]["device_tokens"]:
                continue
            held = {(row["policy"], row["budget"]): row[field] for row in here}
            lines = [
                (
                    name,
                    [form.format(factor * held[name, budget]) if (name, budget) in held else "" for budget in budgets],
                )
                for name in dict.fromkeys(row["policy"] for row in here)
            ]
            yield heading if field == MEASURES[0][0] else "", what, budgets, lines


def task_table(tasks: list[tuple[str, str]]) -> Table:
    """Name and description."""
    table = Table(title="tasks", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("--task")
    table.add_column("what is asked", overflow="fold")
    for name, what in tasks:
        table.add_row(name, what)
    return table


def policy_table(policies: Sequence[Policy]) -> Table:
    """Name, what it chooses, whether the rest is lost, its paper and what it does."""
    table = Table(title="policies", title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("--policy", "chooses", "evicts", "settings", "paper", "how"):
        table.add_column(column, overflow="fold")
    for policy in policies:
        kind = type(policy.base if isinstance(policy, Wrapper) else policy)
        what = (kind.__doc__ or "").split("\n")[0]
        values = {field.name: getattr(policy, field.name) for field in fields(policy)}
        settings = " ".join(
            f"{name}={getattr(value, 'value', value)}"
            for name, value in values.items()
            if not isinstance(value, Policy)
        )
        table.add_row(
            policy.name, f"{policy.unit.value}s", "yes" if policy.evicts else "no", settings, policy.paper, what
        )
    return table
