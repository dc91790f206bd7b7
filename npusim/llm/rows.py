"""Rows through the chip's programs: what the board's CPU writes before one runs, and reads after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.device import Device
from npusim.llm.lowered_model import LoweredModel, PrefillProgram
from npusim.llm.pages import KEYS, SIDES, VALUES, FloatArray, PageChoice, every_block, num_blocks, page_label
from npusim.llm.sequence import Sequence as Sequence_
from reference_model.quant import ops
from reference_model.quant.twin import TwinModel

Row = Sequence_ | None
"""A row's sequence, or None for a row that is not used."""


class RowsDriver:
    """Runs one step of several sequences, or one chunk of a prompt. The sequences' lengths include the new tokens.

    num_patched     descriptors whose address changed, so far
    watch           shown the first row's residual stream [hidden] in front of layer 0, 1, ..., and behind the last,
                    where a step is a program a layer
    """

    def __init__(self, lowered: LoweredModel, twin: TwinModel, device: Device) -> None:
        self.lowered, self.device = lowered, device
        self.num_patched = 0
        self.watch: Callable[[int, FloatArray], None] | None = None
        self._twin = twin
        c, setup = lowered.config, lowered.setup
        self._turns = np.concatenate(ops.rope_rows(np.arange(setup.context), c.head_dim, c.rope_theta), 1)
        self._pages: dict[tuple[str, int, int], bytes] = {}
        """Where the pages of (program, row, layer) were put last."""
        for name, program in lowered.programs.items():
            device.load(name, program)
        for addr, data in lowered.layout.constants(twin):
            device.write(addr, data)

    def step(self, sequences: Sequence[Sequence_], tokens: Sequence[int]) -> list[FloatArray]:
        """One token of each sequence in, its logits [vocab] out: values of bf16 numbers."""
        lowered = self.lowered
        count = lowered.rows_for(len(sequences))
        rows: list[Row] = [*sequences, *[None] * (count - len(sequences))]
        self._write_rows(tokens, [s.length - 1 for s in sequences], [s.num_valid for s in sequences], count)
        for sequence in sequences:
            sequence.choices = []
        names = lowered.decodes[count]
        (self._by_layer if len(names) > 1 else self._at_once)(names, rows)
        vocab = lowered.config.vocab_size
        return [self._floats(lowered.addresses.logits + 2 * row * vocab, vocab) for row in range(len(sequences))]

    def prefill(self, sequence: Sequence_, program: PrefillProgram, tokens: Sequence[int]) -> None:
        """A chunk of a prompt, at most as long as the program's; the last token fills what is left of it, at its own
        place in the text, so that it changes no box."""
        lowered, rows = self.lowered, self.lowered.setup.chunk
        start = sequence.length - len(tokens)
        places = start + np.minimum(np.arange(rows), len(tokens) - 1)
        padded = [*tokens, *[tokens[-1]] * (rows - len(tokens))]
        self._write_rows(padded, places.tolist(), (places + 1).tolist(), rows)
        choice = every_block(lowered.config.num_kv_heads, program.num_slots, sequence.length)
        moves = self._step_moves(0, sequence, start)
        for layer in range(lowered.config.num_layers):
            moves |= self._page_moves(program.name, 0, layer, sequence, choice)
        self._run(program.name, moves)

    def _write_rows(self, tokens: Sequence[int], places: Sequence[int], valid: Sequence[int], count: int) -> None:
        """Embeddings, rotations and masks of `count` rows; rows without a token get zeros, and hide nothing."""
        addresses, setup = self.lowered.addresses, self.lowered.setup
        x = self._twin.embed(np.asarray(tokens, np.int64))
        self.device.write(addresses.x, np.pad(x, ((0, count - len(x)), (0, 0))).tobytes())
        turns = self._turns[np.asarray(places, np.int64)]
        self.device.write(addresses.turns, np.pad(turns, ((0, count - len(x)), (0, 0))).tobytes())
        seen = np.full(count, setup.context)
        seen[: len(valid)] = valid
        hidden = np.arange(setup.context) >= seen[:, None]
        self.device.write(addresses.mask, np.where(hidden, ops.MASKED, np.uint16(0)).astype(np.uint16).tobytes())

    def _by_layer(self, names: Sequence[str], rows: Sequence[Row]) -> None:
        """Program i attends in layer i - 1 to what was chosen by the scores with which program i - 1 ended."""
        lowered = self.lowered
        moves = self._rows_moves(rows)
        for index, name in enumerate(names):
            layer = index - 1
            for row, sequence in enumerate(rows):
                if not index:
                    continue
                choice = None
                if sequence is not None:
                    scores = self._scores(layer, row, sequence) if lowered.setup.prunes else None
                    choice = self._choose(sequence, layer, scores)
                moves |= self._decode_page_moves(name, row, layer, sequence, choice)
            self._run(name, moves)
            if self.watch is not None:
                self.watch(index, self._floats(lowered.addresses.x, lowered.config.hidden_size))

    def _at_once(self, names: Sequence[str], rows: Sequence[Row]) -> None:
        """One program for all layers, which attend to what the scores of the step before say."""
        layers = range(self.lowered.config.num_layers)
        moves = self._rows_moves(rows)
        for row, sequence in enumerate(rows):
            for layer in layers:
                choice = None if sequence is None else self._choose(sequence, layer, None)
                moves |= self._decode_page_moves(names[0], row, layer, sequence, choice)
        self._run(names[0], moves)
        if self.lowered.setup.prunes:
            for row, sequence in enumerate(rows):
                if sequence is not None:
                    sequence.scores = [self._scores(layer, row, sequence) for layer in layers]

    def _choose(self, sequence: Sequence_, layer: int, scores: FloatArray | None) -> PageChoice:
        if scores is None:
            scores = sequence.old_scores(layer, self.lowered.config.num_kv_heads)
        choice = sequence.choose(scores, self.lowered.setup.num_slots)
        sequence.choices.append(choice)
        return choice

    def _scores(self, layer: int, row: int, sequence: Sequence_) -> FloatArray:
        """Largest score among the query heads of each KV head, float32 [kv_heads, blocks so far]."""
        config = self.lowered.config
        shape = (config.num_kv_heads, 2, config.group_size, self.lowered.setup.num_pages)
        raw = self.device.read(self.lowered.layout.scores(layer, row), 2 * math.prod(shape))
        upper, lower = np.frombuffer(raw, np.uint16).reshape(shape)[..., : num_blocks(sequence.length)].swapaxes(0, 1)
        return (upper.astype(np.uint32) << 16 | lower).view(np.float32).max(1)

    def _rows_moves(self, rows: Sequence[Row]) -> dict[str, int]:
        moves: dict[str, int] = {}
        for row, sequence in enumerate(rows):
            moves |= self._step_moves(row, sequence, sequence.length - 1 if sequence else 0)
        return moves

    def _step_moves(self, row: int, sequence: Row, position: int) -> dict[str, int]:
        """Addresses that follow from the position of a row's first new token. A row that is not used stores into the
        spare page and the last region of boxes."""
        lowered = self.lowered
        block, slot = divmod(position, PAGE_SIZE)
        page = lowered.layout.spare_page if sequence is None else sequence.table.pages[block]
        region = lowered.setup.rows if sequence is None else sequence.region
        boxes = self.boxes(region)
        return {
            f"k_new/{row}": lowered.pages.token_addr(KEYS, page, slot),
            f"v_new/{row}": lowered.pages.token_addr(VALUES, page, slot),
            f"boxes/{row}": boxes,
            f"box/{row}": boxes + 2 * block,
        }

    def boxes(self, region: int) -> int:
        """Address of one sequence's boxes."""
        return self.lowered.addresses.boxes + region * self.lowered.addresses.box_bytes

    def _decode_page_moves(
        self, name: str, row: int, layer: int, sequence: Row, choice: PageChoice | None
    ) -> dict[str, int]:
        """Addresses of the pages that a row attends to in one layer; where the CPU copies them, none move."""
        pages, staging = self.lowered.pages, self.lowered.layout.staging
        if staging is None or sequence is None or choice is None:
            return self._page_moves(name, row, layer, sequence, choice)
        physical = sequence.physical[choice.blocks]
        for head, slot in np.ndindex(physical.shape):
            for side in SIDES:
                page = self.device.read(pages.addr(layer, head, side, int(physical[head, slot])), pages.page_stride)
                self.device.write(staging.addr(layer, head, side, slot), page)
        return {}

    def _page_moves(self, name: str, row: int, layer: int, sequence: Row, choice: PageChoice | None) -> dict[str, int]:
        """Addresses of the pages that a row attends to in one layer, where they are not there already."""
        physical = self._no_pages if sequence is None or choice is None else sequence.physical[choice.blocks]
        if self._pages.get((name, row, layer)) == (data := physical.tobytes()):
            return {}
        self._pages[name, row, layer] = data
        pages = self.lowered.pages
        return {
            page_label(row, layer, head, side, slot): pages.addr(layer, head, side, int(physical[head, slot]))
            for head, slot in np.ndindex(physical.shape)
            for side in SIDES
        }

    @property
    def _no_pages(self) -> NDArray[np.int64]:
        """What a row that is not used attends to: null pages."""
        return np.zeros((self.lowered.config.num_kv_heads, self.lowered.setup.num_slots), np.int64)

    def _run(self, name: str, moves: Mapping[str, int]) -> None:
        labels = self.lowered.programs[name].label_set
        self.num_patched += self.device.run(name, {label: addr for label, addr in moves.items() if label in labels})

    def _floats(self, addr: int, count: int) -> FloatArray:
        """bf16 numbers in GMEM."""
        raw = np.frombuffer(self.device.read(addr, 2 * count), np.uint16)
        return (raw.astype(np.uint32) << 16).view(np.float32)
