"""Decoded descriptors as named tuples: `TiuRegs` and `TdmaRegs`, one set of names for all chips.

`records.pyi` beside this file tells type checkers the fields, so that a misspelt name is an error. It is generated:
`python -m npusim.isa.stub` writes it anew after a change of a declaration."""

from __future__ import annotations

from collections import namedtuple

from npusim.isa.descriptors import CV183X_ALIASES, TDMA_CV181X, TIU_CV181X, TIU_CV183X

_ONLY_CV183X = [name for name in TIU_CV183X.by_name if name not in TIU_CV181X.by_name and name not in CV183X_ALIASES]

TiuRegs = namedtuple("TiuRegs", [*TIU_CV181X.by_name, *_ONLY_CV183X])
TiuRegs.__doc__ = """A TIU descriptor under the cv181x header's names, then cv183x's own (`tens_lookup`, `opd0_ins_fp`,
...). A field that the chip does not have is 0."""

TdmaRegs = namedtuple("TdmaRegs", [*TDMA_CV181X.by_name])
TdmaRegs.__doc__ = """A TDMA descriptor under the cv181x header's names. A field that the chip does not have is 0."""
