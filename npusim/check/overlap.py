"""Commands whose result overwrites an operand that they still have to read.

The vendor's model reads all operands of a TIU command before it writes. The chip goes from element to element, and so
does a DMA copy in the model. So a result may overlap an operand if no element reads what an earlier element has
overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np

from npusim.arrays import Ints
from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.ordering import Step
from npusim.chip import Chip
from npusim.insn import Instruction
from npusim.insn.operand import Access, Role, Share
from npusim.insn.tdma_base import Transfer
from npusim.insn.tiu_depthwise_pool import PerChannel
from npusim.insn.window import Window
from npusim.mem.region import LMEM, Region
from npusim.mem.tensor import LocalTensor


def check_overlap(step: Step, chip: Chip) -> Iterator[Found]:
    """At most one fault."""
    for access in step.footprint.reads:
        if access.operand.role is Role.ACCUMULATE:
            continue  # the result is added to the sum in its place
        for result in step.footprint.writes:
            if _apart_in_lane(access, result, chip) or not _overlap(access.regions, result.regions):
                continue
            if _is_safe(step, access, result):
                continue
            text = f"the {result.name} of {step.name} overwrites its {access.name}, which is still read"
            yield Kind.OVERLAP, text, (step,)
            return


def _apart_in_lane(a: Access, b: Access, chip: Chip) -> bool:
    """Whether the offsets within a lane show that two operands in LMEM do not overlap. They mostly do."""
    if not a.tensors or not b.tensors:
        return False
    spans = [[tensor.span(chip) for tensor in access.tensors] for access in (a, b)]
    (start, end), (other_start, other_end) = ((min(s for s, _ in part), max(e for _, e in part)) for part in spans)
    return end <= other_start or other_end <= start


def _overlap(ours: Iterable[Region], theirs: Iterable[Region]) -> bool:
    return any(x.overlaps(y) for x, y in product(ours, theirs))


def _is_safe(step: Step, access: Access, result: Access) -> bool:
    """Whether the command, which computes one element after the other, gives the same result as with the operand in
    another place."""
    insn = step.instruction
    if insn is None or not (access.tensors and result.tensors):
        # A copy within GMEM of bytes onto themselves changes nothing.
        return access.regions == result.regions and all(region.memory != LMEM for region in access.regions)
    pairs = [(a, b) for a in access.tensors for b in result.tensors]
    if _is_one_to_one(insn, access) and all(
        _same_place(a, b) or not _overlap(a.regions(insn.chip), b.regions(insn.chip)) for a, b in pairs
    ):
        return True
    last = _last_reads(insn, access, result.tensors[0].shape)
    if last is None:
        return False
    last_read = np.full(insn.chip.lmem_total_bytes, -1, np.int64)
    order = np.argsort(last, kind="stable")
    for tensor in access.tensors:
        at = _byte_addrs(insn.chip, tensor)[order]
        last_read[at] = np.maximum(last_read[at], last[order, None])
    for tensor in result.tensors:
        written = _byte_addrs(insn.chip, tensor)
        is_read_later = last_read[written] > np.arange(len(written))[:, None]
        if isinstance(insn, Transfer) and insn.table() is None:  # a byte that is copied onto itself does not change
            is_read_later &= written != _byte_addrs(insn.chip, access.tensors[0])
        if is_read_later.any():
            return False
    return True


def _same_place(a: LocalTensor, b: LocalTensor) -> bool:
    """Whether each element of `a` has the same address as the same element of `b`."""
    strides = [[s for s, extent in zip(t.stride, t.shape, strict=True) if extent > 1] for t in (a, b)]
    return a.addr == b.addr and a.shape == b.shape and strides[0] == strides[1]


def _is_one_to_one(insn: Instruction, access: Access) -> bool:
    """Whether each element of the result reads one element of the operand, in the same order."""
    if isinstance(insn, PerChannel) and access.operand.share is Share.WINDOW:
        window, _ = insn.geometry()
        return window.is_plain and window.kernel == window.stride == (1, 1)
    return access.operand.share in (Share.ELEMENT, Share.MOVED)


def _last_reads(insn: Instruction, access: Access, result: tuple[int, ...]) -> Ints | None:
    """For each element of the operand, in order, the number of the last element of the result that reads it; None if
    every element may read it. `result` is the shape of the result."""
    if _is_one_to_one(insn, access):
        return np.arange(np.prod(result))
    if isinstance(insn, PerChannel) and access.operand.share is Share.WINDOW:
        n, c, oh, ow = result
        last = _last_under(insn.geometry()[0], access.tensors[0].shape[2:], (oh, ow))
        return np.where(last < 0, -1, np.arange(n * c)[:, None] * (oh * ow) + last).reshape(-1)
    return None


def _last_under(window: Window, ifmap: tuple[int, ...], ofmap: tuple[int, int]) -> Ints:
    """For each element of a channel of the ifmap, the last place of the ofmap whose window covers it; -1 for none."""
    height, width = ifmap
    extended = window.extend(np.arange(1, height * width + 1).reshape(1, 1, height, width), 0)
    rows, columns = (
        (out - 1) * stride + (size - 1) * dilation + 1
        for out, stride, size, dilation in zip(ofmap, window.stride, window.kernel, window.dilation, strict=True)
    )
    more = [(0, max(0, rows - extended.shape[2])), (0, max(0, columns - extended.shape[3]))]
    taps = window.taps(np.pad(extended, [(0, 0), (0, 0), *more]), ofmap)
    last = np.full(height * width + 1, -1)  # the first stands for padding
    places = np.arange(ofmap[0] * ofmap[1]).reshape(ofmap)
    for i, j in np.ndindex(*window.kernel):
        under = taps[i, j, 0, 0]
        last[under] = np.maximum(last[under], places)
    return last[1:]


def _byte_addrs(chip: Chip, tensor: LocalTensor) -> Ints:
    """Addresses of each element's bytes, shape (elements, bytes of an element)."""
    return tensor.element_addrs(chip).reshape(-1, 1) + np.arange(tensor.itemsize)
