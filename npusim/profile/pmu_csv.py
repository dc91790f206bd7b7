"""PMU files as the vendor's runtime writes them: `<name>_des.csv` with a row for each record, and `<name>_layer.csv`
with a row for each run of records of one layer.

On a board, TPU_PMUBUF_OUTPUT_FILE makes the runtime write them (sophgo/cviruntime src/soc/*/tpu_pmu.cpp). They do not
say how fast the clock is: times are TPU ticks, in 32 bits that wrap around."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from npusim.arrays import Ints
from npusim.errors import FileFormatError, UsageError
from npusim.profile.pmu import TDMA_FIELDS, LayerRecord, PmuRecords, PmuType, layer_records

_TICKS = 1 << 32
_HEAD = ("pmutype", "desID", "event0", "event1", "", "start", "duration", "end", "layerID", "desType")
_NUMBERS = ("pmutype", "desID", "event0", "event1", "start", "duration", "layerID")
_FIELDS = ("src_addr", "dst_addr", *TDMA_FIELDS)
"""Columns that follow _HEAD in a TDMA record."""
DES_HEADER = (*_HEAD, "srcAddr", "dstAddr", *TDMA_FIELDS)
LAYER_HEADER = (
    "layerID", "start", "duration", "end", "duration(%)", "parallelism(%)", "TIU(%)", "loadNeuron(%)",
    "loadWeight(%)", "storeNeuron(%)",
    "throughput(MB/s)", "last_tdmaID", "dumpStart", "dumpLen", "TIU", "loadNeuron", "loadWeight", "storeNeuron",
    "byteCnt",
)  # fmt: skip
_COLUMN_OF_LAYER = {
    "layer": "layerID", "start": "start", "ticks": "duration", "last_id": "last_tdmaID", "tiu": "TIU",
    "load_neuron": "loadNeuron", "load_weight": "loadWeight", "store_neuron": "storeNeuron", "num_bytes": "byteCnt",
}  # fmt: skip
_EXCEL_TYPE = {PmuType.LOAD: 1, PmuType.STORE: 2, PmuType.MOVE: 2, PmuType.TIU: 3}
MAX_RECORDS = 65535 * 6
"""The most lines that the vendor's runtime writes."""


def des_csv(records: PmuRecords) -> str:
    """`records` as the text of a `_des.csv`."""
    excel = np.array([_EXCEL_TYPE[kind] for kind in PmuType])
    start, end = records.start, records.end
    head = (
        *(records.kind, records.des_id, records.bursts, records.beats, excel[records.kind - 1]),
        *(start % _TICKS, end - start, end % _TICKS, records.layer),
    )
    columns = [column.tolist() for column in head]
    rows = list(map(("%d, " * len(head) + "%s").__mod__, zip(*columns, records.description, strict=True)))
    if records.tdma:
        # The vendor prints addresses in decimal, with 0x in front.
        template = ", 0x%d, 0x%d" + ", %d" * len(TDMA_FIELDS)
        at = np.flatnonzero(records.kind != PmuType.TIU)
        fields = zip(*(records.tdma[name][at].tolist() for name in _FIELDS), strict=True)
        for i, text in zip(at.tolist(), map(template.__mod__, fields), strict=True):
            rows[i] += text
    return "\n".join([", ".join(DES_HEADER), *rows]) + "\n"


def layer_csv(records: PmuRecords, clock_hz: float) -> str:
    """`records`, summed over runs of one layer, as the text of a `_layer.csv`. `clock_hz` is the TPU's clock, for the
    throughput."""
    layers = layer_records(records)
    total = max(sum(layer.ticks for layer in layers), 1)
    lines = [", ".join(LAYER_HEADER)]
    for layer in layers:
        ticks = max(layer.ticks, 1)
        shares = (layer.tiu, layer.load_neuron, layer.load_weight, layer.store_neuron)
        parallelism = max(100.0, (layer.tdma + layer.tiu) / ticks * 100)
        row = [
            *(str(v) for v in (layer.layer, layer.start % _TICKS, layer.ticks, layer.end % _TICKS)),
            *(f"{v:f}%" for v in (layer.ticks / total * 100, parallelism, *(share / ticks * 100 for share in shares))),
            f"{layer.num_bytes * clock_hz / ticks / 1048576:.2f}MB/s",
            *(str(v) for v in (layer.last_id, "0x0", "0x0", *shares, layer.num_bytes)),
        ]
        lines.append(", ".join(row))
    return "\n".join(lines) + "\n"


