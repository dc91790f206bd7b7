"""Predicts how long a program takes: cycles of each command, DRAM bursts, LMEM banks, a schedule of the two engines.

>>> from npusim.board import board_named
>>> from npusim.timing import time_workload, workload_of_model
>>> workload = workload_of_model("golden/data/functional/mlp_cv181x_int8.cvimodel")
>>> timeline = time_workload(workload, board_named("duo256m"))
>>> round(timeline.ms, 4), round(timeline.tiu_busy, 2), timeline.dram_read_bytes
(0.0126, 0.39, 16512)
"""

from __future__ import annotations

from npusim.timing.constants import Costs, constants
from npusim.timing.timeline import TDMA, TIU, Timeline, require_runs, time_workload
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
    "time_workload",
    "workload_of_bytes",
    "workload_of_cmdbuf",
    "workload_of_model",
]
