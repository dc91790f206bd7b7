"""CPU routines of the vendor's runtime, in NumPy. `CPU_FUNCTIONS` is the explicit list; names are those in cvimodels."""

from __future__ import annotations

from collections.abc import Callable

from npusim.errors import FileFormatError
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.quant import quant

CPU_FUNCTIONS: dict[str, Callable[[CpuCall], Bound]] = {
    "quant": quant,
}


def cpu_function_named(name: str) -> Callable[[CpuCall], Bound]:
    """What binds CPU function `name` to its tensors; raises FileFormatError that names it and lists what is known."""
    if name not in CPU_FUNCTIONS:
        known = ", ".join(CPU_FUNCTIONS)
        raise FileFormatError(f"CPU function {name!r} is not implemented, and native code in a model is never run; known: {known}")
    return CPU_FUNCTIONS[name]
