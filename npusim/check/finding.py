"""What `check` found, as data. The words are those of race detectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from npusim.html import html_table


class Severity(str, Enum):
    """ERROR: the program can compute a wrong result, touch foreign memory or hang. WARNING: a fault that compiled
    models in use have too. NOTE: it changes no result."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def __str__(self) -> str:
        return self.value


class Kind(str, Enum):
    """The rule that a program breaks."""

    ILLEGAL = "illegal command"
    DEADLOCK = "deadlock"
    ID_REPEATED = "repeated id"
    ID_GAP = "missing id"
    RACE = "race"
    UNINITIALISED = "uninitialised read"
    PARTLY_UNSET = "partly unset"
    TORN = "torn read"
    TYPE = "element type"
    MISTAKEN = "mistaken read"
    LOST = "lost write"
    OVERLAP = "operand overlap"
    ONE_PLACE = "one place"
    OUT_OF_RANGE = "out of range"
    READ_ONLY = "read-only write"
    OUTPUT_LOST = "overwritten output"
    UNSTORED = "output not stored"
    MISSING = "missing load"
    UNREAD = "never loaded"
    UNUSED = "unused"

    def __str__(self) -> str:
        return self.value

    @property
    def severity(self) -> Severity:
        return _SEVERITY.get(self, Severity.ERROR)


_SEVERITY = {
    Kind.PARTLY_UNSET: Severity.WARNING,
    Kind.OUTPUT_LOST: Severity.WARNING,
    Kind.ID_GAP: Severity.WARNING,
    Kind.UNUSED: Severity.NOTE,
    Kind.UNREAD: Severity.NOTE,
    Kind.LOST: Severity.NOTE,
}

MEANING = {
    Kind.ILLEGAL: "The chip refuses the command.",
    Kind.DEADLOCK: "Both engines wait for an id that never comes.",
    Kind.ID_REPEATED: "A command waits for an id that several commands have. The first one ends the wait.",
    Kind.ID_GAP: "A command waits for an id that no command has. A command with a later id ends the wait.",
    Kind.RACE: "Both engines touch the same bytes, one writes, and no wait puts them in order.",
    Kind.UNINITIALISED: "A command reads bytes that nothing has written, and they can reach an output.",
    Kind.PARTLY_UNSET: (
        "A load from GMEM reads past the end of its tensor, where nothing or another tensor was stored. Whether these "
        "bytes can reach an output is not decided."
    ),
    Kind.TORN: "A tensor is read after another command has overwritten part of it.",
    Kind.TYPE: "Bytes are read as elements of another size than they were written as.",
    Kind.LOST: "A command's whole result is overwritten before anything reads it; nothing else looks wrong.",
    Kind.OVERLAP: "A command's result overwrites an operand that it still reads.",
    Kind.ONE_PLACE: (
        "Two operands that should differ are the same tensor: x - x, the larger of x and x, a copy onto itself."
    ),
    Kind.OUT_OF_RANGE: "GMEM is touched outside the memory that the program has.",
    Kind.READ_ONLY: "A command stores to memory that the program may only read.",
    Kind.OUTPUT_LOST: "The memory of an output is used again before the program ends, so the output is lost.",
    Kind.UNSTORED: "Nothing stores a part of an output.",
    Kind.MISTAKEN: (
        "Nothing reads what a command wrote, and what was in its place before or after is read twice or as another "
        "tensor: one of these reads was probably meant for it."
    ),
    Kind.MISSING: (
        "Some data is never loaded, and a command reads as many bytes that were loaded for another command: it was "
        "probably meant to read that data."
    ),
    Kind.UNREAD: "A weight is never loaded, or a command stored something that is not an output and is never loaded.",
    Kind.UNUSED: "What a command wrote to LMEM is never read.",
}


@dataclass(frozen=True)
class Finding:
    """One fault. `commands` are places in the command buffer, the later command first, and `disassembly` has a line for
    each."""

    kind: Kind
    message: str
    commands: tuple[int, ...]
    disassembly: tuple[str, ...] = ()
    section: str = ""
    """The command section or the dmabuf's segment, if the program has several; else ""."""

    def __repr__(self) -> str:
        section = f" in {self.section}" if self.section else ""
        return f"<{self.severity}: {self.kind.value}{section}: {self.message}>"

    @property
    def severity(self) -> Severity:
        return self.kind.severity

    def as_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "severity": self.severity.value,
            "message": self.message,
            "section": self.section,
            "commands": list(self.commands),
            "disassembly": list(self.disassembly),
        }


class Findings(list[Finding]):
    """A list whose repr has a line for each finding; a notebook shows it as a table."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no findings>"

    def _repr_html_(self) -> str:
        columns = ("severity", "kind", "section", "commands", "message")
        rows = [(f.severity, f.kind, f.section, ", ".join(map(str, f.commands)), f.message) for f in self]
        return html_table(f"{len(self)} finding{'s' if len(self) != 1 else ''}", columns, rows)
