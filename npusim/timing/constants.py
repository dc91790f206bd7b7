"""The constants of the timing model in one table: value, unit, kind, source, and how each was found. Numbers that
follow from a chip's geometry are in npusim.chip."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

TRACE = "sophgo/tpu_compiler python/cvi_toolkit/performance/performance_viewer/example/resnet50_des.csv @6299ea0"
"""PMU trace of resnet50 (int8, 224x224) on a cv183x at 650 MHz: 2985 commands with start, duration, bursts and
beats."""
PROFILER = "sophgo/tpu-mlir lib/Backend/CV18xx/CV18xx_profiling.cpp @784fd6e"
"""The vendor's estimator. Its figures for single instructions are used where nothing was measured."""

CV180X_TABLE = "sophgo/cviruntime scripts/evb/best_performance_cv180x.csv @ef80449 and the TDL SDK's YOLO guide"
"""Published times of whole networks, the only measurements of a chip with two lanes."""


def _known(value: float, unit: str, kind: str, source: str, how: str) -> Any:
    assert kind in ("exact", "modelled", "calibrated")
    return field(default=value, metadata={"unit": unit, "kind": kind, "source": source, "how": how})


def _exact(value: float, unit: str, how: str) -> Any:
    return _known(value, unit, "exact", TRACE, how)


def _modelled(value: float, unit: str, how: str) -> Any:
    return _known(value, unit, "modelled", PROFILER, how)


def _calibrated(value: float, unit: str, how: str) -> Any:
    return _known(value, unit, "calibrated", TRACE, how)


