"""Lowers a model to the fixed set of programs that a board runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from npusim.errors import UsageError
from npusim.kernels.cache import PAGE_SIZE
from npusim.kernels.program import Program
from npusim.kernels.rows import BF16
from npusim.kernels.tensors import Tg, Tl, tg
from npusim.llm import decoder
from npusim.llm.decoder import Batch, LmemPlan
from npusim.llm.layout import ModelLayout, lay_out_model
from npusim.llm.lowered_model import LoweredModel, PrefillProgram
from npusim.llm.memory_map import require_fit
from npusim.llm.setup import CHUNKS, Gather, Setup, Submit
from npusim.llm.weights import MATRICES, WeightStrip
from reference_model.config import ModelConfig

BUFFER_BYTES = (8192, 4096, 2048)
"""LMEM a lane of a tile of weights, largest first: whole banks, so that loads and products do not meet in one; small
ones leave room."""
ONE_ROW = (LmemPlan(), LmemPlan(resident=False))
MANY_ROWS = (
    LmemPlan(parts=2, resident=False),
    LmemPlan(parts=4, resident=False),
    LmemPlan(parts=4, buffers=1, resident=False),
)
"""How LMEM may be used, fastest first."""
MAX_PAGES = 255
"""That attention takes: the TIU's extents have 12 bits. What a prompt has beyond goes through decode."""
_Found = TypeVar("_Found")


def lower(config: ModelConfig, setup: Setup, by_layer: bool | None = None, prefill: bool = True) -> LoweredModel:
    """The programs and the memory map of a model for `setup`. Raises UsageError or DoesNotFit if the board cannot hold
    it.

    The largest tiles of weights are taken that leave room in LMEM for one row, and then, for each number of rows, the
    fastest use of LMEM that fits.

    by_layer    whether a decode step has a program for each layer. None: if the CPU handles pages between layers
    prefill     whether there are programs for chunks of a prompt; otherwise prompts are fed token by token
    """
    if by_layer is None:
        by_layer = (setup.prunes and setup.submit is Submit.LAYER) or setup.gather is Gather.COPY
    trial = _Trial(config, setup, by_layer)
    buffer_bytes, plans = trial.decode()
    chunk, prefill_plan = trial.prefill(buffer_bytes) if prefill else (setup.chunk, None)
    setup = replace(setup, chunk=chunk, pool=trial.pool(buffer_bytes))
    layout = lay_out_model(setup, config, buffer_bytes)
    decodes = {rows: _decode_programs(layout, rows, plan, by_layer) for rows, plan in plans.items()}
    prefills = _prefill_programs(layout, prefill_plan) if prefill_plan else {}
    programs = {name: program for step in decodes.values() for name, program in step.items()}
    programs |= {kind.name: program for kind, program in prefills.items()}
    steps = {rows: tuple(step) for rows, step in decodes.items()}
    lowered = LoweredModel(layout, programs, steps, tuple(prefills))
    who = f"{setup.precision} with {setup.context} tokens of context"
    require_fit(lowered.memory, lowered.command_bytes, setup.memory_bytes, who)
    return lowered


