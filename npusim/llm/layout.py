"""Where everything of a lowered model is in GMEM, and what is written there before the first token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np

from npusim.kernels.cache import PAGE_SIZE, Boxes, CacheShape
from npusim.kernels.rows import BF16
from npusim.kernels.tables import TABLE_BYTES
from npusim.kernels.tensors import Fmt, Tg, tg
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

    A row is a new token: of each of several sequences, or of a chunk of a prompt.

    x          residual stream of the rows, bf16 [rows, hidden]: the embedding goes in here
    turns      (cos, sin) of each row's position, rope_bytes a row: a copy of its row of `rope`
    mask       of each row, mask_bytes apart: bf16 [slots], 0 or what hides a slot
    queries    bf16 [rows, q_heads * head_dim], between two programs of a step
    logits     bf16 [rows, vocab]
    scores     of each row and layer, score_bytes apart: [kv_heads][2][group][num_pages], the upper and lower halves of
               float32 numbers
    rope       rows of (cos, sin), rope_bytes a position
    boxes      Quest's metadata, box_bytes a sequence: [layer][kv_head][2 * head_dim][num_pages]
    """

    x: int
    turns: int
    mask: int
    mask_bytes: int
    queries: int
    logits: int
    scores: int
    score_bytes: int
    rope: int
    rope_bytes: int
    boxes: int
    box_bytes: int


@dataclass(frozen=True)
class ModelLayout:
    """Where everything of a lowered model is. Addresses are offsets from the start of the board's ION block, whose
    address is in base register 0.

    pages       of the cache: NULL_PAGE, all zeros, which stands in for a slot that is not used; the pool's; and, where
                several sequences are decoded at once, the spare page
    staging     where the CPU copies the page of each slot; None where it copies none
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

    def boxes(self, layer: int, row: int) -> Boxes:
        """Of a program's `row`-th sequence; relative, too, to the label that names a block's column."""
        return Boxes(layer * _box_bytes(self.setup, self.config), self.setup.num_pages, f"boxes/{row}")

    def scores(self, layer: int, row: int) -> int:
        """Address of a row's page scores in a layer."""
        return self.addresses.scores + (row * self.config.num_layers + layer) * self.addresses.score_bytes

    @property
    def spare_page(self) -> int:
        """Where a row without a sequence stores its key and value."""
        return 1 + self.setup.pool_pages

    def products(self, rows: int, columns: int) -> Tg:
        """Rows in GMEM that a product may go through."""
        return tg(self.memory["scratch"].addr, (1, rows, 1, columns), BF16)

    def activations(self, rows: int, columns: int) -> Tg:
        """Rows in GMEM that a product may read."""
        start = self.memory["scratch"].addr + 2 * self.setup.io_rows * _widest_product(self.config)
        return tg(start, (1, rows, 1, columns), BF16)

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
        regions = self.memory["page boxes"].num_bytes // self.addresses.box_bytes
        return (
            (self.memory["weights"].addr, weights.tobytes()),
            (self.memory["page boxes"].addr, self.empty_boxes().tobytes() * regions),
            (self.memory["tables"].addr, self._tables()),
        )

    def empty_boxes(self) -> Patterns:
        """Boxes of a sequence without keys: uint16 [layers, kv_heads, 2, head_dim * num_pages]."""
        c = self.config
        boxes = np.full(
            (c.num_layers, c.num_kv_heads, 2, c.head_dim * self.setup.num_pages), pattern(EMPTY_BOX), np.uint16
        )
        boxes[:, :, 0] = pattern(-EMPTY_BOX)
        return boxes

    def _tables(self) -> bytes:
        """Function tables, then the rope's rows."""
        c, setup = self.config, self.setup
        cos, sin = ops.rope_rows(np.arange(setup.context), c.head_dim, c.rope_theta)
        parts = {self.table(function): table_bytes(function) for function in FUNCTIONS}
        parts[self.addresses.rope] = np.concatenate([cos, sin], 1).tobytes()
        start, out = self.memory["tables"].addr, bytearray(self.memory["tables"].num_bytes)
        for addr, part in parts.items():
            out[addr - start : addr - start + len(part)] = part
        return bytes(out)


def lay_out_model(setup: Setup, c: ModelConfig, buffer_bytes: int) -> ModelLayout:
    """The layout of a model of configuration `c` for `setup`. Its tiles of weights take `buffer_bytes` of each lane's
    LMEM. Raises UsageError for a model that cannot be lowered."""
    weights = lay_out_weights(setup.board.chip, Shapes.of(c), FORMATS[setup.precision], buffer_bytes)
    spare = setup.rows > 1
    pages = PageLayout.of(c, 1 + setup.pool_pages + spare)
    num_boxes, box_bytes = setup.rows + spare, c.num_layers * _box_bytes(setup, c)
    staging = PageLayout.of(c, setup.num_slots) if setup.gather is Gather.COPY else None
    tables, io = _table_offsets(setup, c), _io_offsets(setup, c)
    memory = lay_out_regions(
        [
            ("weights", weights.num_bytes, f"{setup.precision}, {c.num_layers} layers and the head"),
            ("kv pages", pages.num_bytes, f"{setup.pool_pages} pages of {PAGE_SIZE} tokens and {1 + spare} more, bf16"),
            ("page boxes", num_boxes * box_bytes, "largest and smallest key element of each page"),
            ("tables", tables["end"], "functions, rope"),
            ("scratch", _scratch_bytes(setup, c), "between the operators of a layer"),
            *((("staging", staging.num_bytes, "pages that the CPU copied"),) if staging else ()),
            ("io", io["end"], "embedding in, logits and page scores out"),
        ]
    )
    addresses = Addresses(
        score_bytes=_score_bytes(setup, c),
        rope=memory["tables"].addr + tables["rope"],
        rope_bytes=_rope_bytes(c),
        mask_bytes=_mask_bytes(setup),
        boxes=memory["page boxes"].addr,
        box_bytes=box_bytes,
        **{name: memory["io"].addr + io[name] for name in ("x", "turns", "mask", "queries", "logits", "scores")},
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
    )


def _io_offsets(setup: Setup, c: ModelConfig) -> dict[str, int]:
    return _offsets(
        x=align_up(2 * setup.io_rows * c.hidden_size, 64),
        turns=align_up(setup.io_rows * _rope_bytes(c), 64),
        mask=setup.io_rows * _mask_bytes(setup),
        queries=align_up(2 * setup.rows * c.num_heads * c.head_dim, 64),
        logits=align_up(2 * setup.rows * c.vocab_size, 64),
        scores=setup.rows * c.num_layers * _score_bytes(setup, c),
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
    """What several rows may put between two operators: products, and activations that a product reads."""
    return 2 * setup.io_rows * (_widest_product(c) + max(c.intermediate_size, c.num_heads * c.head_dim))


def _widest_product(c: ModelConfig) -> int:
    return max((c.num_heads + 2 * c.num_kv_heads) * c.head_dim, c.hidden_size)


def _mask_bytes(setup: Setup) -> int:
    """Of a row's mask, for as many slots as the context has."""
    return 2 * setup.context
