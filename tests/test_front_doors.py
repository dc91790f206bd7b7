"""Public names of `npusim`, `kv` and the other packages are loaded at first use and have an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import golden
import kv
import npusim
import reference_model
from npusim.cli.commands import COMMANDS, every_entry

ROOT = Path(__file__).parents[1]
MLP = ROOT / "golden" / "data" / "functional" / "mlp_cv181x_int8.cvimodel"
LAZY = ["npusim", "npusim.program", "golden", "kv", "reference_model"]
"""Packages whose names are imported when they are first asked for."""
ROOMS = [
    *("npusim.check", "npusim.evaluation", "npusim.kernels", "npusim.profile", "npusim.runtime", "npusim.timing"),
    *("kv.memory", "kv.pages", "kv.policies", "kv.sequence"),
]
EXAMPLES = [
    *(
        "npusim",
        "npusim.check",
        "npusim.evaluation",
        "npusim.kernels",
        "npusim.llm",
        "npusim.profile",
        "npusim.program",
    ),
    *("npusim.timing", "golden", "kv", "reference_model"),
]
"""Modules whose docstring shows how to begin."""
SHOWN = [*EXAMPLES, "npusim.runtime.model", "npusim.sim", "npusim.kernels.builder", "kv.memory.cache"]
"""All modules with examples."""
OURS = {"npusim", "kv", "golden", "reference_model"}


def source_of(package: str) -> Path:
    return ROOT / package.replace(".", "/") / "__init__.py"


def imported_by(statement: str) -> set[str]:
    """The modules of ours, and the packages of others that are not Python's own, which a statement imports in a fresh
    interpreter."""
    script = (
        "import atexit, sys\nbefore = {*sys.modules}\n"
        "atexit.register(lambda: print('\\n', *{*sys.modules} - before))\n" + statement
    )
    run = [sys.executable, "-c", script]
    output = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    modules = {(name.split(".")[0], name) for name in output.splitlines()[-1].split()}
    known = sys.stdlib_module_names | {package for package, _ in modules if "cython" in package}  # a part of NumPy 1.24
    return {name if package in OURS else package for package, name in modules if package not in known}


@pytest.mark.parametrize("package", LAZY + ROOMS)
def test_every_name_that_a_door_lists_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None and name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_are_told_of_the_names_that_are_there(package: str) -> None:
    door = importlib.import_module(package)
    told = {
        alias.asname: (node.module or "").removeprefix(package).removeprefix(".")
        for block in ast.parse(source_of(package).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == door._MODULE_OF | dict.fromkeys(getattr(door, "_ROOMS", ()), "")


@pytest.mark.parametrize("package", LAZY)
def test_no_name_is_that_of_a_module_of_the_package(package: str) -> None:
    """Importing the module anywhere would put it in the place of the name."""
    folder = source_of(package).parent
    modules = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    assert not modules & set(importlib.import_module(package)._MODULE_OF)


@pytest.mark.parametrize("package", LAZY)
def test_opening_a_door_imports_nothing_else(package: str) -> None:
    assert imported_by(f"import {package}") <= {"npusim", "npusim.lazy", package}


def test_a_bare_chip_needs_no_loader_no_model_and_no_other_package() -> None:
    modules = imported_by("from npusim import CHIPS, Machine\nMachine(CHIPS[0])")
    assert {name.split(".")[0] for name in modules} == {"npusim", "numpy"}
    rooms = {name.split(".")[1] for name in modules if name.startswith("npusim.")}
    assert not rooms & {"loader", "runtime", "kernels", "timing", "profile", "check", "llm", "evaluation", "cli"}


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_the_list_of_commands_is_shown_without_importing_any_of_them(words: list[str]) -> None:
    modules = imported_by(f"from npusim.cli import main\nmain({words})")
    assert not {name.split(".")[0] for name in modules} - OURS, "somebody else's package"
    commands = {f"npusim.cli.{entry.module}" for _, entry in every_entry(COMMANDS)}
    assert not modules & commands and not {name for name in modules if name.startswith("npusim.cli.reporters")}


@pytest.mark.parametrize(
    ("words", "packages"),
    [
        (["run", "--help"], {"numpy", "flatbuffers", "lz4", "rich"}),
        (["disasm", str(MLP), "--json", "/dev/null"], {"numpy", "flatbuffers", "lz4"}),
    ],
)
def test_a_command_imports_what_it_needs_alone(words: list[str], packages: set[str]) -> None:
    modules = imported_by(f"from npusim.cli import main\nmain({words})")
    assert {name.split(".")[0] for name in modules} - OURS <= packages


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_example_of_a_door_is_short(module: str) -> None:
    (found,) = doctest.DocTestFinder(recurse=False).find(importlib.import_module(module))
    assert 3 <= len([example for example in found.examples if not example.source.startswith("import ")]) <= 8


@pytest.mark.parametrize("module", SHOWN)
def test_every_example_runs(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    tests = [test for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples]
    assert not any(doctest.SKIP in example.options for test in tests for example in test.examples)
    runner = doctest.DocTestRunner()
    assert tests and sum(runner.run(test).failed for test in tests) == 0


def test_every_module_with_an_example_is_run() -> None:
    with_examples = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for package in ("npusim", "golden", "kv", "reference_model")
        for path in (ROOT / package).rglob("*.py")
        if "\n>>> " in (text := path.read_text(encoding="utf-8")) or "    >>> " in text
    }
    assert with_examples == set(SHOWN)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: npusim.chip_named("cv999x"),
        lambda: golden.compare({}, {}, "much"),
        lambda: kv.policy_named("nobody"),
        lambda: reference_model.load("nowhere"),
    ],
    ids=["npusim", "golden", "kv", "reference_model"],
)
def test_one_tuple_catches_what_any_package_raises_on_purpose(wrong) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(npusim.ERRORS):
        wrong()


def test_the_tuple_catches_no_mistake_of_ours_or_of_numpy() -> None:
    assert not any(issubclass(error, npusim.ERRORS) for error in (ValueError, AssertionError, TypeError, OSError))
    assert not any(issubclass(ValueError, error) for error in npusim.ERRORS)
