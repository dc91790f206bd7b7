"""Capture from libcviruntime.

What inputs become, what is refused before the library is called, and that the file works alone."""

from __future__ import annotations

import ast
import ctypes
import math
import os
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import golden.capture
from golden import GoldenError, Verdict, compare, read_archive, write_archive
from golden.capture import DTYPES, FORMATS, CviTensor, capture, load_library, quantise, run_model
from tests.golden.fake_cviruntime import FakeRuntime, tensor
from tests.golden.strategies import SIGNALLING_NANS, finite_bf16

SCRIPT = Path(golden.capture.__file__)
DATA = SCRIPT.parent / "data" / "functional"
LIB = os.environ.get("CVI_LIB")
FORMAT_NUMBERS = {name: number for number, name in enumerate(FORMATS)}
needs_library = pytest.mark.skipif(not LIB, reason="CVI_LIB names no directory with libcviruntime.so")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that looks like a cvimodel from outside."""
    path = tmp_path / "m.cvimodel"
    path.write_bytes(b"CviModel" + (16).to_bytes(4, "little") + bytes(36) + bytes(16))
    return str(path)


def as_c_does(x: float, qscale: float, zero_point: int, low: int, high: int) -> int:
    """round(x * qscale) + zero_point, the product in float32 and C's round, in plain Python."""
    product = float(np.float32(x) * np.float32(qscale))
    magnitude = math.floor(abs(product))
    magnitude += abs(product) - magnitude >= 0.5
    return min(max(int(math.copysign(magnitude, product)) + zero_point, low), high)


@given(
    st.lists(
        st.one_of(st.floats(-300, 300, width=32), st.integers(-600, 600).map(lambda n: n / 2)), min_size=1, max_size=20
    ),
    st.sampled_from([1.0, 0.5, 38.114315, 2.0**-10]),
    st.integers(-128, 127),
    st.sampled_from(["INT8", "UINT8"]),
)
def test_floats_become_8_bit_as_the_vendors_runner_makes_them(
    values: list[float], qscale: float, zero_point: int, fmt: str
) -> None:
    found = quantise(np.array(values, np.float32), FORMAT_NUMBERS[fmt], qscale, zero_point)
    limits = np.iinfo(found.dtype)
    assert found.dtype == DTYPES[FORMAT_NUMBERS[fmt]]
    assert found.tolist() == [as_c_does(x, qscale, zero_point, int(limits.min), int(limits.max)) for x in values]


def test_the_largest_float_below_a_half_rounds_to_zero() -> None:
    assert quantise(np.array([0.49999997, 0.5, -0.5], np.float32), FORMAT_NUMBERS["INT8"], 1.0, 0).tolist() == [
        0,
        1,
        -1,
    ]


def test_infinities_and_huge_floats_saturate() -> None:
    huge = np.array([math.inf, -math.inf, 3e38, -3e38], np.float32)
    assert quantise(huge, FORMAT_NUMBERS["INT8"], 100.0, 5).tolist() == [127, -128, 127, -128]
    assert quantise(huge, FORMAT_NUMBERS["UINT8"], 100.0, 5).tolist() == [255, 0, 255, 0]
    assert quantise(huge, FORMAT_NUMBERS["INT16"], 100.0, 5).tolist() == [32767, -32768, 32767, -32768]


def test_sixteen_bit_integers_take_no_scale() -> None:
    assert quantise(np.array([2.5, -2.5, 7.0]), FORMAT_NUMBERS["INT16"], 9.0, 9).tolist() == [3, -3, 7]


def test_floats_are_cut_to_bf16_and_what_is_not_finite_becomes_the_largest() -> None:
    just_below_two = np.nextafter(np.float32(2), np.float32(0))
    values = np.array([just_below_two, -1.5, math.inf, -math.inf, math.nan], np.float32)
    assert [hex(bits) for bits in quantise(values, FORMAT_NUMBERS["BF16"], 1.0, 0)] == [
        "0x3fff",
        "0xbfc0",
        "0x7f7f",
        "0x7f7f",
        "0x7f7f",
    ]


