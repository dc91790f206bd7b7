"""Runs a case on the vendor's functional model, whose three libraries CVI_LIB names."""

from __future__ import annotations

import ctypes as C
import multiprocessing as mp
import os
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np

from tests.support.case import Case, Outcome, initial_lmem


class VendorModel:
    """The functional model in this process: one chip kind a process, since the runtime keeps the first that it
    opened."""

    def __init__(self, chip: str) -> None:
        lib = os.environ["CVI_LIB"]
        C.CDLL(None).setenv(b"SET_CHIP_NAME", chip.encode(), 1)
        self._cmodel = C.CDLL(f"{lib}/libcvicmodel.so", mode=C.RTLD_GLOBAL)
        C.CDLL(f"{lib}/libcvikernel.so", mode=C.RTLD_GLOBAL)
        self._runtime = C.CDLL(f"{lib}/libcviruntime.so", mode=C.RTLD_GLOBAL)
        pointer, u64 = C.c_void_p, C.c_uint64
        for name in ("bm_cmodel_write_gmem", "bm_cmodel_read_gmem", "bm_cmodel_write_lmem", "bm_cmodel_read_lmem"):
            call = getattr(self._cmodel, name)
            call.argtypes, call.restype = [pointer, u64, pointer, u64], None
        self._cmodel.bm_cmodel_set_base_reg.argtypes = [pointer, C.c_uint32, u64]
        self._runtime.bm_send_cmdbuf.argtypes = [pointer, pointer, C.c_size_t, C.POINTER(C.c_uint16)]
        self._context = C.c_void_p()
        if self._runtime.bm_init(0, C.byref(self._context)) or self._context.value is None:
            raise RuntimeError("the vendor's model did not open")
        device = C.c_void_p.from_address(self._context.value).value or 0
        self._model = C.c_void_p.from_address(device + 8).value

    def run(self, case: Case) -> Outcome:
        lmem = initial_lmem(case).tobytes()
        self._cmodel.bm_cmodel_write_lmem(self._model, 0, lmem, len(lmem))
        for addr, data in case.gmem.items():
            self._cmodel.bm_cmodel_write_gmem(self._model, addr, bytes(data), len(data))
        for register, base in enumerate(case.array_base):
            self._cmodel.bm_cmodel_set_base_reg(self._model, register, base)
        self.submit(case.cmdbuf)
        return Outcome(
            self._read("lmem", 0, len(lmem)),
            {addr: self._read("gmem", addr, len(data)) for addr, data in case.gmem.items()},
        )

    def submit(self, cmdbuf: bytes) -> None:
        """Runs a command buffer on the memory as it stands. An illegal one ends this process."""
        raw = (C.c_uint8 * len(cmdbuf)).from_buffer_copy(cmdbuf)
        self._runtime.bm_send_cmdbuf(self._context, raw, len(raw), C.byref(C.c_uint16()))

    def _read(self, where: str, addr: int, nbytes: int) -> bytes:
        out = np.empty(nbytes, np.uint8)
        getattr(self._cmodel, f"bm_cmodel_read_{where}")(self._model, addr, out.ctypes.data, nbytes)
        return out.tobytes()


M_PERTURB = -6
"""mallopt's name for the byte that the C library fills memory with when it is allocated or freed."""


def _serve(pipe: Connection, control: Connection, cases: list[Case], errors: str, perturb: int) -> None:
    """Opens the model once, which touches 4 GiB, and runs the cases from each number in `control` on in a copy."""
    os.setpgid(0, 0)  # with its copies, it can be ended as one
    _write_to(os.devnull)
    model = VendorModel(cases[0].chip)
    C.CDLL(None).mallopt(M_PERTURB, perturb)  # not before: the model's GMEM would be filled too
    while True:
        first = control.recv()
        copy = os.fork()
        if not copy:
            _write_to(errors)
            pipe.send(os.getpid())
            for case in cases[first:]:
                pipe.send(model.run(case))
            os._exit(0)
        if os.waitpid(copy, 0)[1]:
            pipe.send(None)


def _write_to(path: str) -> None:
    """Sends what this process prints to a file."""
    sink = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)


def run_vendor(
    cases: list[Case], timeout: float = 20.0, errors: str = os.devnull, *, perturb: int = 0
) -> Iterator[Outcome | None]:
    """The outcome of each case, None where the model aborted or hung; all cases name one chip.

    The model runs in a copy of a process that has opened it; behind an abort a new copy goes on. What a copy wrote to
    its standard error is in the file `errors` when None is given out. Its fresh memory is filled with `perturb`: an
    outcome that depends on that says nothing about the chip."""
    (here, there), (from_us, to_it) = mp.get_context("fork").Pipe(False), mp.get_context("fork").Pipe(False)
    child = mp.get_context("fork").Process(target=_serve, args=(there, from_us, cases, errors, perturb))
    child.start()
    assert child.pid is not None
    done = 0
    try:
        while done < len(cases):
            to_it.send(done)
            copy = here.recv()
            while done < len(cases):
                if not here.poll(timeout):
                    os.kill(copy, signal.SIGKILL)
                outcome = here.recv()
                done += 1
                yield outcome
                if outcome is None:
                    break
    finally:  # also where the caller wants no more outcomes
        os.killpg(child.pid, signal.SIGKILL)
        child.join()
