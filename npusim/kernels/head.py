"""The language model's head: logits over the whole vocabulary go to GMEM, with the largest logit of every tile.

Columns are worked on group by group. The host finds the largest logit in two steps: first the largest of the tiles'
maxima, then the column in that tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npusim.chip import Chip
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.matmul import next_product
from npusim.kernels.stream import WeightStream
from npusim.kernels.tensors import Fmt, Ml, Tg, Tl, mg, tg
from npusim.kernels.weights import DEFAULT_BUFFER_BYTES, WeightPlan, plan_weight

BF16 = Fmt.BF16


@dataclass(frozen=True)
class HeadPlan:
    """The vocabulary cut into groups of columns. Each group is one matrix of the stream."""

    groups: tuple[WeightPlan, ...]

    @property
    def starts(self) -> tuple[int, ...]:
        """First column of each group."""
        return tuple(sum(plan.n for plan in self.groups[:i]) for i in range(len(self.groups)))

    @property
    def vocab_size(self) -> int:
        """Columns of all groups."""
        return sum(plan.n for plan in self.groups)

    @property
    def tiles(self) -> tuple[tuple[int, int], ...]:
        """Columns [start, stop) of each entry of the maxima.

        A tile is what one lane holds of a group."""
        return tuple(
            (start + lane * plan.lane_columns, start + min((lane + 1) * plan.lane_columns, plan.n))
            for start, plan in zip(self.starts, self.groups, strict=True)
            for lane in range(plan.num_lanes_used)
        )


def plan_head(
    chip: Chip,
    k: int,
    vocab_size: int,
    fmt: Fmt,
    *,
    group_columns: int = 4096,
    buffer_bytes: int = DEFAULT_BUFFER_BYTES,
) -> HeadPlan:
    """Groups of at most `group_columns` columns. A group's logits and scales lie in LMEM at once."""
    sizes = [min(group_columns, vocab_size - start) for start in range(0, vocab_size, group_columns)]
    return HeadPlan(tuple(plan_weight(chip, k, n, fmt, buffer_bytes) for n in sizes))


def lm_head(
    b: KernelBuilder, stream: WeightStream, plan: HeadPlan, x: Tl, logits: Tg, *, maxima: Tg | None = None
) -> None:
    """logits (1, m, 1, vocab) in GMEM = x @ the stream's next len(plan.groups) matrices.

    `maxima` (1, 1, 1, len(plan.tiles)) in GMEM, for one row only, gets the largest logit of each of plan.tiles."""
    done = 0
    for start, group in zip(plan.starts, plan.groups, strict=True):
        rows = x.shape[1]
        with next_product(b, stream, x, (1, rows, 1, group.n)) as product:
            to = mg(
                logits.addr + 2 * start,
                rows,
                group.n,
                BF16,
                logits.stride[1],
                base_reg=logits.base_reg,
                label=logits.label,
            )
            b.tdma_l2g_matrix_copy(product, to)
            if maxima is not None:
                lanes = (1, group.num_lanes_used, 1, 1)
                tile_maxima(
                    b, product, tg(maxima.addr + 2 * done, lanes, BF16, base_reg=maxima.base_reg, label=maxima.label)
                )
        done += group.num_lanes_used


def tile_maxima(b: KernelBuilder, row: Ml, res: Tg) -> None:
    """The largest element on each lane of one row that is spread over lanes; `res` is (1, lanes, 1, 1) in GMEM."""
    w, columns = row.shape.w, row.shape.col
    whole, rest = divmod(columns, w)
    with b.lmem_scope():
        largest = b.lmem_alloc_tensor((1, row.shape.c, 1, 1), BF16)
        if whole:
            b.tiu_max_pooling(largest.view((1, whole, 1, 1)), row.tl.view((1, whole, 1, w), row.tl.stride), (1, w))
        if rest:  # the last lane holds fewer columns
            lane = whole * b.chip.lmem_bytes
            last = Tl(row.addr + lane, (1, 1, 1, rest), row.tl.stride, BF16)
            b.tiu_max_pooling(Tl(largest.addr + lane, (1, 1, 1, 1), largest.stride, BF16), last, (1, rest))
        b.tdma_l2g_tensor_copy(largest, res)


def largest_token(plan: HeadPlan, maxima: Sequence[float], logits: Sequence[float]) -> int:
    """The first column with the largest logit, as the host finds it.

    It reads `maxima`, one for each of plan.tiles, and then the `logits` of one tile."""
    best = max(range(len(maxima)), key=lambda i: (maxima[i], -i))
    start, stop = plan.tiles[best]
    return max(range(start, stop), key=lambda i: (logits[i], -i))
