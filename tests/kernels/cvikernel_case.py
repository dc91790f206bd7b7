"""The same calls to KernelBuilder and to cvikernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npusim.kernels import Fmt, KernelBuilder, MlShape, Tl, mg, tg
from tests.kernels.cvikernel import Cvikernel

BF16, I8 = Fmt.BF16, Fmt.I8
GMEM = 0x2000000
Call = tuple[str, dict[str, Any]]


def ours(chip: str) -> tuple[bytes, list[Call]]:
    """KernelBuilder's command buffer in cvikernel's serial mode, and the calls that make cvikernel's."""
    b, calls = KernelBuilder(chip, sync="vendor"), []

    def both(mine: Callable[..., None], args: tuple[Any, ...], name: str, **values: Any) -> None:
        mine(*args)
        calls.append((name, values))

    _elementwise(b, both)
    _moves(b, both)
    _windows(b, both)
    _matrices(b, both)
    _int8(b, both)
    return b.build().cmdbuf, calls


def theirs(chip: str, calls: list[Call]) -> bytes:
    k = Cvikernel(chip)
    for name, values in calls:
        k.call(name, **values)
    return k.cmdbuf()


def _elementwise(b: KernelBuilder, both: Callable[..., None]) -> None:
    x, y, z = (b.lmem_alloc_tensor((1, b.chip.num_lanes, 2, 32), BF16) for _ in range(3))
    both(b.tiu_mul, (z, x, y), "tiu_mul", res_low=z, a=x, b=y)
    both(b.tiu_mul, (z, x, 0x3F00), "tiu_mul", res_low=z, a=x, b_is_const=1, b=0x3F00)
    both(b.tiu_add, (z, x, y), "tiu_add", res_low=z, a_low=x, b_low=y)
    both(b.tiu_add, (z, x, 0x3F00), "tiu_add", res_low=z, a_low=x, b_is_const=1, b=0x3F00)
    both(b.tiu_sub, (z, x, y), "tiu_sub", res_low=z, a_low=x, b_low=y)
    both(b.tiu_mac, (z, x, y), "tiu_mac", res_low=z, a=x, b=y, res_is_int8=1)
    both(b.tiu_max, (z, x, y), "tiu_max", max=z, a=x, b=y)
    both(b.tiu_min, (z, x, 0x3F00), "tiu_min", min=z, a=x, b_is_const=1, b=0x3F00)
    both(b.tiu_copy, (z, x), "tiu_copy", src=x, dst=z)


def _moves(b: KernelBuilder, both: Callable[..., None]) -> None:
    lanes = b.chip.num_lanes
    x, y = (b.lmem_alloc_tensor((1, lanes, 1, 64), BF16) for _ in range(2))
    far, bytes_ = tg(GMEM, x.shape, BF16), tg(GMEM, x.shape, I8)
    both(b.tdma_g2l_tensor_copy, (far, x), "tdma_g2l_bf16_tensor_copy", src=far, dst=x)
    both(b.tdma_g2l_tensor_copy, (bytes_, y), "tdma_g2l_bf16_tensor_copy", src=bytes_, dst=y)
    both(b.tdma_l2g_tensor_copy, (x, far), "tdma_l2g_bf16_tensor_copy", src=x, dst=far)
    both(b.tdma_l2l_tensor_copy, (x, y), "tdma_l2l_bf16_tensor_copy", src=x, dst=y)
    low = Tl(y.addr, (1, lanes, 64, 1), (y.stride[0], y.stride[1], 2, 1), I8)
    each = Tl(x.addr, low.shape, (x.stride[0], x.stride[1], 2, 2), BF16)
    both(b.tdma_l2l_tensor_copy, (each, low), "tdma_l2l_bf16_tensor_copy", src=each, dst=low)
    both(b.tdma_g2l_tensor_fill_constant, (x, 0x3F80), "tdma_g2l_bf16_tensor_fill_constant", dst=x, constant=0x3F80)
    turned = tg(GMEM, (lanes, 1, 1, 64), BF16)
    both(
        b.tdma_l2g_tensor_copy_nc_transposed, (x, turned), "tdma_l2g_bf16_tensor_copy_nc_transposed", src=x, dst=turned
    )


