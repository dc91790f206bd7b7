"""Numbers that select an operation (source: cv181x_tiu_reg.h and src/cv181x/tdma.c of wwwuxy/cvikernel)."""

from __future__ import annotations

from enum import IntEnum


class Engine(IntEnum):
    """Engine id in a command header."""

    TIU = 0
    CPU = 1
    TDMA = 2


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
