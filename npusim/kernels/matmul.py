"""Products with weights that stream through LMEM: [m, k] @ [k, n], bf16 or int8 weights with a scale for each column.

Sums run over k in order, in float32 toward zero, tile by tile through 32-bit partial sums. Each result is rounded to
bf16 once and then multiplied by its column's scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import load_constant
from npusim.kernels.stream import WeightStream
from npusim.kernels.tensors import Fmt, Ml, MlShape, Tg, Tl, mg, ml_at, tg
from npusim.kernels.weights import Tile, WeightPlan
from npusim.mem.lmem import Shape

BF16 = Fmt.BF16


def matmul(b: KernelBuilder, stream: WeightStream, x: Tl, res: Tl | Tg, *, scratch: Tg | None = None) -> None:
    """res = x @ the stream's next matrix. x is (1, m, 1, k) in LMEM, res (1, m, 1, n) in LMEM or GMEM.

    With more than one row, a result in LMEM goes through `scratch`, a dense (1, m, 1, n) in GMEM.
    """
    with next_product(b, stream, x, res.shape) as product:
        deliver(b, product, res, scratch)


def matmul_add(b: KernelBuilder, stream: WeightStream, x: Tl, residual: Tl, *, scratch: Tg | None = None) -> None:
    """residual += x @ the stream's next matrix; residual is (1, m, 1, n) in LMEM.

    This is one add, or with int8 weights one mac of product and scale."""
    plan, addr = _take(stream, x, residual.shape)
    with b.lmem_scope():
        product = b.lmem_alloc_tensor(residual.shape, BF16)
        if plan.fmt is Fmt.I8:
            scales = tg(addr + plan.scale_offset, (1, 1, 1, plan.n), BF16, base_reg=stream.base_reg)
            scale = load_constant(b, scales, residual.shape)
        with b.lmem_scope():
            deliver(b, _product(b, stream, plan, x, None), product, scratch)
        if plan.fmt is Fmt.I8:
            b.tiu_mac(residual, product, scale)
        else:
            b.tiu_add(residual, residual, product)


@contextmanager
def next_product(b: KernelBuilder, stream: WeightStream, x: Tl, shape: Shape) -> Iterator[Ml]:
    """x @ the stream's next matrix, scaled and spread over lanes; it stays in LMEM within the context.

    `shape` is (1, m, 1, n)."""
    plan, addr = _take(stream, x, shape)
    with b.lmem_scope():
        scale = _load_scale(b, stream, plan, addr) if plan.fmt is Fmt.I8 else None
        yield _product(b, stream, plan, x, scale)


def _take(stream: WeightStream, x: Tl, shape: Shape) -> tuple[WeightPlan, int]:
    """The next matrix, checked against the operands."""
    plan, addr = stream.next_weight(WeightPlan)
    rows = x.shape[1]
    if x.shape != (1, rows, 1, plan.k) or shape != (1, rows, 1, plan.n):
        wanted = f"(1, m, 1, {plan.k}) and (1, m, 1, {plan.n})"
        raise UsageError(
            f"x has shape {x.shape} and the result {shape}; this matrix is {plan.k} x {plan.n}, so they are {wanted}"
        )
    return plan, addr


def _product(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl, scale: Tl | None) -> Ml:
    return (_one_row if x.shape[1] == 1 else _many_rows)(b, stream, plan, x, scale)


def _one_row(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl, scale: Tl | None) -> Ml:
    """Tiles write straight into their columns of the product.

    The second plane of a partial sum lies over columns that are written later."""
    lanes = plan.num_lanes_used
    fit = b.chip.num_lanes * max(b.lmem.free_bytes // 2 - plan.tile_columns, 0)
    room = b.lmem_alloc_tensor(
        (1, lanes, 1, plan.lane_columns + plan.tile_columns),
        BF16,
        way_out=f"at most {fit:,} columns would fit: split the {plan.n:,} of the matrix",
    )
    for tile in plan.tiles:
        left = ml_at(b.chip, x.addr + 2 * tile.k, MlShape(1, 1, tile.rows, tile.rows))
        part = ml_at(b.chip, room.addr + 2 * tile.w, MlShape(1, lanes, tile.columns, lanes * tile.columns))
        b.tiu_matrix_multiplication(part, left, _right(b, stream, plan, tile), ps32_mode=_ps32(plan, tile))
        stream.done()
    product = ml_at(b.chip, room.addr, MlShape(1, lanes, plan.lane_columns, plan.n))
    if scale is not None:
        b.tiu_mul(product.tl, product.tl, scale)
    return product


def _many_rows(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl, scale: Tl | None) -> Ml:
    rows, lanes = x.shape[1], plan.num_lanes_used
    way_out = f"multiply fewer than {rows} rows or {plan.n} columns at a time"
    product = b.lmem_alloc_matrix(MlShape(rows, lanes, plan.lane_columns, plan.n), BF16, way_out=way_out)
    shape = MlShape(rows, lanes, plan.tile_columns, lanes * plan.tile_columns)
    room = b.lmem_alloc_matrix(shape, BF16, ps32=plan.tile_rows < plan.k, way_out=way_out)
    lefts = _left_blocks(b, plan, x, way_out)
    for tile in plan.tiles:
        part = ml_at(b.chip, room.addr, MlShape(rows, lanes, tile.columns, lanes * tile.columns))
        b.tiu_matrix_multiplication(part, lefts[tile.k], _right(b, stream, plan, tile), ps32_mode=_ps32(plan, tile))
        stream.done()
        if tile.k + tile.rows < plan.k:
            continue
        strip = product.tl.view(part.tl.shape, product.tl.stride, 2 * tile.w)
        if scale is None:
            b.tiu_copy(strip, part.tl)
        else:
            b.tiu_mul(strip, part.tl, scale.view((1, lanes, 1, tile.columns), offset=2 * tile.w).broadcast(strip.shape))
    return product


def _left_blocks(b: KernelBuilder, plan: WeightPlan, x: Tl, way_out: str) -> dict[int, Ml]:
    """All rows of x, for each piece of k.

    A piece lies on one lane, so that k stays in order. Different pieces lie on different lanes."""
    rows, lanes = x.shape[1], b.chip.num_lanes
    starts = range(0, plan.k, plan.tile_rows)
    widest = MlShape(rows, 1, plan.tile_rows, plan.tile_rows)
    places = [b.lmem_alloc_matrix(widest, BF16, way_out=way_out).addr for _ in range(-(-len(starts) // lanes))]
    blocks = {}
    for piece, k in enumerate(starts):
        count = min(plan.tile_rows, plan.k - k)
        block = ml_at(
            b.chip, places[piece // lanes] + piece % lanes * b.chip.lmem_bytes, MlShape(rows, 1, count, count)
        )
        source = Tl(x.addr + 2 * k, (1, rows, 1, count), x.stride, BF16)
        b.tdma_l2l_tensor_copy(source, Tl(block.addr, (1, 1, rows, count), (0, 0, block.n_stride, 2), BF16))
        blocks[k] = block
    return blocks


def _right(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, tile: Tile) -> Ml:
    """The stream's tile as the right-hand matrix."""
    lanes = plan.num_lanes_used
    return ml_at(b.chip, stream.tile_addr, MlShape(tile.rows, lanes, tile.columns, lanes * tile.columns))


