"""Imports go one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"npusim", "reference_model", "kv", "golden"}
ALLOWED = {
    "kv": {"kv"},
    "golden": {"golden"},
    "reference_model": {"reference_model", "npusim.numerics"},
}
JOINING = ("npusim/cli", "npusim/llm", "npusim/evaluation")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_package_imports_only_what_lies_below_it(package: str) -> None:
    for path in sources(package):
        for module in imported(path):
            if module.split(".")[0] in OURS:
                assert any(module == name or module.startswith(name + ".") for name in ALLOWED[package]), (
                    f"{path} imports {module}"
                )


def test_only_cli_llm_and_evaluation_join_the_packages() -> None:
    for path in sources("npusim"):
        where = path.relative_to(ROOT).as_posix()
        for module in imported(path):
            if module.split(".")[0] in OURS - {"npusim"}:
                assert where.startswith(JOINING), f"{path} imports {module}"


def test_only_cli_imports_rich() -> None:
    for package in OURS:
        for path in sources(package):
            if not path.relative_to(ROOT).as_posix().startswith("npusim/cli"):
                assert all(module.split(".")[0] != "rich" for module in imported(path)), path


def test_isa_has_no_semantics_and_numerics_no_machine() -> None:
    for path in sources("npusim/numerics"):
        assert not [m for m in imported(path) if m.startswith("npusim.") and not m.startswith("npusim.numerics")], path


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_pickle_and_no_eval(package: str) -> None:
    for path in sources(package):
        assert not {"pickle", "marshal", "shelve"} & set(imported(path)), path
        calls = {
            n.func.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        assert not {"eval", "exec"} & calls, path
