"""`npusim eval`: how well a model answers when its cache is pruned, and how many bytes each policy moves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import reference_model
from kv.policies import POLICIES
from kv.tasks.base import Task
from kv.tasks.files import FileTask
from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.files import (
    InputFile,
    JsonOutput,
    JsonTarget,
    OutputFile,
    PlotDirectory,
    PlotOutput,
    write_pictures,
    write_whole,
)
from npusim.cli.options.models import ModelOption, budget_option, context_option, policy_option, seed_option
from npusim.cli.options.option import Flag, Given, Value
from npusim.cli.options.outputs import Output
from npusim.cli.printing import console
from npusim.cli.reporters.evaluation import EvaluationProgress, markdown, policy_table, result_tables, task_table
from npusim.cli.reporters.evaluation_plot import draw
from npusim.cli.streams import working
from npusim.evaluation.journal import Journal
from npusim.evaluation.plan import Plan
from npusim.evaluation.row import Row, rows
from npusim.evaluation.run import evaluate
from npusim.evaluation.tasks import RECALL, task_from, task_names
from reference_model.model import Model

ALL_POLICIES = "all"


class RowsOutput(JsonOutput):
    """--json. If it names a file, the journal is another output beside it."""

    def outputs(self, value: JsonTarget) -> tuple[Output, ...]:
        journal = _journal_path(value)
        return (*super().outputs(value), *(() if journal is None else (Output(journal),)))


class TaskOption(Value[str]):
    """--task NAME or NAME:FILE."""

    def inputs(self, value: str) -> tuple[Path, ...]:
        file = value.partition(":")[2]
        return (Path(file),) if file else ()


LIST = Flag(("--list",), "print the tasks and policies, and stop")
MODEL = ModelOption()
POLICY: Value[str] = policy_option(
    kind=kinds.text("P[,P...]"),
    default="full,streaming_llm,h2o,quest",
    note=f"names from --list, NAME:SETTING=VALUE, or {ALL_POLICIES}",
)
BUDGET: Value[tuple[int, ...]] = budget_option(kind=kinds.commas(kinds.tokens("B")), default=(64, 128))
TASK = TaskOption(("--task",), "task: a name from --list, or NAME:FILE", kinds.text("T"), default=RECALL)
CONTEXT: Value[tuple[int, ...] | None] = context_option(
    kind=kinds.commas(kinds.tokens("L")), default_words="768; for tasks with a file, the model's own context"
)
HAYSTACK = InputFile[Path | None](
    ("--haystack",), "the text in which needle and RULER tasks hide their needles", default=None
)
TEMPLATES = InputFile[Path | None](
    ("--templates",), "prompts of LongBench tasks: its config/dataset2prompt.json", default=None
)
SAMPLES = Value(("--samples",), "prompts for each context length", kinds.whole(), default=10)
PAGE_SIZE = Value(("--page-size",), "tokens in a page", kinds.whole(), default=16, metavar="S")
DENSE_LAYERS = Value(
    ("--dense-layers",),
    "first layers that no policy prunes, as in Quest's paper",
    kinds.whole(),
    default=2,
    metavar="D",
)
DEVICE_TOKENS = Value(
    ("--device-tokens",),
    "tokens that the device holds for each layer and head; reading others counts as moved bytes",
    kinds.whole(),
    default=0,
    default_words="0, all",
)
SEED: Value[int] = seed_option(note="the prompts")
JOBS = Value(("--jobs",), "processes that share the samples; each loads the model", kinds.whole(1), default=1)
JSON = RowsOutput("the rows; FILE.journal keeps finished samples, so that the same command continues there")
PLOT = PlotOutput(note="score against bytes a step")
PLOT_DIRECTORY = PlotDirectory(note="score against bytes a step, a picture a context")
MARKDOWN = OutputFile[Path | None](("--markdown",), "the tables as Markdown", default=None)
ASKED = (
    *(MODEL, POLICY, BUDGET, TASK, CONTEXT, HAYSTACK, TEMPLATES, SAMPLES, PAGE_SIZE, DENSE_LAYERS, DEVICE_TOKENS),
    *(SEED, JOBS, JSON, PLOT, PLOT_DIRECTORY, MARKDOWN),
)


class EvalCommand(Command):
    example = (
        "npusim eval                                                (the bundled model, a few seconds)\n"
        "  npusim eval --model smollm2 --policy full,quest,h2o --budget 64,256 --task passkey --context 2k --json "
        "f.json --plot f.png\n"
        "  npusim eval --list"
    )
    options = (*ASKED, LIST)

    def run(self, given: Given) -> int:
        if given[LIST]:
            given.refuse(ASKED, "with --list, which prints the tasks and policies and stops")
            out = console()
            out.print(task_table(task_names()))
            out.print(policy_table(POLICIES))
            return 0
        with working(f"loading {given[MODEL]}"):
            model = reference_model.load(given[MODEL])
            task = task_from(given[TASK], model.tokenizer, given[HAYSTACK], given[TEMPLATES])
        if isinstance(task, FileTask):
            given.refuse((SEED,), "with a task that reads a file, whose samples are taken in order")
        _warn_of_damage(task)
        plan = _plan(given, model, task)
        path = _journal_path(given[JSON])
        journal = None if path is None else Journal(path, plan)
        found = _evaluated(plan, model, task, journal, given[JOBS])
        _write_files(given, found)
        if journal:
            journal.remove()
        if not given[JSON].printed:
            out = console()
            for table in result_tables(found):
                out.print(table)
        return 0


COMMAND = EvalCommand()


def _journal_path(json: JsonTarget) -> Path | None:
    """The journal's path: beside the file that the rows are written to; None if they do not go to a file."""
    if json.path is None or Output(json.path).is_stream:
        return None
    return json.path.with_name(json.path.name + ".journal")


