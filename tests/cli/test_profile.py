"""`npusim profile` and what it writes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from npusim.cli.main import main

MODELS = Path(__file__).parents[2] / "golden" / "data" / "functional"
MODEL = str(MODELS / "step_cv181x_int8.cvimodel")
TOP_LEVEL = (
    "ms", "cycles", "tiu_busy", "tdma_busy", "overlap", "dram_read_bytes", "dram_write_bytes", "mac_utilisation",
    "lmem_peak_bytes",
    "layers", "instructions",
)  # fmt: skip


def profiled(tmp_path: Path, *arguments: str) -> dict:
    path = tmp_path / "profile.json"
    assert main(["profile", MODEL, "--json", str(path), *arguments]) == 0
    return json.loads(path.read_text())


def test_json_has_what_programs_look_for_and_a_tag_for_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = profiled(tmp_path)
    assert set(TOP_LEVEL) <= set(data)
    assert set(data["tags"].values()) == {"exact", "modelled", "calibrated"}
    assert all(name in data for name in data["tags"])
    out = capsys.readouterr().out
    assert f"{data['ms']:.3f} ms" in out and "calibrated" in out


def test_a_slower_clock_takes_longer_and_moves_the_same_bytes(tmp_path: Path) -> None:
    normal, slow = profiled(tmp_path), profiled(tmp_path, "--clock", "100")
    assert slow["ms"] > normal["ms"]
    assert slow["dram_read_bytes"] == normal["dram_read_bytes"]


def test_banks_change_the_time_and_not_the_bytes(tmp_path: Path) -> None:
    one, many = profiled(tmp_path, "--banks", "1"), profiled(tmp_path, "--banks", "32")
    assert one["ms"] >= many["ms"] and one["dram_read_bytes"] == many["dram_read_bytes"]


def test_a_bank_count_that_no_chip_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", MODEL, "--banks", "3"]) == 2
    assert "power of two" in capsys.readouterr().err


def test_another_chips_board_is_refused_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", MODEL, "--board", "duo"]) == 2
    assert "compiled for cv181x" in capsys.readouterr().err


def test_fewer_lanes_than_compiled_for_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", MODEL, "--lanes", "2"]) == 2
    assert "lanes" in capsys.readouterr().err


def test_trace_keeps_the_rules_of_the_format(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    assert main(["profile", MODEL, "--trace", str(path)]) == 0
    trace = json.loads(path.read_text())
    events = trace["traceEvents"]
    assert {e["ph"] for e in events} == {"M", "X", "C"}
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert sorted(names.values()) == ["TDMA", "TIU", "layers"]
    for event in events:
        assert {"ph", "pid", "name"} <= set(event) and isinstance(event["args"], dict)
        if event["ph"] != "M":
            assert event["ts"] >= 0
    for track in names:
        slices = [(e["ts"], e["ts"] + e["dur"]) for e in events if e["ph"] == "X" and e["tid"] == track]
        assert slices and all(b[0] >= a[1] - 1e-6 for a, b in pairwise(slices))
    assert {e["name"] for e in events if e["ph"] == "C"} == {"DRAM", "LMEM"}
    assert all(isinstance(v, int | float) for e in events if e["ph"] == "C" for v in e["args"].values())


def test_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    assert main(["profile", MODEL, "--html", str(path)]) == 0
    text = path.read_text()
    assert "http://" not in text and "https://" not in text and "src=" not in text
    start = text.index('type="application/json">') + len('type="application/json">')
    embedded = json.loads(text[start : text.index("</script>", start)])
    assert embedded["report"]["name"] == "step_cv181x_int8.cvimodel"
    assert len(embedded["events"]["tiu"]["start"]) == embedded["report"]["num_tiu"]


def test_a_prediction_and_another_are_compared_by_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, clock in (("a", "500"), ("b", "510"), ("c", "250")):
        assert main(["profile", MODEL, "--pmu", str(tmp_path / name), "--clock", clock]) == 0
    capsys.readouterr()
    a, b, c = (str(tmp_path / f"{name}_des.csv") for name in "abc")
    assert main(["diff", b, a]) == 0
    assert main(["diff", c, a, "--json"]) == 1
    out = capsys.readouterr().out
    assert json.loads(out[out.index("\n{") :])["same"] is False
    assert main(["diff", a, str(tmp_path / "a_layer.csv")]) == 2
    assert main(["diff", a, b, "--tolerance", "0.99,0.9"]) == 2


def test_nothing_is_written_where_the_directory_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", MODEL, "--html", str(tmp_path / "no" / "p.html"), "--json", str(tmp_path / "p.json")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
