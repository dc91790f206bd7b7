"""Runs a .cvimodel through libcviruntime's C interface and stores every tensor.

On an x86 computer, the library directory also holds the vendor's functional model (libcvicmodel.so, libcvikernel.so,
libcviruntime.so). On a board, the same interface drives /dev/cvi-tpu0. This one file also works alone, copied to a
board; it needs NumPy only:

    python capture.py MODEL.cvimodel -i IN.npz -o OUT.npz [--lib DIR]

Interface: sophgo/cviruntime, include/cviruntime.h. bf16 tensors are uint16 patterns. UINT16 tensors are stored as
float32, as the vendor's model_runner stores them, because uint16 in an archive means bf16. The runtime runs the
native code that a model may carry: capture only models that you trust."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np


class GoldenError(Exception):
    """A file, tensor or tolerance that golden cannot work with.

    Its message is one sentence with the thing, the value, the rule and the way out."""


class CviShape(ctypes.Structure):
    """CVI_SHAPE. The runtime always fills four dimensions."""

    _fields_ = [("dim", ctypes.c_int32 * 6), ("dim_size", ctypes.c_size_t)]


class CviTensor(ctypes.Structure):
    """CVI_TENSOR. `mem_size` is more than the elements' bytes where rows are padded as camera frames (`aligned`)."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("shape", CviShape),
        ("fmt", ctypes.c_int),
        ("count", ctypes.c_size_t),
        ("mem_size", ctypes.c_size_t),
        ("sys_mem", ctypes.POINTER(ctypes.c_uint8)),
        ("paddr", ctypes.c_uint64),
        ("mem_type", ctypes.c_int),
        ("qscale", ctypes.c_float),
        ("zero_point", ctypes.c_int),
        ("pixel_format", ctypes.c_int),
        ("aligned", ctypes.c_bool),
        ("mean", ctypes.c_float * 3),
        ("scale", ctypes.c_float * 3),
        ("owner", ctypes.c_void_p),
        ("reserved", ctypes.c_char * 32),
    ]


# CVI_FMT, in its order. NumPy has no bf16: its patterns travel as uint16.
FORMATS = ("FP32", "INT32", "UINT32", "BF16", "INT16", "UINT16", "INT8", "UINT8")
DTYPES = tuple(np.dtype(code) for code in ("f4", "i4", "u4", "u2", "i2", "u2", "i1", "u1"))
OUTPUT_ALL_TENSORS = 4  # CVI_CONFIG_OPTION
MEM_SYSTEM = 1  # CVI_MEM_TYPE_E
PARTIAL_SUFFIX = ".partial"  # of what `replacing` has not finished
ABANDONED_AFTER_S = 600


def capture(
    model: str | os.PathLike[str],
    inputs: Mapping[str, np.ndarray],
    lib_dir: str | os.PathLike[str] | None = None,
    timeout: float | None = None,
) -> dict[str, np.ndarray]:
    """Every tensor that is still in memory after one run of a model, by name, each (n, c, h, w).

    Inputs are given by name; floats are quantised as the tensor's format demands (see `quantise`). `lib_dir` holds
    the libraries. By default it is the environment's CVI_LIB, or else the system's library path. The model runs in a
    process of its own, because the library can use only one chip in a process, and aborts on errors. If a TPU job
    fails on a board, only the driver's log says so; the runtime's return value does not. Raises GoldenError if it
    cannot run, or after `timeout` seconds."""
    import subprocess  # here, because reading an archive imports this file
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        given, made = os.path.join(scratch, "in.npz"), os.path.join(scratch, "out.npz")
        _save(given, {name: x.astype(np.float32) if x.dtype.name == "bfloat16" else x for name, x in inputs.items()})
        command = [sys.executable, os.path.abspath(__file__), os.fspath(model), "-i", given, "-o", made]
        command += ["--lib", os.fspath(lib_dir)] if lib_dir is not None else []
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise GoldenError(
                f"{os.fspath(model)} did not finish in {timeout} s: it may wait for an id that never comes"
            ) from None
        if done.returncode:
            raise GoldenError(_why(os.fspath(model), done.returncode, done.stderr.decode(errors="replace")))
        return _load(made)


