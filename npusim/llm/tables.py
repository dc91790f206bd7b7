"""Functions that are computed by tables: the tables' bytes in GMEM, and loading them into LMEM."""

from __future__ import annotations

from npusim.kernels.builder import KernelBuilder
from npusim.kernels.rows import BF16
from npusim.kernels.tables import InterpolatedTable, ScientificTable, load_tables
from npusim.kernels.tensors import tg
from reference_model.quant import tables
from reference_model.quant.arith import pattern

INTERPOLATED = {"exp": tables.exp_table, "sigmoid": tables.sigmoid_table, "gelu_gate": tables.gelu_gate_table}
SCIENTIFIC = {"reciprocal": tables.reciprocal_table, "rsqrt": tables.rsqrt_table}
FUNCTIONS = (*INTERPOLATED, *SCIENTIFIC)


def table_bytes(function: str) -> bytes:
    """The bytes in GMEM of both tables of `function`, one of FUNCTIONS: kernels.tables.TABLE_BYTES in all."""
    if function in INTERPOLATED:
        interpolated = INTERPOLATED[function]()
        return interpolated.base.tobytes() + interpolated.slope.tobytes()
    scientific = SCIENTIFIC[function]()
    return scientific.by_exponent.tobytes() + scientific.by_fraction.tobytes()


def load_interpolated(b: KernelBuilder, function: str, addr: int) -> InterpolatedTable:
    """Loads the table of `function`, one of INTERPOLATED, from GMEM address `addr`."""
    table = INTERPOLATED[function]()
    base, slope = load_tables(b, tg(addr, (1, 1, 1, 1), BF16))
    return InterpolatedTable(base, slope, int(table.low), int(table.high), int(pattern(table.scale)))


def load_scientific(b: KernelBuilder, addr: int) -> ScientificTable:
    """Loads the table of one of SCIENTIFIC from GMEM address `addr`."""
    return ScientificTable(*load_tables(b, tg(addr, (1, 1, 1, 1), BF16)))
