"""`open_program`: any file that holds commands, whichever of the three kinds it is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from npusim.chip import CHIPS, Chip, chip_named
from npusim.errors import FileFormatError, UsageError
from npusim.loader.cvimodel import MAGIC, load_cvimodel
from npusim.loader.cvimodel_types import Cvimodel
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.dmabuf import MAGIC as DMABUF_MAGIC
from npusim.program.dmabuf import parse_dmabuf
from npusim.program.model import cmdbufs_of_model, named_cmdbufs


@dataclass(frozen=True)
class ProgramFile:
    """What a program file holds."""

    path: Path
    chip: Chip
    content: Cvimodel | dict[str, Cmdbuf]
    """The container where the file is a .cvimodel, else its command buffers by name."""

    @property
    def model(self) -> Cvimodel | None:
        """The container, where the file is a .cvimodel."""
        return self.content if isinstance(self.content, Cvimodel) else None

    @cached_property
    def cmdbufs(self) -> dict[str, Cmdbuf]:
        """Every command buffer in the file, by section name; "" for a file that is one itself, and for the empty one of
        a .cvimodel that runs on the CPU alone. Raises FileFormatError where a section of a .cvimodel is damaged."""
        if not isinstance(self.content, Cvimodel):
            return self.content
        return named_cmdbufs(self.content) or {"": parse_cmdbuf(self.chip, b"")}

    def __repr__(self) -> str:
        sections = ", ".join(name for name in self.cmdbufs if name)
        commands = sum(cmdbuf.num_commands for cmdbuf in self.cmdbufs.values())
        held = f"{commands:,} commands{' in ' if sections else ''}{sections}"
        return f"<ProgramFile {self.path.name} for {self.chip.name}: {held}>"

    def submitted(self, number: int = 0) -> list[Cmdbuf]:
        """The command buffers that program `number` runs, in turn. Raises UsageError where there is no such program,
        FileFormatError where a section of it is damaged."""
        content = self.content
        return cmdbufs_of_model(content, number) if isinstance(content, Cvimodel) else list(content.values())


def open_program(path: str | Path, *, chip: str | None = None, verify_md5: bool = True) -> ProgramFile:
    """Reads a .cvimodel, a raw command buffer or a dmabuf. `chip` names the chip of a dmabuf, whose header does not
    tell all apart.

    The commands of a .cvimodel are taken apart when they are asked for.

    Raises UsageError where the file cannot be read or a dmabuf has no `chip`, FileFormatError where it is damaged or
    nothing of this kind."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
        data = b"" if head == MAGIC else path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from None
    if head == MAGIC:
        model = load_cvimodel(path, verify_md5=verify_md5)
        return ProgramFile(path, model.chip, model)
    try:
        return _without_container(path, data, chip)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def _without_container(path: Path, data: bytes, chip_name: str | None) -> ProgramFile:
    if int.from_bytes(data[:2], "little") == DMABUF_MAGIC:
        if chip_name is None:
            raise UsageError(f"{path} is a dmabuf; say with --chip which chip it is for")
        chip = chip_named(chip_name)
        return ProgramFile(path, chip, {f"segment{i}": cmdbuf for i, cmdbuf in enumerate(parse_dmabuf(chip, data))})
    for chip in CHIPS:
        if data[:1] == bytes([chip.magic]):
            return ProgramFile(path, chip, {"": parse_cmdbuf(chip, data)})
    magics = ", ".join(f"{chip.magic:#04x}" for chip in CHIPS)
    raise FileFormatError(
        f"it starts with {data[:8].hex() or 'nothing'}: neither a .cvimodel, a dmabuf nor a command buffer ({magics})"
    )
