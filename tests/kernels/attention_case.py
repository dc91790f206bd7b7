"""Attention over pages gathered through patched addresses, one token or several, equal to the twin's."""

from __future__ import annotations

import numpy as np

from npusim.kernels import Fmt, Tl, tg
from npusim.kernels.attention import AttentionShape, Softmax, attention
from npusim.kernels.rows import alloc_rows, load_rows
from reference_model.quant import ops, tables
from tests.kernels.harness import Checked, bf16_numbers, case_of
from tests.kernels.layers_case import TABLES, Draw, interpolated, scientific, table_bytes

BF16 = Fmt.BF16
RESULT, PAGES = 0x40000, 0x200000


def draw(rng: np.random.Generator, chip: str) -> Checked:
    d = Draw(rng, chip)
    sequences, tokens = ((1, 1), (1, 4), (1, 16), (3, 1), (8, 1), (2, 3))[int(rng.integers(6))]
    kv_heads = int(rng.integers(1, 4))
    head_dim, pages = int(rng.choice([16, 32, 64])), int(rng.choice([rng.integers(1, 6), rng.integers(6, 40)]))
    shape = AttentionShape(
        num_sequences=sequences,
        num_tokens=tokens,
        num_heads=kv_heads * int(rng.integers(1, 4)),
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        num_pages=pages,
    )
    q = bf16_numbers(rng, shape.num_rows, shape.num_heads * head_dim, scale=0.6)
    k, v = (bf16_numbers(rng, shape.num_pairs, shape.num_slots, head_dim) for _ in range(2))
    mask = np.where(rng.random((shape.num_rows, shape.num_slots)) < 0.3, ops.MASKED, np.uint16(0)).astype(np.uint16)
    mask[:, int(rng.integers(shape.num_slots))] = 0
    d.memory[d.gmem + TABLES] = table_bytes(tables.exp_table()) + table_bytes(tables.reciprocal_table())
    near = Softmax(interpolated(d.b, tables.exp_table(), d.gmem + TABLES), scientific(d.b, d.gmem + TABLES + 1024))
    here = load_rows(d.b, d.row(q))
    in_lmem = shape.num_rows == 1 and rng.random() < 0.5
    res = alloc_rows(d.b, 1, q.shape[1]) if in_lmem else tg(d.gmem + RESULT, (1, *q.shape[:1], 1, q.shape[1]), BF16)
    far_mask = d.row(mask)
    free = int(rng.choice([8000, 9000, 14000, 1 << 15])) * (
        2 if d.b.chip.num_lanes == 2 else 1
    )  # what other kernels leave free
    d.b.lmem.alloc(max(d.b.lmem.free_bytes - free, 16), "what others use", "")
    labels = [[[(0, f"{name}.{pair}.{page}") for page in range(pages)] for pair in range(len(k))] for name in "kv"]
    attention(d.b, res, here, labels[0], labels[1], mask=far_mask, shape=shape, tables=near)
    wanted = _wanted(shape, q, k, v, mask)
    if isinstance(res, Tl):
        d.store(res, wanted)
    else:
        d.memory[res.addr], d.wanted[res.addr] = bytes(wanted.nbytes), wanted.tobytes()
    places = _store_pages(d, shape, k, v)
    return Checked(case_of("attention", d.b.build().patch(places), d.memory), d.wanted)


def _store_pages(d: Draw, shape: AttentionShape, k: np.ndarray, v: np.ndarray) -> dict[str, int]:
    """Pages in random order in GMEM: label -> address."""
    page_bytes = 2 * shape.page_size * shape.head_dim
    order = d.rng.permutation(2 * shape.num_pairs * shape.num_pages)
    pool, places = np.zeros((order.size, page_bytes // 2), np.uint16), {}
    for number, slot in enumerate(order):
        name, head, page = np.unravel_index(number, (2, shape.num_pairs, shape.num_pages))
        values = (k, v)[name][head, page * shape.page_size : (page + 1) * shape.page_size]
        pool[slot] = (values.T if name == 0 else values).reshape(-1)
        places[f"{'kv'[name]}.{head}.{page}"] = d.gmem + PAGES + int(slot) * page_bytes
    d.memory[d.gmem + PAGES] = pool.tobytes()
    return places


def _wanted(shape: AttentionShape, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
    grouped = q.reshape(shape.num_sequences, shape.num_tokens, shape.num_kv_heads, shape.group, shape.head_dim)
    masks = mask.reshape(shape.num_sequences, shape.num_tokens, shape.num_slots)
    out = np.empty_like(grouped)
    for pair in range(shape.num_pairs):
        sequence, head = divmod(pair, shape.num_kv_heads)
        left = grouped[sequence, :, head].reshape(-1, shape.head_dim)
        rows = ops.attention(left, k[pair], v[pair], np.repeat(masks[sequence], shape.group, 0))
        out[sequence, :, head] = rows.reshape(shape.num_tokens, shape.group, -1)
    return out.reshape(shape.num_rows, -1)
