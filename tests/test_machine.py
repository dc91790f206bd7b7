"""Machine: what a caller can rely on, and which calls are refused without a change to memory."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import AddressError, Deadlock, FileFormatError, IllegalInstruction, Machine, UsageError
from npusim.chip import CHIPS, Chip, chip_named
from npusim.isa.opcodes import Engine, SpecFunc
from npusim.program.cmdbuf import build_cmdbuf
from tests.support.case import tdma, tiu

CV181X = chip_named("cv181x")
COPY = dict(
    tsk_typ=3,
    tsk_eu_typ=10,
    tsk_opd_num=1,
    opt_shift_typ=0,
    opt_opd1_sign=0,
    short_res0_str=3,
    short_opd0_str=3,
    opt_rshift_typ=0,
)


def store(**fields: int) -> tuple[Engine, bytes]:
    """Four bytes from lane 0, offset 0 to GMEM."""
    shape = dict(src_n=1, src_c=1, src_h=1, src_w=4, dst_c=1, dst_h=1, dst_w=4)
    strides = dict(
        src_n_stride=16, src_c_stride_low=16, src_h_stride=4, dst_n_stride=4, dst_c_stride_low=4, dst_h_stride=4
    )
    base = dict(trans_dir=1, src_fmt=1, dst_fmt=1, cmd_id=1, dst_base_addr_low=0x1000000)
    return tdma(CV181X, **{**shape, **strides, **base, **fields})


def snapshot(machine: Machine) -> tuple[bytes, bytes]:
    return machine.lmem.tobytes(), machine.gmem.read(0x1000000, 4096)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_memory_starts_as_zeros_and_persists_between_calls(chip: Chip) -> None:
    machine = Machine(chip.name)
    assert machine.lmem.shape == (chip.num_lanes, 32768)
    assert not machine.lmem.any()
    machine.gmem.write(123, b"abc")
    machine.run_cmdbuf(b"")
    assert machine.gmem.read(122, 5) == b"\0abc\0"


def test_base_register_moves_a_store() -> None:
    machine = Machine("cv181x")
    machine.lmem[0, :4] = [1, 2, 3, 4]
    machine.run_cmdbuf(build_cmdbuf(CV181X, [store(dst_base_reg_sel=3)]), array_base=(0, 0, 0, 0x500, 0, 0, 0, 0))
    assert machine.gmem.read(0x1000500, 4) == bytes([1, 2, 3, 4])
    assert machine.array_base[3] == 0x500


REFUSED = {
    "address past GMEM": ([store(dst_base_addr_high=1)], AddressError),
    "address past LMEM": ([store(src_base_addr_low=8 * 32768)], AddressError),
    "row past its lane": ([store(src_base_addr_low=32766)], AddressError),
    "unknown TIU operation": ([tiu(CV181X, tsk_typ=9)], IllegalInstruction),
    "unknown TDMA operation": ([store(spec_func=7)], IllegalInstruction),
    "id that never comes": ([store(wait_id_tpu=5)], Deadlock),
    "store, then an illegal command": ([store(), store(cmd_id=2, src_base_addr_low=8 * 32768)], AddressError),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_refused_buffer_leaves_memory_and_bases_as_they_were(name: str) -> None:
    commands, error = REFUSED[name]
    machine = Machine("cv181x")
    machine.lmem[...] = 7
    before = snapshot(machine)
    with pytest.raises(error, match=r"command \d+|deadlock"):
        machine.run_cmdbuf(build_cmdbuf(CV181X, commands), array_base=(1,) * 8)
    assert snapshot(machine) == before
    assert machine.array_base == (0,) * 8


def test_a_buffer_of_another_chip_names_both_magics() -> None:
    with pytest.raises(FileFormatError, match=r"0xa7 is not cv180x's 0xa8"):
        Machine("cv180x").run_cmdbuf(build_cmdbuf(CV181X, [store()]))


def test_unknown_chip_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="cv180x, cv181x, cv182x, cv183x"):
        Machine("cv186x")


def test_gmem_refuses_ranges_outside() -> None:
    machine = Machine("cv181x", gmem_bytes=4096)
    with pytest.raises(AddressError, match="0x1001"):
        machine.gmem.write(4095, b"ab")
    with pytest.raises(AddressError):
        machine.gmem.read(-1, 4)


@pytest.mark.parametrize("size", [-1, (1 << 32) + 1])
def test_gmem_size_must_be_addressable(size: int) -> None:
    with pytest.raises(UsageError, match="can address"):
        Machine("cv181x", gmem_bytes=size)


def test_engines_take_turns_and_waits_hold() -> None:
    """A TIU copy that waits for a load sees the loaded bytes; one that does not wait runs first."""
    for wait, seen in ((1, 9), (0, 0)):
        machine = Machine("cv181x")
        machine.gmem.write(0x1000000, bytes([9] * 4))
        shape = dict(res0_w=4, opd0_w=4, res0_addr=64, opd0_addr=0, res0_h_str=4, opd0_h_str=4)
        copy = tiu(CV181X, **COPY, **shape, cmd_id_gdma=wait)
        load = store(
            trans_dir=0, src_base_addr_low=0x1000000, dst_base_addr_low=0, dst_c_stride_low=16, dst_n_stride=16
        )
        machine.run_cmdbuf(build_cmdbuf(CV181X, [load, copy]))
        assert np.all(machine.lmem[0, 64:68] == seen)


def fill_16(id_: int, value: int, addr: int) -> tuple[Engine, bytes]:
    """`value` to 16 bytes of lane 0."""
    at = dict(dst_base_addr_low=addr)
    shape = dict(
        src_n=1,
        src_c=1,
        src_h=1,
        src_w=16,
        dst_c=1,
        dst_h=1,
        dst_w=16,
        dst_n_stride=16,
        dst_c_stride_low=16,
        dst_h_stride=16,
    )
    return tdma(
        CV181X, **shape, spec_func=SpecFunc.FILL_CONSTANT, src_fmt=1, dst_fmt=1, cmd_id=id_, const_val=value, **at
    )


def copy_16(id_: int, waits_for: int, source: int, target: int) -> tuple[Engine, bytes]:
    strides = {f"{opd}_{dim}_str": 1 if dim == "w" else 16 for opd in ("res0", "opd0") for dim in "nchw"}
    fields = dict(
        cmd_id_tpu=id_, cmd_id_gdma=waits_for, opd0_addr=source, res0_addr=target, opt_res0_sign=0, opt_opd0_sign=0
    )
    return tiu(CV181X, **{**COPY, **fields, **strides, "res0_w": 16, "opd0_w": 16, "opd1_w": 16})


@pytest.mark.parametrize("last", [11, 0xFFFF])
def test_ids_that_start_over_are_waited_for_anew(last: int) -> None:
    """The vendor's model copies 0x55 too, whichever of the two commands after the fall comes first."""
    for order in (1, -1):
        behind = [copy_16(1, 1, 0, 32), fill_16(1, 0x55, 0)][::order]
        machine = Machine("cv181x")
        machine.run_cmdbuf(build_cmdbuf(CV181X, [copy_16(last - 1, 0, 64, 96), fill_16(last, 1, 64), *behind]))
        assert machine.lmem[0, 32] == 0x55


