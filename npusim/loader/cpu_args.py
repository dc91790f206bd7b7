"""Attributes of a CPU routine (schema: sophgo/tpu-mlir include/tpu_mlir/Builder/CV18xx/proto/parameter.fbs)."""

from __future__ import annotations

from flatbuffers import number_types as kinds

from npusim.loader.flatbuffer import Reader, Table

Attribute = int | float | bool | str | list[int] | list[float]


def parse_cpu_args(data: bytes) -> dict[str, Attribute]:
    """{attribute name: value}. Raises FileFormatError for damaged bytes. No bytes at all mean no attributes."""
    if not data:
        return {}
    root = Reader(data, "the CPU routine's arguments").root("Parameter")
    return dict(_attribute(table) for table in root.tables(0, "attributes"))


def _attribute(table: Table) -> tuple[str, Attribute]:
    # The vendor's runtime asks in this order and takes the first that is there (src/common/program.cpp,
    # handleFuncArgs).
    if entry := table.table(2, "int_attr"):
        return entry.required_string(0, "key"), int(entry.scalar(1, "value", kinds.Int32Flags))
    if entry := table.table(0, "float_attr"):
        return entry.required_string(0, "key"), float(entry.scalar(1, "value", kinds.Float32Flags, 0.0))
    if entry := table.table(1, "bool_attr"):
        return entry.required_string(0, "key"), bool(entry.scalar(1, "value", kinds.BoolFlags, False))
    if entry := table.table(3, "str_attr"):
        return entry.required_string(0, "key"), entry.required_string(1, "value")
    if entry := table.table(5, "int_array_attr"):
        return entry.required_string(0, "key"), entry.numbers(1, "value", "<i4").tolist()
    if entry := table.table(4, "float_array_attr"):
        return entry.required_string(0, "key"), entry.numbers(1, "value", "<f4").tolist()
    raise table.error("it holds no value of a known kind")
