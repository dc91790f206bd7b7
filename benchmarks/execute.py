"""Speed and memory of npusim against the vendor's functional model, on the same files in the same run.

Each model runs in one process on npusim and in one on the vendor's library, one thread each; they take turns."""

from __future__ import annotations

import ctypes as C
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claim import THREADS, CannotRun, Say
from benchmarks.cpu import Side, take_turns
from benchmarks.needs import NETWORKS
from benchmarks.support.memory import peak_bytes
from golden import read_archive
from golden.capture import CviTensor, load_library
from npusim import Machine, Model, chip_named
from tests.support.case import Case, tiu
from tests.support.vendor import VendorModel

BUNDLED = Path(__file__).parents[1] / "golden" / "data" / "functional"
TURNS = 5
KINDS = tuple(
    (bf16, *sizes) for bf16 in (False, True) for sizes in ((64, 28, 3), (64, 40, 1), (128, 14, 3), (256, 14, 1))
)
"""Convolutions: (whether bf16, channels, height and width, kernel)."""

Inputs = Mapping[str, NDArray[Any]]
Calls = dict[str, Callable[[], Any]]


def networks(say: Say) -> float:
    """How many times as long the vendor's model takes for a forward: geometric mean over NPUSIM_NETWORKS."""
    return float(np.exp(np.mean([np.log(compared(path, say)) for path in network_files()])))


def bundled(say: Say) -> float:
    """The same for the 32 models in golden/data/functional: the smallest of the factors."""
    return min(compared(path, say) for path in sorted(BUNDLED.glob("*.cvimodel")))


def memory(say: Say) -> float:
    """Peak memory of a load and two forwards, above what Python and its imports take, beyond twice the memory map: the
    most of NPUSIM_NETWORKS, in MB."""
    found = []
    for path in network_files():
        with Side(npusim_side, path, inputs_of(path)) as ours:
            ours.value("forward")
            ours.value("forward")
            peak, mapped = ours.value("memory")
        found.append((peak - 2 * mapped) / 1e6)
        sizes = f"peak {peak / 1e6:6.1f} MB, map {mapped / 1e6:5.1f} MB"
        say(f"{path.stem:24} {sizes}: {found[-1]:5.1f} MB beyond twice the map")
    return max(found)


def convolutions(say: Say) -> float:
    """How many times as long the vendor's model takes for one convolution: the least of eight."""
    ratios = []
    with Side(vendor_convolutions) as vendor, Side(npusim_convolutions) as ours:
        for kind in KINDS:
            name = convolution_name(*kind)

            def warm(name: str = name) -> float:
                """Behind the vendor's turn a first run finds nothing in the caches, as it would not in a network."""
                ours.value(name)
                return ours.timer(name)()

            turns = take_turns({"vendor": vendor.timer(name), "npusim": warm}, 10)
            _, channels, size, kernel = kind
            macs = channels * channels * size * size * kernel * kernel / 1e9
            speeds = "   ".join(f"{side} {macs / turns.median(side):6.2f} GMAC/s" for side in turns.seconds)
            ratios.append(turns.ratio("vendor", "npusim"))
            say(f"{name:32} {speeds}   {ratios[-1]:6.1f} times")
    return min(ratios)


def threads(say: Say) -> float:
    """CPU time of a large convolution where no variable sets BLAS threads, over that with one thread set, while a loop
    keeps a core busy: geometric mean of eight."""
    ratios = []
    with nothing_set():
        unset_side = Side(npusim_convolutions)
    with busy_core(), unset_side as unset, Side(npusim_convolutions) as one:
        for name in (convolution_name(*kind) for kind in KINDS):
            turns = take_turns({"unset": unset.timer(name), "one": one.timer(name)}, 41)
            ratios.append(turns.ratio("unset", "one"))
            say(f"{name:32} unset {turns.median('unset'):.4f} s   one {turns.median('one'):.4f} s   {ratios[-1]:.2f}")
    return float(np.exp(np.mean(np.log(ratios))))


def network_threads(say: Say) -> float:
    """As `threads`, of a forward of each network in NPUSIM_NETWORKS: the most."""
    with busy_core():
        return max(_unset_over_one(path, say) for path in network_files())


