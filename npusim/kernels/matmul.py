"""Products with weights that stream through LMEM: [m, k] @ [k, n], bf16 or int8 weights with a scale for each column.

Sums run over k in order, in float32 toward zero, tile by tile through 32-bit partial sums. Each result is rounded to
bf16 once and then multiplied by its column's scale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import load_constant, load_rows
from npusim.kernels.stream import WeightStream
from npusim.kernels.tensors import Fmt, Ml, MlShape, Tg, Tl, mg, ml_at, tg
from npusim.kernels.weights import Tile, WeightPlan
from npusim.mem.lmem import Shape

BF16 = Fmt.BF16


def matmul(b: KernelBuilder, stream: WeightStream, x: Tl | Tg, res: Tl | Tg, *, scratch: Tg | None = None) -> None:
    """res = x @ the stream's next matrix; x (1, m, 1, k) and res (1, m, 1, n) are rows over lanes or rows in GMEM.

    With more than one row, a result in LMEM goes through `scratch`, a dense (1, m, 1, n) in GMEM.
    """
    if x.shape[1] == 1:
        with next_product(b, stream, x, res.shape) as product:
            deliver(b, product, res, scratch)
        return
    plan, addr = next_matrix(stream, x, res.shape)
    far = _require_far(res, scratch)
    with b.lmem_scope():
        scale = load_scale(b, stream, plan, addr) if plan.fmt is Fmt.I8 else None
        _many_rows_to_gmem(b, stream, plan, x, far, scale=scale)
    if isinstance(res, Tl):
        b.tdma_g2l_tensor_copy(tg(far.addr, res.shape, BF16, base_reg=far.base_reg), res)


def matmul_add(b: KernelBuilder, stream: WeightStream, x: Tl | Tg, residual: Tl, *, scratch: Tg | None = None) -> None:
    """residual += x @ the stream's next matrix; residual is (1, m, 1, n) in LMEM.

    This is one add, or with int8 weights one mac of product and scale."""
    plan, addr = next_matrix(stream, x, residual.shape)
    with b.lmem_scope():
        product = b.lmem_alloc_tensor(residual.shape, BF16)
        if plan.fmt is Fmt.I8:
            scales = tg(addr + plan.scale_offset, (1, 1, 1, plan.n), BF16, base_reg=stream.base_reg)
            scale = load_constant(b, scales, residual.shape)
        with b.lmem_scope():
            if x.shape[1] == 1:
                deliver(b, _one_row(b, stream, plan, x, None), product, scratch)
            else:
                far = _require_far(product, scratch)
                _many_rows_to_gmem(b, stream, plan, x, far, scale=None)
                b.tdma_g2l_tensor_copy(tg(far.addr, product.shape, BF16, base_reg=far.base_reg), product)
        if plan.fmt is Fmt.I8:
            b.tiu_mac(residual, product, scale)
        else:
            b.tiu_add(residual, residual, product)


@contextmanager
def next_product(b: KernelBuilder, stream: WeightStream, x: Tl | Tg, shape: Shape) -> Iterator[Ml]:
    """x @ the stream's next matrix, scaled and spread over lanes; it stays in LMEM within the context.

    `shape` is (1, m, 1, n)."""
    plan, addr = next_matrix(stream, x, shape)
    with b.lmem_scope():
        scale = load_scale(b, stream, plan, addr) if plan.fmt is Fmt.I8 else None
        yield (_one_row if x.shape[1] == 1 else _many_rows)(b, stream, plan, x, scale)


def next_matrix(stream: WeightStream, x: Tl | Tg, shape: Shape) -> tuple[WeightPlan, int]:
    """The next matrix, checked against the operands."""
    plan, addr = stream.next_weight(WeightPlan)
    rows = x.shape[1]
    if x.shape != (1, rows, 1, plan.k) or shape != (1, rows, 1, plan.n):
        wanted = f"(1, m, 1, {plan.k}) and (1, m, 1, {plan.n})"
        raise UsageError(
            f"x has shape {x.shape} and the result {shape}; this matrix is {plan.k} x {plan.n}, so they are {wanted}"
        )
    return plan, addr


def _one_row(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl | Tg, scale: Tl | None) -> Ml:
    """Tiles write straight into their columns of the product.

    The second plane of a partial sum lies over columns that are written later."""
    lanes = plan.num_lanes_used
    fit = b.chip.num_lanes * max(b.lmem.free_bytes // 2 - plan.tile_columns, 0)
    room = b.lmem_alloc_tensor(
        (1, lanes, 1, plan.lane_columns + plan.tile_columns),
        BF16,
        way_out=f"at most {fit:,} columns would fit: split the {plan.n:,} of the matrix",
    )
    row = load_rows(b, x) if isinstance(x, Tg) else x
    for tile in plan.tiles:
        left = ml_at(b.chip, row.addr + 2 * tile.k, MlShape(1, 1, tile.rows, tile.rows))
        part = ml_at(b.chip, room.addr + 2 * tile.w, MlShape(1, lanes, tile.columns, lanes * tile.columns))
        b.tiu_matrix_multiplication(part, left, _right(b, stream, plan, tile), ps32_mode=_ps32(plan, tile))
        stream.done()
    product = ml_at(b.chip, room.addr, MlShape(1, lanes, plan.lane_columns, plan.n))
    if scale is not None:
        b.tiu_mul(product.tl, product.tl, scale)
    return product


def _many_rows(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl | Tg, scale: Tl | None) -> Ml:
    """The product, spread over lanes."""
    rows = x.shape[1]
    way_out = f"multiply fewer than {rows} rows or {plan.n} columns at a time"
    shape = MlShape(rows, plan.num_lanes_used, plan.lane_columns, plan.n)
    product = b.lmem_alloc_matrix(shape, BF16, way_out=way_out)
    for tile, part in _column_groups(b, stream, plan, x):
        scaled(b, product.tl.view(part.shape, product.tl.stride, 2 * tile.w), part, tile, scale)
    return product


def _many_rows_to_gmem(
    b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl | Tg, far: Tg, *, scale: Tl | None
) -> None:
    """The product to rows in GMEM, some columns of each lane at a time: two buffers take turns."""
    shape = (x.shape[1], plan.num_lanes_used, 1, plan.tile_columns)
    buffers = [b.lmem_alloc_tensor(shape, BF16, way_out="multiply fewer rows at a time") for _ in range(2)]
    for turn, (tile, part) in enumerate(_column_groups(b, stream, plan, x)):
        near = Tl(buffers[turn % 2].addr, part.shape, part.stride, BF16)
        scaled(b, near, part, tile, scale)
        _store_columns(b, plan, tile, near, far)


def scaled(b: KernelBuilder, res: Tl, part: Tl, tile: Tile, scale: Tl | None) -> None:
    """res = the columns of a tile, times their scales if there are any."""
    if scale is None:
        b.tiu_copy(res, part)
    else:
        columns = scale.view((1, part.shape[1], 1, tile.columns), offset=2 * tile.w)
        b.tiu_mul(res, part, columns.broadcast(part.shape))


def _store_columns(b: KernelBuilder, plan: WeightPlan, tile: Tile, near: Tl, far: Tg) -> None:
    """A tile's columns of every lane to rows of GMEM; the last lane may hold fewer."""
    rows, lanes, _, columns = near.shape
    whole = lanes if lanes * plan.lane_columns == plan.n else lanes - 1
    rest = min(max(plan.n - whole * plan.lane_columns - tile.w, 0), columns)
    for first, count, width in ((0, whole, columns), (whole, lanes - whole, rest)):
        if not count or not width:
            continue
        shape, lane_bytes = (rows, count, 1, width), 2 * plan.lane_columns
        source = Tl(near.addr + first * b.chip.lmem_bytes, shape, near.stride, BF16)
        to, strides = far.addr + first * lane_bytes + 2 * tile.w, (far.stride[1], lane_bytes, 2 * width, 2)
        b.tdma_l2g_tensor_copy(source, tg(to, shape, BF16, strides, base_reg=far.base_reg, label=far.label))


