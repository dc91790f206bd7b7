"""Commands of real programs, changed in a few fields and moved from one chip to another."""

from __future__ import annotations

import lzma
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from npusim import NpusimError, open_program
from npusim.chip import CHIPS, Chip
from npusim.insn import Instruction
from npusim.insn.tdma_vlc import Compressed
from npusim.isa.descriptors import CV183X_ALIASES, TIU_CV183X, layout_of
from npusim.isa.layout import Layout
from npusim.isa.opcodes import ENGINES, TDMA_OPCODE, TIU_OPCODE, ArithEuTyp, Engine, TskTyp
from npusim.isa.regs import TDMA_SCHEDULING, TIU_SCHEDULING, TdmaRegs, TiuRegs, tdma_rows, tiu_rows
from npusim.mem.region import LMEM
from npusim.numerics.vlc import VlcParams, compress
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.decode import decode_tdma, decode_tiu
from tests.differential.conv_cases import quant_records
from tests.differential.tdma_sketch import WINDOWS
from tests.support.case import Case, Command, tdma, tiu

WINDOW_BYTES = 1 << 18
"""GMEM that a case may touch: half of it for sources, half for destinations."""
KEPT = 12
"""Commands of each instruction that are taken from one command buffer."""
MAX_WORK = 1 << 22
"""Products of one command at most, so that the model answers soon."""
SCHEDULING = frozenset((*TIU_SCHEDULING, *TDMA_SCHEDULING))

Fields = dict[str, int]


class Found(NamedTuple):
    """A command of a real program: its fields under the cv181x names."""

    engine: Engine
    fields: Fields


@dataclass(frozen=True)
class Programs:
    """The commands of a folder's programs, by the instruction that they are."""

    by_kind: dict[str, list[Found]]


