"""Decoded descriptors as named tuples, `TiuRegs` and `TdmaRegs`, with the same names for all chips.

Type checkers find the fields in `records.pyi` beside this file, so a misspelt name is an error. The file is generated:
run `python -m npusim.isa.stub` after changing a declaration."""

from __future__ import annotations

from collections import namedtuple

from npusim.isa.descriptors import CV183X_ALIASES, TDMA_CV181X, TIU_CV181X, TIU_CV183X

_ONLY_CV183X = [name for name in TIU_CV183X.by_name if name not in TIU_CV181X.by_name and name not in CV183X_ALIASES]

TiuRegs = namedtuple("TiuRegs", [*TIU_CV181X.by_name, *_ONLY_CV183X])
TiuRegs.__doc__ = """A TIU descriptor: the fields of the cv181x header, then those that only cv183x has (`tens_lookup`,
`opd0_ins_fp`, ...). A field that the chip does not have is 0."""

TdmaRegs = namedtuple("TdmaRegs", [*TDMA_CV181X.by_name])
TdmaRegs.__doc__ = """A TDMA descriptor: the fields of the cv181x header. A field that the chip does not have is 0."""
