"""The DMA's calls, by cvikernel's names. Source of fields and rules: wwwuxy/cvikernel src/cv181x/tdma.c.

One call serves all formats: a conversion happens where the formats of source and destination differ (cvikernel's
*_bf16_* calls)."""

from __future__ import annotations

import math

from npusim.errors import UsageError
from npusim.isa.opcodes import SpecFunc, TransDir, TransposeMd
from npusim.kernels.emit import Emitter
from npusim.kernels.encode import Fields
from npusim.kernels.tensors import Fmt, Mg, Ml, Tg, Tl
from npusim.mem.lmem import Shape


class TdmaCalls(Emitter):
    """TDMA commands. LMEM tensors need packed rows; an address with a `label` becomes a relocation point."""

    def tdma_g2l_tensor_copy(self, src: Tg, dst: Tl) -> None:
        """GMEM to LMEM in order of elements; int8 or uint8 becomes bf16 where the formats say so."""
        self._same_elements(src, dst)
        fields = self._sides(TransDir.G2L, src, dst) | self._formats(src.fmt, dst.fmt, narrowing=False)
        self.emit_tdma(fields, [("src", src)])

    def tdma_l2g_tensor_copy(self, src: Tl, dst: Tg, *, int8_rnd_mode: int = 0) -> None:
        """LMEM to GMEM; bf16 becomes int8 or uint8 where the formats say so, rounded to even or (mode 1) toward
        zero."""
        self._same_elements(src, dst)
        fields = self._sides(TransDir.L2G, src, dst) | self._formats(src.fmt, dst.fmt, widening=False)
        self.emit_tdma(fields | {"int8_rnd_mode": int8_rnd_mode}, [("dst", dst)])

    def tdma_l2l_tensor_copy(
        self, src: Tl, dst: Tl, *, mv_lut_idx: bool = False, mv_lut_base: bool = False, int8_rnd_mode: int = 0
    ) -> None:
        """LMEM to LMEM. mv_lut_idx turns bf16 numbers into their exponents' place in a table, mv_lut_base into their
        powers of two."""
        self._same_elements(src, dst)
        if mv_lut_idx and mv_lut_base:
            raise UsageError("mv_lut_idx and mv_lut_base are both set; at most one may be")
        fields = self._sides(TransDir.L2L, src, dst) | self._formats(src.fmt, dst.fmt)
        fields |= {"mv_lut_idx": int(mv_lut_idx), "mv_lut_base": int(mv_lut_base), "int8_rnd_mode": int8_rnd_mode}
        self.emit_tdma(fields)

    def tdma_g2g_tensor_copy(self, src: Tg, dst: Tg) -> None:
        """GMEM to GMEM, bits as they are."""
        self._same_elements(src, dst)
        if src.fmt != dst.fmt:
            raise UsageError(f"formats are {src.fmt.value} and {dst.fmt.value}; a copy within GMEM does not convert")
        fields = self._sides(TransDir.G2G, src, dst) | self._formats(src.fmt, dst.fmt)
        self.emit_tdma(fields, [("src", src), ("dst", dst)])

    def tdma_g2l_tensor_copy_nc_transposed(self, src: Tg, dst: Tl) -> None:
        """(n, c, h, w) of GMEM to (c, n, h, w) in LMEM."""
        self._nc(src.shape, dst.shape)
        fields = self._sides(TransDir.G2L, src, dst) | self._formats(src.fmt, dst.fmt, narrowing=False)
        fields |= {"spec_func": SpecFunc.TRANSPOSE, "transpose_md": TransposeMd.NC}
        self.emit_tdma(fields, [("src", src)])

    def tdma_l2g_tensor_copy_nc_transposed(self, src: Tl, dst: Tg) -> None:
        """(n, c, h, w) of LMEM to (c, n, h, w) in GMEM."""
        self._nc(src.shape, dst.shape)
        fields = self._sides(TransDir.L2G, src, dst) | self._formats(src.fmt, dst.fmt, widening=False)
        fields |= {"spec_func": SpecFunc.TRANSPOSE, "transpose_md": TransposeMd.NC}
        self.emit_tdma(fields, [("dst", dst)])

    def tdma_g2l_tensor_fill_constant(self, dst: Tl, constant: int) -> None:
        """`constant` (a bf16 pattern, or a byte) to every element."""
        fields = self._fill(TransDir.G2L, dst.fmt, constant) | self._side("dst", dst) | {"src_n": dst.shape[0]}
        self.emit_tdma(fields)

    def tdma_l2g_tensor_fill_constant(self, dst: Tg, constant: int) -> None:
        fields = self._fill(TransDir.L2G, dst.fmt, constant) | self._side("dst", dst) | {"src_n": dst.shape[0]}
        self.emit_tdma(fields, [("dst", dst)])

    def tdma_g2l_matrix_copy(self, src: Mg, dst: Ml) -> None:
        """Rows of GMEM to the pieces of an LMEM matrix, the last of which may be short."""
        self._same_matrix(src, dst)
        fields = self._formats(src.fmt, dst.fmt, narrowing=False) | self._side("dst", dst.tl)
        fields |= {"trans_dir": TransDir.G2L, "sys_dtype": 1, "src_n": dst.shape.n, "src_c": src.row, "src_w": src.col}
        fields |= {"src_c_stride_low": src.stride & 0xFFFF, "src_c_stride_high": src.stride >> 16}
        self.emit_tdma(fields, [("src", src)])

    def tdma_l2g_matrix_copy(self, src: Ml, dst: Mg, *, int8_rnd_mode: int = 0) -> None:
        """An LMEM matrix to rows of GMEM."""
        self._same_matrix(dst, src)
        fields = self._formats(src.fmt, dst.fmt, widening=False) | self._side("src", src.tl)
        fields |= {"trans_dir": TransDir.L2G, "sys_dtype": 1, "src_n": src.shape.n, "dst_c": dst.row, "dst_w": dst.col}
        fields |= {
            "dst_c_stride_low": dst.stride & 0xFFFF,
            "dst_c_stride_high": dst.stride >> 16,
            "int8_rnd_mode": int8_rnd_mode,
        }
        self.emit_tdma(fields, [("dst", dst)])

    def tdma_g2l_matrix_copy_row_col_transposed(self, src: Mg, dst: Ml) -> None:
        """int8: column i of GMEM to row i in LMEM."""
        if (src.col, src.row) != (dst.shape.n, dst.shape.col) or src.fmt is Fmt.BF16 or src.fmt != dst.fmt:
            raise UsageError(
                f"the matrix is {src.row} x {src.col} {src.fmt.value} in GMEM; in LMEM it is its transpose, 8 "
                "bits as well"
            )
        fields = self._formats(src.fmt, dst.fmt) | self._side("dst", dst.tl)
        fields |= {"trans_dir": TransDir.G2L, "sys_dtype": 1, "spec_func": SpecFunc.TRANSPOSE, "src_n": src.row}
        fields |= {
            "src_c": src.row,
            "src_w": src.col,
            "src_c_stride_low": src.stride & 0xFFFF,
            "src_c_stride_high": src.stride >> 16,
        }
        self.emit_tdma(fields | {"dst_h_stride": dst.shape.w}, [("src", src)])

    def tdma_l2g_tensor_copy_cw_transposed(self, src: Tl, dst: Tg) -> None:
        """int8: (n, c, h, w) of LMEM to (n, w, h, c) in GMEM."""
        n, c, h, w = src.shape
        if dst.shape != (n, w, h, c) or src.fmt is Fmt.BF16 or src.fmt != dst.fmt:
            raise UsageError(
                f"destination shape {dst.shape} must be {(n, w, h, c)}, and both sides 8 bits: the DMA "
                "exchanges c and w of bytes"
            )
        fields = self._sides(TransDir.L2G, src, dst) | self._formats(src.fmt, dst.fmt)
        fields |= {"spec_func": SpecFunc.TRANSPOSE, "transpose_md": TransposeMd.CW}
        self.emit_tdma(fields, [("dst", dst)])

    def tdma_g2l_general_copy(self, src: Tg, dst_address: int, num_bytes: int) -> None:
        """Bytes from `src`'s address on to linear LMEM, over the borders of lanes."""
        fields = self._linear(TransDir.G2L, num_bytes) | {"dst_base_addr_low": dst_address}
        self.emit_tdma(fields, [("src", src)])

    def tdma_l2g_general_copy(self, src_address: int, dst: Tg, num_bytes: int) -> None:
        """Bytes of linear LMEM to `dst`'s address on."""
        fields = self._linear(TransDir.L2G, num_bytes) | {"src_base_addr_low": src_address}
        self.emit_tdma(fields, [("dst", dst)])

    def tdma_g2g_general_copy(self, src: Tg, dst: Tg, num_bytes: int) -> None:
        self.emit_tdma(self._linear(TransDir.G2G, num_bytes), [("src", src), ("dst", dst)])

    # The names of the calls that convert; here a conversion follows from the operands' formats.
    tdma_g2l_bf16_tensor_copy = tdma_g2l_tensor_copy
    tdma_l2g_bf16_tensor_copy = tdma_l2g_tensor_copy
    tdma_l2l_bf16_tensor_copy = tdma_l2l_tensor_copy
    tdma_g2g_bf16_tensor_copy = tdma_g2g_tensor_copy
    tdma_g2l_bf16_matrix_copy = tdma_g2l_matrix_copy
    tdma_l2g_bf16_matrix_copy = tdma_l2g_matrix_copy
    tdma_g2l_bf16_tensor_fill_constant = tdma_g2l_tensor_fill_constant
    tdma_g2l_bf16_tensor_copy_nc_transposed = tdma_g2l_tensor_copy_nc_transposed
    tdma_l2g_bf16_tensor_copy_nc_transposed = tdma_l2g_tensor_copy_nc_transposed

    @staticmethod
    def _linear(direction: TransDir, num_bytes: int) -> Fields:
        if not 0 < num_bytes < 1 << 32:
            raise UsageError(f"a general copy of {num_bytes} bytes; it takes 1 to 2**32 - 1")
        return {"trans_dir": direction, "trans_fmt": 1, "src_n_stride": num_bytes}

    def _sides(self, direction: TransDir, src: Tl | Tg, dst: Tl | Tg) -> Fields:
        return {"trans_dir": direction, **self._side("src", src), **self._side("dst", dst), "src_n": src.shape[0]}

    def _side(self, side: str, tensor: Tl | Tg) -> Fields:
        """Extents, strides and, in LMEM, the address. n is the caller's: descriptors have one for both sides."""
        (n, c, h, w), (n_str, c_str, h_str, w_str) = tensor.shape, tensor.stride
        if max(n, c, h, w * tensor.fmt.itemsize) >= 1 << 16 or min(tensor.shape) < 1:
            raise UsageError(f"{side} has shape {tensor.shape}; a DMA tensor has extents of 1 to 65535 (w in bytes)")
        if w > 1 and w_str != tensor.fmt.itemsize:
            raise UsageError(
                f"{side} has strides {tensor.stride}; the DMA moves packed rows, w stride {tensor.fmt.itemsize}"
            )
        fields = {f"{side}_c": c, f"{side}_h": h, f"{side}_w": w, f"{side}_n_stride": n_str}
        fields[f"{side}_h_stride"] = h_str if h > 1 or h_str < 1 << 16 else 0
        if fields[f"{side}_h_stride"] >= 1 << 16:
            raise UsageError(
                f"{side} has h stride {h_str:,}; it has 16 bits: put that axis into n or c, whose strides have 32"
            )
        fields |= {f"{side}_c_stride_low": c_str & 0xFFFF, f"{side}_c_stride_high": c_str >> 16}
        if isinstance(tensor, Tl):
            fields[f"{side}_base_addr_low"] = tensor.addr
        return fields

    @staticmethod
    def _formats(src: Fmt, dst: Fmt, *, widening: bool = True, narrowing: bool = True) -> Fields:
        if (src.tdma < dst.tdma and not widening) or (src.tdma > dst.tdma and not narrowing):
            raise UsageError(
                f"{src.value} to {dst.value}: the DMA widens on the way into LMEM and narrows on the way out, "
                "or does both within it"
            )
        signed = dst.is_signed if src is Fmt.BF16 else src.is_signed
        return {"src_fmt": src.tdma, "dst_fmt": dst.tdma, "int8_sign": int(signed)}

    @staticmethod
    def _fill(direction: TransDir, fmt: Fmt, constant: int) -> Fields:
        if not 0 <= constant < 1 << 8 * fmt.itemsize:
            raise UsageError(f"constant is {constant:#x}; for {fmt.value} it has {8 * fmt.itemsize} bits")
        return {
            "trans_dir": direction,
            "spec_func": SpecFunc.FILL_CONSTANT,
            "const_val": constant,
            "src_fmt": fmt.tdma,
            "dst_fmt": fmt.tdma,
        }

    @staticmethod
    def _same_elements(src: Tl | Tg, dst: Tl | Tg) -> None:
        if src.shape[0] != dst.shape[0] or math.prod(src.shape) != math.prod(dst.shape):
            raise UsageError(
                f"source shape {src.shape} and destination shape {dst.shape} must have one n and equally many elements"
            )

    @staticmethod
    def _nc(src: Shape, dst: Shape) -> None:
        if src[:2] != dst[1::-1] or src[2] * src[3] != dst[2] * dst[3]:
            raise UsageError(f"destination shape {dst} must be source shape {src} with n and c exchanged")

    @staticmethod
    def _same_matrix(far: Mg, near: Ml) -> None:
        if (far.row, far.col) != (near.shape.n, near.shape.col):
            raise UsageError(
                f"the matrix is {far.row} x {far.col} in GMEM, but {near.shape.n} x {near.shape.col} in LMEM; "
                "they must be equal"
            )
