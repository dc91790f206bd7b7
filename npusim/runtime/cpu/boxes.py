"""What the detection routines share: of two boxes that overlap, the weaker one is dropped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
F = np.float32


def erase_weaker(scores: Floats, overlaps: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which boxes stay; `overlaps[i, j]` says that i and j are of one class and too close.

    Pairs are tried in the order of the boxes, not of their scores. The first of a pair stays unless the second
    scores higher. A box that is erased part of the way erases none of those after it. Source: nms in
    yolo_detection.cpp and frcn_detection.cpp of sophgo/cviruntime."""
    left = scores.copy()
    for i in range(len(left)):
        if left[i] == 0:
            continue
        for j in np.flatnonzero(overlaps[i, i + 1 :]) + i + 1:
            if left[j] != 0:
                left[i if left[i] < left[j] else j] = 0
    return left > 0


def half(values: Floats) -> NDArray[np.float64]:
    """0.5 times `values` in double, as C multiplies a float by the literal 0.5."""
    return values.astype(np.float64) * 0.5
