"""Depthwise convolution, where every channel has its own kernel, and pooling, which has none.

Sources: wwwuxy/cvikernel src/cv181x/tiu_depthwise_convolution.c, tiu_pt_depthwise_convolution.c, tiu_max_pooling.c,
tiu_min_pooling.c, tiu_average_pooling.c."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.operand import Operand, Role, Share
from npusim.insn.operands import (
    Tensors,
    bound,
    checked_shape,
    constant_int8,
    element_fmt,
    fill_float,
    fill_int8,
    fill_pattern,
    result,
    shape_of,
    tensor_of,
    whole,
)
from npusim.insn.post import (
    CHANNEL_RECORDS,
    bias16,
    bias_float,
    finish_float,
    requantize_per_channel,
    requantize_per_tensor,
    require_bias_of_channels,
)
from npusim.insn.rules import Fixed, check_operands, check_short_strides, check_signs
from npusim.insn.window import BETWEEN_TAPS, INSERTED, Window, check_inserted
from npusim.isa.opcodes import PoolEuTyp, TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import TensorLmem
from npusim.mem.tensor import Shape
from npusim.numerics import bf16
from npusim.numerics.accumulate import STACKED, Span, stays_normal
from npusim.numerics.requant import saturate, shift_right
from npusim.numerics.windows import MOST_TAPS, sum_windows, sum_windows_in_order
from npusim.state import State

F32 = NDArray[np.float32]
EXTREME = Fixed(tsk_opd_num=1, opt_opd2_sign=1, opt_res_shift=0)
DEPTHWISE = Fixed(
    opd1_n=1, short_opd1_str=0, short_nchwstr_same=0, opt_opd2_sign=1, opt_rshift_typ=1,
)  # fmt: skip
AVERAGE = Fixed(opt_opd1_sign=0, opt_opd2_sign=1, opt_rshift_typ=1)


_IFMAP = Operand("opd0", Role.READ, "ifmap", whole("opd0"), Share.WINDOW)
_OFMAP = Operand("res0", Role.WRITE, "ofmap", result)


class PerChannel(TiuInstruction):
    """The common part of depthwise convolution and the poolings: a window that slides over each channel separately."""

    __slots__ = ()
    eu_typ: PoolEuTyp
    slides = True
    operands: ClassVar[tuple[Operand, ...]] = (_IFMAP, _OFMAP)
    limited: ClassVar[tuple[str, ...]] = INSERTED + BETWEEN_TAPS
    """Fields that say how many elements are inserted and have a limit, whether they change anything or not."""

    @property
    def dilates(self) -> bool:
        """Whether the kernel is spread as conv_opd1_*_ins0 says; the vendor's model ignores them otherwise, but not in
        the ofmap's size."""
        return False

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.DEPTHWISE_POOL and regs.tsk_eu_typ == cls.eu_typ

    def check_rules(self) -> None:
        """The ofmap may have any extents for which the window stays within the memory of a channel's ifmap."""
        ifmap, ofmap = checked_shape(self, "opd0"), checked_shape(self, "res0")
        kernel = self.regs.opd1_h, self.regs.opd1_w
        regs = self.regs
        self.require(
            self.multiplies or self.is_float == bool(regs.opd_typ),
            "opt_chl_quan is set with opd_typ 1; a pooling of bf16 is not requantised",
        )
        self.require(not regs.opt_opd0_const, "opt_opd0_const is 1; opd0 is a tensor")
        self.require(min(kernel) > 0, f"opd1 (h, w) is {kernel}; a kernel has at least one element")
        self.require(
            ifmap[:2] == ofmap[:2],
            f"res0 (n, c) is {ofmap[:2]}, but opd0 has {ifmap[:2]}; images and channels stay apart here",
        )
        check_inserted(self, self.limited)
        check_short_strides(self)
        check_operands(self)
        if not regs.opd_typ:
            check_signs(self)
        window, _ = self.geometry()
        self.require(
            window.reaches_within(ifmap, ofmap),
            f"res0 (h, w) is {ofmap[2:]}, for which a {kernel} kernel reads beyond opd0 {ifmap}; "
            f"at most {window.output(ifmap)} lies within it",
        )

    def geometry(self) -> tuple[Window, Shape]:
        """Window and ofmap."""
        window = Window.of(self, (self.regs.opd1_h, self.regs.opd1_w))
        return window if self.dilates else replace(window, dilation=(1, 1)), shape_of(self, "res0")


