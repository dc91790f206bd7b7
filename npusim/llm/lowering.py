"""Lowers a model to the fixed set of programs that a board runs."""

from __future__ import annotations

from dataclasses import replace

from npusim.errors import UsageError
from npusim.kernels.program import Program
from npusim.kernels.rows import BF16
from npusim.kernels.tensors import Tg, Tl, tg
from npusim.llm import decoder
from npusim.llm.layout import ModelLayout, lay_out_model
from npusim.llm.lowered_model import LoweredModel, PrefillProgram
from npusim.llm.memory_map import require_fit
from npusim.llm.setup import CHUNKS, Gather, Setup, Submit
from npusim.llm.weights import MATRICES, WeightStrip
from reference_model.config import ModelConfig

BUFFER_BYTES = (8192, 4096, 2048)
"""Bytes of each lane's LMEM for one weight buffer, largest first. They are whole banks, so that loads and products do
not use the same bank. Smaller ones leave more room."""

MAX_PAGES = 255
"""The most pages that attention takes, since the TIU's extents have 12 bits. Longer prompts use decode for the rest."""
PREFILLS = tuple((chunk, num_buffers) for num_buffers in (2, 1) for chunk in CHUNKS)
"""(tokens of a prefill chunk, number of weight buffers), fastest first."""


def lower(config: ModelConfig, setup: Setup, by_layer: bool | None = None, prefill: bool = True) -> LoweredModel:
    """The programs and the memory map of a model for `setup`. Raises UsageError or DoesNotFit if the board cannot hold
    it.

    It takes the largest tiles of weights that fit LMEM, and then the fastest prefill that fits.

    by_layer    whether a decode step has a program for each layer. None: if the CPU handles pages between layers
    prefill     whether there are programs for chunks of a prompt; otherwise prompts are fed token by token
    """
    if by_layer is None:
        by_layer = (setup.prunes and setup.submit is Submit.LAYER) or setup.gather is Gather.COPY
    chunk, buffer_bytes, prefill_buffers = _roomiest(config, setup, by_layer, prefill)
    layout = lay_out_model(replace(setup, chunk=chunk), config, buffer_bytes)
    decode = _decode_programs(layout, by_layer)
    prefills = _prefill_programs(layout, prefill_buffers) if prefill else {}
    programs = decode | {kind.name: program for kind, program in prefills.items()}
    lowered = LoweredModel(layout, programs, tuple(decode), tuple(prefills))
    who = f"{setup.precision} with {setup.context} tokens of context"
    require_fit(lowered.memory, lowered.command_bytes, setup.memory_bytes, who)
    return lowered


def _roomiest(config: ModelConfig, setup: Setup, by_layer: bool, prefill: bool) -> tuple[int, int, int]:
    """The first (chunk, bytes of a weight buffer, number of weight buffers of prefill or 0) whose programs fit LMEM.

    All layers need the same room, so two of them are tried. Raises the UsageError of the last try if nothing fits.
    """
    few = min(config.num_layers, 2)
    config = replace(config, num_layers=few, sliding_layers=config.sliding_layers[:few])
    for buffer_bytes in BUFFER_BYTES:
        try:
            _decode_programs(lay_out_model(setup, config, buffer_bytes), by_layer)
        except UsageError as error:
            last = error
            continue
        if not prefill:
            return setup.chunk, buffer_bytes, 0
        for most, num_buffers in PREFILLS:
            chunk = min(most, setup.chunk)
            try:
                _prefill_programs(lay_out_model(replace(setup, chunk=chunk), config, buffer_bytes), num_buffers)
            except UsageError as error:
                last = error
            else:
                return chunk, buffer_bytes, num_buffers
    raise last


def _decode_programs(layout: ModelLayout, by_layer: bool) -> dict[str, Program]:
    return _decode_by_layer(layout) if by_layer else {"decode": _decode_at_once(layout)}


def _prefill_programs(layout: ModelLayout, num_buffers: int) -> dict[PrefillProgram, Program]:
    kinds = [PrefillProgram(f"prefill{slots}", slots) for slots in prefill_slots(layout.setup)]
    return {kind: _prefill(layout, kind.num_slots, num_buffers) for kind in kinds}


def prefill_slots(setup: Setup) -> list[int]:
    """Numbers of pages that the prefill programs attend to: a quarter of the context, and all of it or MAX_PAGES."""
    most = min(setup.num_pages, MAX_PAGES)
    return sorted({max(most // 4, 1), most})


def _layer(layout: ModelLayout, index: int, *, names: tuple[str, ...] = MATRICES) -> list[WeightStrip]:
    return [strip for name in names for strip in layout.weights.layers[index][name]]


def _decode_at_once(layout: ModelLayout) -> Program:
    """One program for a whole step."""
    num_layers = layout.config.num_layers
    matrices = [m for index in range(num_layers) for m in _layer(layout, index)] + list(layout.weights.head)
    ctx = decoder.start(layout, matrices, 1, layout.setup.num_slots)
    for index in range(num_layers):
        decoder.whole_layer(ctx, index)
    ctx.b.set_layer_id(num_layers)
    decoder.head(ctx)
    return ctx.b.build()


def _decode_by_layer(layout: ModelLayout) -> dict[str, Program]:
    """A program for each choice of pages: it has the part after the choice of one layer, and the part before the choice
    of the next layer."""
    num_layers = layout.config.num_layers
    programs = {}
    for index in range(num_layers + 1):
        after = _layer(layout, index - 1, names=MATRICES[1:]) if index else []
        before = _layer(layout, index, names=MATRICES[:1]) if index < num_layers else list(layout.weights.head)
        ctx = decoder.start(
            layout, after + before, 1, layout.setup.num_slots, begins=index < num_layers, attends=index > 0
        )
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
        programs[f"decode{index}"] = ctx.b.build()
    return programs


def _prefill(layout: ModelLayout, num_slots: int, num_buffers: int) -> Program:
    """A program for a chunk of tokens, up to the last layer's keys and values. No more is needed, since a prompt's last
    token is fed through decode."""
    last, rows = layout.config.num_layers - 1, layout.setup.chunk
    matrices = [m for index in range(last) for m in _layer(layout, index)] + _layer(layout, last, names=MATRICES[:1])
    ctx = decoder.start(layout, matrices, rows, num_slots, num_buffers=num_buffers)
    for index in range(last):
        decoder.whole_layer(ctx, index)
    ctx.b.set_layer_id(last)
    decoder.before_choice(ctx, last, None)
    return ctx.b.build()


def _spilled(layout: ModelLayout, q: Tl) -> Tg:
    """Where queries are kept while the CPU chooses pages."""
    return tg(layout.addresses.queries, q.shape, BF16)
