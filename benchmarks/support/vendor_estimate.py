"""The cycle estimator of the vendor's compiler, as a baseline: its formulas with its defects, not a model of the chip.

Source: lib/Backend/CV18xx/CV18xx_profiling.cpp of sophgo/tpu-mlir @784fd6e, described in docs/timing.md. It adds up
both engines in nanoseconds as if they never ran together; of a transfer in several pieces only the last piece counts;
SRAM time is 16 times too small; DRAM is 7.5 GB/s on every chip; and except on cv183x an operation is taken for bf16
where its result has 16 bits, and operands of elementwise operations always for 16-bit ones."""

from __future__ import annotations

from npusim.chip import Chip
from npusim.isa.opcodes import ArithEuTyp, PoolEuTyp, SpecFunc, TdmaFmt, TransDir, TransposeMd, TskTyp
from npusim.isa.regs import TdmaRegs, TiuRegs, tdma_rows, tiu_rows
from npusim.program.cmdbuf import Cmdbuf

DRAM_MBYTES_PER_S = 1886 * 4
_EU_BYTES, _LINE, _BURST, _PAGE = 16, 16, 256, 4096
_ELTWISE = {  # cycles a unit for 8-bit and for 16-bit operands
    ArithEuTyp.MUL: (2.5, 4.5),
    ArithEuTyp.MAC: (9, 11),
    ArithEuTyp.ADD: (5, 7),
    ArithEuTyp.SUB: (5, 7),
    ArithEuTyp.SHIFT: (4, 4),
    ArithEuTyp.COPY: (2, 4),
}


