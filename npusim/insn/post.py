"""The steps from a sum of products to the result: partial sums, bias, ReLU, shift or multiplier, saturation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from npusim.insn.base import TiuInstruction
from npusim.insn.operand import Holds, Operand, Role, Share
from npusim.insn.operands import Tensors, bound, bound_planes, per_channel, planes_of
from npusim.mem.tensor import Fmt
from npusim.numerics import bf16
from npusim.numerics.channels import quantize_channels, record_bytes, scaled_in_float64
from npusim.numerics.requant import limits, multiply_by_quantized, rectify, saturate, shift_right, split_shift
from npusim.numerics.toward_zero import add, rounding_toward_zero
from npusim.state import State

READ_PS32, WRITE_PS32 = 1, 2
"""Bits of `ps32_md`: the sum starts from the 32-bit partial result in res0; it goes back there unfinished."""


def channel_records(insn: TiuInstruction) -> Tensors:
    """Records of 9 or 5 packed bytes (bias, multiplier, shift), or a bias in two planes: low and high bytes in int8,
    high and low halves of a float32 in bf16. Empty if the sum takes neither.

    The second plane is after as many channels as opd2 has on lane 0 if it starts there; opd2_b_str is ignored.
    """
    regs = insn.regs
    has_bias = regs.tsk_opd_num == 3
    if regs.opt_chl_quan:
        return (per_channel(insn, "opd2", record_bytes(has_bias)),)
    if not has_bias:
        return ()
    first = per_channel(insn, "opd2", 1, Fmt.BF16 if insn.is_float else Fmt.U8)
    return planes_of(first, 2, -(-regs.opd2_c // insn.chip.num_lanes) * first.itemsize)


CHANNEL_RECORDS = Operand(
    "opd2", Role.READ, "bias of each channel, or its record of bias, multiplier and shift", channel_records,
    share=Share.CHANNEL, holds=Holds.RECORDS,
)  # fmt: skip
"""What convolutions read to finish a sum."""


def require_bias_of_channels(insn: TiuInstruction) -> None:
    """Refuses a bias or records without one element for each channel of the result."""
    regs, planes = insn.regs, insn.places("opd2")
    if planes:
        shape = (regs.opd2_n, regs.opd2_c, regs.opd2_h, regs.opd2_w)
        insn.require(
            shape[1] >= regs.res0_c and (len(planes) == 1 or (shape[0], *shape[2:]) == (1, 1, 1)),
            f"opd2 has shape {shape}; a bias is (1, c, 1, 1), and records or a bias have at least res0_c = "
            f"{regs.res0_c} channels",
        )


Finish = Callable[[NDArray], NDArray]
"""From exact integer sums (int32, or float32 that holds them; channels on axis 1), which may be overwritten, to
saturated results."""


def requantize_per_channel(insn: TiuInstruction, state: State) -> Finish:
    """Bias (if `tsk_opd_num` is 3), multiplier and shift of every channel from packed records of 9 or 5 bytes in
    opd2."""
    regs, records = insn.regs, bound(insn, state, "opd2")
    low, high = limits(8, bool(regs.opt_res0_sign))
    low = max(low, 0) if regs.opt_relu_typ == 1 else low
    shift_bits = 8 if "QM_LSHIFT" in insn.chip.missing else 6
    return lambda sums: quantize_channels(sums, records.load(), shift_bits, low, high)


def quantize_by_register(insn: TiuInstruction, relu: bool) -> Finish:
    """One multiplier `quan_m` and one shift `opt_res_shift` for all sums, which are below 2^20; both are signed. A
    shift of 32 and more shifts to the left, before the multiplication and within 32 bits (QM_LSHIFT)."""
    regs = insn.regs
    multiplier = (regs.quan_m ^ 1 << 31) - (1 << 31)
    left, right = (int(shift) for shift in split_shift(regs.opt_res_shift, 6))
    bits, signed = (8 if regs.opt_res0_seg else 16), bool(regs.opt_res0_sign)
    low, high = limits(bits, signed)

    def finish(sums: NDArray) -> NDArray:
        if left:
            values: NDArray = multiply_by_quantized(sums << left, multiplier, right)
        else:
            values = scaled_in_float64(sums, multiplier, right)
        return values.clip(0 if relu else low, high, out=values).astype(np.int32)

    return finish


def requantize_per_tensor(insn: TiuInstruction, bias: Callable[[], NDArray] | None, bits: int = 8) -> Finish:
    """One right shift for all, to results of `bits` bits; `bias` gives integers that broadcast to the sums."""
    regs = insn.regs
    relu, rounding, shift = bool(regs.opt_relu_typ), bool(regs.opt_rshift_typ), regs.opt_res_shift
    logical = shift and not regs.opt_shift_typ  # nothing is signed, so the shift takes the 32-bit sum as unsigned
    signed = bool(regs.opt_res0_sign)

    def finish(sums: NDArray) -> NDArray:
        sums = sums.astype(np.int32, copy=False)
        if bias is not None:
            sums += bias()
        if relu:
            rectify(sums)
        return saturate(shift_right(sums.view(np.uint32) if logical else sums, shift, rounding), bits, signed)

    return finish


def bias16(insn: TiuInstruction, state: State) -> Callable[[], NDArray] | None:
    """The 16-bit bias of every channel, int32 of shape (1, c, 1, 1); None if there is none."""
    planes, signed = bound_planes(insn, state, "opd2"), bool(insn.regs.opt_opd2_sign)
    return None if planes is None else lambda: planes.load_int(signed)


def bias_float(insn: TiuInstruction, state: State) -> Callable[[], NDArray[np.float32]] | None:
    """The float32 bias of every channel, shape (1, c, 1, 1); None if there is none."""
    planes = bound_planes(insn, state, "opd2")
    return None if planes is None else planes.load_float


def finish_float(sums: NDArray[np.float32], bias: NDArray[np.float32] | None, relu: bool) -> NDArray[np.uint16]:
    """float32 sums with the bias added toward zero, with negative values set to 0 if `relu`, rounded to bf16. `sums` is
    overwritten.

    Sums that overflow are the largest number here, which is written as poison is."""
    if bias is not None:
        with rounding_toward_zero(), np.errstate(over="ignore", invalid="ignore"):
            sums = add(sums, bf16.flush(bias.copy()), out=sums)  # a denormal bias reads as 0
    patterns = bf16.from_float(sums)
    return bf16.rectify(patterns) if relu else patterns
