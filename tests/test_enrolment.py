"""The explicit lists: what stands in them is complete and unambiguous, and says what it is."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest

import golden.metrics
import kv.metrics
from kv.policies import POLICIES
from kv.policies.base import Policy
from kv.tasks import TASKS
from kv.tasks.base import Task
from npusim.board import BOARDS, Board
from npusim.chip import CHIPS
from npusim.cli.commands import COMMANDS, Entry, every_entry
from npusim.cli.main import main
from npusim.insn import INSTRUCTIONS
from npusim.insn.base import TdmaInstruction, TiuInstruction
from npusim.runtime.cpu import CPU_FUNCTIONS

LISTS = {
    "instructions": INSTRUCTIONS,
    "commands": COMMANDS,
    "policies": POLICIES,
    "tasks": TASKS,
    "chips": CHIPS,
    "boards": BOARDS,
}
METRICS = [
    function
    for module in (golden.metrics, kv.metrics)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and not name.startswith("_")
]


def own_docstring(kind: type) -> str:
    """What is written under the class itself, not under a base, nor made up by dataclass from the fields."""
    text = kind.__dict__.get("__doc__") or ""
    return "" if text.startswith(f"{kind.__name__}(") else text


@pytest.mark.parametrize("entries", LISTS.values(), ids=LISTS)
def test_names_in_a_list_are_unique(entries: Sequence[object]) -> None:
    names = [getattr(entry, "mnemonic", None) or entry.name for entry in entries]  # type: ignore[attr-defined]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", INSTRUCTIONS, ids=lambda k: k.mnemonic)
def test_every_instruction_says_what_it_is(kind: type) -> None:
    assert issubclass(kind, TiuInstruction | TdmaInstruction)
    assert own_docstring(kind) and kind.mnemonic.startswith(("tiu_", "tdma_"))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_every_policy_says_what_it_is(policy: Policy) -> None:
    assert own_docstring(type(policy))


@pytest.mark.parametrize("task", TASKS, ids=lambda t: t.name)
def test_every_task_says_what_it_is(task: Task) -> None:
    assert own_docstring(type(task))


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m.__module__}.{m.__name__}")
def test_every_metric_says_what_it_measures(metric: object) -> None:
    assert metric.__doc__


@pytest.mark.parametrize("name", CPU_FUNCTIONS)
def test_every_cpu_routine_says_what_it_computes(name: str) -> None:
    assert CPU_FUNCTIONS[name].__doc__


@pytest.mark.parametrize("board", BOARDS, ids=lambda b: b.name)
def test_every_board_has_a_chip_of_the_list_and_names_its_sources(board: Board) -> None:
    assert board.chip.name in {chip.name for chip in CHIPS}
    assert board.sources


@pytest.mark.parametrize(
    ("words", "entry"), list(every_entry(COMMANDS)), ids=lambda case: case if isinstance(case, str) else ""
)
def test_every_command_has_help_with_an_example(words: str, entry: Entry, capsys: pytest.CaptureFixture[str]) -> None:
    example = type(entry.load()).__dict__["example"]  # not inherited from another command
    assert f"npusim {words}" in example
    assert example in help_of(words, capsys)


@pytest.mark.parametrize("group", [entry for entry in COMMANDS if entry.actions], ids=lambda group: group.name)
def test_help_of_a_group_lists_its_actions_and_shows_their_examples(
    group: Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(group.name, capsys)
    for action in group.actions:
        assert f"    {action.name} " in shown and action.load().example in shown


def help_of(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        main([*words.split(), "--help"])
    assert exit_info.value.code == 0
    return capsys.readouterr().out
