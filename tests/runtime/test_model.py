"""`Model` takes what the vendor's runner takes, converts it as it does, and refuses the rest before anything runs."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import lz4.block
import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from npusim import FileFormatError, Model, NpusimError, UsageError
from npusim.loader.cvimodel import load_cvimodel
from npusim.loader.cvimodel_types import CpuRoutine, Cvimodel, DType, Section, SectionType, TpuRoutine
from npusim.program.cmdbuf import parse_cmdbuf
from npusim.program.dmabuf import write_dmabuf
from npusim.runtime.frame import FRAME_ALIGNMENT, pad_frame, tensor_bytes
from npusim.runtime.quantize import quantize_input
from npusim.runtime.tensor import TensorInfo, info_of_tensor
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, cpu_args, program, tensor

DATA = Path(__file__).parents[2] / "golden" / "data" / "functional"
MLP = DATA / "mlp_cv181x_int8.cvimodel"
SHAPE = (1, 1, 1, 4)


def passing(path: Path, dtype: DType, **changes: object) -> Model:
    """A model whose only tensor is input and output, so that what arrives can be seen."""
    one = program([tensor("x", SHAPE, dtype, **changes)], [], ["x"], ["x"])
    path.write_bytes(build_cvimodel(ModelData("cv181x", [one])))
    return Model(path)


def info(dtype: DType, qscale: float = 1.0, zero_point: int = 0) -> TensorInfo:
    return TensorInfo("x", SHAPE, dtype, qscale, zero_point, "", False, (), (), 0)


def half_away(value: float) -> int:
    """C's round in plain Python."""
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


@given(x=st.floats(-300, 300, width=32), qscale=st.floats(0.125, 2, width=32), zero_point=st.integers(-5, 5))
@example(x=0.49999997, qscale=1.0, zero_point=0)
@example(x=-0.5, qscale=1.0, zero_point=0)
def test_float_becomes_int8_times_qscale_half_away_from_zero_saturated(
    x: float, qscale: float, zero_point: int
) -> None:
    product = float(np.float32(x) * np.float32(qscale))
    want = min(max(half_away(product) + zero_point, -128), 127)
    assert quantize_input(np.array([x], np.float32), info(DType.INT8, qscale, zero_point)).tolist() == [want]


@given(st.floats(-300, 300, width=32))
def test_float_becomes_uint8_saturated_above_and_wrapped_below(x: float) -> None:
    assert quantize_input(np.array([x], np.float32), info(DType.UINT8)).tolist() == [min(half_away(x), 255) % 256]


@given(st.floats(width=32))
def test_float_becomes_bf16_by_truncation_and_infinity_the_largest(x: float) -> None:
    (bits,) = struct.unpack("<I", struct.pack("<f", x))
    want = 0x7F7F if (bits >> 16) & 0x7F80 == 0x7F80 else bits >> 16
    assert quantize_input(np.array([x], np.float32), info(DType.BF16)).tolist() == [want]


def test_nan_has_no_integer_value() -> None:
    with pytest.raises(UsageError, match="holds NaN, which has no INT8 value"):
        quantize_input(np.array([np.nan], np.float32), info(DType.INT8))


def test_infinity_saturates() -> None:
    assert quantize_input(np.array([np.inf, -np.inf], np.float32), info(DType.INT8)).tolist() == [127, -128]


