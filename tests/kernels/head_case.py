"""The head over a vocabulary in groups with tile maxima, and norms of single heads."""

from __future__ import annotations

import numpy as np

from npusim.kernels import Fmt, tg
from npusim.kernels.head import largest_token, lm_head, plan_head
from npusim.kernels.layers import heads_norm
from npusim.kernels.rows import load_rows
from npusim.kernels.stream import WeightStream
from npusim.kernels.weights import pack_weight
from reference_model.quant import ops, tables
from reference_model.quant.arith import floats
from tests.kernels.harness import Checked, bf16_numbers
from tests.kernels.layers_case import TABLES, Draw, scientific, table_bytes

BF16 = Fmt.BF16
LOGITS, WEIGHTS = 0x40000, 0x100000


def draw(rng: np.random.Generator, chip: str) -> Checked:
    d = Draw(rng, chip)
    return _norm(d) if rng.random() < 0.3 else _head(d)


def _norm(d: Draw) -> Checked:
    rows, heads, head_dim = int(d.rng.choice([1, 5])), int(d.rng.integers(1, 6)), int(d.rng.choice([16, 64]))
    x = bf16_numbers(d.rng, rows, heads * head_dim)
    gain, eps = ops.rms_norm_constants(d.rng.standard_normal(head_dim).astype(np.float32), 1e-5)
    d.memory[d.gmem + TABLES] = table_bytes(tables.rsqrt_table())
    rsqrt = scientific(d.b, d.gmem + TABLES)
    here = load_rows(d.b, d.row(x))
    heads_norm(d.b, here, d.row(gain[None]), eps=int(eps), rsqrt=rsqrt, head_dim=head_dim)
    d.store(here, ops.rms_norm(x.reshape(-1, head_dim), gain, eps).reshape(rows, -1))
    return d.done("heads_norm")


def _head(d: Draw) -> Checked:
    k, vocab, rows = int(d.rng.integers(8, 100)), int(d.rng.integers(40, 700)), int(d.rng.choice([1, 1, 3]))
    x, weight, scale = (
        bf16_numbers(d.rng, rows, k),
        d.rng.integers(-127, 128, (k, vocab)).astype(np.int8),
        bf16_numbers(d.rng, vocab),
    )
    plan = plan_head(d.b.chip, k, vocab, Fmt.I8, group_columns=int(d.rng.choice([96, 200, 1000])), buffer_bytes=1024)
    placed, addr = [], d.gmem + WEIGHTS
    for start, group in zip(plan.starts, plan.groups, strict=True):
        columns = slice(start, start + group.n)
        d.memory[addr] = pack_weight(group, weight[:, columns], scale[columns])
        placed.append((group, addr))
        addr += group.num_bytes
    stream = WeightStream(d.b, placed)
    logits = ops.mul(ops.matmul(x, (weight.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)), scale)
    maxima = None
    if rows == 1:
        largest = np.array([logits[0, range(*tile)][floats(logits[0, range(*tile)]).argmax()] for tile in plan.tiles])
        assert largest_token(plan, floats(largest).tolist(), floats(logits[0]).tolist()) == int(
            floats(logits[0]).argmax()
        )
        maxima = tg(d.gmem + LOGITS + 0x20000, (1, 1, 1, len(plan.tiles)), BF16)
        d.memory[maxima.addr], d.wanted[maxima.addr] = bytes(largest.nbytes), largest.tobytes()
    to = d.gmem + LOGITS
    d.memory[to], d.wanted[to] = bytes(logits.nbytes), logits.tobytes()
    lm_head(d.b, stream, plan, load_rows(d.b, d.row(x)), tg(to, (1, rows, 1, vocab), BF16), maxima=maxima)
    return d.done("head")
