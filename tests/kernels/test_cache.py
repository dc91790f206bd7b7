"""The cache's kernels against reference_model.quant.ops, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from npusim import Machine
from npusim.kernels import Fmt, KernelBuilder, tg
from npusim.kernels.cache import PAGE_SIZE, Boxes, CacheShape, box_page, page_scores, store_rows, update_boxes
from npusim.kernels.tensors import Tg, Tl
from npusim.numerics import bf16
from reference_model.quant import ops

Patterns = NDArray[np.uint16]
HEADS, GROUP, DIM, PAGES = 3, 2, 64, 24
ROWS, BOXES, SCORES, KV = 0x1000000, 0x1100000, 0x1200000, 0x1400000
PAGE_BYTES = 2 * DIM * PAGE_SIZE
SHAPE = CacheShape(HEADS, GROUP, DIM, 2 * (PAGES + 1) * PAGE_BYTES)


def random(rng: np.random.Generator, *shape: int) -> Patterns:
    return bf16.from_float(rng.standard_normal(shape).astype(np.float32))


def rows(b: KernelBuilder, addr: int, count: int, columns: int) -> Tl:
    tensor = b.lmem_alloc_tensor((1, count, 1, columns), Fmt.BF16)
    b.tdma_g2l_tensor_copy(tg(addr, tensor.shape, Fmt.BF16), tensor)
    return tensor


def read(machine: Machine, addr: int, *shape: int) -> Patterns:
    return np.frombuffer(machine.gmem.read(addr, 2 * int(np.prod(shape))), np.uint16).reshape(shape)


def here(label: str) -> Tg:
    return tg(0, (1, 1, 1, 1), Fmt.BF16, label=label)


def stored(machine: Machine, page: int) -> tuple[Patterns, Patterns]:
    """Keys and values of a page, [heads, slot, dim]."""
    starts = [KV + head * SHAPE.head_bytes + page * PAGE_BYTES for head in range(HEADS)]
    k = np.stack([read(machine, at, DIM, PAGE_SIZE).T for at in starts])
    return k, np.stack([read(machine, at + (PAGES + 1) * PAGE_BYTES, PAGE_SIZE, DIM) for at in starts])


@pytest.mark.parametrize("chip", ["cv180x", "cv181x", "cv183x"])
@pytest.mark.parametrize(("count", "slot"), [(1, 5), (1, 0), (PAGE_SIZE, 0)])
def test_new_rows_land_in_their_slots_of_a_page_and_nowhere_else(chip: str, count: int, slot: int) -> None:
    rng, b, page = np.random.default_rng(count + slot), KernelBuilder(chip), 7
    k, v = rows(b, ROWS, count, HEADS * DIM), rows(b, ROWS + 0x8000, count, HEADS * DIM)
    store_rows(b, SHAPE, k, v, k_to=here("k"), v_to=here("v"))
    machine, keys, values = Machine(chip), random(rng, count, HEADS, DIM), random(rng, count, HEADS, DIM)
    machine.gmem.write(ROWS, keys)
    machine.gmem.write(ROWS + 0x8000, values)
    at = KV + page * PAGE_BYTES
    program = b.build().patch({"k": at + 2 * slot, "v": at + (PAGES + 1) * PAGE_BYTES + 2 * slot * DIM})
    machine.run_cmdbuf(program.cmdbuf)
    for found, new in zip(stored(machine, page), (keys, values), strict=True):
        wanted = np.zeros_like(found)
        wanted[:, slot : slot + count] = new.swapaxes(0, 1)
        np.testing.assert_array_equal(found, wanted)
    assert not stored(machine, page + 1)[0].any() and not stored(machine, page - 1)[1].any()


@pytest.mark.parametrize("chip", ["cv180x", "cv181x"])
def test_boxes_and_scores_are_those_of_the_specification(chip: str) -> None:
    rng, b, block = np.random.default_rng(3), KernelBuilder(chip), 9
    q, k = rows(b, ROWS, 1, HEADS * GROUP * DIM), rows(b, ROWS + 0x4000, 1, HEADS * DIM)
    page_scores(b, SHAPE, [Boxes(BOXES, PAGES)], q, [SCORES])
    update_boxes(b, SHAPE, Boxes(0, PAGES), k, ["box"])
    machine = Machine(chip)
    queries, keys, boxes = random(rng, HEADS, GROUP, DIM), random(rng, HEADS, DIM), random(rng, HEADS, 2, DIM, PAGES)
    for addr, data in ((ROWS, queries), (ROWS + 0x4000, keys), (BOXES, boxes)):
        machine.gmem.write(addr, data)
    machine.run_cmdbuf(b.build().patch({"box": BOXES + 2 * block}).cmdbuf)
    planes = read(machine, SCORES, HEADS, 2, GROUP, PAGES).astype(np.uint32)
    scores, after = planes[:, 0] << 16 | planes[:, 1], read(machine, BOXES, HEADS, 2, DIM, PAGES)
    for head in range(HEADS):
        wanted = ops.page_scores(queries[head], boxes[head, 0], boxes[head, 1])
        np.testing.assert_array_equal(scores[head], wanted.view(np.uint32))
        boxes[head, :, :, block] = ops.box_update((boxes[head, 0, :, block], boxes[head, 1, :, block]), keys[head])
    np.testing.assert_array_equal(after, boxes)


@pytest.mark.parametrize("chip", ["cv181x", "cv183x"])
@pytest.mark.parametrize("count", [PAGE_SIZE, 8])
def test_the_box_of_many_keys_is_that_of_its_keys_one_by_one(chip: str, count: int) -> None:
    rng, b, block = np.random.default_rng(4), KernelBuilder(chip), 2
    box_page(b, SHAPE, Boxes(0, PAGES), here("page"), "box", count=count)
    machine, page, boxes = Machine(chip), random(rng, HEADS, DIM, PAGE_SIZE), random(rng, HEADS, 2, DIM, PAGES)
    for head in range(HEADS):
        machine.gmem.write(KV + head * SHAPE.head_bytes, page[head])
    machine.gmem.write(BOXES, boxes)
    machine.run_cmdbuf(b.build().patch({"page": KV, "box": BOXES + 2 * block}).cmdbuf)
    found = bf16.to_float(read(machine, BOXES, HEADS, 2, DIM, PAGES))[..., block]
    values, before = bf16.to_float(page)[..., :count], bf16.to_float(boxes)[..., block]
    largest, smallest = values.max(-1), values.min(-1)
    if count < PAGE_SIZE:  # keys before them are in the box already
        largest, smallest = np.maximum(largest, before[:, 0]), np.minimum(smallest, before[:, 1])
    np.testing.assert_array_equal(found, np.stack([largest, smallest], 1))
