"""RMSNorm, RoPE, gated activations and a residual product, one after the other."""

from __future__ import annotations

import numpy as np

from npusim.chip import chip_named
from npusim.kernels import Fmt, KernelBuilder, Tl, tg
from npusim.kernels.gated import matmul_gated, pack_gated, plan_gated
from npusim.kernels.layers import gated, rms_norm, rope
from npusim.kernels.matmul import matmul_add
from npusim.kernels.rows import alloc_rows, columns_of, load_rows
from npusim.kernels.stream import WeightStream
from npusim.kernels.tables import InterpolatedTable, ScientificTable, load_tables
from npusim.kernels.weights import pack_weight, plan_weight
from reference_model.quant import ops, tables
from tests.kernels.harness import BASE, Checked, bf16_numbers, case_of

BF16 = Fmt.BF16
OUT, SCRATCH, TABLES, WEIGHTS = 0x10000, 0x60000, 0x80000, 0x100000


def table_bytes(table: tables.Interpolated | tables.Scientific) -> bytes:
    pair = (
        (table.base, table.slope) if isinstance(table, tables.Interpolated) else (table.by_exponent, table.by_fraction)
    )
    return b"".join(half.tobytes() for half in pair)


def interpolated(b: KernelBuilder, table: tables.Interpolated, addr: int) -> InterpolatedTable:
    pair = load_tables(b, tg(addr, (1, 1, 1, 512), BF16))
    return InterpolatedTable(*pair, int(table.low), int(table.high), int(tables.pattern(table.scale)))


def scientific(b: KernelBuilder, addr: int) -> ScientificTable:
    return ScientificTable(*load_tables(b, tg(addr, (1, 1, 1, 512), BF16)))


