"""The bare machine: what a caller can rely on, and what is refused without a trace in memory."""

from __future__ import annotations

import numpy as np
import pytest

from npusim import AddressError, Deadlock, FileFormatError, IllegalInstruction, Machine, UsageError
from npusim.chip import CHIPS, Chip, chip_named
from npusim.isa.opcodes import Engine
from npusim.loader.cmdbuf import build_cmdbuf
from tests.differential.case import tdma, tiu

CV181X = chip_named("cv181x")
COPY = dict(tsk_typ=3, tsk_eu_typ=10, tsk_opd_num=1, opt_shift_typ=0, opt_opd1_sign=0, short_res0_str=3, short_opd0_str=3, opt_rshift_typ=0)


def store(**fields: int) -> tuple[Engine, bytes]:
    """Four bytes from lane 0, offset 0 to GMEM."""
    shape = dict(src_n=1, src_c=1, src_h=1, src_w=4, dst_c=1, dst_h=1, dst_w=4)
    strides = dict(src_n_stride=16, src_c_stride_low=16, src_h_stride=4, dst_n_stride=4, dst_c_stride_low=4, dst_h_stride=4)
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
        load = store(trans_dir=0, src_base_addr_low=0x1000000, dst_base_addr_low=0, dst_c_stride_low=16, dst_n_stride=16)
        machine.run_cmdbuf(build_cmdbuf(CV181X, [load, copy]))
        assert np.all(machine.lmem[0, 64:68] == seen)
