"""float32 addition that rounds toward zero, as the TIU's adders do.

The C library's rounding mode is switched for a block of NumPy calls, which makes the additions exact at full speed.
Where NumPy does not follow the mode (no glibc-like `fesetround`, another processor), additions go through float64 with
the rounding error made explicit."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from npusim.numerics.blas import one_blas_thread

R = TypeVar("R")

_FE_TOWARDZERO = {"x86_64": 0xC00, "amd64": 0xC00, "i686": 0xC00, "aarch64": 0xC00000, "arm64": 0xC00000}


@cache
def _fesetround() -> Callable[[int], int] | None:
    """The C library's fesetround if NumPy's additions obey it here, else None."""
    mode = _FE_TOWARDZERO.get(platform.machine().lower())
    try:
        call = ctypes.CDLL(None).fesetround
    except (AttributeError, OSError, TypeError):
        return None
    if mode is None or call(mode):
        return None
    try:
        # 17 elements take both the vector body and the scalar tail of NumPy's loop.
        obeyed = bool(np.all(np.add(np.full(17, 1, np.float32), np.full(17, -(2.0**-40), np.float32)) < 1))
    finally:
        call(0)
    return call if obeyed else None


def is_native() -> bool:
    """Whether NumPy follows the C library's rounding mode on this machine."""
    return _fesetround() is not None


@contextmanager
def rounding_toward_zero() -> Iterator[None]:
    """Inside the block, NumPy's float32 arithmetic on this thread rounds toward zero, if `is_native()`.

    Otherwise nothing changes. BLAS has one thread, since threads of its own would not follow."""
    call = _fesetround()
    if call is None:
        yield
        return
    with one_blas_thread:
        call(_FE_TOWARDZERO[platform.machine().lower()])
        try:
            yield
        finally:
            call(0)


def toward_zero(function: Callable[..., R], *args: Any) -> R:
    """What compiled code of one thread returns where the processor rounds toward zero; call it only if
    `is_native()`."""
    call = _fesetround()
    assert call is not None
    call(_FE_TOWARDZERO[platform.machine().lower()])
    try:
        return function(*args)
    finally:
        call(0)


def add(a: NDArray[np.float32], b: NDArray[np.float32], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """a + b rounded toward zero; call it inside `rounding_toward_zero()`. Overflow gives the largest finite value."""
    if is_native():
        return np.add(a, b, out=out)
    result = add_through_float64(a, b)
    if out is None:
        return result
    out[...] = result
    return out


def add_through_float64(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """a + b rounded toward zero, without a rounding mode.

    The float64 sum and its exact error (Knuth's TwoSum) decide the truncation."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    total = x + y
    part = total - x
    error = (x - (total - part)) + (y - part)
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = total.astype(np.float32)
        back = nearest.astype(np.float64)
        magnitude = np.abs(back)
        too_far = (magnitude > np.abs(total)) | ((magnitude == np.abs(total)) & (error * np.sign(total) < 0))
        return np.where(too_far, np.nextafter(nearest, np.float32(0)), nearest)
