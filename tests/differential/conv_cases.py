"""Random legal convolutions, depthwise convolutions, poolings and matrix multiplications."""

from __future__ import annotations

import numpy as np

from npusim.chip import Chip, chip_named
from tests.support.case import Case, tiu

KINDS = ("conv", "conv_bf16", "conv_qm", "max_pool", "min_pool", "avg_pool", "depthwise", "depthwise_qm", "fc", "fc_qm")


def draw(rng: np.random.Generator, chip_name: str) -> Case:
    """One case of a random kind.

    It may still be illegal by a rule of the model's own. The model aborts on such draws, and they are dropped."""
    chip = chip_named(chip_name)
    kind = str(rng.choice(KINDS))
    bf16 = kind == "conv_bf16" or (
        kind in ("max_pool", "min_pool", "avg_pool", "depthwise", "fc") and rng.random() < 0.5
    )
    make = {"conv": _conv, "fc": _fc}.get(kind.split("_")[0], _depthwise_pool)
    fields = make(rng, chip, kind, bf16)
    patch = quant_records(rng, chip, fields) if fields.get("opt_chl_quan") and fields["tsk_typ"] != 2 else ()
    name = kind + ("_bf16" if bf16 and kind != "conv_bf16" else "")
    return Case(chip_name, name, [tiu(chip, **fields)], int(rng.integers(1 << 31)), bf16_lmem=bf16, lmem_patch=patch)


def quant_records(rng: np.random.Generator, chip: Chip, fields: dict[str, int]) -> tuple[tuple[int, bytes], ...]:
    """Bias, multiplier and shift of every channel where opd2 points: plausible numbers, so that results are not all
    saturated."""
    records = []
    lane0, offset = divmod(fields["res0_addr"] & ~0xFFFF | fields["opd2_addr"], chip.lmem_bytes)
    nbytes = 9 if fields.get("tsk_opd_num") == 3 else 5
    wild = rng.random() < 0.15  # any bytes at all: a program may read records where it put none
    for channel in range(fields["res0_c"]):
        bias = int(rng.integers(-(1 << 15), 1 << 15)).to_bytes(4, "little", signed=True) if nbytes == 9 else b""
        record = bias + int(rng.integers(1 << 30, 1 << 31)).to_bytes(4, "little") + bytes([int(rng.integers(0, 16))])
        if wild:
            record = rng.bytes(nbytes)
        turn, lane = divmod(lane0 + channel, chip.num_lanes)
        records.append((lane * chip.lmem_bytes + offset + turn * nbytes, record))
    return tuple(records)


def _window(rng: np.random.Generator, fields: dict[str, int], kernel: tuple[int, int]) -> None:
    """Draws window fields and the ofmap's h and w; the ifmap is drawn large enough for the kernel."""
    top = 16 if rng.random() < 0.05 else 4
    for axis, size, name in ((0, "h", "y"), (1, "w", "x")):
        plain = rng.random() < 0.5
        insert, last = (0, 0) if plain or fields["opd_typ"] * 0 else (int(rng.integers(0, 3)), int(rng.integers(0, 3)))
        before, after = (int(rng.integers(0, top)), int(rng.integers(0, top))) if rng.random() < 0.7 else (0, 0)
        dilation = 1 if rng.random() < 0.7 else int(rng.integers(2, 4))
        stride = int(rng.integers(1, 4))
        extent = (kernel[axis] - 1) * dilation + 1
        inputs = int(rng.integers(1, 14))
        if size == "h" and inputs == 1:
            insert = 0
        while (inputs - 1) * (insert + 1) + 1 + last + before + after < extent:
            inputs += 1
        extended = (inputs - 1) * (insert + 1) + 1 + last + before + after
        fields[f"opd0_{size}"] = inputs
        fields[f"res0_{size}"] = (extended - extent) // stride + 1
        fields[f"conv_opd0_{name}_ins0"], fields[f"conv_opd0_{name}_ins0_last"] = insert, last
        fields[f"conv_opd1_{name}_ins0"], fields[f"conv_op_{name}_str"] = dilation - 1, stride
        edges = ("up", "dn") if size == "h" else ("lf", "rt")
        fields[f"conv_opd0_{edges[0]}_pad"], fields[f"conv_opd0_{edges[1]}_pad"] = before, after