@pytest.mark.parametrize("nan", [nan for nan in SIGNALLING_NANS if nan.dtype.kind == "f"], ids=lambda n: n.dtype.name)
def test_a_signalling_nan_is_stored_or_refused_as_a_quiet_one(nan: np.ndarray) -> None:
    assert quantise(nan, FORMAT_NUMBERS["BF16"], 1.0, 0).tolist() == [0x7F7F]
    assert np.isnan(quantise(nan, FORMAT_NUMBERS["FP32"], 1.0, 0)).all()
    with pytest.raises(GoldenError, match="NaN cannot be quantised to INT8"):
        quantise(nan, FORMAT_NUMBERS["INT8"], 1.0, 0)


@given(finite_bf16())
def test_bf16_patterns_and_the_floats_they_stand_for_are_stored_alike(patterns: np.ndarray) -> None:
    values = patterns.view(ml_dtypes.bfloat16).astype(np.float32)
    for given_as in (patterns, values, values.astype(np.float64)):
        assert np.array_equal(quantise(given_as, FORMAT_NUMBERS["BF16"], 1.0, 0), patterns.ravel())


@pytest.mark.parametrize("fmt", ["INT8", "UINT8", "INT16", "UINT16", "INT32", "UINT32", "FP32"])
def test_integers_that_fit_are_stored_as_they_are(fmt: str) -> None:
    assert quantise(np.array([[0, 5], [127, 1]], np.int64), FORMAT_NUMBERS[fmt], 9.0, 9).tolist() == [0, 5, 127, 1]


@pytest.mark.parametrize(
    ("values", "fmt", "sentence"),
    [
        (np.array([300, -1]), "INT8", "integers from -1 to 300 do not fit INT8: give floats to have them quantised"),
        (np.array([-1], np.int8), "UINT8", "integers from -1 to -1 do not fit UINT8"),
        (np.array([math.nan]), "INT8", "NaN cannot be quantised to INT8"),
        (np.array([1.0]), "INT32", "floats do not convert to INT32: give int32"),
        (np.array([1], np.int8), "BF16", "dtype int8 does not convert to BF16: give floats, or the tensor's own type"),
        (np.array([1], np.uint16), "FP32", "dtype uint16 does not convert to FP32"),
        (np.array(["a"]), "FP32", "does not convert to FP32"),
        (np.array([None]), "INT8", "dtype object does not convert"),
    ],
)
def test_what_cannot_be_stored_is_refused(values: np.ndarray, fmt: str, sentence: str) -> None:
    with pytest.raises(GoldenError, match=sentence):
        quantise(values, FORMAT_NUMBERS[fmt], 1.0, 0)


def test_structures_are_laid_out_as_a_64_bit_compiler_lays_out_the_header() -> None:
    expected = {
        "shape": 8,
        "fmt": 40,
        "count": 48,
        "sys_mem": 64,
        "qscale": 84,
        "aligned": 96,
        "mean": 100,
        "owner": 128,
        "reserved": 136,
    }
    assert {name: getattr(CviTensor, name).offset for name in expected} == expected
    assert ctypes.sizeof(CviTensor) == 168


def test_every_tensor_comes_back_in_its_own_format(model: str) -> None:
    ins = [
        tensor("a", "INT8", (1, 2, 2, 1), qscale=2.0),
        tensor("b", "BF16", (1, 3, 1, 1)),
        tensor("c", "UINT16", (1, 1, 1, 2)),
    ]
    outs = [tensor("p", "INT8", (1, 4, 1, 1)), tensor("q", "BF16", (3, 1, 1, 1)), tensor("r", "UINT16", (1, 1, 1, 2))]
    runtime = FakeRuntime(ins, outs)
    values = {
        "a": np.array([[1.0, -1], [100, 0.25]], np.float32),
        "b": np.array([1.0, 2.0, 3.0]),
        "c": np.array([7, 65535]),
    }
    made = run_model(runtime, model, values)
    assert {name: (x.dtype.name, x.shape) for name, x in made.items()} == {
        "p": ("int8", (1, 4, 1, 1)),
        "q": ("uint16", (3, 1, 1, 1)),
        "r": ("float32", (1, 1, 1, 2)),  # uint16 in an archive means bf16
    }
    assert made["p"].ravel().tolist() == [2, -2, 127, 1]
    assert made["q"].ravel().tolist() == [0x3F80, 0x4000, 0x4040]
    assert made["r"].ravel().tolist() == [7.0, 65535.0]
    assert runtime.calls == ["RegisterModel", "SetConfig", "GetInputOutputTensors", "Forward", "CleanupModel"]


