"""`detectionoutput`: SSD's boxes.

Source: sophgo/cviruntime src/common/cpu_function/ssd_detection.cpp, the path without NEON."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.boxes import F, Floats, half
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.expf import expf

_INPUT_NAMES = ("mbox_loc", "mbox_conf", "mbox_priorbox")
_ROW = 7
Hits = dict[int, list[tuple[np.float32, int]]]
"""{class: (score, prior) of its detections}, classes in rising order."""


def detectionoutput(call: CpuCall) -> Bound:
    """Rows (image, class, score, x1, y1, x2, y2), class by class; unused rows are -1.

    The runtime knows code_type CENTER_SIZE only."""
    locations, scores, priors = _inputs(call)
    out = call.output(0, DType.FP32)
    num_classes, background = call.arg("num_classes", int), call.arg("background_label_id", int)
    top_k, keep, shared = call.arg("top_k", int), call.arg("keep_top_k", int), call.flag("share_location")
    least, closest = F(call.arg("confidence_threshold", float)), F(call.arg("nms_threshold", float))
    images, num_priors = locations.shape[0], priors.shape[2] // 4
    box_classes = 1 if shared else num_classes
    call.require(
        call.arg("code_type", str) == "CENTER_SIZE",
        f"code_type is {call.args['code_type']!r}, but only CENTER_SIZE is supported",
    )
    call.require(
        num_classes > 0 and top_k >= 0 and keep >= 0, f"num_classes {num_classes}, top_k {top_k}, keep_top_k {keep}"
    )
    fits = locations.size == images * num_priors * box_classes * 4 and scores.size == images * num_priors * num_classes
    call.require(
        fits and priors.size >= 8 * num_priors, f"inputs do not fit {num_priors} priors and {num_classes} classes"
    )
    call.require(
        out.size >= images * keep * _ROW, f"its output has {out.size} elements for {images} times {keep} boxes"
    )
    by_image = scores.reshape(images, num_priors, num_classes)
    moves = locations.reshape(images, num_priors, box_classes, 4)
    classes = [c for c in range(num_classes) if c != background]

    def run() -> None:
        corners = _decode(moves, priors.reshape(-1)[: 8 * num_priors].reshape(2, num_priors, 4))
        rows: list[Floats] = []
        for i in range(images):
            hits: Hits = {}
            for c in classes:
                boxes = corners[i, :, 0 if shared else c]
                order = _ranked(by_image[i, :, c], least, top_k)
                if order.size:
                    hits[c] = [(by_image[i, p, c], p) for p in _kept(boxes, order, closest)]
            for c, found in _best(hits, keep).items():
                rows += [np.array([i, c, score, *corners[i, p, 0 if shared else c]], np.float32) for score, p in found]
        flat = out.reshape(-1)
        flat[...] = 0
        flat[: images * keep * _ROW] = -1
        if not rows:
            flat[: images * _ROW : _ROW] = np.arange(images)
        for n, row in enumerate(rows):
            flat[n * _ROW : (n + 1) * _ROW] = row

    return run


def _inputs(call: CpuCall) -> list[NDArray]:
    """Locations, scores and priors: by name where the three names occur, else in the given order."""
    call.require(len(call.inputs) == 3, f"it has {len(call.inputs)} inputs, but it needs 3")
    arrays = [call.input(i, DType.FP32) for i in range(3)]
    named = [next((i for i in range(3) if name in call.inputs[i].info.name), None) for name in _INPUT_NAMES]
    return arrays if None in named else [arrays[i] for i in named if i is not None]


def _decode(moves: Floats, priors: Floats) -> Floats:
    """Corners (x1, y1, x2, y2) of every prior, moved and stretched by the network's output and the variances."""
    low, high = priors[0, :, None, :2], priors[0, :, None, 2:]
    variance = priors[1, :, None]
    size, center = high - low, half(low + high).astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = variance[..., :2] * moves[..., :2] * size + center
        reach = half(expf(variance[..., 2:] * moves[..., 2:]) * size)
        return np.concatenate([middle - reach, middle + reach], axis=-1).astype(np.float32)


def _ranked(scores: Floats, least: np.float32, top_k: int) -> NDArray[np.int64]:
    """Priors that score above `least`, best first, at most `top_k`."""
    good = np.flatnonzero(scores > least)
    return good[np.argsort(-scores[good], kind="stable")][:top_k]


def _kept(boxes: Floats, order: NDArray[np.int64], closest: np.float32) -> list[int]:
    """The priors in `order` that no earlier kept one covers."""
    area = np.where(
        (boxes[:, 2:] < boxes[:, :2]).any(axis=1), F(0), (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    )
    kept: list[int] = []
    for p in order.tolist():
        others = boxes[kept]
        apart = (others[:, :2] > boxes[p, 2:]).any(axis=1) | (others[:, 2:] < boxes[p, :2]).any(axis=1)
        extent = np.minimum(boxes[p, 2:], others[:, 2:]) - np.maximum(boxes[p, :2], others[:, :2])
        if (apart | (extent[:, 0] * extent[:, 1] * (closest + F(1)) <= (area[p] + area[kept]) * closest)).all():
            kept.append(p)
    return kept


def _best(hits: Hits, keep: int) -> Hits:
    """The `keep` best detections of an image."""
    everything = [(score, c, p) for c, found in hits.items() for score, p in found]
    if len(everything) <= keep:
        return hits
    best: Hits = {}
    for score, c, p in sorted(everything, key=lambda hit: -hit[0])[:keep]:
        best.setdefault(c, []).append((score, p))
    return dict(sorted(best.items()))
