"""What stands between the matrix products of a decoder layer: RMSNorm, RoPE, gated activations.

Rows lie over lanes, in bf16. Results equal reference_model.quant.ops bit for bit."""

from __future__ import annotations

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16, columns_of, load_constant, row_dot
from npusim.kernels.tables import InterpolatedTable, ScientificTable, interpolate, scientific
from npusim.kernels.tensors import Tg, Tl


def rms_norm(b: KernelBuilder, res: Tl, x: Tl, gain: Tg, *, eps: int, rsqrt: ScientificTable) -> None:
    """res = x * rsqrt(sum of squares + eps) * gain, for each row of x (1, m, 1, d).

    x lies as allocated, and res may be x. `gain` is a row of GMEM that holds gain * sqrt(d); `eps` is the bf16
    pattern of eps * d."""
    with b.lmem_scope():
        factor, total = (b.lmem_alloc_tensor((1, x.shape[1], 1, 1), BF16) for _ in range(2))
        row_dot(b, total, x, x)
        b.tiu_add(total, total, eps)
        scientific(b, rsqrt, factor, total)
        constant = load_constant(b, gain, x.shape)
        b.tiu_mul(res, x, factor.broadcast(x.shape))
        b.tiu_mul(res, res, constant)


def heads_norm(b: KernelBuilder, x: Tl, gain: Tg, *, eps: int, rsqrt: ScientificTable, head_dim: int) -> None:
    """RMSNorm of each head of x (1, m, 1, heads * head_dim) by itself, in place.

    Meanwhile, each head is a row on a lane of its own."""
    rows, heads = x.shape[1], x.shape[3] // head_dim
    if heads * head_dim != x.shape[3]:
        raise UsageError(f"x is {x.shape}; it takes whole heads of {head_dim}")
    apart = Tl(x.addr, (1, rows, heads, head_dim), (x.stride[0], x.stride[1], 2 * head_dim, 2), BF16)
    with b.lmem_scope():
        each = b.lmem_alloc_tensor(
            (1, rows * heads, 1, head_dim), BF16, way_out=f"take fewer than {rows} rows at a time"
        )
        b.tdma_l2l_tensor_copy(apart, each)
        rms_norm(b, each, each, gain, eps=eps, rsqrt=rsqrt)
        b.tdma_l2l_tensor_copy(each, apart)


def rope(b: KernelBuilder, res: Tl, x: Tl, cos: Tl, sin: Tl, *, head_dim: int) -> None:
    """Rotates x (1, m, 1, heads * head_dim) by each row's cos and sin (1, m, 1, head_dim), into res.

    The halves of a head rotate against each other, by one mul and one mac. The first half of sin is negated. res is
    another tensor than x."""
    rows, width = x.shape[1], x.shape[3]
    if width % head_dim or cos.shape != (1, rows, 1, head_dim) or sin.shape != cos.shape or res.addr == x.addr:
        raise UsageError(
            f"x is {x.shape}, cos {cos.shape}; rope takes whole heads of {head_dim}, cos and sin (1, m, 1, "
            f"{head_dim}), res apart from x"
        )
    heads, half = width // head_dim, head_dim // 2
    whole = (1, rows, heads, head_dim)

    def of_heads(tensor: Tl) -> Tl:
        return Tl(tensor.addr, whole, (tensor.stride[0], tensor.stride[1], 2 * head_dim, 2), BF16)

    def halves(tensor: Tl) -> tuple[Tl, Tl]:
        return columns_of(tensor, 0, half), columns_of(tensor, half, half)

    b.tiu_mul(of_heads(res), of_heads(x), cos.broadcast(whole))
    turned, straight = halves(of_heads(res)), halves(of_heads(x))
    factors = halves(sin.broadcast(whole))
    for mine, other, factor in zip(turned, reversed(straight), factors, strict=True):
        b.tiu_mac(mine, other, factor)


def gated(b: KernelBuilder, res: Tl, gate: Tl, up: Tl, table: InterpolatedTable) -> None:
    """res = gate * table(gate) * up, each product rounded. res may be gate or up.

    It is SiLU with the sigmoid's table, and GELU with the table of its gate."""
    with b.lmem_scope():
        factor = b.lmem_alloc_tensor(gate.shape, BF16)
        interpolate(b, table, factor, gate)
        b.tiu_mul(factor, gate, factor)
        b.tiu_mul(res, factor, up)


def residual_add(b: KernelBuilder, residual: Tl, x: Tl) -> None:
    """residual += x."""
    b.tiu_add(residual, residual, x)