class _Trial:
    """Finds what fits LMEM. All layers need the same room, so two of them are tried."""

    def __init__(self, config: ModelConfig, setup: Setup, by_layer: bool) -> None:
        few, whole = min(config.num_layers, 2), config
        self.config = replace(config, num_layers=few, sliding_layers=config.sliding_layers[:few])
        self.setup, self.by_layer = setup, by_layer
        self._whole = whole
        self._command_bytes = 0

    def decode(self) -> tuple[int, dict[int, LmemPlan]]:
        """Bytes of a tile of weights, and the use of LMEM for each number of rows."""

        def one_row(buffer_bytes: int) -> tuple[int, LmemPlan]:
            return buffer_bytes, self._decode_plan(1, buffer_bytes)

        buffer_bytes, first = _first_that_fits(one_row, BUFFER_BYTES)
        others = self.setup.batches[1:]
        return buffer_bytes, {1: first} | {rows: self._decode_plan(rows, buffer_bytes) for rows in others}

    def _decode_plan(self, rows: int, buffer_bytes: int) -> LmemPlan:
        layout = lay_out_model(self.setup, self.config, buffer_bytes)

        def fits(plan: LmemPlan) -> LmemPlan:
            self._keep(_decode_programs(layout, rows, plan, self.by_layer).values())
            return plan

        try:
            return _first_that_fits(fits, ONE_ROW if rows == 1 else MANY_ROWS)
        except UsageError as error:
            if rows == 1:
                raise
            chip = self.setup.board.chip.name
            raise UsageError(
                f"{rows} rows do not fit the LMEM of {chip} ({error}): decode at most {rows // 2} sequences together"
            ) from None

    def prefill(self, buffer_bytes: int) -> tuple[int, LmemPlan]:
        """Tokens of a chunk and the use of LMEM."""

        def fits(kind: tuple[int, LmemPlan]) -> tuple[int, LmemPlan]:
            chunk, plan = kind
            layout = lay_out_model(replace(self.setup, chunk=chunk), self.config, buffer_bytes)
            self._keep(_prefill_programs(layout, plan).values())
            return kind

        chunks = [chunk for chunk in CHUNKS if chunk <= self.setup.chunk]
        return _first_that_fits(fits, [(chunk, plan) for chunk in chunks for plan in MANY_ROWS])

    def _keep(self, programs: Iterable[Program]) -> None:
        self._command_bytes += sum(len(cmdbuf) for program in programs for cmdbuf in program.cmdbufs)

    def pool(self, buffer_bytes: int) -> int | None:
        """Tokens that all pages hold: of every sequence's whole context, or, where memory is short, fewer, but one
        context at least. What programs take is reckoned from those that were tried, which is more than they will."""
        setup = self.setup
        if setup.pool is not None or setup.rows == 1:
            return setup.pool
        layout = lay_out_model(setup, self._whole, buffer_bytes)
        commands = self._command_bytes * self._whole.num_layers // self.config.num_layers
        over = layout.memory.num_bytes + commands - setup.memory_bytes
        page_bytes = layout.pages.num_bytes // (layout.pages.side_stride // layout.pages.page_stride)
        pages = setup.pool_pages - max(-(-over // page_bytes), 0)
        return PAGE_SIZE * max(pages, setup.num_pages)


def _first_that_fits(build: Callable[..., _Found], kinds: Iterable[object]) -> _Found:
    """What `build` makes of the first of `kinds` that it can build. Raises the UsageError of the last one."""
    for kind in kinds:
        try:
            return build(kind)
        except UsageError as error:
            last = error
    raise last


def _decode_programs(layout: ModelLayout, rows: int, plan: LmemPlan, by_layer: bool) -> dict[str, Program]:
    """The programs of one step for so many sequences, in order."""
    batch = Batch(rows, 1, layout.setup.num_slots)
    return (
        _decode_by_layer(layout, batch, plan) if by_layer else {f"decode{rows}": _decode_at_once(layout, batch, plan)}
    )


def _prefill_programs(layout: ModelLayout, plan: LmemPlan) -> dict[PrefillProgram, Program]:
    kinds = [PrefillProgram(f"prefill{slots}", slots) for slots in prefill_slots(layout.setup)]
    return {kind: _prefill(layout, Batch(1, layout.setup.chunk, kind.num_slots), plan) for kind in kinds}


def prefill_slots(setup: Setup) -> list[int]:
    """Numbers of pages that the prefill programs attend to: a quarter of the context, and all of it or MAX_PAGES."""
    most = min(setup.num_pages, MAX_PAGES)
    return sorted({max(most // 4, 1), most})


def _layer(layout: ModelLayout, index: int, *, names: tuple[str, ...] = MATRICES) -> list[WeightStrip]:
    return [strip for name in names for strip in layout.weights.layers[index][name]]


def _decode_at_once(layout: ModelLayout, batch: Batch, plan: LmemPlan) -> Program:
    """One program for a whole step."""
    num_layers = layout.config.num_layers
    matrices = [m for index in range(num_layers) for m in _layer(layout, index)] + list(layout.weights.head)
    ctx = decoder.start(layout, matrices, batch, plan)
    for index in range(num_layers):
        decoder.whole_layer(ctx, index)
    ctx.b.set_layer_id(num_layers)
    decoder.head(ctx)
    return ctx.b.build()


def _decode_by_layer(layout: ModelLayout, batch: Batch, plan: LmemPlan) -> dict[str, Program]:
    """One program a choice of pages: what follows the choice in one layer, and what stands before it in the next."""
    num_layers = layout.config.num_layers
    programs = {}
    for index in range(num_layers + 1):
        after = _layer(layout, index - 1, names=MATRICES[1:]) if index else []
        before = _layer(layout, index, names=MATRICES[:1]) if index < num_layers else list(layout.weights.head)
        ctx = decoder.start(layout, after + before, batch, plan, begins=index < num_layers, attends=index > 0)
        q = decoder.queries(ctx)
        if index:
            ctx.b.set_layer_id(index - 1)
            ctx.b.tdma_g2l_tensor_copy(_spilled(layout, q), q)
            decoder.attend(ctx, index - 1, q)
            decoder.mlp(ctx, index - 1)
        ctx.b.set_layer_id(index)
        if index == num_layers:
            decoder.head(ctx)
        else:
            decoder.before_choice(ctx, index, q)
            ctx.b.tdma_l2g_tensor_copy(q, _spilled(layout, q))
        ctx.b.tdma_l2g_tensor_copy(ctx.x, tg(layout.addresses.x, ctx.x.shape, BF16))
        programs[f"decode{batch.rows}.{index}"] = ctx.b.build()
    return programs


def _prefill(layout: ModelLayout, batch: Batch, plan: LmemPlan) -> Program:
    """A chunk of tokens up to the last layer's keys and values: no more is asked for, since a prompt's last token goes
    through decode."""
    last = layout.config.num_layers - 1
    matrices = [m for index in range(last) for m in _layer(layout, index)] + _layer(layout, last, names=MATRICES[:1])
    ctx = decoder.start(layout, matrices, batch, plan)
    for index in range(last):
        decoder.whole_layer(ctx, index)
    ctx.b.set_layer_id(last)
    decoder.before_choice(ctx, last, None)
    return ctx.b.build()


def _spilled(layout: ModelLayout, q: Tl) -> Tg:
    """Where queries are kept while the CPU chooses pages."""
    return tg(layout.addresses.queries, q.shape, BF16)
