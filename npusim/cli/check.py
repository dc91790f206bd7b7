"""`npusim check`: what a program does wrong, found without running it."""

from __future__ import annotations

from collections import Counter

from npusim.check import Severity, check_program
from npusim.cli.command import Command
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.option import Flag, Given
from npusim.cli.options.programs import ProgramOption, ProgramSource
from npusim.cli.printing import console
from npusim.cli.reporters.findings import finding_renderables, summary
from npusim.cli.streams import working

SHOWN = 20
PROGRAM = ProgramOption[ProgramSource]()
ALL = Flag(("--all",), f"show every finding, not only the first {SHOWN}")
JSON = JsonOutput("every finding with its commands disassembled")


class CheckCommand(Command):
    example = "npusim check mlp.cvimodel"
    notes = """exit codes:
  0  no error (there may be warnings and notes)
  1  errors were found
  2  the file cannot be read"""
    options = (PROGRAM, ALL, JSON)

    def run(self, given: Given) -> int:
        source, json = given[PROGRAM], given[JSON]
        if json.printed:
            given.refuse((ALL,), "with --json, which prints every finding")
        with working(f"checking {source.path}"):
            findings = check_program(source.open())
        counts = Counter(finding.severity for finding in findings)
        by_severity = {severity.value: counts[severity] for severity in Severity}
        if json:
            found = [finding.as_json() for finding in findings]
            json.write({"file": str(source.path), "counts": by_severity, "findings": found})
        if not json.printed:
            out = console()
            worst_first = sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
            for renderable in finding_renderables(worst_first if given[ALL] else worst_first[:SHOWN]):
                out.print(renderable, soft_wrap=True)
            out.print(summary(str(source.path), counts, 0 if given[ALL] else max(0, len(findings) - SHOWN)))
        return 1 if counts[Severity.ERROR] else 0


COMMAND = CheckCommand()
