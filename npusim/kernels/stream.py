"""The stream of weights into LMEM, before they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from npusim.errors import UsageError
from npusim.kernels.builder import KernelBuilder
from npusim.kernels.tensors import Fmt, Tl, tg


class StreamTile(Protocol):
    """One transfer: `elements` for each lane, `offset` bytes after the start of the matrix, each lane's lane_elements
    behind the last one's."""

    @property
    def offset(self) -> int: ...
    @property
    def elements(self) -> int: ...
    @property
    def lane_elements(self) -> int: ...


class StreamPlan(Protocol):
    """A matrix cut into tiles."""

    @property
    def fmt(self) -> Fmt: ...
    @property
    def near_fmt(self) -> Fmt: ...
    @property
    def num_lanes_used(self) -> int: ...
    @property
    def tiles(self) -> Sequence[StreamTile]: ...


_P = TypeVar("_P", bound=StreamPlan)


class WeightStream:
    """Loads the tiles of many matrices, in order, into a ring of LMEM buffers.

    The next load is issued as soon as a buffer is used up. So the DMA reads ahead across the borders of matrices,
    and across whatever is computed between them."""

    def __init__(
        self, b: KernelBuilder, weights: Sequence[tuple[StreamPlan, int]], *, num_buffers: int = 2, base_reg: int = 0
    ) -> None:
        """`weights` are plans with their GMEM addresses, in order of use. The buffers allocated here are not freed."""
        self.b = b
        self.base_reg = base_reg
        self._weights = list(weights)
        self._taken = 0
        self._pending = [(plan, addr, tile) for plan, addr in weights for tile in plan.tiles]
        self._loaded = self._used = 0
        size = max(plan.near_fmt.itemsize * tile.elements for plan, _, tile in self._pending)
        self._buffers = [self._alloc_buffer(size) for _ in range(num_buffers)]
        for _ in range(num_buffers):
            self._load()

    def _alloc_buffer(self, size: int) -> int:
        """A buffer that starts at a bank, so that loading one tile does not collide with the product that reads
        another."""
        lmem = self.b.lmem
        align = lmem.bank_bytes if size >= lmem.bank_bytes else 16
        return lmem.alloc(size, f"a weight buffer of {size} bytes", "plan weights with smaller buffer_bytes", align)

    def next_weight(self, kind: type[_P]) -> tuple[_P, int]:
        """Plan and GMEM address of the next matrix.

        It must be a `kind`, which the caller multiplies by. Raises UsageError for another kind, or where none is
        left."""
        if self._taken == len(self._weights):
            raise UsageError(
                f"the stream's {len(self._weights)} matrices are all used; list every matrix that the program "
                "multiplies by"
            )
        plan, addr = self._weights[self._taken]
        if not isinstance(plan, kind):
            raise UsageError(
                f"the stream's next matrix has a {type(plan).__name__}; this product takes a {kind.__name__}"
            )
        self._taken += 1
        return plan, addr

    def coming(self, kind: type[_P], count: int) -> list[_P]:
        """The plans of the next `count` matrices, which must be of this kind."""
        return [plan for plan, _ in self._weights[self._taken : self._taken + count] if isinstance(plan, kind)]

    @property
    def tile_addr(self) -> int:
        """LMEM address of the current tile. Call `done` once everything that reads it is issued."""
        return self._buffers[self._used % len(self._buffers)]

    def done(self) -> None:
        """Goes on to the next tile and issues the next load."""
        self._used += 1
        self._load()

    def _load(self) -> None:
        if self._loaded == len(self._pending):
            return
        plan, addr, tile = self._pending[self._loaded]
        shape = (1, plan.num_lanes_used, 1, tile.elements)
        near = Tl(
            self._buffers[self._loaded % len(self._buffers)], shape, (0, 0, 0, plan.near_fmt.itemsize), plan.near_fmt
        )
        self._loaded += 1
        lane_bytes = tile.lane_elements * plan.fmt.itemsize
        strides = (lane_bytes * shape[1], lane_bytes, lane_bytes, plan.fmt.itemsize)
        self.b.tdma_g2l_tensor_copy(tg(addr + tile.offset, shape, plan.fmt, strides, base_reg=self.base_reg), near)
