"""npusim under the name of the vendor's Python binding (docs/as_runtime.md)."""

from __future__ import annotations

import os
import sys

try:
    from npusim.compat import Model, Tensor
except ModuleNotFoundError as error:
    raise ImportError(
        f"pyruntime_cvi should be npusim's, but {sys.executable} has no module {error.name!r}: install npusim for that "
        "Python"
    ) from None

__all__ = ["Model", "Tensor"]

if journal := os.environ.get("NPUSIM_AS_RUNTIME"):
    with open(journal, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
