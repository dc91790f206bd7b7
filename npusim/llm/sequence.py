"""What the driver knows of one sequence, and which pages it attends to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kv.pages.allocator import NULL_PAGE
from kv.pages.block_table import BlockTable
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.pages import FloatArray, PageChoice, best_blocks, every_block, num_blocks


@dataclass
class Sequence:
    """One sequence in the cache.

    table       its pages
    region      which of the regions of boxes is its own
    num_slots   pages that a decode step may attend to
    length      tokens whose keys and values are stored
    scores      of each layer, of the last step, where pages are chosen a token at a time
    choices     what each layer attended to in the last decode step
    """

    table: BlockTable
    region: int
    num_slots: int
    length: int = 0
    scores: list[FloatArray] = field(default_factory=list)
    choices: list[PageChoice] = field(default_factory=list)

    @property
    def physical(self) -> NDArray[np.int64]:
        """Physical page of each block; block -1, which stands for none, is the null page."""
        return np.array([*self.table.pages, NULL_PAGE], np.int64)

    @property
    def num_valid(self) -> int:
        """Tokens that a decode step sees, the new one included: all, or those of its slots."""
        return self.length - max(num_blocks(self.length) - self.num_slots, 0) * PAGE_SIZE

    def choose(self, scores: FloatArray, program_slots: int) -> PageChoice:
        """What to attend to; scores: float32 [kv_heads, blocks so far]. A program may have more slots than are used."""
        if scores.shape[1] <= self.num_slots:
            return every_block(len(scores), program_slots, self.length)
        choice = best_blocks(scores, self.num_slots, self.length)
        spare = program_slots - self.num_slots
        return PageChoice(np.pad(choice.blocks, ((0, 0), (0, spare)), constant_values=-1), choice.num_valid)

    def old_scores(self, layer: int, num_heads: int) -> FloatArray:
        """The scores of the step before. Blocks that had none, or were incomplete then, count as recent: they are
        kept."""
        count = num_blocks(self.length)
        scores = np.full((num_heads, count), np.inf, np.float32)
        if self.scores:
            whole = self.scores[layer][:, :-1]
            scores[:, : whole.shape[1]] = whole
        else:
            scores[:] = np.arange(count)
        return scores
