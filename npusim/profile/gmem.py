"""How many bytes a program reads and writes in each region of GMEM, and how large a .cvimodel's regions are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npusim.isa.regs import tdma_columns
from npusim.loader.cvimodel_types import Cvimodel, SectionType
from npusim.program.cmdbuf import Cmdbuf
from npusim.runtime.frame import FRAME_ALIGNMENT, tensor_bytes
from npusim.runtime.memory_map import PRIVATE, SHARED, WEIGHT, split_offset
from npusim.timing.timeline import Timeline

REGIONS = {SHARED: "shared", WEIGHT: "weights", PRIVATE: "private"}
"""Names by base register. All higher base registers are for a model's inputs and outputs."""
IO, ACTIVATIONS = "io", "activations"


@dataclass(frozen=True)
class RegionTraffic:
    """One region of GMEM. None: not known."""

    name: str
    read_bytes: int | None
    """Bytes that the whole program reads from it."""
    write_bytes: int | None
    num_bytes: int | None
    """Its size."""


def regions_of(
    timeline: Timeline, cmdbufs: Sequence[Cmdbuf], model: Cvimodel | None, program: int
) -> tuple[RegionTraffic, ...]:
    """The regions by base register. For a .cvimodel they have sizes, and a last region ACTIVATIONS has the size of all
    activations together, as if no memory were reused."""
    columns = [tdma_columns(cmdbuf.chip, cmdbuf.tdma) for cmdbuf in cmdbufs]
    names = [REGIONS.get(i, IO) for i in range(len(REGIONS) + 1)]
    read, written = (
        _bytes_by_region(np.concatenate([c[f"{end}_base_reg_sel"] for c in columns]), timeline.dram_bytes(side))
        for end, side in (("src", "read"), ("dst", "write"))
    )
    sizes = {} if model is None else _sizes(model, program)
    regions = [RegionTraffic(name, read[i], written[i], sizes.get(name)) for i, name in enumerate(names)]
    if model is not None:
        regions.append(RegionTraffic(ACTIVATIONS, None, None, sizes[ACTIVATIONS]))
    return tuple(regions)


def _bytes_by_region(base: NDArray[np.int64], moved: NDArray[np.int64]) -> list[int]:
    last = len(REGIONS)
    return np.bincount(np.minimum(base, last), weights=moved, minlength=last + 1).astype(np.int64).tolist()


def _sizes(model: Cvimodel, program: int) -> dict[str, int]:
    parts = model.programs[program]
    sizes = {
        "weights": sum(s.num_bytes for s in model.sections if s.kind == SectionType.WEIGHT),
        "shared": parts.neuron_bytes or parts.shared_bytes,
        "private": 0 if parts.neuron_bytes else parts.private_bytes,
        IO: 0,
        ACTIVATIONS: 0,
    }
    for tensor in parts.tensors:
        if tensor.offset < 0:
            continue
        base, _ = split_offset(tensor.offset)
        sizes[ACTIVATIONS if base in REGIONS else IO] += tensor_bytes(tensor, FRAME_ALIGNMENT[model.chip.name])
    return sizes