@dataclass(frozen=True)
class Costs:
    """The model's constants, each of one of three kinds: `exact` reproduces measured counts without error, `modelled`
    is taken from a description or by analogy, `calibrated` was fitted to measurements.

    A unit is what the EUs of all lanes compute at once: 16 bytes of results on each lane. `dataclasses.replace` makes
    another set of constants."""

    conv_startup: float = _exact(
        36, "cycles", "36 + 31 and conv_per_unit fit 476 of 479 per-channel convolutions to the cycle"
    )
    conv_per_unit: float = _exact(1, "cycles a unit", "as above")
    exposed_line: float = _known(
        0.56,
        "cycles a line",
        "calibrated",
        CV180X_TABLE,
        "on two lanes a pair of channels needs both lanes' ports, so fetching its lines is not hidden: nine networks",
    )
    per_channel_post: float = _modelled(31, "cycles", "what of those 67 falls to per-channel requantisation")
    per_tensor_post: float = _modelled(12, "cycles", "the same for one shift")
    per_channel_floor: float = _modelled(
        16, "cycles a unit", "one multiplier a lane works through the 16 sums of a unit"
    )
    depthwise_per_unit: float = _modelled(3, "cycles a unit", "shift and round of a depthwise convolution")
    pool_startup: float = _exact(44, "cycles", "bf16 maximum of 1000 elements: 1000 + 44")
    average_startup: float = _exact(
        44, "cycles", "7x7 average of 2048 channels: 64 * (49 + 4) + 44; bf16 mean of 1000: 1000 + 2 + 44"
    )
    average_per_unit: float = _exact(4, "cycles a unit", "as above")
    average_bf16_per_unit: float = _exact(2, "cycles a unit", "as above")
    matmul_startup: float = _exact(
        48, "cycles", "with partial_sum: pieces of 1014 inner elements that write or add sums take 1014 + 52"
    )
    matmul_per_channel: float = _exact(25, "cycles", "the piece of 20 inner elements that is requantised: 20 + 52 + 25")
    partial_sum: float = _modelled(4, "cycles a unit", "32-bit partial sums that are read or written")
    eltwise_startup: float = _exact(41, "cycles", "mul and mac of whole tiles: 392 * 3.5 + 41 and 392 * 8 + 41")
    mul_unit: float = _exact(2.5, "cycles a unit", "as above, with wide_result")
    mul_wide_unit: float = _modelled(4.5, "cycles a unit", "mul of 16-bit operands")
    mul_narrow: float = _modelled(3, "cycles a unit", "on top where the product is requantised to 8 bits")
    wide_result: float = _exact(1, "cycles a unit", "on top where the result has 16 bits; with mul_unit as above")
    mac_unit: float = _exact(8, "cycles a unit", "as above")
    mac_wide_unit: float = _modelled(10, "cycles a unit", "mac of 16-bit operands")
    add_unit: float = _modelled(5, "cycles a unit", "add and sub of 8-bit operands")
    add_wide_unit: float = _modelled(7, "cycles a unit", "add and sub of 16-bit operands")
    logic_unit: float = _modelled(
        3, "cycles a unit", "maximum, minimum, comparison, and, or, xor; an xor of 46 cycles in the trace agrees"
    )
    logic_wide_unit: float = _modelled(5, "cycles a unit", "the same on 16-bit operands")
    shift_unit: float = _modelled(4, "cycles a unit", "arithmetic shift")
    copy_unit: float = _exact(2.5, "cycles a unit", "256 * 2.5 + 40 = 680; 4 * 2.5 + 40 = 50")
    bf16_unit: float = _exact(3, "cycles a unit", "bf16 mul, add, sub: 4 * 3 + 40 = 52, 3 + 40 = 43")
    bf16_mac_unit: float = _exact(3.5, "cycles a unit", "4 * 3.5 + 41 = 55")
    table_line: float = _exact(
        1, "cycles a line", "bf16 lookup of 4 units: 4 * (32 + 1) + 41 = 173, of one: 74; 16 lines in int8"
    )
    table_per_unit: float = _exact(1, "cycles a unit", "as above")
    unaligned_write: float = _modelled(
        1.875, "times", "an elementwise result whose channels do not start at multiples of 16 bytes"
    )
    issue_gap: float = _exact(1, "cycles", "between the end of a command and the start of the next of its engine")
    sync_tiu: float = _exact(4, "cycles", "end of a TDMA command to start of the TIU command that waits: 443 of 443")
    sync_tdma: float = _exact(2, "cycles", "end of a TIU command to start of the TDMA command that waits: 117 of 117")
    load_startup: float = _calibrated(95, "cycles", "median of 418 uncompressed loads")
    store_startup: float = _calibrated(65, "cycles", "141 uncompressed stores")
    decompress_startup: float = _calibrated(55, "cycles", "on top of a load: 317 loads of compressed weights")
    move_startup: float = _calibrated(21, "cycles", "LMEM-to-LMEM moves of 1, 32 and 125 lines: 27, 83, 266 to 277")
    move_line: float = _calibrated(1.95, "cycles a line", "the same moves: a line is read and written through one port")
    row: float = _calibrated(1, "cycles a row", "LMEM rows that begin inside a beat: quantisation records of 9 bytes")
    lmem_line: float = _calibrated(
        1.01, "cycles a line", "16 bytes of one lane's LMEM: 2048 stores of one byte take 2129"
    )
    bank_conflict: float = _calibrated(
        0.12, "cycles a line", "transfers beside a working TIU are 1 to 9 % longer than alone"
    )
    dram_efficiency: float = _calibrated(
        0.89, "of peak bandwidth", "large dense blocks: 1.52 to 1.56 cycles for 16 bytes"
    )
    compression: float = _calibrated(0.90, "of plain bytes", "beats of 317 loads of compressed weights")


def constants(costs: Costs | None = None) -> list[tuple[str, float, str, str, str, str]]:
    """The table as rows of (name, value, unit, kind, source, how it was found)."""
    costs = costs or Costs()
    return [
        (f.name, getattr(costs, f.name), *(f.metadata[key] for key in ("unit", "kind", "source", "how")))
        for f in fields(costs)
    ]
