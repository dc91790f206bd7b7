"""A profile as tables. Every figure carries its tag: = exact, ~ modelled, * calibrated."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table

_MARK = {"exact": "=", "modelled": "~", "calibrated": "*"}
LEGEND = "= exact, from the descriptors   ~ modelled   * calibrated on measured times (docs/timing.md says how far off)"
TOP = 12


def profile_renderables(data: dict[str, Any]) -> list[RenderableType]:
    """The whole report; `data` is what the command prints as JSON."""
    where = f"{data['tpu_mhz']:g} MHz, DRAM {data['dram_peak_gbps']:.2f} GB/s"
    parts: list[RenderableType] = [f"[bold]{data['name']}[/] on {data['board_title']}, {where}", _figures(data)]
    if data["gmem"]:
        parts.append(_gmem(data["gmem"]))
    parts.append(_shares(f"time by instruction {_MARK['calibrated']}", data["instructions"], "mnemonic"))
    layers = sorted(data["layers"], key=lambda row: -row["ms"])
    parts.append(
        _shares(f"slowest {min(TOP, len(layers))} of {len(layers)} layers {_MARK['calibrated']}", layers[:TOP], "layer")
    )
    parts.append(LEGEND)
    return parts


def _figures(data: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("")
    roof = data["roofline"]
    side = "DRAM's" if roof["macs_per_byte"] < roof["ridge"] else "the TIU's"
    rows = (
        ("time", "ms", f"{data['ms']:.3f} ms", f"{data['cycles']:,} TPU cycles; waits for: {data['bound']}"),
        ("TIU busy", "tiu_busy", f"{data['tiu_busy']:.1%}", f"{data['num_tiu']:,} commands"),
        ("TDMA busy", "tdma_busy", f"{data['tdma_busy']:.1%}", f"{data['num_tdma']:,} commands"),
        ("both at once", "overlap", f"{data['overlap']:.1%}", f"neither: {data['idle']:.1%}"),
        ("DRAM read", "dram_read_bytes", _bytes(data["dram_read_bytes"]), ""),
        ("DRAM written", "dram_write_bytes", _bytes(data["dram_write_bytes"]), ""),
        (
            "DRAM bandwidth",
            "dram_gbps",
            f"{data['dram_gbps']:.2f} GB/s",
            f"{data['dram_gbps'] / data['dram_peak_gbps']:.0%} of peak",
        ),
        ("multiply-accumulates", "macs", f"{data['macs']:,}", ""),
        (
            "MAC utilisation",
            "mac_utilisation",
            f"{data['mac_utilisation']:.1%}",
            "of an int8 convolution that never waits",
        ),
        ("roofline", "roofline", f"{roof['macs_per_byte']:.1f} MAC/byte", _roof(roof, side)),
        (
            "LMEM in use",
            "lmem_peak_bytes",
            _bytes(data["lmem_peak_bytes"]),
            f"highest address, of {_bytes(data['lmem_bytes'])}",
        ),
        ("LMEM wanted at once", "lmem_live_peak_bytes", _bytes(data["lmem_live_peak_bytes"]), "at the worst moment"),
    )
    for label, key, value, remark in rows:
        table.add_row(f"{label} {_MARK[data['tags'][key]]}", value, remark)
    return table


def _roof(roof: dict[str, float], side: str) -> str:
    reached = roof["macs_per_s"] / max(roof["roof_macs_per_s"], 1)
    return f"{side} side of the ridge at {roof['ridge']:.1f}; {reached:.0%} of the roof there"


def _gmem(gmem: dict[str, Any]) -> Table:
    table = _table(f"GMEM {_MARK['exact']}", "region", "size", "read", "written")
    for name, row in gmem.items():
        if any(row.values()):
            table.add_row(
                name, *(_bytes(row[key]) if key in row else "" for key in ("bytes", "read_bytes", "write_bytes"))
            )
    return table


def _shares(title: str, rows: list[dict[str, Any]], key: str) -> Table:
    table = _table(title, key, "count", "ms", "share", "", "TIU ms", "TDMA ms", "MACs", "DRAM bytes")
    for row in rows:
        bar = "█" * round(20 * row["share"])
        times = (f"{row['ms']:.3f}", f"{row['share']:.1%}", bar, f"{row['tiu_ms']:.3f}", f"{row['tdma_ms']:.3f}")
        table.add_row(str(row[key]), f"{row['count']:,}", *times, f"{row['macs']:,}", f"{row['dram_bytes']:,}")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in ("mnemonic", "region", "") else "right")
    return table


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
