"""How long a program takes: cycles of one instruction, DRAM bursts, LMEM banks, and a schedule of the two engines.

>>> from npusim.board import board_named                                                # doctest: +SKIP
>>> from npusim.timing import time_workload, workload_of_model                          # doctest: +SKIP
>>> timeline = time_workload(workload_of_model("net.cvimodel"), board_named("duo"))  # doctest: +SKIP
>>> timeline.ms, timeline.tiu_busy, timeline.dram_read_bytes                            # doctest: +SKIP
"""

from __future__ import annotations

from npusim.timing.constants import Costs, constants
from npusim.timing.timeline import TDMA, TIU, Timeline, require_runs, time_cmdbuf, time_workload
from npusim.timing.workload import Workload, concatenate, workload_of_bytes, workload_of_cmdbuf, workload_of_model

__all__ = [
    "TDMA",
    "TIU",
    "Costs",
    "Timeline",
    "Workload",
    "concatenate",
    "constants",
    "require_runs",
    "time_cmdbuf",
    "time_workload",
    "workload_of_bytes",
    "workload_of_cmdbuf",
    "workload_of_model",
]
