"""A policy from a user's file works as the built-in ones do, and messages about its errors name the line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kv.errors import KVError
from kv.memory.cache import PagedCache
from kv.memory.geometry import Geometry
from kv.policies import policy_named
from kv.sequence.paged_kv import PagedKV

Maker = Callable[..., Any]
G = Geometry(num_layers=1, num_q_heads=4, num_kv_heads=2, head_dim=8, page_size=4)
PAGE = (Path(__file__).parents[2] / "docs" / "write_a_policy.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```python\n(.*?)```", PAGE, re.S)[0]
NO_UNIT = EXAMPLE.replace('name, unit = "mine", Unit.PAGE', 'name = "mine"')


def run(path: Path, spec: str, make_text: Maker, decode: Maker) -> PagedKV:
    store = PagedKV(PagedCache(G, 40), "a", policy_named(f"{path}:{spec}"), 16)
    list(decode(store, make_text(0, 60, G), 50))
    return store


def test_the_example_of_the_docs_prunes_and_has_settings(tmp_path: Path, make_text: Maker, decode: Maker) -> None:
    assert len(EXAMPLE.splitlines()) <= 25
    path = tmp_path / "mypolicy.py"
    path.write_text(EXAMPLE)
    store = run(path, "Mine", make_text, decode)
    assert store.activity.sparse_steps == 10 and store.policy.name == "mine"
    assert policy_named(f"{path}:Mine:strength=2") != policy_named(f"{path}:Mine:strength=3")
    assert run(path, "Mine:page_size=8:sinks=4", make_text, decode).activity.sparse_steps == 10


@pytest.mark.parametrize(
    ("text", "spec", "message"),
    [
        ("x = 1 +\n", "Mine", r"the file failed in line 1 of .*mine.py: SyntaxError"),
        ("\nimport nothing_like_this\n", "Mine", r"the file failed in line 2 of .*ModuleNotFoundError"),
        ("x = 1\n", "Mine", r"has no policy 'Mine': it has none"),
        (EXAMPLE, "Other", r"has no policy 'Other': it has Mine"),
        (EXAMPLE, "Mine:weakness=1", r"has no setting 'weakness': it has strength, page_size, recent, sinks"),
        (NO_UNIT, "Mine", r"Mine failed in .*has no attribute 'unit'"),
    ],
    ids=["syntax", "import", "no class", "another class", "a setting", "no unit"],
)
def test_a_file_without_the_policy_is_refused_in_a_sentence(text: str, spec: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(KVError, match=message):
        policy_named(f"{tmp_path / 'mine.py'}:{spec}")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", r"scores failed in line \d+ of .*mine.py: ZeroDivisionError: division by zero"),
        ("return np.zeros((3, 2))", r"scores, line \d+ of .* gives \(3, 2\): it must give an array of \(1, 13\) or"),
        ("return None", "gives NoneType: it must give an array"),
        ("return np.zeros((1, self.num_pages), int)", "gives int64: it must give floats"),
        ("return np.full((1, self.num_pages), np.nan)", "gives NaN: it must give floats, none of them NaN"),
    ],
)
def test_scores_that_fail_or_are_none_are_refused_with_the_line(
    body: str, message: str, tmp_path: Path, make_text: Maker, decode: Maker
) -> None:
    lines = EXAMPLE.splitlines()
    at = next(number for number, line in enumerate(lines) if "def scores" in line)
    (tmp_path / "mine.py").write_text("\n".join([*lines[: at + 1], f"        {body}", *lines[at + 1 :]]))
    with pytest.raises(KVError, match=message):
        run(tmp_path / "mine.py", "Mine", make_text, decode)


def test_a_file_that_is_none_or_is_named_alone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KVError, match=r"cannot read the policy .*absent.py: No such file"):
        policy_named(f"{tmp_path / 'absent.py'}:Mine")
    with pytest.raises(KVError, match=r"mine.py is a file: name the policy in it too, as mine.py:MyPolicy"):
        policy_named("mine.py")
