"""Decoded descriptors as named tuples: `TiuRegs` and `TdmaRegs`, one set of names for all chips."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.descriptors import CV183X_ALIASES, TDMA_CV181X, TIU_CV181X, TIU_CV183X, tdma_layout, tiu_layout
from npusim.isa.layout import Columns

_ONLY_CV183X = tuple(f.name for f in TIU_CV183X.fields if f.name not in TIU_CV181X.by_name and f.name not in CV183X_ALIASES)

TIU_SCHEDULING = ("cmd_en", "cmd_end", "cmd_id_en", "cmd_keep", "cmd_intr_en", "cmd_id_tpu", "cmd_id_gdma", "layer_info")
TDMA_SCHEDULING = (
    *("vld", "eod", "intp_en", "bar_en", "outstanding_en", "intra_cmd_paral"),
    *("cmd_id", "wait_id_tpu", "wait_id_other_tdma", "wait_id_sdma", "layer_ID"),
)
"""Fields that say when a command runs and whose it is, and nothing about what it does."""

if TYPE_CHECKING:

    class _Regs(tuple[int, ...]):
        _fields: tuple[str, ...]

        def __getattr__(self, name: str) -> int: ...
        @classmethod
        def _make(cls, values: Iterable[int]) -> Self: ...
        def _replace(self, **changes: int) -> Self: ...
        def _asdict(self) -> dict[str, int]: ...

    class TiuRegs(_Regs): ...

    class TdmaRegs(_Regs): ...
else:
    TiuRegs = namedtuple("TiuRegs", [*TIU_CV181X.by_name, *_ONLY_CV183X])
    """A TIU descriptor under the cv181x header's names, plus cv183x's own (`tens_lookup`, `opd0_ins_fp`, ...; 0 elsewhere)."""

    TdmaRegs = namedtuple("TdmaRegs", list(TDMA_CV181X.by_name))
    """A TDMA descriptor under the cv181x header's names; what cv183x lacks is 0."""


def tiu_columns(chip: Chip, descriptors: NDArray[np.uint8]) -> Columns:
    """Fields of TIU `descriptors` (uint8, (N, 112)), renamed to the cv181x names."""
    columns = tiu_layout(chip).decode(descriptors)
    if chip.tiu_layout == "cv183x":
        columns = {CV183X_ALIASES.get(name, name): column for name, column in columns.items()}
    return columns


def tdma_columns(chip: Chip, descriptors: NDArray[np.uint8]) -> Columns:
    """Fields of TDMA `descriptors` (uint8, (N, 64))."""
    return tdma_layout(chip).decode(descriptors)


def tiu_rows(chip: Chip, descriptors: NDArray[np.uint8]) -> list[TiuRegs]:
    """One TiuRegs a descriptor."""
    return _rows(TiuRegs, tiu_columns(chip, descriptors), len(descriptors))


def tdma_rows(chip: Chip, descriptors: NDArray[np.uint8]) -> list[TdmaRegs]:
    """One TdmaRegs a descriptor."""
    return _rows(TdmaRegs, tdma_columns(chip, descriptors), len(descriptors))


_R = TypeVar("_R", TiuRegs, TdmaRegs)


def _rows(kind: type[_R], columns: Columns, count: int) -> list[_R]:
    absent = np.zeros(count, np.int64)
    table = np.stack([columns.get(name, absent) for name in kind._fields], axis=1)
    return [kind._make(row) for row in table.tolist()]
