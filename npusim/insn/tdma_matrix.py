"""Matrices: rows in GMEM; in LMEM row i is n = i, and its columns are cut into channels of w elements, the last of
which may be shorter."""

from __future__ import annotations

from npusim.errors import AddressError
from npusim.insn.base import Bound
from npusim.insn.tdma_base import UNSIGNED, Transfer
from npusim.insn.tdma_transfer import Tensor, transfer_rows
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.lmem import Shape, TensorLmem, lmem_tensor
from npusim.state import State


class MatrixTransfer(Transfer):
    """What all transfers of matrices share."""

    __slots__ = ()

    @property
    def local_shape(self) -> Shape:
        return self.src_shape if self.direction == TransDir.L2G else self.dst_shape

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(rows, columns) in GMEM."""
        regs = self.regs
        return (regs.dst_c, regs.dst_w) if self.direction == TransDir.L2G else (regs.src_c, regs.src_w)

    def check_rows(self) -> None:
        """Refuses a shape in LMEM that does not fit the matrix in GMEM."""
        rows, columns = self.matrix_shape
        n, c, h, w = self.local_shape
        self.require(n == rows, f"n is {n} in LMEM, but the matrix has {rows} rows; they must be equal")
        self.check_channels(c, h, w, columns)

    def check_channels(self, c: int, h: int, w: int, columns: int) -> None:
        self.require(h == 1, f"h is {h} in LMEM; a matrix has 1")
        self.require(
            w > 0 and columns > 0, f"w is {w} in LMEM and the matrix has {columns} columns; both must be at least 1"
        )
        self.require(
            c == -(-columns // w), f"{c} channels of {w} in LMEM must be ceil({columns} / {w}) for {columns} columns"
        )

    def pieces(self, state: State, n: int, columns: int, itemsize: int) -> list[tuple[slice, TensorLmem]]:
        """The LMEM side as tensors that start at its first channel or at the short last one, each with the columns that
        it holds."""
        _, _, _, w = self.local_shape
        whole, rest = divmod(columns, w)
        found = []
        for first, shape in ((0, (n, whole, 1, w)), (whole, (n, 1, 1, rest))):
            if shape[1] and shape[3]:
                found.append(
                    (slice(first * w, first * w + shape[1] * shape[3]), self._channels(state, shape, first, itemsize))
                )
        return found

    def bind_pieces(
        self, state: State, n: int, columns: int, steps: tuple[int, int], near_size: int, far_size: int
    ) -> Bound:
        """The transfer of every piece. `steps` are the distances in GMEM, in bytes, from one n to the next and from one
        column to the next; the sizes are those of an element in LMEM and in GMEM."""
        n_step, step = steps
        pairs: list[tuple[Tensor, Tensor]] = []
        for held, near in self.pieces(state, n, columns, near_size):
            strides = (n_step, near.shape[3] * step, 0, step)
            if self.direction == TransDir.L2G:
                pairs.append(
                    (near, self.destination(state, near.shape, strides, far_size, self.dst_addr + held.start * step))
                )
            else:
                pairs.append(
                    (self.source(state, near.shape, strides, far_size, self.src_addr + held.start * step), near)
                )
        return transfer_rows(pairs, self.table())

    def _channels(self, state: State, shape: Shape, first: int, itemsize: int) -> TensorLmem:
        """The LMEM tensor of `shape` that starts at channel `first`."""
        from_local = self.direction == TransDir.L2G
        addr = self.src_addr if from_local else self.dst_addr
        n_str, c_str, _, _ = self.src_strides(itemsize) if from_local else self.dst_strides(itemsize)
        what = "source" if from_local else "destination"
        lane, offset = divmod(addr, self.chip.lmem_bytes)
        turn, lane = divmod(lane + first, self.chip.num_lanes)
        offset += turn * c_str
        if addr >= self.chip.lmem_total_bytes or offset >= self.chip.lmem_bytes:
            raise AddressError(
                f"{what}: channel {first} of the matrix at {addr:#x} with channel stride {c_str} lies outside LMEM"
            )
        addr = lane * self.chip.lmem_bytes + offset
        return lmem_tensor(state, addr, shape, (n_str, c_str, 0, itemsize), UNSIGNED[itemsize], what)


class MatrixCopy(MatrixTransfer):
    """A matrix between LMEM and GMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.sys_dtype) and not (regs.trans_fmt or regs.spec_func or regs.compress_en)

    def bind(self, state: State) -> Bound:
        src_size, dst_size = self.itemsizes()
        self.check_rows()
        if self.direction == TransDir.L2G:
            return self.bind_pieces(state, *self.matrix_shape, (self.dst_c_stride, dst_size), src_size, dst_size)
        return self.bind_pieces(state, *self.matrix_shape, (self.src_c_stride, src_size), dst_size, src_size)


class G2lMatrixCopy(MatrixCopy):
    """A matrix from GMEM to LMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()
    mnemonic = "tdma_g2l_matrix_copy"
    direction = TransDir.G2L


class L2gMatrixCopy(MatrixCopy):
    """A matrix from LMEM to GMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()
    mnemonic = "tdma_l2g_matrix_copy"
    direction = TransDir.L2G


class G2lMatrixCopyRowColTransposed(MatrixTransfer):
    """Column i of an int8 matrix in GMEM becomes n = i in LMEM; transpose_md and compress_en mean nothing to it."""

    __slots__ = ()
    mnemonic = "tdma_g2l_matrix_copy_row_col_transposed"
    direction = TransDir.G2L

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.sys_dtype) and regs.spec_func == SpecFunc.TRANSPOSE and not regs.trans_fmt

    def bind(self, state: State) -> Bound:
        self.same_itemsize((TdmaFmt.INT8,))
        rows, columns = self.matrix_shape
        _, c, h, w = self.local_shape
        self.check_channels(c, h, w, rows)
        check_aligned(self)
        return self.bind_pieces(state, columns, rows, (1, self.src_c_stride), 1, 1)


def check_aligned(insn: Transfer) -> None:
    """The rule for LMEM where the DMA turns data round: rows packed, everything else at multiples of the number of
    EUs."""
    regs, unit = insn.regs, insn.chip.eu_num
    places = {
        "the destination address": insn.dst_addr,
        "dst_n_stride": regs.dst_n_stride,
        "dst_c_stride": insn.dst_c_stride,
    }
    for name, value in places.items():
        insn.require(value % unit == 0, f"{name} is {value:#x}; it must be a multiple of {unit}")
    insn.require(
        regs.dst_h_stride == regs.dst_w, f"dst_h_stride is {regs.dst_h_stride}; it must equal dst_w, {regs.dst_w}"
    )
