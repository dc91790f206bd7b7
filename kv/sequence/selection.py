"""What one layer attends to in one step, in the form that a model takes."""

from __future__ import annotations

from dataclasses import dataclass

from kv.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Selection:
    """The keys and values that one layer attends to in one step.

    k, v        float32 [heads, S, head_dim]; heads is kv_heads, or q_heads if each query head has its own selection. A
                view if it is everything
    positions   int64 [S] if all heads share a selection, else [heads, S]; ascending except for padding
    valid       bool of the shape of positions, False for padding; None if there is no padding
    """

    k: FloatArray
    v: FloatArray
    positions: IntArray
    valid: BoolArray | None = None

    def __repr__(self) -> str:
        heads, slots, dim = self.k.shape
        padding = "" if self.valid is None else f", {int((~self.valid).sum())} of them padding"
        return f"<Selection: {slots} slots for {heads} heads of {dim}{padding}>"
