"""Commands of which two operands are the same tensor, though the result then makes no sense.

x * x and x + x make sense. x - x, the larger of x and x, or adding products of a sum to that sum do not: they mean that
two buffers were put in one place."""

from __future__ import annotations

from collections.abc import Iterator

from npusim.check.finding import Kind
from npusim.check.ids import Found
from npusim.check.ordering import Step


def check_one_place(step: Step) -> Iterator[Found]:
    """At most one fault."""
    places = {access.name: access.tensors for access in (*step.footprint.reads, *step.footprint.writes)}
    for a, b in step.instruction.apart() if step.instruction and not step.refusal else ():
        if a in places and b in places and places[a] == places[b]:
            yield Kind.ONE_PLACE, f"{a} and {b} of {step.name} are the same tensor", (step,)
            return
