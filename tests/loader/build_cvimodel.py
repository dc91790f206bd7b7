"""Writes cvimodels for tests with the flatbuffers library, from the same dataclasses that the loader gives."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import flatbuffers
import numpy as np

from npusim.loader.cpu_args import Attribute
from npusim.loader.cvimodel_types import CpuRoutine, DType, Program, SectionType, Tensor, TpuRoutine, Weight

_T = TypeVar("_T")


@dataclass(frozen=True)
class SectionData:
    """A section to be: its stored bytes, and what the file says of them."""

    kind: SectionType
    name: str
    data: bytes
    decompressed_bytes: int = 0
    encrypted: bool = False


@dataclass(frozen=True)
class ModelData:
    """A cvimodel to be."""

    chip: str
    programs: Sequence[Program]
    sections: Sequence[SectionData] = field(default_factory=tuple)
    weights: Sequence[Weight] = field(default_factory=tuple)
    version: tuple[int, int] = (1, 4)
    padding: bytes = b"Cv"


def tensor(
    name: str, shape: tuple[int, int, int, int], dtype: DType = DType.FP32, offset: int = -1, **changes: object
) -> Tensor:
    """A tensor with the defaults of a plain one in host memory."""
    values = dict(
        name=name, offset=offset, dtype=dtype, shape=shape, qscale=1.0, zero_point=0,
        overwritten=False,
        mean=(), scale=(), pixel_format="", aligned=False, aligned_bytes=0,
    )  # fmt: skip
    return Tensor(**(values | changes))  # type: ignore[arg-type]


def program(
    tensors: Sequence[Tensor],
    routines: Sequence[TpuRoutine | CpuRoutine],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Program:
    return Program(1, tuple(inputs), tuple(outputs), tuple(tensors), tuple(routines), 0, 4096, 4096)


def build_cvimodel(model: ModelData) -> bytes:
    """The file: header, description, sections."""
    description = _description(model)
    content = description + b"".join(section.data for section in model.sections)
    md5 = hashlib.md5(content, usedforsecurity=False).digest()
    header = struct.pack("<8sIBB16s", b"CviModel", len(description), *model.version, md5)
    if model.version[1] == 0:
        return header + b"\0\0" + content
    return header + struct.pack("<16s2s", model.chip.encode(), model.padding) + content


def cpu_args(attributes: Mapping[str, Attribute]) -> bytes:
    """Attributes of a CPU routine as parameter.fbs has them."""
    b = flatbuffers.Builder(256)

    def attribute(key: str, value: Attribute) -> int:
        kinds: list[tuple[type, int, Callable[[int], None] | None, Callable[[], int] | None]] = [
            (bool, 1, lambda _: b.PrependBoolSlot(1, bool(value), False), None),
            (int, 2, lambda _: b.PrependInt32Slot(1, int(value), 0), None),  # type: ignore[arg-type]
            (float, 0, lambda _: b.PrependFloat32Slot(1, float(value), 0.0), None),  # type: ignore[arg-type]
            (str, 3, None, lambda: b.CreateString(str(value))),
            (
                list,
                5 if isinstance(value, list) and all(isinstance(v, int) for v in value) else 4,
                None,
                lambda: _numbers(b, value),
            ),
        ]
        _, slot, put, make = next(kind for kind in kinds if isinstance(value, kind[0]))
        name, reference = b.CreateString(key), make() if make else 0
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, name, 0)
        if put:
            put(0)
        else:
            b.PrependUOffsetTRelativeSlot(1, reference, 0)
        entry = b.EndObject()
        b.StartObject(6)
        b.PrependUOffsetTRelativeSlot(slot, entry, 0)
        return b.EndObject()

    entries = _vector(b, [attribute(key, value) for key, value in attributes.items()])
    b.StartObject(1)
    b.PrependUOffsetTRelativeSlot(0, entries, 0)
    b.Finish(b.EndObject())
    return bytes(b.Output())


def _description(model: ModelData) -> bytes:
    b = flatbuffers.Builder(4096)
    offset, sections = 0, []
    for section in model.sections:
        sections.append(_section(b, section, offset))
        offset += len(section.data)
    programs = _tables(b, model.programs, _program)
    weights = _tables(b, model.weights, _weight)
    section_vector = _vector(b, sections)
    name, built, target = b.CreateString("test"), b.CreateString("never"), b.CreateString(model.chip)
    b.StartObject(10)
    b.Prep(1, 3)
    b.PrependUint8(0)
    b.PrependUint8(model.version[1])
    b.PrependUint8(model.version[0])
    b.PrependStructSlot(0, b.Offset(), 0)
    for slot, reference in ((1, name), (2, built), (5, weights), (6, programs), (7, section_vector), (8, target)):
        b.PrependUOffsetTRelativeSlot(slot, reference, 0)
    b.Finish(b.EndObject())
    return bytes(b.Output())


def _section(b: flatbuffers.Builder, section: SectionData, offset: int) -> int:
    name = b.CreateString(section.name)
    b.StartObject(7)
    b.PrependUint8Slot(0, section.kind, 0)
    b.PrependUOffsetTRelativeSlot(1, name, 0)
    b.PrependUint32Slot(2, len(section.data), 0)
    b.PrependUint32Slot(3, offset, 0)
    b.PrependBoolSlot(4, section.encrypted, False)
    b.PrependBoolSlot(5, section.decompressed_bytes > 0, False)
    b.PrependUint32Slot(6, section.decompressed_bytes, 0)
    return b.EndObject()


def _program(b: flatbuffers.Builder, p: Program) -> int:
    inputs, outputs = _strings(b, p.inputs), _strings(b, p.outputs)
    tensors = _tables(b, p.tensors, _tensor)
    routines = _tables(b, p.routines, _routine)
    b.StartObject(8)
    b.PrependUint32Slot(0, p.batch, 0)
    b.PrependUint32Slot(1, p.neuron_bytes, 0)
    for slot, reference in ((2, inputs), (3, outputs), (4, tensors), (5, routines)):
        b.PrependUOffsetTRelativeSlot(slot, reference, 0)
    b.PrependUint32Slot(6, p.shared_bytes, 0)
    b.PrependUint32Slot(7, p.private_bytes, 0)
    return b.EndObject()


def _tensor(b: flatbuffers.Builder, t: Tensor) -> int:
    name, shape, pixels = (
        b.CreateString(t.name),
        _shape(b, t.shape),
        b.CreateString(t.pixel_format) if t.pixel_format else 0,
    )
    scale, mean = (b.CreateNumpyVector(np.array(v, np.float32)) if v else 0 for v in (t.scale, t.mean))
    b.StartObject(5)
    b.PrependFloat32Slot(3, float(t.zero_point), 0.0)
    b.PrependFloat32Slot(4, t.qscale, 0.0)
    quant = b.EndObject()
    b.StartObject(13)
    b.PrependUOffsetTRelativeSlot(1, name, 0)
    b.PrependInt64Slot(2, t.offset, 0)
    b.PrependUint8Slot(3, t.dtype, 0)
    b.PrependUOffsetTRelativeSlot(4, shape, 0)
    b.PrependUOffsetTRelativeSlot(6, quant, 0)
    b.PrependBoolSlot(7, t.overwritten, False)
    for slot, reference in ((8, scale), (9, mean), (10, pixels)):
        b.PrependUOffsetTRelativeSlot(slot, reference, 0)
    b.PrependBoolSlot(11, t.aligned, False)
    b.PrependUint32Slot(12, t.aligned_bytes, 0)
    return b.EndObject()


def _weight(b: flatbuffers.Builder, w: Weight) -> int:
    name, shape = b.CreateString(w.name), _shape(b, w.shape)
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, name, 0)
    b.PrependInt64Slot(1, w.offset, 0)
    b.PrependUint32Slot(2, w.num_bytes, 0)
    b.PrependUOffsetTRelativeSlot(3, shape, 0)
    b.PrependUint8Slot(4, w.dtype, 0)
    return b.EndObject()


def _routine(b: flatbuffers.Builder, r: TpuRoutine | CpuRoutine) -> int:
    inputs, outputs = _strings(b, r.inputs), _strings(b, r.outputs)
    if isinstance(r, TpuRoutine):
        section = b.CreateString(r.section)
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, section, 0)
    else:
        function, args = b.CreateString(r.function), b.CreateByteVector(r.args)
        b.StartObject(2)
        b.PrependUOffsetTRelativeSlot(0, function, 0)
        b.PrependUOffsetTRelativeSlot(1, args, 0)
    body = b.EndObject()
    b.StartObject(5)
    b.PrependUint8Slot(0, int(isinstance(r, CpuRoutine)), 0)
    b.PrependUOffsetTRelativeSlot(1, inputs, 0)
    b.PrependUOffsetTRelativeSlot(2, outputs, 0)
    b.PrependUOffsetTRelativeSlot(4 if isinstance(r, CpuRoutine) else 3, body, 0)
    return b.EndObject()


def _shape(b: flatbuffers.Builder, shape: Sequence[int]) -> int:
    dims = b.CreateNumpyVector(np.array(shape, np.int64))
    b.StartObject(1)
    b.PrependUOffsetTRelativeSlot(0, dims, 0)
    return b.EndObject()


def _strings(b: flatbuffers.Builder, values: Sequence[str]) -> int:
    return _vector(b, [b.CreateString(value) for value in values])


def _numbers(b: flatbuffers.Builder, values: object) -> int:
    assert isinstance(values, list)
    return b.CreateNumpyVector(np.array(values, np.int32 if all(isinstance(v, int) for v in values) else np.float32))


def _tables(b: flatbuffers.Builder, items: Sequence[_T], write: Callable[[flatbuffers.Builder, _T], int]) -> int:
    """A vector of tables; an object that stands in it twice is written once."""
    distinct = {id(item): item for item in items}
    made = {key: write(b, item) for key, item in distinct.items()}
    return _vector(b, [made[id(item)] for item in items])


def _vector(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()
