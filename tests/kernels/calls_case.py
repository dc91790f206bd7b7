"""One program that makes most of KernelBuilder's calls."""

from __future__ import annotations

import numpy as np

from npusim.kernels import Fmt, KernelBuilder, MlShape, Tl, mg, tg
from tests.kernels.harness import BASE, Checked, bf16_numbers, case_of

BF16 = Fmt.BF16


def draw(rng: np.random.Generator, chip: str) -> Checked:
    b, gmem = KernelBuilder(chip), BASE[chip]
    _elementwise(b, gmem)
    _reductions(b, gmem)
    _tables(b, gmem)
    _matrices(b, gmem)
    _bytes(b, gmem)
    return Checked(case_of("calls", b.build(), {gmem: bf16_numbers(rng, 0x28000)}), {})


def _elementwise(b: KernelBuilder, gmem: int) -> None:
    shape = (1, b.chip.num_lanes, 1, 64)
    x, y, z = (b.lmem_alloc_tensor(shape, BF16) for _ in range(3))
    b.tdma_g2l_tensor_copy(tg(gmem, shape, BF16), x)
    b.tdma_g2l_tensor_copy(tg(gmem + 0x4000, shape, BF16), y)
    for i, call in enumerate((b.tiu_mul, b.tiu_add, b.tiu_sub, b.tiu_max, b.tiu_min, b.tiu_mac)):
        call(z, x, y)
        b.tdma_l2g_tensor_copy(z, tg(gmem + 0x8000 + i * 0x2000, shape, BF16))
    b.tiu_mul(z, x, 0x3F00)
    b.tiu_add(z, z, y.view((1, b.chip.num_lanes, 1, 1)).broadcast(shape))
    b.tiu_copy(y, z)


def _reductions(b: KernelBuilder, gmem: int) -> None:
    x = b.lmem_alloc_tensor((1, b.chip.num_lanes, 1, 576), BF16)
    b.tdma_g2l_tensor_copy(tg(gmem + 0x20000, x.shape, BF16), x)
    sums = [b.lmem_alloc_tensor((1, b.chip.num_lanes, 1, 1), BF16) for _ in range(3)]
    b.tiu_pt_depthwise_convolution(sums[0], x, x)
    b.tiu_average_pooling(sums[1], x, (1, 576), 0x3F80)
    b.tiu_max_pooling(sums[2], x, (1, 576))


def _tables(b: KernelBuilder, gmem: int) -> None:
    lanes = b.chip.num_lanes
    x, index, base, found = (b.lmem_alloc_tensor((1, lanes, 1, 64), BF16) for _ in range(4))
    b.tdma_g2l_tensor_copy(tg(gmem, x.shape, BF16), x)
    table = b.lmem_alloc_tensor((1, lanes, 32, 8), BF16)
    for lane in range(lanes):
        one = Tl(table.addr + lane * b.chip.lmem_bytes, (1, 1, 32, 8), table.stride, BF16)
        b.tdma_g2l_tensor_copy(tg(gmem + 0x4000, one.shape, BF16), one)
    b.tdma_l2l_tensor_copy(x, index, mv_lut_idx=True)
    b.tiu_lookup_table(found, index, table)
    b.tdma_l2l_tensor_copy(x, base, mv_lut_base=True)


def _matrices(b: KernelBuilder, gmem: int) -> None:
    left = b.lmem_alloc_matrix(MlShape(3, 1, 64, 64), BF16)
    right = b.lmem_alloc_matrix(b.ml_default_shape(64, 100), BF16)
    res = b.lmem_alloc_matrix(b.ml_default_shape(3, 100), BF16, ps32=True)
    b.tdma_g2l_matrix_copy(mg(gmem, 3, 64, BF16), left)
    b.tdma_g2l_matrix_copy(mg(gmem + 0x40000, 64, 100, Fmt.I8), right)
    for mode in (2, 3, 1):
        b.tiu_matrix_multiplication(res, left, right, ps32_mode=mode)
    b.tdma_l2g_matrix_copy(res, mg(gmem + 0x18000, 3, 100, BF16))
    b.tdma_l2g_matrix_copy(res, mg(gmem + 0x1A000, 3, 100, Fmt.I8))
    b.tdma_g2l_tensor_fill_constant(right.tl, 0x3F80)
    b.tdma_l2g_tensor_copy_nc_transposed(res.tl, tg(gmem + 0x1C000, (res.shape.c, 3, 1, res.shape.w), BF16))
    b.tdma_l2g_tensor_fill_constant(tg(gmem + 0x1E000, (1, 2, 3, 4), BF16), 0x1234)


def _bytes(b: KernelBuilder, gmem: int) -> None:
    turned = b.lmem_alloc_matrix(b.ml_default_shape(20, 48, Fmt.I8), Fmt.I8)
    b.tdma_g2l_matrix_copy_row_col_transposed(mg(gmem, 48, 20, Fmt.I8), turned)
    x = b.lmem_alloc_tensor((2, 5, 3, 16), Fmt.I8)
    b.tdma_g2l_tensor_copy(tg(gmem + 0x100, x.shape, Fmt.I8), x)
    b.tdma_l2g_tensor_copy_cw_transposed(x, tg(gmem + 0x30000, (2, 16, 3, 5), Fmt.I8))
    b.tiu_mul(x, x, 3, rshift_bits=2)
    b.tiu_mul_qm(x, x, x, 1 << 30, 4)
    b.tdma_l2g_general_copy(b.chip.lmem_bytes - 100, tg(gmem + 0x31000, (1, 1, 1, 1), Fmt.I8), 200)
    b.tdma_g2l_general_copy(tg(gmem + 0x200, (1, 1, 1, 1), Fmt.I8), b.chip.lmem_bytes - 60, 100)
    b.tdma_g2g_general_copy(tg(gmem, (1, 1, 1, 1), Fmt.I8), tg(gmem + 0x32000, (1, 1, 1, 1), Fmt.I8), 333)
    b.tdma_g2g_tensor_copy(tg(gmem, (1, 2, 3, 4), BF16), tg(gmem + 0x33000, (1, 3, 2, 4), BF16))