def _windows(b: KernelBuilder, both: Callable[..., None]) -> None:
    lanes, ones = b.chip.num_lanes, {"stride_h": 1, "stride_w": 1}
    x, y = (b.lmem_alloc_tensor((1, lanes, 1, 64), BF16) for _ in range(2))
    total, table = b.lmem_alloc_tensor((1, lanes, 1, 1), BF16), b.lmem_alloc_tensor((1, lanes, 32, 8), BF16)
    both(b.tiu_lookup_table, (y, x, table), "tiu_lookup_table", ofmap=y, ifmap=x, table=table)
    both(b.tiu_max_pooling, (total, x, (1, 64)), "tiu_max_pooling", ofmap=total, ifmap=x, kh=1, kw=64, **ones)
    window = dict(
        ofmap=total, ifmap=x, kh=1, kw=64, avg_pooling_const=0x4280
    )  # cvikernel divides by the window's size, 64
    both(b.tiu_average_pooling, (total, x, (1, 64), 0x3F80), "tiu_average_pooling", **window, **ones)
    both(
        b.tiu_pt_depthwise_convolution, (total, x, x), "tiu_pt_depthwise_convolution",
        ofmap=total, ifmap=x, weight=x, dilation_h=1, dilation_w=1, **ones,
    )  # fmt: skip


def _matrices(b: KernelBuilder, both: Callable[..., None]) -> None:
    left = b.lmem_alloc_matrix(MlShape(3, 1, 64, 64), BF16)
    right = b.lmem_alloc_matrix(b.ml_default_shape(64, 100), BF16)
    res = b.lmem_alloc_matrix(b.ml_default_shape(3, 100), BF16, ps32=True)
    rows, weights, out = mg(GMEM, 3, 64, BF16), mg(GMEM, 64, 100, I8), mg(GMEM, 3, 100, BF16)
    both(b.tdma_g2l_matrix_copy, (rows, left), "tdma_g2l_bf16_matrix_copy", src=rows, dst=left)
    both(b.tdma_g2l_matrix_copy, (weights, right), "tdma_g2l_bf16_matrix_copy", src=weights, dst=right)
    for mode in (2, 3, 1, 0):
        multiply = lambda *args, mode=mode: b.tiu_matrix_multiplication(*args, ps32_mode=mode)  # noqa: E731
        both(multiply, (res, left, right), "tiu_matrix_multiplication", res=res, left=left, right=right, ps32_mode=mode)
    both(b.tdma_l2g_matrix_copy, (res, out), "tdma_l2g_bf16_matrix_copy", src=res, dst=out)


def _int8(b: KernelBuilder, both: Callable[..., None]) -> None:
    count = 2 * b.chip.num_lanes
    x, res = b.lmem_alloc_tensor((1, 40, 1, 2), I8), b.lmem_alloc_tensor((1, count, 1, 2), I8)
    weight = Tl(b.lmem.alloc(80, "weights", ""), (1, count, 1, 40), (0, 40, 0, 1), I8)
    record = Tl(b.lmem.alloc(16, "records", ""), (1, count, 1, 5), (0, 5, 0, 1), Fmt.U8)
    weight_as_theirs = Tl(weight.addr, (40, count, 1, 1), (2, 1, 1, 1), I8)
    record_as_theirs = Tl(record.addr, (1, count, 1, 1), (2, 1, 1, 1), Fmt.U8)
    both(
        b.tiu_convolution_1x1_qm, (res, x, weight, record), "tiu_convolution", ofmap=res, ifmap=x,
        weight=weight_as_theirs,
        chl_quan_param=record_as_theirs, stride_h=1, stride_w=1, dilation_h=1, dilation_w=1,
    )  # fmt: skip