class _ExtremePooling(PerChannel):
    """Maximum or minimum of the elements in the window."""

    __slots__ = ()
    limited = ()
    pick: np.ufunc

    def check_rules(self) -> None:
        super().check_rules()
        EXTREME.check(self)
        regs = self.regs
        self.require(
            regs.opt_res0_sign == regs.opt_opd0_sign,
            f"opt_res0_sign is {regs.opt_res0_sign}; it must be opt_opd0_sign, {regs.opt_opd0_sign}",
        )

    def geometry(self) -> tuple[Window, Shape]:
        """Window and ofmap; nothing is inserted here, whatever conv_opd0_*_ins0 say."""
        window, ofmap = super().geometry()
        return replace(window, insert=(0, 0), insert_last=(0, 0)), ofmap

    def bind_checked(self, state: State) -> Bound:
        regs = self.regs
        window, ofmap = self.geometry()
        opd0, res0 = bound(self, state, "opd0"), bound(self, state, "res0", Role.WRITE)
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

    def check_rules(self) -> None:
        self.require_feature("MIN_POOL")
        super().check_rules()


def _kernel(insn: DepthwiseConvolution) -> Tensors:
    regs = insn.regs
    if regs.opt_opd1_const:
        return ()
    return (tensor_of(insn, "opd1", element_fmt(insn, "opd1"), (1, regs.res0_c, regs.opd1_h, regs.opd1_w)),)


class DepthwiseConvolution(PerChannel):
    """tiu_depthwise_convolution and tiu_pt_depthwise_convolution. Products are summed with kh outside kw; a bf16 bias
    is added last."""

    __slots__ = ()
    mnemonic = "tiu_depthwise_convolution"
    eu_typ = PoolEuTyp.DEPTHWISE
    multiplies = True
    operands = (
        _IFMAP,
        Operand("opd1", Role.READ, "kernel of each channel, or a constant", _kernel, Share.CHANNEL),
        CHANNEL_RECORDS,
        _OFMAP,
    )

    @property
    def dilates(self) -> bool:
        return not self.regs.opt_chl_quan or "QM_DEPTHWISE_DILATION" in self.chip.extra

    def check_rules(self) -> None:
        regs = self.regs
        super().check_rules()
        DEPTHWISE.check(self)
        self.require(
            bool(regs.opt_opd1_sign or regs.opt_opd1_const),
            "opt_opd1_sign is 0; a kernel that is no constant is signed",
        )
        if regs.tsk_opd_num == 3 or regs.opt_chl_quan:
            self.require(regs.short_opd2_str == 2, f"short_opd2_str is {regs.short_opd2_str}; channels are packed (2)")
        self.require(regs.res0_n_str % 16 == 0, f"res0_n_str is {regs.res0_n_str}; it must be a multiple of 16")
        require_bias_of_channels(self)
        if regs.tsk_opd_num == 3 and not regs.opt_chl_quan:
            self.require(not regs.opt_opd2_const, "opt_opd2_const is 1; a bias is a tensor")
        self.require(
            regs.opd1_c == regs.res0_c or bool(regs.opt_opd1_const and regs.opd1_c > regs.res0_c),
            f"opd1_c is {regs.opd1_c}, but res0_c is {regs.res0_c}; the kernel, or its constant, fills opd1_c channels",
        )

    def bind_checked(self, state: State) -> Bound:
        return self._bind_bf16(state) if self.is_float else self._bind_int8(state)

    def _kernel(self, state: State) -> Callable[[], NDArray]:
        """Gives the kernel as (c, kh, kw); a constant has one channel."""
        regs = self.regs
        if not regs.opt_opd1_const:
            opd1 = bound(self, state, "opd1")
            return lambda: opd1.load()[0]
        value = regs.opd1_addr if self.is_float else constant_int8(self)
        if regs.opt_chl_quan and value > 127 and self.chip.tiu_layout != "cv183x":
            value -= 256  # signed, whatever opt_opd1_sign says
        constant = np.full((1, regs.opd1_h, regs.opd1_w), value, np.uint16 if self.is_float else np.int16)
        return lambda: constant

    def _bind_int8(self, state: State) -> Bound:
        window, ofmap = self.geometry()
        opd0, res0, kernel = bound(self, state, "opd0"), bound(self, state, "res0", Role.WRITE), self._kernel(state)
        if self.regs.opt_chl_quan:
            finish = requantize_per_channel(self, state)
        else:
            finish = requantize_per_tensor(self, bias16(self, state))
        fill = fill_int8(self)

        def run() -> None:
            extended = window.extend(opd0.load(), fill)
            sums = sum_windows(extended, kernel(), window.stride, window.dilation, ofmap[2:])
            res0.store(finish(sums))

        return run

    def _bind_bf16(self, state: State) -> Bound:
        window, ofmap = self.geometry()
        opd0, res0, kernel = bound(self, state, "opd0"), bound(self, state, "res0", Role.WRITE), self._kernel(state)
        bias, relu, fill = bias_float(self, state), self.regs.opt_relu_typ == 1, fill_float(self)

        def run() -> None:
            sums = _window_sums(window, opd0, kernel(), fill, ofmap)
            res0.store(finish_float(sums, None if bias is None else bias(), relu))

        return run


