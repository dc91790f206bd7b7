"""`python -m benchmarks`: exit codes, what it prints and what it records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.claim import CannotRun, Claim, PathNeed, Say
from benchmarks.results import Conditions, Result, read_results, record

HERE = Conditions(
    date="2026-01-01", cpu="a processor", cores=1, python="3.11", numpy="2.0", commit="0123456789", note=""
)


@dataclass(frozen=True)
class Known(Claim):
    """A claim whose figure is known."""

    figure: float = 0.0

    def function(self) -> Callable[[Say], float]:
        def measure(say: Say) -> float:
            say("a line of detail")
            return self.figure

        return measure


@dataclass(frozen=True)
class Failing(Claim):
    """A claim that raises `error` when it is measured."""

    error: type[Exception] = CannotRun

    def function(self) -> Callable[[Say], float]:
        def measure(say: Say) -> float:
            raise self.error("nothing to measure")

        return measure


MET = Known("fast.enough", "It is fast.", 2, "s", "lower", figure=1)
MISSED = Known("slow.down", "It is fast.", 2, "s", "lower", figure=3)
FEW = Known("slow.few", "There are many.", 2, "things", "higher", figure=1)
CANNOT = Failing("out.of_reach", "It is there.", 1, "s", "lower")
BROKEN = Failing("out.of_order", "It works.", 1, "s", "lower", error=ZeroDivisionError)
NOT_A_NUMBER = Known("out.of_range", "It is a number.", 1, "s", "lower", figure=float("nan"))
NEEDY = Known("fast.needy", "It is fast.", 2, "s", "lower", (PathNeed("NPUSIM_NO_SUCH", "a folder"),), figure=1)
ALL = (MET, MISSED, FEW, CANNOT, BROKEN, NOT_A_NUMBER, NEEDY)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.json"


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (["fast.enough"], 0),
        (["slow.down"], 1),
        (["slow.few"], 1),
        (["out.of_reach"], 2),
        (["out.of_order"], 2),
        (["out.of_range"], 2),
        (["fast.needy"], 2),
        (["fast.enough", "slow.down"], 1),
        (["fast.enough", "out.of_reach"], 2),
        (["out.of_reach", "slow.down"], 1),
        (["--all"], 1),
        (["no.such"], 2),
        ([], 0),
    ],
)
def test_exit_code_tells_met_from_missed_and_from_not_run(names: list[str], code: int, results: Path) -> None:
    assert main(names, ALL, results) == code


def test_a_name_of_a_file_runs_all_its_claims(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    main(["slow"], ALL, results)
    out = capsys.readouterr().out
    assert "slow.down (1 of 2)" in out and "slow.few (2 of 2)" in out and "fast.enough" not in out


def test_a_figure_is_shown_beside_its_bound(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    main(["slow.down"], ALL, results)
    out = capsys.readouterr().out
    assert "3 s, at most 2 s: MISSED" in out and "a line of detail" in out


def test_a_missing_need_says_what_to_set(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    main(["fast.needy"], ALL, results)
    assert "NPUSIM_NO_SUCH is not set: set it to a folder" in capsys.readouterr().out


def test_a_need_that_names_nothing_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NPUSIM_NO_SUCH", str(tmp_path / "gone"))
    assert NEEDY.missing() is not None
    monkeypatch.setenv("NPUSIM_NO_SUCH", str(tmp_path))
    assert NEEDY.missing() is None


def test_json_has_figures_bounds_and_details(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    main(["fast.enough", "slow.down", "out.of_reach", "--json"], ALL, results)
    met, missed, cannot = json.loads(capsys.readouterr().out)
    assert (met["met"], missed["met"], cannot["met"]) == (True, False, None)
    assert missed["result"]["figure"] == 3 and missed["bound"] == 2 and missed["rows"] == ["a line of detail"]
    assert cannot["result"]["figure"] is None and cannot["result"]["reason"] == "nothing to measure"


def test_nothing_is_recorded_unless_asked_for(results: Path) -> None:
    main(["--all"], ALL, results)
    assert not results.exists()


def test_recorded_figures_are_listed(capsys: pytest.CaptureFixture[str], results: Path) -> None:
    main(["--all", "--record", "--note", "a quiet machine"], ALL, results)
    recorded = read_results(results)
    assert recorded["slow.down"].figure == 3 and recorded["slow.down"].conditions.note == "a quiet machine"
    assert recorded["fast.needy"].figure is None and "NPUSIM_NO_SUCH" in recorded["fast.needy"].reason
    capsys.readouterr()
    main([], ALL, results)
    listed = capsys.readouterr().out
    assert "3 s, at most 2 s: MISSED" in listed and "a quiet machine" in listed and "not measured: nothing" in listed


def test_a_run_records_its_own_claims_and_keeps_the_others(results: Path) -> None:
    main(["slow", "--record"], ALL, results)
    main(["fast.enough", "--record"], ALL, results)
    assert set(read_results(results)) == {"slow.down", "slow.few", "fast.enough"}


def test_a_claim_that_cannot_run_today_keeps_its_last_figure(results: Path) -> None:
    record({"a.b": Result(1.5, "", 0.1, HERE)}, results)
    record({"a.b": Result(None, "no file", 0.0, HERE)}, results)
    assert read_results(results)["a.b"].figure == 1.5


def test_results_are_written_whole_or_not_at_all(results: Path) -> None:
    record({"a.b": Result(1.5, "", 0.1, HERE)}, results)
    before = results.read_bytes()
    with pytest.raises(ValueError):
        record({"a.b": Result(2.5, "", 0.1, HERE), "c.d": Result(float("inf"), "", 0.1, HERE)}, results)
    assert results.read_bytes() == before and list(results.parent.iterdir()) == [results]
