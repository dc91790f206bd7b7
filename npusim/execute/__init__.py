"""Values: programs bound to a machine's memory, and runs of their commands that are executed as one."""

from __future__ import annotations

from npusim.execute.bound import BoundProgram, execute

__all__ = ["BoundProgram", "execute"]
