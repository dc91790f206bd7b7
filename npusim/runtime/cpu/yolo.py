"""`yolo_detection` (sophgo/cviruntime src/common/cpu_function/yolo_detection.cpp)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.errors import UsageError
from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.boxes import F, Floats, erase_weaker
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.expf import expf

MAX_BOXES = 200
_BOXES_PER_CELL = 3
_ANCHORS_TINY = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)
_ANCHORS_V3 = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
_ANCHORS_V4 = (142, 110, 192, 243, 459, 401, 36, 75, 76, 55, 72, 146, 12, 16, 19, 36, 40, 28)


def yolo_detection(call: CpuCall) -> Bound:
    """Boxes (x, y, w, h, class, score), relative to the image; unused rows are 0.

    They come from two or three feature maps, the widest first."""
    tiny = call.flag("tiny", False)
    num_classes, keep = call.arg("class_num", int, 80), call.arg("keep_topk", int)
    image = call.arg("net_input_w", int), call.arg("net_input_h", int)
    least, closest = F(call.arg("obj_threshold", float)), F(call.arg("nms_threshold", float))
    maps = sorted((call.input(i, DType.FP32) for i in range(len(call.inputs))), key=lambda m: -m.shape[3])
    out = call.output(0, DType.FP32)
    anchors = _anchors(call, tiny)
    call.require(len(maps) == (2 if tiny else 3), f"it has {len(maps)} inputs")
    call.require(len(anchors) == len(maps), f"it has anchors for {len(anchors)} of {len(maps)} inputs")
    call.require(
        min(image) > 0 and num_classes > 0 and keep >= 0, f"image {image}, class_num {num_classes}, keep_topk {keep}"
    )
    fits = all(m.shape[0] == out.shape[0] and m.shape[1] == _BOXES_PER_CELL * (5 + num_classes) for m in maps)
    call.require(
        fits, f"inputs of shapes {[m.shape for m in maps]} do not hold {num_classes} classes for {out.shape[0]} images"
    )
    rows = out.reshape(out.shape[0], -1)
    call.require(rows.shape[1] >= 6 * keep, f"its output has {rows.shape[1]} elements an image for {keep} boxes of 6")

    def run() -> None:
        out[...] = 0
        for b, row in enumerate(rows):
            found = np.concatenate(
                [_decode(m[b], a, image, num_classes, least) for m, a in zip(maps, anchors, strict=True)]
            )
            if len(found) > MAX_BOXES:
                raise UsageError(
                    f"yolo_detection found {len(found)} boxes, but the runtime stops at {MAX_BOXES}; raise "
                    "obj_threshold"
                )
            same_class = found[:, None, 4] == found[None, :, 4]
            kept = found[erase_weaker(found[:, 5], same_class & (_iou(found) > closest))][:keep]
            row[: kept.size] = kept.reshape(-1)

    return run


def _anchors(call: CpuCall, tiny: bool) -> Floats:
    """Anchor sizes, shape (inputs, 3, 2)."""
    text = call.arg("anchors", str, "")
    try:
        values = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        call.refuse(f"anchors are {text!r}, but they must be numbers and commas")
    if not values:
        values = list(_ANCHORS_TINY if tiny else _ANCHORS_V4 if call.flag("yolo_v4", False) else _ANCHORS_V3)
    call.require(len(values) % 6 == 0, f"there are {len(values)} anchor numbers, but each input has six")
    return np.array(values, np.float32).reshape(-1, 3, 2)


def _decode(features: Floats, anchors: Floats, image: tuple[int, int], num_classes: int, least: np.float32) -> Floats:
    """Boxes of one feature map (3 * (5 + classes), h, w) that score at least `least`, shape (found, 6).

    In order of cells, and within a cell of its boxes."""
    h, w = features.shape[1:]
    cells = features.reshape(_BOXES_PER_CELL, 5 + num_classes, h * w)
    confidence = _sigmoid(cells[:, 4])
    cell, box = np.nonzero((confidence >= least).T)
    values = cells[box, :, cell]
    name, probability = _best_class(values[:, 5:])
    score = confidence[box, cell] * probability
    good = score >= least
    cell, box, values, name, score = cell[good], box[good], values[good], name[good], score[good]
    x = (_sigmoid(values[:, 0]) + (cell % w).astype(np.float32)) / F(w)
    y = (_sigmoid(values[:, 1]) + (cell // w).astype(np.float32)) / F(h)
    sizes = expf(values[:, 2:4]) * anchors[box] / np.array(image, np.float32)
    return np.stack([x, y, sizes[:, 0], sizes[:, 1], name.astype(np.float32), score], axis=1)


def _best_class(logits: Floats) -> tuple[NDArray[np.int64], Floats]:
    """(class, its softmax) of each row. A row whose smallest logit is below -100 is scaled first."""
    least = logits.min(axis=1, keepdims=True, initial=np.inf)
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        shifted = np.where(least < -100, shifted / least * F(-100), shifted)
    powers = expf(shifted)
    probabilities = powers / np.cumsum(powers, axis=1, dtype=np.float32)[:, -1:]
    name = probabilities.argmax(axis=1)
    return name, probabilities[np.arange(len(name)), name]


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return F(1) / (F(1) + expf(-values))


def _iou(boxes: Floats) -> Floats:
    """Intersection over union of every pair."""
    extents = [_overlap(boxes[:, i], boxes[:, i + 2]) for i in (0, 1)]
    shared = np.where((extents[0] < 0) | (extents[1] < 0), F(0), extents[0] * extents[1])
    area = boxes[:, 2] * boxes[:, 3]
    with np.errstate(invalid="ignore", divide="ignore"):
        return shared / (area[:, None] + area - shared)


def _overlap(center: Floats, size: Floats) -> Floats:
    low, high = center - size / F(2), center + size / F(2)
    return np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
