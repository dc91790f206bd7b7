"""Kernels against the twin's arithmetic (reference_model.quant).

On random shapes, on every chip and in every order of the engines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from npusim.check import check
from npusim.chip import CHIPS, chip_named
from npusim.errors import UsageError
from npusim.kernels import Fmt, KernelBuilder, tg
from npusim.kernels.attention import AttentionShape, attention
from npusim.kernels.matmul import matmul
from npusim.kernels.rows import alloc_rows
from npusim.kernels.stream import WeightStream
from npusim.kernels.weights import pack_weight, plan_weight
from npusim.program.cmdbuf import parse_cmdbuf
from tests.kernels.harness import run
from tests.kernels.interleave import run_ordered
from tests.kernels.record import MAKERS

KERNELS = sorted(set(MAKERS) - {"calls"})


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 31), chip=st.sampled_from([c.name for c in CHIPS]))
def test_a_kernel_gives_the_twins_bits_in_every_order_that_its_waits_allow(name: str, seed: int, chip: str) -> None:
    try:
        checked = MAKERS[name].draw(np.random.default_rng(seed), chip)
    except UsageError as error:  # two lanes hold less than eight: a rare draw is too large for cv180x, and says so
        assert chip == "cv180x" and "bytes of LMEM" in str(error)
        reject()
    outcome = run(checked.case)
    checked.assert_equals_twin(outcome)
    for share in (0.0, 1.0):
        assert run_ordered(checked.case, share) == outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
def test_check_has_nothing_to_say_about_a_kernels_program(name: str, chip) -> None:  # type: ignore[no-untyped-def]
    for seed in range(3):
        case = MAKERS[name].draw(np.random.default_rng(seed), chip.name).case
        assert check(parse_cmdbuf(chip, case.raw)) == []


@settings(max_examples=60)
@given(
    k=st.integers(1, 5000),
    n=st.integers(1, 8000),
    fmt=st.sampled_from([Fmt.BF16, Fmt.I8]),
    buffer_bytes=st.integers(128, 16384),
    chip=st.sampled_from(CHIPS),
)
def test_tiles_cover_a_matrix_once_fit_their_buffer_and_follow_each_other(
    k: int, n: int, fmt: Fmt, buffer_bytes: int, chip
) -> None:  # type: ignore[no-untyped-def]
    plan = plan_weight(chip, k, n, fmt, buffer_bytes)
    lanes, end = plan.num_lanes_used, 0
    assert lanes <= chip.num_lanes and lanes * plan.lane_columns >= n > (lanes - 1) * plan.lane_columns
    for tile in plan.tiles:
        assert 2 * tile.rows * tile.columns <= buffer_bytes and tile.columns % 8 == 0 and tile.offset == end
        assert tile.k % 8 == 0  # a left operand's piece starts on 16 bytes
        end += lanes * tile.rows * tile.columns * fmt.itemsize
    assert sum(tile.rows * tile.columns for tile in plan.tiles) == k * plan.lane_columns
    assert end <= plan.scale_offset <= plan.num_bytes


def test_packed_weights_are_the_tiles_in_reading_order() -> None:
    plan = plan_weight(chip_named("cv180x"), 16, 40, Fmt.I8, 256)
    weight = np.arange(16 * 40).reshape(16, 40).astype(np.int8)
    scale = np.arange(40, dtype=np.uint16)
    packed = pack_weight(plan, weight, scale)
    padded = np.pad(weight, ((0, 0), (0, plan.num_lanes_used * plan.lane_columns - 40)))
    for tile in plan.tiles:
        for lane in range(plan.num_lanes_used):
            start = tile.offset + lane * tile.rows * tile.columns
            column = lane * plan.lane_columns + tile.w
            wanted = padded[tile.k : tile.k + tile.rows, column : column + tile.columns]
            assert packed[start : start + wanted.size] == wanted.tobytes()
    assert packed[plan.scale_offset :][:80] == scale.tobytes()


def test_what_does_not_fit_is_refused_with_sizes_and_a_way_out() -> None:
    b = KernelBuilder("cv180x")
    x = alloc_rows(b, 1, 64)
    stream = WeightStream(b, [(plan_weight(b.chip, 64, 8000, Fmt.BF16), 0)])
    with b.lmem_scope():
        b.lmem_alloc_tensor((1, 2, 1, 5000), Fmt.BF16)
        wanted = r"needs \d+,\d+ bytes of LMEM a lane, but"
        wanted += r" \d+,\d+ of cv180x's 32,768 are free; at most \d+,\d+ columns would fit: split"
        with pytest.raises(UsageError, match=wanted):
            matmul(b, stream, x, tg(0, (1, 1, 1, 8000), Fmt.BF16))
    with pytest.raises(UsageError, match="all used; list every matrix"):
        matmul(b, stream, x, tg(0, (1, 1, 1, 8000), Fmt.BF16))
    with pytest.raises(UsageError, match="plan at most"):
        plan_weight(b.chip, 64, 80_000, Fmt.BF16)
    with pytest.raises(UsageError, match="holds no tile"):
        plan_weight(b.chip, 64, 64, Fmt.BF16, 64)
    q, res = alloc_rows(b, 1, 64), alloc_rows(b, 1, 64)
    pages = [[(0, None)] * 60]
    mask, shape = (
        tg(0, (1, 1, 1, 960), Fmt.BF16),
        AttentionShape(num_heads=1, num_kv_heads=1, head_dim=64, num_pages=60),
    )
    b.lmem.alloc(b.lmem.free_bytes - 3000, "what others use", "")
    with pytest.raises(
        UsageError, match=r"at least \d,\d+ bytes of LMEM a lane for a page of .*, but 2,\d+ are free; free LMEM"
    ):
        attention(b, res, q, pages, pages, mask=mask, shape=shape, tables=None)  # type: ignore[arg-type]


def test_a_failed_kernel_gives_its_lmem_back() -> None:
    b = KernelBuilder("cv181x")
    x = alloc_rows(b, 1, 64)
    stream = WeightStream(b, [(plan_weight(b.chip, 64, 30_000, Fmt.BF16), 0)])
    before = b.lmem.top
    with pytest.raises(UsageError):
        matmul(b, stream, x, alloc_rows(b, 1, 30_000))
    assert b.lmem.top == before
