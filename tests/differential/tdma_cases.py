"""Random legal DMA transfers of every kind."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npusim.chip import Chip, chip_named
from npusim.numerics.vlc import VlcParams, compress
from tests.differential.tdma_sketch import BF16, G2G, G2L, INT8, L2G, L2L, WINDOW_BYTES, WINDOWS, Fields, Shape, Sketch
from tests.support.case import Case, Command, tdma


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
    return {
        "trans_dir": direction,
        "spec_func": 4,
        "const_val": sketch.below(1 << 16),
        "src_fmt": fmt,
        "dst_fmt": fmt,
        **dst,
    }


def _nc_transposed(sketch: Sketch) -> Fields:
    direction = sketch.below(2)
    formats, src_size, dst_size = sketch.formats(direction)
    n, c, h, w = sketch.shape()
    regrouped = [(h, w), (w, h), (1, h * w)][sketch.below(3) if sketch.chance(0.2) else 0]
    dst = sketch.tensor("dst", direction, (c, n, *regrouped), dst_size)
    src = sketch.tensor("src", direction, (n, c, h, w), src_size)
    close = {"dst_n_stride": dst["dst_c_stride_low"]} if sketch.chance(0.2) else {}
    return {"trans_dir": direction, "spec_func": 1, **formats, **dst, **src, **close}


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
    return fields | {
        "src_c": c,
        "src_h": h,
        "src_w": w,
        "src_c_stride_low": planes,
        "src_c_stride_high": 0,
        "src_h_stride": rows,
    }


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
    close = (
        {"dst_c_stride_low": sketch.below(2 * columns), "dst_n_stride": sketch.below(2 * columns)}
        if sketch.chance(0.2)
        else {}
    )
    if direction == G2L:
        fields |= sketch.local("dst", shape, dst_size, 1) | _remote_matrix(sketch, "src", rows, columns, src_size)
        return fields | {"src_n": rows} | close
    return (
        fields
        | sketch.local("src", shape, src_size, 0)
        | _remote_matrix(sketch, "dst", rows, columns, dst_size)
        | close
    )


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
        dst |= {
            f"dst_{axis}": sketch.below(dst[f"dst_{axis}"] + 1) for axis in ("n_stride", "c_stride_low", "h_stride")
        }
    return fields | dst


def _payload(sketch: Sketch, count: int, bf16: bool) -> np.ndarray:
    """Elements as they occur in networks: small integers, numbers of like exponents, zeros among them."""
    if bf16:
        values = sketch.rng.standard_normal(count).astype(np.float32) * np.float32(2.0) ** sketch.between(-20, 20)
        values *= sketch.rng.random(count) < sketch.rng.choice([0.5, 1.0])
        return (values.view(np.uint32) >> 16).astype("<u2")
    values = sketch.rng.normal(0, 10 ** sketch.rng.uniform(0, 2.5), count)
    return np.clip(values, -128, 127).astype(np.int8).view(np.uint8)


def _stream(sketch: Sketch, count: int, bf16: bool) -> Fields:
    """A compressed stream of `count` elements in the window, and the fields that point to it."""
    zero_guard = bf16 and sketch.chance(0.5)
    bias0 = int(sketch.rng.choice([127, sketch.below(256)])) if bf16 else sketch.below(128) * sketch.below(2)
    params = VlcParams(bf16, not bf16 and sketch.chance(0.5), bias0, sketch.below(128) * sketch.below(2), zero_guard)
    stream = compress(_payload(sketch, count, bf16), params).tobytes()
    offset = sketch.below(WINDOW_BYTES // 2 - len(stream))
    sketch.window_patches.append((offset, stream))
    addr = sketch.behind_base("src", offset)
    return {"src_base_addr_low": addr & 0xFFFFFFFF, "src_base_addr_high": addr >> 32, **sketch.reg("src")}


def _decompressed(sketch: Sketch) -> Fields:
    shape, src_fmt = sketch.shape(), sketch.between(1, 2)
    dst_fmt = 2 if src_fmt == BF16 or sketch.chance(0.2) else 1
    fields: Fields = {
        "trans_dir": G2L,
        "compress_en": 1,
        "src_fmt": src_fmt,
        "dst_fmt": dst_fmt,
        "int8_sign": sketch.below(2),
    }
    return fields | sketch.local("dst", shape, dst_fmt, 1) | _stream(sketch, int(np.prod(shape)), src_fmt == BF16)


def _matrix_decompressed(sketch: Sketch) -> Fields:
    (rows, columns, shape), fmt = _matrix(sketch), sketch.between(1, 2)
    fields: Fields = {"trans_dir": G2L, "compress_en": 1, "sys_dtype": 1, "src_fmt": fmt, "dst_fmt": fmt}
    fields |= sketch.local("dst", shape, fmt, 1) | {"src_c": rows, "src_w": columns, "src_c_stride_low": columns * fmt}
    return fields | _stream(sketch, rows * columns, fmt == BF16)


def _fill_sources(sketch: Sketch, fmt: int) -> None:
    """Gives the half of LMEM that sources lie in a content that is worth compressing, without infinities and NaN."""
    data = _payload(sketch, sketch.chip.lmem_bytes // 2 // fmt, fmt == BF16).tobytes()
    sketch.lmem_patches += [(lane * sketch.chip.lmem_bytes, data) for lane in range(sketch.chip.num_lanes)]


def _table_move(sketch: Sketch) -> Fields:
    """Numbers to table indices or bases; the vendor's model stops at the index of an infinity or a NaN."""
    _fill_sources(sketch, BF16)
    shape = sketch.shape()
    src, dst = sketch.local("src", shape, BF16, 0, aligned=True), sketch.local("dst", shape, BF16, 1)
    if sketch.chance(0.2):  # onto itself
        dst = {name.replace("src_", "dst_"): value for name, value in src.items() if name != "src_n"}
        dst["dst_base_addr_low"] += 2 * sketch.between(0, 20)
    return (
        {"trans_dir": L2L, "src_fmt": BF16, "dst_fmt": BF16, ("mv_lut_idx", "mv_lut_base")[sketch.below(2)]: 1}
        | src
        | dst
    )


