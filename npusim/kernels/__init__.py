"""Programs for the chip: KernelBuilder with cvikernel's call names, and a transformer's kernels written with it.

>>> from npusim.kernels import Fmt, KernelBuilder, tg
>>> b = KernelBuilder("cv181x")
>>> x = b.lmem_alloc_tensor((1, 8, 1, 64), Fmt.BF16)
>>> b.tdma_g2l_tensor_copy(tg(0x1000000, x.shape, Fmt.BF16), x)
>>> b.tiu_add(x, x, x)
>>> b.tdma_l2g_tensor_copy(x, tg(0x1001000, x.shape, Fmt.BF16))
>>> x
LocalTensor(addr=0x0, shape=(1, 8, 1, 64), stride=(128, 128, 128, 2), fmt=Fmt.BF16)
>>> b.build()
<Program for cv181x: 1 TIU and 2 TDMA commands, 128 bytes of LMEM in a lane>
"""

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
