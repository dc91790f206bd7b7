"""Rules that TIU instructions share. They are assertions of the vendor's functional model."""

from __future__ import annotations

from operator import attrgetter

from npusim.insn.base import TiuInstruction


class Fixed:
    """Fields that must have certain values; at least two fields."""

    def __init__(self, **values: int) -> None:
        self._values = values
        self._of, self._wanted = attrgetter(*values), tuple(values.values())

    def check(self, insn: TiuInstruction) -> None:
        """Refuses `insn` if a field has another value."""
        if self._of(insn.regs) != self._wanted:
            for name, wanted in self._values.items():
                found = getattr(insn.regs, name)
                insn.require(found == wanted, f"{name} is {found}; it must be {wanted} here")


BIAS = Fixed(opd2_n=1, opd2_h=1, short_opd2_str=0, opt_opd2_const=0)
"""Fields of the bias of a matrix multiplication."""


def check_signs(insn: TiuInstruction) -> None:
    """The sign rules of an integer operation over its first `tsk_opd_num` operands, constants and bias included."""
    regs = insn.regs
    count = regs.tsk_opd_num
    signs = (regs.opt_opd0_sign, regs.opt_opd1_sign, regs.opt_opd2_sign)
    signed = bool(signs[0] or (count > 1 and signs[1]) or (count > 2 and signs[2]))
    if not count:
        insn.refuse("tsk_opd_num is 0; an integer operation has 1 to 3 operands")
    if regs.opt_relu_typ > 1:
        insn.refuse(f"opt_relu_typ is {regs.opt_relu_typ}; an integer operation takes 0 (none) or 1 (ReLU)")
    if regs.opt_relu_typ and not signed and count < 3:
        insn.refuse("opt_relu_typ is 1 with unsigned operands; ReLU needs a signed one or a bias")
    if bool(regs.opt_res0_sign) != signed and not (regs.opt_relu_typ and signed):
        insn.refuse(f"opt_res0_sign is {regs.opt_res0_sign}; a result is signed exactly if an operand is")
    if regs.opt_res_shift and bool(regs.opt_shift_typ) != signed:
        insn.refuse(f"opt_shift_typ is {regs.opt_shift_typ}; a shift is arithmetic (1) exactly if an operand is signed")


def check_short_strides(insn: TiuInstruction) -> None:
    """For a depthwise convolution or a pooling: ifmap and ofmap both have aligned strides (0) or given ones (3)."""
    regs = insn.regs
    modes = (regs.short_res0_str, regs.short_opd0_str)
    insn.require(
        modes in ((0, 0), (3, 3)), f"(short_res0_str, short_opd0_str) is {modes}; they must be (0, 0) or (3, 3)"
    )
    check_small_strides(insn)


def check_small_strides(insn: TiuInstruction) -> None:
    """opd1 and opd2 must not have given strides (3)."""
    regs = insn.regs
    modes = (regs.short_opd1_str, regs.short_opd2_str)
    insn.require(3 not in modes, f"(short_opd1_str, short_opd2_str) is {modes}; neither may be 3")


def check_operands(insn: TiuInstruction) -> None:
    """The first `tsk_opd_num` operands and the result must not have an extent of 0. If their elements are in two
    planes, the planes must have different places. With aligned strides on cv183x, and for opd2 on every chip, their
    distance must be a multiple of the number of EUs. Constants are not checked.
    """
    regs = insn.regs
    for name in (*("opd0", "opd1", "opd2")[: regs.tsk_opd_num], "res0"):
        if name == "opd1" and regs.opt_opd1_const:
            continue
        shape = tuple(getattr(regs, f"{name}_{dim}") for dim in "nchw")
        insn.require(0 not in shape, f"{name} has shape {shape}; every extent must be at least 1")
        aligned = not getattr(regs, f"short_{name}_str") and (name == "opd2" or insn.chip.tiu_layout == "cv183x")
        distance, unit = getattr(regs, f"{name}_b_str"), insn.chip.eu_num if aligned else 1
        if not getattr(regs, f"opt_{name}_seg"):
            rule = f"{name}_b_str is {distance}; planes lie a multiple of {unit} apart, and not at one place"
            insn.require(bool(distance) and distance % unit == 0, rule)
