"""The command buffers inside a .cvimodel."""

from __future__ import annotations

from npusim.errors import FileFormatError, UsageError
from npusim.loader.cvimodel_types import Cvimodel, SectionType, TpuRoutine
from npusim.program.cmdbuf import Cmdbuf, parse_cmdbuf
from npusim.program.dmabuf import parse_dmabuf


def section_cmdbufs(file: Cvimodel, name: str) -> list[Cmdbuf]:
    """The commands of section `name`: one Cmdbuf, or one a segment of a dmabuf."""
    section = file.section_named(name)
    data = file.section_bytes(section)
    try:
        return [parse_cmdbuf(file.chip, data)] if section.kind == SectionType.CMDBUF else parse_dmabuf(file.chip, data)
    except FileFormatError as error:
        raise FileFormatError(f"section {name!r}: {error}") from None


def cmdbufs_of_model(model: Cvimodel, program: int = 0) -> list[Cmdbuf]:
    """The command buffers that `program` runs, in turn; an empty one where it runs on the CPU alone. Raises UsageError
    where there is no such program."""
    if not 0 <= program < len(model.programs):
        raise UsageError(f"program {program} does not exist; the model holds programs 0 to {len(model.programs) - 1}")
    routines = [r for r in model.programs[program].routines if isinstance(r, TpuRoutine)]
    cmdbufs = [cmdbuf for routine in routines for cmdbuf in section_cmdbufs(model, routine.section)]
    return cmdbufs or [parse_cmdbuf(model.chip, b"")]


def named_cmdbufs(model: Cvimodel, *, encrypted: bool = True) -> dict[str, Cmdbuf]:
    """Every command buffer of `model` by the name of its section; the segments of a dmabuf add ".segment0" and so
    on. Raises FileFormatError for an encrypted section; with `encrypted=False` they are left out."""
    found: dict[str, Cmdbuf] = {}
    for section in model.sections:
        if section.kind in (SectionType.CMDBUF, SectionType.DMABUF) and (encrypted or not section.encrypted):
            found |= by_segment(section.name, section_cmdbufs(model, section.name))
    return found


def by_segment(name: str, parts: list[Cmdbuf]) -> dict[str, Cmdbuf]:
    """The command buffers of one section, or of one dmabuf, under names of their own."""
    return {name if len(parts) == 1 else f"{name}.segment{i}": part for i, part in enumerate(parts)}
