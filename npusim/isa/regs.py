"""Descriptors to fields: as whole columns, for timing, or as one `TiuRegs` or `TdmaRegs` for each descriptor."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.descriptors import CV183X_ALIASES, tdma_layout, tiu_layout
from npusim.isa.layout import Columns, Layout
from npusim.isa.records import TdmaRegs, TiuRegs

__all__ = [
    "TDMA_SCHEDULING",
    "TIU_SCHEDULING",
    "TdmaRegs",
    "TiuRegs",
    "each_tdma",
    "each_tiu",
    "tdma_columns",
    "tdma_rows",
    "tiu_columns",
    "tiu_rows",
]

TIU_SCHEDULING = (
    "cmd_en",
    "cmd_end",
    "cmd_id_en",
    "cmd_keep",
    "cmd_intr_en",
    "cmd_id_tpu",
    "cmd_id_gdma",
    "layer_info",
)
TDMA_SCHEDULING = (
    *("vld", "eod", "intp_en", "bar_en", "outstanding_en", "intra_cmd_paral"),
    *("cmd_id", "wait_id_tpu", "wait_id_other_tdma", "wait_id_sdma", "layer_ID"),
)
"""Fields that say when a command runs and which layer it belongs to, not what it does."""


def tiu_columns(chip: Chip, descriptors: NDArray[np.uint8]) -> Columns:
    """Fields of TIU `descriptors` (uint8, shape (N, 112)) under the cv181x names, each an int64 column of length N."""
    columns = tiu_layout(chip).decode(descriptors)
    if chip.tiu_layout == "cv183x":
        columns = {CV183X_ALIASES.get(name, name): column for name, column in columns.items()}
    return columns


def tdma_columns(chip: Chip, descriptors: NDArray[np.uint8]) -> Columns:
    """Fields of TDMA `descriptors` (uint8, shape (N, 64)), each an int64 column of length N."""
    return tdma_layout(chip).decode(descriptors)


def tiu_rows(chip: Chip, descriptors: NDArray[np.uint8]) -> list[TiuRegs]:
    """One TiuRegs for each of `descriptors` (uint8, shape (N, 112))."""
    return list(each_tiu(chip, descriptors))


def tdma_rows(chip: Chip, descriptors: NDArray[np.uint8]) -> list[TdmaRegs]:
    """One TdmaRegs for each of `descriptors` (uint8, shape (N, 64))."""
    return list(each_tdma(chip, descriptors))


def each_tiu(chip: Chip, descriptors: NDArray[np.uint8]) -> Iterator[TiuRegs]:
    """As tiu_rows, but decoded a few hundred at a time."""
    return _rows(TiuRegs, tiu_layout(chip), descriptors)


def each_tdma(chip: Chip, descriptors: NDArray[np.uint8]) -> Iterator[TdmaRegs]:
    """As tdma_rows, but decoded a few hundred at a time."""
    return _rows(TdmaRegs, tdma_layout(chip), descriptors)


_R = TypeVar("_R", TiuRegs, TdmaRegs)
_ROWS_AT_ONCE = 512
"""Bounds the memory that decoding needs besides its result, some 1,500 bytes a row."""


def _rows(kind: type[_R], layout: Layout, descriptors: NDArray[np.uint8]) -> Iterator[_R]:
    places = _places(kind._fields, layout)
    for start in range(0, len(descriptors), _ROWS_AT_ONCE):
        fields = layout.decode_table(descriptors[start : start + _ROWS_AT_ONCE])
        table = np.zeros((len(places), fields.shape[1]), np.int64)
        table[places >= 0] = fields[places[places >= 0]]
        yield from map(kind._make, table.T.tolist())


@cache
def _places(names: tuple[str, ...], layout: Layout) -> NDArray[np.intp]:
    """The place in `layout` of each field of `names`; -1 if the chip does not have it."""
    held = [CV183X_ALIASES.get(name, name) for name in layout.by_name]
    return np.array([held.index(name) if name in held else -1 for name in names])
