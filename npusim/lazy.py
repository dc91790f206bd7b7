"""Names of a package that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib import import_module
from typing import Any


def names_from(
    package: dict[str, Any], module_of: Mapping[str, str], rooms: Collection[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for the package whose globals() are `package`. `module_of` has the module of each
    name, relative to the package; `rooms` are its subpackages."""
    here = package["__name__"]

    def get(name: str) -> Any:
        if name in rooms:
            return import_module(f"{here}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {here!r} has no attribute {name!r}")
        package[name] = value = getattr(import_module(f"{here}.{module_of[name]}"), name)
        return value

    def names() -> list[str]:
        return sorted({*package, *module_of, *rooms})

    return get, names
