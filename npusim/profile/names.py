"""Which tensor of a .cvimodel each command works for.

A file names the tensors in DRAM, but not the layers between them. So a command gets the name of the tensor that its
result ends in. That is found backwards through LMEM. A store writes a tensor and reads lines of LMEM for it. The
command that wrote those lines works for the same tensor, and so do the commands that wrote its operands, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npusim.arrays import Ints
from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS
from npusim.isa.layout import Columns
from npusim.isa.opcodes import TDMA, TIU, PerEngine, TransDir
from npusim.isa.regs import tdma_columns
from npusim.loader.cvimodel_types import Cvimodel, Tensor
from npusim.program.cmdbuf import Cmdbuf
from npusim.runtime.memory_map import WEIGHT, split_offset
from npusim.timing.workload import Workload

LINE_BYTES = 16
MAX_CELLS, MAX_BLOCKS = 1 << 20, 1 << 5
"""Pairs of a store and a tensor that are compared at once, and how many such blocks. In a file with more pairs, later
stores get no name of their own."""
_RESULT = PerEngine(TIU_OPERANDS.index("res0"), TDMA_OPERANDS.index("dst"))
_TO_DRAM = (TransDir.L2G, TransDir.G2G)
_COLUMNS = (
    "trans_dir", "dst_base_reg_sel", "dst_base_addr_low", "dst_base_addr_high", "dst_c_stride_low", "dst_c_stride_high",
    "dst_h_stride",
)  # fmt: skip
NOBODY = -1


@dataclass(frozen=True)
class TensorNames:
    """The engine's i-th command works for the tensor `names[of[engine][i]]`, or for none if that place is NOBODY."""

    names: tuple[str, ...]
    of: PerEngine[Ints]

    def name(self, place: int) -> str:
        return self.names[place] if place != NOBODY else ""

    def of_layers(self, workload: Workload) -> dict[int, str]:
        """For each layer number, the name of the tensor that the layer's first command works for."""
        order = np.lexsort((np.concatenate(workload.index), np.concatenate(workload.routine)))
        layers, first = np.unique(np.concatenate(workload.layer)[order], return_index=True)
        places = np.concatenate(self.of)[order[first]].tolist()
        return {layer: self.name(place) for layer, place in zip(layers.tolist(), places, strict=True)}


def names_of(workload: Workload, cmdbufs: Sequence[Cmdbuf], model: Cvimodel, program: int) -> TensorNames:
    """The tensors that commands work for, in program number `program` of `model`. `workload` is that of `cmdbufs` in
    turn."""
    tensors = [tensor for tensor in model.programs[program].tensors if tensor.offset >= 0]
    parts = [tdma_columns(cmdbuf.chip, cmdbuf.tdma) for cmdbuf in cmdbufs]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
    columns["addr"] = columns["dst_base_addr_low"] + (columns["dst_base_addr_high"] << 32) - workload.chip.gmem_base
    stored = _stored_tensors(columns, workload.tdma.elements, tensors)
    return TensorNames(tuple(tensor.name for tensor in tensors), _backwards(workload, stored))


def _stored_tensors(columns: Columns, elements: Ints, tensors: Sequence[Tensor]) -> Ints:
    """For each TDMA command, the place in `tensors` of the tensor that it writes, or NOBODY; `elements` has the number
    that each command moves.

    Memory is reused, so several tensors may be at the address. Of these it is one that is not complete yet, then one
    with the command's strides, then the one nearest to the tensor written last: tensors are in the program's order."""
    found = np.full(len(elements), NOBODY, np.int64)
    if not tensors:
        return found
    base, start = (np.array(part, np.int64) for part in zip(*(split_offset(t.offset) for t in tensors), strict=True))
    size = np.array([t.dtype.numpy.itemsize for t in tensors], np.int64)
    shape = np.array([t.shape for t in tensors], np.int64)
    row, plane, end = size * shape[:, 3], size * shape[:, 3] * shape[:, 2], start + size * shape.prod(axis=1)
    stores = np.flatnonzero(np.isin(columns["trans_dir"], _TO_DRAM) & (columns["dst_base_reg_sel"] != WEIGHT))
    left, last = (end - start).tolist(), 0
    block = max(MAX_CELLS // len(tensors), 1)
    for some in np.split(stores, range(block, min(len(stores), block * MAX_BLOCKS), block))[:MAX_BLOCKS]:
        c = {name: columns[name][some, None] for name in columns}
        holds = (c["dst_base_reg_sel"] == base) & (start <= c["addr"]) & (c["addr"] < end)
        c_str = c["dst_c_stride_low"] + (c["dst_c_stride_high"] << 16)
        at, places = np.nonzero(holds)
        alike = ((plane == c_str) | (row == c["dst_h_stride"]))[at, places].tolist()
        candidates: dict[int, list[tuple[bool, int]]] = {}
        for store, place, same in zip(some[at].tolist(), places.tolist(), alike, strict=True):
            candidates.setdefault(store, []).append((same, place))
        for store, choices in candidates.items():
            _, last = min(choices, key=lambda c: (left[c[1]] <= 0, not c[0], abs(c[1] - last), -c[1]))
            left[last] -= max(int(elements[store]), 1) * int(size[last])
            found[store] = last
    return found


def _backwards(workload: Workload, stored: Ints) -> PerEngine[Ints]:
    """For each command, the place of the tensor that its result ends in; `stored` is that of each TDMA command."""
    spans = workload.lmem
    lines = [np.stack([s[..., 0] // LINE_BYTES, -(-s[..., 1] // LINE_BYTES)], axis=2) for s in (spans.tiu, spans.tdma)]
    wanted_by = np.full(int(max(part.max(initial=0) for part in lines)) + 1, NOBODY, np.int64)
    of = [[NOBODY] * len(workload.tiu), stored.tolist()]
    engine = np.repeat([TIU, TDMA], [len(workload.tiu), len(workload.tdma)])
    place = np.concatenate([np.arange(len(workload.tiu)), np.arange(len(workload.tdma))])
    order = np.lexsort((np.concatenate(workload.index), np.concatenate(workload.routine)))[::-1]
    touched = [part.tolist() for part in lines]
    latest = NOBODY
    for e, i in zip(engine[order].tolist(), place[order].tolist(), strict=True):
        operands = touched[e][i]
        if of[e][i] == NOBODY:
            start, stop = operands[_RESULT[e]]
            wanted = wanted_by[start:stop]
            asked = int(wanted.max(initial=NOBODY))
            of[e][i] = latest if asked == NOBODY else asked
            wanted[:] = NOBODY
        latest = of[e][i]
        for operand, (start, stop) in enumerate(operands):
            if operand != _RESULT[e] and stop > start:
                wanted_by[start:stop] = latest
    return PerEngine(*(np.array(places, np.int64) for places in of))