def _unset_over_one(path: Path, say: Say) -> float:
    inputs = inputs_of(path)
    with nothing_set():
        unset_side = Side(npusim_side, path, inputs)
    with unset_side as unset, Side(npusim_side, path, inputs) as one:
        turns = take_turns({"unset": unset.timer("forward"), "one": one.timer("forward")}, 11)
    seconds = "   ".join(f"{side} {turns.median(side):.4f} s" for side in turns.seconds)
    say(f"{path.stem:24} {seconds}   {turns.ratio('unset', 'one'):.2f}")
    return turns.ratio("unset", "one")


@contextmanager
def nothing_set() -> Iterator[None]:
    """The environment of a user who says nothing of threads."""
    before = {name: os.environ.pop(name) for name in THREADS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that computes all the time."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as loop:
        try:
            yield
        finally:
            loop.kill()


def network_files() -> list[Path]:
    folder = NETWORKS.path()
    paths = sorted(folder.glob("*.cvimodel"))
    if not paths:
        raise CannotRun(f"no .cvimodel is in {folder}: {NETWORKS.how}")
    return paths


def inputs_of(path: Path) -> Inputs:
    """The inputs beside NETWORK_CHIP_FORMAT.cvimodel, in NETWORK.in.npz."""
    archive = path.with_name(f"{path.stem.rsplit('_', 2)[0]}.in.npz")
    if not archive.is_file():
        raise CannotRun(f"{path.name} has no inputs: put them into {archive}")
    return dict(read_archive(archive))


def compared(path: Path, say: Say) -> float:
    """How many times as long the vendor's model takes for a forward of one file."""
    inputs = inputs_of(path)
    with Side(vendor_side, path, inputs) as vendor, Side(npusim_side, path, inputs) as ours:
        first = ours.timer("forward")()
        turns = take_turns({"vendor": vendor.timer("forward"), "npusim": ours.timer("forward")}, TURNS)
    ratio = turns.ratio("vendor", "npusim")
    say(
        f"{path.stem:24} vendor {turns.median('vendor'):8.4f} s   npusim {turns.median('npusim'):8.4f} s "
        f"(first {first:.4f} s)   {ratio:5.1f} times"
    )
    return ratio


def vendor_side(path: Path, inputs: Inputs) -> Calls:
    """A forward on the vendor's library. What the library prints must not get among the figures."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    library, handle = load_library(os.environ["CVI_LIB"]), C.c_void_p()
    given, taken, num_given, num_taken = C.POINTER(CviTensor)(), C.POINTER(CviTensor)(), C.c_int32(), C.c_int32()
    if library.CVI_NN_RegisterModel(os.fsencode(path), C.byref(handle)):
        raise RuntimeError(f"the vendor's library does not load {path}")
    library.CVI_NN_GetInputOutputTensors(handle, C.byref(given), C.byref(num_given), C.byref(taken), C.byref(num_taken))
    for i in range(num_given.value):
        raw = np.ascontiguousarray(inputs[given[i].name.decode()]).view(np.uint8).ravel()
        C.memmove(given[i].sys_mem, raw.ctypes.data, min(raw.size, given[i].mem_size))

    def forward() -> None:
        if library.CVI_NN_Forward(handle, given, num_given, taken, num_taken):
            raise RuntimeError(f"the vendor's library does not run {path}")

    return {"forward": forward}


def npusim_side(path: Path, inputs: Inputs) -> Calls:
    """A forward on npusim, and (peak bytes above the imports, bytes of the memory map)."""
    before = peak_bytes()
    model = Model(path)

    def memory() -> tuple[int, int]:
        return peak_bytes() - before, model.state.gmem.bytes.size + model.state.lmem.size

    return {"forward": lambda: model.forward(inputs) and None, "memory": memory}


def convolution_name(bf16: bool, channels: int, size: int, kernel: int) -> str:
    return f"{'bf16' if bf16 else 'int8'} {channels} channels, {size}x{size}, {kernel}x{kernel}"


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


def vendor_convolutions() -> Calls:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    vendor = VendorModel("cv183x")
    return {convolution_name(*kind): partial(vendor.submit, convolution(*kind).cmdbuf) for kind in KINDS}


def npusim_convolutions() -> Calls:
    """LMEM is full of small numbers: 1 in int8, 0.75 in bf16."""
    calls: Calls = {}
    for bf16 in (False, True):
        machine = Machine("cv183x")
        machine.lmem[...] = 0x3F if bf16 else 1
        for kind in KINDS:
            if kind[0] == bf16:
                calls[convolution_name(*kind)] = partial(machine.run_cmdbuf, convolution(*kind).cmdbuf)
    return calls