def _column_groups(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, x: Tl | Tg) -> Iterator[tuple[Tile, Tl]]:
    """Products of all rows with a tile's columns on each lane, (rows, lanes, 1, columns) with the tile that finished
    them. Each is read before the next one is asked for."""
    rows, lanes = x.shape[1], plan.num_lanes_used
    way_out = f"multiply fewer than {rows} rows or {plan.n} columns at a time"
    widest = MlShape(rows, lanes, plan.tile_columns, lanes * plan.tile_columns)
    room = b.lmem_alloc_matrix(widest, BF16, ps32=len(plan.pieces) > 1, way_out=way_out)
    lefts = left_blocks(b, plan, x, way_out)
    for tile in plan.tiles:
        part = ml_at(b.chip, room.addr, MlShape(rows, lanes, tile.columns, lanes * tile.columns))
        multiply_tile(b, stream, plan, tile, part=part, left=lefts[tile.k])
        if tile.k + tile.rows == plan.k:
            yield tile, part.tl


def multiply_tile(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, tile: Tile, *, part: Ml, left: Ml) -> None:
    """part = left @ the stream's tile, or part of the sum over k."""
    b.tiu_matrix_multiplication(part, left, _right(b, stream, plan, tile), ps32_mode=_ps32(plan, tile))
    stream.done()


