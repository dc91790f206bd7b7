"""Archives: what goes in comes out, damage is one sentence, and a failed write leaves the old file."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from golden import GoldenError, read_archive, write_archive
from golden.archive import shape_file
from tests.golden.strategies import tensors

NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)
ARCHIVES = st.dictionaries(NAMES, tensors(), max_size=3)
KINDS = pytest.mark.parametrize("suffix", [".npz", ".bin"])
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def npy(shape: str, descr: str = "'<f4'", data: bytes = b"") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return path


@pytest.mark.slow
@KINDS
@in_one_folder
@given(given_tensors=ARCHIVES)
def test_an_archive_gives_back_names_order_types_and_bytes(
    tmp_path: Path, suffix: str, given_tensors: dict[str, np.ndarray]
) -> None:
    path = tmp_path / f"a{suffix}"
    write_archive(path, given_tensors)
    read = read_archive(path)
    assert list(read) == list(given_tensors)
    for name, tensor in given_tensors.items():
        assert (read[name].dtype, read[name].shape, read[name].tobytes()) == (
            tensor.dtype,
            tensor.shape,
            tensor.tobytes(),
        )
        assert read[name].flags.writeable


@given(given_tensors=ARCHIVES)
@in_one_folder
def test_an_npz_is_read_by_numpy_and_numpys_is_read(tmp_path: Path, given_tensors: dict[str, np.ndarray]) -> None:
    write_archive(tmp_path / "ours.npz", given_tensors)
    with np.load(tmp_path / "ours.npz", allow_pickle=False) as theirs:
        assert {name: theirs[name].tobytes() for name in theirs.files} == {
            name: x.tobytes() for name, x in given_tensors.items()
        }
    np.savez(tmp_path / "theirs.npz", *given_tensors.values())
    assert [x.tobytes() for x in read_archive(tmp_path / "theirs.npz").values()] == [
        x.tobytes() for x in given_tensors.values()
    ]


def test_names_that_savez_refuses_or_that_look_like_paths_are_stored(tmp_path: Path) -> None:
    names = ["file", "allow_pickle", "/Relu_output_0_Relu", "../up", "a b", "x.npy"]
    for suffix in (".npz", ".bin"):
        write_archive(tmp_path / f"a{suffix}", {name: np.zeros(1) for name in names})
        assert list(read_archive(tmp_path / f"a{suffix}")) == names
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.bin.json", "a.npz"]


@KINDS
def test_bfloat16_is_stored_as_uint16_patterns(tmp_path: Path, suffix: str) -> None:
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    write_archive(tmp_path / f"a{suffix}", {"x": values})
    read = read_archive(tmp_path / f"a{suffix}")["x"]
    assert read.dtype == np.uint16 and np.array_equal(read, values.view(np.uint16))


@given(array=hnp.arrays(st.sampled_from([">f4", ">i2", "<i8"]), (2, 3)), fortran=st.booleans())
@in_one_folder
def test_byte_order_and_column_order_are_made_native(tmp_path: Path, array: np.ndarray, fortran: bool) -> None:
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(array) if fortran else array)
    read = read_archive(tmp_path / "a.npz")["x"]
    assert read.dtype.isnative and np.array_equal(read, array, equal_nan=array.dtype.kind == "f")


def test_equal_tensors_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_archive(tmp_path / f"{name}.npz", {"x": np.arange(9)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@KINDS
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    write_archive(path, {"x": np.arange(3)})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def disk_full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.lib.format.write_array", disk_full)
    monkeypatch.setattr("json.dumps", disk_full)
    with pytest.raises(GoldenError, match=r"cannot be written: No space left on device"):
        write_archive(path, {"x": np.arange(4)})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@KINDS
def test_who_has_the_old_file_open_goes_on_reading_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_archive(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    with open(path, "rb") as old:
        write_archive(path, {"x": np.ones(3)})
        assert old.read() == before
    assert read_archive(path)["x"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("tensor", [np.array(["a"]), np.array([None]), np.zeros(1, "V2"), np.zeros(1, complex)])
def test_what_is_no_tensor_is_refused_before_anything_is_written(tmp_path: Path, tensor: np.ndarray) -> None:
    with pytest.raises(GoldenError, match=r"tensor x has dtype .*: store bool, integers or floats, and bf16 as uint16"):
        write_archive(tmp_path / "a.npz", {"ok": np.zeros(1), "x": tensor})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb"])
def test_names_that_no_file_can_hold_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GoldenError, match="must be printable text"):
        write_archive(tmp_path / "a.npz", {name: np.zeros(1)})


def test_other_suffixes_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        GoldenError, match=r"a\.txt is not an archive of tensors: its name must end in \.npz, or in \.bin"
    ):
        read_archive(tmp_path / "a.txt")
    for suffix in (".npz", ".bin"):
        with pytest.raises(GoldenError, match="cannot be read: No such file or directory"):
            read_archive(tmp_path / f"a{suffix}")
        with pytest.raises(GoldenError, match="cannot be written: No such file or directory"):
            write_archive(tmp_path / "none" / f"a{suffix}", {})


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(4294967296, 4294967296)", "(3,)", "(-1,)", "(0,)", "()"])
def test_a_header_that_claims_other_bytes_than_there_are_is_refused(tmp_path: Path, shape: str) -> None:
    with pytest.raises(GoldenError, match=r"a\.npz: tensor x claims shape .* bytes: the archive holds 8"):
        read_archive(zipped(tmp_path / "a.npz", x=npy(shape, data=bytes(8))))


def test_an_archive_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.npz", {"x": np.zeros(1000)})
    write_archive(tmp_path / "a.bin", {"x": np.zeros(1000)})
    for name in ("a.npz", "a.bin"):
        with pytest.raises(GoldenError, match="at most 4096 are allowed"):
            read_archive(tmp_path / name, max_bytes=4096)


@pytest.mark.parametrize("descr", ["'|O'", "[('a', '<f4')]", "'<U1'", "'|V2'"])
def test_objects_and_structures_are_refused(tmp_path: Path, descr: str) -> None:
    with pytest.raises(GoldenError, match="tensor x has dtype"):
        read_archive(zipped(tmp_path / "a.npz", x=npy("(1,)", descr, bytes(8))))


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([{}], object))
    with pytest.raises(GoldenError, match="tensor x has dtype object"):
        read_archive(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(b"\x80\x04N.")
    with pytest.raises(GoldenError, match="is damaged or not an archive of tensors: File is not a zip file"):
        read_archive(tmp_path / "b.npz")


def test_members_that_are_no_arrays_or_share_a_name_are_refused(tmp_path: Path) -> None:
    for members in (["notes.txt"], ["x.npy", "x.npy"]):
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for member in members:
                with pytest.warns(UserWarning, match="Duplicate") if member in archive.namelist() else io.BytesIO():
                    archive.writestr(member, npy("(0,)"))
        with pytest.raises(GoldenError, match=r"every member must be one \.npy array with a name of its own"):
            read_archive(tmp_path / "a.npz")


@given(data=st.data())
@in_one_folder
def test_a_bent_npz_is_read_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    write_archive(tmp_path / "good.npz", {"x": np.arange(6, dtype=np.int8), "y": np.ones((2, 2), np.float32)})
    bent = bytearray((tmp_path / "good.npz").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(bent) - 1), min_size=1, max_size=4)):
        bent[place] = data.draw(st.integers(0, 255))
    read_or_refuse(
        tmp_path / "bent.npz", bytes(bent[: data.draw(st.integers(0, len(bent)))] if data.draw(st.booleans()) else bent)
    )


@given(data=st.data())
@in_one_folder
def test_a_bent_npy_header_is_read_or_refused_and_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    bent = bytearray(npy("(2, 3)", data=bytes(24)))
    for place in data.draw(st.lists(st.integers(0, len(bent) - 1), min_size=1, max_size=3)):
        bent[place] = data.draw(st.sampled_from(b"()[]{},:'\"L0129-<>|fiOV\\\n \x00\xff"))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", bytes(bent))
    read_or_refuse(tmp_path / "bent.npz", stream.getvalue())


def read_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        read = read_archive(path)
    except GoldenError as error:
        assert str(path) in str(error)
    else:
        assert all(tensor.nbytes <= 1 << 16 for tensor in read.values())


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        ({}, "must be a list of tensors"),
        ([1], "each tensor must be"),
        ([{"name": "x", "dtype": "float32", "shape": [-2]}], "each tensor must be"),
        ([{"name": "x", "dtype": "float32", "shape": [True, 2]}], "each tensor must be"),
        ([{"name": "x", "dtype": "object", "shape": [1]}], "tensor x has dtype object"),
        ([{"name": "x", "dtype": "f5", "shape": [1]}], "is damaged"),
        ([{"name": "x", "dtype": "int8", "shape": [4]}] * 2, "lists a tensor twice"),
        ([{"name": "x", "dtype": "int8", "shape": [10**12]}], "has 8 bytes: its shape file asks for 1000000000000"),
        ([{"name": "x", "dtype": "int8", "shape": [4]}], "has 8 bytes: its shape file asks for 4"),
    ],
)
def test_a_shape_file_that_does_not_fit_is_refused(tmp_path: Path, listed: object, sentence: str) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(8))
    shape_file(tmp_path / "a.bin").write_text(json.dumps(listed))
    with pytest.raises(GoldenError, match=sentence):
        read_archive(tmp_path / "a.bin")


@pytest.mark.parametrize(
    "text", ["", "[", "[" * 100_000, "\xff", '[{"name": "x", "dtype": "int8", "shape": [' + "9" * 5000 + "]}]"]
)
def test_a_shape_file_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(8))
    shape_file(tmp_path / "a.bin").write_bytes(text.encode("latin-1"))
    with pytest.raises(GoldenError, match=r"a\.bin\.json is damaged"):
        read_archive(tmp_path / "a.bin")


def test_a_shape_file_by_hand_may_say_bf16(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes([0x80, 0x3F]))
    shape_file(tmp_path / "a.bin").write_text('[{"name": "x", "dtype": "bf16", "shape": [1, 1]}]')
    assert read_archive(tmp_path / "a.bin")["x"].tolist() == [[0x3F80]]
