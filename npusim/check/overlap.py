"""Results that lie over an operand of the same command.

The vendor's model reads every operand of a TIU command whole before it writes; hardware works element by element, so
only a result that takes the very place of its operand is safe there. A DMA copy onto itself goes element by element in
the model too."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.timeline import Step
from npusim.chip import Chip
from npusim.insn.operand import Access, Role, Share
from npusim.insn.tdma_base import Transfer
from npusim.insn.tdma_transfer import copies_as_if_apart
from npusim.mem.region import LMEM
from npusim.mem.tensor import LocalTensor


def check_overlap(step: Step, chip: Chip) -> Iterator[Found]:
    """At most one fault."""
    for access in step.footprint.reads:
        if access.operand.role is Role.ACCUMULATE:
            continue  # a sum that goes on where it lies
        for result in step.footprint.writes:
            if _apart_in_lane(access, result, chip) or not _meet(access, result) or _is_safe(step, access, result):
                continue
            text = f"the {result.name} of {step.name} lies over its {access.name}, which is still read"
            yield Kind.OVERLAP, text, (step,)
            return


def _apart_in_lane(a: Access, b: Access, chip: Chip) -> bool:
    """Whether the offsets within a lane alone keep two operands in LMEM apart, as they mostly do."""
    if not a.tensors or not b.tensors:
        return False
    spans = [[tensor.span(chip) for tensor in access.tensors] for access in (a, b)]
    (start, end), (other_start, other_end) = ((min(s for s, _ in part), max(e for _, e in part)) for part in spans)
    return end <= other_start or other_end <= start


def _meet(a: Access, b: Access) -> bool:
    return any(x.overlaps(y) for x in a.regions for y in b.regions)


def _is_safe(step: Step, access: Access, result: Access) -> bool:
    """Whether the command gives what it would give with its operand elsewhere."""
    if access.operand.share is Share.ELEMENT and step.instruction:
        chip = step.instruction.chip
        return all(
            _same_place(a, b) or not any(x.overlaps(y) for x in a.regions(chip) for y in b.regions(chip))
            for a in access.tensors
            for b in result.tensors
        )
    if access.operand.share is Share.MOVED:
        return isinstance(step.instruction, Transfer) and copies_as_if_apart(step.instruction)
    # From GMEM to GMEM, onto the very same bytes.
    return access.regions == result.regions and all(region.memory != LMEM for region in access.regions)


def _same_place(a: LocalTensor, b: LocalTensor) -> bool:
    """Whether each element of `a` lies where the same one of `b` does."""
    strides = [[s for s, extent in zip(t.stride, t.shape, strict=True) if extent > 1] for t in (a, b)]
    return a.addr == b.addr and a.shape == b.shape and strides[0] == strides[1]
