"""The time of a forward beside the TPU's commands is shown separately for CPU routines and runtime, never left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from npusim.board import board_named
from npusim.cli.main import main
from npusim.loader.cvimodel import parse_cvimodel
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel, DType, SectionType, TpuRoutine
from npusim.profile import profile_program
from npusim.program.open import open_program
from npusim.runtime.cpu import CPU_FUNCTIONS
from npusim.timing.host import CYCLES_PER_ELEMENT, host_time
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, cpu_args, program, tensor

EVB = board_named("cv181x-evb")
X, Y = tensor("x", (1, 4, 10, 10)), tensor("y", (1, 4, 10, 20), DType.INT8)


def file(*routines: CpuRoutine | TpuRoutine) -> bytes:
    one = program([X, Y], routines, ["x"], ["y"])
    return build_cvimodel(ModelData("cv181x", [one], [SectionData(SectionType.CMDBUF, "sub", b"")]))


def cpu(function: str, **attributes: float | str) -> CpuRoutine:
    return CpuRoutine(("x",), ("y",), function, cpu_args(attributes))


def model(*routines: CpuRoutine | TpuRoutine) -> Cvimodel:
    return parse_cvimodel(file(*routines))


def test_every_cpu_function_has_a_cost() -> None:
    assert set(CPU_FUNCTIONS) == {name for name in CYCLES_PER_ELEMENT if not name.endswith(" nearest")}


@pytest.mark.parametrize(
    ("routine", "cycles"),
    [
        (cpu("softmax"), 120),
        (cpu("interp", coordinate_transformation_mode="nearest_half_pixel"), 16),
        (cpu("interp", coordinate_transformation_mode="align_corners"), 60),
    ],
)
def test_a_cpu_routine_costs_cycles_for_each_element_of_its_largest_tensor(routine: CpuRoutine, cycles: int) -> None:
    (found,) = host_time(EVB, model(routine)).routines
    assert found.ps == round(800 * cycles * 1e6 / EVB.host.cpu_mhz) and found.outputs == ("y",)


def test_the_runtime_submits_every_tpu_routine() -> None:
    tpu = TpuRoutine(("x",), ("y",), "sub")
    one, three = host_time(EVB, model(tpu)), host_time(EVB, model(tpu, cpu("softmax"), tpu, tpu))
    assert one.runtime_ps == EVB.host.forward_us * 1e6
    assert three.runtime_ps - one.runtime_ps == 2 * EVB.host.submit_us * 1e6


def test_bare_commands_are_one_submission() -> None:
    assert host_time(EVB, None).runtime_ps == EVB.host.submit_us * 1e6


def test_what_is_not_known_is_none_and_makes_the_total_none(tmp_path: Path) -> None:
    (tmp_path / "m.cvimodel").write_bytes(file(cpu("softmax"), cpu("no_such_function")))
    profile = profile_program(tmp_path / "m.cvimodel")
    assert [routine.ps is None for routine in profile.host.routines] == [False, True]
    assert profile.host.cpu_ps is None and profile.total_ms is None
    slow = replace(EVB, host=replace(EVB.host, cpu_mhz=0))
    assert host_time(slow, model(cpu("softmax"))).cpu_ps is None


def test_a_forward_is_tpu_cpu_and_runtime(tmp_path: Path) -> None:
    (tmp_path / "m.cvimodel").write_bytes(file(cpu("softmax")))
    profile = profile_program(tmp_path / "m.cvimodel")
    assert profile.host.cpu_ps is not None
    assert profile.total_ms == (profile.timeline.ps + profile.host.cpu_ps + profile.host.runtime_ps) / 1e9


def test_a_model_without_tpu_commands_profiles_disassembles_and_assembles(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "cpu.cvimodel"
    path.write_bytes(build_cvimodel(ModelData("cv181x", [program([X, Y], [cpu("softmax")], ["x"], ["y"])])))
    outputs = [f"--{name}={tmp_path / name}" for name in ("html", "trace", "pmu")]
    assert main(["profile", str(path), *outputs]) == 0
    text = capsys.readouterr().out
    assert "1 softmax" in text and "TPU time *" in text and "0.000 ms" in text
    assert main(["disasm", str(path)]) == 0
    (tmp_path / "cpu.s").write_text(capsys.readouterr().out)
    assert main(["asm", str(tmp_path / "cpu.s"), "-o", str(tmp_path / "cpu.cmdbuf")]) == 0
    assert (tmp_path / "cpu.cmdbuf").read_bytes() == b"" and open_program(path).cmdbufs[""].num_commands == 0


def test_boards_of_two_clocks_are_timed_at_both() -> None:
    path = Path(__file__).parents[2] / "golden" / "data" / "functional" / "mlp_cv181x_int8.cvimodel"
    profile = profile_program(path, "recamera")
    assert profile.other_clock is not None
    at_500 = profile_program(path, board_named("recamera").variant(clock_mhz=500))
    assert profile.other_clock.ps == at_500.timeline.ps and at_500.other_clock is None
    assert profile_program(path, "duos").other_clock is None
