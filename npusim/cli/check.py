"""`npusim check`: what a program does wrong, found without running it."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from npusim.check import Finding, Severity, check, check_model
from npusim.chip import CHIPS
from npusim.cli.command import Command, console, print_json, working
from npusim.cli.reporters.findings import finding_renderables, summary
from npusim.program.open import open_program

SHOWN = 20
EXIT_CODES = """exit codes:
  0  no error (there may be warnings and notes)
  1  errors were found
  2  the file cannot be read"""


class CheckCommand(Command):
    name = "check"
    summary = (
        "Find races, reads of unset memory, clobbered buffers, bad addresses and deadlocks in a program without "
        "running it."
    )
    example = "npusim check mlp.cvimodel"

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        parser.epilog = f"{parser.epilog}\n\n{EXIT_CODES}"
        parser.add_argument("model", type=Path, metavar="MODEL", help="a .cvimodel, a raw command buffer or a dmabuf")
        parser.add_argument(
            "--chip",
            choices=[chip.name for chip in CHIPS],
            help="chip of a dmabuf (its header does not tell all apart)",
        )
        parser.add_argument("--no-md5", action="store_true", help="read a .cvimodel that was edited after compilation")
        parser.add_argument("--all", action="store_true", help=f"show every finding, not only the first {SHOWN}")
        parser.add_argument(
            "--json", action="store_true", help="print JSON: every finding with its commands disassembled"
        )

    def run(self, options: argparse.Namespace) -> int:
        with working(f"checking {options.model}"):
            findings = _findings(options.model, options.chip, not options.no_md5)
        counts = Counter(finding.severity for finding in findings)
        if options.json:
            by_severity = {severity.value: counts[severity] for severity in Severity}
            print_json(
                {
                    "file": str(options.model),
                    "counts": by_severity,
                    "findings": [finding.as_json() for finding in findings],
                }
            )
        else:
            out = console()
            worst_first = sorted(findings, key=lambda finding: list(Severity).index(finding.severity))
            for renderable in finding_renderables(worst_first if options.all else worst_first[:SHOWN]):
                out.print(renderable, soft_wrap=True)
            out.print(summary(str(options.model), counts, 0 if options.all else max(0, len(findings) - SHOWN)))
        return 1 if counts[Severity.ERROR] else 0


def _findings(path: Path, chip_name: str | None, verify_md5: bool) -> list[Finding]:
    program = open_program(path, chip=chip_name, verify_md5=verify_md5)
    if program.model is None:
        return check(list(program.cmdbufs.values()))
    return [finding for i in range(len(program.model.programs)) for finding in check_model(program.model, i)]