@cache
def programs_in(folder: Path) -> Programs:
    """Every .cvimodel, raw command buffer (.cmdbuf, .cmdbuf.xz) and recorded probe (.npz) below `folder`."""
    kinds: dict[str, list[Found]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        for cmdbuf in _cmdbufs(path):
            rng = np.random.default_rng(len(kinds))
            for engine, rows, fields in (
                (Engine.TIU, tiu_rows(cmdbuf.chip, cmdbuf.tiu), TIU_OPCODE),
                (Engine.TDMA, tdma_rows(cmdbuf.chip, cmdbuf.tdma), TDMA_OPCODE),
            ):
                for kind, group in _grouped(cmdbuf.chip, engine, rows, fields).items():
                    for place in rng.permutation(len(group))[:KEPT]:
                        kinds[kind].append(Found(engine, group[place]._asdict()))
    return Programs(dict(kinds))


def _cmdbufs(path: Path) -> Iterator[Cmdbuf]:
    if path.suffix == ".cvimodel":
        yield from open_program(path).cmdbufs.values()
    elif path.name.endswith((".cmdbuf", ".cmdbuf.xz")):
        data = path.read_bytes()
        data = lzma.decompress(data) if path.suffix == ".xz" else data
        yield parse_cmdbuf(next(chip for chip in CHIPS if chip.magic == data[0]), data)
    elif path.parent.name.startswith("probe_") and path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            chip = next(chip for chip in CHIPS if chip.name == str(archive["chip"]))
            data, cuts = archive["cmd"].tobytes(), archive["cmd_off"].tolist()
        for start, end in zip(cuts[:-1][:400], cuts[1:], strict=False):
            yield parse_cmdbuf(chip, data[start:end])


def _grouped(chip: Chip, engine: Engine, rows: list, opcode: tuple[str, ...]) -> dict[str, list]:
    groups: dict[str, list] = defaultdict(list)
    names: dict[tuple[int, ...], str] = {}
    for regs in rows:
        code = tuple(getattr(regs, name) for name in opcode)
        if code not in names:
            names[code] = _decoded(chip, engine, regs).mnemonic
        groups[names[code]].append(regs)
    return groups


def _decoded(chip: Chip, engine: Engine, regs: TiuRegs | TdmaRegs) -> Instruction:
    return decode_tiu(chip, regs) if isinstance(regs, TiuRegs) else decode_tdma(chip, regs)


def draw(rng: np.random.Generator, chip: Chip, programs: Programs) -> Case:
    """One to three commands of real programs on `chip`, one or more of them changed."""
    while True:
        case = _Draw(rng, chip, programs).case()
        if case is not None:
            return case


class _Draw:
    def __init__(self, rng: np.random.Generator, chip: Chip, programs: Programs) -> None:
        self.rng, self.chip, self.programs = rng, chip, programs
        self.window = bytearray(rng.bytes(WINDOW_BYTES))
        self.patches: list[tuple[int, bytes]] = []

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def case(self) -> Case | None:
        """None where a command touches GMEM outside the window, or is too much work."""
        kinds = sorted(self.programs.by_kind)
        first = str(self.rng.choice(kinds))
        names = [first] + [str(self.rng.choice(kinds)) for _ in range(int(self.rng.choice([0, 0, 0, 1, 2])))]
        given = dict.fromkeys(ENGINES, 0)
        commands: list[Command] = []
        bf16 = self.chance(0.15)
        for place, name in enumerate(names):
            engine, fields = self._moved(name)
            if engine is Engine.TDMA:
                self._relocate(fields)
            if place == 0 or self.chance(0.2):
                self._mutate(engine, fields, name)
            bf16 |= bool(fields.get("opd_typ"))
            given[engine] += 1
            command = self._command(engine, fields, given[engine])
            if command is None:
                return None
            commands.append(command)
        ranges = {WINDOWS[self.chip.name]: bytes(self.window)}
        seed = int(self.rng.integers(1 << 31))
        return Case(
            self.chip.name, " ".join(names), commands, seed, ranges, bf16_lmem=bf16, lmem_patch=tuple(self.patches)
        )

    def _moved(self, name: str) -> Found:
        """A command of that name on this chip. Most are legal there: one of up to six that is, if any."""
        found = self.programs.by_kind[name]
        for _ in range(1 if self.chance(0.05) else 6):
            engine, fields = found[int(self.rng.integers(len(found)))]
            fields = moved(self.chip, engine, fields)
            try:
                self._decoded(engine, fields).check()
                break
            except NpusimError:
                continue
        return Found(engine, fields)

    def _relocate(self, fields: Fields) -> None:
        """Puts the side in GMEM somewhere in the window."""
        for side, half in (("src", 0), ("dst", int(self.chance(0.9)))):
            local = fields["trans_dir"] == 3 or (fields["trans_dir"] == 1) == (side == "src")
            if fields["trans_dir"] == 2 or not local:
                offset = half * WINDOW_BYTES // 2 + int(self.rng.integers(WINDOW_BYTES // 4))
                addr = WINDOWS[self.chip.name] + self.chip.gmem_base + offset
                fields.update({f"{side}_base_addr_low": addr & 0xFFFFFFFF, f"{side}_base_addr_high": addr >> 32})
                fields[f"{side}_base_reg_sel"] = 0

    def _mutate(self, engine: Engine, fields: Fields, name: str) -> None:
        layout = layout_of(self.chip, engine)
        extents = [field for field in fields if field[-2:] in ("_n", "_c", "_h", "_w") and field[:3] in _SIDES]
        for _ in range(int(self.rng.choice([0, 1, 1, 1, 1, 1, 1, 2]))):
            names = [field for field in layout.by_name if field not in SCHEDULING and not field.startswith("rsv")]
            if self.chance(0.25) and extents:
                names = extents
            field = CV183X_ALIASES.get(chosen := str(self.rng.choice(names)), chosen)
            if field not in fields or field.endswith(("base_reg_sel", "base_addr_high")):
                continue
            old, new = fields[field], self._other(fields, field, layout)
            together = field in extents and self.chance(0.8)  # the same extent of every operand that has it
            for other in extents if together else ():
                if other[-1] == field[-1] and fields[other] == old:
                    fields[other] = new
            fields[field] = new

    def _other(self, fields: Fields, field: str, layout: Layout) -> int:
        """Another value for a field, more often a near one than not."""
        old, limit = fields[field], _limit(layout, field)
        like = [value for other, value in fields.items() if other[-2:] == field[-2:] and value < limit]
        new = [
            old + 1, old - 1, old + 1, old - 1, old * 2, old // 2, old // 3, 1, int(self.rng.choice([0, limit - 1])),
            int(self.rng.integers(limit)),
            old ^ 1 << int(self.rng.integers(limit.bit_length() - 1)), int(self.rng.choice(like)) if like else old,
            old + 16, old - 16,
        ]  # fmt: skip
        return int(new[int(self.rng.integers(len(new)))]) % limit

    def _command(self, engine: Engine, fields: Fields, number: int) -> Command | None:
        fields = {**fields, **({"cmd_id_tpu": number} if engine is Engine.TIU else {"cmd_id": number})}
        command = self._encoded(engine, fields)
        if engine is Engine.TIU and _work(fields) > MAX_WORK:
            return None
        try:
            insn = self._decoded(engine, fields)
            insn.check()
            if isinstance(insn, Compressed):
                self._stream(insn)
            inside = self._within_window(insn)
        except NpusimError:
            return command
        if not inside:
            return None
        if fields.get("opt_chl_quan") and fields["tsk_typ"] in (TskTyp.CONV, TskTyp.DEPTHWISE_POOL):
            self.patches += quant_records(self.rng, self.chip, fields)
        if engine is Engine.TIU and insn.mnemonic == "tiu_arith_shift" and self.chance(0.9):
            self._counts(insn)
        return command

    def _encoded(self, engine: Engine, fields: Fields) -> Command:
        make = tiu if engine is Engine.TIU else tdma
        names = _names(self.chip, engine)
        return make(self.chip, **{n: v for n, v in fields.items() if n in names})

    def _decoded(self, engine: Engine, fields: Fields) -> Instruction:
        descriptor = np.frombuffer(self._encoded(engine, fields)[1], np.uint8)[None]
        regs = (tiu_rows if engine is Engine.TIU else tdma_rows)(self.chip, descriptor)[0]
        return _decoded(self.chip, engine, regs)

    def _within_window(self, insn: Instruction) -> bool:
        start = WINDOWS[self.chip.name]
        footprint = insn.footprint()
        regions = [region for access in (*footprint.reads, *footprint.writes) for region in access.regions]
        return all(r.memory == LMEM or (start <= r.start and r.end <= start + WINDOW_BYTES) for r in regions)

    def _counts(self, insn: Instruction) -> None:
        """Shift counts that are legal where opd1 lies."""
        for tensor in insn.tensors("opd1"):
            addrs = np.unique(tensor.element_addrs(self.chip))
            counts = self.rng.integers(-16, 17, len(addrs)).astype(np.int8).view(np.uint8)
            runs = np.flatnonzero(np.diff(addrs) > 1) + 1
            pieces = zip(np.split(addrs, runs), np.split(counts, runs), strict=True)
            self.patches += [(int(where[0]), piece.tobytes()) for where, piece in pieces if len(piece)]

    def _stream(self, insn: Compressed) -> None:
        """A compressed stream where `insn` reads one."""
        if insn.regs.trans_dir or insn.count > 1 << 16 or self.chance(0.02):
            return
        bf16 = insn.stream_itemsize == 2
        values = self.rng.normal(0, 20, insn.count)
        if bf16:
            payload = (values.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
        else:
            payload = np.clip(values, -128, 127).astype(np.int8).view(np.uint8)
        stream = compress(payload, VlcParams(bf16, False, 127 if bf16 else 0, 0, False)).tobytes()
        at = insn.stream().start - WINDOWS[self.chip.name]
        if at >= 0 and at + len(stream) <= WINDOW_BYTES:
            self.window[at : at + len(stream)] = stream


_SIDES = ("res", "opd", "src", "dst")


@cache
def _names(chip: Chip, engine: Engine) -> frozenset[str]:
    """Fields that a command of `chip` is made from."""
    names = {CV183X_ALIASES.get(name, name) for name in layout_of(chip, engine).by_name}
    return frozenset((names | {"opd0_ins_val"}) - {"opd0_ins_fp"})


def _limit(layout: Layout, name: str) -> int:
    back = {new: old for old, new in CV183X_ALIASES.items()} if layout is TIU_CV183X else {}
    field = layout.by_name.get(back.get(name, name))
    return field.limit if field else 2


def moved(chip: Chip, engine: Engine, fields: Fields) -> Fields:
    """The fields of a command, whatever chip it was made for, as `chip` has them: cut to its widths."""
    fields = {name: value for name, value in fields.items() if name not in SCHEDULING}
    if engine is Engine.TIU:
        lookup = fields["tens_lookup"] or (
            fields["tsk_typ"] == TskTyp.TENSOR_ARITH and fields["tsk_eu_typ"] == ArithEuTyp.LOOKUP
        )
        if fields["opd0_ins_fp"]:
            fields["opd0_ins_val"] = fields["opd0_ins_fp"]
        if lookup:
            on_cv183x = chip.tiu_layout == "cv183x"
            fields.update(tens_lookup=int(on_cv183x), tsk_eu_typ=12 * int(not on_cv183x or fields["opd_typ"]))
            lanes = {f"opd1_{dim}": extent for dim, extent in zip("nchw", (1, chip.num_lanes, 16, 16), strict=True)}
            fields.update(lanes | ({"opd1_h": 32, "opd1_w": 8} if fields["opd_typ"] else {}))
    layout, names = layout_of(chip, engine), _names(chip, engine)
    return {name: value % _limit(layout, name) for name, value in fields.items() if name in names}


def _work(fields: Fields) -> int:
    extents = [fields[f"res0_{dim}"] for dim in "nchw"]
    if fields["tsk_typ"] == TskTyp.TENSOR_ARITH:
        return 8 * math.prod(extents)
    window = fields["opd1_h"] * fields["opd1_w"] if fields["tsk_typ"] != TskTyp.FC else fields["opd1_n"]
    return math.prod(extents) * window * (fields["opd0_c"] if fields["tsk_typ"] == TskTyp.CONV else 1)
