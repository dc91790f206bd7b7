"""Imports go one way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"npusim", "reference_model", "kv", "golden"}
DOOR = "__init__"
ROOMS = {
    "npusim": (
        "errors",
        "arrays",
        "lazy",
        "html",
        "numerics",
        "heap",
        "chip",
        "board",
        "isa",
        "state",
        "mem",
        "insn",
        "loader",
        "program",
        "execute",
        "sim",
        "runtime",
        "compat",
        "data",
        "kernels",
        "timing",
        "profile",
        "check",
        "llm",
        "evaluation",
        "project_errors",
        DOOR,
        "cli",
    ),
    "kv": ("errors", "arrays", "pages", "memory", "policies", "sequence", "metrics", "tasks", DOOR),
}
"""The rooms of a package, low to high: a room imports itself and the rooms before it here. DOOR is the package's
__init__.py, what `import npusim` gives; a room that writes `from npusim import Machine` imports from there. In kv: ids
below, arrays above, policies on top of both, and a sequence on top of them."""

ALLOWED = {
    "kv": {"kv"},
    "golden": {"golden"},
    "reference_model": {"reference_model", "npusim.numerics", "golden.whole"},
    "npusim/evaluation": {"npusim.evaluation", "npusim.errors", "kv", "reference_model", "golden.whole"},
}
"""Walls beyond the rooms' order: what of ours these folders import."""

LATE = {
    ROOT / "npusim" / "lazy.py",
    ROOT / "npusim" / "cli" / "commands.py",
    *(ROOT / package / "__init__.py" for package in OURS),
}
"""What imports names when they are first asked for, and commands, which are of the room itself, when they are used."""

JOINING = {"llm", "evaluation", "project_errors", "cli"}
"""The rooms that bring npusim and the other packages together."""


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every name that a file imports, with its module ("npusim.chip.Chip"), wherever in the file it does so: inside
    functions and under TYPE_CHECKING too."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and node.level == 0, f"{path}:{node.lineno} imports relatively; name the whole module"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            if path in LATE:
                continue  # what these import late is also imported under TYPE_CHECKING (test_front_doors.py)
            assert isinstance(node.args[0], ast.Constant), f"{path}:{node.lineno} imports what this test cannot see"
            yield str(node.args[0].value)


def is_ours(name: str) -> bool:
    return name.split(".")[0] in OURS


def lies_in(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")


def sources(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found, f"{folder} has no sources"
    return found


def room_of(path: Path) -> str:
    """The room of its package that a source file belongs to."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def room_named(name: str) -> str:
    """The room that an imported name of npusim or kv comes from."""
    package, *rest = name.split(".")
    return next((part for part in rest[:1] if part in ROOMS[package]), DOOR)


@pytest.mark.parametrize("package", sorted(ROOMS))
def test_every_room_has_its_place_in_the_order(package: str) -> None:
    assert len(ROOMS[package]) == len(set(ROOMS[package]))
    assert {room_of(path) for path in sources(package)} == set(ROOMS[package]), "give each room its place in ROOMS"


@pytest.mark.parametrize(("package", "room"), [(package, room) for package in ROOMS for room in ROOMS[package]])
def test_no_room_imports_upwards(package: str, room: str) -> None:
    known = set(ROOMS[package][: ROOMS[package].index(room) + 1])
    for path in sources(package):
        if room_of(path) == room:
            upwards = [name for name in imported(path) if lies_in(name, package) and room_named(name) not in known]
            assert not upwards, f"{path} imports {upwards} from above"


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_package_imports_only_what_lies_below_it(folder: str) -> None:
    for path in sources(folder):
        for name in filter(is_ours, imported(path)):
            assert any(lies_in(name, module) for module in ALLOWED[folder]), f"{path} imports {name}"


def test_only_the_joining_rooms_join_the_packages() -> None:
    for path in sources("npusim"):
        if room_of(path) not in JOINING:
            others = [name for name in imported(path) if is_ours(name) and not lies_in(name, "npusim")]
            assert not others, f"{path} imports {others}"


def test_only_cli_imports_rich() -> None:
    for package in OURS:
        for path in sources(package):
            if package != "npusim" or room_of(path) != "cli":
                assert not any(lies_in(name, "rich") for name in imported(path)), path


def test_isa_has_no_semantics_and_numerics_no_machine() -> None:
    walls = {"isa": {"npusim.isa", "npusim.chip", "npusim.errors"}, "numerics": {"npusim.numerics"}}
    for room, modules in walls.items():
        for path in sources(f"npusim/{room}"):
            for name in filter(is_ours, imported(path)):
                assert any(lies_in(name, module) for module in modules), f"{path} imports {name}"


def test_timing_sees_no_machine() -> None:
    for path in sources("npusim/timing"):
        assert not any(lies_in(name, "npusim.state") for name in imported(path)), path


@pytest.mark.parametrize("package", sorted(OURS))
def test_no_pickle_and_no_eval(package: str) -> None:
    for path in sources(package):
        assert not {"pickle", "marshal", "shelve"} & {name.split(".")[0] for name in imported(path)}, path
        calls = {n.func.id for n in nodes(path) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not {"eval", "exec"} & calls, path
