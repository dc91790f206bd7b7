"""Random legal tensor arithmetic, table lookups and cv183x's sums.

Tensors lie on any lanes, at any addresses and strides, and operands may overlap each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from npusim.chip import Chip, chip_named
from npusim.isa.opcodes import ArithEuTyp
from tests.support.case import Case, tiu

BYTE_KINDS = ("mul_qm", "shift", "and", "or", "xor")
"""Kinds that work on bytes whatever opd_typ says; set, it only asks for even strides."""
FLOAT_KINDS = (
    "mul_bf16",
    "mac_bf16",
    "add_bf16",
    "sub_bf16",
    "max_bf16",
    "min_bf16",
    "copy_bf16",
    "ge_bf16",
    "lookup_bf16",
)
INT_KINDS = (
    "mul",
    "mul_qm",
    "mac",
    "add",
    "sub",
    "max",
    "min",
    "shift",
    "and",
    "or",
    "xor",
    "copy",
    "ge",
    "lookup",
    "mdsum",
)
KINDS = INT_KINDS + FLOAT_KINDS
CONSTANTS = (0x0000, 0x8000, 0x0001, 0x0080, 0x3F80, 0xC000, 0x4049, 0x7F7F, 0xFF7F, 0x7F80, 0x7FC0)

Fields = dict[str, int]
Patches = tuple[tuple[int, bytes], ...]


def kinds_of(chip: Chip) -> tuple[str, ...]:
    """The kinds that `chip` has."""
    lacking = {"ge", "ge_bf16"} if "GE" in chip.missing else set()
    return tuple(kind for kind in KINDS if kind not in lacking and (kind != "mdsum" or chip.tiu_layout == "cv183x"))


def draw(rng: np.random.Generator, chip_name: str) -> Case:
    """One legal case of a random kind."""
    chip = chip_named(chip_name)
    name = str(rng.choice(kinds_of(chip)))
    kind = name.removesuffix("_bf16")
    make = _Draw(rng, chip, kind, name.endswith("_bf16"))
    fields, patches = make.lookup() if kind == "lookup" else make.mdsum() if kind == "mdsum" else make.elementwise()
    # A quarter of the bf16 cases work on plain random bits: numbers of all sizes, which overflow and underflow.
    ordinary = make.bf16 and bool(rng.random() < 0.75)
    return Case(
        chip_name, name, [tiu(chip, **fields)], int(rng.integers(1 << 31)), bf16_lmem=ordinary, lmem_patch=patches
    )


@dataclass(frozen=True)
class _Draw:
    rng: np.random.Generator
    chip: Chip
    kind: str
    bf16: bool

    def pick(self, *values: int) -> int:
        return int(self.rng.choice(values))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def below(self, limit: int) -> int:
        return int(self.rng.integers(limit))

    def elementwise(self) -> tuple[Fields, Patches]:
        eu_typ = ArithEuTyp[self.kind.split("_")[0].upper()]
        opd_typ = int(self.bf16 or (self.kind in BYTE_KINDS and self.chance(0.2)))
        fields = dict(tsk_typ=3, tsk_eu_typ=int(eu_typ), opd_typ=opd_typ, **self._ignored())
        fields["tsk_opd_num"] = 1 if self.kind == "copy" else 2
        if self.bf16:
            fields.update({f"opt_{opd}_sign": self.below(2) for opd in ("res0", "opd0", "opd1")})
            fields.update(opt_res_add=int(self.kind == "mac"), opt_res_shift=self.below(32), opt_relu_typ=self.below(2))
        else:
            fields.update(getattr(self, f"_{self._family()}")())
        wide = {opd: not self.bf16 and not fields.get(f"opt_{opd}_seg", 1) for opd in ("res0", "opd0", "opd1")}
        wide["res0"] |= self.kind in ("mac", "shift") and not self.bf16
        shape = self._shape()
        for opd in ("res0", "opd0", "opd1"):
            fields.update(self._place(opd, shape, wide[opd], fields))
        for opd in ("opd0", "opd1"):
            if self.chance(0.08 if opd == "opd0" else 0.25):
                fields.update(self._constant(opd, wide[opd]))
        if fields.get("opt_opd1_const") and self.chance(0.3):  # as many elements in another shape
            fields["opd1_h"], fields["opd1_w"] = fields["opd1_w"], fields["opd1_h"]
        return fields, self._counts(fields) if self.kind == "shift" else ()

    def _family(self) -> str:
        families = {
            "max": "compare",
            "min": "compare",
            "ge": "compare",
            "and": "bitwise",
            "or": "bitwise",
            "xor": "bitwise",
        }
        return families.get(self.kind, self.kind)

    def _ignored(self) -> Fields:
        """Fields that change nothing."""
        bits = {
            name: self.below(2)
            for name in ("opt_left_tran", "opt_opd2_seg", "opt_opd2_sign", "opt_opd2_const", "double_conv")
        }
        return dict(
            bits,
            ps32_md=self.below(4),
            opt_rshift_typ=self.below(2),
            opt_left_shift=self.below(32),
            opd0_ins_val=self.below(256),
        )

    def _shape(self) -> tuple[int, int, int, int]:
        lanes = self.chip.num_lanes
        c = self.pick(1, 1 + self.below(lanes), 1 + self.below(3 * lanes))
        return 1 + self.below(3), c, 1 + self.below(6), self.pick(1 + self.below(8), 1 + self.below(40))

    def _place(self, opd: str, shape: tuple[int, int, int, int], wide: bool, fields: Fields) -> Fields:
        """Shape, strides, planes and an address from which all of it fits. Strides of what is read may be 0."""
        n, c, h, w = shape
        size = 2 if fields["opd_typ"] else 1
        while True:
            lane, turns = self._lane(opd, c, fields)
            interleaved = wide and self.chance(0.2)
            w_str = size * (2 if interleaved else self.pick(1, 1, 1, 2, 3))
            h_str = w * w_str + size * self.pick(0, 0, self.below(9))
            c_str = h * h_str + size * self.pick(0, 0, self.below(17))
            n_str = turns * c_str + size * self.pick(0, 0, self.below(33))
            if opd != "res0":
                n_str, c_str, h_str, w_str = (
                    0 if self.chance(0.04) else stride for stride in (n_str, c_str, h_str, w_str)
                )
            elif self.chance(0.1):  # elements share bytes
                n_str, c_str, h_str, w_str = (
                    size * self.below(stride // size + 1) for stride in (n_str, c_str, h_str, w_str)
                )
            end = (n - 1) * n_str + (turns - 1) * c_str + (h - 1) * h_str + (w - 1) * w_str + size
            b_str = 1 if interleaved else end + self.below(64)
            room = self.chip.lmem_bytes - end - (b_str if wide else 0)
            if room >= 0:
                break
        addr = lane * self.chip.lmem_bytes + self.below(room + 1)
        strides = {
            f"{opd}_n_str": n_str,
            f"{opd}_c_str": c_str,
            f"{opd}_h_str": h_str,
            f"{opd}_w_str": w_str,
            f"{opd}_b_str": b_str,
        }
        extents = {f"{opd}_{dim}": extent for dim, extent in zip("nchw", shape, strict=True)}
        return {f"{opd}_addr": addr, f"short_{opd}_str": 3, **strides, **extents}

    def _lane(self, opd: str, channels: int, fields: Fields) -> tuple[int, int]:
        """A start lane as the address field of `opd` can give it, and how often that many channels go round the
        lanes."""
        lane = self.below(self.chip.num_lanes) if self.chance(0.4) else 0
        if opd != "opd1":
            return lane, -(-(lane + channels) // self.chip.num_lanes)
        above = (fields["res0_addr"] & ~0xFFFF) // self.chip.lmem_bytes
        return lane % 2, -(-(above + lane % 2 + channels) // self.chip.num_lanes)

    def _constant(self, opd: str, wide: bool) -> Fields:
        if self.kind == "shift" and opd == "opd1":
            value = (self.below(33) - 16) & 0xFF
        else:
            value = self.pick(*CONSTANTS, self.below(1 << 16)) if self.bf16 or wide else self.below(256)
        return {f"opt_{opd}_const": 1, f"{opd}_addr": value}

    def _counts(self, fields: Fields) -> Patches:
        """Shift counts of -16 to 16 where opd1 lies."""
        if fields.get("opt_opd1_const"):
            return ()
        offset = fields["opd1_addr"] % self.chip.lmem_bytes
        turns = 1 + (self.chip.num_lanes + fields["opd1_c"]) // self.chip.num_lanes
        extents = (fields["opd1_n"], turns, fields["opd1_h"], fields["opd1_w"])
        end = 1 + sum((extent - 1) * fields[f"opd1_{dim}_str"] for extent, dim in zip(extents, "nchw", strict=True))
        count = min(end, self.chip.lmem_bytes - offset)
        return tuple(
            (lane * self.chip.lmem_bytes + offset, self.rng.integers(-16, 17, count).astype(np.int8).tobytes())
            for lane in range(self.chip.num_lanes)
        )

    def _signs(self, narrow: bool = True) -> Fields:
        """Signs of operands and result, ReLU (for results of 8 bits) and shift, as their rules go together."""
        sign0, sign1 = self.below(2), self.below(2)
        signed = sign0 | sign1
        relu = int(bool(signed) and narrow and self.chance(0.3))
        shift = self.pick(0, self.below(16), self.below(32))  # the model leaves longer ones to the processor it runs on
        return dict(
            opt_opd0_sign=sign0, opt_opd1_sign=sign1, opt_res0_sign=self.below(2) if relu else signed,
            opt_relu_typ=relu,
            opt_res_shift=shift, opt_shift_typ=signed if shift else self.below(2),
        )  # fmt: skip

    def _mul(self) -> Fields:
        narrow = self.below(2)
        return dict(self._signs(bool(narrow)), opt_res0_seg=narrow)

    def _mul_qm(self) -> Fields:
        multiplier = self.pick(
            self.below(1 << 31), (1 << 30) + self.below(1 << 30), self.below(1 << 32), 0, 1 << 31, (1 << 31) - 1
        )
        fields = dict(self._mul(), opt_chl_quan=1, quan_m=multiplier)
        if self.chip.tiu_layout != "cv183x" and self.chance(0.3):
            fields.update(
                opt_res_shift=32 + self.below(32), opt_shift_typ=fields["opt_opd0_sign"] | fields["opt_opd1_sign"]
            )
        return fields

    def _mac(self) -> Fields:
        return dict(self._mul(), opt_res_add=1, opt_left_shift=self.pick(0, self.below(10), self.below(32)))

    def _add(self) -> Fields:
        return dict(self._mul(), opt_opd0_seg=0, opt_opd1_seg=0)

    def _sub(self) -> Fields:
        fields = self._add()
        if not (fields["opt_opd0_sign"] or fields["opt_opd1_sign"]):
            fields.update(opt_opd1_sign=1, opt_shift_typ=1)
        return dict(fields, opt_res0_sign=1)

    def _compare(self) -> Fields:
        sign = self.below(2)
        return dict(
            opt_opd0_sign=sign, opt_opd1_sign=sign, opt_res0_sign=sign, opt_shift_typ=self.below(2), opt_res_shift=0
        )

    def _shift(self) -> Fields:
        sign = self.below(2)
        planes = dict(opt_opd0_seg=0, opt_res0_seg=0)
        return dict(planes, opt_opd0_sign=sign, opt_opd1_sign=1, opt_res0_sign=1, opt_shift_typ=sign, opt_rshift_typ=0)

    def _bitwise(self) -> Fields:
        narrow = self.below(2)
        signs = dict(opt_opd0_sign=0, opt_opd1_sign=0, opt_res0_sign=0)
        return dict(
            signs,
            opt_opd0_seg=narrow,
            opt_opd1_seg=narrow,
            opt_res0_seg=narrow,
            opt_shift_typ=0,
            opt_res_shift=self.below(32),
        )

    def _copy(self) -> Fields:
        sign = self.below(2)
        return dict(
            opt_opd0_sign=sign,
            opt_opd1_sign=self.below(2),
            opt_res0_sign=sign,
            opt_shift_typ=sign,
            opt_res_shift=self.below(8),
        )

    def _aligned(self, opd: str, shape: tuple[int, int, int, int], size: int, fields: Fields) -> Fields:
        """An operand at aligned strides (short_*_str 0), on any lane and at any address from which it fits."""
        n, c, h, w = shape
        while True:
            lane, turns = self._lane(opd, c, fields)
            room = self.chip.lmem_bytes - n * turns * -(-h * w * size // 16) * 16
            if room >= 0:
                break
        addr = lane * self.chip.lmem_bytes + self.below(room + 1)
        return {f"{opd}_addr": addr, **{f"{opd}_{dim}": extent for dim, extent in zip("nchw", shape, strict=True)}}

    def lookup(self) -> tuple[Fields, Patches]:
        one, size = int(self.bf16), 2 if self.bf16 else 1
        selector = dict(tens_lookup=1, tsk_eu_typ=12 * one) if self.chip.tiu_layout == "cv183x" else dict(tsk_eu_typ=12)
        fields = dict(
            tsk_typ=3,
            opd_typ=one,
            opt_shift_typ=0,
            opt_rshift_typ=self.below(2),
            opt_opd2_seg=one,
            opt_opd2_sign=1,
            **selector,
        )
        fields.update(opt_res0_sign=one, opt_opd0_sign=one, opt_opd1_sign=one)
        shape = self._shape()
        for opd in ("res0", "opd0"):
            fields.update(self._aligned(opd, shape, size, fields))
            while fields["res0_addr"] >> 16 != fields[f"{opd}_addr"] >> 16:
                fields.update(self._aligned(opd, shape, size, fields))
        table = (1, self.chip.num_lanes, 32, 8) if self.bf16 else (1, self.chip.num_lanes, 16, 16)
        fields.update(self._aligned("opd1", table, size, fields))
        return fields, ()

    def mdsum(self) -> tuple[Fields, Patches]:
        fields = dict(
            self._mul(), tsk_typ=3, tsk_eu_typ=0, tens_mdsum=1, tsk_opd_num=1, short_res0_str=1, opd_typ=self.below(2)
        )
        signed = fields["opt_opd0_sign"]
        if not signed or fields["opt_relu_typ"]:
            fields.update(opt_relu_typ=0)
        fields.update(opt_opd1_sign=0, opt_res0_sign=signed, opt_shift_typ=signed, opt_rshift_typ=self.below(2))
        n, c, h, w = self._shape()
        fields.update(self._aligned("res0", (1, c, 1, 1), 16, fields))
        fields.update(self._aligned("opd0", (n, c, h, w), 1, fields))
        return fields, ()