def test_what_stands_before_ids_start_over_is_finished_first() -> None:
    fills = [fill_16(11, 1, 64), fill_16(12, 2, 64), fill_16(13, 0x55, 0)]
    machine = Machine("cv181x")
    machine.run_cmdbuf(build_cmdbuf(CV181X, [copy_16(10, 0, 64, 96), *fills, copy_16(1, 0, 0, 32), fill_16(1, 3, 64)]))
    assert machine.lmem[0, 32] == 0x55


def test_a_command_that_is_repeated_runs_each_time_and_fails_under_its_own_index() -> None:
    machine = Machine("cv181x")
    planes = dict(
        opd0_b_str=16, res0_b_str=16, opt_opd0_seg=0, opt_res0_seg=0, opt_res0_sign=1, opt_opd0_sign=1, opt_shift_typ=1
    )
    strides = {f"{opd}_{dim}_str": 1 if dim == "w" else 16 for opd in ("res0", "opd0", "opd1") for dim in "nchw"}
    modes = {f"short_{opd}_str": 3 for opd in ("res0", "opd0", "opd1")}
    shift = tiu(CV181X, tsk_typ=3, tsk_eu_typ=6, opt_rshift_typ=0, opd1_addr=64, **planes, **strides, **modes)
    machine.lmem[0, [0, 64]] = 1
    machine.run_cmdbuf(build_cmdbuf(CV181X, [shift, shift, shift]))
    assert machine.lmem[0, 0] == 8
    with pytest.raises(IllegalInstruction, match=r"command 2 .*shift count 17"):
        machine.run_cmdbuf(build_cmdbuf(CV181X, [shift, fill_16(1, 17, 64), shift]))
