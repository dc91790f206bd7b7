"""A profile as tables. Every figure carries its tag: = exact, ~ modelled, * calibrated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from npusim.cli.printing import Grid, Printable, bold
from npusim.profile import Profile
from npusim.profile.gmem import RegionTraffic
from npusim.profile.report import TAG_OF
from npusim.profile.roofline import Roofline
from npusim.profile.shares import TimeShare
from npusim.timing.timeline import PS_PER_MS

_MARK = {"exact": "=", "modelled": "~", "calibrated": "*"}
LEGEND = "= exact, from the descriptors   ~ modelled   * calibrated on measured times (docs/timing.md says how far off)"
TOP = 12


def profile_renderables(profile: Profile) -> list[Printable]:
    """The whole report."""
    board, layers = profile.timeline.board, profile.layers
    where = f"{board.tpu_mhz:g} MHz, DRAM {board.peak_gbps:.2f} GB/s"
    slowest, named = (sorted(shares, key=lambda share: -share.ps)[:TOP] for shares in (layers, profile.tensors))
    named_title = f"slowest {len(named)} of {len(profile.tensors)} tensors of the file {_mark('tensors')}"
    programs = 1 if profile.model is None else len(profile.model.programs)
    which = f", program {profile.program} of {programs}," if programs > 1 else ""
    return [
        bold(profile.name, f"{which} on {board.title}, {where}"),
        _figures(profile),
        _gmem(profile.gmem),
        _shares(f"time by instruction {_mark('instructions')}", profile.instructions, "mnemonic"),
        *([_shares(named_title, named, "tensor")] if named else []),
        _shares(f"slowest {len(slowest)} of {len(layers)} layers {_mark('layers')}", slowest, "layer"),
        LEGEND,
    ]


def _figures(profile: Profile) -> Grid:
    table = Grid("label", "value", "remark", right=("value",), show_header=False)
    for label, figure, value, remark in (*_times(profile), *_memory(profile)):
        table.add_row(f"{label} {_mark(figure)}", value, remark)
    return table


def _times(profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    """(label, name of the figure in the report, value, remark) of figures about time and DRAM."""
    t = profile.timeline
    share = t.dram_gbps / t.board.peak_gbps
    yield from _host(profile)
    yield "TPU time", "ms", f"{t.ms:.3f} ms", f"{round(t.cycles):,} TPU cycles; waits for: {profile.bound}"
    if (other := profile.other_clock) is not None:
        open_clock = "boards of this name run at either clock; docs/timing.md says how to find out which"
        yield f"  at {other.board.tpu_mhz:g} MHz", "other_clock", f"{other.ms:.3f} ms", open_clock
    yield "TIU busy", "tiu_busy", f"{t.tiu_busy:.1%}", f"{len(t.workload.tiu):,} commands"
    yield "TDMA busy", "tdma_busy", f"{t.tdma_busy:.1%}", f"{len(t.workload.tdma):,} commands"
    yield "both at once", "overlap", f"{t.overlap:.1%}", f"neither: {profile.idle:.1%}"
    yield "DRAM read", "dram_read_bytes", _bytes(t.dram_read_bytes), ""
    yield "DRAM written", "dram_write_bytes", _bytes(t.dram_write_bytes), ""
    yield "DRAM bandwidth", "dram_gbps", f"{t.dram_gbps:.2f} GB/s", f"{share:.0%} of peak"


def _host(profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    """The same of a whole forward, and of its parts beside the TPU's time."""
    host, total = profile.host, profile.total_ms
    names = Counter(routine.function for routine in host.routines)
    what = ", ".join(f"{count} {name}" for name, count in names.items()) or "none in this program"
    whole = "not known" if total is None else f"{total:.3f} ms"
    yield "one forward", "total_ms", whole, "TPU, CPU routines and runtime"
    cpu = "not known" if host.cpu_ps is None else f"{host.cpu_ps / PS_PER_MS:.3f} ms"
    yield "CPU routines", "cpu_ms", cpu, what
    yield "runtime", "runtime_ms", f"{host.runtime_ps / PS_PER_MS:.3f} ms", "submits, waits, flushes caches"


def _memory(profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    """The same of figures about arithmetic and LMEM."""
    t, roof = profile.timeline, profile.roofline
    used, there = _bytes(t.lmem_peak_bytes), _bytes(t.workload.chip.lmem_total_bytes)
    never_waits = "of an int8 convolution that never waits"
    yield "multiply-accumulates", "macs", f"{t.workload.macs:,}", ""
    yield "MAC utilisation", "mac_utilisation", f"{t.mac_utilisation:.1%}", never_waits
    yield "roofline", "roofline", f"{roof.macs_per_byte:.1f} MAC/byte", _roof(roof)
    yield "LMEM in use", "lmem_peak_bytes", used, f"highest address, of {there}"
    yield "LMEM wanted at once", "lmem_live_peak_bytes", _bytes(profile.lmem.peak_bytes), "at the worst moment"


def _roof(roof: Roofline) -> str:
    side = "DRAM's" if roof.macs_per_byte < roof.ridge else "the TIU's"
    reached = roof.macs_per_s / max(roof.roof_macs_per_s, 1)
    return f"{side} side of the ridge at {roof.ridge:.1f}; {reached:.0%} of the roof there"


def _gmem(regions: Sequence[RegionTraffic]) -> Grid:
    table = _table(f"GMEM {_mark('gmem')}", "region", "size", "read", "written")
    for region in regions:
        counts = (region.num_bytes, region.read_bytes, region.write_bytes)
        if any(counts):
            table.add_row(region.name, *("" if count is None else _bytes(count) for count in counts))
    return table


def _shares(title: str, shares: Sequence[TimeShare], kind: str) -> Grid:
    named = any(s.tensor for s in shares)
    for_tensor = ("for tensor",) if named else ()
    table = _table(title, kind, "count", "ms", "share", "", "TIU ms", "TDMA ms", "MACs", "DRAM bytes", *for_tensor)
    for s in shares:
        bar = "█" * round(20 * s.share)
        times = (f"{s.ms:.3f}", f"{s.share:.1%}", bar, f"{s.tiu_ms:.3f}", f"{s.tdma_ms:.3f}")
        row = (s.name, f"{s.num_commands:,}", *times, f"{s.macs:,}", f"{s.dram_bytes:,}")
        table.add_row(*row, *((s.tensor,) if named else ()))
    return table


def _table(title: str, *columns: str) -> Grid:
    return Grid(*columns, title=title, right=set(columns) - {"mnemonic", "region", "tensor", "for tensor", ""})


def _mark(figure: str) -> str:
    return _MARK[TAG_OF[figure]]


def _bytes(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return f"{count} B"
