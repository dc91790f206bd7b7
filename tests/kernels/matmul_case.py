"""Random products with streamed weights: one or several matrices, rows, precisions and destinations."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from npusim.chip import chip_named
from npusim.kernels import Fmt, KernelBuilder, tg
from npusim.kernels.matmul import matmul
from npusim.kernels.stream import WeightStream
from npusim.kernels.weights import pack_weight, plan_weight
from reference_model.quant import ops
from tests.kernels.harness import BASE, Checked, bf16_numbers, case_of

X, RES, SCRATCH, WEIGHTS = 0, 0x40000, 0x80000, 0x100000


def draw(rng: np.random.Generator, chip_name: str) -> Checked:
    chip, gmem = chip_named(chip_name), BASE[chip_name]
    rows = int(rng.choice([1, 1, 2, 5, 16]))
    sizes = [int(rng.choice([rng.integers(1, 300), 8 * rng.integers(1, 40)])) for _ in range(int(rng.integers(2, 4)))]
    fmt = Fmt.I8 if rng.random() < 0.5 else Fmt.BF16
    buffer_bytes, parts = int(rng.choice([512, 2048, 4096])), int(rng.choice([1, 1, 2]))
    memory, weights, at = {}, [], gmem + WEIGHTS
    wanted = x = bf16_numbers(rng, rows, sizes[0])
    for k, n in itertools.pairwise(sizes):
        plan = plan_weight(chip, k, n, fmt, buffer_bytes)
        weight, scale, wanted = _weight(rng, k, n, fmt, wanted)
        packed = pack_weight(plan, weight, scale)
        assert len(packed) == plan.num_bytes
        memory[at] = packed
        weights.append((replace(plan, parts=parts), at))
        at += plan.num_bytes
    b = KernelBuilder(chip)
    here = b.lmem_alloc_tensor((1, rows, 1, sizes[0]), Fmt.BF16)
    b.tdma_g2l_tensor_copy(tg(gmem + X, here.shape, Fmt.BF16), here)
    stream = WeightStream(b, weights)
    for n in sizes[1:-1]:
        if rng.random() < 0.5:
            there = tg(gmem + SCRATCH, (1, rows, 1, n), Fmt.BF16)
            matmul(b, stream, here, there)
            here = there
            continue
        there = b.lmem_alloc_tensor((1, rows, 1, n), Fmt.BF16)
        matmul(b, stream, here, there, scratch=tg(gmem + SCRATCH, there.shape, Fmt.BF16))
        here = there
    res = tg(gmem + RES, (1, rows, 1, sizes[-1]), Fmt.BF16)
    matmul(b, stream, here, res)
    memory |= {gmem + X: x.tobytes(), gmem + RES: bytes(rows * sizes[-1] * 2), gmem + SCRATCH: bytes(0x10000)}
    return Checked(case_of("matmul", b.build(), memory), {gmem + RES: wanted.tobytes()})


def _weight(rng, k: int, n: int, fmt: Fmt, x: np.ndarray):  # type: ignore[no-untyped-def]
    """A matrix, its scale, and the product of x with it."""
    if fmt is Fmt.BF16:
        weight = bf16_numbers(rng, k, n, scale=0.2)
        return weight, None, ops.matmul(x, weight)
    weight = rng.integers(-127, 128, (k, n)).astype(np.int8)
    scale = bf16_numbers(rng, n, scale=0.01)
    as_bf16 = (weight.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return weight, scale, ops.mul(ops.matmul(x, as_bf16), scale)