def read_pmu(path: Path) -> PmuRecords:
    """The records of a `_des.csv`. Raises UsageError if it cannot be read, and FileFormatError, with the line, if it is
    not such a file."""
    rows = _rows(path, DES_HEADER)
    numbers: list[list[int]] = []
    words: list[str] = []
    fields: list[list[int]] = []
    for line, row in rows:
        if len(row) not in (len(_HEAD), len(DES_HEADER)):
            raise FileFormatError(
                f"{path}, line {line}: {len(row)} columns; a record has {len(_HEAD)} (TIU) or {len(DES_HEADER)} (TDMA)"
            )
        numbers.append([_number(path, line, row[_HEAD.index(name)]) for name in _NUMBERS])
        if numbers[-1][0] not in list(PmuType):
            raise FileFormatError(
                f"{path}, line {line}: pmutype is {numbers[-1][0]}; it must be 1 (load), 2 (store), 3 (move) or 4 (TIU)"
            )
        words.append(row[len(_HEAD) - 1])
        addressed = [_number(path, line, text.removeprefix("0x")) for text in row[len(_HEAD) :]]
        fields.append(addressed or [0] * len(_FIELDS))
    kind, des_id, bursts, beats, start, duration, layer = np.array(numbers, np.int64).reshape(-1, len(_NUMBERS)).T
    table = np.array(fields, np.int64).reshape(len(numbers), -1)
    columns = {name: table[:, i] for i, name in enumerate(_FIELDS)} if numbers else {}
    start = _unwrapped(start)
    return PmuRecords(
        kind=kind,
        des_id=des_id,
        bursts=bursts,
        beats=beats,
        start=start,
        end=start + duration,
        layer=layer,
        description=tuple(words),
        tdma=columns,
    )


def read_layers(path: Path) -> list[LayerRecord]:
    """The rows of a `_layer.csv`. Raises what read_pmu raises."""
    out = []
    for line, row in _rows(path, LAYER_HEADER):
        if len(row) != len(LAYER_HEADER):
            raise FileFormatError(f"{path}, line {line}: {len(row)} columns; a layer has {len(LAYER_HEADER)}")
        found = {
            name: _number(path, line, row[LAYER_HEADER.index(column)]) for name, column in _COLUMN_OF_LAYER.items()
        }
        end = found["start"] + found.pop("ticks")
        moved = sum(found[name] for name in ("load_neuron", "load_weight", "store_neuron"))
        out.append(LayerRecord(**found, end=end, tdma=moved))
    return out


def is_layer_csv(path: Path) -> bool:
    """Whether the file at `path` begins like a `_layer.csv`. Raises what read_pmu raises."""
    return _text(path).split("\n", 1)[0].split(",")[0].strip() == LAYER_HEADER[0]


def _rows(path: Path, header: Sequence[str]) -> list[tuple[int, list[str]]]:
    lines = _text(path).splitlines()
    if not lines or [cell.strip() for cell in lines[0].split(",")] != list(header):
        raise FileFormatError(
            f"{path} does not begin with the header of the runtime's PMU file ({', '.join(header[:4])}, ...); give a "
            "_des.csv or _layer.csv"
        )
    if len(lines) > MAX_RECORDS:
        raise FileFormatError(f"{path} has {len(lines)} lines; the runtime writes at most {MAX_RECORDS}")
    return [(i, [cell.strip() for cell in line.split(",")]) for i, line in enumerate(lines[1:], 2) if line.strip()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise FileFormatError(
            f"{path} is not text: give a _des.csv or _layer.csv of the runtime or of `npusim profile --pmu`"
        ) from None


def _number(path: Path, line: int, text: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise FileFormatError(f"{path}, line {line}: {text!r} is not a whole number")
    return int(text)


def _unwrapped(ticks: Ints) -> Ints:
    """`ticks`, which wrap around at 2**32, as numbers that go on rising."""
    steps = np.diff(ticks, prepend=ticks[:1])
    rounds: Ints = np.cumsum(steps < -(_TICKS // 2)) - np.cumsum(steps > _TICKS // 2)
    return ticks + rounds * _TICKS
