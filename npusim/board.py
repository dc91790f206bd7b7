"""Boards as frozen data: a chip at a clock, its DRAM, its host CPU and its storage, with the sources of the figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from npusim.chip import CV180X, CV181X, CV182X, CV183X, Chip
from npusim.errors import UsageError

MIB = 1 << 20


@dataclass(frozen=True)
class Dram:
    """One DRAM interface. Its peak bandwidth is transfers per second times the width of the bus."""

    kind: str
    """"DDR2", "DDR3"."""
    mega_transfers: float
    """Million transfers per second on each pin."""
    bus_bytes: int
    num_bytes: int
    """Capacity in bytes; 0 where it is not known."""

    @property
    def peak_gbps(self) -> float:
        """Peak bandwidth in GB/s (10**9 bytes per second), which is also bytes per nanosecond."""
        return self.mega_transfers * self.bus_bytes / 1000


@dataclass(frozen=True)
class Host:
    """The CPU beside the TPU, and the storage that it reads from.

    Speeds are in bytes per second, 0 where nobody has published one."""

    cpu: str = "C906B"
    cpu_mhz: int = 850
    """What the boot loader programs in normal mode (sophgo/fsbl plat/*/platform.c); kernels may raise it to 1000."""
    copy_bytes_per_s: float = 753e6
    """memcpy into ION memory."""
    read_bytes_per_s: float = 2200e6
    """Cached reads from ION memory."""
    storage: str = "microSD"
    storage_bytes_per_s: float = 21.2e6
    """Sequential reads."""
    submit_us: float = 115.0
    """Microseconds to start a command buffer that was prepared before and to wait for its end, without the TPU's own
    time."""
    forward_us: float = 200.0
    """Microseconds of one call of the runtime's forward without the TPU's time and that of CPU routines: published
    times of three short networks exceed the TPU's by 173, 208 and 232 (docs/timing.md)."""


@dataclass(frozen=True)
class Board:
    """What a program runs on: all that timing and capacity need to know."""

    name: str
    title: str
    chip: Chip
    tpu_mhz: float
    dram: Dram
    ion_bytes: int
    """Memory that the TPU's buffers can take, in bytes; 0 where it is not known."""
    host: Host = field(default_factory=Host)
    sources: tuple[str, ...] = ()
    other_mhz: float | None = None
    """Another TPU clock that boards of this name may run at; which one is for the reader to find out."""
    dram_gbps: float | None = None
    """Peak bandwidth to assume instead of the DRAM's own, in GB/s; set by `variant`."""

    @property
    def peak_gbps(self) -> float:
        """Peak DRAM bandwidth in GB/s."""
        return self.dram.peak_gbps if self.dram_gbps is None else self.dram_gbps

    @property
    def tick_ps(self) -> float:
        """Picoseconds of one TPU cycle."""
        return 1e6 / self.tpu_mhz

    @property
    def peak_macs_per_s(self) -> float:
        """int8 multiply-accumulates per second of a convolution that never waits: two in each EU and cycle."""
        return self.chip.num_lanes * self.chip.eu_num * 2 * self.tpu_mhz * 1e6

    def variant(
        self,
        *,
        clock_mhz: float | None = None,
        lanes: int | None = None,
        lmem_bytes: int | None = None,
        dram_gbps: float | None = None,
        banks: int | None = None,
    ) -> Board:
        """The same board with other figures; None keeps the board's own.

        They are the TPU clock (MHz), the number of lanes, the LMEM of a lane (bytes), the peak DRAM bandwidth (GB/s)
        and the number of LMEM banks of a lane. The DRAM keeps its own clock, and banks keep their size where LMEM
        grows. Raises UsageError for a value that no such chip could have.

        Whether a given program still means the same there is for `npusim.timing.require_runs` to say."""
        chip = self.chip
        for name, value in (("clock_mhz", clock_mhz), ("dram_gbps", dram_gbps)):
            if value is not None and not 0 < value < 1e6:
                raise UsageError(f"{name} is {value}; it must be above 0 and below 1000000")
        changes: dict[str, int] = {}
        limits = (
            ("lanes", lanes, "num_lanes", 512),
            ("lmem_bytes", lmem_bytes, "lmem_bytes", MIB),
            ("banks", banks, "num_lmem_banks", 32),
        )
        for name, value, attribute, limit in limits:
            if value is None:
                continue
            if value < 1 or value > limit or value & (value - 1):
                raise UsageError(f"{name} is {value}; it must be a power of two from 1 to {limit}")
            changes[attribute] = value
        if lmem_bytes and not banks:
            changes["num_lmem_banks"] = max(chip.num_lmem_banks * lmem_bytes // chip.lmem_bytes, 1)
        if changes:
            chip = replace(chip, **changes)  # type: ignore[arg-type]
        if chip.lmem_bytes < chip.num_lmem_banks * chip.eu_num:
            raise UsageError(
                f"{chip.lmem_bytes} bytes of LMEM cannot be cut into {chip.num_lmem_banks} banks of "
                f"{chip.eu_num} bytes or more"
            )
        return replace(
            self,
            chip=chip,
            tpu_mhz=self.tpu_mhz if clock_mhz is None else clock_mhz,
            other_mhz=self.other_mhz if clock_mhz is None else None,
            dram_gbps=self.dram_gbps if dram_gbps is None else dram_gbps,
        )


_DDR2 = Dram("DDR2", 1333, 2, 64 * MIB)
_FSBL = "DRAM: sophgo/fsbl ddr_pkg_info.c and the board's ddr configuration in milkv-duo/duo-buildroot-sdk"
_SG2002_CLOCK = (
    "clock: scripts/fip_v2.mk of sophgo/build, sipeed/LicheeRV-Nano-Build and milkv-duo/duo-buildroot-sdk-v2 sets "
    "TPU_PERF_MODE (TPLL 1400/2) for sg2002 and cv1812cp; that of milkv-duo/duo-buildroot-sdk @75a1b20 does not, which "
    "leaves 500 MHz"
)
_NORMAL_CLOCK = "clock: sophgo/fsbl plat/cv181x/platform.c, FPLL 1500/3"
_MEASURED = (
    "host speeds: measured on a CV1800B (YorHamodelnumbernine ...-milkv-duo-64m-LLM-deploy); assumed for the rest "
    "of the family"
)


def _ddr3(num_bytes: int) -> Dram:
    return Dram("DDR3", 1866, 2, num_bytes)


MILKV_DUO = Board(
    name="duo",
    title="Milk-V Duo (CV1800B)",
    chip=CV180X,
    tpu_mhz=500,
    dram=_DDR2,
    ion_bytes=24 * MIB,
    sources=(
        _FSBL,
        "clock: sophgo/fsbl plat/cv180x/platform.c (the QFN68 package has no over-drive mode)",
        "ION: 24 to 28.1 MiB in later images, 16 MiB in one stored memmap.py",
        _MEASURED,
    ),
)
MILKV_DUO_256M = Board(
    name="duo256m",
    title="Milk-V Duo 256M (SG2002)",
    chip=CV181X,
    tpu_mhz=700,
    other_mhz=500,
    dram=_ddr3(256 * MIB),
    ion_bytes=75 * MIB,
    sources=(_FSBL, _SG2002_CLOCK, "ION: sophgo/build boards, cv1812cp_sophpi_duo", _MEASURED),
)
MILKV_DUO_S = Board(
    name="duos",
    title="Milk-V Duo S (SG2000)",
    chip=CV181X,
    tpu_mhz=500,
    dram=_ddr3(512 * MIB),
    ion_bytes=70 * MIB,
    sources=(_FSBL, _NORMAL_CLOCK, "ION: 70 MiB in duo-buildroot-sdk-v2 (170 MiB in the first SDK)", _MEASURED),
)
LICHEERV_NANO = Board(
    name="licheerv-nano",
    title="Sipeed LicheeRV Nano (SG2002), as in MaixCAM",
    chip=CV181X,
    tpu_mhz=700,
    other_mhz=500,
    dram=_ddr3(256 * MIB),
    ion_bytes=75 * MIB,
    sources=(_FSBL, _SG2002_CLOCK, "ION: the SDK's default for 256 MiB", _MEASURED),
)
RECAMERA = Board(
    name="recamera",
    title="Seeed reCamera (SG2002)",
    chip=CV181X,
    tpu_mhz=700,
    other_mhz=500,
    dram=_ddr3(256 * MIB),
    ion_bytes=75 * MIB,
    host=Host(storage="eMMC", storage_bytes_per_s=0.0),
    sources=(_FSBL, _SG2002_CLOCK, "ION: the SDK's default for 256 MiB; no storage speed is published", _MEASURED),
)
_TABLES = "clock: the PMU's in sophgo/cviruntime scripts/evb/best_performance_*.csv"
CV180X_EVB = Board(
    name="cv180x-evb",
    title="vendor's CV180x evaluation board",
    chip=CV180X,
    tpu_mhz=500,
    dram=_DDR2,
    ion_bytes=27787264,
    sources=(_TABLES, _FSBL, _MEASURED),
)
CV181X_EVB = Board(
    name="cv181x-evb",
    title="vendor's CV181x evaluation board",
    chip=CV181X,
    tpu_mhz=500,
    dram=_ddr3(256 * MIB),
    ion_bytes=75 * MIB,
    sources=(_TABLES, _FSBL, _MEASURED),
)
CV182X_EVB = Board(
    name="cv182x-evb",
    title="vendor's CV182x evaluation board",
    chip=CV182X,
    tpu_mhz=750,
    dram=_ddr3(0),
    ion_bytes=0,
    host=Host("Cortex-A53", 0, storage_bytes_per_s=0.0),
    sources=(
        _TABLES,
        "DRAM: not published; x16 at 1866 MT/s agrees with the published times, the profiler's 7.5 GB/s does not",
    ),
)
CV183X_EVB = Board(
    name="cv183x-evb",
    title="vendor's CV183x evaluation board",
    chip=CV183X,
    tpu_mhz=650,
    dram=Dram("DDR3 or DDR4", 1886, 4, 0),
    ion_bytes=0,
    host=Host("Cortex-A53", 0, storage_bytes_per_s=0.0),
    sources=(
        _TABLES,
        "DRAM: 1886 MT/s on 4 bytes in CV18xx_profiling.cpp of sophgo/tpu-mlir; a PMU trace reaches 88 % of it",
    ),
)
BOARDS: tuple[Board, ...] = (
    MILKV_DUO,
    MILKV_DUO_256M,
    MILKV_DUO_S,
    LICHEERV_NANO,
    RECAMERA,
    CV180X_EVB,
    CV181X_EVB,
    CV182X_EVB,
    CV183X_EVB,
)


def board_named(name: str) -> Board:
    """The board called `name`, such as "duo". Raises UsageError, which lists the known names."""
    for board in BOARDS:
        if board.name == name:
            return board
    raise UsageError(f"board {name!r} is not known; known boards are {', '.join(b.name for b in BOARDS)}")


def default_board(chip: Chip) -> Board:
    """The vendor's evaluation board of `chip`. The published times are from these boards."""
    return next(board for board in BOARDS if board.chip.name == chip.name and board.name.endswith("-evb"))