def estimate_ms(cmdbuf: Cmdbuf) -> float:
    """The time of `cmdbuf` in milliseconds, as the vendor's compiler estimates it."""
    chip = cmdbuf.chip
    nanoseconds = sum(tiu_cycles(chip, regs) * 1000 // chip.clock_mhz for regs in tiu_rows(chip, cmdbuf.tiu))
    nanoseconds += sum(tdma_ns(chip, regs) for regs in tdma_rows(chip, cmdbuf.tdma))
    return nanoseconds / 1e6


def tiu_cycles(chip: Chip, r: TiuRegs) -> int:
    """Cycles of one TIU command."""
    on_cv183x = chip.tiu_layout == "cv183x"
    bf16 = bool(r.opd_typ) if on_cv183x else r.opt_res0_seg == 0
    active = _EU_BYTES // 2 if bf16 else _EU_BYTES
    turns = -(-(r.res0_addr // chip.lmem_bytes + r.res0_c) // chip.num_lanes)
    units = r.res0_n * turns * -(-r.res0_h * r.res0_w // active)
    post = 31 if r.opt_chl_quan else 12
    bias = 2 if r.tsk_opd_num == 3 and not r.opt_chl_quan else 0
    shift = 2 if bf16 else 1 if r.opt_chl_quan else 4
    partial = (0, 4, 4, 8)[r.ps32_md]
    if r.tsk_typ == TskTyp.CONV:
        return 41 + units * _conv_unit(r, bf16, bias + shift + partial) + post
    if r.tsk_typ == TskTyp.DEPTHWISE_POOL:
        return _window(r, units, active, bf16, bias, shift, post)
    if r.tsk_typ == TskTyp.FC:
        units = r.res0_n * -(-r.res0_c // chip.num_lanes) * -(-r.res0_w // active)
        return 41 + units * (r.opd1_n + bias + shift + partial + (2 if r.opt_res_add else 0)) + post
    return int(units * _eltwise_unit(r, on_cv183x)) + 26 + post


def _conv_unit(r: TiuRegs, bf16: bool, extra: int) -> int:
    taps = r.opd1_h * r.opd1_w
    steps = taps * -(-r.opd0_c // (2 if r.double_conv and not bf16 else 1))
    fetch = -(-int(15 * r.conv_op_x_str / (r.conv_opd0_x_ins0 + 1) + 1) // _EU_BYTES) + 1
    loop = steps + taps * max(fetch - r.opd0_c, 0) + extra
    return max(loop, _EU_BYTES) if r.opt_chl_quan and not bf16 else loop


def _window(r: TiuRegs, units: int, active: int, bf16: bool, bias: int, shift: int, post: int) -> int:
    taps, insert = r.opd1_h * r.opd1_w, r.conv_opd0_x_ins0 + 1
    if r.tsk_eu_typ == PoolEuTyp.DEPTHWISE:
        width = min(r.res0_w, _EU_BYTES)
        lines = ((width - 1) * r.conv_op_x_str / insert + 1) / _EU_BYTES * max(1, _EU_BYTES / r.res0_w) + 15 / 16
        loop = int(taps * (lines if taps > 1 else 1))
        loop = max(loop, _EU_BYTES) if r.opt_chl_quan else loop
        shift = 3 if not bf16 or (taps == 1 and not r.opt_chl_quan) else shift
        return units * (loop + bias + shift) + post
    elements = _EU_BYTES if r.tsk_eu_typ == PoolEuTyp.MAX_POOL else active
    span = (elements - 1) * r.conv_op_x_str / insert + 1
    lines = span / elements + ((elements - 1) / elements if span >= elements else (span - 1) / elements)
    lines = 1 if r.res0_h * r.res0_w == 1 else max(lines, 1)
    if r.tsk_eu_typ == PoolEuTyp.MAX_POOL:
        return int(units * (taps * lines + 2))
    loop = int(taps * lines)
    return units * ((max(loop, _EU_BYTES) if r.opt_chl_quan else loop) + shift) + post


def _eltwise_unit(r: TiuRegs, on_cv183x: bool) -> float:
    if r.tens_lookup or r.tsk_eu_typ == ArithEuTyp.LOOKUP:
        return 1 + r.opd1_h + 2
    if r.tens_mdsum:
        return 3
    narrow_source, narrow_result = (on_cv183x and bool(seg) for seg in (r.opt_opd0_seg, r.opt_res0_seg))
    cycles = _ELTWISE.get(ArithEuTyp(r.tsk_eu_typ), (3, 5))[0 if narrow_source else 1]
    if r.tsk_eu_typ == ArithEuTyp.MUL and narrow_result:
        cycles += 3
    if r.tsk_eu_typ in (ArithEuTyp.ADD, ArithEuTyp.SUB) and r.opt_opd1_const and not narrow_source:
        cycles -= 0.5
    return (cycles + (0 if narrow_result else 1)) * (1 if r.res0_c_str % _LINE == 0 else 30 / 16)


def tdma_ns(chip: Chip, r: TdmaRegs) -> int:
    """Nanoseconds of one TDMA command."""
    if r.trans_dir == TransDir.L2L:
        return max(_move_bytes(r, "src"), _move_bytes(r, "dst")) * 1000 // DRAM_MBYTES_PER_S
    dram = _last_piece(r, store=r.trans_dir == TransDir.L2G)
    size = 2 if r.dst_fmt == TdmaFmt.BF16 else 1
    rows, row = (
        (1, r.dst_h_stride * (r.dst_h - 1) + r.dst_w * size) if r.dst_h_stride == r.dst_w else (r.dst_h, r.dst_w * size)
    )
    sram = r.src_n * r.dst_c * rows * -(-row // _LINE)
    return max(dram * 1000 // DRAM_MBYTES_PER_S, sram * 1000 // (chip.clock_mhz * _LINE))


def _move_bytes(r: TdmaRegs, side: str) -> int:
    fmt, c, h, w, stride = (getattr(r, f"{side}_{name}") for name in ("fmt", "c", "h", "w", "h_stride"))
    size = 2 if fmt == TdmaFmt.BF16 else 1
    rows, row = (1, stride * (h - 1) + w * size) if stride == w else (h, w * size)
    return r.src_n * c * rows * (-(-row // _LINE) * _LINE)


def _last_piece(r: TdmaRegs, store: bool) -> int:
    """DRAM bytes of the last contiguous piece of a transfer; those of the pieces before it are forgotten."""
    side = "dst" if store else "src"
    addr, c, h, w, n_str, h_str = (
        getattr(r, f"{side}_{x}") for x in ("base_addr_low", "c", "h", "w", "n_stride", "h_stride")
    )
    c_str = getattr(r, f"{side}_c_stride_high") << 16 | getattr(r, f"{side}_c_stride_low")
    size = 2 if getattr(r, f"{side}_fmt") == TdmaFmt.BF16 else 1
    burst = _BURST // 2 if store and r.transpose_md == TransposeMd.CW else _BURST
    if r.trans_fmt:
        return _piece_bytes(addr, r.src_n_stride, burst)
    n, turned = r.src_n, r.spec_func == SpecFunc.TRANSPOSE
    if r.sys_dtype:
        n, h, h_str = 1, 1, c_str
    elif store and turned and r.transpose_md == TransposeMd.NC:
        n = r.src_c
    if not store and turned and r.transpose_md in (TransposeMd.CHW_C3, TransposeMd.CHW_C4):
        c, w, h_str = w, c, c
        c_str = h_str * h
    if not store and r.sys_dtype and turned and r.transpose_md == TransposeMd.NC:
        return _piece_bytes(addr + c_str * (c - 1) + (w - 1) // 128 * 128, (w - 1) % 128 + 1, burst)
    slack, width = (0, w * size) if store else (16, w)
    rows = h_str - width <= slack and not (store and r.transpose_md == TransposeMd.CW)
    planes = rows and c_str - width * h <= slack
    row = h_str * (h - 1) + w * size
    if planes:
        return _piece_bytes(addr + n_str * (n - 1), c_str * (c - 1) + row, burst)
    if rows:
        return _piece_bytes(addr + n_str * (n - 1) + c_str * (c - 1), row, burst)
    return _piece_bytes(addr + n_str * (n - 1) + c_str * (c - 1) + h_str * (h - 1), w * size, burst)


def _piece_bytes(addr: int, num_bytes: int, burst: int) -> int:
    """Bytes of the 64-byte lines that the bursts of one piece touch; it is cut at the first 4 KiB boundary only."""
    end = addr + num_bytes
    if addr // _PAGE == end // _PAGE:
        return _bursts(addr, end - addr // _LINE * _LINE, burst)
    boundary = -(-addr // _PAGE) * _PAGE
    return (_bursts(addr, boundary - addr, burst) if boundary > addr else 0) + _bursts(boundary, end - boundary, burst)


def _bursts(addr: int, num_bytes: int, burst: int) -> int:
    whole, rest = divmod(num_bytes, burst)
    sizes = [burst] * whole + ([-(-rest // _LINE) * _LINE] if rest else [])
    total = 0
    for place, size in enumerate(sizes):
        start = (addr + place * burst) // _LINE * _LINE
        first = -(-start // 64) * 64
        total += 64 * ((start != first) + (-(-(start + size) // 64) * 64 - first) // 64)
    return total
