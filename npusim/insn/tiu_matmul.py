"""Matrix multiplication: a matrix row is spread over lanes in pieces of w columns, so (n, c, 1, w) holds n rows of c *
w columns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import Bound, Instruction, TiuInstruction
from npusim.insn.operands import INT8, Planes, planes, shape_of, strides_of, tensor
from npusim.insn.post import (
    READ_PS32,
    WRITE_PS32,
    Finish,
    finish_float,
    quantize_by_register,
    requantize_per_tensor,
    require_relu_of_signed,
)
from npusim.isa.opcodes import TskTyp
from npusim.isa.regs import TiuRegs
from npusim.mem.lmem import TensorLmem
from npusim.numerics import bf16
from npusim.numerics.accumulate import Span, dot_exact, dot_in_order, stays_normal
from npusim.state import State


class MatrixMultiplication(TiuInstruction):
    """tiu_matrix_multiplication and its quantised twin (wwwuxy/cvikernel src/cv181x/tiu_matrix_multiplication.c,
    *_qm.c).

    bf16 products are summed with the column inside a piece (w) outermost and the piece (c) innermost; the bias is added
    last."""

    __slots__ = ()
    mnemonic = "tiu_matrix_multiplication"

    @classmethod
    def matches(cls, regs: TiuRegs) -> bool:
        return regs.tsk_typ == TskTyp.FC

    def bind(self, state: State) -> Bound:
        regs = self.regs
        left, res = shape_of(self, "opd0"), shape_of(self, "res0")
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
        require_relu_of_signed(self)
        order = np.arange(left[1] * left[3]).reshape(left[1], left[3]).T.reshape(-1)
        order = order[order < count]
        return self._bind_bf16(state, order) if regs.opd_typ else self._bind_int8(state, order)

    def _right(self, state: State, dtype: np.dtype) -> TensorLmem:
        res = shape_of(self, "res0")
        return tensor(self, state, "opd1", dtype, (self.regs.opd1_n, res[1], 1, res[3]))

    def _planes(self, state: State, name: str, dtype: np.dtype, count: int) -> Planes:
        """The result's or the bias' planes; the hardware puts them one whole matrix apart."""
        res = shape_of(self, "res0")
        shape = (1 if name == "opd2" else res[0], *res[1:])
        n_str = strides_of(self, name, shape, np.dtype(dtype).itemsize)[0]
        return planes(self, state, name, dtype, count, shape[0] * n_str, shape)

    def _bind_int8(self, state: State, order: NDArray[np.int64]) -> Bound:
        regs, res = self.regs, shape_of(self, "res0")
        opd0 = tensor(self, state, "opd0", INT8[regs.opt_opd0_sign])
        opd1 = self._right(state, np.dtype(INT8[regs.opt_opd1_sign]))
        num_bytes = 4 if regs.ps32_md else 1 if regs.opt_res0_seg else 2
        partial = self._planes(state, "res0", np.dtype(np.uint8), num_bytes)
        result = self._planes(state, "res0", np.dtype(np.uint8), 1 if regs.opt_res0_seg else 2)
        largest = (128 if regs.opt_opd0_sign else 255) * (128 if regs.opt_opd1_sign else 255)
        add_result = self._planes(state, "res0", np.dtype(np.uint8), 2) if regs.opt_res_add else None
        finish = self._finish(state)

        def run() -> None:
            left = opd0.load().reshape(res[0], -1)[:, : len(order)].astype(np.float32)
            right = opd1.load().reshape(len(order), -1).astype(np.float32)
            sums = dot_exact(left, right, largest).astype(np.int32, copy=False).reshape(res)
            if add_result is not None:
                sums = sums + (add_result.load_int(bool(regs.opt_res0_sign)) << regs.opt_left_shift)
            if regs.ps32_md & READ_PS32:
                sums = sums + partial.load_int(signed=True)
            if regs.ps32_md & WRITE_PS32:
                partial.store_int(sums)
            else:
                result.store_int(finish(sums))

        return run

    def _finish(self, state: State) -> Finish:
        regs = self.regs
        bias = None
        if regs.tsk_opd_num == 3:
            loader = self._planes(state, "opd2", np.dtype(np.uint8), 4 if regs.opt_chl_quan else 2)

            def bias() -> NDArray[np.int32]:
                return loader.load_int(bool(regs.opt_opd2_sign))

        if not regs.opt_chl_quan:
            return requantize_per_tensor(self, bias)

        quantize = quantize_by_register(self, bool(regs.opt_relu_typ))

        def finish(sums: NDArray) -> NDArray:
            return quantize(sums if bias is None else sums + bias())  # int32 on both sides: wraps as the adder does

        return finish

    def _bind_bf16(self, state: State, order: NDArray[np.int64]) -> Bound:
        regs, res = self.regs, shape_of(self, "res0")
        self.require(not regs.opt_res_add, "opt_res_add is set, but bf16 cannot add to the result")
        opd0 = tensor(self, state, "opd0", np.uint16)
        opd1 = self._right(state, np.dtype(np.uint16))
        partial = self._planes(state, "res0", np.dtype(np.uint16), 2 if regs.ps32_md else 1)
        result = tensor(self, state, "res0", np.uint16)
        bias = self._planes(state, "opd2", np.dtype(np.uint16), 2) if regs.tsk_opd_num == 3 else None

        def run() -> None:
            left = opd0.load().reshape(res[0], -1)[:, order]
            right = opd1.load().reshape(len(order), -1)
            start = partial.load_float().reshape(res[0], -1) if regs.ps32_md & READ_PS32 else None
            spans = Span.of_bf16(left), Span.of_bf16(right)
            normal = stays_normal(*spans, len(order), None if start is None else Span.of_float32(start))
            sums = dot_in_order(bf16.to_float(left), bf16.to_float(right[order]), normal, start).reshape(res)
            if regs.ps32_md & WRITE_PS32:
                partial.store_float(sums)
            else:
                result.store(finish_float(sums, None if bias is None else bias.load_float(), bool(regs.opt_relu_typ)))

        return run


MATMUL_INSTRUCTIONS: tuple[type[Instruction], ...] = (MatrixMultiplication,)
