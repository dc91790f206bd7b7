"""The classes of the vendor's binding `pyruntime_cvi`, on npusim. Source: the binding of tpu-mlir 1.30.2."""

from __future__ import annotations

from numpy.typing import NDArray

from npusim.loader.cvimodel_types import DType
from npusim.runtime import Model as LoadedModel
from npusim.runtime import TensorInfo

_NAMES = {
    DType.FP32: "f32",
    DType.INT32: "i32",
    DType.UINT32: "u32",
    DType.BF16: "bf16",
    DType.INT16: "i16",
    DType.UINT16: "u16",
    DType.INT8: "i8",
    DType.UINT8: "u8",
}


class Tensor:
    """One tensor of a model.

    name          as in the file
    dtype         "f32", "i32", "u32", "bf16", "i16", "u16", "i8" or "u8"
    qscale        as in the file: a factor for an input's numbers, or for another tensor's integers
    qzero_point   the integer that stands for 0
    aligned       whether rows and planes of a camera frame are padded
    size          number of elements, padding included
    shape         of `data`: (n, c, h, w), or (1, 1, 1, size) if it is aligned
    data          array on the tensor's memory, bf16 as uint16: write inputs into it, read results from it
    """

    def __init__(self, info: TensorInfo, data: NDArray) -> None:
        self.name: str = info.name
        self.dtype: str = _NAMES[info.format]
        self.qscale: float = info.qscale
        self.qzero_point: int = info.zero_point
        self.aligned: bool = info.aligned
        self.data = data.reshape(1, 1, 1, -1) if info.aligned else data
        self.size: int = data.size
        self.shape: tuple[int, ...] = self.data.shape

    def __repr__(self) -> str:
        return f"<Tensor {self.name} {self.shape} {self.dtype}>"


class Model:
    """A .cvimodel, loaded and ready to run.

    `inputs` and `outputs` are in the file's order. If all tensors are asked for, `outputs` are all tensors whose memory
    nothing else uses, inputs included, sorted by name."""

    def __init__(self, cvimodel: str, program_id: int = 0, output_all_tensors: bool = True) -> None:
        """Loads the file. Raises what npusim.Model raises; the vendor's binding ends the process instead."""
        self._model = model = LoadedModel(cvimodel, program=program_id)
        tensors = {info.name: Tensor(info, model.memory(info.name)) for info in model.tensors}
        names = [info.name for info in model.outputs]
        if output_all_tensors:
            names = sorted(model.kept, key=str.encode)
        self.inputs = [tensors[info.name] for info in model.inputs]
        self.outputs = [tensors[name] for name in names]

    def forward(self) -> None:
        """Runs the network once on what the inputs' `data` holds."""
        self._model.run()
