"""Pages of keys and values in GMEM, and the choice of the pages that a step attends to.

Only this module computes the address of a page. A bundle's manifest has the same base and strides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kv.policies.table import choose, table_of
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.rows import BF16
from reference_model.config import ModelConfig

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


KEYS, VALUES = SIDES = (0, 1)


@dataclass(frozen=True)
class PageLayout:
    """Where pages of bf16 numbers lie: [layer][head][side][page], the side being KEYS or VALUES. `base` is the address
    of the first, which is kv's NULL_PAGE; a stride is the bytes from one layer, head, side, page, or token of a page,
    to the next.

    A page of keys is [head_dim, PAGE_SIZE], so that one descriptor loads it into columns of a right-hand matrix. A page
    of values is [PAGE_SIZE, head_dim], so that one descriptor loads it into rows of such a matrix."""

    base: int
    layer_stride: int
    head_stride: int
    side_stride: int
    page_stride: int
    token_strides: tuple[int, int]
    """Those of keys and of values."""
    num_bytes: int
    """Bytes of all pages."""

    @classmethod
    def of(cls, config: ModelConfig, num_pages: int, base: int = 0) -> PageLayout:
        """The layout of `num_pages` pages of keys, and as many of values, for each KV head of each layer."""
        page = config.head_dim * PAGE_SIZE * BF16.itemsize
        side = num_pages * page
        head = len(SIDES) * side
        layer = config.num_kv_heads * head
        return cls(
            base=base,
            layer_stride=layer,
            head_stride=head,
            side_stride=side,
            page_stride=page,
            token_strides=(BF16.itemsize, config.head_dim * BF16.itemsize),
            num_bytes=config.num_layers * layer,
        )

    def addr(self, layer: int, head: int, side: int, page: int) -> int:
        """Address of a page's first byte."""
        return (
            self.base
            + layer * self.layer_stride
            + head * self.head_stride
            + side * self.side_stride
            + page * self.page_stride
        )

    def token_addr(self, side: int, page: int, slot: int) -> int:
        """Address of the first element of a token's key or value, in layer 0 and head 0."""
        return self.addr(0, 0, side, page) + slot * self.token_strides[side]


def page_label(row: int, layer: int, head: int, side: int, slot: int) -> str:
    """The label of the page that the `row`-th sequence of a program attends to in a slot."""
    return f"{'kv'[side]}/{row}/{layer}/{head}/{slot}"


@dataclass(frozen=True)
class PageChoice:
    """What each KV head of one layer attends to."""

    blocks: IntArray
    """Logical blocks, int64 [kv_heads, slots]: ascending, then -1 for slots that are not used."""
    num_valid: int
    """Number of tokens in those blocks, which fill the first slots."""


def num_blocks(length: int) -> int:
    """Blocks that `length` tokens take, the last one full or not."""
    return -(-length // PAGE_SIZE)


def every_block(num_kv_heads: int, num_slots: int, length: int) -> PageChoice:
    """The choice of all blocks of a sequence of `length` tokens, which must fit the slots."""
    count = num_blocks(length)
    assert count <= num_slots, "the caller chooses where there are more blocks than slots"
    blocks = np.full((num_kv_heads, num_slots), -1, np.int64)
    blocks[:, :count] = np.arange(count)
    return PageChoice(blocks, length)


def best_blocks(scores: FloatArray, num_slots: int, length: int) -> PageChoice:
    """The choice of the last block and the others with the highest scores, as kv.policies chooses. `scores`: float32
    [kv_heads, blocks], with every block of the sequence."""
    kept = choose(scores, min(num_slots, scores.shape[1]))
    table = table_of(kept, num_slots).units
    skipped = scores.shape[1] - int(kept[0].sum())
    return PageChoice(table, length - skipped * PAGE_SIZE)
