"""`quant`: between float32 and int8 or bf16.

Source: sophgo/cviruntime src/common/cpu_function/quant.cpp."""

from __future__ import annotations

import numpy as np

from npusim.loader.cvimodel_types import DType
from npusim.runtime.cpu.call import Bound, CpuCall, bf16_to_float
from npusim.runtime.quantize import round_half_away

_BF16_ROUNDING = np.float32(1.001957)
"""The runtime rounds to bf16 by multiplying by this and truncating."""


def quant(call: CpuCall) -> Bound:
    """FP32 to INT8 or BF16, and either of these to FP32.

    FP32 to INT8: times scale, rounded half away from zero, saturated. FP32 to BF16: times 1.001957, truncated.
    Beyond 2**31 the vendor's x86 build wraps to -128; boards saturate, and so does this. NaN gives 0."""
    source, result = call.input(0), call.output(0)
    call.require(source.size == result.size, f"{source.size} elements cannot become {result.size}")
    result = result.reshape(source.shape)
    match call.info(0).format, call.outputs[0].info.format:
        case DType.FP32, DType.INT8:
            factor = _factor(call, to_float=False)

            def run() -> None:
                with np.errstate(over="ignore", invalid="ignore"):
                    result[...] = np.clip(np.nan_to_num(round_half_away(source * factor)), -128, 127)

        case DType.FP32, DType.BF16:

            def run() -> None:
                with np.errstate(over="ignore", invalid="ignore"):
                    result[...] = (source * _BF16_ROUNDING).view(np.uint32) >> 16

        case DType.INT8, DType.FP32:
            factor = _factor(call, to_float=True)

            def run() -> None:
                result[...] = source * factor

        case DType.BF16, DType.FP32:

            def run() -> None:
                result[...] = bf16_to_float(source)

        case from_format, to_format:
            call.refuse(f"it converts {from_format.name} to {to_format.name}, which the runtime does not know")
    return run


def _factor(call: CpuCall, to_float: bool) -> np.float32:
    """What values are multiplied by: `scale`, unless the file gives the range in `threshold`."""
    if "threshold" not in call.args:
        return np.float32(call.arg("scale", float))
    threshold = np.float32(call.arg("threshold", float))
    call.require(bool(threshold > 0), f"threshold is {threshold}, but it must be positive")
    return threshold / np.float32(128) if to_float else np.float32(128) / threshold
