"""Where everything of a lowered model is in GMEM, and what is written there before the first token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from npusim.kernels.attention import AttentionShape
from npusim.kernels.cache import PAGE_SIZE, Boxes, CacheShape
from npusim.kernels.tables import TABLE_BYTES
from npusim.kernels.tensors import Fmt
from npusim.llm.memory_map import MemoryMap, lay_out_regions
from npusim.llm.pages import PageLayout
from npusim.llm.setup import Gather, Setup
from npusim.llm.tables import FUNCTIONS, table_bytes
from npusim.llm.weights import Shapes, WeightLayout, lay_out_weights
from npusim.mem.lmem import align_up
from reference_model.config import ModelConfig
from reference_model.quant import ops
from reference_model.quant.arith import Patterns, pattern
from reference_model.quant.twin import TwinModel

FORMATS = {"bf16": Fmt.BF16, "int8": Fmt.I8}
EMPTY_BOX = 1e30
"""A box without keys has +EMPTY_BOX as its minimum and -EMPTY_BOX as its maximum. Any key changes both, and no product
with it overflows."""


@dataclass(frozen=True)
class Addresses:
    """GMEM addresses that the driver itself needs.

    x          residual stream of the new tokens, bf16 [chunk, hidden]; the driver writes the embedding here
    queries    bf16 [q_heads * head_dim], kept between two programs of a step
    logits     bf16 [vocab]
    scores     for each layer [kv_heads][2][group][num_pages], the upper and then the lower halves of float32 numbers;
               layers are score_bytes apart
    rope       a row of (cos, sin) for each position, rope_bytes apart
    mask       the rows of `masks`
    boxes      Quest's metadata: [layer][kv_head][2 * head_dim][num_pages]
    """

    x: int
    queries: int
    logits: int
    scores: int
    score_bytes: int
    rope: int
    rope_bytes: int
    mask: int
    boxes: int


@dataclass(frozen=True)
class ModelLayout:
    """Where everything of a lowered model is. Addresses are offsets from the start of the board's ION block, whose
    address is in base register 0.

    pages       the cache's pages. Page 0 is the null page, all zeros, for slots that are not used
    staging     where the CPU copies the page of each slot; None if it copies none
    """

    setup: Setup
    config: ModelConfig
    weights: WeightLayout
    memory: MemoryMap
    pages: PageLayout
    staging: PageLayout | None
    addresses: Addresses

    @property
    def cache_shape(self) -> CacheShape:
        """The shape of one layer's cache, for the cache's kernels."""
        c = self.config
        return CacheShape(c.num_kv_heads, c.group_size, c.head_dim, self.pages.head_stride)

    def boxes(self, layer: int) -> Boxes:
        """The boxes of a layer, relative to the label of a block's column."""
        return Boxes(layer * _box_bytes(self.setup, self.config), self.setup.num_pages)

    def table(self, function: str) -> int:
        """Address of the tables of one of FUNCTIONS."""
        return self.memory["tables"].addr + TABLE_BYTES * FUNCTIONS.index(function)

    @property
    def norm_eps(self) -> int:
        """The number that RMSNorm adds to a sum of squares, as a bf16 pattern."""
        return int(ops.rms_norm_constants(np.ones(self.config.hidden_size, np.float32), self.config.norm_eps)[1])

    def constants(self, twin: TwinModel) -> tuple[tuple[int, bytes], ...]:
        """(address, bytes) of weights, tables and an empty cache, which are written before the first token."""
        weights = np.zeros(self.weights.num_bytes, np.uint8)
        self.weights.write(twin, weights)
        boxes = np.full(self.memory["page boxes"].num_bytes // 2, pattern(EMPTY_BOX), np.uint16)
        half = boxes.reshape(-1, 2, self.config.head_dim * self.setup.num_pages)
        half[:, 0] = pattern(-EMPTY_BOX)
        return (
            (self.memory["weights"].addr, weights.tobytes()),
            (self.memory["page boxes"].addr, boxes.tobytes()),
            (self.memory["tables"].addr, self._tables()),
        )

    def _tables(self) -> bytes:
        """Bytes of the region "tables": function tables, the rope's rows, the masks."""
        c, setup = self.config, self.setup
        cos, sin = ops.rope_rows(np.arange(setup.context), c.head_dim, c.rope_theta)
        parts = {self.table(function): table_bytes(function) for function in FUNCTIONS}
        parts[self.addresses.rope] = np.concatenate([cos, sin], 1).tobytes()
        parts[self.addresses.mask] = masks(setup).tobytes()
        start, out = self.memory["tables"].addr, bytearray(self.memory["tables"].num_bytes)
        for addr, part in parts.items():
            out[addr - start : addr - start + len(part)] = part
        return bytes(out)


def lay_out_model(setup: Setup, c: ModelConfig, buffer_bytes: int) -> ModelLayout:
    """The layout of a model of configuration `c` for `setup`. Its tiles of weights take `buffer_bytes` of each lane's
    LMEM. Raises UsageError for a model that cannot be lowered."""
    weights = lay_out_weights(setup.board.chip, Shapes.of(c), FORMATS[setup.precision], buffer_bytes)
    pages = PageLayout.of(c, 1 + setup.num_pages)
    staging = PageLayout.of(c, setup.num_slots) if setup.gather is Gather.COPY else None
    tables, io = _table_offsets(setup, c), _io_offsets(setup, c)
    memory = lay_out_regions(
        [
            ("weights", weights.num_bytes, f"{setup.precision}, {c.num_layers} layers and the head"),
            ("kv pages", pages.num_bytes, f"{setup.num_pages} pages of {PAGE_SIZE} tokens and the null page, bf16"),
            ("page boxes", c.num_layers * _box_bytes(setup, c), "largest and smallest key element of each page"),
            ("tables", tables["end"], "functions, rope, masks"),
            ("scratch", _scratch_bytes(setup, c), "between the operators of a layer"),
            *((("staging", staging.num_bytes, "pages that the CPU copied"),) if staging else ()),
            ("io", io["end"], "embedding in, logits and page scores out"),
        ]
    )
    addresses = Addresses(
        score_bytes=_score_bytes(setup, c),
        rope=memory["tables"].addr + tables["rope"],
        rope_bytes=_rope_bytes(c),
        mask=memory["tables"].addr + tables["mask"],
        boxes=memory["page boxes"].addr,
        **{name: memory["io"].addr + io[name] for name in ("x", "queries", "logits", "scores")},
    )
    return ModelLayout(
        setup=setup,
        config=c,
        weights=weights,
        memory=memory,
        pages=replace(pages, base=memory["kv pages"].addr),
        staging=staging and replace(staging, base=memory["staging"].addr),
        addresses=addresses,
    )


def _table_offsets(setup: Setup, c: ModelConfig) -> dict[str, int]:
    return _offsets(
        functions=TABLE_BYTES * len(FUNCTIONS),
        rope=setup.context * _rope_bytes(c),
        mask=setup.chunk * mask_row_bytes(setup),
    )


def _io_offsets(setup: Setup, c: ModelConfig) -> dict[str, int]:
    return _offsets(
        x=align_up(2 * setup.chunk * c.hidden_size, 64),
        queries=align_up(2 * c.num_heads * c.head_dim, 64),
        logits=align_up(2 * c.vocab_size, 64),
        scores=c.num_layers * _score_bytes(setup, c),
    )


def _offsets(**sizes: int) -> dict[str, int]:
    """The offset of each part, of which `sizes` has the bytes, if the parts follow one another; "end" is the total."""
    return dict(zip((*sizes, "end"), accumulate(sizes.values(), initial=0), strict=True))


def _score_bytes(setup: Setup, c: ModelConfig) -> int:
    """Bytes of one layer's page scores, float32 numbers as two planes of 16 bits."""
    return align_up(2 * 2 * c.num_heads * setup.num_pages, 64)


def _rope_bytes(c: ModelConfig) -> int:
    """Bytes of one position's (cos, sin)."""
    return 2 * 2 * c.head_dim


def _box_bytes(setup: Setup, c: ModelConfig) -> int:
    """Bytes of one layer's boxes."""
    return 2 * c.num_kv_heads * 2 * c.head_dim * setup.num_pages


def _scratch_bytes(setup: Setup, c: ModelConfig) -> int:
    """Scratch bytes that a product or attention over a chunk's rows needs at most."""
    shapes = (
        AttentionShape(rows, c.num_heads, c.num_kv_heads, c.head_dim, setup.num_pages) for rows in (1, setup.chunk)
    )
    attention = max(shape.scratch_bytes for shape in shapes)
    widest = max(2 * c.intermediate_size, (c.num_heads + 2 * c.num_kv_heads) * c.head_dim, c.hidden_size)
    return max(attention, 2 * setup.chunk * widest)


def mask_row_bytes(setup: Setup) -> int:
    """Bytes of one row of `masks`."""
    return 2 * 2 * setup.context


def masks(setup: Setup) -> Patterns:
    """bf16 patterns of shape [chunk, 2 * context]: row t is 0 up to place context + t, then MASKED.

    A chunk that starts at position p reads each row from place context - p on. So its token t sees slots 0 to p + t of
    those that it attends to."""
    place = np.arange(2 * setup.context)
    return np.where(place <= setup.context + np.arange(setup.chunk)[:, None], np.uint16(0), ops.MASKED).astype(
        np.uint16
    )
