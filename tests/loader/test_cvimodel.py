"""The cvimodel loader reads what the vendor's compiler writes and refuses everything else in one sentence."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import lz4.block
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npusim import FileFormatError, UsageError
from npusim.errors import Md5Warning
from npusim.loader.cpu_args import parse_cpu_args
from npusim.loader.cvimodel import load_cvimodel, parse_cvimodel
from npusim.loader.cvimodel_types import CpuRoutine, DType, SectionType, TpuRoutine, Weight
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, cpu_args, program, tensor

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
SAMPLES = sorted(DATA.glob("*.cvimodel"))
SMALL = (DATA / "mlp_cv181x_int8.cvimodel").read_bytes()


def simple(**changes: object) -> ModelData:
    """A model of one CPU routine."""
    routine = CpuRoutine(("x",), ("y",), "quant", cpu_args({"from": "FP32", "to": "INT8", "scale": 2.0}))
    one = program([tensor("x", (1, 1, 1, 4)), tensor("y", (1, 1, 1, 4), DType.INT8)], [routine], ["x"], ["y"])
    return replace(ModelData("cv181x", [one], [SectionData(SectionType.WEIGHT, "weight", bytes(64))]), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_compiled_models_are_read_with_their_chip_and_programs(path: Path) -> None:
    model = load_cvimodel(path)
    assert model.chip.name == path.stem.split("_")[1]
    assert model.version == (1, 4, 0)
    assert all(p.inputs and p.outputs and any(isinstance(r, TpuRoutine) for r in p.routines) for p in model.programs)


def test_tensors_keep_shape_type_offset_and_scale() -> None:
    (one,) = parse_cvimodel(SMALL).programs
    by_name = {t.name: t for t in one.tensors}
    assert (by_name["x"].shape, by_name["x"].dtype, by_name["x"].offset >> 40) == ((1, 16, 64, 1), DType.FP32, 3)
    quantised = by_name["x/Relu_output_0_Relu_si8"]
    assert quantised.dtype == DType.INT8
    assert quantised.qscale == pytest.approx(1 / 38.677528381347656, rel=1e-3)


def test_arguments_of_cpu_routines_keep_their_types() -> None:
    wanted = {"i": -3, "f": 0.5, "b": True, "s": "text", "ints": [1, -2], "floats": [0.25, 2.0]}
    assert parse_cpu_args(cpu_args(wanted)) == wanted  # type: ignore[arg-type]
    assert parse_cpu_args(b"") == {}


@pytest.mark.parametrize("at", [48, 900, len(SMALL) - 1])
def test_any_changed_byte_behind_the_header_breaks_the_md5(at: int) -> None:
    damaged = bytearray(SMALL)
    damaged[at] ^= 1
    with pytest.raises((Md5Warning, FileFormatError)):
        parse_cvimodel(damaged)


def test_an_edited_file_is_read_with_a_warning_and_without_one_when_asked_to(tmp_path: Path) -> None:
    edited = tmp_path / "edited.cvimodel"
    edited.write_bytes(SMALL[:-1] + b"\xaa")
    with pytest.warns(Md5Warning, match="edited.cvimodel: md5"):
        warned = load_cvimodel(edited)
    assert warned.programs == load_cvimodel(edited, verify_md5=False).programs == parse_cvimodel(SMALL).programs


def test_mars_is_what_cv181x_was_called_in_2022() -> None:
    assert parse_cvimodel(build_cvimodel(simple(chip="mars"))).chip.name == "cv181x"


def test_the_md5_that_cvimodel_tool_leaves_unset_is_not_looked_at() -> None:
    data = bytearray(build_cvimodel(simple(padding=b"AA")))
    data[14:30] = bytes(16)
    assert parse_cvimodel(data).name == "test"


def test_version_1_0_has_a_short_header_and_means_cv183x() -> None:
    data = build_cvimodel(simple(version=(1, 0)))
    assert parse_cvimodel(data).chip.name == "cv183x"


def test_weights_are_named_with_shape_and_place() -> None:
    weight = Weight("w", (1 << 40) + 16, 8, DType.FP32, (1, 2, 1, 1))
    assert parse_cvimodel(build_cvimodel(simple(weights=[weight]))).weights == (weight,)


@pytest.mark.parametrize("length", [0, 7, 31, 47, 100, 1000, len(SMALL) - 1])
def test_a_cut_file_is_refused(length: int) -> None:
    with pytest.raises(FileFormatError):
        parse_cvimodel(SMALL[:length])


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load_cvimodel(tmp_path / "none.cvimodel")


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [(12, 2, "version 2.4"), (13, 9, "version 1.9"), (30, ord("x"), "chip 'xv181x' is not known")],
)
def test_a_foreign_header_is_refused_by_name(at: int, value: int, message: str) -> None:
    data = bytearray(SMALL)
    data[at] = value
    with pytest.raises(FileFormatError, match=message):
        parse_cvimodel(data)


def test_compressed_sections_are_decompressed() -> None:
    plain = bytes(range(256)) * 8
    stored = lz4.block.compress(plain, store_size=False)
    model = parse_cvimodel(build_cvimodel(simple(sections=[SectionData(SectionType.CMDBUF, "c", stored, len(plain))])))
    assert bytes(model.section_bytes(model.section_named("c"))) == plain


@pytest.mark.parametrize(
    ("stored", "size", "message"),
    [
        (bytes(10), 2551, "at most 2550 are allowed"),
        (bytes(10), 0xFFFFFFFF, "at most 2550 are allowed"),
        (lz4.block.compress(bytes(100), store_size=False), 101, "decompresses to 100 bytes"),
        (b"\xf0" * 50, 100, "not a valid lz4 block"),
    ],
)
def test_a_compressed_section_that_lies_about_its_size_is_refused(stored: bytes, size: int, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        model = parse_cvimodel(build_cvimodel(simple(sections=[SectionData(SectionType.CMDBUF, "c", stored, size)])))
        model.section_bytes(model.section_named("c"))


def test_an_encrypted_section_is_refused() -> None:
    model = parse_cvimodel(
        build_cvimodel(simple(sections=[SectionData(SectionType.CMDBUF, "c", bytes(8), encrypted=True)]))
    )
    with pytest.raises(FileFormatError, match="'c' is encrypted"):
        model.section_bytes(model.section_named("c"))


def test_a_section_past_the_end_is_refused() -> None:
    data = build_cvimodel(simple(sections=[SectionData(SectionType.CMDBUF, "c", bytes(64))]))
    with pytest.raises(FileFormatError, match="ends at byte 64 of the sections, but the file holds 63"):
        parse_cvimodel(data[:-1], verify_md5=False)


@pytest.mark.parametrize("shape", [(1 << 20, 1 << 20, 1, 1), (1, 0, 1, 1), (1, -1, 1, 1), (1, 1, 1)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    one = program([tensor("x", shape)], [], ["x"], ["x"])  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match="tensor 'x'"):
        parse_cvimodel(build_cvimodel(simple(programs=[one])))


def test_a_program_that_names_an_unknown_tensor_is_refused() -> None:
    one = program([tensor("x", (1, 1, 1, 1))], [], ["x"], ["z"])
    with pytest.raises(FileFormatError, match="tensor 'z'"):
        parse_cvimodel(build_cvimodel(simple(programs=[one])))


def test_tables_that_share_their_children_cannot_make_the_reader_run_for_long() -> None:
    """5,000 offsets to one program that has 5,000 offsets to one tensor: 25 million tensors in 40 KB."""
    data = build_cvimodel(simple(programs=[program([tensor("x", (1, 1, 1, 1))] * 5000, [], ["x"], ["x"])] * 5000))
    assert len(data) < 50_000
    with pytest.raises(FileFormatError, match="refer to the same bytes over and over"):
        parse_cvimodel(data)


def test_an_offset_to_itself_anywhere_gives_a_model_or_a_file_format_error() -> None:
    """Offset 0 makes a field point at its own place, the shortest cycle there is."""
    for at in range(48, 48 + struct.unpack_from("<I", SMALL, 8)[0] - 4, 4):
        data = bytearray(SMALL)
        struct.pack_into("<I", data, at, 0)
        try:
            parse_cvimodel(data, verify_md5=False)
        except FileFormatError:
            continue


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_description_gives_a_model_or_a_file_format_error(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(SMALL)
    for at, value in changes:
        damaged[at] = value
    try:
        model = parse_cvimodel(damaged, verify_md5=False)
    except FileFormatError as error:
        assert "\n" not in str(error)
    else:
        assert model.programs
