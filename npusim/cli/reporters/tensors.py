"""Tensors of a model as a table or as JSON rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from npusim.cli.printing import Grid
from npusim.runtime.tensor import TensorInfo


def tensor_rows(infos: Iterable[TensorInfo]) -> list[dict[str, Any]]:
    """JSON-ready rows."""
    return [
        {
            "name": info.name,
            "shape": list(info.shape),
            "dtype": info.format.name,
            "qscale": info.qscale,
            "zero_point": info.zero_point,
            "num_bytes": info.num_bytes,
            "pixel_format": info.pixel_format,
            "aligned": info.aligned,
            "mean": list(info.mean),
            "scale": list(info.scale),
        }
        for info in infos
    ]


def tensor_table(title: str, infos: Iterable[TensorInfo]) -> Grid:
    """One line a tensor."""
    numbers = ("qscale", "zero point", "bytes")
    table = Grid("name", "shape", "dtype", *numbers, title=title, right=numbers)
    for info in infos:
        quantised = info.format.name in ("INT8", "UINT8", "INT16", "UINT16")
        table.add_row(
            info.name,
            "x".join(map(str, info.shape)),
            info.format.name,
            f"{info.qscale:g}" if quantised else "",
            str(info.zero_point) if quantised else "",
            f"{info.num_bytes:,}",
        )
    return table