def left_blocks(b: KernelBuilder, plan: WeightPlan, x: Tl | Tg, way_out: str) -> dict[int, Ml]:
    """All rows of x, for each piece of k.

    A piece lies on one lane, so that k stays in order. Different pieces lie on different lanes."""
    rows, lanes = x.shape[1], b.chip.num_lanes
    widest = MlShape(rows, 1, plan.part_rows, plan.part_rows)
    blocks = {}
    for start in range(0, len(plan.pieces), lanes):
        pieces = plan.pieces[start : start + lanes]
        addr = b.lmem_alloc_matrix(widest, BF16, way_out=way_out).addr
        for lane, (k, count) in enumerate(pieces):
            blocks[k] = ml_at(b.chip, addr + lane * b.chip.lmem_bytes, MlShape(rows, 1, count, count))
        if isinstance(x, Tl):
            for k, count in pieces:
                source = Tl(x.addr + 2 * k, (1, rows, 1, count), x.stride, BF16)
                b.tdma_l2l_tensor_copy(
                    source, Tl(blocks[k].addr, (1, 1, rows, count), (0, 0, blocks[k].n_stride, 2), BF16)
                )
            continue
        for count, alike in groupby(pieces, key=lambda piece: piece[1]):
            starts = [k for k, _ in alike]
            first, shape = blocks[starts[0]], (1, len(starts), rows, count)
            strides = (0, 2 * count, x.stride[1], 2)
            b.tdma_g2l_tensor_copy(
                tg(x.addr + 2 * starts[0], shape, BF16, strides, base_reg=x.base_reg, label=x.label),
                Tl(first.addr, shape, (0, first.c_stride * rows, first.n_stride, 2), BF16),
            )
    return blocks


def _right(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, tile: Tile) -> Ml:
    """The stream's tile as the right-hand matrix."""
    lanes = plan.num_lanes_used
    return ml_at(b.chip, stream.tile_addr, MlShape(tile.rows, lanes, tile.columns, lanes * tile.columns))


def load_scale(b: KernelBuilder, stream: WeightStream, plan: WeightPlan, addr: int, room: Tl | None = None) -> Tl:
    """The scales of an int8 matrix as its product lies, (1, lanes, 1, lane_columns), in `room` if there is any."""
    extents = (1, plan.num_lanes_used, 1, plan.lane_columns)
    scale = b.lmem_alloc_tensor(extents, BF16) if room is None else room.view(extents, room.stride)
    b.tdma_g2l_tensor_copy(tg(addr + plan.scale_offset, extents, BF16, base_reg=stream.base_reg), scale)
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
        scratch = _require_far(res, scratch)
        b.tdma_l2g_matrix_copy(product, mg(scratch.addr, rows, columns, BF16, base_reg=scratch.base_reg))
        b.tdma_g2l_tensor_copy(tg(scratch.addr, res.shape, BF16, base_reg=scratch.base_reg), res)
        return
    gather_row(b, product, res)


def _require_far(res: Tl | Tg, scratch: Tg | None) -> Tg:
    """Where several rows go in GMEM. Raises UsageError where there is no such place."""
    if isinstance(res, Tg):
        return res
    if scratch is None or scratch.shape != res.shape:
        raise UsageError(
            f"a product of {res.shape[1]} rows into LMEM needs `scratch`, a dense GMEM tensor of {res.shape}"
        )
    return scratch


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
