"""A run of a language model on a simulated board, as text."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table

MIB = 1 << 20


def board_run_renderables(report: dict[str, Any]) -> list[RenderableType]:
    """Predicted speed, agreement with the float model, memory map."""
    ms = report["ms_per_token"]
    which = f"quest, {report['budget']}" if report["prunes"] else "all"
    parts: list[RenderableType] = [
        "",
        f"[bold]{report['board']}[/], {report['precision']}, attending to {which} of up to {report['context']} tokens: "
        f"[bold]{report['tokens_per_second']:.1f} tokens/s[/] predicted",
        f"  {ms['total']:.2f} ms a token: chip {ms['chip']:.2f}, CPU {ms['cpu']:.2f}, submit {ms['submit']:.2f}; "
        f"{report['binds']} binds; "
        f"{report['dram_bytes_per_token'] / 1e6:.2f} MB of DRAM a token; first token after "
        f"{report['ms_to_first_token']:.0f} ms",
    ]
    if report["kl"] is not None:
        parts.append(
            f"  against the float model on the same tokens: argmax the same in {report['argmax_agreement']:.1%}, "
            f"KL divergence {report['kl']:.4f} nats"
        )
    parts.append(f"  {len(report['tokens'])} tokens simulated in {report['simulated_s']:.1f} s")
    return [*parts, memory_table(report)]


def memory_table(report: dict[str, Any]) -> Table:
    """One line a region, and the sum against the board's ION memory."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (("memory", "left"), ("from", "right"), ("MiB", "right"), ("what", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in report["memory_map"]:
        addr = f"{row['addr']:#x}" if "addr" in row else ""
        table.add_row(row["name"], addr, f"{row['num_bytes'] / MIB:.2f}", row.get("what", ""))
    total = sum(row["num_bytes"] for row in report["memory_map"])
    table.add_row(
        "all", "", f"{total / MIB:.2f}", f"of {report['ion_bytes'] / MIB:.0f} MiB of ION memory", style="bold"
    )
    return table


def layer_table(layers: list[dict[str, Any]]) -> Table:
    """SQNR of each layer against the float model, of the worst token: accumulated, and on the chip's own inputs."""
    table = Table(box=None, pad_edge=False)
    for name in ("layer", "entire dB", "single dB"):
        table.add_column(name, justify="right")
    for row in layers:
        table.add_row(str(row["layer"]), f"{row['entire_db']:.1f}", f"{row['single_db']:.1f}")
    return table
