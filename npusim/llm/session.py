"""The driver: what the board's CPU does to run sequences through the chip's programs, token by token."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kv.errors import KVError
from kv.pages.block_manager import BlockManager, Copies
from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE
from npusim.llm.device import Device
from npusim.llm.lowered_model import LoweredModel
from npusim.llm.pages import KEYS, SIDES, FloatArray, PageChoice
from npusim.llm.rows import RowsDriver
from npusim.llm.sequence import Sequence as Sequence_
from reference_model.quant.arith import Patterns
from reference_model.quant.twin import TwinModel

SOLE = "sequence"
"""Name of the one sequence of a session that has no other."""


@dataclass
class _Preempted:
    """A sequence whose keys, values and boxes wait in the CPU's memory."""

    sequence: Sequence_
    pages: list[bytes]
    boxes: bytes


class Session:
    """Sequences on one device, over one pool of pages.

    `admit` computes a prompt, `step` takes a token of each of several sequences and gives the logits after it, as the
    chip left them in bf16. A sequence's logits do not depend on the others. `prefill` and `decode` are for a session of
    one sequence."""

    def __init__(self, lowered: LoweredModel, twin: TwinModel, device: Device) -> None:
        self.lowered, self.device = lowered, device
        self.driver = RowsDriver(lowered, twin, device)
        self.blocks = BlockManager(lowered.setup.pool_pages, PAGE_SIZE)
        self.sequences: dict[Hashable, Sequence_] = {}
        self._preempted: dict[Hashable, _Preempted] = {}

    def admit(self, name: Hashable, prompt: Sequence[int], budget: int | None = None) -> FloatArray:
        """A new sequence: its prompt is computed, but for whole pages that the cache holds already.

        Gives the logits [vocab] after the prompt's last token.

        budget      tokens that its decode steps attend to, at most the setup's; None: the setup's

        Raises UsageError for an empty prompt or one longer than the context, for a budget that the programs do not
        have, and where as many sequences are there as programs have rows; KVError where pages or the name are taken."""
        _require_prompt(prompt)
        self._require_room(0, len(prompt))
        num_slots = self._slots(budget)
        if name in self._preempted:
            raise KVError(f"sequence {name!r} is preempted: resume or free it first")
        region = self._free_region()
        table = self.blocks.allocate(name, prompt)
        sequence = self.sequences[name] = Sequence_(table, region, num_slots, length=table.num_cached)
        self._clear_boxes(sequence)
        dense, logits = self._prefill(sequence, prompt[sequence.length :])
        self.blocks.publish(name, prompt[:dense])
        return logits

    def step(self, tokens: Mapping[Hashable, int]) -> dict[Hashable, FloatArray]:
        """One more token of each of these sequences, at most as many as there are rows; float32 logits [vocab] of each.

        Raises UsageError where a context is full, KVError where pages are; then nothing has changed."""
        if not 0 < len(tokens) <= self.lowered.setup.rows:
            raise UsageError(
                f"a step of {len(tokens)} sequences: the programs decode 1 to {self.lowered.setup.rows} at once"
            )
        sequences = [self.sequence(name) for name in tokens]
        for sequence in sequences:
            self._require_room(sequence.length, 1)
        self._append(dict.fromkeys(tokens, 1))
        for sequence in sequences:
            sequence.length += 1
        return dict(zip(tokens, self.driver.step(sequences, list(tokens.values())), strict=True))

    def fork(self, parent: Hashable, child: Hashable) -> None:
        """A second sequence with the same content. Pages are shared until one of both writes into one."""
        old, region = self.sequence(parent), self._free_region()
        table = self.blocks.fork(parent, child)
        self.sequences[child] = Sequence_(table, region, old.num_slots, length=old.length, scores=list(old.scores))
        self._write_boxes(region, self._read_boxes(old.region))

    def free(self, name: Hashable) -> None:
        """Ends a sequence."""
        if self._preempted.pop(name, None) is None:
            self.sequence(name)
            self.blocks.free(name)
            del self.sequences[name]

    def preempt(self, name: Hashable) -> None:
        """Gives a sequence's pages and its row to others; what they hold waits in the CPU's memory until `resume`."""
        sequence = self.sequence(name)
        pages = [self._read_page(page) for page in sequence.table.pages]
        self._preempted[name] = _Preempted(sequence, pages, self._read_boxes(sequence.region))
        self.blocks.free(name)
        del self.sequences[name]

    def resume(self, name: Hashable) -> None:
        """Goes on with a preempted sequence. Raises KVError where it was not preempted, or pages are missing."""
        if name not in self._preempted:
            raise KVError(f"sequence {name!r} was not preempted: there is nothing to resume")
        saved, region = self._preempted[name], self._free_region()
        table = self.blocks.allocate(name, [])
        try:
            self.blocks.append(name, saved.sequence.length)
        except KVError:
            self.blocks.free(name)
            raise
        for page, data in zip(table.pages, saved.pages, strict=True):
            self._write_page(page, data)
        self._write_boxes(region, saved.boxes)
        saved.sequence.table, saved.sequence.region = table, region
        self.sequences[name] = saved.sequence
        del self._preempted[name]

    def sequence(self, name: Hashable) -> Sequence_:
        """What is known of a sequence. KVError where there is none of that name, or it is preempted."""
        if name not in self.sequences:
            way_out = "resume it first" if name in self._preempted else "admit or fork it first"
            raise KVError(f"sequence {name!r} is not in the cache: {way_out}")
        return self.sequences[name]

    @property
    def length(self) -> int:
        """Tokens of the sole sequence."""
        return self.sequences[SOLE].length if SOLE in self.sequences else 0

    @property
    def choices(self) -> list[PageChoice]:
        """What each layer of the sole sequence attended to in the last decode step."""
        return self.sequence(SOLE).choices

    def prefill(self, tokens: Sequence[int]) -> FloatArray:
        """Feeds tokens to the sole sequence; logits [vocab] after the last."""
        if SOLE not in self.sequences:
            return self.admit(SOLE, tokens)
        _require_prompt(tokens)
        self._require_room(self.length, len(tokens))
        self._append({SOLE: len(tokens)})
        return self._prefill(self.sequences[SOLE], tokens)[1]

    def decode(self, token: int) -> FloatArray:
        """One token of the sole sequence in, float32 logits [vocab] out. UsageError where the cache is full."""
        if SOLE not in self.sequences:
            self._require_room(0, 1)
            table = self.blocks.allocate(SOLE, [])
            self.sequences[SOLE] = Sequence_(table, self._free_region(), self._slots(None))
        return self.step({SOLE: token})[SOLE]

    def _prefill(self, sequence: Sequence_, tokens: Sequence[int]) -> tuple[int, FloatArray]:
        """All but the last token in chunks, which see everything, as far as programs reach; the others token by token.
        Tokens from the sequence's start on that saw everything, and the logits after the last.

        The sequence's table has room for all tokens."""
        chunk, dense = self.lowered.setup.chunk, sequence.length
        while len(tokens) > 1:
            count = min(chunk, len(tokens) - 1)
            program = self.lowered.prefill_for(sequence.length + count)
            if program is None or sequence.length % chunk:
                count = 1
                sequence.length += 1
                self.driver.step([sequence], tokens[:1])
            else:
                dense += count if dense == sequence.length else 0
                sequence.length += count
                self.driver.prefill(sequence, program, tokens[:count])
            tokens = tokens[count:]
        sequence.length += 1
        return dense, self.driver.step([sequence], tokens)[0]

    def _append(self, counts: Mapping[Hashable, int]) -> None:
        """Room for so many more tokens of each sequence, or KVError and no change."""
        done: list[Hashable] = []
        try:
            for name, count in counts.items():
                self._copy_pages(self.blocks.append(name, count))
                done.append(name)
        except KVError:
            for name in done:
                self.blocks.truncate(name, self.sequences[name].length)
            raise

    def _copy_pages(self, copies: Copies) -> None:
        for source, destination in copies:
            self._write_page(destination, self._read_page(source))

    def _page_addrs(self, page: int) -> list[int]:
        c = self.lowered.config
        shape = (c.num_layers, c.num_kv_heads, len(SIDES))
        return [self.lowered.pages.addr(layer, head, side, page) for layer, head, side in np.ndindex(shape)]

    def _read_page(self, page: int) -> bytes:
        """A page of every layer, head and side."""
        size = self.lowered.pages.page_stride
        return b"".join(self.device.read(addr, size) for addr in self._page_addrs(page))

    def _write_page(self, page: int, data: bytes) -> None:
        size = self.lowered.pages.page_stride
        for number, addr in enumerate(self._page_addrs(page)):
            self.device.write(addr, data[number * size : (number + 1) * size])

    def _read_boxes(self, region: int) -> bytes:
        return self.device.read(self.driver.boxes(region), self.lowered.addresses.box_bytes)

    def _write_boxes(self, region: int, data: bytes) -> None:
        self.device.write(self.driver.boxes(region), data)

    def _clear_boxes(self, sequence: Sequence_) -> None:
        """Boxes of a new sequence: of the pages that it shares, and empty ones."""
        if not self.lowered.setup.prunes:
            return
        c, cached = self.lowered.config, sequence.length // PAGE_SIZE
        boxes = self.lowered.layout.empty_boxes()
        by_block = boxes.reshape(c.num_layers, c.num_kv_heads, 2, c.head_dim, self.lowered.setup.num_pages)
        for block, page in enumerate(sequence.table.pages[:cached]):
            raw = np.frombuffer(self._read_page(page), np.uint16)
            keys = raw.reshape(c.num_layers, c.num_kv_heads, len(SIDES), c.head_dim, PAGE_SIZE)[:, :, KEYS]
            by_block[..., block] = _box(keys)
        self._write_boxes(sequence.region, boxes.tobytes())

    def _slots(self, budget: int | None) -> int:
        most = self.lowered.setup.num_slots
        if budget is None:
            return most
        if budget % PAGE_SIZE or not 0 < budget <= most * PAGE_SIZE:
            raise UsageError(
                f"a budget of {budget} tokens: the programs attend to whole pages of {PAGE_SIZE}, {most} at most"
            )
        return budget // PAGE_SIZE

    def _free_region(self) -> int:
        """A region of boxes that no sequence has."""
        taken = {sequence.region for sequence in self.sequences.values()}
        for region in range(self.lowered.setup.rows):
            if region not in taken:
                return region
        raise UsageError(
            f"{len(taken)} sequences are in the cache, as many as the programs decode together: free or preempt one"
        )

    def _require_room(self, length: int, count: int) -> None:
        context = self.lowered.setup.context
        if length + count > context:
            raise UsageError(
                f"{length + count} tokens do not fit the {context} that the cache was laid out for: use "
                "a longer context"
            )


def _require_prompt(tokens: Sequence[int]) -> None:
    if not len(tokens):
        raise UsageError("the prompt is empty: give at least one token")


def _box(keys: Patterns) -> Patterns:
    """Largest and smallest of bf16 patterns over the last axis: [..., head_dim, tokens] -> [..., 2, head_dim]."""
    values = (keys.astype(np.uint32) << 16).view(np.float32)
    both = np.stack([values.max(-1), values.min(-1)], -2)
    return (both.view(np.uint32) >> 16).astype(np.uint16)
