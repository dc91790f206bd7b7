"""What random DMA transfers are drawn from.

These are shapes, and places and strides in LMEM and in a window of GMEM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from npusim.chip import Chip

G2L, L2G, G2G, L2L = range(4)
INT8, BF16 = 1, 2
WINDOW_BYTES = 1 << 16
"""GMEM that a case may touch."""
WINDOWS = {"cv180x": 0x0200_0000, "cv181x": 0x0200_0000, "cv182x": 0x3000_0000, "cv183x": 0x0400_0000}
"""Where it starts: behind what the vendor's model keeps for itself."""
Fields = dict[str, int]
Shape = tuple[int, int, int, int]


@dataclass
class Sketch:
    """What the makers of each kind draw from, and where they keep their tensors apart."""

    rng: np.random.Generator
    chip: Chip
    base: int = 0
    """Value of base register 3."""
    window_patches: list[tuple[int, bytes]] = field(default_factory=list)
    """(offset into the GMEM window, bytes) to be written over its random content."""
    lmem_patches: list[tuple[int, bytes]] = field(default_factory=list)

    def below(self, limit: int) -> int:
        return int(self.rng.integers(limit))

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def shape(self, max_elements: int = 2000) -> Shape:
        lanes = self.chip.num_lanes
        while True:
            c = self.between(1, 3 * lanes + 1) if self.chance(0.7) else self.between(1, 4)
            shape = (self.between(1, 4), c, self.between(1, 6), self.between(1, 20))
            if np.prod(shape) <= max_elements:
                return shape

    def strides(self, extents: Shape, size: int) -> Shape:
        """Byte strides (n, c, h, w) of a tensor whose elements do not overlap, padded by odd amounts now and then."""
        strides = [size]
        for extent in extents[:0:-1]:
            stride = strides[0] * extent
            if self.chance(0.3):
                stride += self.below(20)
            strides.insert(0, stride)
        return tuple(strides)  # type: ignore[return-value]

    def local(self, side: str, shape: Shape, size: int, half: int, *, aligned: bool = False) -> Fields:
        """Address, strides and extents of a tensor in half 0 or 1 of the lanes."""
        n, c, h, w = shape
        lanes, half_bytes = self.chip.num_lanes, self.chip.lmem_bytes // 2
        lane = self.below(lanes) if self.chance(0.3) else 0
        turns = -(-(lane + c) // lanes)
        unit = 16 if aligned else 1
        while True:
            h_str = w * size + (self.below(9) if self.chance(0.2) and not aligned else 0)
            c_str = h * h_str + (self.below(20) if self.chance(0.3) else 0)
            c_str = -(-c_str // unit) * unit
            n_str = turns * c_str + (self.below(40) // unit * unit if self.chance(0.3) else 0)
            room = half_bytes - ((n - 1) * n_str + (turns - 1) * c_str + h * h_str)
            if room > 0:
                break
        offset = half * half_bytes + (
            self.below(room) // unit * unit if self.chance(0.8) else (room - 1) // unit * unit
        )
        return self.fields(side, shape, (n_str, c_str, h_str, size), lane * self.chip.lmem_bytes + offset)

    def remote(self, side: str, shape: Shape, size: int, half: int, *, dense: bool = False) -> Fields:
        """The same in half 0 or 1 of the GMEM window, at times behind base register 3."""
        strides = (
            tuple(size * int(np.prod(shape[axis:])) for axis in (1, 2, 3, 4)) if dense else self.strides(shape, size)
        )
        used = sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True)) + size
        room = WINDOW_BYTES // 2 - used
        offset = half * WINDOW_BYTES // 2 + (self.below(room + 1) if self.chance(0.8) else room)
        return self.fields(side, shape, strides, self.behind_base(side, offset), self.reg(side))  # type: ignore[arg-type]

    def reg(self, side: str) -> Fields:
        return {f"{side}_base_reg_sel": 3} if self.base else {}

    def behind_base(self, side: str, offset: int) -> int:
        return WINDOWS[self.chip.name] + self.chip.gmem_base + offset - self.base

    @staticmethod
    def fields(side: str, shape: Shape, strides: Shape, addr: int, more: Fields | None = None) -> Fields:
        n, c, h, w = shape
        found = {f"{side}_c": c, f"{side}_h": h, f"{side}_w": w}
        found |= {f"{side}_n_stride": strides[0], f"{side}_h_stride": strides[2]}
        found |= {f"{side}_c_stride_low": strides[1] & 0xFFFF, f"{side}_c_stride_high": strides[1] >> 16}
        found |= {f"{side}_base_addr_low": addr & 0xFFFFFFFF, f"{side}_base_addr_high": addr >> 32}
        return {**found, "src_n": n, **(more or {})}

    def tensor(self, side: str, direction: int, shape: Shape, size: int) -> Fields:
        local = direction == L2L or (direction == L2G) == (side == "src")
        if direction == G2G or not local:
            return self.remote(side, shape, size, int(side == "dst"))
        return self.local(side, shape, size, int(side == "dst"))

    def formats(self, direction: int) -> tuple[Fields, int, int]:
        """Format fields with the sizes of a source and a destination element."""
        pairs = {G2L: [(1, 2)], L2G: [(2, 1)], G2G: [(1, 2), (2, 1)], L2L: [(1, 2), (2, 1)]}[direction]
        src, dst = [(1, 1), (2, 2), *pairs][self.below(2 + len(pairs))]
        sizes = (src, dst) if direction != G2G or src == dst else (1, 1)
        fields = dict(src_fmt=src, dst_fmt=dst, int8_sign=self.below(2), int8_rnd_mode=self.below(2))
        return fields, *sizes

    def regrouped(self, shape: Shape) -> Shape:
        """Another (n, c, h, w) of the same n and the same number of elements."""
        n, c, h, w = shape
        return [shape, (n, h, c, w), (n, 1, c, h * w), (n, c * h, 1, w), (n, c, w, h), (n, c, 1, h * w)][self.below(6)]
