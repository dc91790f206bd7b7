"""The sliding window that convolution, depthwise convolution and pooling share: insertion, padding, stride and
dilation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TiuInstruction
from npusim.mem.tensor import Shape
from npusim.numerics.accumulate import Span
from npusim.numerics.windows import taps

MAX_INSERTED = 14
INSERTED = ("conv_opd0_y_ins0", "conv_opd0_x_ins0", "conv_opd0_y_ins0_last", "conv_opd0_x_ins0_last")
BETWEEN_TAPS = ("conv_opd1_y_ins0", "conv_opd1_x_ins0")


def check_inserted(insn: TiuInstruction, names: Sequence[str] = INSERTED + BETWEEN_TAPS) -> None:
    """Refuses 15 elements in any of the fields `names`, except on cv183x."""
    for name in names:
        value = getattr(insn.regs, name)
        if value > MAX_INSERTED and insn.chip.tiu_layout != "cv183x":
            insn.refuse(f"{name} is {value}; at most {MAX_INSERTED} elements are inserted on {insn.chip.name}")


@dataclass(frozen=True)
class Window:
    """Geometry along h and w: each pair is (h, w)."""

    insert: tuple[int, int]
    insert_last: tuple[int, int]
    pad_before: tuple[int, int]
    pad_after: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    kernel: tuple[int, int]

    @classmethod
    def of(cls, insn: TiuInstruction, kernel: tuple[int, int]) -> Window:
        """The window in a descriptor. Refuses strides of 0."""
        r = insn.regs
        if not (r.conv_op_y_str and r.conv_op_x_str):
            insn.refuse(f"conv_op_y_str {r.conv_op_y_str} and conv_op_x_str {r.conv_op_x_str} must be at least 1")
        return cls(
            insert=(r.conv_opd0_y_ins0, r.conv_opd0_x_ins0),
            insert_last=(r.conv_opd0_y_ins0_last, r.conv_opd0_x_ins0_last),
            pad_before=(r.conv_opd0_up_pad, r.conv_opd0_lf_pad),
            pad_after=(r.conv_opd0_dn_pad, r.conv_opd0_rt_pad),
            stride=(r.conv_op_y_str, r.conv_op_x_str),
            dilation=(r.conv_opd1_y_ins0 + 1, r.conv_opd1_x_ins0 + 1),
            kernel=kernel,
        )

    @property
    def is_plain(self) -> bool:
        """Whether nothing is inserted or padded."""
        return not any(self.insert + self.insert_last + self.pad_before + self.pad_after)

    def extended(self, ifmap: Shape) -> tuple[int, int]:
        """(h, w) of the ifmap after insertion and padding."""
        h, w = (
            (size - 1) * (self.insert[i] + 1) + 1 + self.insert_last[i] + self.pad_before[i] + self.pad_after[i]
            for i, size in enumerate(ifmap[2:])
        )
        return h, w

    def output(self, ifmap: Shape) -> tuple[int, int]:
        """(h, w) of the ofmap; below 1 if the kernel is larger than the extended ifmap."""
        h, w = (
            (size - ((self.kernel[i] - 1) * self.dilation[i] + 1)) // self.stride[i] + 1
            for i, size in enumerate(self.extended(ifmap))
        )
        return h, w

    def check(self, insn: TiuInstruction, ifmap: Shape, ofmap: Shape) -> None:
        """Refuses a result with other extents than those that follow from the ifmap, the kernel and the window."""
        want = (ifmap[0], *self.output(ifmap))
        got = (ofmap[0], ofmap[2], ofmap[3])
        insn.require(
            want == got, f"res0 (n, h, w) is {got}, but opd0 {ifmap} under a {self.kernel} kernel gives {want}"
        )

    def reaches_within(self, ifmap: Shape, ofmap: Shape) -> bool:
        """Whether everything that `taps` takes for an ofmap of these extents is in its channel.

        A window that passes the right edge of the extended ifmap continues in the row below."""
        rows, columns = self.extended(ifmap)
        row, column = ((ofmap[2 + i] - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] for i in range(2))
        return row * columns + column < rows * columns

    def extend(self, values: NDArray, fill: float) -> NDArray:
        """`values` (..., h, w) with `fill` inserted and padded; `values` itself if nothing changes."""
        if self.is_plain:
            return values
        *outer, h, w = values.shape
        result = np.full((*outer, *self.extended((1, 1, h, w))), fill, values.dtype)
        rows = slice(self.pad_before[0], self.pad_before[0] + (h - 1) * (self.insert[0] + 1) + 1, self.insert[0] + 1)
        cols = slice(self.pad_before[1], self.pad_before[1] + (w - 1) * (self.insert[1] + 1) + 1, self.insert[1] + 1)
        result[..., rows, cols] = values
        return result

    def span(self, patterns: NDArray[np.uint16], fill: float) -> Span:
        """Span of bf16 `patterns`, and of the integer `fill` if the window inserts or pads anything."""
        span = Span.of_bf16(patterns)
        return (
            span
            if self.is_plain or not fill
            else replace(span, lowest=min(span.lowest, 127), highest=max(span.highest, 142))
        )

    def taps(self, extended: NDArray, out_hw: tuple[int, int]) -> NDArray:
        """A read-only view (kh, kw, n, c, oh, ow) of `extended` (n, c, h, w): what each kernel element is multiplied
        by."""
        return taps(extended, self.kernel, self.stride, self.dilation, out_hw)
