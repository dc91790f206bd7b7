"""What `check` found: data, in the words of race detectors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from npusim.html import html_table


class Severity(str, Enum):
    """An error means that the program can compute something else than it was written for, or nothing."""

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
    Kind.ID_REPEATED: "A command waits for an id that several commands have; the first meets it, whichever was meant.",
    Kind.ID_GAP: "A command waits for an id that no command has; a later one meets it, which may be later than meant.",
    Kind.RACE: "Both engines touch the same bytes, one writes, and no id puts them in order.",
    Kind.UNINITIALISED: "Bytes are read, and matter, that nothing has written.",
    Kind.PARTLY_UNSET: (
        "Part of a bias or of quantisation records is read, though nothing has written it, or a load from GMEM goes on "
        "behind its tensor, where nothing or something else was stored."
    ),
    Kind.TORN: "Bytes are read that are left of a tensor after another command has overwritten part of it.",
    Kind.TYPE: "Bytes are read as elements of another size than they were written as.",
    Kind.LOST: "Everything that a command wrote is overwritten before anything reads it, with no sign of harm.",
    Kind.OVERLAP: "A command's result lies over an operand that it still reads.",
    Kind.ONE_PLACE: (
        "Two operands that only make sense apart are one tensor: x - x, the larger of x and x, a copy onto itself."
    ),
    Kind.OUT_OF_RANGE: "GMEM is touched outside the memory that the program has.",
    Kind.READ_ONLY: "A store goes to memory that is only to be read.",
    Kind.OUTPUT_LOST: "The memory of an output is used again before the program ends, when a runtime would copy it.",
    Kind.UNSTORED: "Nothing stores a part of an output.",
    Kind.MISTAKEN: (
        "Nothing reads what a command wrote, and what lies in its place, before or after, is read twice or as another "
        "tensor: one of the reads was meant for it."
    ),
    Kind.MISSING: "Something is never loaded, and a command reads as many bytes that were loaded for another one.",
    Kind.UNREAD: "A weight, or what a command stored and is no output, is never loaded.",
    Kind.UNUSED: "What a command wrote to LMEM is never read.",
}


@dataclass(frozen=True)
class Finding:
    """One fault. `commands` are places in the command buffer, the later command first; `disassembly` has a line for
    each."""

    kind: Kind
    message: str
    commands: tuple[int, ...]
    disassembly: tuple[str, ...] = ()
    section: str = ""
    """The command section, or the dmabuf's segment, where a program has several."""

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
    """A list that reads well: a line a finding, and a table in a notebook."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<no findings>"

    def _repr_html_(self) -> str:
        columns = ("severity", "kind", "section", "commands", "message")
        rows = [(f.severity, f.kind, f.section, ", ".join(map(str, f.commands)), f.message) for f in self]
        return html_table(f"{len(self)} finding{'s' if len(self) != 1 else ''}", columns, rows)
