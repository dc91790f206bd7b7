"""What `npusim check` found, as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from npusim.check import MEANING, Finding, Severity
from npusim.cli.printing import Styled
from npusim.cli.streams import visible

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}


def finding_renderables(findings: Iterable[Finding]) -> Iterator[Styled]:
    """For each finding what is wrong, then its commands disassembled. The first finding of a kind has its meaning
    too."""
    explained = set()
    for finding in findings:
        section = f" in {finding.section}" if finding.section else ""
        pieces = [
            (finding.severity.value, _STYLES[finding.severity]),
            (visible(f": {finding.kind.value}{section}: {finding.message}"), ""),
        ]
        if finding.kind not in explained:
            explained.add(finding.kind)
            pieces.append((f"\n  {MEANING[finding.kind]}", "italic"))
        for index, line in zip(finding.commands, finding.disassembly, strict=True):
            pieces.append((f"\n  {index:6}: {visible(line)}", "dim"))
        yield Styled(*pieces)


def summary(path: str, counts: Mapping[Severity, int], hidden: int) -> str:
    """The last line."""
    total = ", ".join(
        f"{counts[severity]} {severity.value}{'s' if counts[severity] != 1 else ''}" for severity in Severity
    )
    return f"{visible(path)}: {total}" + (f" ({hidden} not shown; --all shows them)" if hidden else "")
