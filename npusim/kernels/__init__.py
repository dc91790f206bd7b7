"""Programs for the chip: KernelBuilder with cvikernel's call names, and a transformer's kernels written with it."""

from npusim.kernels.builder import KernelBuilder
from npusim.kernels.program import Program, Relocation
from npusim.kernels.tensors import Fmt, Mg, Ml, MlShape, Tg, Tl, mg, ml_default_shape, tg, tl_default_stride

__all__ = [
    "Fmt",
    "KernelBuilder",
    "Mg",
    "Ml",
    "MlShape",
    "Program",
    "Relocation",
    "Tg",
    "Tl",
    "mg",
    "ml_default_shape",
    "tg",
    "tl_default_stride",
]
