"""What a .cvimodel describes, as frozen data.

Schema: sophgo/tpu-mlir include/tpu_mlir/Builder/CV18xx/proto/cvimodel.fbs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from npusim.chip import Chip
from npusim.errors import FileFormatError
from npusim.loader.file_bytes import FileBytes


class DType(IntEnum):
    """Element types of a cvimodel."""

    FP32 = 0
    INT32 = 1
    UINT32 = 2
    BF16 = 3
    INT16 = 4
    UINT16 = 5
    INT8 = 6
    UINT8 = 7

    @property
    def numpy(self) -> np.dtype:
        """NumPy type of arrays of this type. bf16 is held as its bits in uint16, as in the vendor's Python binding."""
        return np.dtype(("<f4", "<i4", "<u4", "<u2", "<i2", "<u2", "i1", "u1")[self])


class SectionType(IntEnum):
    """What a section of the file holds."""

    WEIGHT = 0
    CMDBUF = 1
    FUNC_X86 = 2
    FUNC_AARCH64 = 3
    DMABUF = 4


@dataclass(frozen=True)
class Section:
    """A run of bytes in the file; `offset` counts from the end of the description.

    `decompressed_bytes` is 0 where nothing is compressed."""

    kind: SectionType
    name: str
    num_bytes: int
    offset: int
    encrypted: bool
    decompressed_bytes: int


@dataclass(frozen=True)
class Tensor:
    """An activation. `offset` is -1 for one in host memory; otherwise its bits 40-42 select the base register."""

    name: str
    offset: int
    dtype: DType
    shape: tuple[int, int, int, int]
    qscale: float
    zero_point: int
    overwritten: bool
    """Its memory is reused later in the program, so its value is gone at the end."""
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    pixel_format: str
    aligned: bool
    """Rows and planes are padded to the alignment of the chip's video pre-processor."""
    aligned_bytes: int
    """Bytes of an aligned tensor, where the file gives them."""


@dataclass(frozen=True)
class Weight:
    """A constant that CPU routines may read. The low 40 bits of `offset` count from the start of the weight section."""

    name: str
    offset: int
    num_bytes: int
    dtype: DType
    shape: tuple[int, int, int, int]


@dataclass(frozen=True)
class TpuRoutine:
    """Commands for the TPU; `section` names a CMDBUF or DMABUF section."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    section: str


@dataclass(frozen=True)
class CpuRoutine:
    """A call of the runtime's CPU function `function`; `args` is its FlatBuffers attribute list (loader.cpu_args)."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    function: str
    args: bytes


@dataclass(frozen=True)
class Program:
    """The network for one batch size. Sizes are in bytes.

    In files of version 1.0, `neuron_bytes` replaces the other two."""

    batch: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    routines: tuple[TpuRoutine | CpuRoutine, ...]
    neuron_bytes: int
    shared_bytes: int
    private_bytes: int


@dataclass(frozen=True)
class Cvimodel:
    """A parsed file. `section_bytes` gives a section's content."""

    chip: Chip
    version: tuple[int, int, int]
    name: str
    build_time: str
    mlir_version: str
    programs: tuple[Program, ...]
    weights: tuple[Weight, ...]
    sections: tuple[Section, ...]
    payload: memoryview | FileBytes
    """The file after the description; sections lie in here."""

    def section_named(self, name: str) -> Section:
        """The command section called `name`; the first one where a name repeats, as in the vendor's runtime."""
        for section in self.sections:
            if section.name == name and section.kind in (SectionType.CMDBUF, SectionType.DMABUF):
                return section
        raise FileFormatError(
            f"a routine runs section {name!r}, but the file has no command or dmabuf section of that name"
        )

    def section_bytes(self, section: Section) -> memoryview:
        """The section's bytes, decompressed where needed. Raises FileFormatError for an encrypted or damaged one."""
        if section.encrypted:
            raise FileFormatError(
                f"section {section.name!r} is encrypted for the chip's secure world; use the plain model"
            )
        stored = self.payload[section.offset : section.offset + section.num_bytes]
        return memoryview(_decompress(section, stored)) if section.decompressed_bytes else stored


def _decompress(section: Section, stored: memoryview) -> bytes:
    import lz4.block  # few files are compressed

    try:
        raw = lz4.block.decompress(stored, uncompressed_size=section.decompressed_bytes)
    except lz4.block.LZ4BlockError as error:
        raise FileFormatError(f"section {section.name!r} is not a valid lz4 block: {error}") from None
    if len(raw) != section.decompressed_bytes:
        raise FileFormatError(
            f"section {section.name!r} decompresses to {len(raw)} bytes, but the file says {section.decompressed_bytes}"
        )
    return raw
