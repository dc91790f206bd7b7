"""`npusim eval`: how well a model answers when its cache is pruned, and what each policy moves for it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import reference_model
from kv.policies import POLICIES
from kv.tasks.base import Task
from kv.tasks.files import FileTask
from npusim.cli.command import Command, check_writable, console, working, write_whole
from npusim.cli.generate import MODEL_HELP
from npusim.cli.reporters.evaluation import EvaluationProgress, markdown, policy_table, result_tables, task_table
from npusim.cli.reporters.evaluation_plot import check_plot, draw
from npusim.errors import UsageError
from npusim.evaluation.journal import Journal
from npusim.evaluation.plan import Plan
from npusim.evaluation.rows import Row, rows
from npusim.evaluation.run import evaluate
from npusim.evaluation.tasks import RECALL, task_from, task_names
from reference_model.model import Model

DEFAULT_POLICIES = "full,streaming_llm,h2o,quest"


class EvalCommand(Command):
    name = "eval"
    summary = (
        "Ask a language model about a long context under pruned caches: score, KL, bytes and DMA descriptors of "
        "each policy."
    )
    example = (
        "npusim eval                                                (the bundled model, half a minute)\n"
        "  npusim eval --model smollm2 --policy full,quest,h2o --budget 64,256 --task passkey --context 2k --json "
        "f.json --plot f.png\n"
        "  npusim eval --list"
    )

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", default="builtin", metavar="NAME|PATH", help=MODEL_HELP)
        parser.add_argument(
            "--policy",
            default=DEFAULT_POLICIES,
            metavar="P[,P...]",
            help=f"names from --list, NAME:SETTING=VALUE, or all (default: {DEFAULT_POLICIES})",
        )
        parser.add_argument(
            "--budget",
            default="64,128",
            metavar="B[,B...]",
            help="tokens that a step may attend to in each layer (default: 64,128)",
        )
        parser.add_argument(
            "--task", default=RECALL, metavar="T", help="a name, or NAME:FILE, from --list (default: recall)"
        )
        parser.add_argument(
            "--context",
            metavar="L[,L...]",
            help="tokens of prompt and answer; 4k is 4096 (default: 768, or what the model takes for files)",
        )
        parser.add_argument(
            "--haystack", type=Path, metavar="F", help="a text that hides the needles of needle and RULER tasks"
        )
        parser.add_argument(
            "--templates", type=Path, metavar="F", help="prompts of LongBench tasks: its config/dataset2prompt.json"
        )
        parser.add_argument("--samples", type=int, default=10, metavar="N", help="prompts of each length (default: 10)")
        parser.add_argument("--page-size", type=int, default=16, metavar="S", help="tokens of a page (default: 16)")
        parser.add_argument(
            "--dense-layers",
            type=int,
            default=2,
            metavar="D",
            help="first layers that no policy prunes, as in Quest's paper (default: 2)",
        )
        parser.add_argument(
            "--device-tokens",
            type=int,
            default=0,
            metavar="N",
            help="tokens of each layer and head that the device holds (default: 0, all)",
        )
        parser.add_argument("--seed", type=int, default=0, help="of the prompts (default: 0)")
        parser.add_argument(
            "--json",
            type=Path,
            metavar="F",
            help="store the rows; F.journal keeps finished samples, from which the same command goes on",
        )
        parser.add_argument(
            "--plot", type=Path, metavar="F", help="draw score against bytes a step (.png, .svg or .pdf)"
        )
        parser.add_argument("--markdown", type=Path, metavar="F", help="store the tables as Markdown")
        parser.add_argument("--list", action="store_true", help="print the tasks and policies, and stop")

    def run(self, options: argparse.Namespace) -> int:
        if options.list:
            out = console()
            out.print(task_table(task_names()))
            out.print(policy_table(POLICIES))
            return 0
        _check_outputs(options)
        with working(f"loading {options.model}"):
            model = reference_model.load(options.model)
            task = task_from(options.task, model.tokenizer, options.haystack, options.templates)
        _warn_of_damage(task)
        plan = _plan(options, model, task)
        journal = Journal(options.json.with_name(options.json.name + ".journal"), plan) if options.json else None
        found = _evaluated(plan, model, task, journal)
        if options.json:
            write_whole(
                options.json, (json.dumps([asdict(row) for row in found], indent=1, allow_nan=False) + "\n").encode()
            )
        if options.plot:
            write_whole(options.plot, draw(found, options.plot.suffix[1:]))
        if options.markdown:
            write_whole(options.markdown, markdown(found).encode())
        if journal:
            journal.remove()
        out = console()
        for table in result_tables(found):
            out.print(table)
        return 0


def _check_outputs(options: argparse.Namespace) -> None:
    for path in (options.json, options.plot, options.markdown):
        if path:
            check_writable(path)
    if options.plot:
        check_plot(options.plot)


def _plan(options: argparse.Namespace, model: Model, task: Task) -> Plan:
    longest = model.config.context_length
    default = longest if isinstance(task, FileTask) else min(768, longest)
    names = tuple(policy.name for policy in POLICIES) if options.policy == "all" else tuple(options.policy.split(","))
    return Plan(
        model=options.model,
        task=options.task,
        policies=names,
        budgets=_numbers("--budget", options.budget),
        contexts=_numbers("--context", options.context) if options.context else (default,),
        samples=options.samples,
        page_size=options.page_size,
        dense_layers=options.dense_layers,
        seed=options.seed,
        device_tokens=options.device_tokens,
        haystack=str(options.haystack or ""),
        templates=str(options.templates or ""),
    )


def _numbers(option: str, text: str) -> tuple[int, ...]:
    """ "64,4k" -> (64, 4096)."""
    try:
        return tuple(int(part[:-1]) * 1024 if part[-1:] in ("k", "K") else int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}: give whole numbers of tokens with commas between them, as 64,128 or 2k,4k"
        ) from None


def _warn_of_damage(task: Task) -> None:
    if isinstance(task, FileTask):
        for line, fault in task.damaged:
            print(f"npusim: note: {task.name}, line {line} {fault}", file=sys.stderr)


def _evaluated(plan: Plan, model: Model, task: Task, journal: Journal | None) -> list[Row]:
    try:
        with EvaluationProgress(plan.cells, len(journal.done) if journal else 0) as progress:
            return rows(plan, evaluate(plan, model, task, journal, progress.advance))
    except KeyboardInterrupt:
        if journal is None:
            raise
        kept = f"{len(journal.done)} of {len(plan.cells)} samples are in {journal.path}"
        print(f"npusim: interrupted; {kept}, the same command goes on from there", file=sys.stderr)
        raise SystemExit(130) from None
