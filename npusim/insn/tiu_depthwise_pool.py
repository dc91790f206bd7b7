"""Depthwise convolution and pooling: every channel meets its own kernel, or none.

Sources: wwwuxy/cvikernel src/cv181x/tiu_depthwise_convolution.c, tiu_pt_depthwise_convolution.c, tiu_max_pooling.c,
tiu_min_pooling.c, tiu_average_pooling.c."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.operands import INT8, constant_int8, fill_float, fill_int8, fill_pattern, shape_of, tensor
from npusim.insn.post import bias16, bias_float, finish_float, requantize_per_channel, requantize_per_tensor
from npusim.insn.window import Window
from npusim.isa.opcodes import PoolEuTyp, TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import Shape, TensorLmem
from npusim.numerics import bf16
from npusim.numerics.accumulate import STACKED, Span, checked_product, stays_normal, sum_in_order, sum_stacked
from npusim.state import State

F32 = NDArray[np.float32]


class _PerChannel(TiuInstruction):
    """What depthwise convolution and the poolings share: one kernel window that slides over every channel by itself."""

    __slots__ = ()
    eu_typ: PoolEuTyp

    @property
    def dilates(self) -> bool:
        """Whether the kernel is spread as conv_opd1_*_ins0 says; the vendor's model ignores them otherwise, but not in
        the ofmap's size."""
        return False

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.DEPTHWISE_POOL and regs.tsk_eu_typ == cls.eu_typ

    def geometry(self) -> tuple[Window, Shape, Shape]:
        """Window, ifmap and ofmap, checked against each other."""
        ifmap, ofmap = shape_of(self, "opd0"), shape_of(self, "res0")
        kernel = self.regs.opd1_h, self.regs.opd1_w
        self.require(min(kernel) > 0, f"opd1 (h, w) is {kernel}; a kernel has at least one element")
        window = Window.of(self, kernel)
        window.check(self, ifmap, ofmap)
        if not self.dilates:
            window = replace(window, dilation=(1, 1))
        self.require(ifmap[1] == ofmap[1], f"res0_c is {ofmap[1]}, but opd0_c is {ifmap[1]}; channels stay apart here")
        return window, ifmap, ofmap


class _ExtremePooling(_PerChannel):
    """Maximum or minimum of what is under the window."""

    __slots__ = ()
    pick: np.ufunc

    def bind(self, state: State) -> Bound:
        regs = self.regs
        window, _, ofmap = self.geometry()
        dtype = np.uint16 if regs.opd_typ else INT8[regs.opt_opd0_sign]
        opd0, res0 = tensor(self, state, "opd0", dtype), tensor(self, state, "res0", dtype)
        self.require(not regs.opt_relu_typ, f"opt_relu_typ is {regs.opt_relu_typ}; pooling has no ReLU")
        fill = fill_pattern(self) if regs.opd_typ else fill_int8(self)
        pick = type(self).pick

        def run() -> None:
            values = opd0.load()
            if regs.opd_typ:
                values = bf16.to_float(values)
            best = _fold(pick, window.taps(window.extend(values, fill), ofmap[2:]), values.dtype)
            if not regs.opd_typ:  # in int8 the fill value takes part everywhere, in bf16 only where it is filled in
                pick(best, fill, out=best)
            res0.store(bf16.from_float(best) if regs.opd_typ else best)

        return run


class MaxPooling(_ExtremePooling):
    """tiu_max_pooling."""

    __slots__ = ()
    mnemonic = "tiu_max_pooling"
    eu_typ = PoolEuTyp.MAX_POOL
    pick = np.maximum


class MinPooling(_ExtremePooling):
    """tiu_min_pooling; cv183x lacks it."""

    __slots__ = ()
    mnemonic = "tiu_min_pooling"
    eu_typ = PoolEuTyp.MIN_POOL
    pick = np.minimum

    def bind(self, state: State) -> Bound:
        self.require_feature("MIN_POOL")
        return super().bind(state)


