"""KernelBuilder: cvikernel's calls in Python, from LMEM allocation to a finished Program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from npusim.kernels.tdma_calls import TdmaCalls
from npusim.kernels.tensors import Fmt, Ml, MlShape, Tl, ml_at, ml_default_shape, tl_default_stride
from npusim.kernels.tiu_calls import TiuCalls
from npusim.mem.lmem import Shape, align_up


class KernelBuilder(TdmaCalls, TiuCalls):
    """Collects commands for one chip.

    >>> from npusim.kernels import Fmt, KernelBuilder, tg
    >>> b = KernelBuilder("cv181x")
    >>> x = b.lmem_alloc_tensor((1, 8, 1, 64), Fmt.BF16)
    >>> b.tdma_g2l_tensor_copy(tg(0x1000000, x.shape, Fmt.BF16), x)
    >>> b.tiu_add(x, x, x)
    >>> b.tdma_l2g_tensor_copy(x, tg(0x1001000, x.shape, Fmt.BF16))
    >>> program = b.build()
    >>> program.num_tiu, program.num_tdma, program.lmem_bytes
    (1, 2, 128)
    """

    def lmem_alloc_tensor(
        self, shape: Shape, fmt: Fmt, eu_align: bool = True, *, way_out: str = "free or split tensors"
    ) -> Tl:
        """A tensor at the next free address of every lane. Raises UsageError, with the sizes, where it does not fit."""
        stride = tl_default_stride(self.chip, shape, fmt, eu_align)
        addr = self.lmem.alloc(shape[0] * stride[0], f"a tensor of {shape} {fmt.value}", way_out)
        return Tl(addr, shape, stride, fmt)

    def lmem_alloc_matrix(
        self, shape: MlShape, fmt: Fmt, *, ps32: bool = False, way_out: str = "free or split matrices"
    ) -> Ml:
        """A matrix at aligned strides; `ps32` leaves room for 32-bit partial sums (lmem_alloc_ps32_matrix)."""
        matrix = ml_at(self.chip, 0, shape, fmt)
        planes = 4 // fmt.itemsize if ps32 else 1
        addr = self.lmem.alloc(planes * shape.n * matrix.n_stride, f"a matrix of {shape} {fmt.value}", way_out)
        return ml_at(self.chip, addr, shape, fmt)

    def lmem_free_tensor(self, tensor: Tl) -> None:
        """Frees the tensor that was allocated last."""
        self.lmem.free(tensor.addr)

    def lmem_free_matrix(self, matrix: Ml) -> None:
        """Frees the matrix that was allocated last."""
        self.lmem.free(matrix.addr)

    @contextmanager
    def lmem_scope(self) -> Iterator[None]:
        """Frees at its end what was allocated within it."""
        mark = self.lmem.mark()
        try:
            yield
        finally:
            self.lmem.release(mark)

    def ml_default_shape(self, row: int, col: int, fmt: Fmt = Fmt.BF16) -> MlShape:
        """How cvikernel spreads [row, col] over lanes."""
        return ml_default_shape(self.chip, row, col, fmt)

    def tl_default_stride(self, shape: Shape, fmt: Fmt, eu_align: bool = True) -> Shape:
        """Strides that the hardware assumes: channels aligned to EUs, or packed."""
        return tl_default_stride(self.chip, shape, fmt, eu_align)

    def lmem_tensor_to_size(self, shape: Shape, fmt: Fmt, eu_align: bool = True) -> int:
        """Bytes of a lane that the tensor takes."""
        return align_up(shape[0] * tl_default_stride(self.chip, shape, fmt, eu_align)[0], self.chip.eu_num)
