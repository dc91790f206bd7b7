"""What `import npusim`, `kv` and the other packages give: every name, documented by an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAZY = ["kv"]
"""Packages whose names are imported when they are first asked for."""
ROOMS = ["kv.memory", "kv.pages", "kv.policies", "kv.sequence"]
EXAMPLES = ["kv"]
"""Modules whose docstring shows how to begin."""
HEAVY = {"npusim", "kv", "golden", "reference_model", "numpy", "rich", "flatbuffers", "gguf", "tokenizers", "ml_dtypes"}


@pytest.mark.parametrize("package", LAZY + ROOMS)
def test_every_name_that_a_door_lists_is_there(package: str) -> None:
    module = importlib.import_module(package)
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None and name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_are_told_of_the_names_that_are_there(package: str) -> None:
    door = importlib.import_module(package)
    source = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    told = {
        alias.asname: f"{node.module}".removeprefix(f"{package}.")
        for block in source.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == door._MODULE_OF


@pytest.mark.parametrize("package", LAZY)
def test_opening_a_door_imports_nothing_else(package: str) -> None:
    script = f"import sys, {package}; print(*(name for name in sys.modules if name.split('.')[0] in {HEAVY!r}))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert out.split() == [package]


@pytest.mark.parametrize("module", EXAMPLES)
def test_the_example_of_a_door_is_short_and_runs(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.DocTestFinder(recurse=False).find(importlib.import_module(module))
    examples = [example for test in found for example in test.examples]
    assert 3 <= len(examples) <= 8
    assert not any(doctest.SKIP in example.options for example in examples)
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0 and result.attempted >= len(examples)
