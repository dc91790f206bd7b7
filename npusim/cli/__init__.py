"""The `npusim` command. The only package that prints, and the only one that imports rich."""

from __future__ import annotations

from npusim.cli.main import main

__all__ = ["main"]
