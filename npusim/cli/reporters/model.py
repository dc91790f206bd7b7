"""What `npusim info` found, as tables."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table


def info_renderables(data: dict[str, Any]) -> list[RenderableType]:
    """The whole report; `data` is what the command prints as JSON."""
    origin = f"cvimodel {data['version']}, compiled {data['built']} by {data['compiler'] or 'unknown'}"
    parts: list[RenderableType] = [f"[bold]{data['name']}[/] for {data['chip']}, {origin}"]
    for program in data["programs"]:
        parts.append(
            f"program for batch {program['batch']}: {len(program['routines'])} routines, {program['num_tensors']} "
            "tensors, "
            f"shared memory {program['shared_bytes']:,} bytes, private {program['private_bytes']:,}"
        )
        parts.append(_tensors(program))
        parts += [
            f"  {routine['kind']} routine {routine.get('function') or routine.get('section')}"
            for routine in program["routines"]
        ]
    parts.append(_sections(data))
    parts += [_instructions(name, counts) for name, counts in data["instructions"].items()]
    return parts


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in ("bytes", "count", "qscale", "zero point") else "left")
    return table


def _tensors(program: dict[str, Any]) -> Table:
    table = _table("inputs and outputs", "", "name", "shape", "dtype", "qscale", "zero point", "bytes")
    for direction, rows in (("in", program["inputs"]), ("out", program["outputs"])):
        for row in rows:
            shape = "x".join(map(str, row["shape"]))
            table.add_row(
                direction,
                row["name"],
                shape,
                row["dtype"],
                f"{row['qscale']:g}",
                str(row["zero_point"]),
                f"{row['num_bytes']:,}",
            )
    return table


def _sections(data: dict[str, Any]) -> Table:
    table = _table("sections", "kind", "name", "bytes")
    for section in data["sections"]:
        size = f"{section['num_bytes']:,}"
        if section["decompressed_bytes"]:
            size += f" (lz4; {section['decompressed_bytes']:,} unpacked)"
        table.add_row(section["kind"], section["name"], size)
    return table


def _instructions(name: str, counts: dict[str, int]) -> Table:
    table = _table(f"{sum(counts.values()):,} instructions in {name}", "mnemonic", "count")
    for mnemonic, count in counts.items():
        table.add_row(mnemonic, f"{count:,}")
    return table