class Draw:
    """Builds the program step by step; `memory` is what GMEM holds, `wanted` what must come out."""

    def __init__(self, rng: np.random.Generator, chip: str) -> None:
        self.rng, self.gmem = rng, BASE[chip]
        self.b = KernelBuilder(chip)
        self.memory: dict[int, bytes] = {}
        self.wanted: dict[int, bytes] = {}
        self.at = self.gmem
        self.out = self.gmem + OUT

    def row(self, values: np.ndarray):  # type: ignore[no-untyped-def]
        """`values` [m, d] into GMEM, as a tensor."""
        self.memory[self.at] = values.tobytes()
        found = tg(self.at, (1, values.shape[0], 1, values.shape[1]), BF16)
        self.at += -(-values.nbytes // 64) * 64
        return found

    def store(self, tensor: Tl, values: np.ndarray) -> None:
        self.b.tdma_l2g_tensor_copy(tensor, tg(self.out, tensor.shape, BF16))
        self.memory[self.out] = bytes(values.nbytes)
        self.wanted[self.out] = values.tobytes()
        self.out += -(-values.nbytes // 64) * 64

    def done(self, kind: str) -> Checked:
        return Checked(case_of(kind, self.b.build(), self.memory), self.wanted)


def draw(rng: np.random.Generator, chip: str) -> Checked:
    d = Draw(rng, chip)
    kind = rng.choice(["norm", "rope", "silu", "gelu", "add", "mlp"])
    rows = int(rng.choice([1, 1, 3, 16]))
    return {"norm": _norm, "rope": _rope, "silu": _gated, "gelu": _gated, "add": _add, "mlp": _mlp}[kind](d, rows, kind)


def _norm(d: Draw, rows: int, kind: str) -> Checked:
    columns = int(d.rng.choice([8, 64, 576, d.rng.integers(1, 600)]))
    x = bf16_numbers(d.rng, rows, columns, scale=float(d.rng.choice([0.01, 1, 30])))
    gain, eps = ops.rms_norm_constants(d.rng.standard_normal(columns).astype(np.float32), 1e-5)
    d.memory[d.gmem + TABLES] = table_bytes(tables.rsqrt_table())
    rsqrt = scientific(d.b, d.gmem + TABLES)
    here = load_rows(d.b, d.row(x))
    res = here if d.rng.random() < 0.5 else alloc_rows(d.b, rows, columns)
    rms_norm(d.b, res, here, d.row(gain[None]), eps=int(eps), rsqrt=rsqrt)
    d.store(res, ops.rms_norm(x, gain, eps))
    return d.done(kind)


def _rope(d: Draw, rows: int, kind: str) -> Checked:
    heads, head_dim = int(d.rng.integers(1, 10)), int(d.rng.choice([16, 32, 64]))
    x = bf16_numbers(d.rng, rows, heads * head_dim)
    cos, sin = ops.rope_rows(d.rng.integers(0, 2000) + np.arange(rows), head_dim, 10000.0)
    here, near_cos, near_sin = (load_rows(d.b, d.row(values)) for values in (x, cos, sin))
    res = alloc_rows(d.b, rows, heads * head_dim)
    rope(d.b, res, here, near_cos, near_sin, head_dim=head_dim)
    d.store(res, ops.rope(x.reshape(rows, heads, head_dim), cos, sin).reshape(rows, -1))
    return d.done(kind)


def _gated(d: Draw, rows: int, kind: str) -> Checked:
    columns = int(d.rng.choice([8, 192, d.rng.integers(1, 400)]))
    both = bf16_numbers(d.rng, rows, 2 * columns, scale=float(d.rng.choice([1, 6])))
    table, gate = (tables.sigmoid_table(), ops.silu) if kind == "silu" else (tables.gelu_gate_table(), ops.gelu_tanh)
    d.memory[d.gmem + TABLES] = table_bytes(table)
    near = interpolated(d.b, table, d.gmem + TABLES)
    here = load_rows(d.b, d.row(both))
    res = alloc_rows(d.b, rows, columns)
    gated(d.b, res, columns_of(here, 0, columns), columns_of(here, columns, columns), near)
    d.store(res, ops.mul(gate(both[:, :columns]), both[:, columns:]))
    return d.done(kind)


def _mlp(d: Draw, rows: int, kind: str) -> Checked:
    k, width = int(d.rng.integers(8, 200)), int(d.rng.choice([64, d.rng.integers(1, 300)]))
    x, scales = bf16_numbers(d.rng, rows, k), bf16_numbers(d.rng, 2, width, scale=0.01)
    weights = d.rng.integers(-127, 128, (2, k, width)).astype(np.int8)
    gated_plan, addr = plan_gated(d.b.chip, k, width, Fmt.I8, 2048), d.gmem + WEIGHTS
    d.memory[addr] = pack_gated(gated_plan, *weights, tuple(scales))
    d.memory[d.gmem + TABLES] = table_bytes(tables.sigmoid_table())
    stream = WeightStream(d.b, [(gated_plan.plan, addr)])
    near = interpolated(d.b, tables.sigmoid_table(), d.gmem + TABLES)
    here, res = load_rows(d.b, d.row(x)), alloc_rows(d.b, rows, width)
    d.memory[d.gmem + SCRATCH] = bytes(2 * rows * width)
    matmul_gated(d.b, stream, here, res, gated_plan, table=near, scratch=tg(d.gmem + SCRATCH, res.shape, BF16))
    as_bf16 = (weights.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    gate, up = (ops.mul(ops.matmul(x, side), scale) for side, scale in zip(as_bf16, scales, strict=True))
    d.store(res, ops.mul(ops.silu(gate), up))
    return d.done(kind)


def _add(d: Draw, rows: int, kind: str) -> Checked:
    k, n = (int(size) for size in d.rng.integers(8, 200, 2))
    x, residual = bf16_numbers(d.rng, rows, k), bf16_numbers(d.rng, rows, n)
    fmt = Fmt(str(d.rng.choice(["bf16", "i8"])))
    plan = plan_weight(chip_named(d.b.chip.name), k, n, fmt, 2048)
    addr = d.gmem + WEIGHTS
    if fmt is BF16:
        weight, scale = bf16_numbers(d.rng, k, n, scale=0.2), None
        wanted = ops.add(residual, ops.matmul(x, weight))
    else:
        weight, scale = d.rng.integers(-127, 128, (k, n)).astype(np.int8), bf16_numbers(d.rng, n, scale=0.01)
        as_bf16 = (weight.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        wanted = ops.mac(residual, ops.matmul(x, as_bf16), scale)
    d.memory[addr] = pack_weight(plan, weight, scale)
    stream = WeightStream(d.b, [(plan, addr)])
    here, there = load_rows(d.b, d.row(x)), load_rows(d.b, d.row(residual))
    d.memory[d.gmem + SCRATCH] = bytes(2 * rows * n)
    matmul_add(d.b, stream, here, there, scratch=tg(d.gmem + SCRATCH, there.shape, BF16))
    d.store(there, wanted)
    return d.done(kind)