def test_outputs_stay_when_the_library_frees_its_memory(model: str) -> None:
    outs = [tensor("p", "INT8", (1, 1, 1, 4))]
    made = run_model(FakeRuntime([tensor("a", "INT8", (1, 1, 1, 4))], outs), model, {"a": np.arange(4)})
    ctypes.memset(outs[0].sys_mem, 0xFF, 4)
    assert made["p"].ravel().tolist() == [0, 1, 2, 3]


def test_padded_frames_are_taken_and_given_as_flat_memory(model: str) -> None:
    frame = tensor("f", "UINT8", (1, 3, 4, 5), mem_size=768)
    made = run_model(
        FakeRuntime([frame], [tensor("g", "UINT8", (1, 3, 4, 5), mem_size=768)]), model, {"f": np.arange(768) % 256}
    )
    assert made["g"].shape == (1, 1, 1, 768) and np.array_equal(made["g"].ravel(), np.arange(768) % 256)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, r"inputs none were given, and the model takes exactly a \(1, 2, 2, 1\) INT8"),
        ({"b": np.zeros((2, 2))}, "inputs b were given"),
        ({"a": np.zeros((2, 2)), "b": np.zeros(1)}, "inputs a, b were given"),
        (
            {"a": np.zeros(4)},
            r"input a has shape \(4,\) and the model takes \(1, 2, 2, 1\): only axes of length 1 may differ",
        ),
        ({"a": np.full((2, 2), math.nan)}, "input a: NaN cannot be quantised to INT8"),
    ],
)
def test_wrong_inputs_are_refused_before_anything_runs(
    model: str, inputs: dict[str, np.ndarray], sentence: str
) -> None:
    runtime = FakeRuntime([tensor("a", "INT8", (1, 2, 2, 1))], [tensor("p", "INT8", (1, 2, 2, 1))])
    with pytest.raises(GoldenError, match=sentence):
        run_model(runtime, model, inputs)
    assert "Forward" not in runtime.calls and runtime.calls[-1] == "CleanupModel"
    assert bytes(runtime.inputs[0].sys_mem[:4]) == b"\x5a" * 4


def test_no_input_is_written_where_another_is_refused(model: str) -> None:
    runtime = FakeRuntime(
        [tensor("a", "INT8", (1, 1, 1, 1)), tensor("b", "INT8", (1, 1, 1, 1))], [tensor("p", "INT8", (1, 1, 1, 1))]
    )
    with pytest.raises(GoldenError, match="input b: NaN"):
        run_model(runtime, model, {"a": np.zeros(1), "b": np.array([math.nan])})
    assert [made.sys_mem[0] for made in runtime.inputs] == [0x5A, 0x5A]


@pytest.mark.parametrize("failing", ["RegisterModel", "GetInputOutputTensors", "Forward"])
def test_an_error_code_of_the_library_is_a_sentence_and_the_model_is_cleaned_up(model: str, failing: str) -> None:
    runtime = FakeRuntime([tensor("a", "INT8", (1, 1, 1, 1))], [tensor("p", "INT8", (1, 1, 1, 1))], failing)
    with pytest.raises(GoldenError, match=r"the runtime .*m\.cvimodel \(code -1\)"):
        run_model(runtime, model, {"a": np.zeros(1)})
    assert runtime.calls[-1] == ("RegisterModel" if failing == "RegisterModel" else "CleanupModel")