def quantise(array: np.ndarray, fmt: int, qscale: float, zero_point: int) -> np.ndarray:
    """An input in the form in which its tensor stores it, flat, as the vendor's board tool converts it.

    Floats to INT8 and UINT8: round(x * qscale) + zero_point, halves away from zero, the product in float32. To INT16
    and UINT16: rounded without a scale. All four saturate (in the vendor's tool, values below a UINT8's range and
    outside a 16-bit tensor's range wrap). To BF16: truncated, not rounded; infinity and NaN become 0x7f7f. Integers
    must be in the format's range and are not changed; uint16 is bf16 patterns. Raises GoldenError for NaN in an
    integer format and for dtypes that do not convert. Source: sophgo/cviruntime, tool/model_runner.cpp."""
    dtype, kind = DTYPES[fmt], array.dtype.kind
    flat = np.ascontiguousarray(array).ravel()
    if FORMATS[fmt] == "BF16" and flat.dtype == np.uint16:
        return flat
    if kind == "f" and flat.dtype.itemsize <= 8:
        with np.errstate(over="ignore", invalid="ignore"):
            return _quantise_floats(flat.astype(np.float32), fmt, qscale, zero_point)
    if kind in "iub" and FORMATS[fmt] != "BF16" and not (FORMATS[fmt] == "FP32" and flat.dtype == np.uint16):
        if dtype.kind == "f":
            return flat.astype(dtype)
        limits = np.iinfo(dtype)
        if flat.size and not limits.min <= int(flat.min()) <= int(flat.max()) <= limits.max:
            raise GoldenError(
                f"integers from {flat.min()} to {flat.max()} do not fit {FORMATS[fmt]}: give floats to have "
                "them quantised"
            )
        return flat.astype(dtype)
    raise GoldenError(
        f"dtype {array.dtype} does not convert to {FORMATS[fmt]}: give floats, or the tensor's own type ({dtype})"
    )


def _quantise_floats(values: np.ndarray, fmt: int, qscale: float, zero_point: int) -> np.ndarray:
    name, dtype = FORMATS[fmt], DTYPES[fmt]
    if name == "FP32":
        return values
    if name == "BF16":
        patterns = (values.view(np.uint32) >> 16).astype(np.uint16)
        return np.where(patterns & 0x7F80 == 0x7F80, np.uint16(0x7F7F), patterns)
    if name in ("INT32", "UINT32"):
        raise GoldenError(f"floats do not convert to {name}: give {dtype}")
    if np.isnan(values).any():
        raise GoldenError(f"NaN cannot be quantised to {name}: give numbers")
    if name in ("INT8", "UINT8"):
        with np.errstate(over="ignore", invalid="ignore"):
            values = values * np.float32(qscale)
    else:
        zero_point = 0
    wide = values.astype(np.float64)  # in float64 adding a half is exact for all numbers that do not saturate
    rounded = np.copysign(np.floor(np.abs(wide) + 0.5), wide) + zero_point
    limits = np.iinfo(dtype)
    return np.clip(rounded, limits.min, limits.max).astype(dtype)


