"""The engines, and field values that select an operation. Source: cv181x_tiu_reg.h and src/cv181x/tdma.c of
wwwuxy/cvikernel."""

from __future__ import annotations

from enum import IntEnum
from typing import TypeVar

_T = TypeVar("_T")


class Engine(IntEnum):
    """Engine id in a command header."""

    TIU = 0
    CPU = 1
    TDMA = 2


ENGINES = (Engine.TIU, Engine.TDMA)
"""The engines that run commands."""
TIU, TDMA = range(len(ENGINES))
"""Places in ENGINES and in a PerEngine. They are not the ids of a command header."""


class PerEngine(tuple[_T, _T]):
    """A pair with one item for the TIU and one for the TDMA: `pair[TIU]` is `pair.tiu`. (Python 3.10 has no generic
    NamedTuple.)"""

    __slots__ = ()

    def __new__(cls, tiu: _T, tdma: _T) -> PerEngine[_T]:
        return super().__new__(cls, (tiu, tdma))

    def __getnewargs__(self) -> tuple[_T, _T]:
        return self.tiu, self.tdma

    @property
    def tiu(self) -> _T:
        return self[TIU]

    @property
    def tdma(self) -> _T:
        return self[TDMA]

    def other(self, engine: int) -> _T:
        """The item of the engine that is not `engine`."""
        return self[1 - engine]


TIU_OPCODE = ("tsk_typ", "tsk_eu_typ", "opt_chl_quan", "tens_lookup", "tens_mdsum")
TDMA_OPCODE = ("trans_dir", "spec_func", "trans_fmt", "sys_dtype", "compress_en", "transpose_md")
"""Fields that select the instruction: descriptors with equal values in them are the same instruction."""


class TskTyp(IntEnum):
    """`tsk_typ`: the family of a TIU instruction."""

    CONV = 0
    DEPTHWISE_POOL = 1
    FC = 2
    TENSOR_ARITH = 3


class PoolEuTyp(IntEnum):
    """`tsk_eu_typ` under TskTyp.DEPTHWISE_POOL."""

    MAX_POOL = 0
    AVG_POOL = 1
    DEPTHWISE = 2
    MIN_POOL = 3


class ArithEuTyp(IntEnum):
    """`tsk_eu_typ` under TskTyp.TENSOR_ARITH."""

    MUL = 0
    MAC = 1
    ADD = 2
    SUB = 3
    MAX = 4
    MIN = 5
    SHIFT = 6
    AND = 7
    OR = 8
    XOR = 9
    COPY = 10
    GE = 11
    LOOKUP = 12


class TransDir(IntEnum):
    """`trans_dir` of a TDMA instruction."""

    G2L = 0
    L2G = 1
    G2G = 2
    L2L = 3


class SpecFunc(IntEnum):
    """`spec_func` of a TDMA instruction."""

    COPY = 0
    TRANSPOSE = 1
    FILL_CONSTANT = 4


class TransposeMd(IntEnum):
    """`transpose_md` under SpecFunc.TRANSPOSE."""

    NC = 0
    CHW_C3 = 1
    CHW_C4 = 2
    CW = 3


class TdmaFmt(IntEnum):
    """`src_fmt` and `dst_fmt`."""

    INT4 = 0
    INT8 = 1
    BF16 = 2
