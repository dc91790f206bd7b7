"""Probe programs, recorded on the vendor's functional model.

Each replays to the same bytes of GMEM and the same CRC of every lane.

A file is one machine: its records run in order, and LMEM starts as zeros. Arrays of a file: `reg` rows are (address,
length, offset of the bytes before, offset of the bytes after) into `data`, -1 for "as it was"; `patch` rows are
(LMEM address, length, offset)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from npusim import Machine

PROBES = Path(__file__).parents[1] / "golden" / "data" / "probes"
FILES = sorted(PROBES.rglob("*.npz"))


@dataclass(frozen=True)
class Record:
    cmdbuf: bytes
    bases: tuple[int, ...]
    before: list[tuple[int, int, bytes | None]]
    after: list[tuple[int, int, bytes | None]]
    lmem_patches: list[tuple[int, bytes]]
    lane_crcs: list[int]


def records(path: Path) -> tuple[str, Iterator[Record]]:
    with np.load(path, allow_pickle=False) as archive:
        z = {name: archive[name] for name in archive.files}
    data, cmd = z["data"].tobytes(), z["cmd"].tobytes()

    def cut(offset: int, length: int) -> bytes | None:
        return None if offset < 0 else data[offset : offset + length]

    def each() -> Iterator[Record]:
        for i in range(len(z["bases"])):
            ranges = z["reg"][z["reg_start"][i] : z["reg_start"][i + 1]].tolist()
            patches = z["patch"][z["patch_start"][i] : z["patch_start"][i + 1]].tolist()
            yield Record(
                cmd[z["cmd_off"][i] : z["cmd_off"][i + 1]],
                tuple(int(base) for base in z["bases"][i]),
                [(addr, length, cut(before, length)) for addr, length, before, _ in ranges],
                [(addr, length, cut(after, length)) for addr, length, _, after in ranges],
                [(addr, data[offset : offset + length]) for addr, length, offset in patches],
                z["lmcrc"][i].tolist(),
            )

    return str(z["chip"]), each()


def test_all_chips_are_probed() -> None:
    assert {path.parent.name for path in FILES} == {f"probe_cv18{n}x" for n in "0123"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name[6:]}-{p.stem}")
def test_probe_replays_to_the_same_bytes(path: Path) -> None:
    chip, each = records(path)
    machine = Machine(chip)
    lmem = machine.lmem.reshape(-1)
    for index, record in enumerate(each):
        for addr, _, content in record.before:
            if content is not None:
                machine.gmem.write(addr, content)
        for addr, content in record.lmem_patches:
            lmem[addr : addr + len(content)] = np.frombuffer(content, np.uint8)
        unchanged = {addr: machine.gmem.read(addr, length) for addr, length, content in record.after if content is None}
        machine.run_cmdbuf(record.cmdbuf, record.bases)
        for addr, length, content in record.after:
            assert machine.gmem.read(addr, length) == (unchanged[addr] if content is None else content), (
                f"record {index}, GMEM {addr:#x}"
            )
        assert [zlib.crc32(lane.tobytes()) for lane in machine.lmem] == record.lane_crcs, f"record {index}, LMEM"