class DepthwiseConvolution(_PerChannel):
    """tiu_depthwise_convolution and tiu_pt_depthwise_convolution. Products are summed with kh outside kw; a bf16 bias
    is added last."""

    __slots__ = ()
    mnemonic = "tiu_depthwise_convolution"
    eu_typ = PoolEuTyp.DEPTHWISE

    @property
    def dilates(self) -> bool:
        return not self.regs.opt_chl_quan or "QM_DEPTHWISE_DILATION" in self.chip.extra

    def kernel(self, state: State, ofmap: Shape, dtype: np.dtype) -> Callable[[], NDArray]:
        """Gives the kernel as (c, kh, kw); a constant has one channel."""
        kh, kw = self.regs.opd1_h, self.regs.opd1_w
        if self.regs.opt_opd1_const:
            value = self.regs.opd1_addr if dtype == np.uint16 else constant_int8(self)
            constant = np.full((1, kh, kw), value, dtype)
            return lambda: constant
        self.require(self.regs.opd1_c == ofmap[1], f"opd1_c is {self.regs.opd1_c}, but res0_c is {ofmap[1]}")
        opd1 = tensor(self, state, "opd1", dtype, (1, ofmap[1], kh, kw))
        return lambda: opd1.load()[0]

    def bind(self, state: State) -> Bound:
        regs = self.regs
        self.require(bool(regs.opt_opd1_sign and regs.opt_opd2_sign), "opt_opd1_sign and opt_opd2_sign must be 1 here")
        self.require(bool(regs.opt_rshift_typ), "opt_rshift_typ is 0; a depthwise convolution always rounds (1)")
        return self._bind_bf16(state) if self.regs.opd_typ else self._bind_int8(state)

    def _bind_int8(self, state: State) -> Bound:
        regs = self.regs
        window, _, ofmap = self.geometry()
        opd0, res0 = tensor(self, state, "opd0", INT8[regs.opt_opd0_sign]), tensor(self, state, "res0", np.uint8)
        kernel = self.kernel(state, ofmap, np.dtype(INT8[regs.opt_opd1_sign]))
        if regs.opt_chl_quan:
            finish = requantize_per_channel(self, state)
        else:
            finish = requantize_per_tensor(self, bias16(self, state) if regs.tsk_opd_num == 3 else None)
        fill = fill_int8(self)

        def run() -> None:
            weights = kernel().astype(np.int32)
            taps = window.taps(window.extend(opd0.load(), fill), ofmap[2:])
            sums = np.zeros(ofmap, np.int32)
            for i, j in np.ndindex(*window.kernel):
                sums += taps[i, j] * weights[None, :, i, j, None, None]
            res0.store(finish(sums).astype(np.uint8))

        return run

    def _bind_bf16(self, state: State) -> Bound:
        regs = self.regs
        window, _, ofmap = self.geometry()
        opd0, res0 = tensor(self, state, "opd0", np.uint16), tensor(self, state, "res0", np.uint16)
        kernel = self.kernel(state, ofmap, np.dtype(np.uint16))
        bias = bias_float(self, state) if regs.tsk_opd_num == 3 else None

        def run() -> None:
            sums = _window_sums(window, opd0, kernel(), fill_float(self), ofmap)
            res0.store(finish_float(sums, None if bias is None else bias(), bool(regs.opt_relu_typ)))

        return run


class AveragePooling(_PerChannel):
    """tiu_average_pooling: the sum under the window times a constant, then shifted; bf16 multiplies every element
    before adding."""

    __slots__ = ()
    mnemonic = "tiu_average_pooling"
    eu_typ = PoolEuTyp.AVG_POOL

    def bind(self, state: State) -> Bound:
        regs = self.regs
        window, _, ofmap = self.geometry()
        self.require(bool(regs.opt_opd1_const), "opt_opd1_const is 0; average pooling multiplies by a constant")
        if regs.opd_typ:
            opd0, res0 = tensor(self, state, "opd0", np.uint16), tensor(self, state, "res0", np.uint16)
            constant = np.full((1, *window.kernel), regs.opd1_addr, np.uint16)

            def run_bf16() -> None:
                sums = _window_sums(window, opd0, constant, fill_float(self), ofmap)
                res0.store(finish_float(sums, None, bool(regs.opt_relu_typ)))

            return run_bf16
        opd0, res0 = tensor(self, state, "opd0", INT8[regs.opt_opd0_sign]), tensor(self, state, "res0", np.uint8)
        finish = requantize_per_tensor(self, None)
        fill, factor = fill_int8(self), constant_int8(self)

        def run_int8() -> None:
            taps = window.taps(window.extend(opd0.load(), fill), ofmap[2:])
            sums = _fold(np.add, taps, np.dtype(np.int32))
            sums *= factor
            res0.store(finish(sums).astype(np.uint8))

        return run_int8


def _window_sums(window: Window, opd0: TensorLmem, kernel: NDArray[np.uint16], fill: float, ofmap: Shape) -> F32:
    """Float32 sums of what the window meets times `kernel` (c or 1, kh, kw), kh outside kw."""
    patterns = opd0.load()
    values = window.extend(bf16.to_float(patterns), fill)
    weights = bf16.to_float(kernel)
    normal = stays_normal(window.span(patterns, fill), Span.of_bf16(kernel), kernel[0].size)
    multiply = np.multiply if normal else checked_product
    taps = window.taps(values, ofmap[2:])
    factors = weights.transpose(1, 2, 0)[:, :, None, :, None, None]
    if taps.size <= STACKED:
        return sum_stacked(multiply(taps, factors).reshape(-1, *ofmap), normal)
    terms = (multiply(taps[place], factors[place]) for place in np.ndindex(*window.kernel))
    return sum_in_order(terms, np.zeros(ofmap, np.float32), normal)


def _fold(ufunc: np.ufunc, taps: NDArray, dtype: np.dtype) -> NDArray:
    """`ufunc` over all that lies under the window, axes 0 and 1 of `taps`; a new array."""
    if taps.size <= STACKED:
        return np.asarray(ufunc.reduce(taps, axis=(0, 1), dtype=dtype))
    places = np.ndindex(*taps.shape[:2])
    total = taps[next(places)].astype(dtype)
    for place in places:
        ufunc(total, taps[place], out=total)
    return total


DEPTHWISE_POOL_INSTRUCTIONS: tuple[type[Instruction], ...] = (
    MaxPooling,
    MinPooling,
    DepthwiseConvolution,
    AveragePooling,
)
