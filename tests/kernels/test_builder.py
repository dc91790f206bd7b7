from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import Machine
from npusim.chip import CHIPS, Chip
from npusim.errors import UsageError
from npusim.isa.regs import tdma_rows, tiu_rows
from npusim.kernels import Fmt, KernelBuilder, MlShape, emit, mg, tg
from npusim.program.cmdbuf import parse_cmdbuf
from tests.kernels import calls_case
from tests.kernels.harness import case_of, run
from tests.kernels.interleave import run_ordered

BF16 = Fmt.BF16
ALL = pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)


@ALL
def test_a_program_computes_the_same_in_every_order_that_its_waits_allow(chip: Chip) -> None:
    case = calls_case.draw(np.random.default_rng(5), chip.name).case
    wanted = run(case)
    for share in (0.0, 1.0, 0.3, 0.7):
        assert run_ordered(case, share) == wanted, share


@pytest.mark.slow
@settings(max_examples=30)
@given(st.integers(0, 1 << 30), st.sampled_from([c.name for c in CHIPS]))
def test_random_overlapping_tensors_are_kept_in_order_by_the_waits_that_the_builder_finds(seed: int, chip: str) -> None:
    rng = np.random.default_rng(seed)
    b = KernelBuilder(chip)
    gmem = 0x4000000 if chip != "cv182x" else 0x30000000
    shape = (1, b.chip.num_lanes, 1, 32)
    whole = b.lmem_alloc_tensor((1, b.chip.num_lanes, 1, 256), BF16)

    def anywhere():  # type: ignore[no-untyped-def]
        return whole.view(shape, offset=2 * int(rng.integers(0, 200)))

    for i in range(40):
        kind = rng.integers(4)
        if kind == 0:
            b.tdma_g2l_tensor_copy(tg(gmem + 64 * i, shape, BF16), anywhere())
        elif kind == 1:
            b.tdma_l2g_tensor_copy(anywhere(), tg(gmem + 0x10000 + 0x1000 * i, shape, BF16))
        else:
            b.tiu_add(anywhere(), anywhere(), anywhere())
    case = case_of("random", b.build(), {gmem: rng.bytes(0x40000)})
    assert run_ordered(case, 0.0) == run_ordered(case, 1.0) == run_ordered(case, 0.5, seed)


def test_hazard_waits_leave_independent_commands_alone() -> None:
    b = KernelBuilder("cv181x")
    x, y = (b.lmem_alloc_tensor((1, 8, 1, 64), BF16) for _ in range(2))
    b.tdma_g2l_tensor_copy(tg(0x1000000, x.shape, BF16), x)
    b.tdma_g2l_tensor_copy(tg(0x1000000, x.shape, BF16), y)
    b.tiu_add(x, x, x)
    b.tdma_l2g_tensor_copy(y, tg(0x1002000, x.shape, BF16))
    b.tdma_l2g_tensor_copy(x, tg(0x1003000, x.shape, BF16))
    cmdbuf = parse_cmdbuf(b.chip, b.build().cmdbuf)
    assert [r.cmd_id_gdma for r in tiu_rows(b.chip, cmdbuf.tiu)] == [1]
    assert [r.wait_id_tpu for r in tdma_rows(b.chip, cmdbuf.tdma)] == [0, 0, 0, 1]


def test_vendor_sync_waits_for_everything_but_within_a_parallel_region() -> None:
    b = KernelBuilder("cv181x", sync="vendor")
    x = b.lmem_alloc_tensor((1, 8, 1, 64), BF16)
    for parallel in (False, True):
        (b.parallel_enable if parallel else b.parallel_disable)()
        for _ in range(2):
            b.tdma_g2l_tensor_copy(tg(0x1000000, x.shape, BF16), x)
            b.tiu_add(x, x, x)
    cmdbuf = parse_cmdbuf(b.chip, b.build().cmdbuf)
    assert [r.cmd_id_gdma for r in tiu_rows(b.chip, cmdbuf.tiu)] == [1, 2, 2, 2]
    assert [r.wait_id_tpu for r in tdma_rows(b.chip, cmdbuf.tdma)] == [0, 1, 2, 2]


def test_ids_that_run_out_continue_in_another_command_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert emit.LAST_ID == 0xFFFF
    monkeypatch.setattr(emit, "LAST_ID", 50)
    b = KernelBuilder("cv181x")
    x = b.lmem_alloc_tensor((1, 8, 1, 8), BF16)
    one = tg(0x1000000, x.shape, BF16)
    b.tdma_g2l_tensor_fill_constant(x, 0x3F80)
    for _ in range(70):
        b.tiu_copy(x, x)
    b.tdma_l2g_tensor_copy(x, one)
    program = b.build()
    assert len(program.cmdbufs) == 2
    assert tiu_rows(b.chip, parse_cmdbuf(b.chip, program.cmdbufs[0]).tiu)[-1].cmd_id_tpu == 50
    machine = Machine("cv181x")
    for cmdbuf in program.cmdbufs:
        machine.run_cmdbuf(cmdbuf)
    assert set(np.frombuffer(machine.gmem.read(0x1000000, 128), np.uint16)) == {0x3F80}


@ALL
def test_patching_a_label_equals_building_with_that_address(chip: Chip) -> None:
    def build(addr: int, label: str | None) -> bytes:
        b = KernelBuilder(chip)
        x = b.lmem_alloc_tensor((1, 2, 1, 8), BF16)
        b.tdma_g2l_tensor_copy(tg(0x4000, x.shape, BF16), x)
        b.tdma_g2l_tensor_copy(tg(addr, x.shape, BF16, label=label), x)
        b.tdma_l2g_tensor_copy(x, tg(addr, x.shape, BF16, label=label))
        program = b.build()
        return program.cmdbuf if label is None else program.patch({label: 0x12345678}).cmdbuf

    assert build(0, "page") == build(0x12345678, None)


def test_errors_name_the_sizes_and_the_way_out() -> None:
    b = KernelBuilder("cv180x")
    b.lmem_alloc_tensor((1, 2, 1, 8000), BF16)
    with pytest.raises(
        UsageError, match=r"needs 17,600 bytes of LMEM a lane, but 16,768 of cv180x's 32,768 are free; halve it"
    ):
        b.lmem_alloc_tensor((1, 2, 1, 8800), BF16, way_out="halve it")
    x = b.lmem_alloc_tensor((1, 2, 1, 8), BF16)
    y = b.lmem_alloc_tensor((1, 2, 1, 8), BF16)
    with pytest.raises(UsageError, match="reverse of their order"):
        b.lmem_free_tensor(x)
    b.lmem_free_tensor(y)
    b.lmem_free_tensor(x)
    with pytest.raises(UsageError, match="no label 'page'; it has none"):
        b.build().patch({"page": 0})
    with pytest.raises(UsageError, match="GE, which cv183x lacks"):
        KernelBuilder("cv183x").tiu_ge(x, x, x)
    with pytest.raises(UsageError, match=r"left\.col is right\.n"):
        m = b.lmem_alloc_matrix(MlShape(1, 1, 8, 8), BF16)
        b.tiu_matrix_multiplication(m, m, m)
    with pytest.raises(UsageError, match="3 x 8 in GMEM, but 1 x 8 in LMEM"):
        b.tdma_g2l_matrix_copy(mg(0, 3, 8, BF16), m)
