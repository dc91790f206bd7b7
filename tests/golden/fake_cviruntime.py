"""A stand-in for libcviruntime, so that the binding is tested where the library is not installed.

It has the five calls, with tensors of any format."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from golden.capture import DTYPES, FORMATS, CviTensor


class FakeRuntime:
    """A model whose every output is a copy of the input of the same place, byte for byte.

    `failing` names a call that returns an error code. `calls` lists the calls in order.
    """

    def __init__(self, inputs: list[CviTensor], outputs: list[CviTensor], failing: str = "") -> None:
        self.inputs, self.outputs, self.failing = (
            (CviTensor * len(inputs))(*inputs),
            (CviTensor * len(outputs))(*outputs),
            failing,
        )
        self.calls: list[str] = []

    def _call(self, name: str) -> int:
        self.calls.append(name)
        return -1 if name == self.failing else 0

    def CVI_NN_RegisterModel(self, path: bytes, handle: Any) -> int:
        return self._call("RegisterModel")

    def CVI_NN_SetConfig(self, handle: Any, option: int, value: ctypes.c_int32) -> int:
        assert (option, value.value) == (4, 1)
        return self._call("SetConfig")

    def CVI_NN_GetInputOutputTensors(self, handle: Any, ins: Any, num_ins: Any, outs: Any, num_outs: Any) -> int:
        for place, number, tensors in ((ins, num_ins, self.inputs), (outs, num_outs, self.outputs)):
            place._obj.contents = tensors[0]
            number._obj.value = len(tensors)
        return self._call("GetInputOutputTensors")

    def CVI_NN_Forward(self, handle: Any, ins: Any, num_ins: Any, outs: Any, num_outs: Any) -> int:
        for source, sink in zip(self.inputs, self.outputs, strict=False):
            ctypes.memmove(sink.sys_mem, source.sys_mem, sink.mem_size)
        return self._call("Forward")

    def CVI_NN_CleanupModel(self, handle: Any) -> int:
        return self._call("CleanupModel")


def tensor(
    name: str, fmt: str, shape: tuple[int, ...], qscale: float = 1.0, zero_point: int = 0, mem_size: int | None = None
) -> CviTensor:
    """A tensor in memory of its own, filled with 0x5A bytes."""
    made = CviTensor(name=name.encode(), fmt=FORMATS.index(fmt), qscale=qscale, zero_point=zero_point, mem_type=1)
    made.count = int(np.prod(shape))
    made.mem_size = made.count * DTYPES[made.fmt].itemsize if mem_size is None else mem_size
    made.shape.dim[: len(shape)], made.shape.dim_size = shape, len(shape)
    memory = (ctypes.c_uint8 * made.mem_size)(*[0x5A] * made.mem_size)
    made.sys_mem = ctypes.cast(memory, ctypes.POINTER(ctypes.c_uint8))
    return made