class AveragePooling(PerChannel):
    """tiu_average_pooling: the sum under the window times a constant, shifted, and saturated to the sign of opd0; bf16
    multiplies every element before adding. There is no ReLU, whatever opt_relu_typ says."""

    __slots__ = ()
    mnemonic = "tiu_average_pooling"
    eu_typ = PoolEuTyp.AVG_POOL
    limited = INSERTED

    def check_rules(self) -> None:
        super().check_rules()
        AVERAGE.check(self)

    def bind_checked(self, state: State) -> Bound:
        regs = self.regs
        window, ofmap = self.geometry()
        opd0, res0 = bound(self, state, "opd0"), bound(self, state, "res0", Role.WRITE)
        if regs.opd_typ:
            constant = np.full((1, *window.kernel), regs.opd1_addr, np.uint16)

            def run_bf16() -> None:
                sums = _window_sums(window, opd0, constant, fill_float(self), ofmap)
                res0.store(bf16.from_float(sums))

            return run_bf16
        fill, factor, signed = fill_int8(self), constant_int8(self), bool(regs.opt_opd0_sign)

        def run_int8() -> None:
            sums = _window_totals(window, window.extend(opd0.load(), fill), ofmap)
            sums *= factor
            shifted = shift_right(sums if signed else sums.view(np.uint32), regs.opt_res_shift, rounding=True)
            res0.store(saturate(shifted, 8, signed).astype(np.uint8))

        return run_int8


def _window_totals(window: Window, extended: NDArray, ofmap: Shape) -> NDArray[np.int32]:
    """Sums (n, c, oh, ow) of the 8-bit integers under each window."""
    if ofmap[2:] == (1, 1) and window.kernel == extended.shape[2:] and extended[0, 0].size <= MOST_TAPS:
        values = extended.astype(np.float32).reshape(*ofmap[:2], -1)
        return (values @ np.ones(values.shape[2], np.float32)).astype(np.int32).reshape(ofmap)
    return _fold(np.add, window.taps(extended, ofmap[2:]), np.dtype(np.int32))


def _window_sums(window: Window, opd0: TensorLmem, kernel: NDArray[np.uint16], fill: float, ofmap: Shape) -> F32:
    """float32 sums of the elements in the window times `kernel` (c or 1, kh, kw), with kh outermost."""
    patterns = opd0.load()
    values = window.extend(bf16.to_float(patterns), fill)
    weights = bf16.to_float(kernel)
    normal = stays_normal(window.span(patterns, fill), Span.of_bf16(kernel), kernel[0].size)
    return sum_windows_in_order(values, weights, window.stride, window.dilation, ofmap[2:], normal=normal)


def _fold(ufunc: np.ufunc, taps: NDArray, dtype: np.dtype) -> NDArray:
    """`ufunc` over all elements in the window, which are axes 0 and 1 of `taps`; a new array."""
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