def _compress_fields(sketch: Sketch, fmt: int) -> Fields:
    """Formats and remapping."""
    _fill_sources(sketch, fmt)
    fields: Fields = {"trans_dir": L2G, "compress_en": 1, "src_fmt": fmt, "dst_fmt": fmt}
    if fmt == BF16:
        return fields | {"compress_bias0": 127, "compress_zero_guard": sketch.below(2)}
    return fields | {"cmprs_fmt": sketch.below(2)}


def _compressed(sketch: Sketch) -> Fields:
    fmt, shape = sketch.between(1, 2), sketch.shape()
    dst = sketch.remote("dst", sketch.regrouped(shape), fmt, 1, dense=True)
    return _compress_fields(sketch, fmt) | dst | sketch.local("src", shape, fmt, 0)


def _matrix_compressed(sketch: Sketch) -> Fields:
    (rows, columns, shape), fmt = _matrix(sketch), sketch.between(1, 2)
    dst = sketch.remote("dst", (1, rows, 1, columns), fmt, 1, dense=True)
    return _compress_fields(sketch, fmt) | {"sys_dtype": 1} | dst | sketch.local("src", shape, fmt, 0)


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
    "tensor_copy_to_table": _table_move,
    "tensor_copy_decompressed": _decompressed,
    "matrix_copy_decompressed": _matrix_decompressed,
    "tensor_copy_compressed": _compressed,
    "matrix_copy_compressed": _matrix_compressed,
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
        {WINDOWS[chip_name]: _window(rng, bf16, sketch.window_patches)},
        (0, 0, 0, sketch.base, 0, 0, 0, 0),
        bf16,
        tuple(sketch.lmem_patches),
    )


def _command(chip: Chip, fields: Fields) -> Command:
    return tdma(chip, **{"cmd_id": 1, **fields})


def _window(rng: np.random.Generator, bf16: bool, patches: list[tuple[int, bytes]]) -> bytes:
    window = bytearray(rng.bytes(WINDOW_BYTES))
    if bf16:
        values = rng.standard_normal(WINDOW_BYTES // 2, np.float32) * np.float32(2.0) ** int(rng.integers(-4, 9))
        window[:] = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    for offset, data in patches:
        window[offset : offset + len(data)] = data
    return bytes(window)
