"""The tensor unit's calls, by cvikernel's names. Source of fields and rules: wwwuxy/cvikernel src/cv181x/tiu_*.c."""

from __future__ import annotations

from npusim.errors import UsageError
from npusim.isa.opcodes import ArithEuTyp, PoolEuTyp, TskTyp
from npusim.kernels.emit import Emitter
from npusim.kernels.encode import Fields
from npusim.kernels.tensors import Fmt, Ml, Tl, tl_default_stride

_TIU_EXTENT = 1 << 12


class TiuCalls(Emitter):
    """TIU commands. Elementwise operands have one shape; Tl.broadcast repeats one. `b` may be a constant: a bf16
    pattern or a byte."""

    def tiu_mul(self, res: Tl, a: Tl, b: Tl | int, *, relu_enable: bool = False, rshift_bits: int = 0) -> None:
        """res = a * b, in bf16 or in 8 bits."""
        self._arith(ArithEuTyp.MUL, res, a, b, opt_relu_typ=int(relu_enable), opt_res_shift=rshift_bits)

    def tiu_mul_qm(self, res: Tl, a: Tl, b: Tl | int, multiplier: int, rshift_bits: int) -> None:
        """8-bit product through a 32-bit multiplier and a shift."""
        self._arith(
            ArithEuTyp.MUL, res, a, b, opt_chl_quan=1, quan_m=multiplier & 0xFFFFFFFF, opt_res_shift=rshift_bits
        )

    def tiu_add(self, res: Tl, a: Tl, b: Tl | int, *, relu_enable: bool = False) -> None:
        self._bf16_only("tiu_add", res)
        planes = {"opd0_b_str": 0, **({"opd1_b_str": 0} if isinstance(b, Tl) else {})}
        self._arith(ArithEuTyp.ADD, res, a, b, opt_relu_typ=int(relu_enable), **planes)

    def tiu_sub(self, res: Tl, a: Tl, b: Tl | int) -> None:
        self._bf16_only("tiu_sub", res)
        self._arith(ArithEuTyp.SUB, res, a, b, opt_res0_sign=1, opd0_b_str=0, opd1_b_str=0)

    def tiu_mac(self, res: Tl, a: Tl, b: Tl | int) -> None:
        """res += a * b in bf16: the product exact, the sum toward zero, one rounding."""
        self._bf16_only("tiu_mac", res)
        self._arith(ArithEuTyp.MAC, res, a, b, opt_res_add=1, opt_left_shift=0, res0_b_str=0)

    def tiu_max(self, res: Tl, a: Tl, b: Tl | int) -> None:
        self._arith(ArithEuTyp.MAX, res, a, b, opt_shift_typ=1)

    def tiu_min(self, res: Tl, a: Tl, b: Tl | int) -> None:
        self._arith(ArithEuTyp.MIN, res, a, b, opt_shift_typ=1)

    def tiu_ge(self, res: Tl, a: Tl, b: Tl | int) -> None:
        """1 where a >= b, else 0."""
        self.require_feature("GE", "tiu_ge")
        self._arith(ArithEuTyp.GE, res, a, b)

    def tiu_copy(self, res: Tl, a: Tl) -> None:
        """bf16 zeros and denormals become +0 on the way."""
        self._arith(ArithEuTyp.COPY, res, a, None)

    def tiu_lookup_table(self, ofmap: Tl, ifmap: Tl, table: Tl) -> None:
        """Each element of `ofmap` is the entry of its lane's 256 that the low byte of `ifmap` names. All lie at aligned
        strides."""
        bf16 = ofmap.fmt is Fmt.BF16
        for name, tensor in (("ofmap", ofmap), ("ifmap", ifmap), ("table", table)):
            self._check_aligned(f"tiu_lookup_table's {name}", tensor)
        one = int(bf16)
        selector = (
            {"tens_lookup": 1, "tsk_eu_typ": 12 * one}
            if self.chip.tiu_layout == "cv183x"
            else {"tsk_eu_typ": int(ArithEuTyp.LOOKUP)}
        )
        fields = {"tsk_typ": TskTyp.TENSOR_ARITH, "opd_typ": one, "opt_shift_typ": 0, "opt_opd2_seg": one, **selector}
        fields |= {"opt_res0_sign": one, "opt_opd0_sign": one, "opt_opd1_sign": one, "opd1_addr": table.addr}
        fields |= self._place("res0", ofmap) | self._place("opd0", ifmap) | self._extents("opd1", table)
        wanted = (1, self.chip.num_lanes, *((32, 8) if bf16 else (16, 16)))
        if table.shape != wanted:
            raise UsageError(
                f"the table has shape {table.shape}; in {ofmap.fmt.value} it is {wanted}, 256 entries a lane"
            )
        self.emit_tiu(fields)

    def tiu_max_pooling(self, ofmap: Tl, ifmap: Tl, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> None:
        """Largest element under a (kh, kw) window, without padding."""
        self._pool(PoolEuTyp.MAX_POOL, ofmap, ifmap, kernel, stride, tsk_opd_num=1, opt_opd1_sign=1)

    def tiu_min_pooling(self, ofmap: Tl, ifmap: Tl, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> None:
        self.require_feature("MIN_POOL", "tiu_min_pooling")
        self._pool(PoolEuTyp.MIN_POOL, ofmap, ifmap, kernel, stride, tsk_opd_num=1, opt_opd1_sign=1)

    def tiu_average_pooling(
        self, ofmap: Tl, ifmap: Tl, kernel: tuple[int, int], constant: int, stride: tuple[int, int] = (1, 1)
    ) -> None:
        """Sum of the elements under the window, each times `constant` (a bf16 pattern)."""
        self._bf16_only("tiu_average_pooling", ofmap)
        self._pool(
            PoolEuTyp.AVG_POOL, ofmap, ifmap, kernel, stride, opt_opd1_sign=0, opt_opd1_const=1, opd1_addr=constant
        )

    def tiu_pt_depthwise_convolution(self, ofmap: Tl, ifmap: Tl, weight: Tl, stride: tuple[int, int] = (1, 1)) -> None:
        """bf16: each channel's window times its own kernel `weight` (1, c, kh, kw), summed in float32 rows first."""
        self._bf16_only("tiu_pt_depthwise_convolution", ofmap)
        c, kernel = weight.shape[1], weight.shape[2:]
        self._check_aligned("tiu_pt_depthwise_convolution's weight", weight)
        fields: Fields = {"opd1_addr": weight.addr, "opd1_c": c, "short_res0_str": 3, "short_opd0_str": 3}
        fields |= self._strides("res0", ofmap) | self._strides("opd0", ifmap)
        self._pool(PoolEuTyp.DEPTHWISE, ofmap, ifmap, kernel, stride, **fields)

    def tiu_matrix_multiplication(
        self, res: Ml, left: Ml, right: Ml, *, ps32_mode: int = 0, relu_enable: bool = False, rshift_bits: int = 0
    ) -> None:
        """res = left @ right. ps32_mode 2 starts a 32-bit partial sum in res, 3 continues it, 1 continues and finishes
        it.

        A partial sum takes two planes (bf16) or four (int8) of res' rows one behind the other.
        """
        self._matmul(res, left, right, ps32_mode, opt_relu_typ=int(relu_enable), opt_res_shift=rshift_bits)

    def tiu_matrix_multiplication_qm(
        self, res: Ml, left: Ml, right: Ml, quan_m: int, rshift_bits: int, *, ps32_mode: int = 0
    ) -> None:
        """int8 product through a 32-bit multiplier and a shift, which apply when the sum is finished."""
        last = ps32_mode in (0, 1)
        self._matmul(
            res,
            left,
            right,
            ps32_mode,
            opt_chl_quan=int(last),
            quan_m=quan_m & 0xFFFFFFFF,
            opt_res_shift=rshift_bits if last else 0,
        )

    def tiu_convolution_1x1_qm(self, ofmap: Tl, ifmap: Tl, weight: Tl, chl_quan_param: Tl) -> None:
        """int8: tiu_convolution with a 1x1 kernel, and for each channel a multiplier and a right shift.

        weight (1, oc, 1, ic) and chl_quan_param (1, oc, 1, 5) are packed channel behind channel on each lane.
        """
        ic, oc = ifmap.shape[1], ofmap.shape[1]
        if (
            weight.shape != (1, oc, 1, ic)
            or chl_quan_param.shape != (1, oc, 1, 5)
            or ifmap.shape[2:] != ofmap.shape[2:]
        ):
            raise UsageError(
                f"weight {weight.shape} and records {chl_quan_param.shape} do not take {ifmap.shape} to {ofmap.shape}"
            )
        self._check_aligned("ifmap", ifmap)
        double = ic % 2 == 0 and ic >= 4  # cvikernel's condition for taking two input channels at a time
        fields: Fields = {
            "tsk_typ": TskTyp.CONV,
            "opt_chl_quan": 1,
            "double_conv": int(double),
            "opt_res0_sign": 1,
            "opt_opd0_sign": 1,
        }
        fields |= {"short_res0_str": 3, "short_opd1_str": 1, "short_opd2_str": 2, "opt_opd2_seg": 1, "opd2_b_str": 0}
        fields |= self._place("res0", ofmap) | self._strides("res0", ofmap) | self._place("opd0", ifmap)
        fields |= {"res0_n_str": -(-ofmap.stride[0] // 16) * 16}
        fields |= {"opd1_addr": weight.addr, "opd1_n": ic, "opd1_c": oc, "opd1_w": 1, "opd2_addr": chl_quan_param.addr}
        fields |= {"opd2_c": oc, "opd2_w": 1}
        self.emit_tiu(fields)

    def require_feature(self, feature: str, call: str) -> None:
        if feature in self.chip.missing:
            raise UsageError(f"{call} needs {feature}, which {self.chip.name} lacks")

    def _arith(self, eu_typ: ArithEuTyp, res: Tl, a: Tl, b: Tl | int | None, **more: int) -> None:
        if a.shape != res.shape or (isinstance(b, Tl) and b.shape != res.shape):
            shapes = ", ".join(str(t.shape) for t in (a, b) if isinstance(t, Tl))
            raise UsageError(
                f"operands of shape {shapes} and a result of {res.shape}; an elementwise operation takes "
                "equal ones (broadcast them)"
            )
        fields: Fields = {"tsk_typ": TskTyp.TENSOR_ARITH, "tsk_eu_typ": eu_typ, "tsk_opd_num": 1 if b is None else 2}
        fields |= {f"short_{name}_str": 3 for name in ("res0", "opd0", "opd1", "opd2")} | {
            "opd_typ": int(res.fmt is Fmt.BF16)
        }
        for name, tensor in (("res0", res), ("opd0", a), ("opd1", b)):
            if isinstance(tensor, Tl):
                fields |= self._place(name, tensor) | self._strides(name, tensor)
                fields[f"opt_{name}_sign"] = int(tensor.fmt.is_signed)
        if b is not None and not isinstance(b, Tl):
            fields |= {"opt_opd1_const": 1, "opd1_addr": b, "opt_opd1_sign": int(a.fmt.is_signed)}
        fields |= self._extents("opd1", res) | self._extents("opd2", res)
        fields["opt_shift_typ"] = int(fields["opt_opd0_sign"] or fields.get("opt_opd1_sign", 0))
        self.emit_tiu(fields | more)

    def _pool(
        self,
        eu_typ: PoolEuTyp,
        ofmap: Tl,
        ifmap: Tl,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        **more: int,
    ) -> None:
        wanted = tuple((size - k) // step + 1 for size, k, step in zip(ifmap.shape[2:], kernel, stride, strict=True))
        if ofmap.shape != (*ifmap.shape[:2], *wanted):
            raise UsageError(
                f"ofmap has shape {ofmap.shape}; a window of {kernel} over {ifmap.shape} gives "
                f"{(*ifmap.shape[:2], *wanted)}"
            )
        if eu_typ != PoolEuTyp.DEPTHWISE:
            self._check_aligned("ifmap", ifmap)
            self._check_aligned("ofmap", ofmap)
        sign = int(ifmap.fmt.is_signed)
        fields: Fields = {"tsk_typ": TskTyp.DEPTHWISE_POOL, "tsk_eu_typ": eu_typ, "opd_typ": int(ifmap.fmt is Fmt.BF16)}
        fields |= {
            "opt_res0_sign": sign,
            "opt_opd0_sign": sign,
            "opt_shift_typ": sign,
            "opd1_h": kernel[0],
            "opd1_w": kernel[1],
        }
        if eu_typ == PoolEuTyp.DEPTHWISE:
            fields["opt_shift_typ"] = 1
        fields |= (
            {"conv_op_y_str": stride[0], "conv_op_x_str": stride[1]}
            | self._place("res0", ofmap)
            | self._place("opd0", ifmap)
        )
        fields |= {"opd0_ins_val": 0x80} if sign else {}
        self.emit_tiu(fields | more)

    def _matmul(self, res: Ml, left: Ml, right: Ml, ps32_mode: int, **more: int) -> None:
        if (
            left.shape.col != right.shape.n
            or left.shape.n != res.shape.n
            or (res.shape.c, res.shape.w) != (right.shape.c, right.shape.w)
        ):
            raise UsageError(
                f"left {left.shape}, right {right.shape} and result {res.shape} do not fit; left.col is "
                "right.n, columns are cut alike"
            )
        if more.get("opt_relu_typ") and ps32_mode & 2:
            raise UsageError("relu_enable with an unfinished partial sum (ps32_mode 2 or 3); ReLU stands at its end")
        bf16 = res.fmt is Fmt.BF16
        fields: Fields = {"tsk_typ": TskTyp.FC, "opd_typ": int(bf16), "ps32_md": ps32_mode, "opt_left_shift": 0}
        fields |= self._place("res0", res.tl) | self._place("opd0", left.tl) | self._place("opd1", right.tl)
        fields["opd1_w"] = left.shape.col - left.shape.w * (left.shape.c - 1)
        fields |= {
            f"opt_{name}_sign": int(m.fmt.is_signed) for name, m in (("res0", res), ("opd0", left), ("opd1", right))
        }
        fields["opt_shift_typ"] = int(left.fmt.is_signed or right.fmt.is_signed)
        if ps32_mode:
            fields["res0_b_str"] = res.shape.n * res.n_stride
        self.emit_tiu(fields | more)

    def _place(self, name: str, tensor: Tl) -> Fields:
        if max(tensor.shape) >= _TIU_EXTENT:
            raise UsageError(
                f"{name} has shape {tensor.shape}; extents of the TIU have 12 bits (up to {_TIU_EXTENT - 1}): split it"
            )
        if name in ("opd1", "opd2") and tensor.addr >= 1 << 16:
            raise UsageError(
                f"{name} is at {tensor.addr:#x}; this operand's address has 16 bits, so it starts on lane 0 or 1"
            )
        return {f"{name}_addr": tensor.addr, **self._extents(name, tensor)}

    @staticmethod
    def _extents(name: str, tensor: Tl) -> Fields:
        return {f"{name}_{dim}": extent for dim, extent in zip("nchw", tensor.shape, strict=True)}

    @staticmethod
    def _strides(name: str, tensor: Tl) -> Fields:
        return {f"{name}_{dim}_str": step for dim, step in zip("nchw", tensor.stride, strict=True)}

    @staticmethod
    def _bf16_only(call: str, tensor: Tl) -> None:
        if tensor.fmt is not Fmt.BF16:
            raise UsageError(
                f"{call} is given {tensor.fmt.value}; here it takes bf16 (integer sums go through 16-bit planes)"
            )

    def _check_aligned(self, what: str, tensor: Tl) -> None:
        wanted = tl_default_stride(self.chip, tensor.shape, tensor.fmt)
        relevant = [i for i, extent in enumerate(tensor.shape) if extent > 1]
        if any(tensor.stride[i] != wanted[i] for i in relevant) or tensor.addr % self.chip.eu_num:
            raise UsageError(
                f"{what} has strides {tensor.stride} at {tensor.addr:#x}; it lies at the aligned ones {wanted}, "
                "address a multiple of 16"
            )