def test_tensors_out_of_the_processors_reach_are_refused(model: str) -> None:
    far = tensor("a", "INT8", (1, 1, 1, 1))
    far.mem_type = 2
    with pytest.raises(GoldenError, match="tensor a is in device memory only"):
        run_model(FakeRuntime([far], [tensor("p", "INT8", (1, 1, 1, 1))]), model, {"a": np.zeros(1)})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not a cvimodel"),
        (b"CviModel" + bytes(39), "is not a cvimodel"),
        (
            b"cvimodel" + bytes(40),
            "is not a cvimodel: it must begin with a header of 48 bytes and the letters CviModel",
        ),
        (b"CviModel" + b"\xff" * 40, "is cut off: its header tells of 4294967343 bytes and it has 48"),
    ],
)
def test_files_on_which_the_library_would_abort_never_reach_it(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "m.cvimodel"
    path.write_bytes(content)
    runtime = FakeRuntime([tensor("a", "INT8", (1, 1, 1, 1))], [tensor("p", "INT8", (1, 1, 1, 1))])
    with pytest.raises(GoldenError, match=sentence):
        run_model(runtime, str(path), {})
    assert runtime.calls == []


def test_a_missing_library_is_a_sentence_that_tells_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(
        GoldenError, match=r"libcviruntime\.so cannot be loaded in .*: give its directory with --lib or CVI_LIB"
    ):
        load_library(str(tmp_path))


def test_capture_hands_on_the_sentence_of_its_child(tmp_path: Path, model: str) -> None:
    with pytest.raises(GoldenError, match=r"^libcviruntime\.so cannot be loaded in"):
        capture(model, {"x": np.zeros(1, ml_dtypes.bfloat16)}, tmp_path)


def test_the_file_imports_the_standard_library_and_numpy_alone() -> None:
    imports = [
        node for node in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names | {"numpy"}


def run_copy(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    copied = tmp_path / "board" / "capture.py"
    copied.parent.mkdir()
    copied.write_bytes(SCRIPT.read_bytes())
    return subprocess.run([sys.executable, "-I", str(copied), *arguments], capture_output=True, text=True, check=False)


def test_a_copy_of_the_file_runs_as_a_plain_script_and_ends_with_one_sentence(tmp_path: Path, model: str) -> None:
    write_archive(tmp_path / "in.npz", {"x": np.zeros(1)})
    done = run_copy(
        tmp_path, model, "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz"), "--lib", str(tmp_path)
    )
    assert done.returncode == 2
    assert done.stderr.startswith("capture: libcviruntime.so cannot be loaded") and done.stderr.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("input_name", "output_name", "sentence"),
    [
        ("none.npz", "out.npz", "none.npz cannot be read as an .npz archive: [Errno 2] No such file"),
        ("junk.npz", "out.npz", "junk.npz cannot be read as an .npz archive: File is not a zip file"),
        ("in.npz", "none/out.npz", "out.npz cannot be written: its directory does not exist"),
    ],
)
def test_bad_paths_are_one_sentence_each(
    tmp_path: Path, model: str, input_name: str, output_name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "junk.npz").write_bytes(b"junk")
    write_archive(tmp_path / "in.npz", {"x": np.zeros(1)})
    assert golden.capture.main([model, "-i", str(tmp_path / input_name), "-o", str(tmp_path / output_name)]) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out


@needs_library
@pytest.mark.parametrize("path", sorted(DATA.glob("mlp_*.cvimodel")), ids=lambda path: path.stem)
def test_the_vendors_library_gives_the_golden_tensors(path: Path) -> None:
    made = capture(path, read_archive(DATA / f"{path.stem.partition('_')[0]}.in.npz"), LIB)
    result = compare(made, read_archive(path.with_suffix(".out.npz")), 0)
    assert result and all(tensor.verdict is Verdict.EQUAL for tensor in result.tensors)
    assert not result.only_in_target and not result.only_in_reference


@needs_library
def test_an_abort_of_the_library_is_a_sentence_and_not_the_callers_end(model: str) -> None:
    with pytest.raises(
        GoldenError, match=r"the runtime library ended with SIG[A-Z]+ on .*m\.cvimodel, which may be damaged"
    ):
        capture(model, {"x": np.zeros(1)}, LIB)
