"""Keys and values into pages, boxes of pages and scores of pages, as the chip keeps them."""

from __future__ import annotations

import numpy as np

from npusim.kernels import Fmt, tg
from npusim.kernels.cache import PAGE_SIZE, Boxes, CacheShape, box_page, page_scores, store_rows, update_boxes
from npusim.kernels.rows import load_rows
from reference_model.quant import ops
from tests.kernels.harness import Checked, bf16_numbers, case_of
from tests.kernels.layers_case import Draw

BF16 = Fmt.BF16
K_PAGES, V_PAGES, BOXES, SCORES = 0x40000, 0x60000, 0x100000, 0x180000


def draw(rng: np.random.Generator, chip: str) -> Checked:
    d = Draw(rng, chip)
    kv_heads, dim, blocks = int(rng.integers(1, 4)), int(rng.choice([16, 64])), int(rng.choice([5, 24, 300]))
    shape = CacheShape(kv_heads, int(rng.integers(1, 4)), dim, 2 * dim * PAGE_SIZE)
    whole = bool(rng.random() < 0.5)
    rows, slot, block = (
        PAGE_SIZE if whole else 1,
        0 if whole else int(rng.integers(PAGE_SIZE)),
        int(rng.integers(blocks)),
    )
    k, v = (bf16_numbers(rng, rows, kv_heads * dim) for _ in range(2))
    k_pages, v_pages = bf16_numbers(rng, kv_heads, dim, PAGE_SIZE), bf16_numbers(rng, kv_heads, PAGE_SIZE, dim)
    box = bf16_numbers(rng, kv_heads, 2, dim, blocks)
    d.memory |= {
        d.gmem + K_PAGES: k_pages.tobytes(),
        d.gmem + V_PAGES: v_pages.tobytes(),
        d.gmem + BOXES: box.tobytes(),
    }
    here, there = load_rows(d.b, d.row(k)), load_rows(d.b, d.row(v))
    one = (1, 1, 1, 1)
    to = tg(d.gmem + K_PAGES + 2 * slot, one, BF16), tg(d.gmem + V_PAGES + 2 * dim * slot, one, BF16)
    store_rows(d.b, shape, here, there, k_to=to[0], v_to=to[1])
    boxes = Boxes(d.gmem + BOXES, blocks)
    q = bf16_numbers(rng, 1, kv_heads * shape.group * dim)
    if whole:
        box_page(d.b, shape, Boxes(0, blocks), to[0], "box")
    else:
        page_scores(d.b, shape, [boxes], load_rows(d.b, d.row(q)), [d.gmem + SCORES])
        scores = _scores(shape, q, box)
        d.memory[d.gmem + SCORES], d.wanted[d.gmem + SCORES] = bytes(scores.nbytes), scores.tobytes()
        update_boxes(d.b, shape, Boxes(0, blocks), here, ["box"])
    by_head = k.reshape(rows, kv_heads, dim)
    k_pages[..., slot : slot + rows] = by_head.transpose(1, 2, 0)
    v_pages[:, slot : slot + rows] = v.reshape(rows, kv_heads, dim).transpose(1, 0, 2)
    old = box[..., block].copy()
    for head in range(kv_heads):
        found = old[head] if not whole else (by_head[0, head], by_head[0, head])
        for row in by_head[:, head]:
            found = ops.box_update(found, row)
        box[head, 0, :, block], box[head, 1, :, block] = found
    d.wanted |= {
        d.gmem + K_PAGES: k_pages.tobytes(),
        d.gmem + V_PAGES: v_pages.tobytes(),
        d.gmem + BOXES: box.tobytes(),
    }
    return Checked(case_of("cache", d.b.build().patch({"box": d.gmem + BOXES + 2 * block}), d.memory), d.wanted)


def _scores(shape: CacheShape, q: np.ndarray, box: np.ndarray) -> np.ndarray:
    """[kv_heads][2][group][blocks]: upper, then lower halves of the float32 scores."""
    grouped = q.reshape(shape.num_kv_heads, shape.group, shape.head_dim)
    bits = np.stack([ops.page_scores(rows, *sides).view(np.uint32) for rows, sides in zip(grouped, box, strict=True)])
    return np.stack([bits >> 16, bits & 0xFFFF], 1).astype(np.uint16)
