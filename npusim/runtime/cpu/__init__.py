"""CPU routines of the vendor's runtime, in NumPy. `CPU_FUNCTIONS` lists them by their names in cvimodels."""

from __future__ import annotations

from collections.abc import Callable

from npusim.errors import FileFormatError
from npusim.runtime.cpu.argmax import argmax, argmax_v3, argmax_with_conf
from npusim.runtime.cpu.call import Bound, CpuCall
from npusim.runtime.cpu.deform import deform_conv2d, deform_im2col
from npusim.runtime.cpu.frcn import frcn_detection, proposal, roi_pooling
from npusim.runtime.cpu.gather import embedding, gatherelements, gathernd
from npusim.runtime.cpu.grid_sampler import grid_sampler
from npusim.runtime.cpu.interp import interp
from npusim.runtime.cpu.layout import pixelshuffle, preprocess, transpose
from npusim.runtime.cpu.norm import cumsum, instance_norm, softmax
from npusim.runtime.cpu.quant import quant
from npusim.runtime.cpu.reduce import reduce_l2, reduce_max, reduce_mean
from npusim.runtime.cpu.retinaface import retinaface_detection
from npusim.runtime.cpu.ssd import detectionoutput
from npusim.runtime.cpu.topk import topk
from npusim.runtime.cpu.yolo import yolo_detection

CPU_FUNCTIONS: dict[str, Callable[[CpuCall], Bound]] = {
    "quant": quant,
    "argmax": argmax,
    "argmax_v3": argmax_v3,
    "argmax_with_conf": argmax_with_conf,
    "cumsum": cumsum,
    "embedding": embedding,
    "gatherelements_pt": gatherelements,
    "gathernd_tf": gathernd,
    "grid_sampler": grid_sampler,
    "instance_norm": instance_norm,
    "interp": interp,
    "softmax": softmax,
    "softmax_cpu": softmax,
    "topk": topk,
    "transpose": transpose,
    "pixelshuffle": pixelshuffle,
    "preprocess": preprocess,
    "cpu_reduce_max": reduce_max,
    "cpu_reduce_mean": reduce_mean,
    "reduce_l2": reduce_l2,
    "deform_conv2d": deform_conv2d,
    "deform_im2col": deform_im2col,
    "detectionoutput": detectionoutput,
    "frcn_detection": frcn_detection,
    "proposal": proposal,
    "retinaface_detection": retinaface_detection,
    "roi_pooling": roi_pooling,
    "yolo_detection": yolo_detection,
}


def cpu_function_named(name: str) -> Callable[[CpuCall], Bound]:
    """The function that binds CPU function `name` to its tensors.

    Raises FileFormatError, which names it and lists what is known."""
    if name not in CPU_FUNCTIONS:
        known = ", ".join(CPU_FUNCTIONS)
        raise FileFormatError(
            f"CPU function {name!r} is not implemented, and native code in a model is never run; known: {known}"
        )
    return CPU_FUNCTIONS[name]
