"""The progress of a training run: on a terminal a bar with the losses, elsewhere a line now and then."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from npusim.cli.printing import console
from npusim.cli.terminal import error_console
from reference_model.train.run import StepReport

LINES = 15


class TrainingReporter:
    """Prints progress to standard error and the result to standard output."""

    def __init__(self, quiet: bool) -> None:
        self._err = error_console()
        self._quiet = quiet
        self._validation: float | None = None
        columns = (
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=self._err, disable=not self._err.is_terminal)
        self._task = self._progress.add_task("", total=None, losses="")

    def begin(
        self, directory: str, *, num_params: int, context: int, num_tokens: int, step: int, num_steps: int
    ) -> None:
        self._progress.update(self._task, total=num_steps, completed=step)
        if self._quiet:
            return
        begun = f"continuing after step {step:,} of {num_steps:,}" if step else f"{num_steps:,} steps"
        if step == num_steps:
            begun = f"all {num_steps:,} steps are done already"
        self._err.print(
            f"{directory}: {num_params:,} parameters, context {context:,}, {num_tokens:,} tokens of text; {begun}",
            soft_wrap=True,
        )

    def __enter__(self) -> TrainingReporter:
        self._progress.start()
        return self

    def step(self, report: StepReport) -> None:
        self._validation = self._validation if report.validation_loss is None else report.validation_loss
        losses = f"loss {report.loss:.3f}"
        if self._validation is not None:
            losses += f", validation {self._validation:.3f}"
        losses += f", {report.tokens_per_second:,.0f} tokens/s"
        self._progress.update(self._task, completed=report.step, losses=losses)
        due = report.step == report.num_steps or report.step % max(report.num_steps // LINES, 1) == 0
        if due and not self._quiet and not self._err.is_terminal:
            self._err.print(f"step {report.step:,} of {report.num_steps:,}: {losses}", soft_wrap=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def end(self, result: dict[str, Any], interrupted: bool, no_picture: str) -> None:
        out = console()
        if interrupted:
            out.print(
                f"stopped after step {result['step']:,} of {result['num_steps']:,}; the same command goes on from "
                "there",
            )
        elif self._validation is not None:
            out.print(f"validation loss {self._validation:.3f} nats a token")
        out.print(f"loss curve: {result['picture']}" if result["picture"] else f"no loss curve: {no_picture}")
        out.print(f'try it: npusim generate "..." --model {result["directory"]}')
