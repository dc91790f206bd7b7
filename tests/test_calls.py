"""Our own functions take at most five arguments by position; what is more has a name at the call."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("npusim", "kv", "golden", "reference_model")
MOST = 5

TODO = {
    "npusim/check/checker.py:Cmdbuf(...)",
    "npusim/check/local.py:_Run._race",
    "npusim/insn/operands.py:per_channel",
    "npusim/insn/operands.py:planes",
    "npusim/insn/operands.py:tensor",
    "npusim/insn/tdma_copy.py:GeneralCopy._bytes",
    "npusim/insn/tdma_matrix.py:MatrixTransfer.bind_pieces",
    "npusim/insn/tdma_transfer.py:_step",
    "npusim/insn/window.py:cls(...)",
    "npusim/kernels/emit.py:Relocation(...)",
    "npusim/kernels/tensors.py:Mg(...)",
    "npusim/kernels/tensors.py:Tg(...)",
    "npusim/kernels/tiu_calls.py:TiuCalls._pool",
    "npusim/mem/gmem.py:gmem_tensor",
    "npusim/mem/lmem.py:TensorLmem.__init__",
    "npusim/mem/lmem.py:lmem_tensor",
    "npusim/profile/pmu.py:PmuRecords(...)",
    "npusim/profile/pmu.py:_tdma_part",
    "npusim/profile/pmu_csv.py:LayerRecord(...)",
    "npusim/profile/pmu_csv.py:PmuRecords(...)",
    "npusim/profile/trace.py:_slice",
    "npusim/program/disasm.py:Command(...)",
    "npusim/program/dmabuf.py:_check_span",
    "npusim/timing/kinds.py:_kinds",
}
"""What is still over the limit: function definitions, and calls of a dataclass (...). This list only gets shorter."""

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
                yield f"{path.relative_to(ROOT).as_posix()}:{name}(...)"


@cache
def over_the_limit() -> tuple[set[str], set[str]]:
    """Functions, and calls of dataclasses, with more than five arguments by position."""
    names = {"cls"} | {name for path in SOURCES for name in dataclasses(path)}
    functions = {name for path in SOURCES for name, count in definitions(path) if count > MOST}
    return functions, {call for path in SOURCES for call in long_calls(path, names)}


def test_no_function_takes_more_than_five_arguments_by_position() -> None:
    functions, _ = over_the_limit()
    assert not functions - TODO, "make the rest keyword-only (after *)"


def test_no_dataclass_is_made_from_more_than_five_arguments_by_position() -> None:
    _, calls = over_the_limit()
    assert not calls - TODO, "give the fields by name"


def test_the_list_of_what_is_over_the_limit_only_gets_shorter() -> None:
    functions, calls = over_the_limit()
    assert not TODO - functions - calls, "take these off TODO: they are within the limit, or gone"
