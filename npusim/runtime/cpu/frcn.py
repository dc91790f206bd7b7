"""`proposal`, `roi_pooling`, `frcn_detection`: Faster R-CNN's CPU side.

Source: sophgo/cviruntime src/common/cpu_function/proposal.cpp, roi_pooling.cpp, frcn_detection.cpp."""

from __future__ import annotations

import math

import numpy as np

from npusim.errors import UsageError
from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.boxes import F, Floats, erase_weaker, half
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.expf import expf
from npusim.runtime.quantize import round_half_away

_SCALES = (8, 16, 32)
_RATIOS = (0.5, 1.0, 2.0)
_NUM_ANCHORS = len(_SCALES) * len(_RATIOS)


def proposal(call: CpuCall) -> Bound:
    """Rows (batch, x1, y1, x2, y2) of likely regions.

    The input with fewer channels holds the scores, the other one the box offsets."""
    scores, deltas = sorted((call.input(i, DType.FP32) for i in (0, 1)), key=lambda a: a.shape[1])
    out = call.output(0, DType.FP32)
    stride, base = call.arg("feat_stride", int), call.arg("anchor_base_size", int)
    limits = np.array([call.arg("net_input_w", int), call.arg("net_input_h", int)], np.float32) - F(1)
    least, closest = F(call.arg("rpn_obj_threshold", float)), F(call.arg("rpn_nms_threshold", float))
    keep = call.arg("rpn_nms_post_top_n", int)
    batches, channels, h, w = scores.shape
    call.require(
        channels == 2 * _NUM_ANCHORS and deltas.shape == (batches, 4 * _NUM_ANCHORS, h, w),
        "scores and offsets do not fit",
    )
    call.require(0 < base <= 1 << 16 and keep >= 0, f"anchor_base_size is {base} and rpn_nms_post_top_n {keep}")
    call.require(
        out.shape[0] == batches and out.size // batches >= 5 * keep,
        f"its output has {out.size} elements for {keep} regions",
    )
    anchors = _anchors(base)

    def run() -> None:
        out[...] = 0
        for b in range(batches):
            likely = scores[b, _NUM_ANCHORS:]
            k, i, j = np.nonzero(likely >= least)
            places = np.stack([j * stride, i * stride], axis=1).astype(np.float32) + anchors[k, :2]
            boxes = _moved(places, anchors[k, 2:], deltas[b].reshape(_NUM_ANCHORS, 4, h, w)[k, :, i, j])
            boxes = np.maximum(np.minimum(boxes, np.concatenate([limits, limits])), F(0))
            kept = _suppressed(boxes, likely[k, i, j], closest)[:keep]
            rows = out[b].reshape(-1)[: 5 * len(kept)].reshape(-1, 5)
            rows[:, 0], rows[:, 1:] = b, kept

    return run


def _anchors(base: int) -> Floats:
    """(center x, center y, width, height) of the nine anchors.

    These small integers and halves are exact in any precision."""
    center = 0.5 * (base - 1)
    rows = []
    for ratio in _RATIOS:
        width = _round(math.sqrt(F(base * base) / F(ratio)))
        height = _round(width * ratio)
        rows += [(center, center, width * scale, height * scale) for scale in _SCALES]
    return np.array(rows, np.float32)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _moved(centers: Floats, sizes: Floats, deltas: Floats) -> Floats:
    """Boxes (x1, y1, x2, y2) of anchors moved and stretched by network output."""
    centers = centers + sizes * deltas[:, :2]
    reach = half(sizes * expf(deltas[:, 2:]))
    return np.concatenate([centers - reach, centers + reach], axis=1).astype(np.float32)


def _suppressed(boxes: Floats, confidence: Floats, closest: np.float32) -> Floats:
    """`boxes`, tried in the given order, without those that a more confident one overlaps."""
    area = (boxes[:, 2] - boxes[:, 0] + F(1)) * (boxes[:, 3] - boxes[:, 1] + F(1))
    alive = np.ones(len(boxes), bool)
    for i in range(len(boxes)):
        if not alive[i]:
            continue
        rest = np.flatnonzero(alive[i + 1 :]) + i + 1
        rest = rest[_close(boxes[i], boxes[rest], area[i], area[rest]) > closest]
        stronger = np.flatnonzero(confidence[rest] > confidence[i])
        alive[rest[: stronger[0]] if stronger.size else rest] = False
        alive[i] = not stronger.size
    return boxes[alive]


