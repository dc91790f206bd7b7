"""A loaded model as users of the vendor's cviruntime know it: tensors, forward, memory map, CPU routines."""

from __future__ import annotations

from npusim.runtime.model import Model
from npusim.runtime.tensor import TensorInfo

__all__ = ["Model", "TensorInfo"]
