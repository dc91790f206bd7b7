"""What the detection routines share: dropping the weaker of two boxes that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
F = np.float32


def erase_weaker(scores: Floats, overlaps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes stay where `overlaps[i, j]` says that i and j are of one class and too close.

    In the order of the boxes, not of their scores: the first of a pair stays unless the second scores higher, and a box
    that was erased half way goes on to spare the rest (nms in yolo_detection.cpp and frcn_detection.cpp of
    sophgo/cviruntime)."""
    left = scores.copy()
    for i in range(len(left)):
        if left[i] == 0:
            continue
        for j in np.flatnonzero(overlaps[i, i + 1 :]) + i + 1:
            if left[j] != 0:
                left[i if left[i] < left[j] else j] = 0
    return left > 0


def half(values: Floats) -> NDArray[np.float64]:
    """0.5 times `values` in double, as C multiplies a float with the literal 0.5."""
    return values.astype(np.float64) * 0.5