@pytest.mark.parametrize(
    ("dtype", "value", "want"),
    [
        (DType.INT8, np.array([1, -2, 3, 127], np.int64), [1, -2, 3, 127]),
        (DType.FP32, np.array([1, 2, 3, 4], np.int32), [1, 2, 3, 4]),
        (DType.FP32, np.array([1.5, 2, 3, 4], ml_dtypes.bfloat16), [1.5, 2, 3, 4]),
        (DType.BF16, np.array([1.5, 2, 3, 4], ml_dtypes.bfloat16), [0x3FC0, 0x4000, 0x4040, 0x4080]),
        (DType.BF16, np.array([0x3FC0, 1, 2, 3], np.uint16), [0x3FC0, 1, 2, 3]),
        (DType.BF16, np.full(4, 0x7FF0000000000001, np.uint64).view(np.float64), [0x7F7F] * 4),  # signalling NaN
        (DType.BF16, [1.5, 2.0, 3.0, 4.0], [0x3FC0, 0x4000, 0x4040, 0x4080]),
        (DType.INT32, np.array([[1], [2], [3], [-4]]), [1, 2, 3, -4]),
        (DType.UINT16, np.array([1.5, 2.5, 3.4, 65537.0]), [2, 3, 3, 1]),
    ],
)
def test_an_input_arrives_as_documented(tmp_path: Path, dtype: DType, value: np.ndarray, want: list[float]) -> None:
    given = passing(tmp_path / "m.cvimodel", dtype).forward({"x": value})["x"]
    assert (given.shape, given.dtype) == (SHAPE, dtype.numpy)
    assert given.reshape(-1).tolist() == want


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1, 2, 3, 128]), "holds values from 1 to 128, which INT8 cannot hold"),
        (np.zeros(5, np.int8), r"has shape \(5,\), 5 elements, but its tensor is \(1, 1, 1, 4\), 4"),
        (np.array(["a"] * 4), "inputs are numbers"),
        ([[1], [2, 3]], "is not an array"),
        (np.zeros(4, complex), "inputs are numbers"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        passing(tmp_path / "m.cvimodel", DType.INT8).forward({"x": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("shape", "wanted", "same"),
    [
        ((3, 4, 5), (1, 3, 4, 5), True),
        ((3, 1, 5), (1, 3, 5, 1), True),
        ((1, 4, 5, 3), (1, 3, 4, 5), False),
        ((60,), (1, 3, 4, 5), False),
        ((3, 20), (1, 3, 4, 5), False),
        ((1, 3, 4, 2, 5), (1, 3, 4, 10), True),
        ((2, 3, 4, 1, 5), (1, 6, 4, 5), True),
        ((1, 3, 2, 4, 5), (1, 3, 4, 10), False),
    ],
)
def test_an_input_has_its_tensors_axes_unless_it_is_to_be_reshaped(
    shape: tuple[int, ...], wanted: tuple[int, int, int, int], same: bool, tmp_path: Path
) -> None:
    one = program([tensor("x", wanted, DType.INT8)], [], ["x"], ["x"])
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [one])))
    model, value = Model(tmp_path / "m.cvimodel"), np.arange(math.prod(shape), dtype=np.int8).reshape(shape)
    if not same:
        with pytest.raises(UsageError, match=re.escape(f"shape {shape}, but its tensor is {wanted}: transpose it")):
            model.forward({"x": value})
    given = model.forward({"x": value}, reshape=not same)["x"]
    assert given.shape == wanted and np.array_equal(given.reshape(-1), value.reshape(-1))


