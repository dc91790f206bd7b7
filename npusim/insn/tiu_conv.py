"""Convolution: int8 with one shift or per-channel multipliers, bf16, and partial sums (ps32) in every mode."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.operands import INT8, constant_int8, fill_float, fill_int8, per_channel, planes, shape_of, tensor
from npusim.insn.post import (
    READ_PS32,
    WRITE_PS32,
    bias16,
    bias_float,
    finish_float,
    requantize_per_channel,
    requantize_per_tensor,
    require_relu_of_signed,
)
from npusim.insn.window import Window
from npusim.isa.opcodes import TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import Shape, TensorLmem
from npusim.numerics import bf16
from npusim.numerics.accumulate import LARGEST, Span, dot_exact, dot_in_order, stays_normal
from npusim.state import State


class Convolution(TiuInstruction):
    """tiu_convolution and tiu_pt_convolution (wwwuxy/cvikernel src/cv181x/tiu_convolution.c, tiu_pt_convolution.c).

    Products are summed with kh outermost, then kw, then ic; a bf16 bias is added last.
    """

    __slots__ = ()
    mnemonic = "tiu_convolution"

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.CONV

    def bind(self, state: State) -> Bound:
        regs = self.regs
        ifmap, ofmap, weight = shape_of(self, "opd0"), shape_of(self, "res0"), shape_of(self, "opd1")
        window = Window.of(self, weight[2:])
        window.check(self, ifmap, ofmap)
        self.require(
            weight[:2] == (ifmap[1], ofmap[1]),
            f"opd1 (ic, oc) is {weight[:2]}, but opd0 and res0 have {(ifmap[1], ofmap[1])}",
        )
        self.require(
            regs.short_opd0_str == 0,
            f"short_opd0_str is {regs.short_opd0_str}; a convolution reads opd0 at aligned strides (0)",
        )
        self.require(regs.res0_n_str % 16 == 0, f"res0_n_str is {regs.res0_n_str}; it must be a multiple of 16")
        require_relu_of_signed(self)
        self.require(
            not (regs.opt_chl_quan and regs.ps32_md & WRITE_PS32),
            (
                f"opt_chl_quan with ps32_md {regs.ps32_md}; the multiplier is applied only where the sum is "
                "finished (0 or 1)"
            ),
        )
        if regs.opd_typ:
            self.require(not regs.double_conv, "double_conv is set, but two-channel mode exists for int8 only")
            return self._bind_bf16(state, window, ofmap)
        return self._bind_int8(state, window, ofmap)

    def _weights(self, state: State, dtype: np.dtype) -> TensorLmem | None:
        """opd1 as (1, oc, 1, kh * kw * ic), in the order in which products are summed; None for a constant."""
        if self.regs.opt_opd1_const:
            return None
        ic, _, kh, kw = shape_of(self, "opd1")
        return per_channel(self, state, "opd1", kh * kw * ic, dtype)

    def _bind_int8(self, state: State, window: Window, ofmap: Shape) -> Bound:
        regs = self.regs
        opd0 = tensor(self, state, "opd0", INT8[regs.opt_opd0_sign])
        weight_type = np.dtype(INT8[regs.opt_opd1_sign])
        opd1 = self._weights(state, weight_type)
        fill = fill_int8(self)
        partial = planes(self, state, "res0", np.uint8, 4, regs.res0_b_str) if regs.ps32_md else None
        result = tensor(self, state, "res0", np.uint8)
        if regs.opt_chl_quan:
            finish = requantize_per_channel(self, state)
        else:
            finish = requantize_per_tensor(self, bias16(self, state) if regs.tsk_opd_num == 3 else None)
        constant, count = np.full((ofmap[1], 1), constant_int8(self), np.int16), math.prod(window.kernel) * regs.opd0_c
        largest = (128 if regs.opt_opd0_sign else 255) * (128 if regs.opt_opd1_sign else 255)

        def run() -> None:
            weights = _weight_rows(opd1, constant, count).astype(np.float32)
            sums = np.empty(ofmap, np.int32)
            for rows, columns in _columns(window, window.extend(opd0.load(), fill, np.float32), ofmap):
                _put(sums, rows, dot_exact(weights, columns, largest))
            if regs.ps32_md & READ_PS32 and partial:
                sums += partial.load_int(signed=True)
            if regs.ps32_md & WRITE_PS32 and partial:
                partial.store_int(sums)
            else:
                result.store(finish(sums))

        return run

    def _bind_bf16(self, state: State, window: Window, ofmap: Shape) -> Bound:
        regs = self.regs
        opd0 = tensor(self, state, "opd0", np.uint16)
        opd1 = self._weights(state, np.dtype(np.uint16))
        constant, count = np.full((ofmap[1], 1), regs.opd1_addr, np.uint16), math.prod(window.kernel) * regs.opd0_c
        bias = bias_float(self, state) if regs.tsk_opd_num == 3 else None
        partial = planes(self, state, "res0", np.uint16, 2, regs.res0_b_str) if regs.ps32_md else None
        result = tensor(self, state, "res0", np.uint16)
        fill = fill_float(self)

        def run() -> None:
            patterns, weights = opd0.load(), _weight_rows(opd1, constant, count)
            start = _partial_sum(partial.load_float()) if regs.ps32_md & READ_PS32 and partial else None
            spans = Span.of_bf16(weights), window.span(patterns, fill)
            normal = stays_normal(*spans, count, None if start is None else Span.of_float32(start))
            left, sums = bf16.to_float(weights), np.empty(ofmap, np.float32)
            for rows, columns in _columns(window, window.extend(bf16.to_float(patterns), fill, np.float32), ofmap):
                begin = None if start is None else start[:, :, rows].transpose(1, 0, 2, 3).reshape(ofmap[1], -1)
                _put(sums, rows, dot_in_order(left, columns, normal, begin))
            if regs.ps32_md & WRITE_PS32 and partial:
                partial.store_float(sums)
            else:
                result.store(finish_float(sums, None if bias is None else bias(), bool(regs.opt_relu_typ)))

        return run


def _partial_sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A float32 partial sum as a convolution reads it back: infinity and NaN are the largest number, denormals zero."""
    return bf16.flush(np.where(np.isfinite(values), values, LARGEST))


