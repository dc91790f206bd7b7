"""The vendor's Python binding on npusim, and what puts it in that binding's place (docs/as_runtime.md)."""

from __future__ import annotations

from npusim.compat.binding import Model, Tensor

__all__ = ["Model", "Tensor"]
