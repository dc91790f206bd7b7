"""Our own functions take at most five arguments by position. Any more are named at the call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("npusim", "kv", "golden", "reference_model")
MOST = 5

Function = ast.FunctionDef | ast.AsyncFunctionDef
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def definitions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file as (file:Class.function, how many arguments it takes by position, self and cls aside)."""

    def visit(node: ast.AST, inside: str, in_class: bool) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{inside}{child.name}.", True)
            elif isinstance(child, Function):
                decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
                bound = in_class and "staticmethod" not in decorators
                count = len(child.args.posonlyargs) + len(child.args.args) - bound
                yield f"{path.relative_to(ROOT).as_posix()}:{inside}{child.name}", count
                yield from visit(child, f"{inside}{child.name}.", False)
            else:
                yield from visit(child, inside, in_class)

    return visit(tree_of(path), "", False)


def dataclasses(path: Path) -> Iterator[str]:
    """Names of the dataclasses and named tuples that a file defines; they may have more than five fields."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ClassDef):
            made_by = [ast.unparse(part) for part in (*node.decorator_list, *node.bases)]
            if any("dataclass" in part or "NamedTuple" in part for part in made_by):
                yield node.name


def long_calls(path: Path, names: set[str]) -> Iterator[str]:
    """file:name of every call to one of `names` with more than five arguments by position."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and len(node.args) > MOST:
            name = ast.unparse(node.func).split(".")[-1]
            if name in names:
                yield f"{path.relative_to(ROOT).as_posix()}:{name}"


def test_no_function_takes_more_than_five_arguments_by_position() -> None:
    over = [name for path in SOURCES for name, count in definitions(path) if count > MOST]
    assert not over, "make the rest keyword-only (after *)"


def test_no_dataclass_is_made_from_more_than_five_arguments_by_position() -> None:
    names = {"cls"} | {name for path in SOURCES for name in dataclasses(path)}
    over = [call for path in SOURCES for call in long_calls(path, names)]
    assert not over, "give the fields by name"
