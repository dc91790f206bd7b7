"""InfiniteBench's published table, from the prediction files of its repository (OpenBMB/InfiniteBench, MIT licence), by
kv's scorers.

    git clone https://github.com/OpenBMB/InfiniteBench
    python benchmarks/infinitebench.py InfiniteBench/results InfiniteBench/README.md

Prints every cell that can be scored beside the README's, and the counts. Exit code 1 if fewer agree than the 74 of 76
that the original scorer reaches on these files (two of the README's cells are not what its own files give). Summaries
are left out: the original scores them with another package. A few seconds."""

# ruff: noqa: E402
from __future__ import annotations

import sys

sys.path = [
    entry for entry in sys.path if not entry.endswith("benchmarks")
]  # where this file would hide the package kv

import argparse
import re
from pathlib import Path

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
EXPECTED = 74


def published(readme: Path) -> dict[tuple[str, str], str]:
    """(model, task) -> the cell of the README's table of results."""
    cells = {}
    for line in readme.read_text(encoding="utf-8").splitlines():
        name, *values = [part.strip() for part in line.strip("| ").split("|")]
        if name in ROWS and len(values) == len(COLUMNS):
            cells |= {(model, ROWS[name]): value for model, value in zip(COLUMNS, values, strict=True)}
    return cells


def agrees(percent: float, cell: str) -> bool:
    """Whether a score is the published one to its decimals, or below 5 where that says so."""
    number = re.sub(r"[^0-9.]", "", cell)
    if cell.startswith("<"):
        return percent < float(number)
    return abs(percent - float(number)) < 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, help="the repository's folder of predictions, one folder a model")
    parser.add_argument("readme", type=Path, help="its README.md")
    options = parser.parse_args()
    cells = published(options.readme)
    right = scored = 0
    for model in COLUMNS:
        for task in (task.name for task in INFINITEBENCH_TASKS if (model, task.name) in cells):
            path = options.results / model / f"preds_{task}.jsonl"
            if not path.is_file() or not path.stat().st_size:
                print(f"{model:14}{task:22} no predictions")
                continue
            found = score_predictions(path, task, strict_original=True, skip_first_number=model == "gpt4")
            same = agrees(found.percent, cells[model, task])
            scored, right = scored + 1, right + same
            damage = "".join(f"; line {line} {fault}" for line, fault in found.damaged)
            print(
                f"{model:14}{task:22}{found.percent:7.2f}  README "
                f"{cells[model, task]:8}{'' if same else '  DIFFERS'}{damage}"
            )
    print(f"{right} of {scored} cells agree with the README")
    return 0 if right >= EXPECTED else 1


if __name__ == "__main__":
    sys.exit(main())
