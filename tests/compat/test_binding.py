"""The vendor's Python binding on npusim, compared with recorded results of the vendor's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from golden import read_archive
from npusim import UsageError
from npusim.compat import Model
from npusim.loader.cvimodel_types import DType
from tests.loader.build_cvimodel import ModelData, build_cvimodel, program, tensor
from tests.test_functional import MODELS, inputs, reference

MLP = next(path for path in MODELS if path.stem == "mlp_cv181x_int8")


@pytest.mark.parametrize("path", MODELS[::5], ids=lambda path: path.stem)
def test_what_is_written_into_inputs_runs_and_every_tensor_equals_the_vendors(path: Path) -> None:
    model, wanted = Model(str(path)), reference(path)
    for into in model.inputs:
        into.data[...] = inputs(path)[into.name].reshape(into.shape)
    model.forward()
    assert [t.name for t in model.outputs] == sorted(wanted)
    assert all(t.data.tobytes() == wanted[t.name].tobytes() for t in model.outputs)


def test_tensors_say_what_the_vendors_binding_says() -> None:
    model = Model(str(MLP))
    assert [(t.name, t.dtype, t.qscale, t.qzero_point, t.aligned, t.size, t.shape) for t in model.outputs] == [
        ("/Relu_output_0_Relu", "i8", 0.017228079959750175, 0, False, 2048, (1, 16, 128, 1)),
        ("11_Add", "i8", 0.006518584210425615, 0, False, 512, (1, 16, 32, 1)),
        ("11_Add_f32", "f32", 1.0, 0, False, 512, (1, 16, 32, 1)),
        ("x", "f32", 1.0, 0, False, 1024, (1, 16, 64, 1)),
        ("x/Relu_output_0_Relu_si8", "i8", 0.02585480734705925, 0, False, 1024, (1, 16, 64, 1)),
    ]


def test_outputs_alone_are_in_the_files_order() -> None:
    assert [t.name for t in Model(str(MLP), 0, False).outputs] == ["11_Add_f32"]


def test_data_is_the_memory_itself_and_outlives_the_model() -> None:
    model = Model(str(MLP))
    given, among_outputs = model.inputs[0], next(t for t in model.outputs if t.name == "x")
    given.data.reshape(-1)[:] = 3
    assert np.all(among_outputs.data == 3) and given.data is given.data
    del model
    assert np.all(given.data == 3)


def test_two_models_share_no_memory() -> None:
    one, two = Model(str(MLP)), Model(str(MLP))
    one.inputs[0].data[...] = 1
    assert not two.inputs[0].data.any()


def test_an_aligned_frame_is_one_row_of_its_padded_bytes(tmp_path: Path) -> None:
    frame = tensor("x", (1, 3, 20, 24), DType.UINT8, pixel_format="BGR_PLANAR", aligned=True)
    path = tmp_path / "m.cvimodel"
    path.write_bytes(build_cvimodel(ModelData("cv181x", [program([frame], [], ["x"], ["x"])])))
    found = Model(str(path)).inputs[0]
    assert (found.aligned, found.dtype, found.size, found.data.shape) == (True, "u8", 3840, (1, 1, 1, 3840))


def test_a_program_that_the_file_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="program 7 does not exist"):
        Model(str(MLP), program_id=7)


def test_bf16_is_uint16_as_in_the_vendors_binding() -> None:
    path = next(path for path in MODELS if path.stem == "mlp_cv181x_bf16")
    found = {t.name: (t.dtype, t.data.dtype) for t in Model(str(path)).outputs}
    assert ("bf16", np.dtype(np.uint16)) in found.values()
    assert {name: array.dtype for name, array in read_archive(path.with_name(f"{path.stem}.out.npz")).items()} == {
        name: kind for name, (_, kind) in found.items()
    }