@pytest.mark.parametrize(
    ("names", "message"), [([], "input 'x' is missing"), (["x", "z"], "input 'z' is unknown; the model takes x")]
)
def test_wrong_input_names_are_refused(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        passing(tmp_path / "m.cvimodel", DType.INT8).forward(dict.fromkeys(names, np.zeros(4)))


def test_a_refused_input_changes_nothing(tmp_path: Path) -> None:
    model = passing(tmp_path / "m.cvimodel", DType.INT8)
    model.forward({"x": np.array([1, 2, 3, 4])})
    with pytest.raises(UsageError):
        model.forward({"x": np.array([9, 9, 9, 999])})
    assert model._loaded.tensors["x"].array.reshape(-1).tolist() == [1, 2, 3, 4]


def test_the_model_says_what_it_takes_and_gives() -> None:
    model = Model(MLP)
    assert model.chip.name == "cv181x"
    assert [(t.name, t.shape, t.dtype, t.format) for t in model.inputs] == [
        ("x", (1, 16, 64, 1), np.dtype("<f4"), DType.FP32)
    ]
    assert [t.name for t in model.outputs] == ["11_Add_f32"]
    assert {t.name for t in model.inputs + model.outputs} <= {t.name for t in model.tensors}


@pytest.mark.parametrize("net", ["mlp", "step"])
def test_all_tensors_hold_the_outputs_and_what_was_not_overwritten(net: str) -> None:
    model = Model(DATA / f"{net}_cv181x_int8.cvimodel")
    given = model.forward(dict(np.load(DATA / f"{net}.in.npz")), all_tensors=True)
    recorded = np.load(DATA / f"{net}_cv181x_int8.out.npz").files
    assert set(given) == set(recorded) | {t.name for t in model.outputs}


def test_results_are_copies() -> None:
    model, x = Model(MLP), np.load(DATA / "mlp.in.npz")["x"]
    first = model.forward({"x": x})["11_Add_f32"]
    kept = first.copy()
    model.forward({"x": -x})
    assert np.array_equal(first, kept)


def test_two_models_share_nothing() -> None:
    x = np.load(DATA / "mlp.in.npz")["x"]
    one, other = Model(MLP), Model(MLP)
    want = one.forward({"x": x})["11_Add_f32"]
    other.forward({"x": -x})
    assert np.array_equal(one.forward({"x": x})["11_Add_f32"], want)


def rewritten(path: Path, convert: Callable[[Cvimodel, Section], SectionData]) -> Path:
    """The bundled model with each command section as `convert` makes it."""
    model = load_cvimodel(MLP)
    sections = [convert(model, s) if s.kind == SectionType.CMDBUF else unchanged(model, s) for s in model.sections]
    path.write_bytes(build_cvimodel(ModelData(model.chip.name, model.programs, sections, model.weights)))
    return path


def unchanged(model: Cvimodel, section: Section) -> SectionData:
    return SectionData(section.kind, section.name, bytes(model.section_bytes(section)))


def compressed(model: Cvimodel, section: Section) -> SectionData:
    plain = bytes(model.section_bytes(section))
    return SectionData(section.kind, section.name, lz4.block.compress(plain, store_size=False), len(plain))


def as_dmabuf(model: Cvimodel, section: Section) -> SectionData:
    dmabuf = write_dmabuf(parse_cmdbuf(model.chip, model.section_bytes(section)))
    return SectionData(SectionType.DMABUF, section.name, dmabuf)


@pytest.mark.parametrize("convert", [compressed, as_dmabuf])
def test_a_compressed_section_and_a_dmabuf_run_as_the_command_buffer_does(tmp_path: Path, convert: Callable) -> None:
    x = np.load(DATA / "mlp.in.npz")["x"]
    want = Model(MLP).forward({"x": x}, all_tensors=True)
    given = Model(rewritten(tmp_path / "m.cvimodel", convert)).forward({"x": x}, all_tensors=True)
    assert {name: a.tobytes() for name, a in given.items()} == {name: a.tobytes() for name, a in want.items()}


def test_a_program_that_the_file_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="program 1 does not exist"):
        Model(MLP, program=1)


def test_an_old_model_shares_one_memory_for_both_neuron_regions(tmp_path: Path) -> None:
    tensors = [tensor("x", SHAPE, DType.INT8, offset=16), tensor("y", SHAPE, DType.INT8, offset=(2 << 40) + 16)]
    one = program(tensors, [], ["x"], ["y"])
    old = type(one)(**{**one.__dict__, "neuron_bytes": 64})
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv183x", [old], version=(1, 0))))
    assert Model(tmp_path / "m.cvimodel").forward({"x": np.array([1, 2, 3, 4])})["y"].reshape(-1).tolist() == [
        1,
        2,
        3,
        4,
    ]


def test_a_memory_map_beyond_512_mib_is_refused_with_its_numbers(tmp_path: Path) -> None:
    big = tensor("x", (1, 600, 1024, 1024), DType.INT8, offset=3 << 40)
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [program([big], [], ["x"], ["x"])])))
    with pytest.raises(
        FileFormatError, match=r"needs 629153792 bytes \(shared 4096, private 4096, input or output 3 629145600\)"
    ):
        Model(tmp_path / "m.cvimodel")


def test_host_tensors_beyond_512_mib_are_refused(tmp_path: Path) -> None:
    big = tensor("x", (1, 600, 1024, 1024), DType.INT8)
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [program([big], [], ["x"], ["x"])])))
    with pytest.raises(FileFormatError, match="tensors in host memory need 629145600 bytes"):
        Model(tmp_path / "m.cvimodel")


