"""What `import npusim`, `kv` and the other packages give: every name, late, with an example that runs."""

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

ROOT = Path(__file__).parents[1]
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
OTHERS = {"kv", "golden", "reference_model", "rich", "flatbuffers", "lz4", "gguf", "tokenizers", "ml_dtypes", "numpy"}


def source_of(package: str) -> Path:
    return ROOT / package.replace(".", "/") / "__init__.py"


def imported_by(statement: str) -> set[str]:
    """The modules of ours, and the heavy ones of others, that a fresh interpreter has after a statement."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = [sys.executable, "-c", script]
    modules = subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()
    return {name for name in modules if name.split(".")[0] in OTHERS | {"npusim"}}


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
    assert not {name for name in modules if name.split(".")[0] in OTHERS - {"numpy"}}
    rooms = {name.split(".")[1] for name in modules if name.startswith("npusim.")}
    assert not rooms & {"loader", "runtime", "kernels", "timing", "profile", "check", "llm", "evaluation", "cli"}


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