def _load_scale(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, addr: int) -> Tl:
    """The scales of an int8 matrix as its product lies, (1, lanes, 1, lane_columns)."""
    scale = b.lmem_alloc_tensor((1, plan.num_lanes_used, 1, plan.lane_columns), BF16)
    b.tdma_g2l_tensor_copy(tg(addr + plan.scale_offset, scale.shape, BF16, base_reg=stream.base_reg), scale)
    return scale


def _ps32(plan: WeightPlan, tile: Tile) -> int:
    """The ps32 mode that starts, continues or finishes the sum over k; 0 where one tile is all of k."""
    return (1 if tile.k else 0) | (2 if tile.k + tile.rows < plan.k else 0)


def deliver(b: KernelBuilder, product: Ml, res: Tl | Tg, scratch: Tg | None) -> None:
    """Moves a matrix that is spread over lanes to rows over lanes, or to GMEM."""
    rows, columns = product.shape.n, product.shape.col
    if isinstance(res, Tg):
        b.tdma_l2g_matrix_copy(
            product, mg(res.addr, rows, columns, BF16, res.stride[1], base_reg=res.base_reg, label=res.label)
        )
        return
    if rows > 1:
        if scratch is None or scratch.shape != res.shape:
            raise UsageError(f"a product of {rows} rows into LMEM needs `scratch`, a dense GMEM tensor of {res.shape}")
        b.tdma_l2g_matrix_copy(product, mg(scratch.addr, rows, columns, BF16, base_reg=scratch.base_reg))
        b.tdma_g2l_tensor_copy(tg(scratch.addr, res.shape, BF16, base_reg=scratch.base_reg), res)
        return
    gather_row(b, product, res)


def gather_row(b: KernelBuilder, product: Ml, res: Tl) -> None:
    """Moves one row that is spread over lanes to (1, 1, 1, columns) on one lane."""
    w, columns = product.shape.w, product.shape.col
    whole = columns // w
    if whole:
        b.tdma_l2l_tensor_copy(product.tl.view((1, whole, 1, w), product.tl.stride), res.view((1, 1, 1, whole * w)))
    if rest := columns - whole * w:
        last = product.addr + whole % b.chip.num_lanes * b.chip.lmem_bytes
        b.tdma_l2l_tensor_copy(
            Tl(last, (1, 1, 1, rest), product.tl.stride, BF16), res.view((1, 1, 1, rest), offset=2 * whole * w)
        )
