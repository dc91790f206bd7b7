"""Runs a case on the vendor's functional model, whose three libraries CVI_LIB names."""

from __future__ import annotations

import ctypes as C
import multiprocessing as mp
import os
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


def _serve(pipe: Connection, cases: list[Case], errors: str) -> None:
    sink = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    model = VendorModel(cases[0].chip)
    for case in cases:
        pipe.send(model.run(case))
    pipe.close()
    os._exit(0)


def run_vendor(cases: list[Case], timeout: float = 20.0, errors: str = os.devnull) -> Iterator[Outcome | None]:
    """The outcome of each case, None where the model aborted or hung; all cases name one chip.

    The model runs in a forked child that is started again behind an abort. What it wrote to its standard error goes to
    the file `errors`."""
    done = 0
    while done < len(cases):
        here, there = mp.get_context("fork").Pipe(False)
        child = mp.get_context("fork").Process(target=_serve, args=(there, cases[done:], errors))
        child.start()
        there.close()
        try:
            while done < len(cases) and here.poll(timeout):
                outcome = here.recv()
                done += 1
                yield outcome
        except EOFError:
            pass
        child.kill()
        child.join()
        if done < len(cases):
            done += 1
            yield None