def _close(box: Floats, others: Floats, area: np.float32, areas: Floats) -> Floats:
    """Shared area divided by the area of both; 0 where nothing is shared."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    shared = width * height
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where((width > 0) & (height > 0), shared / (area + areas - shared), F(0))


def roi_pooling(call: CpuCall) -> Bound:
    """Largest value, at least 0, in each bin of each region. Regions are rows (batch, x1, y1, x2, y2)."""
    out = call.output(0, DType.FP32)
    data, rois = call.input(0, DType.FP32), call.input(1, DType.FP32)
    if data.shape[1] != out.shape[1] or rois.shape[2] != out.shape[0]:
        data, rois = rois, data
    pooled_h, pooled_w = call.arg("pooled_h", int), call.arg("pooled_w", int)
    scale = F(call.arg("spatial_scale", float))
    batches, channels, h, w = data.shape
    num_rois = rois.shape[2]
    call.require(
        rois.size == rois.shape[0] * num_rois * 5 and rois.shape[0] == batches, f"rois have shape {rois.shape}"
    )
    call.require(pooled_h > 0 and pooled_w > 0, f"pooled size is {pooled_h} by {pooled_w}")
    call.require(out.size == batches * num_rois * channels * pooled_h * pooled_w, f"its output has {out.size} elements")
    result = out.reshape(batches * num_rois, channels, pooled_h, pooled_w)

    def run() -> None:
        result[...] = 0
        for n, roi in enumerate(rois.reshape(-1, 5)):
            source = int(roi[0]) if np.isfinite(roi).all() else -1
            if not 0 <= source < batches:
                raise UsageError(f"roi_pooling got batch {roi[0]}, but its input has {batches}")
            x1, y1, x2, y2 = round_half_away(roi[1:] * scale).astype(np.int64).tolist()
            rows, columns = _bins(y1, y2, pooled_h, h), _bins(x1, x2, pooled_w, w)
            for i, (top, bottom) in enumerate(rows):
                for j, (left, right) in enumerate(columns):
                    result[n, :, i, j] = data[source, :, top:bottom, left:right].max(axis=(1, 2), initial=0)

    return run


def _bins(start: int, end: int, count: int, limit: int) -> list[tuple[int, int]]:
    """[first, last) of each of `count` bins of a region, kept inside the image."""
    size = F(max(end - start + 1, 1)) / F(count)
    edges = [(math.floor(F(i) * size), math.ceil(F(i + 1) * size)) for i in range(count)]
    return [(min(max(low + start, 0), limit), min(max(high + start, 0), limit)) for low, high in edges]


def frcn_detection(call: CpuCall) -> Bound:
    """Rows (x1, y1, x2, y2, class, score), for one image only.

    The inputs, by falling number of channels, are box offsets, class scores and regions."""
    out = call.output(0, DType.FP32)
    deltas, scores, rois = sorted((call.input(i, DType.FP32) for i in range(3)), key=lambda a: -a.shape[1])
    num_classes, keep = call.arg("class_num", int), call.arg("keep_topk", int)
    least, closest = F(call.arg("obj_threshold", float)), F(call.arg("nms_threshold", float))
    num_rois = rois.shape[2]
    call.require(rois.shape[0] == 1, f"it has {rois.shape[0]} images, but the runtime's offsets are only right for one")
    fits = rois.size == 5 * num_rois and scores.size == num_rois * num_classes and deltas.size == 4 * scores.size
    call.require(
        fits, f"offsets {deltas.shape}, scores {scores.shape} and rois {rois.shape} do not fit {num_classes} classes"
    )
    call.require(keep >= 0 and out.size >= 6 * keep, f"its output has {out.size} elements for {keep} boxes of 6")

    def run() -> None:
        out[...] = 0
        by_class = scores.reshape(num_rois, num_classes)
        roi, name = np.nonzero(by_class[:, 1:] > least)
        name = name + 1
        if len(roi) > num_rois:
            raise UsageError(
                f"frcn_detection found {len(roi)} boxes in {num_rois} regions, which the runtime has no room for"
            )
        corners = rois.reshape(num_rois, 5)[roi, 1:]
        sizes = corners[:, 2:] - corners[:, :2] + F(1)
        centers = (corners[:, :2] + half(sizes)).astype(np.float32)
        moves = deltas.reshape(num_rois, num_classes, 4)[roi, name]
        centers = moves[:, :2] * sizes + centers
        reach = expf(moves[:, 2:]) * sizes / F(2)
        boxes = np.concatenate([centers - reach, centers + reach], axis=1)
        overlaps = (name[:, None] == name) & (_pairwise(boxes) > closest)
        score = by_class[roi, name]
        found = np.concatenate([boxes, name[:, None].astype(np.float32), score[:, None]], axis=1)
        kept = found[erase_weaker(score, overlaps)][:keep]
        out.reshape(-1)[: kept.size] = kept.reshape(-1)

    return run


def _pairwise(boxes: Floats) -> Floats:
    area = (boxes[:, 2] - boxes[:, 0] + F(1)) * (boxes[:, 3] - boxes[:, 1] + F(1))
    rows = [_close(box, boxes, own, area) for box, own in zip(boxes, area, strict=True)]
    return np.array(rows, np.float32).reshape(len(boxes), len(boxes))
