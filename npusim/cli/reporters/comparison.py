"""A comparison of tensors as a table."""

from __future__ import annotations

from golden import ComparisonResult, TensorResult
from npusim.cli.printing import Grid

_STYLE = {True: "green", False: "bold red"}


def comparison_table(result: ComparisonResult) -> Grid:
    """One line a tensor, in the reference's order."""
    numbers = ("cosine", "euclidean", "SQNR dB", "max abs", "max rel", "ULP", "differ")
    table = Grid("tensor", "verdict", *numbers, "worst at", "would pass with", right=numbers)
    for tensor in result.tensors:
        table.add_row(*_row(tensor), style="" if tensor else _STYLE[False])
    return table


def _row(tensor: TensorResult) -> list[str]:
    errors = tensor.errors
    if errors is None:
        return [tensor.name, str(tensor.verdict), *[""] * 7, tensor.note, ""]
    worst = (
        ""
        if errors.worst_index is None
        else f"{errors.worst_index}: {errors.worst_target:g}, not {errors.worst_reference:g}"
    )
    return [
        tensor.name,
        str(tensor.verdict),
        f"{errors.cosine:.6f}",
        f"{errors.euclidean:.6f}",
        f"{errors.sqnr_db:.1f}",
        f"{errors.max_abs:g}",
        f"{errors.max_rel:g}",
        "" if errors.max_ulp is None else str(errors.max_ulp),
        f"{errors.num_mismatches:,} of {errors.num_elements:,}",
        worst,
        "" if tensor else str(tensor.smallest_tolerance or "nothing"),
    ]
