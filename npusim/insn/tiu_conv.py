"""Convolution: int8 with one shift or per-channel multipliers, bf16, and partial sums (ps32) in every mode."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.columns import Columns
from npusim.insn.operand import Operand, Role, Share
from npusim.insn.operands import (
    Planes,
    Tensors,
    bound,
    bound_planes,
    checked_shape,
    constant_int8,
    element_fmt,
    fill_float,
    fill_int8,
    per_channel,
    planes_of,
    result,
    shape_of,
    whole,
)
from npusim.insn.post import (
    CHANNEL_RECORDS,
    READ_PS32,
    WRITE_PS32,
    bias16,
    bias_float,
    channel_records,
    finish_float,
    requantize_per_channel,
    requantize_per_tensor,
    require_bias_of_channels,
)
from npusim.insn.rules import Fixed, check_operands, check_signs, check_small_strides
from npusim.insn.window import Window, check_inserted
from npusim.isa.opcodes import TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import TensorLmem
from npusim.mem.tensor import Shape
from npusim.numerics import bf16
from npusim.numerics.accumulate import LARGEST, Span, dot_exact, dot_in_order, stays_normal
from npusim.state import State

FIXED = Fixed(
    short_opd0_str=0, short_opd1_str=1, short_nchwstr_same=0, opt_res_add=0,
    opt_opd0_const=0,
)  # fmt: skip
PARTIAL = Fixed(opt_relu_typ=0, opt_res_shift=0, tsk_opd_num=2)
"""Where the sum goes back unfinished."""
BIAS = Fixed(opt_opd2_const=0, opt_opd2_seg=0, short_opd2_str=2)
QUANTISED = Fixed(opt_rshift_typ=1, short_opd2_str=2, opt_opd2_const=0)
"""By the records of channels."""


def _kernel(insn: Convolution) -> Tensors:
    """kh * kw * ic packed elements for each channel of the result, in the order in which products are summed."""
    if insn.regs.opt_opd1_const:
        return ()
    ic, _, kh, kw = shape_of(insn, "opd1")
    return (per_channel(insn, "opd1", kh * kw * ic, element_fmt(insn, "opd1")),)


def _partial_sums(insn: Convolution) -> Tensors:
    """32 bits in planes: four of bytes, or two of halves."""
    (res0,) = result(insn)
    return planes_of(res0, 4 // res0.itemsize, insn.regs.res0_b_str)


class Convolution(TiuInstruction):
    """tiu_convolution and tiu_pt_convolution (wwwuxy/cvikernel src/cv181x/tiu_convolution.c, tiu_pt_convolution.c).

    Products are summed with kh outermost, then kw, then ic; a bf16 bias is added last.
    """

    __slots__ = ()
    mnemonic = "tiu_convolution"
    slides, inner, multiplies = True, "opd0_c", True
    operands = (
        Operand("opd0", Role.READ, "ifmap", whole("opd0")),
        Operand("opd1", Role.READ, "kernel of each channel of the result, or a constant", _kernel, Share.CHANNEL),
        CHANNEL_RECORDS._replace(places=lambda insn: () if insn.regs.ps32_md & WRITE_PS32 else channel_records(insn)),
        Operand(
            "res0", Role.ACCUMULATE, "partial sum of 32 bits, in planes",
            lambda insn: _partial_sums(insn) if insn.regs.ps32_md & READ_PS32 else (), Share.ELEMENT,
        ),
        Operand(
            "res0", Role.WRITE, "ofmap, or a partial sum",
            lambda insn: _partial_sums(insn) if insn.regs.ps32_md & WRITE_PS32 else result(insn),
        ),
    )  # fmt: skip

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.CONV

    def check_rules(self) -> None:
        regs = self.regs
        ifmap, ofmap, weight = (checked_shape(self, name) for name in ("opd0", "res0", "opd1"))
        window = Window.of(self, weight[2:])
        check_inserted(self)
        window.check(self, ifmap, ofmap)
        self.require(
            weight[:2] == (ifmap[1], ofmap[1]),
            f"opd1 (ic, oc) is {weight[:2]}, but opd0 and res0 have {(ifmap[1], ofmap[1])}",
        )
        FIXED.check(self)
        check_small_strides(self)
        self.require(
            regs.short_res0_str in (0, 3),
            f"short_res0_str is {regs.short_res0_str}; the ofmap lies at aligned strides (0) or gives its own (3)",
        )
        check_operands(self)
        self.require(regs.res0_n_str % 16 == 0, f"res0_n_str is {regs.res0_n_str}; it must be a multiple of 16")
        require_bias_of_channels(self)
        if regs.ps32_md & WRITE_PS32:
            PARTIAL.check(self)
        elif regs.tsk_opd_num == 3 and not regs.opt_chl_quan:
            BIAS.check(self)
        if not self.is_float:
            for name in ("opt_opd0_seg", "opt_opd1_seg"):
                self.require(getattr(regs, name) > 0, f"{name} is 0; int8 has one plane (1)")
        if not regs.opd_typ:
            check_signs(self)
        if regs.opt_chl_quan:
            QUANTISED.check(self)
            self.require(regs.opt_res0_seg > 0, "opt_res0_seg is 0; what multipliers requantise has 8 bits (1)")
        self.require(
            not (regs.opt_chl_quan and regs.ps32_md & WRITE_PS32),
            (
                f"opt_chl_quan with ps32_md {regs.ps32_md}; the multiplier is applied only where the sum is "
                "finished (0 or 1)"
            ),
        )
        if regs.double_conv:
            self._check_pairs()

    def _check_pairs(self) -> None:
        regs = self.regs
        self.require(not self.is_float, "double_conv is set, but two-channel mode exists for int8 only")
        self.require(
            regs.opd0_c % 2 == 0 and regs.opd0_c >= 4,
            f"double_conv is set, but opd0_c is {regs.opd0_c}; channels are taken in pairs, from 4 on",
        )
        addrs = (regs.opd0_addr, regs.opd1_addr)
        self.require(
            addrs[0] % 2 == 0 and (bool(regs.opt_opd1_const) or addrs[1] % 2 == 0),
            f"double_conv is set, but opd0_addr and opd1_addr are {addrs[0]:#x} and {addrs[1]:#x}; both must be even",
        )

    def pairs_channels(self) -> bool:
        return bool(self.regs.double_conv)

    def bind_checked(self, state: State) -> Bound:
        ofmap, weight = shape_of(self, "res0"), shape_of(self, "opd1")
        window = Window.of(self, weight[2:])
        return self._bind_bf16(state, window, ofmap) if self.is_float else self._bind_int8(state, window, ofmap)

    def _weights(self, state: State) -> TensorLmem | None:
        return None if self.regs.opt_opd1_const else bound(self, state, "opd1")

    def _sums(self, state: State) -> tuple[Planes | None, Planes]:
        """The partial sum that the result starts from, if any, and where the result goes."""
        end = bound_planes(self, state, "res0", Role.WRITE)
        assert end is not None
        return bound_planes(self, state, "res0", Role.ACCUMULATE), end

    def _bind_int8(self, state: State, window: Window, ofmap: Shape) -> Bound:
        regs = self.regs
        opd0, opd1, fill = bound(self, state, "opd0"), self._weights(state), fill_int8(self)
        start, result = self._sums(state)
        if regs.opt_chl_quan:
            finish = requantize_per_channel(self, state)
        else:
            finish = requantize_per_tensor(self, bias16(self, state))
        constant = np.full((ofmap[1], 1), constant_int8(self), np.int16)
        count = math.prod(window.kernel) * regs.opd0_c
        largest = (128 if regs.opt_opd0_sign else 255) * (128 if regs.opt_opd1_sign else 255)
        columns = Columns(state, opd0, window, fill, ofmap)
        unfinished = start is not None or regs.ps32_md & WRITE_PS32

        def run() -> None:
            weights = _weight_rows(opd1, constant, count).astype(np.float32)
            parts = []
            for _, block in columns.blocks(lambda: opd0.load_as(np.float32)):
                sums = _folded(dot_exact(weights, block, largest), ofmap)
                parts.append(sums if unfinished else finish(sums))
            total = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
            if unfinished:
                total = total.astype(np.int32)
            if start is not None:
                total += start.load_int(signed=True)
            if regs.ps32_md & WRITE_PS32:
                result.store_int(total)
            else:
                result.store(finish(total) if unfinished else total)

        return run

    def _bind_bf16(self, state: State, window: Window, ofmap: Shape) -> Bound:
        regs = self.regs
        opd0, opd1, fill = bound(self, state, "opd0"), self._weights(state), fill_float(self)
        partial, result = self._sums(state)
        bias = bias_float(self, state)
        constant, count = np.full((ofmap[1], 1), regs.opd1_addr, np.uint16), math.prod(window.kernel) * regs.opd0_c
        columns = Columns(state, opd0, window, fill, ofmap)

        def run() -> None:
            patterns, weights = opd0.load(), _weight_rows(opd1, constant, count)
            start = None if partial is None else _partial_sum(partial.load_float())
            spans = Span.of_bf16(weights), window.span(patterns, fill)
            normal = stays_normal(*spans, count, None if start is None else Span.of_float32(start))
            left, parts = bf16.to_float(weights), []
            for rows, block in columns.blocks(lambda: bf16.to_float(patterns)):
                begin = None if start is None else start[:, :, rows].transpose(1, 0, 2, 3).reshape(ofmap[1], -1)
                parts.append(_folded(dot_in_order(left, block, normal, begin), ofmap))
            sums = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
            if regs.ps32_md & WRITE_PS32:
                result.store_float(sums)
            else:
                result.store(finish_float(sums, None if bias is None else bias(), regs.opt_relu_typ == 1))

        return run


def _partial_sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """A float32 partial sum as a convolution reads it back: infinity and NaN are the largest number, denormals zero."""
    return bf16.flush(np.where(np.isfinite(values), values, LARGEST))


def _weight_rows(opd1: TensorLmem | None, constant: NDArray, count: int) -> NDArray:
    return np.broadcast_to(constant, (len(constant), count)) if opd1 is None else opd1.load()[0, :, 0]


def _folded(products: NDArray, ofmap: Shape) -> NDArray:
    """Products (oc, n * rows * ow) as those rows of an ofmap, (n, oc, rows, ow)."""
    n, oc, _, ow = ofmap
    return products.reshape(oc, n, -1, ow).swapaxes(0, 1)


CONV_INSTRUCTIONS: tuple[type[Instruction], ...] = (Convolution,)
