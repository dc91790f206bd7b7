"""The driver: the work of the board's CPU to run a sequence through the chip's programs, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kv.pages.block_manager import BlockManager
from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.device import Device
from npusim.llm.lowered_model import LoweredModel, PrefillProgram
from npusim.llm.pages import (
    KEYS,
    SIDES,
    VALUES,
    FloatArray,
    PageChoice,
    best_blocks,
    every_block,
    num_blocks,
    page_label,
)
from reference_model.quant.twin import TwinModel

SEQUENCE = "sequence"


class Session:
    """One sequence on one device. `decode` takes a token and gives the logits after it, which the chip computed in
    bf16."""

    def __init__(self, lowered: LoweredModel, twin: TwinModel, device: Device) -> None:
        self.lowered = lowered
        self.device = device
        self.num_patched = 0
        """Number of descriptors whose address was changed so far."""
        self.choices: list[PageChoice] = []
        """The choice of each layer in the last decode step."""
        self.watch: Callable[[int, FloatArray], None] | None = None
        """If a step has a program for each layer, this is called with each layer's number and the residual stream
        before it, float32 [hidden], and then with the number of layers and the stream after the last."""
        self._twin = twin
        self._scores: list[FloatArray] = []
        for name, program in lowered.programs.items():
            device.load(name, program)
        for addr, data in lowered.layout.constants(twin):
            device.write(addr, data)
        self._blocks = BlockManager(lowered.setup.num_pages, PAGE_SIZE)
        self._blocks.allocate(SEQUENCE, [])

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return self._blocks.tables[SEQUENCE].length

    def prefill(self, tokens: Sequence[int]) -> FloatArray:
        """Feeds a prompt: whole chunks with the prefill programs, which attend to everything, and the rest token by
        token. -> logits, float32 [vocab], after the last token. Raises UsageError for an empty prompt or one that does
        not fit the cache."""
        if not len(tokens):
            raise UsageError("the prompt is empty: give at least one token")
        self._require_room(len(tokens))
        chunk, logits = self.lowered.setup.chunk, None
        while (
            len(tokens) > chunk
            and self.length % chunk == 0
            and (program := self.lowered.prefill_for(self.length + chunk))
        ):
            self._prefill_chunk(program, tokens[:chunk])
            tokens = tokens[chunk:]
        for token in tokens:
            logits = self.decode(int(token))
        assert logits is not None
        return logits

    def decode(self, token: int) -> FloatArray:
        """Feeds one token. -> logits, float32 [vocab] with values of bf16 numbers. Raises UsageError if the cache is
        full."""
        self._require_room(1)
        self._blocks.append(SEQUENCE, 1)
        self._write_x([token])
        moves = self._step_moves(self.length - 1)
        if len(self.lowered.decode) > 1:
            self._decode_by_layer(moves)
        else:
            self._decode_at_once(moves)
        return self._floats(self.lowered.addresses.logits, self.lowered.config.vocab_size)

    def _decode_by_layer(self, moves: dict[str, int]) -> None:
        """Runs a program for each layer. Program i attends, in layer i - 1, to pages chosen by the scores that program
        i - 1 has computed."""
        self.choices = []
        for index, name in enumerate(self.lowered.decode):
            if index:
                choice = self._choose(
                    self._read_scores(index - 1) if self.lowered.setup.prunes else self._old_scores(index - 1)
                )
                self.choices.append(choice)
                moves |= self._mask_move(choice.num_valid - 1) | self._decode_page_moves(index - 1, choice)
            self._run(name, moves)
            if self.watch is not None:
                self.watch(index, self._floats(self.lowered.addresses.x, self.lowered.config.hidden_size))

    def _decode_at_once(self, moves: dict[str, int]) -> None:
        """Runs one program for all layers, which attend to pages chosen by the scores of the step before."""
        layers = range(self.lowered.config.num_layers)
        self.choices = [self._choose(self._old_scores(layer)) for layer in layers]
        for layer, choice in enumerate(self.choices):
            moves |= self._decode_page_moves(layer, choice)
        self._run(self.lowered.decode[0], moves | self._mask_move(self.choices[0].num_valid - 1))
        if self.lowered.setup.prunes:
            self._scores = [self._read_scores(layer) for layer in layers]

    def _choose(self, scores: FloatArray) -> PageChoice:
        """The pages to attend to. `scores`: float32 [kv_heads, blocks of the sequence]."""
        num_slots = self.lowered.setup.num_slots
        if scores.shape[1] <= num_slots:
            return every_block(len(scores), num_slots, self.length)
        return best_blocks(scores, num_slots, self.length)

    def _old_scores(self, layer: int) -> FloatArray:
        """The scores of the step before, float32 [kv_heads, blocks of the sequence]. Blocks that had no score then, or
        were incomplete, have infinity, so that they are kept."""
        count = num_blocks(self.length)
        scores = np.full((self.lowered.config.num_kv_heads, count), np.inf, np.float32)
        if self._scores:
            whole = self._scores[layer][:, :-1]
            scores[:, : whole.shape[1]] = whole
        else:
            scores[:] = np.arange(count)
        return scores

    def _read_scores(self, layer: int) -> FloatArray:
        """The largest score among the query heads of each KV head, float32 [kv_heads, blocks of the sequence]."""
        config, addresses = self.lowered.config, self.lowered.addresses
        shape = (config.num_kv_heads, 2, config.group_size, self.lowered.setup.num_pages)
        raw = self.device.read(addresses.scores + layer * addresses.score_bytes, 2 * math.prod(shape))
        upper, lower = np.frombuffer(raw, np.uint16).reshape(shape)[..., : num_blocks(self.length)].swapaxes(0, 1)
        return (upper.astype(np.uint32) << 16 | lower).view(np.float32).max(1)

    def _prefill_chunk(self, program: PrefillProgram, tokens: Sequence[int]) -> None:
        lowered = self.lowered
        self._blocks.append(SEQUENCE, len(tokens))
        self._write_x(tokens)
        start = self.length - len(tokens)
        moves = self._step_moves(start) | self._mask_move(start)
        choice = every_block(lowered.config.num_kv_heads, program.num_slots, self.length)
        for layer in range(lowered.config.num_layers):
            moves |= self._page_moves(layer, choice)
        self._run(program.name, moves)

    def _step_moves(self, position: int) -> dict[str, int]:
        """Addresses of labels that depend on the position of the first new token."""
        pages, addresses = self.lowered.pages, self.lowered.addresses
        block, slot = divmod(position, PAGE_SIZE)
        page = int(self._physical[block])
        return {
            "k_new": pages.token_addr(KEYS, page, slot),
            "v_new": pages.token_addr(VALUES, page, slot),
            "rope": addresses.rope + position * addresses.rope_bytes,
            "box": addresses.boxes + 2 * block,
        }

    def _decode_page_moves(self, layer: int, choice: PageChoice) -> dict[str, int]:
        """Addresses of the pages that one layer of a decode step attends to. If the CPU copies pages, it copies them
        and there are no addresses to move."""
        pages, staging = self.lowered.pages, self.lowered.layout.staging
        moves = self._page_moves(layer, choice)
        if staging is None:
            return moves
        for head, side, slot in np.ndindex(len(choice.blocks), len(SIDES), choice.blocks.shape[1]):
            page = self.device.read(moves[page_label(layer, head, side, slot)], pages.page_stride)
            self.device.write(staging.addr(layer, head, side, slot), page)
        return {}

    def _page_moves(self, layer: int, choice: PageChoice) -> dict[str, int]:
        """Addresses of the pages that one layer attends to."""
        physical, pages = self._physical[choice.blocks], self.lowered.pages
        return {
            page_label(layer, head, side, slot): pages.addr(layer, head, side, int(physical[head, slot]))
            for head, slot in np.ndindex(physical.shape)
            for side in SIDES
        }

    def _mask_move(self, num_before: int) -> dict[str, int]:
        """Address of the mask of new tokens that come after `num_before` others in the slots."""
        return {"mask": self.lowered.addresses.mask + 2 * (self.lowered.setup.context - num_before)}

    def _run(self, name: str, moves: Mapping[str, int]) -> None:
        labels = self.lowered.programs[name].labels
        self.num_patched += self.device.run(name, {label: moves[label] for label in labels})

    @property
    def _physical(self) -> NDArray[np.int64]:
        """Physical page of each block, int64; the last entry, for block -1 (none), is the null page 0."""
        return np.array([*self._blocks.tables[SEQUENCE].pages, 0], np.int64)

    def _write_x(self, tokens: Sequence[int]) -> None:
        self.device.write(self.lowered.addresses.x, self._twin.embed(np.asarray(tokens, np.int64)).tobytes())

    def _floats(self, addr: int, count: int) -> FloatArray:
        """`count` bf16 numbers at `addr` in GMEM, as float32."""
        raw = np.frombuffer(self.device.read(addr, 2 * count), np.uint16)
        return (raw.astype(np.uint32) << 16).view(np.float32)

    def _require_room(self, count: int) -> None:
        context = self.lowered.setup.context
        if self.length + count > context:
            raise UsageError(
                f"{self.length + count} tokens do not fit the cache, which has room for {context}: use a longer context"
            )
