"""C's `expf` as glibc (from 2.27 on) and musl compute it, so that detections and softmax equal the runtime's.

Method and constants: ARM-software/optimized-routines math/expf.c and math/exp2f_data.c (MIT). In double, exp(x) is
2**(k/32) times a cubic of the remainder, where k is the nearest whole number of 32nds. NumPy's float32 exp differs
in the last bit for about one value in six, and NumPy's double exp rounded to float for one in a thousand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 32
_POWERS = 2.0 ** (np.arange(_STEPS) / _STEPS)
_STEPS_BY_LN2 = float.fromhex("0x1.71547652b82fep+0") * _STEPS
_CUBIC, _SQUARE, _LINEAR = (
    float.fromhex(digits) / _STEPS**power
    for digits, power in (("0x1.c6af84b912394p-5", 3), ("0x1.ebfce50fac4f3p-3", 2), ("0x1.62e42ff0c52d6p-1", 1))
)
_LARGEST = float.fromhex("0x1.62e42ep6")
_SMALLEST = float.fromhex("-0x1.9fe368p6")


def expf(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """e to the power of float32 `values`, the same shape. Overflow gives infinity, underflow 0, NaN stays NaN."""
    scaled = np.nan_to_num(np.clip(values, np.float32(-200), np.float32(200))).astype(np.float64) * _STEPS_BY_LN2
    whole = np.rint(scaled)
    rest = scaled - whole
    turns, step = np.divmod(whole.astype(np.int64), _STEPS)
    power = np.ldexp(_POWERS[step], turns)
    with np.errstate(over="ignore", under="ignore"):
        result = (((_CUBIC * rest + _SQUARE) * (rest * rest) + (_LINEAR * rest + 1)) * power).astype(np.float32)
    result = np.where(values > _LARGEST, np.float32(np.inf), np.where(values < _SMALLEST, np.float32(0), result))
    return np.where(np.isnan(values), values, result).astype(np.float32)
