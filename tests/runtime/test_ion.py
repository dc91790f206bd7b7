"""ION sizes of model files agree with the vendor's table for files of that size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from npusim.loader.cvimodel import load_cvimodel, parse_cvimodel
from npusim.loader.cvimodel_types import SectionType, TpuRoutine
from npusim.runtime.ion import ion_use
from npusim.runtime.model import Model
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, program, tensor

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"


def test_the_total_is_weights_commands_shared_private_and_io() -> None:
    inputs = tensor("x", (1, 1, 10, 100), offset=3 << 40)
    one = program([inputs], [TpuRoutine(("x",), ("x",), "sub")], ["x"], ["x"])
    sections = [
        SectionData(SectionType.WEIGHT, "weight", bytes(512)),
        SectionData(SectionType.CMDBUF, "sub", bytes(96)),
    ]
    ion = ion_use(parse_cvimodel(build_cvimodel(ModelData("cv181x", [one], sections))))
    assert (ion.weights, ion.commands, ion.shared, ion.private, ion.io) == (512, 96, 4096, 4096, 4000)
    assert ion.total == 512 + 96 + 4096 + 4096 + 4000


def test_shared_memory_is_the_largest_of_all_programs_and_commands_are_a_programs_own() -> None:
    one = program([tensor("x", (1, 1, 1, 4))], [TpuRoutine(("x",), ("x",), "a")], ["x"], ["x"])
    programs = [one, replace(one, batch=4, shared_bytes=8192, routines=(TpuRoutine(("x",), ("x",), "b"),))]
    sections = [SectionData(SectionType.CMDBUF, name, bytes(size)) for name, size in (("a", 10), ("b", 20))]
    model = parse_cvimodel(build_cvimodel(ModelData("cv181x", programs, sections)))
    assert [(ion_use(model, i).shared, ion_use(model, i).commands) for i in (0, 1)] == [(8192, 10), (8192, 20)]


def test_what_the_model_maps_is_ion_but_for_the_commands() -> None:
    for path in DATA.glob("*_cv181x_*.cvimodel"):
        ion = ion_use(load_cvimodel(path))
        assert 0 <= Model(path).num_bytes - (ion.total - ion.commands) < 8 * 4096, "regions start at whole pages"


def test_a_program_fits_the_boards_of_its_chip_that_have_as_much_ion() -> None:
    ion = replace(ion_use(load_cvimodel(DATA / "mlp_cv181x_int8.cvimodel")), io=72 << 20)
    fits = {board.name: fits for board, fits in ion.boards("cv181x").items()}
    assert fits["duo256m"] and not fits["duos"] and "duo" not in fits
