"""Evaluates policies on a language model: the same prompts with each policy, scored by accuracy and by memory traffic.

>>> import reference_model
>>> from npusim.evaluation import Plan, evaluate, rows, task_from
>>> model = reference_model.load("builtin")
>>> plan = Plan(model="builtin", task="recall", policies=("full", "quest"), budgets=(32,), contexts=(96,), samples=1)
>>> for row in rows(plan, evaluate(plan, model, task_from(plan.task, model.tokenizer))):
...     print(f"{row.policy}: score {row.score:.1f}, {row.bytes_per_step:,.0f} bytes in a step, KL {row.kl:.2f} nats")
full: score 1.0, 196,704 bytes in a step, KL 0.00 nats
quest: score 1.0, 137,296 bytes in a step, KL 0.01 nats
"""

from npusim.evaluation.journal import Journal
from npusim.evaluation.lanes import Lane, LaneKey, Lanes, LaneSettings
from npusim.evaluation.plan import Cell, Plan
from npusim.evaluation.row import Outcome, Row, rows
from npusim.evaluation.run import evaluate
from npusim.evaluation.tasks import task_from, task_names

__all__ = [
    "Cell",
    "Journal",
    "Lane",
    "LaneKey",
    "LaneSettings",
    "Lanes",
    "Outcome",
    "Plan",
    "Row",
    "evaluate",
    "rows",
    "task_from",
    "task_names",
]
