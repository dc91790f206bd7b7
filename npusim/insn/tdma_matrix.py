"""Transfers of matrices. In GMEM a matrix is rows. In LMEM row i is n = i, and its columns are divided into channels of
w elements, of which the last may be shorter."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.errors import AddressError
from npusim.insn.base import Bound
from npusim.insn.operand import Place
from npusim.insn.tdma_base import PATTERN, Transfer
from npusim.insn.tdma_transfer import Tensor, bound_tensor, transfer_rows
from npusim.isa.opcodes import SpecFunc, TdmaFmt, TransDir
from npusim.isa.regs import TdmaRegs
from npusim.mem.tensor import GlobalTensor, LocalTensor, Shape
from npusim.state import State


class MatrixTransfer(Transfer):
    """The common part of all transfers of matrices."""

    __slots__ = ()
    matrix = True
    operands = tuple(operand._replace(in_pieces=True) for operand in Transfer.operands)

    @property
    def local_shape(self) -> Shape:
        return self.src_shape if self.direction == TransDir.L2G else self.dst_shape

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """(rows, columns) in GMEM."""
        regs = self.regs
        return (regs.dst_c, regs.dst_w) if self.direction == TransDir.L2G else (regs.src_c, regs.src_w)

    def check_rows(self) -> None:
        """Refuses a shape in LMEM that does not fit the matrix in GMEM, or does not lie in LMEM with whole pieces."""
        rows, columns = self.matrix_shape
        n, c, h, w = self.local_shape
        self.require(n == rows, f"n is {n} in LMEM, but the matrix has {rows} rows; they must be equal")
        self.check_channels(c, h, w, columns)
        stores = self.direction == TransDir.L2G
        size = self.itemsizes[0 if stores else 1]
        near = LocalTensor(self.local_addr, (n, c, 1, w), self._local_strides(size), PATTERN[size])
        near.require_fits(self.chip, "src" if stores else "dst")

    def check_channels(self, c: int, h: int, w: int, columns: int) -> None:
        self.require(h == 1, f"h is {h} in LMEM; a matrix has 1")
        self.require(
            w > 0 and columns > 0, f"w is {w} in LMEM and the matrix has {columns} columns; both must be at least 1"
        )
        self.require(
            c == -(-columns // w), f"{c} channels of {w} in LMEM must be ceil({columns} / {w}) for {columns} columns"
        )

        if self.local_addr >= self.chip.lmem_total_bytes or not self._within_lanes(columns):
            c_str = self._local_strides(1)[1]
            raise AddressError(
                f"channel {c - 1} of the matrix at {self.local_addr:#x} with channel stride {c_str} lies outside LMEM"
            )

    @property
    def local_addr(self) -> int:
        return self.src_addr if self.direction == TransDir.L2G else self.dst_addr

    def _local_strides(self, itemsize: int) -> Shape:
        n_str, c_str, _, _ = (self.src_strides if self.direction == TransDir.L2G else self.dst_strides)(itemsize)
        return (n_str, c_str, 0, itemsize)

    def _within_lanes(self, columns: int) -> bool:
        """Whether the last channel starts within its lane."""
        lane, offset = divmod(self.local_addr, self.chip.lmem_bytes)
        last = -(-columns // self.local_shape[3]) - 1
        return offset + (lane + last) // self.chip.num_lanes * self._local_strides(1)[1] < self.chip.lmem_bytes

    def pieces(self, n: int, columns: int, itemsize: int) -> list[tuple[slice, LocalTensor]]:
        """The LMEM side as tensors that start at its first channel or at the short last one, each with the columns that
        it holds."""
        w = max(self.local_shape[3], 1)
        whole, rest = divmod(columns, w)
        row = LocalTensor(self.local_addr, (n, 1, 1, w), self._local_strides(itemsize), PATTERN[itemsize])
        found = []
        if whole:
            found.append((slice(0, whole * w), row.channels(0, whole, self.chip)))
        if rest:
            last = row._replace(shape=(n, 1, 1, rest)).channels(whole, 1, self.chip)
            found.append((slice(whole * w, columns), last))
        return found

    def far_rows(self, itemsize: int) -> GlobalTensor:
        """The side in GMEM, row by row."""
        rows, columns = self.matrix_shape
        if self.direction == TransDir.L2G:
            return GlobalTensor(
                self.regs.dst_base_reg_sel,
                self.dst_addr,
                (rows, columns),
                (self.dst_c_stride, itemsize),
                PATTERN[itemsize],
            )
        return GlobalTensor(
            self.regs.src_base_reg_sel, self.src_addr, (rows, columns), (self.src_c_stride, itemsize), PATTERN[itemsize]
        )

    def sources(self) -> Sequence[Place]:
        size = self.itemsizes[0]
        return self._near(size) if self.direction == TransDir.L2G else (self.far_rows(size),)

    def destinations(self) -> Sequence[Place]:
        size = self.itemsizes[1]
        return (self.far_rows(size),) if self.direction == TransDir.L2G else self._near(size)

    def _near(self, itemsize: int) -> Sequence[Place]:
        return [piece for _, piece in self.pieces(*self.matrix_shape, itemsize)]

    def bind_pieces(self, state: State, pieces: list[tuple[slice, LocalTensor]], steps: tuple[int, int]) -> Bound:
        """The transfer of every piece. `steps` are the distances in GMEM, in bytes, from one n to the next and from one
        column to the next."""
        n_step, step = steps
        pairs: list[tuple[Tensor, Tensor]] = []
        for held, piece in pieces:
            near = bound_tensor(state, piece, "src" if self.direction == TransDir.L2G else "dst")
            strides = (n_step, piece.shape[3] * step, 0, step)
            if self.direction == TransDir.L2G:
                far = self.destination(piece.shape, strides, self.itemsizes[1], self.dst_addr + held.start * step)
                pairs.append((near, bound_tensor(state, far, "dst")))
            else:
                far = self.source(piece.shape, strides, self.itemsizes[0], self.src_addr + held.start * step)
                pairs.append((bound_tensor(state, far, "src"), near))
        return transfer_rows(pairs, self.table())


class MatrixCopy(MatrixTransfer):
    """A matrix between LMEM and GMEM, converted between int8, uint8 and bf16."""

    __slots__ = ()

    @classmethod
    def is_kind(cls, regs: TdmaRegs) -> bool:
        return bool(regs.sys_dtype) and not (regs.trans_fmt or regs.spec_func or regs.compress_en)

    def check_rules(self) -> None:
        self.check_formats()
        self.check_rows()

    def bind_checked(self, state: State) -> Bound:
        src_size, dst_size = self.itemsizes
        if self.direction == TransDir.L2G:
            return self.bind_pieces(state, self.pieces(*self.matrix_shape, src_size), (self.dst_c_stride, dst_size))
        return self.bind_pieces(state, self.pieces(*self.matrix_shape, dst_size), (self.src_c_stride, src_size))


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

    def check_rules(self) -> None:
        self.check_same_format(TdmaFmt.INT8)
        rows, _ = self.matrix_shape
        _, c, h, w = self.local_shape
        self.check_channels(c, h, w, rows)
        check_aligned(self)

    def _near(self, itemsize: int) -> Sequence[Place]:
        rows, columns = self.matrix_shape
        return [piece for _, piece in self.pieces(columns, rows, itemsize)]

    def bind_checked(self, state: State) -> Bound:
        rows, columns = self.matrix_shape
        return self.bind_pieces(state, self.pieces(columns, rows, 1), (1, self.src_c_stride))


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
