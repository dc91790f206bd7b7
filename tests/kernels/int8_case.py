"""Products in int8 throughout, equal to the twin's Int8ActivationLinear."""

from __future__ import annotations

import numpy as np

from npusim.kernels import Fmt, tg
from npusim.kernels.int8 import matmul_int8, matmul_int8_add, pack_int8, plan_int8
from npusim.kernels.rows import alloc_rows, load_rows
from npusim.kernels.stream import WeightStream
from reference_model.quant.arith import floats
from reference_model.quant.linear import Int8ActivationLinear
from tests.kernels.harness import Checked, bf16_numbers
from tests.kernels.layers_case import SCRATCH, WEIGHTS, Draw

BF16 = Fmt.BF16


def draw(rng: np.random.Generator, chip: str) -> Checked:
    d = Draw(rng, chip)
    rows, k, n = int(rng.choice([1, 1, 2, 16])), int(rng.integers(1, 300)), int(rng.integers(1, 200))
    x = bf16_numbers(rng, rows, k)
    weight = rng.standard_normal((n, k)).astype(np.float32) * 0.3
    largest_out = np.abs(floats(x) @ weight.T).max(0) * 0.7  # some results saturate
    linear = Int8ActivationLinear.of(weight, np.abs(floats(x)).max(0), largest_out)
    plan, addr = plan_int8(d.b.chip, k, n, 2048), d.gmem + WEIGHTS
    packed = pack_int8(
        plan,
        linear.weight.astype(np.int8),
        multiplier=linear.multiplier,
        shift=linear.shift,
        to_int8=linear.to_int8,
        scale=linear.scale,
    )
    assert len(packed) == plan.num_bytes
    d.memory[addr] = packed
    stream = WeightStream(d.b, [(plan, addr)])
    here = load_rows(d.b, d.row(x))
    scratch = tg(d.gmem + SCRATCH, (1, 1, 1, 1), BF16) if rows > 1 else None
    if scratch:
        d.memory[scratch.addr] = bytes(2 * rows * max(k, n))
    if rng.random() < 0.5:
        res, wanted = alloc_rows(d.b, rows, n), linear.product(x)
        matmul_int8(d.b, stream, here, res, scratch=scratch)
    else:
        residual = bf16_numbers(rng, rows, n)
        res, wanted = load_rows(d.b, d.row(residual)), linear.add_to(residual, x)
        matmul_int8_add(d.b, stream, here, res, scratch=scratch)
    d.store(res, wanted)
    return d.done("int8")