def _weight_rows(opd1: TensorLmem | None, constant: NDArray, count: int) -> NDArray:
    return np.broadcast_to(constant, (len(constant), count)) if opd1 is None else opd1.load()[0, :, 0]


def _columns(
    window: Window, extended: NDArray[np.float32], ofmap: Shape
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Rows of the result, and under each of their elements what its kernel meets, in the order of summation.

    Shape (kh * kw * ic, n * rows * ow); as many rows at once as keep it within a processor's cache.
    """
    taps = window.taps(extended, ofmap[2:]).transpose(0, 1, 3, 2, 4, 5)
    count = math.prod(taps.shape[:3])
    num_rows = max(1, _MAX_COLUMNS // (count * ofmap[0] * ofmap[3]))
    for first in range(0, ofmap[2], num_rows):
        rows = slice(first, first + num_rows)
        yield rows, taps[..., rows, :].reshape(count, -1)


_MAX_COLUMNS = 1 << 18
"""Elements of `_columns` at once."""


def _put(sums: NDArray, rows: slice, products: NDArray) -> None:
    """Stores `products`, shape (oc, n * rows * ow), as `rows` of `sums`, shape (n, oc, oh, ow), in its type."""
    part = sums[:, :, rows].transpose(1, 0, 2, 3)
    np.copyto(part, products.reshape(part.shape), casting="unsafe")


CONV_INSTRUCTIONS: tuple[type[Instruction], ...] = (Convolution,)
