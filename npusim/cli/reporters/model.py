"""What `npusim info` found, as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from npusim.board import board_named
from npusim.cli.printing import Grid, Printable, bold


def info_renderables(data: dict[str, Any]) -> list[Printable]:
    """The whole report; `data` is what the command prints as JSON."""
    compiler = data["compiler"] or "an unnamed compiler"
    origin = f"cvimodel {data['version']}, compiled {data['built']} by {compiler}"
    parts: list[Printable] = [bold(data["name"], f" for {data['chip']}, {origin}")]
    several = len(data["programs"]) > 1
    if several:
        parts.append(
            f"{len(data['programs'])} programs, one for each batch size; --program N of run and profile selects one"
        )
    for number, program in enumerate(data["programs"]):
        parts += _program(f"program {number}" if several else "program", program)
    parts.append(_sections(data))
    if names := [s["name"] for s in data["sections"] if s["encrypted"]]:
        parts.append(f"encrypted for the chip's secure world, cannot be read here: {', '.join(names)}")
    parts += [_instructions(name, counts) for name, counts in data["instructions"].items()]
    return parts


def _program(title: str, program: dict[str, Any]) -> Iterator[Printable]:
    types = ", ".join(f"{count} {name}" for name, count in program["tensor_types"].items())
    yield f"{title} for batch {program['batch']}: {len(program['routines'])} routines, tensors: {types}"
    ion = program["ion_bytes"]
    parts = ", ".join(f"{name} {ion[name]:,}" for name in ion if name != "total")
    yield f"  ION {ion['total']:,} bytes ({ion['total'] / (1 << 20):.2f} MiB): {parts}"
    for word, wanted in (("fits", True), ("does not fit", False)):
        boards = [board_named(name) for name, fits in program["fits"].items() if fits == wanted]
        if boards:
            yield f"  {word}: " + ", ".join(f"{b.name} ({b.ion_bytes >> 20} MiB of ION)" for b in boards)
    if not program["fits"]:
        yield "  whether it fits is not known: the ION memory of boards with this chip is not published"
    yield _tensors(program)
    for row in program["inputs"]:
        if row["pixel_format"] or row["mean"]:
            yield f"  {row['name']} takes {_pixels(row)}"
    for routine in program["routines"]:
        yield f"  {routine['kind']} routine {routine.get('function') or routine.get('section')}"


def _pixels(row: dict[str, Any]) -> str:
    """The pixels that an input takes; `mean` and `scale` have one number for each channel."""
    words = f"{row['pixel_format'] or 'unnamed'} pixels, aligned: {'yes' if row['aligned'] else 'no'}"
    for name in ("mean", "scale"):
        if row[name]:
            words += f", {name} " + " ".join(f"{value:g}" for value in row[name])
    return words


def _tensors(program: dict[str, Any]) -> Grid:
    table = Grid(
        *("", "name", "shape", "dtype", "qscale", "zero point", "bytes"),
        title="inputs and outputs",
        right=("bytes", "qscale", "zero point"),
    )
    for direction, rows in (("in", program["inputs"]), ("out", program["outputs"])):
        for row in rows:
            shape = "x".join(map(str, row["shape"]))
            numbers = (f"{row['qscale']:g}", str(row["zero_point"]), f"{row['num_bytes']:,}")
            table.add_row(direction, row["name"], shape, row["dtype"], *numbers)
    return table


def _sections(data: dict[str, Any]) -> Grid:
    table = Grid("kind", "name", "bytes", title="sections", right=("bytes",))
    for section in data["sections"]:
        size = f"{section['num_bytes']:,}"
        if section["decompressed_bytes"]:
            size += f" (lz4; {section['decompressed_bytes']:,} unpacked)"
        table.add_row(section["kind"], section["name"], size + " (encrypted)" * section["encrypted"])
    return table


def _instructions(name: str, counts: dict[str, int]) -> Grid:
    table = Grid("mnemonic", "count", title=f"{sum(counts.values()):,} instructions in {name}", right=("count",))
    for mnemonic, count in counts.items():
        table.add_row(mnemonic, f"{count:,}")
    return table
