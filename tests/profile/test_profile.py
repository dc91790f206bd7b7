"""The parts of a Profile are computed once, however many reporters print it."""

from __future__ import annotations

import doctest
import importlib
import io
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import npusim.profile
from npusim.board import board_named, default_board
from npusim.chip import CHIPS, CV181X
from npusim.cli.main import main
from npusim.cli.reporters.profile import profile_renderables
from npusim.errors import UsageError
from npusim.kernels import Fmt, KernelBuilder, tg
from npusim.profile import Profile, profile_program
from npusim.profile.notebook import TOP
from npusim.profile.page import profile_page
from npusim.profile.pmu_csv import des_csv, layer_csv
from npusim.profile.report import report_data
from npusim.profile.trace import trace_text
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.dmabuf import write_dmabuf
from npusim.program.open import open_program

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "golden" / "data" / "functional"
MODEL = MODELS / "step_cv181x_int8.cvimodel"
PARTS = (
    "pieces_of", "layer_shares", "instruction_shares", "layer_runs", "dram_curve", "lmem_curve", "records_of",
    "regions_of", "roofline_of",
)  # fmt: skip


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each part of a Profile has been computed."""
    counts: Counter[str] = Counter()
    module = importlib.import_module("npusim.profile.profile")

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            counts[name] += 1
            return function(*args)

        return call

    for name in PARTS:
        monkeypatch.setattr(module, name, counting(name, getattr(module, name)))
    return counts


def text_of(result: Profile) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(*profile_renderables(result), sep="\n")
    return out.getvalue()


def test_the_command_computes_every_part_once_for_all_five_outputs(
    computed: Counter[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = [f"--{kind}={tmp_path / kind}" for kind in ("json", "trace", "html", "pmu")]
    assert main(["profile", str(MODEL), *outputs]) == 0
    assert computed == dict.fromkeys(PARTS, 1)
    assert len(list(tmp_path.iterdir())) == 5 and "time by instruction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("output", "needs"),
    [
        (report_data, set(PARTS) - {"layer_runs", "dram_curve", "records_of"}),
        (text_of, set(PARTS) - {"layer_runs", "dram_curve", "records_of"}),
        (trace_text, {"pieces_of", "layer_shares", "layer_runs", "dram_curve", "lmem_curve"}),
        (profile_page, set(PARTS) - {"records_of"}),
        (lambda result: (des_csv(result.records), layer_csv(result.records, 1e9)), {"records_of"}),
        (repr, set()),
        (lambda result: repr(result.timeline), set()),
        (Profile._repr_html_, {"pieces_of", "layer_shares"}),
    ],
    ids=["json", "text", "trace", "page", "pmu", "repr", "repr of the timeline", "notebook"],
)
def test_an_output_computes_what_it_shows_and_nothing_else(
    output: Callable[[Profile], Any], needs: set[str], computed: Counter[str]
) -> None:
    result = profile_program(MODEL)
    first = output(result)
    assert computed == dict.fromkeys(needs, 1)
    assert output(result) == first and computed == dict.fromkeys(needs, 1)


def test_the_examples_in_the_docstring_and_on_the_page_are_true(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = str(ROOT / "docs" / "profile.md")
    for found in (doctest.testmod(npusim.profile), doctest.testfile(page, module_relative=False, encoding="utf-8")):
        assert found.attempted and not found.failed


def test_a_board_is_given_by_name_or_as_it_is_and_is_by_default_the_evaluation_board() -> None:
    assert profile_program(MODEL).timeline.board == default_board(open_program(MODEL).chip)
    by_name, as_it_is = profile_program(MODEL, "duo256m"), profile_program(MODEL, board_named("duo256m"))
    assert by_name.timeline.board is as_it_is.timeline.board
    slow = profile_program(open_program(MODEL), board_named("duo256m").variant(clock_mhz=100))
    assert slow.timeline.ps > by_name.timeline.ps
    with pytest.raises(UsageError, match="known boards"):
        profile_program(MODEL, "toaster")
    with pytest.raises(UsageError, match="program 7 does not exist"):
        profile_program(MODEL, number=7)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_what_the_kernel_builder_gives_can_be_profiled(chip: Any, tmp_path: Path) -> None:
    build = KernelBuilder(chip)
    x, y = (build.lmem_alloc_tensor((1, 4, 4, 4), Fmt.BF16) for _ in range(2))
    build.tdma_g2l_tensor_copy(tg(0x40000000, x.shape, Fmt.BF16), x)
    build.tiu_add(y, x, x)
    program = build.build()
    result = profile_program(program)
    assert result.timeline.workload.num_commands == 2 and "tiu_add" in text_of(result)
    path = tmp_path / "kernel.cmdbuf"
    path.write_bytes(program.cmdbuf)
    assert report_data(profile_program(path)) == report_data(result) | {"name": "kernel.cmdbuf"}


def test_reprs_say_what_how_long_and_how_busy() -> None:
    result = profile_program(MODEL, "duo256m")
    t = result.timeline
    busy = f"{1000 * t.ms:.1f} µs, TIU {100 * t.tiu_busy:.0f} %, TDMA {100 * t.tdma_busy:.0f} %"
    assert repr(result) == f"<Profile step_cv181x_int8.cvimodel on duo256m: {busy}>"
    assert repr(t) == f"<Timeline of {t.workload.num_commands} commands on duo256m: {busy}>"
    assert f": {1000 * t.ms:.1f} ms, TIU" in repr(replace(t, end_ps=tuple(1000 * ends for ends in t.end_ps)))


def test_a_notebook_shows_the_slowest_layers_first_and_escapes_names(tmp_path: Path) -> None:
    path = tmp_path / "<b>&.cvimodel"
    path.write_bytes(MODEL.read_bytes())
    result = profile_program(path)
    cells: list[list[str]] = []

    class Rows(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            assert tag != "b"
            if tag == "tr":
                cells.append([])

        def handle_data(self, data: str) -> None:
            if cells:
                cells[-1].append(data)

    Rows().feed(result._repr_html_())
    slowest = sorted(result.layers, key=lambda layer: -layer.ps)[:TOP]
    assert [row[0] for row in cells[1:]] == [layer.name for layer in slowest]
    assert "<b>&.cvimodel" in text_of(result)


def test_text_shows_a_name_in_brackets_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net[red].cvimodel"
    path.write_bytes(MODEL.read_bytes())
    assert "net[red].cvimodel on " in text_of(profile_program(path))


@pytest.mark.parametrize("name", ["mlp_cv183x_bf16", "conv_cv180x_int8", "mix_cv182x_int8"])
def test_a_trace_written_by_templates_is_json_with_every_command(name: str) -> None:
    result = profile_program(MODELS / f"{name}.cvimodel")
    text = trace_text(result)
    trace = json.loads(text)
    assert json.dumps(trace, separators=(",", ":")) == text
    work = result.timeline.workload
    commands = [event for event in trace["traceEvents"] if event.get("cat") in ("tiu", "tdma")]
    assert sorted(event["args"]["index"] for event in commands) == list(range(work.num_commands))
    assert sum(event["args"].get("macs", 0) for event in commands) == work.macs
    assert sum(event["args"].get("read_bytes", 0) for event in commands) == result.timeline.dram_read_bytes


def test_a_dmabuf_without_a_segment_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "none.dmabuf").write_bytes(write_dmabuf(parse_cmdbuf(CV181X, b"")))
    assert profile_program(tmp_path / "none.dmabuf", chip="cv181x").timeline.ms == 0