def _write_files(given: Given, found: Sequence[Row]) -> None:
    given[JSON].write([asdict(row) for row in found])
    if (plot := given[PLOT]) is not None:
        write_whole(plot, draw(found, plot.suffix[1:]))
    if (directory := given[PLOT_DIRECTORY]) is not None:
        contexts = sorted({row.context for row in found})
        of_context = {length: [row for row in found if row.context == length] for length in contexts}
        write_pictures(directory, {f"context-{length}": draw(own, "png") for length, own in of_context.items()})
    if (path := given[MARKDOWN]) is not None:
        write_whole(path, markdown(found).encode())


def _plan(given: Given, model: Model, task: Task) -> Plan:
    longest = model.config.context_length
    default = longest if isinstance(task, FileTask) else min(768, longest)
    names, contexts = given[POLICY], given[CONTEXT]
    return Plan(
        model=given[MODEL],
        task=given[TASK],
        policies=tuple(policy.name for policy in POLICIES) if names == ALL_POLICIES else tuple(names.split(",")),
        budgets=given[BUDGET],
        contexts=contexts or (default,),
        samples=given[SAMPLES],
        page_size=given[PAGE_SIZE],
        dense_layers=given[DENSE_LAYERS],
        seed=given[SEED],
        device_tokens=given[DEVICE_TOKENS],
        haystack=str(given[HAYSTACK] or ""),
        templates=str(given[TEMPLATES] or ""),
    )


def _warn_of_damage(task: Task) -> None:
    if isinstance(task, FileTask):
        for line, fault in task.damaged:
            print(f"npusim: note: {task.name}, line {line} {fault}", file=sys.stderr)


def _evaluated(plan: Plan, model: Model, task: Task, journal: Journal | None, jobs: int) -> list[Row]:
    try:
        with EvaluationProgress(plan.cells) as progress:
            return rows(plan, evaluate(plan, model, task, journal, progress.advance, jobs=jobs))
    except KeyboardInterrupt:
        if journal is None:
            raise
        kept = f"{len(journal.done)} of {len(plan.cells)} samples are in {journal.path}"
        print(f"npusim: interrupted; {kept}, and the same command continues from there", file=sys.stderr)
        raise SystemExit(130) from None
