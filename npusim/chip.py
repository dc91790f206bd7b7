"""The chips as frozen data. They differ in numbers and in a few missing features, and in nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from npusim.errors import UsageError


@dataclass(frozen=True)
class Chip:
    """One member of the CV18xx family.

    Source: the per-chip `*_tpu_cfg.h` of wwwuxy/cvikernel, unless said otherwise."""

    name: str
    magic: int
    """First byte of every command header."""
    num_lanes: int
    eu_num: int = 16
    """Execution units of a lane: 16 int8 or 8 bf16 elements are computed at once; LMEM rows are aligned to 16 bytes."""
    lmem_bytes: int = 32768
    """LMEM of one lane, in bytes."""
    num_lmem_banks: int = 8
    gmem_base: int = 0
    """What a descriptor adds to a physical GMEM offset: from this address on, the chip sees its DRAM."""
    gmem_bytes: int = 1 << 32
    clock_mhz: int = 500
    """TPU clock in the vendor's performance logs (sophgo/cviruntime scripts/evb)."""
    dma_vanish_exponent: int | None = None
    """The DMA turns bf16 numbers of at least two to this power into the integer 0 instead of saturating them
    (vendor's model)."""
    dmabuf_magic: int = 0x1822
    tiu_layout: str = "cv181x"
    missing: frozenset[str] = frozenset()
    """Features that this chip's cvikernel configuration does not define. An instruction that needs one is refused by
    name."""
    extra: frozenset[str] = frozenset()
    """What only this chip's functional model does. QM_DEPTHWISE_DILATION: per-channel depthwise convolution uses the
    dilation."""

    @property
    def lmem_total_bytes(self) -> int:
        """LMEM of all lanes, in bytes."""
        return self.num_lanes * self.lmem_bytes


CV180X = Chip("cv180x", 0xA8, num_lanes=2)
CV181X = Chip("cv181x", 0xA7, num_lanes=8)
CV182X = Chip("cv182x", 0xA6, num_lanes=8, clock_mhz=750)
CV183X = Chip(
    "cv183x",
    0xA5,
    num_lanes=32,
    gmem_base=1 << 32,
    clock_mhz=650,
    dma_vanish_exponent=64,
    dmabuf_magic=0x1835,
    tiu_layout="cv183x",
    missing=frozenset({"FC_OP1_CONST", "8B_ADD_SUB", "MIN_POOL", "M_BRADCAST", "QM_LSHIFT", "GE", "CMD_PRE_EXE"}),
    extra=frozenset({"QM_DEPTHWISE_DILATION"}),
)
CHIPS: tuple[Chip, ...] = (CV180X, CV181X, CV182X, CV183X)


def chip_named(name: str) -> Chip:
    """The chip called `name`, such as "cv181x". Raises UsageError, which lists the known names."""
    for chip in CHIPS:
        if chip.name == name:
            return chip
    raise UsageError(f"chip {name!r} is not known; known chips are {', '.join(c.name for c in CHIPS)}")
