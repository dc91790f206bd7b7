"""`retinaface_detection`.

Source: sophgo/cviruntime src/common/cpu_function/retinaface_detection.cpp and .hpp."""

from __future__ import annotations

import numpy as np

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.boxes import F, Floats, half
from npusim.runtime.cpu.call import Bound, CpuCall

_LEVELS = ((32, (32, 16)), (16, (8, 4)), (8, (2, 1)))
"""Stride and anchor scales of each level."""
_BASE = 16
_NUM_ANCHORS = 2
_FACE_VALUES = 15


def retinaface_detection(call: CpuCall) -> Bound:
    """Rows (x1, y1, x2, y2, score, five points x y) by falling score.

    The nine inputs are score, box and landmark maps at strides 32, 16 and 8."""
    out = call.output(0, DType.FP32)
    call.require(len(call.inputs) == 9, f"it has {len(call.inputs)} inputs, but it needs 9")
    maps = sorted((call.input(i, DType.FP32) for i in range(9)), key=lambda m: (m.shape[3], m.shape[1]))
    least, closest = F(call.arg("confidence_threshold", float)), F(call.arg("nms_threshold", float))
    keep = call.arg("keep_topk", int)
    batches = out.shape[0]
    for i, extent in enumerate(m.shape for m in maps):
        wanted = (batches, (2, 4, 10)[i % 3] * _NUM_ANCHORS, *maps[i // 3 * 3].shape[2:])
        call.require(extent == wanted, f"an input has shape {extent}, but {wanted} is needed")
    rows = out.reshape(batches, -1)
    call.require(
        keep >= 0 and rows.shape[1] >= _FACE_VALUES * keep,
        f"its output has {rows.shape[1]} elements an image for {keep} faces",
    )

    def run() -> None:
        out[...] = 0
        for b, row in enumerate(rows):
            levels = zip(maps[0::3], maps[1::3], maps[2::3], _LEVELS, strict=True)
            faces = np.concatenate([_decode(s[b], x[b], p[b], level, least) for s, x, p, level in levels])
            faces = faces[np.argsort(-faces[:, 4], kind="stable")]
            kept = faces[_kept(faces, closest)][:keep]
            row[: kept.size] = kept.reshape(-1)

    return run


def _decode(
    scores: Floats, boxes: Floats, points: Floats, level: tuple[int, tuple[int, ...]], least: np.float32
) -> Floats:
    """Faces of one level above `least`, shape (found, 15), anchors before cells."""
    stride, scales = level
    h, w = scores.shape[1:]
    chances = scores[_NUM_ANCHORS:]
    anchor, y, x = np.nonzero(chances > least)
    shifts = np.stack([x, y, x, y]).astype(np.float32) * F(stride)
    x1, y1, x2, y2 = (side[anchor] + shift for side, shift in zip(_anchor_sides(scales), shifts, strict=True))
    width, height = x2 - x1 + F(1), y2 - y1 + F(1)
    center_x, center_y = (_F(low + half(size - F(1))) for low, size in ((x1, width), (y1, height)))
    move = boxes.reshape(_NUM_ANCHORS, 4, h, w)[anchor, :, y, x]
    pred_x, pred_y = move[:, 0] * width + center_x, move[:, 1] * height + center_y
    with np.errstate(over="ignore"):
        stretched = np.exp(move[:, 2:].astype(np.float64))
        reach_x, reach_y = (
            half(_F(s * size) - F(1)) for s, size in ((stretched[:, 0], width), (stretched[:, 1], height))
        )
    corners = [_F(c) for c in (pred_x - reach_x, pred_y - reach_y, pred_x + reach_x, pred_y + reach_y)]
    marks = points.reshape(_NUM_ANCHORS, 5, 2, h, w)[anchor, :, :, y, x]
    dots = np.stack(
        [center_x[:, None] + marks[..., 0] * width[:, None], center_y[:, None] + marks[..., 1] * height[:, None]],
        axis=2,
    )
    return np.concatenate([np.stack([*corners, chances[anchor, y, x]], axis=1), dots.reshape(len(anchor), 10)], axis=1)


def _F(values: np.ndarray) -> Floats:
    return values.astype(np.float32)


def _anchor_sides(scales: tuple[int, ...]) -> list[Floats]:
    """x1, y1, x2, y2 of the anchors of one level, for cell (0, 0).

    All numbers are exact; sizes come out one larger than named."""
    low, high = [], []
    first_low, first_high = _sides(_BASE, 0.5 * (_BASE - 1))
    size, center = first_high - first_low + 1, first_low + 0.5 * (first_high - first_low)
    for scale in scales:
        sides = _sides(size * scale, center)
        low.append(sides[0])
        high.append(sides[1])
    return [np.array(side, np.float32) for side in (low, low, high, high)]


def _sides(size: float, center: float) -> tuple[float, float]:
    return center - 0.5 * (size - 1), center + 0.5 * (size + 1)


def _kept(faces: Floats, closest: np.float32) -> list[int]:
    """The faces that survive.

    As in the source, the overlap is that of the next face in order, but the area is that of the face that is kept."""
    width, height = faces[:, 2] - faces[:, 0] + F(1), faces[:, 3] - faces[:, 1] + F(1)
    area = width * height
    erased = np.zeros(len(faces), bool)
    kept = []
    for i in range(len(faces)):
        if erased[i]:
            continue
        kept.append(i)
        rest = np.flatnonzero(~erased[i + 1 :]) + i + 1
        if not rest.size:
            continue
        following = faces[i + 1]
        w = np.minimum(following[2], faces[rest, 2]) - np.maximum(following[0], faces[rest, 0]) + F(1)
        h = np.minimum(following[3], faces[rest, 3]) - np.maximum(following[1], faces[rest, 1]) + F(1)
        shared = w * h
        erased[rest[(w > 0) & (h > 0) & (shared / (area[i] + area[rest] - shared) > closest)]] = True
    return kept
