"""Why one of the two refuses what the other runs: data that the campaign applies, which fails without a reason."""

from __future__ import annotations

import re
from typing import NamedTuple


class Reason(NamedTuple):
    """`message` is a pattern for npusim's refusal, or for the model's last line where `by_model` is set."""

    message: str
    why: str
    by_model: bool = False


REASONS = (
    Reason(
        r"compressed stream at GMEM offset .* is damaged|a compressed transfer has 1 to|strides.* let elements overlap"
        r"|destination strides .* must be dense|stride of rows in GMEM is .* must be dense",
        "npusim reads and writes streams whole and dense, as compilers make them; the model decodes any bytes",
    ),
    Reason(
        r"kernel reads beyond opd0",
        "what lies behind a channel's last row is memory of the model's own, which no chip has",
    ),
    Reason(
        r"a kernel has at least one element",
        "the model stores the sum or the extreme of no elements, for which neither compiler nor kernel library asks",
    ),
    Reason(
        r"must be at least 1$|has an extent below 1",
        "extents and strides of 0 describe no tensor; the model takes them for nothing to do in some instructions",
    ),
    Reason(
        r"records or a bias have at least|opd1_c is .* the kernel, or its constant, fills opd1_c channels",
        "the model takes the missing channels from memory that it never set",
    ),
    Reason(
        r"opt_opd[012]_const is 1|opt_opd0_const and opt_opd1_const",
        "a constant where an instruction has a tensor: neither compiler nor kernel library makes it",
    ),
    Reason(
        r"res0_h is \d+; it must be 1 here",
        "a matrix's rows are n; the model fills what h adds from memory that it never set",
    ),
    Reason(
        r"strides \(.*42949\d{5}.*\) ends at",
        "a stride just below 2**32 steps back in the model, whose LMEM addresses wrap; no compiler steps back",
    ),
    Reason(
        r"on another lane than the low ones",
        "the model takes the high bytes from the lane behind, which neither compiler nor kernel library asks for",
    ),
    Reason(
        r"opd1 is a constant of shape",
        "the model fills as many elements as opd1 has: the rest of them is memory that it never set, and those beyond "
        "res0 damage its own",
    ),
    Reason(
        r"double free|corrupt|invalid (size|next size|pointer)|smashing|munmap_chunk|it ends by SIG(SEGV|ABRT|BUS|FPE)"
        r"|it ends with exit code",
        "the model damages its own memory",
        by_model=True,
    ),
    Reason(
        r"get2level.*v >= 0",
        "the model stops at the table index of a NaN, which is data and not the program's",
        by_model=True,
    ),
)


def reason_for(refusal: str, *, by_model: bool) -> str | None:
    """The reason that is written down for a refusal, or None."""
    for reason in REASONS:
        if reason.by_model == by_model and re.search(reason.message, refusal):
            return reason.why
    return None
