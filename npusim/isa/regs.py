"""Decoded descriptors as named tuples: `TiuRegs` and `TdmaRegs`, one set of names for all chips."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.chip import Chip
from npusim.isa.descriptors import CV183X_ALIASES, TDMA_CV181X, TIU_CV181X, TIU_CV183X, tdma_layout, tiu_layout
from npusim.isa.layout import Columns, Layout

_ONLY_CV183X = tuple(
    f.name for f in TIU_CV183X.fields if f.name not in TIU_CV181X.by_name and f.name not in CV183X_ALIASES
)

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
    """A TIU descriptor under the cv181x header's names, plus cv183x's own (`tens_lookup`, `opd0_ins_fp`, ...; 0
    elsewhere)."""

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
    return _rows(TiuRegs, tiu_layout(chip), descriptors)


def tdma_rows(chip: Chip, descriptors: NDArray[np.uint8]) -> list[TdmaRegs]:
    """One TdmaRegs a descriptor."""
    return _rows(TdmaRegs, tdma_layout(chip), descriptors)


_R = TypeVar("_R", TiuRegs, TdmaRegs)
_ROWS_AT_ONCE = 4096
"""Bounds what decoding holds in memory besides its result."""


def _rows(kind: type[_R], layout: Layout, descriptors: NDArray[np.uint8]) -> list[_R]:
    places = _places(kind, layout)
    rows: list[_R] = []
    for start in range(0, len(descriptors), _ROWS_AT_ONCE):
        fields = layout.decode_table(descriptors[start : start + _ROWS_AT_ONCE])
        table = np.zeros((len(places), fields.shape[1]), np.int64)
        table[places >= 0] = fields[places[places >= 0]]
        rows += map(kind._make, table.T.tolist())
    return rows


@cache
def _places(kind: type[TiuRegs] | type[TdmaRegs], layout: Layout) -> NDArray[np.intp]:
    """Which field of `layout` each name of `kind` is; -1 where the chip has no such field."""
    names = [CV183X_ALIASES.get(name, name) for name in layout.by_name]
    return np.array([names.index(name) if name in names else -1 for name in kind._fields])
