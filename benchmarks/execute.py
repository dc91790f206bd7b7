"""Speed and memory of npusim against the vendor's functional model, on the same files in the same run.

    CVI_LIB=DIR python -m benchmarks.execute MODEL.cvimodel IN.npz [MODEL.cvimodel IN.npz ...]

Prints, for each model, seconds a forward of both (best of some runs, taken in turns), their ratio, and npusim's peak
memory above its imports against the model's memory map; then multiply-accumulates a second of single convolutions. One
thread each. Seconds are of CPU time, all threads of a process together, which other work on the machine disturbs least;
the ratio of elapsed time stands beside."""

from __future__ import annotations

import ctypes as C
import multiprocessing as mp
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from golden import read_archive
from golden.capture import CviTensor, load_library
from npusim import Machine, Model, chip_named
from tests.support.case import Case, tiu
from tests.support.vendor import VendorModel

RUNS = 5
CONVOLUTION_RUNS = 10
WARM_RUNS = 10
"""Of npusim's convolution in each turn: behind 40 ms of the vendor's model, the first finds none of its code and data
in a cache."""


def clocks() -> NDArray[np.float64]:
    """(CPU seconds of this process, elapsed seconds)."""
    return np.array([time.process_time(), time.perf_counter()])


def vendor_forward(pipe: Connection, path: str, inputs: dict[str, np.ndarray]) -> None:
    """Answers each message with the seconds of one CVI_NN_Forward."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    library, handle = load_library(os.environ["CVI_LIB"]), C.c_void_p()
    assert library.CVI_NN_RegisterModel(path.encode(), C.byref(handle)) == 0
    given, taken, num_given, num_taken = C.POINTER(CviTensor)(), C.POINTER(CviTensor)(), C.c_int32(), C.c_int32()
    library.CVI_NN_GetInputOutputTensors(handle, C.byref(given), C.byref(num_given), C.byref(taken), C.byref(num_taken))
    for i in range(num_given.value):
        raw = np.ascontiguousarray(inputs[given[i].name.decode()]).view(np.uint8).ravel()
        C.memmove(given[i].sys_mem, raw.ctypes.data, min(raw.size, given[i].mem_size))
    while pipe.recv():
        started = clocks()
        assert library.CVI_NN_Forward(handle, given, num_given, taken, num_taken) == 0
        pipe.send(clocks() - started)
    os._exit(0)


def npusim_forward(pipe: Connection, path: str, inputs: dict[str, np.ndarray]) -> None:
    """Answers each message with the seconds of one forward; the last answer is (load seconds, peak bytes above imports,
    map bytes)."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = clocks()
    model = Model(path)
    loaded = (clocks() - started)[0]
    while pipe.recv():
        started = clocks()
        model.forward(inputs)
        pipe.send(clocks() - started)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    pipe.send((loaded, peak, model.state.gmem.bytes.size + model.state.lmem.size))
    os._exit(0)


def compare_models(path: str, archive: str) -> None:
    inputs = read_archive(Path(archive))
    sides = []
    for target in (vendor_forward, npusim_forward):
        here, there = mp.get_context("spawn").Pipe()
        child = mp.get_context("spawn").Process(target=target, args=(there, path, inputs), daemon=True)
        child.start()
        there.close()  # so that a child that fails ends the wait
        sides.append(here)
    seconds: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    for _ in range(RUNS):
        for side, found in zip(sides, seconds, strict=True):
            side.send(True)
            found.append(side.recv())
    for side in sides:
        side.send(False)
    loaded, peak, mapped = sides[1].recv()
    vendor, ours = np.min(seconds[0], axis=0), np.min(seconds[1], axis=0)
    ratio, elapsed = vendor / ours
    print(
        f"{Path(path).stem:22} vendor {vendor[0]:8.4f} s   npusim {ours[0]:8.4f} s (first {seconds[1][0][0]:.4f}, "
        f"load {loaded:.2f})   "
        f"ratio {ratio:5.1f} (elapsed {elapsed:5.1f})   peak {peak / 1e6:.1f} MB = {peak / mapped:.2f} x a map of "
        f"{mapped / 1e6:.1f} MB"
    )


def convolution(bf16: bool, channels: int, size: int, kernel: int) -> Case:
    """One convolution of `channels` to `channels` on size x size with a kernel x kernel window on cv183x, whose LMEM
    holds it."""
    chip, item = chip_named("cv183x"), 2 if bf16 else 1
    c_str = -(-size * size * item // 16) * 16
    fields = dict(
        tsk_typ=0, opd_typ=int(bf16), opd0_n=1, opd0_c=channels, opd0_h=size, opd0_w=size, res0_n=1, res0_c=channels,
        res0_h=size,
        res0_w=size, opd1_n=channels, opd1_c=channels, opd1_h=kernel, opd1_w=kernel, short_res0_str=3, short_opd1_str=1,
        opt_opd2_seg=1,
        short_opd2_str=2, res0_addr=0, opd0_addr=8192, opd1_addr=16384, res0_n_str=c_str * -(-channels // 32),
        res0_c_str=c_str,
        res0_h_str=size * item, res0_w_str=item, opt_opd0_sign=int(not bf16), opt_res0_sign=1, opt_res_shift=0 if bf16
        else 10,
    )  # fmt: skip
    pad = kernel // 2
    fields.update({f"conv_opd0_{side}_pad": pad for side in ("up", "dn", "lf", "rt")})
    return Case("cv183x", "conv", [tiu(chip, **fields)], 1, bf16_lmem=bf16)


def compare_convolutions() -> None:
    vendor = VendorModel("cv183x")
    for bf16 in (False, True):
        for channels, size, kernel in ((64, 28, 3), (64, 40, 1), (128, 14, 3), (256, 14, 1)):
            case = convolution(bf16, channels, size, kernel)
            machine = Machine("cv183x")
            theirs, ours = [], []
            for _ in range(CONVOLUTION_RUNS):
                started = time.process_time()
                vendor.submit(case.cmdbuf)
                theirs.append(time.process_time() - started)
                machine.lmem[...] = 0x3F if bf16 else 1
                for _ in range(WARM_RUNS):
                    started = time.process_time()
                    machine.run_cmdbuf(case.cmdbuf)
                    ours.append(time.process_time() - started)
            macs = channels * channels * size * size * kernel * kernel
            print(
                f"{'bf16' if bf16 else 'int8'} {channels} channels, {size}x{size}, {kernel}x{kernel}: "
                f"vendor {macs / min(theirs) / 1e9:6.2f} GMAC/s   npusim {macs / min(ours) / 1e9:6.2f} GMAC/s   "
                f"ratio {min(theirs) / min(ours):6.1f}"
            )


def main() -> None:
    if "CVI_LIB" not in os.environ or len(sys.argv) % 2 == 0:
        sys.exit(__doc__)
    for path, archive in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        compare_models(path, archive)
    compare_convolutions()


if __name__ == "__main__":
    main()
