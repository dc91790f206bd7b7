"""Lists, runs and records the benchmarks.

    python -m benchmarks                          every claim with its bound and its last figure
    python -m benchmarks kv.quest check           runs one claim, and all of benchmarks/check.py
    python -m benchmarks --all --record --note "shared machine"

Exit code 0: every bound is met. 1: a figure misses its bound. 2: no figure misses its bound, but something could not
run, or a name is unknown."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.claim import THREADS, CannotRun, Claim, Say, number
from benchmarks.claims import CLAIMS
from benchmarks.results import RESULTS, Result, conditions, read_results, record


def main(arguments: Sequence[str] | None = None, claims: Sequence[Claim] = CLAIMS, results_path: Path = RESULTS) -> int:
    options = _options(arguments)
    if options.markdown:
        print(markdown(claims))
        return 0
    if not (options.names or options.all):
        return _list(claims, read_results(results_path), options.json)
    chosen = list(claims) if options.all else []
    for name in options.names:
        found = [claim for claim in claims if name in (claim.name, claim.file)]
        if not found:
            print(f"no benchmark is named {name!r}: `python -m benchmarks` lists them", file=sys.stderr)
            return 2
        chosen += [claim for claim in found if claim not in chosen]
    results: dict[str, Result] = {}
    details: dict[str, list[str]] = {claim.name: [] for claim in chosen}
    for place, claim in enumerate(chosen, 1):
        results[claim.name] = _run(claim, f"{place} of {len(chosen)}", options, details[claim.name])
    if options.json:
        print(json.dumps([_row(c, results[c.name]) | {"rows": details[c.name]} for c in chosen], indent=1))
    if options.record:
        record(results, results_path)
        _say(options, f"recorded in {results_path}")
    return exit_code(chosen, results)


def exit_code(claims: Sequence[Claim], results: dict[str, Result]) -> int:
    """1 if a figure misses its bound, else 2 if a figure is missing, else 0."""
    figures = [(claim, results[claim.name].figure) for claim in claims]
    if any(figure is not None and not claim.is_met(figure) for claim, figure in figures):
        return 1
    return 2 if any(figure is None for _, figure in figures) else 0


def markdown(claims: Sequence[Claim]) -> str:
    """The claims as a table, and after it how to meet their needs."""
    rows = ["| name | claim | bound | needs |", "|---|---|---|---|"]
    for claim in claims:
        needs = ", ".join(need.text for need in claim.needs)
        rows.append(f"| `{claim.name}` | {claim.claim} | {claim.bound_text} | {needs} |")
    needed = {need.text: need.how for claim in claims for need in claim.needs}
    return "\n".join([*rows, "", *(f"- {text}: {how}" for text, how in needed.items())])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="a claim, or a file of benchmarks for all its claims")
    parser.add_argument("--all", action="store_true", help="run every claim")
    parser.add_argument("--record", action="store_true", help="put the figures into benchmarks/results.json")
    parser.add_argument("--note", default="", help="what to record with the figures, such as 'shared machine'")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/benchmarks.md")
    return parser.parse_args(arguments)


def _list(claims: Sequence[Claim], results: dict[str, Result], as_json: bool) -> int:
    if as_json:
        print(json.dumps([_row(claim, results.get(claim.name)) for claim in claims], indent=1))
        return 0
    for claim in claims:
        result = results.get(claim.name)
        print(f"{claim.name:30} {_last(claim, result)}\n    {claim.claim}")
    return 0


def _last(claim: Claim, result: Result | None) -> str:
    if result is None:
        return f"never measured; {claim.bound_text}"
    if result.figure is None:
        return f"not measured: {result.reason}; {claim.bound_text}"
    at = result.conditions
    note = f", {at.note}" if at.note else ""
    return f"{_verdict(claim, result.figure)} ({at.date}, {at.commit}{note})"


def _verdict(claim: Claim, figure: float) -> str:
    met = "met" if claim.is_met(figure) else "MISSED"
    return f"{number(figure)} {claim.unit}, {claim.bound_text}: {met}"


def _row(claim: Claim, result: Result | None) -> dict[str, Any]:
    """A claim and its result as JSON-ready data."""
    return {
        "name": claim.name,
        "claim": claim.claim,
        "bound": claim.bound,
        "unit": claim.unit,
        "better": claim.better,
        "command": claim.command,
        "result": asdict(result) if result else None,
        "met": None if result is None or result.figure is None else claim.is_met(result.figure),
    }


def _run(claim: Claim, place: str, options: argparse.Namespace, lines: list[str]) -> Result:
    """Measures a claim. Its lines of detail are printed and added to `lines`."""

    def keep(line: str) -> None:
        lines.append(line)
        _say(options, f"    {line}")

    _say(options, f"{claim.name} ({place}): {claim.claim}")
    started = time.perf_counter(), sum(os.times()[:4])
    figure, reason = _measure(claim, keep)
    took, seconds = time.perf_counter() - started[0], sum(os.times()[:4]) - started[1]
    verdict = f"could not run: {reason}" if figure is None else _verdict(claim, figure)
    _say(options, f"  {verdict}   ({seconds:.1f} s of CPU time, {took:.0f} s by the clock)")
    return Result(figure, reason, round(seconds, 1), conditions(options.note))


def _measure(claim: Claim, say: Say) -> tuple[float | None, str]:
    """(figure, "") or (None, why there is none)."""
    try:
        figure = claim.measure(say)
        return (figure, "") if math.isfinite(figure) else (None, f"the figure is {figure}")
    except CannotRun as error:
        return None, str(error)
    except Exception as error:  # a broken benchmark must not stop the others
        traceback.print_exc()
        return None, f"{type(error).__name__}: {error}"


def _say(options: argparse.Namespace, line: str) -> None:
    """Prints progress; with --json to standard error, because standard output is for the JSON."""
    print(line, flush=True, file=sys.stderr if options.json else sys.stdout)


if __name__ == "__main__":
    # One thread, so that CPU time is what one core takes. NumPy reads this when the first benchmark imports it.
    os.environ.update(dict.fromkeys(THREADS, "1"))
    sys.exit(main())
