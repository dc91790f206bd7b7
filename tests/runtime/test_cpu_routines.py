"""Each CPU routine gives what the vendor's runtime gave for the same cvimodel, bit for bit.

cpu_routines.npz was recorded from libcviruntime of tpu_mlir 1.30.2: each case is a model of one CPU routine, with
random inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npusim import FileFormatError, Model, NpusimError
from npusim.loader.cvimodel_types import CpuRoutine, DType, SectionType, Weight
from npusim.runtime.cpu import CPU_FUNCTIONS
from npusim.runtime.cpu.expf import expf
from tests.loader.build_cvimodel import ModelData, SectionData, build_cvimodel, cpu_args, program, tensor

RECORDED = np.load(Path(__file__).parent / "cpu_routines.npz", allow_pickle=False)
CASES: list[dict[str, Any]] = json.loads(str(RECORDED["cases"]))
FORMATS = {"<f4": DType.FP32, "|i1": DType.INT8, "<u2": DType.BF16, "<i4": DType.INT32}


def arrays(index: int, side: str, names: list[str]) -> dict[str, np.ndarray]:
    return {name: RECORDED[f"{index}/{side}/{name}"] for name in names}


def one_routine(
    path: Path,
    function: str,
    inputs: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
    args: dict[str, Any],
    **weights: np.ndarray,
) -> Path:
    """Writes a model of one CPU routine to `path`."""
    tensors = [tensor(name, a.shape, FORMATS[a.dtype.str]) for name, a in (inputs | outputs).items()]
    data, entries = b"", []
    for name, a in weights.items():
        entries.append(Weight(name, (1 << 40) + len(data), a.nbytes, FORMATS[a.dtype.str], a.shape))
        data += a.tobytes()
    routine = CpuRoutine((*inputs, *weights), tuple(outputs), function, cpu_args(args))
    sections = [SectionData(SectionType.WEIGHT, "weight", data)]
    path.write_bytes(
        build_cvimodel(
            ModelData("cv181x", [program(tensors, [routine], list(inputs), list(outputs))], sections, entries)
        )
    )
    return path


@pytest.mark.parametrize("index", range(len(CASES)), ids=lambda i: f"{i}-{CASES[i]['function']}")
def test_routine_equals_the_vendors_runtime(index: int, tmp_path: Path) -> None:
    case = CASES[index]
    inputs, weights = arrays(index, "in", case["inputs"]), arrays(index, "in", case["weights"])
    outputs = arrays(index, "out", case["outputs"])
    model = Model(one_routine(tmp_path / "m.cvimodel", case["function"], inputs, outputs, case["args"], **weights))
    given = model.forward(inputs)
    assert {name: given[name].tobytes() for name in outputs} == {name: a.tobytes() for name, a in outputs.items()}


def test_every_function_was_recorded() -> None:
    assert {case["function"] for case in CASES} | {"softmax_cpu"} == set(CPU_FUNCTIONS)


def test_an_unknown_function_is_an_error_that_names_it(tmp_path: Path) -> None:
    x = {"x": np.zeros((1, 1, 1, 4), np.float32)}
    path = one_routine(tmp_path / "m.cvimodel", "my_custom_op", x, {"y": x["x"]}, {"a": 1})
    with pytest.raises(FileFormatError, match="CPU function 'my_custom_op' is not implemented"):
        Model(path)


@pytest.mark.parametrize("index", range(0, len(CASES), 5), ids=lambda i: f"{i}-{CASES[i]['function']}")
def test_a_routine_with_a_wrong_shape_or_argument_is_refused_when_loaded(index: int, tmp_path: Path) -> None:
    case = CASES[index]
    inputs, weights = arrays(index, "in", case["inputs"]), arrays(index, "in", case["weights"])
    outputs = {name: a.reshape(-1)[:1].reshape(1, 1, 1, 1) for name, a in arrays(index, "out", case["outputs"]).items()}
    with pytest.raises(FileFormatError, match=f"CPU routine {case['function']} for"):
        Model(one_routine(tmp_path / "m.cvimodel", case["function"], inputs, outputs, case["args"], **weights))


@pytest.mark.parametrize("index", range(2, len(CASES), 9), ids=lambda i: f"{i}-{CASES[i]['function']}")
def test_a_routine_without_arguments_is_refused_or_runs(index: int, tmp_path: Path) -> None:
    case = CASES[index]
    inputs, weights = arrays(index, "in", case["inputs"]), arrays(index, "in", case["weights"])
    path = one_routine(
        tmp_path / "m.cvimodel", case["function"], inputs, arrays(index, "out", case["outputs"]), {}, **weights
    )
    try:
        Model(path).forward(inputs)
    except NpusimError as error:
        assert "is missing" in str(error) or "must be" in str(error)


def test_an_index_out_of_range_is_refused(tmp_path: Path) -> None:
    source, index = np.zeros((1, 4, 1, 1), np.float32), np.full((1, 1, 1, 1), 4, np.int32)
    path = one_routine(
        tmp_path / "m.cvimodel", "gatherelements_pt", {"x": source, "i": index}, {"y": source[:, :1]}, {"axis": 1}
    )
    with pytest.raises(NpusimError, match="index 4, but its source has 4 rows"):
        Model(path).forward({"x": source, "i": index})


def test_quant_takes_a_signalling_nan_for_a_nan_without_a_warning(tmp_path: Path) -> None:
    nan, like = np.full((1, 1, 1, 1), 0x7F800001, np.uint32).view(np.float32), np.zeros((1, 1, 1, 1), np.int8)
    model = Model(one_routine(tmp_path / "m.cvimodel", "quant", {"x": nan}, {"y": like}, {"scale": 2.0}))
    assert model.forward({"x": nan})["y"].tolist() == [[[[0]]]]


def test_expf_reaches_its_limits_as_the_c_library_does() -> None:
    x = np.array([np.inf, -np.inf, 0, -0.0, 88.72283, 88.7229, -103.97, -103.98], np.float32)
    want = np.array([np.inf, 0, 1, 1, 3.4027985e38, np.inf, 1.4012985e-45, 0], np.float32)
    assert np.array_equal(expf(x), want)
    assert np.isnan(expf(np.array([np.nan], np.float32)))
