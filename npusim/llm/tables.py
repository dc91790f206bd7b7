"""Functions by table: their bytes in GMEM, and their way into LMEM."""

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
    """Both tables of one of FUNCTIONS, kernels.tables.TABLE_BYTES long, as load_interpolated and load_scientific find
    them in GMEM."""
    if function in INTERPOLATED:
        interpolated = INTERPOLATED[function]()
        return interpolated.base.tobytes() + interpolated.slope.tobytes()
    scientific = SCIENTIFIC[function]()
    return scientific.by_exponent.tobytes() + scientific.by_fraction.tobytes()


def load_interpolated(b: KernelBuilder, function: str, addr: int) -> InterpolatedTable:
    """The table of one of INTERPOLATED, which lies at a GMEM address."""
    table = INTERPOLATED[function]()
    base, slope = load_tables(b, tg(addr, (1, 1, 1, 1), BF16))
    return InterpolatedTable(base, slope, int(table.low), int(table.high), int(pattern(table.scale)))


def load_scientific(b: KernelBuilder, addr: int) -> ScientificTable:
    """The table of one of SCIENTIFIC, which lies at a GMEM address."""
    return ScientificTable(*load_tables(b, tg(addr, (1, 1, 1, 1), BF16)))
