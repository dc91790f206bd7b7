"""InfiniteBench's published table, from the prediction files of its repository (OpenBMB/InfiniteBench, MIT licence), by
kv's scorers.

The original scorer reaches 74 of 76 cells on these files: two of the README's are not what its own files give.
Summaries are left out: the original scores them with another package."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.claim import CannotRun, Say
from benchmarks.needs import INFINITEBENCH
from kv.tasks.infinitebench import INFINITEBENCH_TASKS, score_predictions

ROWS = {
    "Retrieve.PassKey": "passkey",
    "Retrieve.Number": "number_string",
    "Retrieve.KV": "kv_retrieval",
    "En.QA": "longbook_qa_eng",
    "En.MC": "longbook_choice_eng",
    "En.Dia": "longdialogue_qa_eng",
    "Zh.QA": "longbook_qa_chn",
    "Code.Debug": "code_debug",
    "Code.Run": "code_run",
    "Math.Calc": "math_calc",
    "Math.Find": "math_find",
}
COLUMNS = ("gpt4", "yarn-mistral", "kimi", "claude2", "yi-6b-200k", "yi-34b-200k", "chatglm3")


def cells(say: Say) -> float:
    """How many cells of the README's table of results kv's scorers give, to its decimals."""
    repository = INFINITEBENCH.path()
    wanted = published(repository / "README.md")
    right = scored = 0
    for model in COLUMNS:
        for task in (task.name for task in INFINITEBENCH_TASKS if (model, task.name) in wanted):
            path = repository / "results" / model / f"preds_{task}.jsonl"
            if not path.is_file() or not path.stat().st_size:
                say(f"{model:14}{task:22} no predictions")
                continue
            given = score_predictions(path, task, strict_original=True, skip_first_number=model == "gpt4")
            same = agrees(given.percent, wanted[model, task])
            scored, right = scored + 1, right + same
            damage = "".join(f"; line {line} {fault}" for line, fault in given.damaged)
            cell = f"{wanted[model, task]:8}{'' if same else '  DIFFERS'}"
            say(f"{model:14}{task:22}{given.percent:7.2f}  README {cell}{damage}")
    if not scored:
        raise CannotRun(f"{repository} has no results to score: {INFINITEBENCH.how}")
    say(f"{right} of {scored} cells agree with the README")
    return right


def published(readme: Path) -> dict[tuple[str, str], str]:
    """(model, task) -> the cell of the README's table of results."""
    found: dict[tuple[str, str], str] = {}
    for line in readme.read_text(encoding="utf-8").splitlines():
        name, *values = [part.strip() for part in line.strip("| ").split("|")]
        if name in ROWS and len(values) == len(COLUMNS):
            found |= {(model, ROWS[name]): value for model, value in zip(COLUMNS, values, strict=True)}
    return found


def agrees(percent: float, cell: str) -> bool:
    """Whether a score is the published one to its decimals, or below 5 where that says so."""
    number = re.sub(r"[^0-9.]", "", cell)
    if cell.startswith("<"):
        return percent < float(number)
    return abs(percent - float(number)) < 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
