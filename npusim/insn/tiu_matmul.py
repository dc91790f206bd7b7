"""Matrix multiplication. A matrix row is spread over lanes in pieces of w columns, so a tensor (n, c, 1, w) holds n
rows of c * w columns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.operand import Operand, Role, Share
from npusim.insn.operands import (
    Tensors,
    bound,
    bound_planes,
    checked_shape,
    element_fmt,
    planes_at,
    planes_of,
    shape_of,
    tensor_of,
)
from npusim.insn.post import (
    READ_PS32,
    WRITE_PS32,
    Finish,
    finish_float,
    quantize_by_register,
    requantize_per_tensor,
)
from npusim.insn.rules import BIAS, Fixed, check_operands, check_signs
from npusim.isa.opcodes import TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import lmem_tensor
from npusim.mem.tensor import Fmt, LocalTensor
from npusim.numerics.accumulate import dot_exact, dot_patterns
from npusim.state import State

FIXED = Fixed(
    res0_h=1, opd0_h=1, opd1_h=1, opd2_n=1, opt_opd0_seg=1, opt_opd1_seg=1, opt_left_tran=0, short_nchwstr_same=0,
    opt_opd0_const=0, opt_opd1_const=0, opt_opd2_seg=0, tens_lookup=0, tens_mdsum=0,
)  # fmt: skip
PARTIAL = Fixed(opt_chl_quan=0, opt_relu_typ=0, opt_res_shift=0)
"""Where the sum goes back unfinished."""


def _left(insn: MatrixMultiplication) -> LocalTensor:
    return tensor_of(insn, "opd0", element_fmt(insn, "opd0"))


def _left_pieces(insn: MatrixMultiplication) -> Tensors:
    """opd0, whose last channel holds only opd1_w columns."""
    left = _left(insn)
    n, c, h, _ = left.shape
    last = left.channels(c - 1, 1, insn.chip)._replace(shape=(n, 1, h, insn.regs.opd1_w))
    return (left.channels(0, c - 1, insn.chip), last) if c > 1 else (last,)


def _right(insn: MatrixMultiplication) -> Tensors:
    _, c, _, w = shape_of(insn, "res0")
    return (tensor_of(insn, "opd1", element_fmt(insn, "opd1"), (insn.regs.opd1_n, c, 1, w)),)


def _matrices(insn: MatrixMultiplication, name: str, rows: int, count: int) -> Tensors:
    """The planes of the result or of the bias, one whole matrix apart."""
    _, c, h, w = shape_of(insn, "res0")
    first = tensor_of(insn, name, Fmt.BF16 if insn.is_float else Fmt.U8, (rows, c, h, w))
    return planes_of(first, count, rows * first.stride[0])


def _partial_sums(insn: MatrixMultiplication) -> Tensors:
    return _matrices(insn, "res0", insn.regs.res0_n, 2 if insn.is_float else 4)


def _partial_in(insn: MatrixMultiplication) -> Tensors:
    return _partial_sums(insn) if insn.regs.ps32_md & READ_PS32 else ()


def _added(insn: MatrixMultiplication) -> Tensors:
    return _matrices(insn, "res0", insn.regs.res0_n, 2) if insn.regs.opt_res_add else ()


def _bias(insn: MatrixMultiplication) -> Tensors:
    regs = insn.regs
    if regs.tsk_opd_num != 3 or regs.ps32_md & WRITE_PS32:
        return ()
    return _matrices(insn, "opd2", 1, 4 if regs.opt_chl_quan else 2)


def _result(insn: MatrixMultiplication) -> Tensors:
    regs = insn.regs
    if regs.ps32_md & WRITE_PS32:
        return _partial_sums(insn)
    return _matrices(insn, "res0", regs.res0_n, 1 if insn.is_float or regs.opt_res0_seg else 2)


class MatrixMultiplication(TiuInstruction):
    """tiu_matrix_multiplication and its quantised twin (wwwuxy/cvikernel src/cv181x/tiu_matrix_multiplication.c,
    *_qm.c).

    bf16 products are summed with the column inside a piece (w) outermost and the piece (c) innermost; the bias is added
    last."""

    __slots__ = ()
    mnemonic = "tiu_matrix_multiplication"
    inner, multiplies = "opd1_n", True
    operands = (
        Operand("opd0", Role.READ, "left matrix", _left_pieces, Share.ROW, in_pieces=True),
        Operand("opd1", Role.READ, "right matrix", _right, Share.COLUMN),
        Operand("res0", Role.ACCUMULATE, "sum so far, of 16 bits", _added, Share.ELEMENT),
        Operand("res0", Role.ACCUMULATE, "partial sum of 32 bits, in planes", _partial_in, Share.ELEMENT),
        Operand("opd2", Role.READ, "bias of each column, in planes", _bias, Share.COLUMN),
        Operand("res0", Role.WRITE, "product, or a partial sum, in planes", _result),
    )

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.FC

    def check_rules(self) -> None:
        regs = self.regs
        left, res = checked_shape(self, "opd0"), checked_shape(self, "res0")
        count = left[3] * (left[1] - 1) + regs.opd1_w
        self.require(
            res[0] == left[0], f"res0_n is {res[0]}, but opd0_n is {left[0]}; each row of opd0 gives one of res0"
        )
        self.require(
            regs.opd1_c == res[1],
            f"opd1_c is {regs.opd1_c}, but res0_c is {res[1]}; columns of opd1 are columns of res0",
        )
        self.require(
            0 < regs.opd1_w <= left[3],
            f"opd1_w is {regs.opd1_w}; the last piece of an opd0 row has 1 to {left[3]} columns",
        )
        self.require(count == regs.opd1_n, f"opd1_n is {regs.opd1_n}, but opd0 rows have {count} columns")
        self.require(
            regs.short_opd0_str == regs.short_opd1_str == regs.short_res0_str == 0,
            "matrices lie at aligned strides (short_*_str 0)",
        )
        FIXED.check(self)
        check_operands(self)
        self._check_post()
        self.require(not (self.is_float and regs.opt_res_add), "opt_res_add is set, but bf16 cannot add to the result")

    def _check_post(self) -> None:
        regs = self.regs
        if regs.ps32_md & WRITE_PS32:
            PARTIAL.check(self)
        elif regs.opt_chl_quan:
            self.require(regs.opt_res0_seg == 1, f"opt_res0_seg is {regs.opt_res0_seg}; it must be 1 here")
        self.require(regs.short_opd2_str != 3, "short_opd2_str is 3; a bias lies at aligned strides (0)")
        if regs.tsk_opd_num == 3:
            BIAS.check(self)
            columns = regs.res0_c * regs.res0_w
            self.require(
                regs.opd2_c * regs.opd2_w == columns,
                f"opd2 (c, w) is {(regs.opd2_c, regs.opd2_w)}; a bias has one element for each of {columns} columns",
            )
        if not regs.opd_typ:
            check_signs(self)

    def bind_checked(self, state: State) -> Bound:
        _, c, _, w = shape_of(self, "opd0")
        order = np.arange(c * w).reshape(c, w).T.reshape(-1)
        order = order[order < self.regs.opd1_n]
        return self._bind_bf16(state, order) if self.is_float else self._bind_int8(state, order)

    def _bind_int8(self, state: State, order: NDArray[np.int64]) -> Bound:
        regs, res = self.regs, shape_of(self, "res0")
        opd0, opd1 = lmem_tensor(state, _left(self), "opd0"), bound(self, state, "opd1")
        result, partial = bound_planes(self, state, "res0", Role.WRITE), planes_at(state, _partial_in(self), "res0")
        assert result is not None
        largest = (128 if regs.opt_opd0_sign else 255) * (128 if regs.opt_opd1_sign else 255)
        added, finish = planes_at(state, _added(self), "res0"), self._finish(state)

        def run() -> None:
            left = opd0.load().reshape(res[0], -1)[:, : len(order)].astype(np.float32)
            right = opd1.load().reshape(len(order), -1).astype(np.float32)
            sums = dot_exact(left, right, largest).astype(np.int32, copy=False).reshape(res)
            if added is not None:
                sums = sums + (added.load_int(bool(regs.opt_res0_sign)) << regs.opt_left_shift)
            if partial is not None:
                sums = sums + partial.load_int(signed=True)
            result.store_int(sums if regs.ps32_md & WRITE_PS32 else finish(sums))

        return run

    def _finish(self, state: State) -> Finish:
        planes, signed = bound_planes(self, state, "opd2"), bool(self.regs.opt_opd2_sign)
        bias = None if planes is None else lambda: planes.load_int(signed)
        if not self.regs.opt_chl_quan:
            return requantize_per_tensor(self, bias, 8 if self.regs.opt_res0_seg else 16)

        quantize = quantize_by_register(self, self.regs.opt_relu_typ == 1)

        def finish(sums: NDArray) -> NDArray:
            return quantize(sums if bias is None else sums + bias())  # int32 on both sides: wraps as the adder does

        return finish

    def _bind_bf16(self, state: State, order: NDArray[np.int64]) -> Bound:
        res = shape_of(self, "res0")
        opd0, opd1 = lmem_tensor(state, _left(self), "opd0"), bound(self, state, "opd1")
        start, store = self.bind_start(state), self.bind_store(state)
        _, c, _, w = shape_of(self, "opd0")
        pieces, is_straight = (c, w), min(c, w) == 1

        def run() -> None:
            left = opd0.load().reshape(res[0], -1)
            left = left[:, : len(order)] if is_straight else left[:, order]
            begun = None if start is None else start().reshape(res[0], -1)
            store(dot_patterns(left, _rows_in_order(opd1.load(), order, *pieces), begun).reshape(res))

        return run

    def goes_on_from(self, before: MatrixMultiplication) -> bool:
        """Whether it adds to the sum that `before` leaves unfinished."""
        sums = _partial_in(self)
        return bool(sums) and bool(before.regs.ps32_md & WRITE_PS32) and sums == _partial_sums(before)

    @property
    def is_unfinished(self) -> bool:
        """Whether the sum goes back as a partial one."""
        return bool(self.regs.ps32_md & WRITE_PS32)

    def bind_start(self, state: State) -> Callable[[], NDArray[np.float32]] | None:
        """The bf16 sum that it goes on from, float32 of the result's shape; None where it begins at 0."""
        partial = planes_at(state, _partial_in(self), "res0")
        return None if partial is None else partial.load_float

    def bind_store(self, state: State) -> Callable[[NDArray[np.float32]], None]:
        """Takes bf16 sums, float32 of the result's shape: leaves them unfinished, or finishes them."""
        result, bias = bound_planes(self, state, "res0", Role.WRITE), bound_planes(self, state, "opd2")
        assert result is not None
        if self.regs.ps32_md & WRITE_PS32:
            return result.store_float
        relu = self.regs.opt_relu_typ == 1
        return lambda sums: result.store(finish_float(sums, None if bias is None else bias.load_float(), relu))


def _rows_in_order(right: NDArray, order: NDArray[np.int64], c: int, w: int) -> NDArray:
    """The rows of a matrix in the order in which they are summed, which walks through c pieces of w each; a view, with
    the rows on two axes, where every piece is whole."""
    if len(order) < c * w:
        return right[order]
    return right.reshape(c, w, *right.shape[1:]).swapaxes(0, 1) if min(c, w) > 1 else right


MATMUL_INSTRUCTIONS: tuple[type[Instruction], ...] = (MatrixMultiplication,)
