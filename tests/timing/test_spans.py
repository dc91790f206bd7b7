"""LMEM spans of whole columns against the footprint of single instructions."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.chip import CHIPS
from npusim.insn import Instruction
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import TpuRoutine
from npusim.mem.tensor import LocalTensor
from npusim.program.decode import decode_cmdbuf
from npusim.program.model import section_cmdbufs
from npusim.timing import TDMA, TIU, workload_of_cmdbuf
from npusim.timing.spans import TIU_OPERANDS

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"
NAMES = {TIU: TIU_OPERANDS, TDMA: ("source", "destination")}


def span_in_lane(tensor: LocalTensor, insn: Instruction) -> tuple[int, int]:
    chip = insn.chip
    lane0, start = divmod(tensor.addr, chip.lmem_bytes)
    n, c, h, w = tensor.shape
    extents = (n, -(-(lane0 + c) // chip.num_lanes), h, w)
    reach = sum((extent - 1) * stride for extent, stride in zip(extents, tensor.stride, strict=True))
    return start, start + reach + tensor.itemsize


def spans_of(insn: Instruction) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    footprint = insn.footprint()
    for operand in (*footprint.reads, *footprint.writes):
        for tensor in operand.tensors:
            start, end = span_in_lane(tensor, insn)
            first, last = spans.get(operand.name, (start, end))
            spans[operand.name] = min(first, start), max(last, end)
    return spans


@pytest.mark.parametrize("chip", CHIPS, ids=lambda c: c.name)
@pytest.mark.parametrize("net", ["conv", "mix", "step"])
@pytest.mark.parametrize("kind", ["int8", "bf16"])
def test_spans_are_those_of_the_footprints(net: str, kind: str, chip) -> None:  # type: ignore[no-untyped-def]
    model = load_cvimodel(MODELS / f"{net}_{chip.name}_{kind}.cvimodel")
    compared = 0
    for routine in model.programs[0].routines:
        for cmdbuf in section_cmdbufs(model, routine.section) if isinstance(routine, TpuRoutine) else []:
            workload = workload_of_cmdbuf(cmdbuf)
            places = [{index: place for place, index in enumerate(indices.tolist())} for indices in workload.index]
            for insn in decode_cmdbuf(cmdbuf):
                engine = TIU if insn.index in places[TIU] else TDMA
                found = (workload.lmem.tiu, workload.lmem.tdma)[engine][places[engine][insn.index]].tolist()
                spans = {name: tuple(span) for name, span in zip(NAMES[engine], found, strict=True) if span[1]}
                wanted = spans_of(insn)
                assert spans == wanted, insn.index
                compared += 1
    assert compared > 20
