"""The four descriptor layouts of the chip family.

Sources: wwwuxy/cvikernel include/cvikernel/cv181x/cv181x_tiu_reg.h and cv181x_tdma_reg.h (cv180x and cv182x have the
same layout), include/bmkernel/bm1880v2/bm1880v2_tiu_reg.h and bm1880v2_tdma_reg.h (cv183x). Field names are those of
the headers."""

from __future__ import annotations

from npusim.chip import Chip
from npusim.isa.layout import Layout
from npusim.isa.opcodes import Engine

TIU_CV181X = Layout(
    "TIU",
    """
    cmd_en:1 cmd_end:1 cmd_id_en:1 cmd_keep:1 cmd_intr_en:1 tsk_typ:4 tsk_eu_typ:5 tsk_opd_num:2 opt_res_shift:6
    opt_left_shift:5 opt_shift_typ:1 opt_rshift_typ:1 dummy1:1 opd_typ:1 opt_chl_quan:1 cmd_id_tpu:16 cmd_id_gdma:16
    quan_m:32 opt_res0_sign:1 opt_opd0_sign:1 opt_opd1_sign:1 opt_opd2_sign:1 opt_res0_seg:2 opt_opd0_seg:2
    opt_opd1_seg:2 opt_opd2_seg:1 ps32_md:2 double_conv:1 opt_left_tran:1 fp_round_typ:1 opt_relu_typ:2 opt_relu_value:8
    cmd_pre_exe_typ:1 opt_res_add:1 rsvd0:4 conv_opd0_x_ins0:4 conv_opd0_y_ins0:4 conv_opd0_x_ins0_last:4
    conv_opd0_y_ins0_last:4 conv_opd1_x_ins0:4 conv_opd1_y_ins0:4 dummy0:8 opd0_ins_val:16 conv_opd0_up_pad:4
    conv_opd0_dn_pad:4 conv_opd0_lf_pad:4 conv_opd0_rt_pad:4 res0_n:12 res0_c:12 res0_h:12 res0_w:12 conv_op_x_str:5
    conv_op_y_str:5 cmd_pre_exe:2 rsvd1:4 res0_addr:24 opd0_addr:24 opd1_addr:16 opd2_addr:16 opt_opd0_const:1
    opt_opd1_const:1 opt_opd2_const:1 short_nchwstr_same:1 short_res0_str:2 short_opd0_str:2 short_opd1_str:2
    short_opd2_str:2 dummy2:4 opd0_n:12 opd0_c:12 dummy3:4 rsvd2:4 opd0_h:12 opd0_w:12 opd1_n:12 opd1_c:12 opd1_h:12
    opd1_w:12 opd2_n:12 opd2_c:12 opd2_h:12 opd2_w:12 dummy4:4 rsvd3:4 layer_info:16 res0_n_str:16 res0_c_str:16
    res0_h_str:16 res0_w_str:16 res0_b_str:16 opd0_n_str:16 dummy5:12 rsvd4:4 opd0_c_str:16 opd0_h_str:16 opd0_w_str:16
    opd0_b_str:16 opd1_n_str:16 opd1_c_str:16 opd1_h_str:16 dummy6:12 rsvd5:4 opd1_w_str:16 opd1_b_str:16 opd2_n_str:16
    opd2_c_str:16 opd2_h_str:16 opd2_w_str:16 opd2_b_str:16 dummy7:12 rsvd6:4
    """,
)

