"""An interrupted evaluation continues after its finished samples, and refuses to mix settings."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import reference_model
from npusim.errors import UsageError
from npusim.evaluation import run
from npusim.evaluation.journal import Journal
from npusim.evaluation.plan import Cell, Plan
from npusim.evaluation.row import rows
from npusim.evaluation.tasks import task_from
from reference_model.model import Model

PLAN = Plan(model="builtin", task="recall", policies=("full", "quest"), budgets=(16, 32), contexts=(96, 128), samples=2)
OLD = """{"settings": {"model": "builtin", "task": "recall", "policies": ["quest"], "budgets": [16], "contexts": [96],
"samples": 2, "page_size": 16, "dense_layers": 2, "seed": 0, "device_tokens": 0, "haystack": "", "templates": ""},
"done": [{"context": 96, "sample": 1, "outcomes": [{"policy": "quest", "budget": 16, "score": 1.0, "kl": 0.25,
"bytes_per_step": 1.0, "descriptors_per_step": 2.0, "metadata_bytes_per_step": 3.0, "padding_bytes_per_step": 4.0,
"moved_bytes_per_step": 0.0, "prompt_tokens": 90, "answer": "red"}]}]}"""
"""As version 0.1.0 wrote a journal."""
KEYS = [
    *("model", "task", "context", "policy", "budget", "samples", "score", "kl", "bytes_per_step"),
    *("descriptors_per_step", "metadata_bytes_per_step", "padding_bytes_per_step", "moved_bytes_per_step"),
    *("prompt_tokens", "score_error", "page_size", "dense_layers", "seed", "device_tokens", "answers"),
]
"""Of a row in JSON, in order."""


@pytest.fixture(scope="module")
def model() -> Model:
    return reference_model.load("builtin")


class Interrupted(Exception):
    pass


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on_and_ends_with_the_same_rows(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, path = task_from("recall", model.tokenizer), tmp_path / "journal"
    whole = run.evaluate(PLAN, model, task)
    evaluated: list[Cell] = []
    original = run.evaluate_sample

    def failing(plan: Plan, model: Model, task: object, cell: Cell, on_progress: object) -> object:
        if len(evaluated) == 3:
            raise Interrupted
        evaluated.append(cell)
        return original(plan, model, task, cell)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "evaluate_sample", failing)
    with pytest.raises(Interrupted):
        run.evaluate(PLAN, model, task, Journal(path, PLAN))
    assert list(Journal(path, PLAN).done) == [Cell(96, 0), Cell(96, 1), Cell(128, 0)]
    evaluated.clear()
    resumed = run.evaluate(PLAN, model, task, Journal(path, PLAN))
    assert evaluated == [Cell(128, 1)]
    assert rows(PLAN, resumed) == rows(PLAN, whole)


def test_a_journal_written_before_rows_were_typed_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text(OLD)
    plan = Plan(model="builtin", task="recall", policies=("quest",), budgets=(16,), contexts=(96,), samples=2)
    (outcome,) = Journal(path, plan).done[Cell(96, 1)]
    assert (outcome.policy, outcome.budget, outcome.answer, outcome.prompt_tokens) == ("quest", 16, "red", 90)
    (row,) = rows(plan, Journal(path, plan).done)
    assert list(asdict(row)) == KEYS and row.samples == 1 and row.answers == ("red",)


@pytest.mark.parametrize(
    "field",
    [
        {"policies": ("nobody",)},
        {"policies": ("twilight:p=high",)},
        {"budgets": (8,)},
        {"budgets": ()},
        {"contexts": (96, 96)},
        {"samples": 0},
        {"page_size": 0},
        {"dense_layers": -1},
        {"seed": -1},
        {"device_tokens": 8},
    ],
    ids=str,
)
def test_every_field_of_a_plan_is_refused_with_the_same_kind_of_error(field: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(PLAN, **field)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budgets", (16,)),
        ("policies", ("quest",)),
        ("samples", 3),
        ("page_size", 8),
        ("dense_layers", 0),
        ("seed", 1),
        ("task", "passkey"),
    ],
)
def test_other_settings_are_refused_by_name_and_nothing_is_lost(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path, PLAN).add(Cell(96, 0), [])
    before = path.read_bytes()
    with pytest.raises(
        UsageError, match=f"holds an unfinished run with {name} .*this one has .*repeat its settings, delete it"
    ):
        Journal(path, replace(PLAN, **{name: value}))  # type: ignore[arg-type]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"settings": {}}', b'{"settings": 1, "done": []}', b"\xff", b"[" * 100_000]
    + [
        json.dumps({"settings": PLAN.settings(), "done": [cell]}).encode()
        for cell in ({}, {"context": 1, "sample": 0, "outcomes": [{}]})
    ],
)
def test_what_is_no_journal_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is not the journal of an evaluation"):
        Journal(path, PLAN)
    assert path.read_bytes() == content


def test_a_journal_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        Journal(tmp_path / "nowhere" / "journal", PLAN).add(Cell(96, 0), [])


@pytest.mark.slow
def test_rows_are_means_over_samples_and_full_has_one_for_every_budget(model: Model) -> None:
    task = task_from("recall", model.tokenizer)
    done = run.evaluate(PLAN, model, task)
    found = rows(PLAN, done)
    assert [(row.context, row.policy, row.budget) for row in found] == [
        (context, policy, budget) for context in (96, 128) for policy in ("full", "quest") for budget in (16, 32)
    ]
    for row in found:
        own = [o for s in (0, 1) for o in done[Cell(row.context, s)] if o.policy == row.policy]
        own = [o for o in own if row.policy == "full" or o.budget == row.budget]
        assert row.samples == 2 == len(own)
        assert row.score == sum(o.score for o in own) / 2 and row.kl == pytest.approx(sum(o.kl for o in own) / 2)
    full, quest = found[0], found[2]
    assert (
        full.bytes_per_step > quest.bytes_per_step > quest.metadata_bytes_per_step > 0 == full.metadata_bytes_per_step
    )
