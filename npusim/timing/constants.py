"""Every number of the timing model that is not a fact of geometry, in one table: value, unit, kind, source, and how it was found."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

TRACE = "sophgo/tpu_compiler python/cvi_toolkit/performance/performance_viewer/example/resnet50_des.csv @6299ea0 (cv183x, 650 MHz)"
PROFILER = "sophgo/tpu-mlir lib/Backend/CV18xx/CV18xx_profiling.cpp @784fd6e"


def _known(value: float, unit: str, kind: str, source: str, how: str) -> Any:
    assert kind in ("exact", "modelled", "calibrated")
    return field(default=value, metadata={"unit": unit, "kind": kind, "source": source, "how": how})


@dataclass(frozen=True)
class Costs:
    """The model's constants. `exact` reproduces measured counts without error, `modelled` is taken from a description or reasoned,
    `calibrated` was fitted to measurements. `dataclasses.replace` makes a what-if."""

    conv_startup: float = _known(67, "cycles", "exact", TRACE, "with conv_per_unit fits 476 of 479 convolutions to the cycle")
    conv_per_unit: float = _known(1, "cycles a unit", "exact", TRACE, "as above; a unit is 16 bytes of results on each lane")
    per_channel_post: float = _known(31, "cycles", "modelled", PROFILER, "what of a startup falls to per-channel requantisation")
    per_tensor_post: float = _known(12, "cycles", "modelled", PROFILER, "the same for one shift")
    per_channel_floor: float = _known(
        16, "cycles a unit", "modelled", PROFILER, "one multiplier a lane works through the 16 sums of a unit"
    )
    pool_startup: float = _known(26, "cycles", "modelled", PROFILER, "command latency 15+8+1+2")
    average_startup: float = _known(44, "cycles", "exact", TRACE, "7x7 average pooling of 2048 channels: 64 * (49 + 4) + 44 = 3436")
    average_per_unit: float = _known(4, "cycles a unit", "exact", TRACE, "as above")
    depthwise_per_unit: float = _known(3, "cycles a unit", "modelled", PROFILER, "shift and round of a depthwise convolution")
    matmul_startup: float = _known(42, "cycles", "exact", TRACE, "four pieces of 512 by 32 * 16: 2 * 512 + 42 = 1066")
    eltwise_startup: float = _known(41, "cycles", "exact", TRACE, "mul and mac of whole tiles: 392 * 3.5 + 41 and 392 * 8 + 41")
    copy_startup: float = _known(40, "cycles", "exact", TRACE, "256 units of 2.5 + 40 = 680")
    issue_gap: float = _known(1, "cycles", "exact", TRACE, "between the end of a command and the start of the next of its engine")
    sync_tiu: float = _known(4, "cycles", "calibrated", TRACE, "from the end of a TDMA command to the start of a TIU command that waits")
    sync_tdma: float = _known(2, "cycles", "calibrated", TRACE, "from the end of a TIU command to the start of a TDMA command that waits")
    load_startup: float = _known(100, "cycles", "calibrated", TRACE, "least-squares fit of uncompressed loads")
    store_startup: float = _known(65, "cycles", "calibrated", TRACE, "least-squares fit of uncompressed stores")
    move_startup: float = _known(
        21, "cycles", "calibrated", TRACE, "LMEM-to-LMEM moves of 1, 32 and 125 rows of one line: 27, 83, 266 to 277"
    )
    load_row: float = _known(1, "cycles a row", "calibrated", TRACE, "rows of LMEM that a load starts anew")
    lmem_line: float = _known(1.01, "cycles a line", "calibrated", TRACE, "16 bytes of one lane's LMEM that a transfer touches")
    dram_efficiency: float = _known(0.88, "of peak bandwidth", "calibrated", TRACE, "large dense blocks: 10.2 bytes a cycle")
    compression: float = _known(0.95, "of plain bytes", "calibrated", TRACE, "compressed weights: 0.87 to 0.97")


def constants(costs: Costs | None = None) -> list[tuple[str, float, str, str, str, str]]:
    """The table as rows of (name, value, unit, kind, source, how it was found)."""
    costs = costs or Costs()
    return [(f.name, getattr(costs, f.name), *(_meta(f, key) for key in ("unit", "kind", "source", "how"))) for f in fields(costs)]


def _meta(f: Field, key: str) -> str:
    return str(f.metadata[key])
