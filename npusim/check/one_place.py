"""Two operands of one command that are one and the same tensor, where what the command does then makes no sense.

x * x and x + x do; x - x, the larger of x and x, or a sum of products whose factor is the sum itself are what is left
where two buffers have come to lie at one place."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.timeline import Step
from npusim.insn.tdma_copy import L2lTensorCopy
from npusim.insn.tiu_arith import Copy, Mac, Max, Sub
from npusim.insn.tiu_bitwise import And, Or

_TRIVIAL = (Sub, Max, And, Or)
"""Max stands for Min and Ge, which are kinds of it."""


def check_one_place(step: Step) -> Iterator[Found]:
    """At most one fault."""
    insn = step.instruction
    places = {operand.name: operand.tensors for operand in (*step.footprint.reads, *step.footprint.writes)}
    pairs: tuple[tuple[str, str], ...] = ()
    if isinstance(insn, _TRIVIAL):
        pairs = (("opd0", "opd1"),)
    elif isinstance(insn, Mac):
        pairs = (("opd0", "res0"), ("opd1", "res0"))
    elif isinstance(insn, Copy) and not insn.regs.opd_typ:  # a bf16 copy in place changes infinities and denormals
        pairs = (("opd0", "res0"),)
    elif isinstance(insn, L2lTensorCopy) and insn.table() is None:
        pairs = (("source", "destination"),)
    for a, b in pairs:
        if a in places and b in places and places[a] == places[b]:
            yield Kind.ONE_PLACE, f"{a} and {b} of {step.name} are one and the same tensor", (step,)
            return
