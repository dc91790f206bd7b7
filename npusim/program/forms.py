"""How an operand is written in assembly: shape, strides and address, each one token for several fields and back without
loss.

res0=1x32x28x28  res0.str=784x784x28x1  res0.at=lane0.bank2+0x040        TIU operands; strides in bytes
opd1=1x32x28x28  opd1.at=0x3f80                                          a constant in place of a tensor
src=1x3x32x32  src.str=3072x1024x32  src.at=base1+0x1200                 TDMA; a GMEM address behind a base register
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from npusim.chip import Chip
from npusim.errors import FileFormatError
from npusim.insn import TDMA_OPERANDS, TIU_OPERANDS, WRITTEN_OPERANDS
from npusim.insn.tdma_base import LOCAL_DESTINATION, LOCAL_SOURCE
from npusim.isa.layout import Layout
from npusim.isa.opcodes import Engine
from npusim.isa.regs import TdmaRegs

Values = Mapping[str, int]


@dataclass(frozen=True)
class TupleForm:
    """Several plain fields, such as a shape, joined by "x"."""

    key: str
    fields: tuple[str, ...]

    def write(self, values: Values, chip: Chip) -> str:
        return "x".join(str(values[name]) for name in self.fields)

    def read(self, text: str, chip: Chip) -> dict[str, int]:
        parts = [read_int(part) for part in text.split("x")]
        if len(parts) != len(self.fields):
            raise FileFormatError(f"{self.key}={text} has {len(parts)} numbers, but it must have {len(self.fields)}")
        return dict(zip(self.fields, parts, strict=True))


@dataclass(frozen=True)
class TdmaStrideForm:
    """n, c and h stride of a TDMA operand; the c stride lies in two fields."""

    operand: str

    @property
    def key(self) -> str:
        return f"{self.operand}.str"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return tuple(f"{self.operand}_{name}" for name in ("n_stride", "c_stride_low", "c_stride_high", "h_stride"))

    def write(self, values: Values, chip: Chip) -> str:
        n, low, high, h = (values[name] for name in self.fields)
        return f"{n}x{low | high << 16}x{h}"

    def read(self, text: str, chip: Chip) -> dict[str, int]:
        parts = [read_int(part) for part in text.split("x")]
        if len(parts) != 3:
            raise FileFormatError(f"{self.key}={text} has {len(parts)} numbers, but it must have 3 (n, c, h)")
        n, c, h = parts
        return dict(zip(self.fields, (n, c & 0xFFFF, c >> 16, h), strict=True))


@dataclass(frozen=True)
class TiuAddrForm:
    """The LMEM address of a TIU operand as lane, bank and offset; a plain number where the field holds a constant
    instead."""

    operand: str

    @property
    def key(self) -> str:
        return f"{self.operand}.at"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return (f"{self.operand}_addr",)

    def write(self, values: Values, chip: Chip) -> str:
        addr = values[f"{self.operand}_addr"]
        return f"{addr:#06x}" if values.get(f"opt_{self.operand}_const") else write_lmem_addr(addr, chip)

    def read(self, text: str, chip: Chip) -> dict[str, int]:
        return {f"{self.operand}_addr": read_int(text) if text.startswith("0x") else read_lmem_addr(text, chip)}


@dataclass(frozen=True)
class TdmaAddrForm:
    """Address of a TDMA operand: in LMEM, or 40 bits behind a base register."""

    operand: str

    @property
    def key(self) -> str:
        return f"{self.operand}.at"

    @cached_property
    def fields(self) -> tuple[str, ...]:
        return tuple(f"{self.operand}_{name}" for name in ("base_reg_sel", "base_addr_high", "base_addr_low"))

    def write(self, values: Values, chip: Chip) -> str:
        base_reg, high, low = (values[name] for name in self.fields)
        local = LOCAL_DESTINATION if self.operand in WRITTEN_OPERANDS else LOCAL_SOURCE
        if values["trans_dir"] in local and not base_reg and not high:
            return write_lmem_addr(low, chip)
        return write_gmem_addr(base_reg, high << 32 | low)

    def read(self, text: str, chip: Chip) -> dict[str, int]:
        if match := re.fullmatch(r"base(\d)\+(0x[0-9a-fA-F]{1,10})", text):
            addr = int(match[2], 16)
            return dict(zip(self.fields, (int(match[1]), addr >> 32, addr & 0xFFFFFFFF), strict=True))
        return dict(zip(self.fields, (0, 0, read_lmem_addr(text, chip)), strict=True))


Form = TupleForm | TdmaStrideForm | TiuAddrForm | TdmaAddrForm


def forms_of(engine: Engine) -> dict[str, tuple[Form, ...]]:
    """Operand's name -> how its shape, strides and address are written, for every operand that an instruction of
    `engine` has."""
    return TIU_FORMS if engine == Engine.TIU else TDMA_FORMS


def _tiu_forms(operand: str) -> tuple[Form, ...]:
    shape = TupleForm(operand, tuple(f"{operand}_{dim}" for dim in "nchw"))
    strides = TupleForm(f"{operand}.str", tuple(f"{operand}_{dim}_str" for dim in "nchw"))
    return (shape, strides, TiuAddrForm(operand))


def _tdma_forms(operand: str) -> tuple[Form, ...]:
    """A descriptor has the extents that are in its header file: there is no dst_n."""
    extents = tuple(f"{operand}_{dim}" for dim in "nchw" if f"{operand}_{dim}" in TdmaRegs._fields)
    return (TupleForm(operand, extents), TdmaStrideForm(operand), TdmaAddrForm(operand))


TIU_FORMS = {operand: _tiu_forms(operand) for operand in TIU_OPERANDS}
TDMA_FORMS = {operand: _tdma_forms(operand) for operand in TDMA_OPERANDS}


def default_fields(layout: Layout) -> dict[str, int]:
    """Field values that text leaves out: zero but for the enable bits, and the number that cvikernel gives each 128-bit
    TIU word."""
    defaults = dict.fromkeys(layout.by_name, 0) | {name: 1 for name in ("cmd_en", "vld") if name in layout.by_name}
    if "cmd_pre_exe" in layout.by_name:
        defaults |= {f"rsvd{word}": word for word in range(layout.num_bytes // 16)}
    return defaults


def write_lmem_addr(addr: int, chip: Chip) -> str:
    lane, inner = divmod(addr, chip.lmem_bytes)
    bank, offset = divmod(inner, chip.lmem_bytes // chip.num_lmem_banks)
    return f"lane{lane}.bank{bank}+{offset:#05x}"


def write_gmem_addr(base_reg: int, addr: int) -> str:
    return f"base{base_reg}+{addr:#x}"


def read_lmem_addr(text: str, chip: Chip) -> int:
    match = re.fullmatch(r"lane([0-9]{1,9})\.bank([0-9]{1,2})\+(0x[0-9a-fA-F]{1,4})", text)
    bank_bytes = chip.lmem_bytes // chip.num_lmem_banks
    if not match or int(match[2]) >= chip.num_lmem_banks or int(match[3], 16) >= bank_bytes:
        raise FileFormatError(
            f"{text!r} is no address: write lane0.bank2+0x040 ({chip.num_lmem_banks} banks of {bank_bytes:#x} bytes) "
            "or base1+0x1200"
        )
    return int(match[1]) * chip.lmem_bytes + int(match[2]) * bank_bytes + int(match[3], 16)


def read_int(text: str) -> int:
    """A non-negative number, decimal or hexadecimal."""
    if not re.fullmatch(r"0x[0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19}", text):
        raise FileFormatError(f"{text!r} is not a number; write 12 or 0x0c")
    return int(text, 0)