def load_library(lib_dir: str | None) -> Any:
    """libcviruntime with its prototypes declared.

    The other libraries are loaded first if they exist; a board has no libcvicmodel."""
    try:
        for name in ("libcvicmodel.so", "libcvikernel.so"):
            if lib_dir is not None and os.path.exists(os.path.join(lib_dir, name)):
                ctypes.CDLL(os.path.join(lib_dir, name), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(os.path.join(lib_dir or "", "libcviruntime.so"), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        where = f"in {lib_dir}" if lib_dir is not None else "on the system's library path"
        raise GoldenError(
            f"libcviruntime.so cannot be loaded {where} ({error}): give its directory with --lib or CVI_LIB"
        ) from None
    handle, tensors, number = ctypes.c_void_p, ctypes.POINTER(CviTensor), ctypes.c_int32
    prototypes = {
        "CVI_NN_RegisterModel": [ctypes.c_char_p, ctypes.POINTER(handle)],
        "CVI_NN_SetConfig": [handle, ctypes.c_int],
        "CVI_NN_GetInputOutputTensors": [handle, *[ctypes.POINTER(tensors), ctypes.POINTER(number)] * 2],
        "CVI_NN_Forward": [handle, tensors, number, tensors, number],
        "CVI_NN_CleanupModel": [handle],
    }
    for name, arguments in prototypes.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, ctypes.c_int
    return library


def run_model(library: Any, model: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `capture`, but in this process.

    All models that the process runs must be for the same chip, and if the library aborts, the process ends."""
    _check_model(model)
    handle = ctypes.c_void_p()
    _expect(library.CVI_NN_RegisterModel(os.fsencode(model), ctypes.byref(handle)), f"the runtime refused {model}")
    try:
        library.CVI_NN_SetConfig(handle, OUTPUT_ALL_TENSORS, ctypes.c_int32(1))
        ins, outs = ctypes.POINTER(CviTensor)(), ctypes.POINTER(CviTensor)()
        num_ins, num_outs = ctypes.c_int32(), ctypes.c_int32()
        found = [ctypes.byref(place) for place in (ins, num_ins, outs, num_outs)]
        _expect(
            library.CVI_NN_GetInputOutputTensors(handle, *found), f"the runtime could not set up the tensors of {model}"
        )
        _fill(ins[: num_ins.value], inputs)
        _expect(library.CVI_NN_Forward(handle, ins, num_ins, outs, num_outs), f"the runtime failed to run {model}")
        return {_name(tensor): _array(tensor) for tensor in outs[: num_outs.value]}
    finally:
        library.CVI_NN_CleanupModel(handle)


def _check_model(model: str) -> None:
    """Checks what the runtime only asserts: a complete header (48 bytes: magic, body size, ...) and the body after
    it."""
    try:
        with open(model, "rb") as file:
            header, size = file.read(48), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise GoldenError(f"{model} cannot be read: {error.strerror}") from None
    if len(header) < 48 or header[:8] != b"CviModel":
        raise GoldenError(
            f"{model} is not a cvimodel: it must begin with a header of 48 bytes and the letters CviModel"
        )
    body = int.from_bytes(header[8:12], "little")
    if size < 48 + body:
        raise GoldenError(f"{model} is cut off: its header tells of {48 + body} bytes and it has {size}")


def _expect(code: int, sentence: str) -> None:
    if code:
        raise GoldenError(f"{sentence} (code {code}); its own log says why")


def _fill(tensors: list[CviTensor], inputs: Mapping[str, np.ndarray]) -> None:
    wanted = {_name(tensor): tensor for tensor in tensors}
    if set(wanted) != set(inputs):
        listing = ", ".join(f"{name} {_shape(tensor)} {FORMATS[tensor.fmt]}" for name, tensor in wanted.items())
        raise GoldenError(f"inputs {', '.join(inputs) or 'none'} were given, and the model takes exactly {listing}")
    stored = {name: _stored_input(tensor, inputs[name]) for name, tensor in wanted.items()}
    for name, tensor in wanted.items():
        _memory(tensor)[:] = stored[name].view(np.uint8)


def _stored_input(tensor: CviTensor, array: np.ndarray) -> np.ndarray:
    name, padded = _name(tensor), _shape(tensor)
    if [n for n in array.shape if n != 1] != [n for n in padded if n != 1]:
        raise GoldenError(
            f"input {name} has shape {array.shape} and the model takes {padded}: only axes of length 1 may differ"
        )
    try:
        return quantise(array, tensor.fmt, tensor.qscale, tensor.zero_point)
    except GoldenError as error:
        raise GoldenError(f"input {name}: {error}") from None


def _name(tensor: CviTensor) -> str:
    return str(tensor.name.decode(errors="replace"))


def _shape(tensor: CviTensor) -> tuple[int, ...]:
    """The shape as in the vendor's model_runner: that of a padded frame is (n, 1, 1, elements of memory / n)."""
    shape = tuple(tensor.shape.dim[: tensor.shape.dim_size])
    elements = tensor.mem_size // DTYPES[tensor.fmt].itemsize
    return shape if tensor.count == elements else (shape[0], 1, 1, elements // shape[0])


def _memory(tensor: CviTensor) -> np.ndarray:
    if tensor.mem_type != MEM_SYSTEM or not tensor.sys_mem:
        raise GoldenError(f"tensor {_name(tensor)} is in device memory only, which cannot be read from here")
    return np.ctypeslib.as_array(tensor.sys_mem, shape=(tensor.mem_size,))


def _array(tensor: CviTensor) -> np.ndarray:
    array = _memory(tensor).view(DTYPES[tensor.fmt]).reshape(_shape(tensor))
    return array.astype(np.float32) if FORMATS[tensor.fmt] == "UINT16" else array.copy()


def _why(model: str, code: int, log: str) -> str:
    last = (log.strip().splitlines() or ["its log is empty"])[-1]
    if code == 2 and last.startswith("capture: "):
        return last[len("capture: ") :]
    import signal

    end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return f"the runtime library ended with {end} on {model}, which may be damaged or not made for it: {last}"


def _load(path: str) -> dict[str, np.ndarray]:
    try:
        with (
            zipfile.ZipFile(path),
            np.load(path, allow_pickle=False) as archive,
        ):  # ZipFile refuses other files, which np.load would take for a pickle
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # NumPy, zipfile and zlib raise a dozen kinds of errors for damaged files
        raise GoldenError(f"{path} cannot be read as an .npz archive: {error}") from None


def _save(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an .npz, whole or not at all. np.savez cannot store tensors named "file"."""
    try:
        with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
    except (OSError, ValueError) as error:
        raise GoldenError(f"{path} cannot be written: {error}") from None


@contextmanager
def replacing(path: str | os.PathLike[str], fsync: bool = False) -> Iterator[Path]:
    """A path to write instead of `path`, which is then written whole or not at all.

    When the block ends well, what it left there, a file or a directory, takes the place of `path`; otherwise it is
    removed.

    It lies in the same folder, under a name with the process's number, which no other process uses; what a killed
    process left there is removed ten minutes later. Where `path` is
    a symbolic link, the link stays and what it points to is replaced. A device, a pipe or an open file of a process
    (/dev/stdout) is never replaced: the block gets `path` itself and writes to it. With `fsync`, a file is on the
    disk before it takes the place. Raises OSError."""
    place = _place(path)
    if place is None:
        yield Path(path)
        return
    # A file name has at most 255 bytes; the end of a long one tells two outputs apart.
    begin = f".{place.name[-50:]}."
    partial = place.with_name(f"{begin}{os.getpid()}{PARTIAL_SUFFIX}")
    _remove(partial)  # left by a killed process that had the same number
    _remove_abandoned(place.parent, begin)
    try:
        yield partial
        if fsync:
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
        os.replace(partial, place)
    finally:
        _remove(partial)


def _place(path: str | os.PathLike[str]) -> Path | None:
    """`path` with symbolic links followed; None if it can only be written to, not replaced."""
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return None
    while place.is_symlink():
        folder = place.parent.resolve()
        if folder.parts[1:2] == ("proc",):
            return None
        place = folder / os.readlink(place)
    return place


def _remove_abandoned(folder: Path, begin: str) -> None:
    """Removes partial files that killed processes left, whose names begin with `begin`. A file that changed within the
    last ten minutes is kept, because another process, perhaps on another machine, may still write it."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        number = name[len(begin) : -len(PARTIAL_SUFFIX)].rpartition(".")[2]
        if not (name.startswith(begin) and name.endswith(PARTIAL_SUFFIX) and number.isdecimal()):
            continue
        with suppress(OSError):
            if time.time() - os.stat(folder / name).st_mtime > ABANDONED_AFTER_S and not _is_running(int(number)):
                _remove(folder / name)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _remove(path: Path) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil

        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line of this file. Returns 0, or 2 after one sentence on stderr."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="capture", description="Run a .cvimodel through libcviruntime and store every tensor."
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("-i", "--input", required=True, metavar="IN.npz")
    parser.add_argument("-o", "--output", required=True, metavar="OUT.npz")
    lib = os.environ.get("CVI_LIB") or None
    parser.add_argument(
        "--lib", metavar="DIR", default=lib, help="directory of libcviruntime.so (default: CVI_LIB, else the system's)"
    )
    options = parser.parse_args(arguments)
    try:
        if not Path(options.output).absolute().parent.is_dir():
            raise GoldenError(f"{options.output} cannot be written: its directory does not exist")
        inputs = _load(options.input)
        _save(options.output, run_model(load_library(options.lib), options.model, inputs))
    except GoldenError as error:
        print(f"capture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