def _other_extents(rng: np.random.Generator, fields: dict[str, int], kernel: tuple[int, int], *, dilates: bool) -> None:
    """Draws another h and w of the ofmap, for which the window stays within the memory of a channel."""
    ends = []
    for axis, size, name, edges in ((0, "h", "y", ("up", "dn")), (1, "w", "x", ("lf", "rt"))):
        pads = sum(fields.get(f"conv_opd0_{edge}_pad", 0) for edge in edges)
        inserted = fields[f"conv_opd0_{name}_ins0_last"] + (fields[f"opd0_{size}"] - 1) * (
            fields[f"conv_opd0_{name}_ins0"] + 1
        )
        reach = (kernel[axis] - 1) * (fields[f"conv_opd1_{name}_ins0"] * dilates * (fields["tsk_eu_typ"] == 2) + 1)
        ends.append((inserted + 1 + pads, reach, fields[f"conv_op_{name}_str"]))
    (rows, down, y_str), (columns, right, x_str) = ends
    h, w = (int(rng.integers(1, fields[f"res0_{size}"] + 3)) for size in "hw")
    if ((h - 1) * y_str + down) * columns + (w - 1) * x_str + right < rows * columns:
        fields.update(res0_h=h, res0_w=w)


def _align(value: int, unit: int = 16) -> int:
    return -(-value // unit) * unit


def _place(rng: np.random.Generator, chip: Chip, any_lane: bool) -> list[int]:
    """Four addresses a quarter of a lane apart; result and first operand on any lane now and then."""
    order = rng.permutation(4)
    lanes = [int(rng.integers(chip.num_lanes)) if any_lane and rng.random() < 0.2 else 0 for _ in range(2)] + [0, 0]
    return [
        lane * chip.lmem_bytes + int(k) * 8192 + 16 * int(rng.integers(0, 8))
        for lane, k in zip(lanes, order, strict=True)
    ]


def _conv(rng: np.random.Generator, chip: Chip, kind: str, bf16: bool) -> dict[str, int]:
    size = 2 if bf16 else 1
    n, ic, oc = (
        int(rng.integers(1, 3)),
        int(rng.integers(1, 2 * chip.num_lanes + 3)),
        int(rng.integers(1, 2 * chip.num_lanes + 3)),
    )
    kernel = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    fields = dict(tsk_typ=0, opd_typ=int(bf16), opd0_n=n, opd0_c=ic, res0_n=n, res0_c=oc)
    _window(rng, fields, kernel)
    fields.update(opd1_n=ic, opd1_c=oc, opd1_h=kernel[0], opd1_w=kernel[1])
    fields.update(short_res0_str=3, short_opd1_str=1, short_opd2_str=2, opt_opd2_seg=1)
    res, opd0, opd1, opd2 = _place(rng, chip, True)
    fields.update(res0_addr=res, opd0_addr=opd0, opd1_addr=opd1, opd2_addr=opd2)
    c_str = _align(fields["res0_h"] * fields["res0_w"] * size)
    n_str = c_str * -(-(res // chip.lmem_bytes + oc) // chip.num_lanes)
    fields.update(res0_n_str=n_str, res0_c_str=c_str, res0_h_str=fields["res0_w"] * size, res0_w_str=size)
    fields["opd0_ins_val"] = _fill(rng, bf16)
    if rng.random() < 0.1:
        fields["opt_opd1_const"] = 1
    mode = int(rng.choice([0, 0, 0, 1, 2, 3]))
    fields.update(ps32_md=mode, res0_b_str=n * n_str if mode else 0)
    _post(rng, chip, fields, kind, bf16, mode)
    if not bf16 and ic % 2 == 0 and ic >= 4 and rng.random() < 0.7:
        fields["double_conv"] = 1
    return fields


def _fill(rng: np.random.Generator, bf16: bool) -> int:
    if bf16:
        return int(rng.choice([0, 0x3F80, 0xBF80, 0x4000]))
    return int(rng.choice([0, rng.integers(0, 256)]))


def _post(rng: np.random.Generator, chip: Chip, fields: dict[str, int], kind: str, bf16: bool, mode: int) -> None:
    """Signs, bias, ReLU and shift."""
    oc, writes = fields["res0_c"], mode & 2
    sign0, sign1 = (0, 0) if bf16 else (int(rng.integers(2)), int(rng.integers(2)))
    if kind.endswith("qm") or "depthwise" in kind:
        sign1 = 1
    bias, relu = bool(rng.integers(2)) and not writes, bool(rng.integers(2)) and not writes
    if "pool" not in kind and bias:
        fields["tsk_opd_num"] = 3
    sign2 = int(rng.integers(2)) if bias else 1
    any_sign = sign0 or sign1 or (bias and sign2)
    fields.update(
        opt_opd0_sign=sign0,
        opt_opd1_sign=sign1,
        opt_opd2_sign=sign2,
        opt_relu_typ=int(relu),
        opt_shift_typ=int(bool(any_sign)),
    )
    fields["opt_res0_sign"] = int(any_sign and not (relu and rng.random() < 0.3))
    if kind.endswith("qm"):
        fields.update(opt_chl_quan=1, opt_opd2_sign=1, opt_shift_typ=1, opt_res0_sign=int(not relu or rng.integers(2)))
    elif bias:
        channels = oc + int(rng.integers(0, 20)) * int(rng.random() < 0.2)
        fields.update(opt_opd2_seg=0, opd2_n=1, opd2_c=channels, opd2_h=1, opd2_w=1)
        fields["opd2_b_str"] = 16 * int(rng.integers(1, 9))  # the model looks at opd2_c instead
    if not kind.endswith("qm") and not bf16 and not writes:
        fields["opt_res_shift"] = int(rng.integers(0, 16))
        fields["opt_rshift_typ"] = int(rng.random() < 0.8)
    if kind.endswith("qm"):
        fields.update(opd2_n=1, opd2_c=oc, opd2_h=1, opd2_w=1)
        _take_bytes(rng, chip, fields)


def _take_bytes(rng: np.random.Generator, chip: Chip, fields: dict[str, int]) -> None:
    """Says what changes nothing where multipliers requantise: bf16, and any number for a result of 8 bits."""
    fields["opd_typ"] = int(rng.random() < 0.2)
    if chip.tiu_layout != "cv183x" and fields["tsk_typ"] == 0:
        fields["opt_res0_seg"] = int(rng.integers(1, 4))


def _depthwise_pool(rng: np.random.Generator, chip: Chip, kind: str, bf16: bool) -> dict[str, int]:
    size = 2 if bf16 else 1
    eu_typ = {"max_pool": 0, "avg_pool": 1, "min_pool": 3}.get(kind, 2)
    n, c = int(rng.integers(1, 3)), int(rng.integers(1, 2 * chip.num_lanes + 3))
    kernel = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    fields = dict(tsk_typ=1, tsk_eu_typ=eu_typ, opd_typ=int(bf16), opd0_n=n, opd0_c=c, res0_n=n, res0_c=c)
    _window(rng, fields, kernel)
    if eu_typ in (0, 3):
        fields.update({name: 0 for name in fields if "_ins0" in name})
        for axis, name, (before, after) in ((0, "h", ("up", "dn")), (1, "w", ("lf", "rt"))):
            fields[f"opd0_{name}"] = max(fields[f"opd0_{name}"], kernel[axis])
            extended = fields[f"opd0_{name}"] + fields[f"conv_opd0_{before}_pad"] + fields[f"conv_opd0_{after}_pad"]
            stride = fields["conv_op_y_str" if name == "h" else "conv_op_x_str"]
            fields[f"res0_{name}"] = (extended - kernel[axis]) // stride + 1
    if rng.random() < 0.2:
        _other_extents(rng, fields, kernel, dilates=kind != "depthwise_qm" or chip.tiu_layout == "cv183x")
    fields.update(opd1_n=1, opd1_c=c if eu_typ == 2 else 1, opd1_h=kernel[0], opd1_w=kernel[1])
    res, opd0, opd1, opd2 = _place(rng, chip, True)
    fields.update(res0_addr=res, opd0_addr=opd0, opd1_addr=opd1, opd2_addr=opd2, opd0_ins_val=_fill(rng, bf16))
    if eu_typ == 2:
        c_str = _align(fields["res0_h"] * fields["res0_w"] * size)
        fields.update(
            short_res0_str=3, res0_n_str=c_str * -(-(res // chip.lmem_bytes + c) // chip.num_lanes), res0_c_str=c_str,
            res0_h_str=fields["res0_w"] * size, res0_w_str=size, short_opd0_str=3, short_opd2_str=2, opt_opd2_seg=1,
        )  # fmt: skip
        c_str = _align(fields["opd0_h"] * fields["opd0_w"] * size)
        n_str = c_str * -(-(opd0 // chip.lmem_bytes + c) // chip.num_lanes)
        fields.update(opd0_n_str=n_str, opd0_c_str=c_str, opd0_h_str=fields["opd0_w"] * size, opd0_w_str=size)
        if rng.random() < 0.15:
            fields.update(opt_opd1_const=1, opd1_addr=int(rng.integers(0, 256)) if not bf16 else 0x3F80)
        _post(rng, chip, fields, kind, bf16, 0)
        if fields.get("opt_opd1_const"):
            fields["opt_opd1_sign"] = int(fields["opt_opd0_sign"] == 0 or rng.integers(2))
        fields.update(
            opt_opd2_sign=1,
            opt_rshift_typ=1,
            opt_shift_typ=1,
            opt_res0_sign=int(not fields["opt_relu_typ"] or rng.integers(2)),
        )
        return fields
    sign = 0 if bf16 else int(rng.integers(2))
    fields.update(opt_opd0_sign=sign, opt_res0_sign=sign, opt_shift_typ=sign, tsk_opd_num=1)
    if eu_typ == 1:
        fields["opt_opd1_sign"] = 0
        constant = int(rng.choice([0x3F80, 0x3E00, 0xBF00, 0x4040])) if bf16 else int(rng.integers(0, 256))
        fields.update(
            tsk_opd_num=2, opt_opd1_const=1, opd1_addr=constant, opt_res_shift=0 if bf16 else int(rng.integers(0, 12))
        )
        fields["opt_relu_typ"] = sign * int(rng.integers(2)) if not bf16 else int(rng.integers(2))  # there is none
    return fields


def _fc(rng: np.random.Generator, chip: Chip, kind: str, bf16: bool) -> dict[str, int]:
    size = 2 if bf16 else 1
    rows, count, columns = int(rng.integers(1, 9)), int(rng.integers(1, 60)), int(rng.integers(1, 80))
    left_w = min(count, int(rng.integers(1, 20)))
    right_w = int(rng.integers(1, 20))
    left_c, right_c = -(-count // left_w), -(-columns // right_w)
    mode = int(rng.choice([0, 0, 0, 1, 2, 3]))
    fields = dict(
        tsk_typ=2, opd_typ=int(bf16), res0_n=rows, res0_c=right_c, res0_w=right_w, opd0_n=rows, opd0_c=left_c,
        opd0_w=left_w,
        opd1_n=count, opd1_c=right_c, opd1_w=count - left_w * (left_c - 1), ps32_md=mode,
    )  # fmt: skip
    c_str = _align(right_w * size)
    n_str = c_str * -(-right_c // chip.num_lanes)
    fields["res0_b_str"] = rows * n_str if mode else 16
    res, opd0, opd1, opd2 = _place(rng, chip, False)
    fields.update(res0_addr=res, opd0_addr=opd0, opd1_addr=opd1, opd2_addr=opd2)
    _post(rng, chip, fields, kind, bf16, mode)
    fields.pop("opd2_b_str", None)
    fields.pop("opt_chl_quan", None)
    if fields["tsk_opd_num"] == 3 if "tsk_opd_num" in fields else False:
        fields.update(opt_opd2_seg=0, opd2_n=1, opd2_c=right_c, opd2_h=1, opd2_w=right_w, short_opd2_str=0)
    if kind == "fc_qm":
        shift, multiplier = 0 if mode & 2 else int(rng.integers(0, 12)), int(rng.integers(1 << 30, 1 << 31))
        if rng.random() < 0.2:  # beyond what a compiler emits: any multiplier, shifts that count as negative
            multiplier = int(rng.integers(0, 1 << 32))
            shift = shift if mode & 2 else int(rng.integers(0, 32 if chip.tiu_layout == "cv183x" else 64))
        fields.update(opt_chl_quan=int(mode in (0, 1)), opt_res_shift=shift, quan_m=multiplier)
        fields["opd_typ"] = int(mode in (0, 1) and rng.random() < 0.2)
    elif not bf16 and mode == 0:
        if rng.random() < 0.3:
            fields["opt_res0_seg"] = 0
        if rng.random() < 0.3:
            fields.update(opt_res_add=1, opt_left_shift=int(rng.integers(0, 8)), opt_relu_typ=0)
    return fields
