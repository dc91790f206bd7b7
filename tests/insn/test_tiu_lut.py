"""Table lookups, and cv183x's sum over all axes but the channel."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import Machine
from npusim.chip import CHIPS
from npusim.errors import IllegalInstruction
from npusim.program.cmdbuf import build_cmdbuf
from tests.spec.requant import saturate, shift_right
from tests.support.case import tiu

TABLE, IFMAP, OFMAP = 0x0000, 0x1000, 0x4000


def _lookup(machine: Machine, bf16: int, shape: tuple[int, int, int, int], **changes: int) -> None:
    chip = machine.chip
    selector = dict(tens_lookup=1, tsk_eu_typ=12 * bf16) if chip.tiu_layout == "cv183x" else dict(tsk_eu_typ=12)
    fields = dict(
        tsk_typ=3,
        opd_typ=bf16,
        opt_shift_typ=0,
        opt_res0_sign=bf16,
        opt_opd0_sign=bf16,
        opt_opd1_sign=bf16,
        opt_opd2_seg=bf16,
    )
    fields.update(
        {f"{opd}_{dim}": extent for opd in ("res0", "opd0") for dim, extent in zip("nchw", shape, strict=True)}
    )
    fields.update(opd1_n=1, opd1_c=chip.num_lanes, opd1_h=32 if bf16 else 16, opd1_w=8 if bf16 else 16)
    fields.update(opd1_addr=TABLE, opd0_addr=IFMAP, res0_addr=OFMAP, **selector)
    machine.run_cmdbuf(build_cmdbuf(chip, [tiu(chip, **{**fields, **changes})]))


def _random(chip: str) -> Machine:
    machine = Machine(chip)
    machine.lmem[...] = np.random.default_rng(5).integers(0, 256, machine.lmem.shape, np.uint8)
    return machine


@pytest.mark.parametrize("bf16", [0, 1])
@pytest.mark.parametrize("chip", [chip.name for chip in CHIPS])
def test_each_channel_looks_up_in_its_lanes_table_by_the_low_byte(chip: str, bf16: int) -> None:
    machine = _random(chip)
    lanes, dtype = machine.chip.num_lanes, np.uint16 if bf16 else np.uint8
    shape = (2, 2 * lanes, 4, 16)
    table, ifmap, ofmap = (machine.lmem[:, start:].view(dtype) for start in (TABLE, IFMAP, OFMAP))
    elements = 2 * 2 * 4 * 16  # n, turns of the lanes, h, w
    expected = [[int(table[lane, index & 255]) for index in ifmap[lane, :elements].tolist()] for lane in range(lanes)]
    _lookup(machine, bf16, shape)
    assert ofmap[:, :elements].tolist() == expected


def test_a_bf16_lookup_hands_patterns_on_untouched() -> None:
    machine = Machine("cv181x")
    machine.lmem[:, TABLE : TABLE + 512].view(np.uint16)[...] = np.arange(256) * 257 + 0x8000
    machine.lmem[:, IFMAP : IFMAP + 512].view(np.uint16)[...] = np.arange(256)
    _lookup(machine, 1, (1, 8, 16, 16))
    assert machine.lmem[3, OFMAP : OFMAP + 512].view(np.uint16).tolist() == [
        (0x8000 + 257 * i) & 0xFFFF for i in range(256)
    ]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"opd1_h": 8}, "a table is"),
        ({"opd0_w": 3}, "opd0 has shape"),
        ({"short_res0_str": 3}, "short_res0_str is 3"),
        ({"opt_opd0_sign": 1}, "must be 0"),
        ({"opt_opd0_const": 1}, "operands are tensors"),
        ({"tsk_opd_num": 1}, "tsk_opd_num is 1"),
        ({"opd0_addr": 0x10000}, "same 64 KiB"),
        ({"opt_res0_seg": 0}, "8 bits"),
    ],
)
def test_lookup_refuses_what_the_model_does(changes: dict[str, int], sentence: str) -> None:
    machine = _random("cv181x")
    before = machine.lmem.copy()
    with pytest.raises(IllegalInstruction, match=sentence):
        _lookup(machine, 0, (1, 8, 4, 4), **changes)
    np.testing.assert_array_equal(machine.lmem, before)


def _mdsum(machine: Machine, shape: tuple[int, int, int, int], **changes: int) -> None:
    fields = dict(tsk_typ=3, tens_mdsum=1, tsk_opd_num=1, opt_res0_sign=1, opt_opd0_sign=1, short_res0_str=1)
    fields.update(opd0_addr=IFMAP, res0_addr=OFMAP)
    fields.update({f"opd0_{dim}": extent for dim, extent in zip("nchw", shape, strict=True)}, res0_c=shape[1])
    machine.run_cmdbuf(build_cmdbuf(machine.chip, [tiu(machine.chip, **{**fields, **changes})]))


@pytest.mark.parametrize(("shift", "relu", "wide"), [(0, 0, True), (3, 0, False), (5, 1, False), (2, 0, True)])
def test_mdsum_adds_up_each_channel(shift: int, relu: int, wide: bool) -> None:
    machine = _random("cv183x")
    n, c, h, w = 3, 32, 2, 20
    values = machine.lmem[:, IFMAP : IFMAP + n * 48].view(np.int8).reshape(c, n, 48)[:, :, : h * w].copy()
    _mdsum(machine, (n, c, h, w), opt_res_shift=shift, opt_relu_typ=relu, opt_res0_seg=int(not wide))
    for channel in range(c):
        total = shift_right(int(values[channel].sum(dtype=np.int64)), shift, True)
        expected = saturate(max(total, 0) if relu else total, 16 if wide else 8, True)
        got = machine.lmem[channel, OFMAP : OFMAP + 1 + wide].tobytes()
        assert int.from_bytes(got, "little", signed=True) == expected


def test_mdsum_refuses_a_result_of_another_shape() -> None:
    with pytest.raises(IllegalInstruction, match="res0 has shape"):
        _mdsum(Machine("cv183x"), (1, 4, 2, 2), res0_h=2)