def test_a_routine_that_runs_a_missing_section_is_refused(tmp_path: Path) -> None:
    one = program([tensor("x", SHAPE)], [TpuRoutine(("x",), ("x",), "sub")], ["x"], ["x"])
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [one])))
    with pytest.raises(FileFormatError, match="no command or dmabuf section of that name"):
        Model(tmp_path / "m.cvimodel")


def test_damaged_commands_are_refused_with_their_section(tmp_path: Path) -> None:
    one = program([tensor("x", SHAPE)], [TpuRoutine(("x",), ("x",), "sub")], ["x"], ["x"])
    section = SectionData(SectionType.CMDBUF, "sub", b"\xa7\x70\0")
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [one], [section])))
    with pytest.raises(FileFormatError, match="section 'sub': command 0 at byte 0"):
        Model(tmp_path / "m.cvimodel")


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, len(MLP.read_bytes()) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_model_is_refused_or_runs(changes: list[tuple[int, int]]) -> None:
    data = bytearray(MLP.read_bytes())
    for at, value in changes:
        data[at] = value
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.cvimodel"
        path.write_bytes(data)
        try:
            model = Model(path, verify_md5=False)
            model.forward({tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in model.inputs})
        except NpusimError as error:
            assert "\n" not in str(error)


def test_a_cpu_routine_that_names_an_unknown_tensor_is_refused(tmp_path: Path) -> None:
    one = program([tensor("x", SHAPE)], [CpuRoutine(("w",), ("x",), "softmax", cpu_args({"axis": 1}))], ["x"], ["x"])
    (tmp_path / "m.cvimodel").write_bytes(build_cvimodel(ModelData("cv181x", [one])))
    with pytest.raises(NpusimError, match="uses 'w', which is neither an activation nor a weight"):
        Model(tmp_path / "m.cvimodel")


@pytest.mark.parametrize(
    ("pixel_format", "shape", "chip", "want"),
    [
        ("RGB_PLANAR", (1, 3, 20, 30), "cv181x", 3 * 20 * 64),
        ("RGB_PLANAR", (1, 3, 20, 30), "cv183x", 3 * 4096),
        ("BGR_PACKED", (2, 20, 30, 3), "cv181x", 2 * 20 * 128),
        ("BGR_PACKED", (2, 3, 20, 30), "cv181x", 2 * 20 * 128),
        ("GRAYSCALE", (1, 1, 20, 30), "cv183x", 20 * 32),
        ("YUV_NV12", (1, 3, 20, 30), "cv181x", 20 * 64 + 10 * 64),
        ("YUV420_PLANAR", (1, 3, 20, 30), "cv181x", 20 * 128 + 2 * 10 * 64),
    ],
)
def test_an_aligned_frame_is_as_large_as_its_padded_rows(
    pixel_format: str, shape: tuple[int, int, int, int], chip: str, want: int
) -> None:
    frame = tensor("x", shape, DType.UINT8, pixel_format=pixel_format, aligned=True)
    assert tensor_bytes(frame, FRAME_ALIGNMENT[chip]) == want


@pytest.mark.parametrize("pixel_format", ["RGB_PLANAR", "BGR_PACKED", "GRAYSCALE"])
def test_plain_pixels_are_padded_row_by_row(pixel_format: str) -> None:
    shape = {"RGB_PLANAR": (2, 3, 5, 7), "BGR_PACKED": (2, 5, 7, 3), "GRAYSCALE": (2, 1, 5, 7)}[pixel_format]
    alignment = FRAME_ALIGNMENT["cv183x"]
    frame = tensor("x", shape, DType.UINT8, pixel_format=pixel_format, aligned=True)
    pixels = np.arange(1, math.prod(shape) + 1).astype(np.uint8)
    padded = pad_frame(
        pixels, pixel_format, shape, info_of_tensor(frame, tensor_bytes(frame, alignment)).num_bytes, alignment
    )
    assert padded is not None
    row = 21 if pixel_format == "BGR_PACKED" else 7
    assert padded[:row].tolist() == pixels[:row].tolist()
    assert padded[32 : 32 + row].tolist() == pixels[row : 2 * row].tolist()
    assert np.array_equal(padded[padded > 0], pixels)


def test_an_unknown_pixel_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="pixel format 'CMYK'"):
        passing(tmp_path / "m.cvimodel", DType.UINT8, pixel_format="CMYK", aligned=True)
