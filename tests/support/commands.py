"""Commands and small command buffers, for tests and benchmarks of timing."""

from __future__ import annotations

import numpy as np

from npusim.chip import CV183X, Chip
from npusim.insn.tiu_lut import TABLE_SIZE
from npusim.isa.descriptors import tiu_layout
from npusim.isa.opcodes import ArithEuTyp, PoolEuTyp, TransDir, TskTyp
from npusim.program.cmdbuf import build_cmdbuf
from npusim.timing import Workload, workload_of_bytes
from tests.support.case import Command, tdma, tiu

Shape = tuple[int, int, int, int]


def workload_of(commands: list[Command], chip: Chip = CV183X) -> Workload:
    return workload_of_bytes(chip, build_cmdbuf(chip, commands))


def with_fields(command: Command, **fields: int) -> Command:
    """A cv183x TIU command with other values in some fields."""
    layout = tiu_layout(CV183X)
    columns = layout.decode(np.frombuffer(command[1], np.uint8)[None])
    return command[0], layout.encode(columns | {name: np.array([value]) for name, value in fields.items()}, 1).tobytes()


def shapes(**operands: Shape) -> dict[str, int]:
    return {
        f"{name}_{dim}": extent for name, shape in operands.items() for dim, extent in zip("nchw", shape, strict=True)
    }


def window(
    chip: Chip,
    typ: TskTyp,
    eu: int,
    opd0: Shape,
    res0: Shape,
    kernel: Shape,
    stride: int = 1,
    pad: int = 0,
    **more: int,
) -> Command:
    """A convolution, depthwise convolution or pooling whose ofmap has the shape `res0`."""
    fields = shapes(opd0=opd0, res0=res0, opd1=kernel) | {
        "conv_op_x_str": stride,
        "conv_op_y_str": stride,
        "conv_opd0_lf_pad": pad,
    }
    given = {"opt_res0_seg": 1, "opt_opd0_seg": 1, "opt_opd1_seg": 1, "cmd_id_tpu": 1}
    return tiu(chip, tsk_typ=typ, tsk_eu_typ=eu, **(fields | given | more))


def conv(chip: Chip, ic: int, oc: int, k: int, oh: int, ow: int, stride: int = 1, **more: int) -> Command:
    """A per-channel int8 convolution that takes two channels a cycle."""
    opd0 = (1, ic, (oh - 1) * stride + k, (ow - 1) * stride + k)
    given = {"opt_chl_quan": 1, "double_conv": 1, "tsk_opd_num": 3}
    return window(chip, TskTyp.CONV, 0, opd0, (1, oc, oh, ow), (ic, oc, k, k), stride, **(given | more))


def pool(chip: Chip, eu: PoolEuTyp, c: int, k: int, oh: int, ow: int, stride: int = 1, **more: int) -> Command:
    opd0 = (1, c, (oh - 1) * stride + k, (ow - 1) * stride + k)
    return window(chip, TskTyp.DEPTHWISE_POOL, eu, opd0, (1, c, oh, ow), (1, 1, k, k), stride, **more)


def eltwise(chip: Chip, eu: ArithEuTyp, shape: Shape, **more: int) -> Command:
    """An operation on elements with aligned strides."""
    plane = -(-shape[2] * shape[3] * (2 if more.get("opd_typ") else 1) // 16) * 16
    given = {
        "short_res0_str": 3,
        "short_opd0_str": 3,
        "short_opd1_str": 3,
        "res0_c_str": plane,
        "opt_res0_seg": 1,
        "opt_opd0_seg": 1,
    }
    given |= {"cmd_id_tpu": 1} | shapes(res0=shape, opd0=shape, opd1=shape)
    return tiu(chip, tsk_typ=TskTyp.TENSOR_ARITH, tsk_eu_typ=eu, **(given | more))


def lookup(chip: Chip, shape: Shape, bf16: bool, **more: int) -> Command:
    rows = TABLE_SIZE // (8 if bf16 else 16)
    how = {"tens_lookup": 1} if chip.tiu_layout == "cv183x" else {}
    table = shapes(opd1=(1, chip.num_lanes, rows, TABLE_SIZE // rows))
    return eltwise(chip, ArithEuTyp.LOOKUP, shape, opd_typ=int(bf16), short_res0_str=0, **(how | table | more))


def matmul(chip: Chip, inner: int, columns: int, per_channel: bool) -> Command:
    """One row times a piece of a matrix, of `inner` rows; 16 columns on each lane. The last piece is requantised."""
    fields = shapes(
        opd0=(1, -(-inner // 16), 1, 16), res0=(1, -(-columns // 16), 1, 16), opd1=(inner, -(-columns // 16), 1, 16)
    )
    return tiu(
        chip,
        tsk_typ=TskTyp.FC,
        cmd_id_tpu=1,
        opt_res0_seg=1,
        opt_opd0_seg=1,
        opt_chl_quan=int(per_channel),
        ps32_md=1 if per_channel else 2,
        **fields,
    )


def transfer(
    chip: Chip,
    direction: TransDir,
    shape: Shape,
    addr: int = 0,
    strides: tuple[int, int, int] | None = None,
    cmd_id: int = 1,
    **more: int,
) -> Command:
    """An int8 tensor between GMEM (packed, or with byte `strides` n, c, h) and LMEM (aligned), either way."""
    n, c, h, w = shape
    far = strides or (c * h * w, h * w, w)
    plane = -(-h * w // 16) * 16
    near = (plane * -(-c // chip.num_lanes), plane, w)
    src, dst = (near, far) if direction == TransDir.L2G else (far, near) if direction == TransDir.G2L else (near, near)
    fields = {
        "src_n": n,
        "src_c": c,
        "src_h": h,
        "src_w": w,
        "dst_c": c,
        "dst_h": h,
        "dst_w": w,
        "src_fmt": 1,
        "dst_fmt": 1,
    }
    for side, (n_str, c_str, h_str) in (("src", src), ("dst", dst)):
        fields |= {
            f"{side}_n_stride": n_str,
            f"{side}_c_stride_low": c_str & 0xFFFF,
            f"{side}_c_stride_high": c_str >> 16,
        }
        fields |= {f"{side}_h_stride": h_str}
    side = "dst" if direction == TransDir.L2G else "src"
    return tdma(chip, trans_dir=direction, cmd_id=cmd_id, **(fields | {f"{side}_base_addr_low": addr} | more))
