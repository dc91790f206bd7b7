"""Several prompts decoded together on a simulated board, as text."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.cli.printing import Grid, Printable, bold
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.predict import StepTime
from npusim.llm.together import TogetherReport


def together_renderables(report: TogetherReport, shown: Sequence[str]) -> list[Printable]:
    """Each text behind `shown`, its prompt, then the predicted step by its rows."""
    setup = report.setup
    parts: list[Printable] = [bold(prompt, text) for prompt, text in zip(shown, report.texts, strict=True)]
    which = f"{setup.budget} (chosen by quest)" if setup.prunes else "all"
    parts += [
        "",
        f"{setup.board.name}, {setup.precision}, attending to {which} of up to {setup.context} tokens of each; pages "
        f"for {PAGE_SIZE * setup.pool_pages} tokens of all",
        rows_table(report.steps),
    ]
    if report.num_preempted:
        parts.append(f"  a sequence had to wait for pages {report.num_preempted} times")
    parts.append(f"  {sum(map(len, report.tokens))} tokens simulated in {report.simulated_s:.1f} s")
    return parts


def rows_table(steps: Sequence[StepTime]) -> Grid:
    """Predicted milliseconds of a step, a line a number of rows."""
    columns = ("rows", "chip ms", "TDMA", "TIU", "CPU", "submit", "all", "tokens/s")
    table = Grid(*columns, right=columns)
    for step in steps:
        times = (step.chip_ms, step.tdma_ms, step.tiu_ms, step.cpu_ms, step.submit_ms, step.ms)
        table.add_row(str(step.rows), *(f"{ms:.2f}" for ms in times), f"{step.tokens_per_second:.1f}")
    return table
