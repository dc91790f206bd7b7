"""The progress of an evaluation, and its rows as tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from kv.policies import settings_of
from kv.policies.base import Policy
from kv.policies.wrapper import Wrapper
from npusim.cli.printing import Grid, Printable, bold
from npusim.cli.terminal import error_console
from npusim.evaluation.plan import Cell
from npusim.evaluation.row import Row
from npusim.evaluation.tasks import description


@dataclass(frozen=True)
class Measure:
    """A table's title, the format of its values, and how to get the value of a row."""

    title: str
    form: str
    of: Callable[[Row], float]


MEASURES = (
    Measure("score", "{:.3g}", lambda row: row.score),
    Measure("KL from dense, nats", "{:.3f}", lambda row: row.kl),
    Measure("kB a step", "{:,.0f}", lambda row: row.bytes_per_step / 1e3),
    Measure("descriptors a step", "{:,.0f}", lambda row: row.descriptors_per_step),
)
MOVED = Measure("kB moved a step", "{:,.0f}", lambda row: row.moved_bytes_per_step / 1e3)
"""Shown if the device does not hold the whole cache."""


class EvaluationProgress:
    """Progress on standard error: on a terminal a bar with the time left, elsewhere a line for each finished sample."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._weights = {cell: float(cell.context) for cell in cells}
        self._shares = dict.fromkeys(cells, 0.0)

        self._begin = time.monotonic()
        self._before = 0.0
        err = error_console()
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

    def advance(self, cell: Cell, share: float) -> None:
        """The share `share` of `cell` is done. A cell whose first report says that it is done was done in an earlier
        run."""
        resumed = share == 1 and self._shares[cell] == 0
        if self._shares[cell] == 1:
            return
        self._shares[cell] = share
        done = sum(self._weights[other] * part for other, part in self._shares.items())
        if resumed:
            self._before += self._weights[cell]
        self._bar.update(self._task, completed=done, description=_name(cell))
        if share == 1 and not resumed and not self._is_bar:
            self._say(cell, done)

    def _say(self, cell: Cell, done: float) -> None:
        elapsed = time.monotonic() - self._begin
        left = elapsed * (sum(self._weights.values()) - done) / (done - self._before)
        finished = sum(part == 1 for part in self._shares.values())
        print(
            f"{_name(cell)}: {finished} of {len(self._shares)} samples after {elapsed / 60:.1f} min, "
            f"about {left / 60:.1f} min left",
            file=sys.stderr,
            flush=True,
        )


def _name(cell: Cell) -> str:
    return f"{cell.context:,} tokens, sample {cell.sample + 1}"


def result_tables(rows: Sequence[Row]) -> Iterator[Printable]:
    """For each context a heading, and for each measure a table with a row for each policy and a column for each
    budget."""
    for grid in _grids(rows):
        if grid.heading:
            yield ""
            yield bold(grid.heading)
        budgets = [f"{budget:,}" for budget in grid.budgets]
        table = Grid(f"{grid.title} \\ budget".ljust(26), *budgets, right=budgets, min_width=7)
        for name, values in grid.lines.items():
            table.add_row(name, *values)
        yield table


def markdown(rows: Sequence[Row]) -> str:
    """The same tables as Markdown."""
    parts = []
    for grid in _grids(rows):
        if grid.heading:
            parts.append(f"### {grid.heading[:1].upper()}{grid.heading[1:]}\n")
        parts.append(f"| {grid.title} | " + " | ".join(f"{budget:,}" for budget in grid.budgets) + " |")
        parts.append("|---|" + "--:|" * len(grid.budgets))
        parts += [f"| {name} | " + " | ".join(values) + " |" for name, values in grid.lines.items()]
        parts.append("")
    return "\n".join(parts)


@dataclass(frozen=True)
class _Grid:
    """One measure of one context: for each policy its values, one for each budget. `heading` is set only for the
    context's first measure."""

    heading: str
    title: str
    budgets: list[int]
    lines: dict[str, list[str]]


def _grids(rows: Sequence[Row]) -> Iterator[_Grid]:
    budgets = sorted({row.budget for row in rows})
    for context in dict.fromkeys(row.context for row in rows):
        here = [row for row in rows if row.context == context]
        first, held = here[0], {(row.policy, row.budget): row for row in here}
        heading = f"{first.task}, {context:,} tokens, {first.model}, {first.samples} sample{'s' * (first.samples > 1)}"
        for measure in (*MEASURES, MOVED) if first.device_tokens else MEASURES:
            lines = {
                name: [
                    measure.form.format(measure.of(held[name, budget])) if (name, budget) in held else ""
                    for budget in budgets
                ]
                for name in dict.fromkeys(row.policy for row in here)
            }
            yield _Grid(heading, measure.title, budgets, lines)
            heading = ""


def task_table(tasks: list[tuple[str, str]]) -> Grid:
    """Name and description."""
    table = Grid("--task", "what is asked", title="tasks")
    for name, what in tasks:
        table.add_row(name, what)
    return table


def policy_table(policies: Sequence[Policy]) -> Grid:
    """Name, what it chooses, whether the rest is lost, its settings, its paper and what it does."""
    table = Grid("--policy", "chooses", "evicts", "settings", "paper", "how", title="policies")
    for policy in policies:
        kind = type(policy.base if isinstance(policy, Wrapper) else policy)
        settings = " ".join(f"{name}={getattr(value, 'value', value)}" for name, value in settings_of(policy).items())
        table.add_row(
            policy.name,
            f"{policy.unit.value}s",
            "yes" if policy.evicts else "no",
            settings,
            policy.paper,
            description(kind),
        )
    return table
