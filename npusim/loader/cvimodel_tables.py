"""From the FlatBuffers description of a .cvimodel to its dataclasses.

Slots are the declaration order of cvimodel.fbs."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TypeVar

from flatbuffers import number_types as kinds

from npusim.chip import Chip
from npusim.loader.cvimodel_types import (
    CpuRoutine,
    Cvimodel,
    DType,
    Program,
    Section,
    SectionType,
    Tensor,
    TpuRoutine,
    Weight,
)
from npusim.loader.file_bytes import FileBytes
from npusim.loader.flatbuffer import Reader, Table

_MAX_TENSOR_BYTES = 1 << 32
_E = TypeVar("_E", bound=IntEnum)


def read_model(chip: Chip, description: memoryview, payload: memoryview | FileBytes) -> Cvimodel:
    """Reads table Model. Raises FileFormatError where it leaves the description or breaks the schema."""
    root = Reader(description, "the model description").root("Model")
    programs = tuple(_program(table) for table in root.tables(6, "programs"))
    if not programs:
        raise root.error("programs is empty, so there is nothing to run")
    version = root.struct(0, "version", 3)
    return Cvimodel(
        chip=chip,
        version=(version[0], version[1], version[2]),
        name=root.required_string(1, "name"),
        build_time=root.string(2, "build_time") or "",
        mlir_version=root.string(9, "mlir_version") or "",
        programs=programs,
        weights=tuple(weight for table in root.tables(5, "weight_map") if (weight := _weight(table))),
        sections=tuple(_section(table) for table in root.tables(7, "sections")),
        payload=payload,
    )


def _section(table: Table) -> Section:
    compressed = bool(table.scalar(5, "compress", kinds.BoolFlags))
    return Section(
        kind=_enum(table, 0, "type", SectionType),
        name=table.required_string(1, "name"),
        num_bytes=int(table.scalar(2, "size", kinds.Uint32Flags)),
        offset=int(table.scalar(3, "offset", kinds.Uint32Flags)),
        encrypted=bool(table.scalar(4, "encrypt", kinds.BoolFlags)),
        decompressed_bytes=int(table.scalar(6, "decompressed_size", kinds.Uint32Flags)) if compressed else 0,
    )


def _weight(table: Table) -> Weight | None:
    """A weight that CPU routines can name, which needs a name and a shape; else None."""
    name, shape = table.string(0, "name"), table.table(3, "shape")
    if name is None or shape is None:
        return None
    dtype = _enum(table, 4, "type", DType)
    return Weight(
        name=name,
        offset=int(table.scalar(1, "offset", kinds.Int64Flags)),
        num_bytes=int(table.scalar(2, "size", kinds.Uint32Flags)),
        dtype=dtype,
        shape=_shape(shape, name, dtype),
    )


def _tensor(table: Table) -> Tensor:
    name = table.required_string(1, "name")
    dtype = _enum(table, 3, "dtype", DType)
    quant = table.table(6, "quant")
    return Tensor(
        name=name,
        offset=int(table.scalar(2, "offset", kinds.Int64Flags)),
        dtype=dtype,
        shape=_shape(table.required_table(4, "shape"), name, dtype),
        qscale=_finite(quant, 4, "qscale") if quant else 1.0,
        zero_point=int(_finite(quant, 3, "zero_point")) if quant else 0,
        overwritten=bool(table.scalar(7, "overwrote", kinds.BoolFlags)),
        scale=tuple(table.numbers(8, "scale", "<f4").tolist()),
        mean=tuple(table.numbers(9, "mean", "<f4").tolist()),
        pixel_format=table.string(10, "pixel_format") or "",
        aligned=bool(table.scalar(11, "aligned", kinds.BoolFlags)),
        aligned_bytes=int(table.scalar(12, "size", kinds.Uint32Flags)),
    )


def _shape(table: Table, name: str, dtype: DType) -> tuple[int, int, int, int]:
    dims = tuple(table.numbers(0, "dim", "<i8").tolist())
    if len(dims) != 4 or min(dims) < 1:
        raise table.error(f"tensor {name!r} has shape {dims}, but the chips' tensors have four dimensions of 1 or more")
    if math.prod(dims) * dtype.numpy.itemsize > _MAX_TENSOR_BYTES:
        raise table.error(
            f"tensor {name!r} of shape {dims} and type {dtype.name} is larger than the 4 GiB that a chip can address"
        )
    return dims


def _program(table: Table) -> Program:
    program = Program(
        batch=int(table.scalar(0, "batch_num", kinds.Uint32Flags)),
        neuron_bytes=int(table.scalar(1, "neuron_size", kinds.Uint32Flags)),
        inputs=tuple(table.strings(2, "input_tensors")),
        outputs=tuple(table.strings(3, "output_tensors")),
        tensors=tuple(_tensor(t) for t in table.tables(4, "tensor_map")),
        routines=tuple(_routine(t) for t in table.tables(5, "routines")),
        shared_bytes=int(table.scalar(6, "shared_gmem", kinds.Uint32Flags)),
        private_bytes=int(table.scalar(7, "private_gmem", kinds.Uint32Flags)),
    )
    known = {tensor.name for tensor in program.tensors}
    for name in (*program.inputs, *program.outputs):
        if name not in known:
            raise table.error(f"it takes or gives tensor {name!r}, which its tensor_map lacks")
    return program


def _routine(table: Table) -> TpuRoutine | CpuRoutine:
    inputs, outputs = tuple(table.strings(1, "in_tensors")), tuple(table.strings(2, "out_tensors"))
    kind = int(table.scalar(0, "type", kinds.Uint8Flags))
    if kind == 0:
        tpu = table.required_table(3, "tpu_routine")
        section = tpu.string(0, "cmdbuf_section") or tpu.string(1, "dmabuf_section")
        if not section:
            raise tpu.error("it names neither a cmdbuf section nor a dmabuf section")
        return TpuRoutine(inputs, outputs, section)
    if kind != 1:
        raise table.error(f"type is {kind}, but a routine is 0 (TPU) or 1 (CPU)")
    cpu = table.required_table(4, "cpu_routine")
    return CpuRoutine(
        inputs, outputs, cpu.required_string(0, "function_section"), cpu.numbers(1, "function_args", "u1").tobytes()
    )


def _enum(table: Table, slot: int, name: str, kind: type[_E]) -> _E:
    value = int(table.scalar(slot, name, kinds.Uint8Flags))
    if value not in kind.__members__.values():
        raise table.error(f"{name} is {value}, but known values are {', '.join(f'{m.value} ({m.name})' for m in kind)}")
    return kind(value)


def _finite(table: Table, slot: int, name: str) -> float:
    value = float(table.scalar(slot, name, kinds.Float32Flags, 0.0))
    if not math.isfinite(value):
        raise table.error(f"{name} is {value}, but it must be a finite number")
    return value
