"""Spans that timing computes once for each geometry agree with those that every command declares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npusim.chip import chip_named
from npusim.errors import NpusimError
from npusim.insn import INSTRUCTIONS, Instruction
from npusim.isa.descriptors import tdma_layout, tiu_layout
from npusim.loader.cvimodel import load_cvimodel
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.decode import decode_cmdbuf
from npusim.program.model import named_cmdbufs
from npusim.timing import TDMA, TIU, workload_of_cmdbuf
from npusim.timing.distinct import TDMA_VALUES, TIU_VALUES
from npusim.timing.spans import TDMA_OPERANDS, TIU_OPERANDS
from tests.differential import arith_cases, conv_cases, tdma_cases
from tests.kernels.record import draw_all
from tests.support.chips import EACH_CHIP
from tests.test_probes import FILES, records

MODELS = sorted((Path(__file__).parents[2] / "golden" / "data" / "functional").glob("*.cvimodel"))
NAMES = {TIU: TIU_OPERANDS, TDMA: TDMA_OPERANDS}


def spans_of(insn: Instruction) -> dict[str, tuple[int, int]]:
    """Of each operand in LMEM, the offsets within a lane between which the bytes of its footprint lie."""
    chip, spans, footprint = insn.chip, {}, insn.footprint()
    for access in (*footprint.reads, *footprint.writes):
        parts = [tensor.span(chip) for tensor in access.tensors]
        if not parts:  # bytes that run on through the lanes
            ends = [
                (r.start % chip.lmem_bytes, r.start % chip.lmem_bytes + r.run) for r in access.regions if r.memory < 0
            ]
            parts = [(0, chip.lmem_bytes) if end > chip.lmem_bytes else (start, end) for start, end in ends]
        for start, end in parts:
            first, last = spans.get(access.name, (start, end))
            spans[access.name] = min(first, start), max(last, end)
    return spans


def compare(cmdbuf: Cmdbuf) -> int:
    """How many commands were compared."""
    workload = workload_of_cmdbuf(cmdbuf)
    places = [{index: place for place, index in enumerate(indices.tolist())} for indices in workload.index]
    order = decode_cmdbuf(cmdbuf)
    for insn in order:
        engine = TIU if insn.index in places[TIU] else TDMA
        place = places[engine][insn.index]
        found = (workload.lmem.tiu, workload.lmem.tdma)[engine][place].tolist()
        spans = {name: tuple(span) for name, span in zip(NAMES[engine], found, strict=True) if span[1]}
        assert spans == spans_of(insn), insn.index
        assert INSTRUCTIONS[(workload.tiu, workload.tdma)[engine].kind[place]] is type(insn)
    return len(order)


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_spans_are_those_of_the_footprints_of_every_model(path: Path) -> None:
    assert sum(compare(cmdbuf) for cmdbuf in named_cmdbufs(load_cvimodel(path)).values()) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name[6:]}-{p.stem}")
def test_spans_are_those_of_the_footprints_of_every_probe(path: Path) -> None:
    chip, each = records(path)
    assert sum(compare(parse_cmdbuf(chip_named(chip), record.cmdbuf)) for record in each)


@pytest.mark.parametrize("chip", EACH_CHIP)
def test_spans_are_those_of_the_footprints_of_every_kernel(chip) -> None:  # type: ignore[no-untyped-def]
    assert sum(compare(parse_cmdbuf(chip, case.case.cmdbuf)) for _, case in draw_all(chip.name)) > 1000


@pytest.mark.parametrize("chip", EACH_CHIP)
def test_spans_are_those_of_the_footprints_of_random_descriptors(chip) -> None:  # type: ignore[no-untyped-def]
    rng, compared = np.random.default_rng(20261128), 0
    for i in range(240):
        cmdbuf = parse_cmdbuf(chip, (arith_cases, conv_cases, tdma_cases)[i % 3].draw(rng, chip.name).cmdbuf)
        (insn,) = decode_cmdbuf(cmdbuf)
        try:
            insn.check()
        except NpusimError:
            continue
        compared += compare(cmdbuf)
    assert compared > 100


def test_what_is_left_out_of_a_geometry_are_fields_of_descriptors() -> None:
    chips = [chip_named(name) for name in ("cv181x", "cv183x")]
    for values, layout_of in ((TIU_VALUES, tiu_layout), (TDMA_VALUES, tdma_layout)):
        assert set(values) <= {name for chip in chips for name in layout_of(chip).by_name}