TIU_CV183X = Layout(
    "TIU (cv183x)",
    """
    cmd_en:1 cmd_end:1 cmd_id_en:1 cmd_id_tpu:16 cmd_id_gdma:16 cmd_keep:1 cmd_intr_en:1 tsk_typ:4 tsk_eu_typ:8
    tsk_opd_num:2 opt_right_shift:5 opt_left_shift:5 opt_shift_typ:1 opt_rshift_typ:1 opt_res_add:1 opt_relu:1
    opt_left_tran:1 opt_chl_quan:1 tens_mdsum:1 tens_lookup:1 opt_res0_sign:1 opt_opd0_sign:1 opt_opd1_sign:1
    opt_opd2_sign:1 opt_res0_int8:1 opt_opd0_int8:1 opt_opd1_int8:1 opt_opd2_int8:1 opt_opd0_const:1 opt_opd1_const:1
    opt_opd2_const:1 short_nchwstr_same:1 short_res0_str:2 short_opd0_str:2 short_opd1_str:2 short_opd2_str:2
    conv_opd0_x_ins0:4 conv_opd0_y_ins0:4 conv_opd0_x_ins0_last:4 conv_opd0_y_ins0_last:4 conv_opd1_x_ins0:4
    conv_opd1_y_ins0:4 opd0_ins_val:8 ps32_md:2 double_conv:1 rsvd0:4 res0_n:12 res0_c:12 res0_h:12 res0_w:12
    res0_addr:24 opd0_addr:24 opd1_addr:16 rsvd1:16 opd2_addr:16 opd0_c:12 opd0_h:12 opd0_w:12 opd1_h:12 opd1_w:12
    conv_opd0_up_pad:4 conv_opd0_dn_pad:4 conv_opd0_lf_pad:4 conv_opd0_rt_pad:4 conv_op_x_str:4 conv_op_y_str:4
    opd0_ins_fp:16 rsvd2:12 opd0_n:12 opd1_n:12 opd1_c:12 opd2_n:12 opd2_c:12 opd2_h:12 opd2_w:12 quan_m:32 opd_typ:1
    fp_round_typ:3 rsvd7:4 rsvd3:4 res0_n_str:16 res0_c_str:16 res0_h_str:16 res0_w_str:16 res0_b_str:16 opd0_n_str:16
    opd0_c_str:16 rsvd4:16 opd0_h_str:16 opd0_w_str:16 opd0_b_str:16 opd1_n_str:16 opd1_c_str:16 opd1_h_str:16
    opd1_w_str:16 rsvd5:16 opd1_b_str:16 opd2_n_str:16 opd2_c_str:16 opd2_h_str:16 opd2_w_str:16 opd2_b_str:16
    layer_info:28 rsvd6:4
    """,
)

_TDMA_HEAD = """
    vld:1 compress_en:1 eod:1 intp_en:1 bar_en:1 check_bf16_value:1 trans_dir:2 rsv00:2 trans_fmt:1 transpose_md:2"""
_TDMA_TAIL = """
    outstanding_en:1 cmd_id:16 spec_func:3 dst_fmt:2 src_fmt:2 cmprs_fmt:1 sys_dtype:1 rsv2_1:4 int8_sign:1
    compress_zero_guard:1 int8_rnd_mode:1 wait_id_tpu:16 wait_id_other_tdma:16 wait_id_sdma:16 const_val:16
    src_base_reg_sel:3 mv_lut_idx:1 dst_base_reg_sel:3 mv_lut_base:1 rsv4_5:8 dst_h_stride:16 dst_c_stride_low:16
    dst_n_stride:32 src_h_stride:16 src_c_stride_low:16 src_n_stride:32 dst_c:16 src_c:16 dst_w:16 dst_h:16 src_w:16
    src_h:16 dst_base_addr_low:32 src_base_addr_low:32 src_n:16 dst_base_addr_high:8 src_base_addr_high:8
    src_c_stride_high:16 dst_c_stride_high:16 compress_bias0:8 compress_bias1:8 layer_ID:16
    """
TDMA_CV181X = Layout("TDMA", _TDMA_HEAD + " rsv01:1 intra_cmd_paral:1 " + _TDMA_TAIL)
TDMA_CV183X = Layout("TDMA (cv183x)", _TDMA_HEAD + " rsv01:2 " + _TDMA_TAIL)

CV183X_ALIASES = {
    "opt_right_shift": "opt_res_shift",
    "opt_relu": "opt_relu_typ",
    "opt_res0_int8": "opt_res0_seg",
    "opt_opd0_int8": "opt_opd0_seg",
    "opt_opd1_int8": "opt_opd1_seg",
    "opt_opd2_int8": "opt_opd2_seg",
}
"""cv183x fields and the cv181x fields that mean the same. All code outside this folder uses the cv181x names."""


def tiu_layout(chip: Chip) -> Layout:
    """The layout of `chip`'s TIU descriptors."""
    return TIU_CV183X if chip.tiu_layout == "cv183x" else TIU_CV181X


def tdma_layout(chip: Chip) -> Layout:
    """The layout of `chip`'s TDMA descriptors."""
    return TDMA_CV183X if chip.tiu_layout == "cv183x" else TDMA_CV181X


def layout_of(chip: Chip, engine: Engine) -> Layout:
    """The layout of `engine`'s descriptors."""
    return tiu_layout(chip) if engine == Engine.TIU else tdma_layout(chip)
