"""Random legal DMA transfers of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npusim.chip import Chip, chip_named
from tests.differential.case import Case, Command, tdma

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
        offset = half * half_bytes + (self.below(room) // unit * unit if self.chance(0.8) else (room - 1) // unit * unit)
        return self.fields(side, shape, (n_str, c_str, h_str, size), lane * self.chip.lmem_bytes + offset)

    def remote(self, side: str, shape: Shape, size: int, half: int, *, dense: bool = False) -> Fields:
        """The same in half 0 or 1 of the GMEM window, at times behind base register 3."""
        strides = tuple(size * int(np.prod(shape[axis:])) for axis in (1, 2, 3, 4)) if dense else self.strides(shape, size)
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


def _tensor_copy(sketch: Sketch) -> Fields:
    direction = sketch.below(4)
    formats, src_size, dst_size = sketch.formats(direction)
    shape = sketch.shape()
    dst_shape = sketch.regrouped(shape) if sketch.chance(0.2) else shape
    src = sketch.tensor("src", direction, shape, src_size)
    dst = sketch.tensor("dst", direction, dst_shape, dst_size)
    return {"trans_dir": direction, **formats, **src, **dst}


def _general_copy(sketch: Sketch) -> Fields:
    direction = sketch.below(3)
    num_bytes = sketch.between(1, 20000)
    formats = dict(src_fmt=1, dst_fmt=1) if direction != G2G and sketch.chance(0.5) else dict(src_fmt=2, dst_fmt=2)
    fields: Fields = {"trans_dir": direction, "trans_fmt": 1, "src_n_stride": num_bytes, **formats}
    for side, half in (("src", 0), ("dst", 1)):
        if direction != G2G and (direction == L2G) == (side == "src"):
            addr = sketch.below(sketch.chip.num_lanes * sketch.chip.lmem_bytes - num_bytes + 1)
        else:
            addr = sketch.behind_base(side, half * WINDOW_BYTES // 2 + sketch.below(WINDOW_BYTES // 2 - num_bytes))
            fields |= sketch.reg(side)
        fields |= {f"{side}_base_addr_low": addr & 0xFFFFFFFF, f"{side}_base_addr_high": addr >> 32}
    return fields


def _fill_constant(sketch: Sketch) -> Fields:
    direction, fmt = sketch.below(2), sketch.between(1, 2)
    dst = sketch.tensor("dst", direction, sketch.shape(), fmt)
    return {"trans_dir": direction, "spec_func": 4, "const_val": sketch.below(1 << 16), "src_fmt": fmt, "dst_fmt": fmt, **dst}


def _nc_transposed(sketch: Sketch) -> Fields:
    direction = sketch.below(2)
    formats, src_size, dst_size = sketch.formats(direction)
    n, c, h, w = sketch.shape()
    regrouped = [(h, w), (w, h), (1, h * w)][sketch.below(3) if sketch.chance(0.2) else 0]
    dst = sketch.tensor("dst", direction, (c, n, *regrouped), dst_size)
    src = sketch.tensor("src", direction, (n, c, h, w), src_size)
    return {"trans_dir": direction, "spec_func": 1, **formats, **dst, **src}


def _cw_transposed(sketch: Sketch) -> Fields:
    n, c, h, w = sketch.shape()
    fields: Fields = {"trans_dir": L2G, "spec_func": 1, "transpose_md": 3, "src_fmt": INT8, "dst_fmt": INT8}
    return fields | sketch.tensor("dst", L2G, (n, w, h, c), 1) | sketch.tensor("src", L2G, (n, c, h, w), 1)


def _chw_rotated(sketch: Sketch) -> Fields:
    n, _, h, w = sketch.shape()
    c = sketch.between(3, 4)
    fields: Fields = {"trans_dir": G2L, "spec_func": 1, "transpose_md": c - 2, "src_fmt": INT8, "dst_fmt": INT8}
    fields |= sketch.local("dst", (n, c, h, w), 1, 1, aligned=True)
    fields |= sketch.remote("src", (n, h, w, c), 1, 0)
    rows = c * w + (sketch.below(7) if sketch.chance(0.3) else 0)
    planes = 1 if sketch.chance(0.8) else sketch.below(9)
    return fields | {"src_c": c, "src_h": h, "src_w": w, "src_c_stride_low": planes, "src_c_stride_high": 0, "src_h_stride": rows}


def _matrix(sketch: Sketch, max_columns: int = 100) -> tuple[int, int, Shape]:
    """(rows, columns, shape in LMEM)."""
    rows, columns = sketch.between(1, 12), sketch.between(1, max_columns)
    w = sketch.between(-(-columns // (3 * sketch.chip.num_lanes)), columns + 2)
    return rows, columns, (rows, -(-columns // w), 1, w)


def _remote_matrix(sketch: Sketch, side: str, rows: int, columns: int, size: int) -> Fields:
    fields = sketch.remote(side, (1, rows, 1, columns), size, int(side == "dst"))
    return {name: value for name, value in fields.items() if name not in (f"{side}_h", "src_n")}


def _matrix_copy(sketch: Sketch) -> Fields:
    direction = sketch.below(2)
    formats, src_size, dst_size = sketch.formats(direction)
    rows, columns, shape = _matrix(sketch)
    fields: Fields = {"trans_dir": direction, "sys_dtype": 1, **formats}
    if direction == G2L:
        fields |= sketch.local("dst", shape, dst_size, 1) | _remote_matrix(sketch, "src", rows, columns, src_size)
        return fields | {"src_n": rows}
    return fields | sketch.local("src", shape, src_size, 0) | _remote_matrix(sketch, "dst", rows, columns, dst_size)


def _row_col_transposed(sketch: Sketch) -> Fields:
    rows, columns, (n, c, h, w) = _matrix(sketch)
    fields: Fields = {"trans_dir": G2L, "sys_dtype": 1, "spec_func": 1, "src_fmt": INT8, "dst_fmt": INT8}
    fields |= sketch.local("dst", (n, c, h, w), 1, 1, aligned=True)
    return fields | _remote_matrix(sketch, "src", columns, rows, 1)


def _onto_itself(sketch: Sketch) -> Fields:
    """A copy whose destination overlaps its source, itself, or both."""
    direction = G2G if sketch.chance(0.5) else L2L
    formats, src_size, dst_size = sketch.formats(direction)
    shape = sketch.shape(300)
    fields: Fields = {"trans_dir": direction, **formats}
    fields |= sketch.tensor("src", direction, shape, src_size)
    dst = sketch.tensor("dst", direction, sketch.regrouped(shape), dst_size)
    if sketch.chance(0.7):
        addr = fields["src_base_addr_high"] << 32 | fields["src_base_addr_low"]
        addr = max(addr + sketch.between(-40, 40), addr & -0x8000)
        dst |= {"dst_base_addr_low": addr & 0xFFFFFFFF, "dst_base_addr_high": addr >> 32}
    if sketch.chance(0.5):
        dst |= {f"dst_{axis}": sketch.below(dst[f"dst_{axis}"] + 1) for axis in ("n_stride", "c_stride_low", "h_stride")}
    return fields | dst


MAKERS: dict[str, Callable[[Sketch], Fields]] = {
    "tensor_copy": _tensor_copy,
    "general_copy": _general_copy,
    "matrix_copy": _matrix_copy,
    "tensor_fill_constant": _fill_constant,
    "tensor_copy_nc_transposed": _nc_transposed,
    "tensor_copy_cw_transposed": _cw_transposed,
    "tensor_copy_chw_rotated": _chw_rotated,
    "matrix_copy_row_col_transposed": _row_col_transposed,
    "tensor_copy_onto_itself": _onto_itself,
}


def draw(rng: np.random.Generator, chip_name: str) -> Case:
    """One case of a random kind, which the vendor's model accepts but for rare draws."""
    chip = chip_named(chip_name)
    kind = str(rng.choice(list(MAKERS)))
    sketch = Sketch(rng, chip, int(rng.integers(1, 1 << 20)) if rng.random() < 0.5 else 0)
    fields = MAKERS[kind](sketch)
    direction = ("g2l", "l2g", "g2g", "l2l")[fields["trans_dir"]]
    bf16 = bool(rng.random() < 0.3)
    return Case(
        chip_name,
        f"{direction}_{kind}",
        [_command(chip, fields)],
        int(rng.integers(1 << 31)),
        {WINDOWS[chip_name]: _window(rng, bf16)},
        (0, 0, 0, sketch.base, 0, 0, 0, 0),
        bf16,
    )


def _command(chip: Chip, fields: Fields) -> Command:
    return tdma(chip, **{"cmd_id": 1, **fields})


def _window(rng: np.random.Generator, bf16: bool) -> bytes:
    if not bf16:
        return rng.bytes(WINDOW_BYTES)
    values = rng.standard_normal(WINDOW_BYTES // 2, np.float32) * np.float32(2.0) ** rng.integers(-4, 9)
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
