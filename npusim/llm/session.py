"""The driver: what the board's CPU does to run a sequence through the chip's programs, token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kv.block_manager import BlockManager
from npusim.errors import UsageError
from npusim.llm.device import Device
from npusim.llm.lowered import Lowered, Prefill
from npusim.llm.pages import FloatArray, PageChoice, best_blocks, every_block, group_maximum
from npusim.llm.setup import PAGE_SIZE, Gather

SEQUENCE = "sequence"


class Embeds(Protocol):
    """What the CPU looks up for a token: a quantised twin has this."""

    def embed(self, ids: NDArray[np.int64]) -> NDArray[np.uint16]: ...


class Session:
    """One sequence on one device. `decode` takes a token and gives the logits after it, as the chip left them in bf16."""

    def __init__(self, lowered: Lowered, embedding: Embeds, device: Device) -> None:
        self.lowered = lowered
        self.device = device
        self.num_patched = 0
        """Descriptors whose address changed, so far."""
        self.choices: list[PageChoice] = []
        """What each layer attended to in the last decode step."""
        self._embedding = embedding
        self._scores: list[FloatArray] = []
        for name, program in lowered.programs.items():
            device.load(name, program)
        for addr, data in lowered.constants:
            device.write(addr, data)
        self._blocks = BlockManager(lowered.setup.num_pages, PAGE_SIZE)
        self._blocks.allocate(SEQUENCE, [])

    @property
    def length(self) -> int:
        """Tokens that the cache holds."""
        return self._blocks.tables[SEQUENCE].length

    def prefill(self, tokens: Sequence[int]) -> FloatArray:
        """Feeds a prompt: whole chunks densely by the prefill programs, what is left over token by token. Logits [vocab] after the last."""
        if not len(tokens):
            raise UsageError("the prompt is empty: give at least one token")
        self._require_room(len(tokens))
        chunk, logits = self.lowered.setup.chunk, None
        while len(tokens) > chunk and self.length % PAGE_SIZE == 0 and self.lowered.prefills:
            self._prefill_chunk(tokens[:chunk])
            tokens = tokens[chunk:]
        for token in tokens:
            logits = self.decode(int(token))
        assert logits is not None
        return logits

    def decode(self, token: int) -> FloatArray:
        """One token in, float32 logits [vocab] out (values of bf16 numbers). Raises UsageError where the cache is full."""
        self._require_room(1)
        lowered = self.lowered
        self._append(1)
        self._write_x([token])
        moves = self._step_moves(self.length - 1)
        by_layer = len(lowered.decode) > 1
        self.choices = [] if by_layer else [self._choose(layer) for layer in range(lowered.config.num_layers)]
        for index, name in enumerate(lowered.decode):
            layers = range(index - 1, index) if by_layer else range(lowered.config.num_layers)
            attended = [layer for layer in layers if layer >= 0]
            if by_layer and attended:
                self.choices.append(self._choose(index - 1, self._read_scores(index - 1)))
            for layer in attended:
                moves |= self._page_moves(layer, self.choices[layer])
            self.num_patched += self.device.run(name, self._known(name, moves))
        if lowered.setup.prunes and not by_layer:
            self._scores = [self._read_scores(layer) for layer in range(lowered.config.num_layers)]
        return self._logits()

    def _choose(self, layer: int, scores: FloatArray | None = None) -> PageChoice:
        """Pages of one layer; without scores of this step those of the last one are used, in which a new last page has none."""
        setup, config = self.lowered.setup, self.lowered.config
        num_blocks = -(-self.length // PAGE_SIZE)
        if num_blocks <= setup.num_slots:
            return every_block(config.num_kv_heads, setup.num_slots, self.length, PAGE_SIZE)
        if scores is None:
            scores = self._old_scores(layer, num_blocks)
        return best_blocks(scores, setup.num_slots, self.length, PAGE_SIZE)

    def _old_scores(self, layer: int, num_blocks: int) -> FloatArray:
        """Blocks without a score, and the last one that had been incomplete, count as recent: they are kept."""
        scores = np.full((self.lowered.config.num_kv_heads, num_blocks), np.inf, np.float32)
        if self._scores:
            old = self._scores[layer][:, : num_blocks - 1]
            known = old.shape[1] - (old.shape[1] == self._scores[layer].shape[1])
            scores[:, :known] = old[:, :known]
        else:
            scores[:, : num_blocks - 1] = np.arange(num_blocks - 1)
        return scores

    def _read_scores(self, layer: int) -> FloatArray:
        """Largest score among the query heads of each KV head, float32 [kv_heads, blocks so far]."""
        lowered, config = self.lowered, self.lowered.config
        num_pages = lowered.setup.num_pages
        raw = self.device.read(lowered.places.scores + layer * lowered.places.score_bytes, lowered.places.score_bytes)
        planes = np.frombuffer(raw, np.uint16)[: 2 * config.num_heads * num_pages].reshape(2, config.num_heads, num_pages)
        scores = (planes[0].astype(np.uint32) << 16 | planes[1]).view(np.float32)
        return group_maximum(scores, config.num_kv_heads)[:, : -(-self.length // PAGE_SIZE)]

    def _prefill_chunk(self, tokens: Sequence[int]) -> None:
        lowered = self.lowered
        self._append(len(tokens))
        self._write_x(tokens)
        start = self.length - len(tokens)
        program = self._prefill_for(-(-self.length // PAGE_SIZE))
        moves = self._step_moves(start)
        choice = every_block(lowered.config.num_kv_heads, program.num_slots, self.length, PAGE_SIZE)
        for layer in range(lowered.config.num_layers):
            moves |= self._page_moves(layer, choice)
        self.num_patched += self.device.run(program.name, self._known(program.name, moves))

    def _prefill_for(self, num_blocks: int) -> Prefill:
        return next(p for p in self.lowered.prefills if p.num_slots >= num_blocks)

    def _step_moves(self, position: int) -> dict[str, int]:
        """Addresses that follow from the position of the first new token."""
        lowered, places = self.lowered, self.lowered.places
        block, slot = divmod(position, PAGE_SIZE)
        page = self._page(block)
        keys, values = lowered.pages.key_offset(0, 0, page, slot), lowered.pages.value_offset(0, 0, page, slot)
        kv = lowered.memory["kv pages"].addr
        moves = {"k_new": kv + keys, "v_new": kv + values, "rope": places.rope + position * places.rope_bytes}
        moves["box_out"] = places.boxes + 2 * block
        moves["box_in"] = places.boxes + 2 * block if slot else places.no_box
        return moves

    def _page_moves(self, layer: int, choice: PageChoice) -> dict[str, int]:
        """Addresses of the pages that one layer attends to, and of the mask that hides what is no token."""
        lowered = self.lowered
        width = choice.blocks.shape[1]
        moves = {"mask": lowered.places.mask + 2 * (width * PAGE_SIZE - choice.num_valid)}
        if lowered.setup.gather is Gather.COPY:
            raise NotImplementedError
        kv = lowered.memory["kv pages"].addr
        pages = np.array([self._page(block) for block in range(-(-self.length // PAGE_SIZE))] + [0])[choice.blocks]
        for head, row in enumerate(pages.tolist()):
            for slot, page in enumerate(row):
                moves[f"k/{layer}/{head}/{slot}"] = kv + lowered.pages.offset(0, layer, head, page)
                moves[f"v/{layer}/{head}/{slot}"] = kv + lowered.pages.offset(1, layer, head, page)
        return moves

    def _known(self, name: str, moves: Mapping[str, int]) -> dict[str, int]:
        labels = set(self.lowered.programs[name].labels)
        return {label: addr for label, addr in moves.items() if label in labels}

    def _page(self, block: int) -> int:
        """Physical page of a block; the pool's page 0 is the null page."""
        return self._blocks.tables[SEQUENCE].pages[block]

    def _append(self, count: int) -> None:
        self._blocks.append(SEQUENCE, count)

    def _write_x(self, tokens: Sequence[int]) -> None:
        self.device.write(self.lowered.places.x, self._embedding.embed(np.asarray(tokens, np.int64)).tobytes())

    def _logits(self) -> FloatArray:
        raw = np.frombuffer(self.device.read(self.lowered.places.logits, 2 * self.lowered.config.vocab_size), np.uint16)
        return (raw.astype(np.uint32) << 16).view(np.float32)

    def _require_room(self, count: int) -> None:
        context = self.lowered.setup.context
        if self.length + count > context:
            raise UsageError(
                f"{self.length + count} tokens do not fit the {context} that the cache was laid out for: lower with a longer context"
            )
