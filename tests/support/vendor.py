"""Runs a case on the vendor's functional model, whose three libraries CVI_LIB names."""

from __future__ import annotations

import ctypes as C
import faulthandler
import multiprocessing as mp
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.connection import Connection
from typing import NoReturn

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


class Vendor:
    """The functional model in a process of its own, which outlives what a case does to it.

    The model runs in a copy of a process that has opened it; behind an abort or a hang a new copy goes on. Its fresh
    memory is filled with `perturb`: an outcome that depends on that says nothing about the chip. A case that takes
    longer than `timeout` seconds is a hang."""

    def __init__(self, chip: str, timeout: float = 20.0, *, perturb: int = 0) -> None:
        context = mp.get_context("fork")
        self._here, there = context.Pipe()
        self._timeout = timeout
        self._child = context.Process(target=_serve, args=(self._here, there, chip, perturb))
        self._child.start()
        there.close()
        self._copy = self._here.recv()

    def close(self) -> None:
        """Ends the process and its copy."""
        assert self._child.pid is not None
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.join()
        self._here.close()

    def run(self, case: Case) -> Outcome | str:
        """The outcome, or how the model ended without one: its last words, or a signal."""
        self._here.send(case)
        if not self._here.poll(self._timeout):
            self.restart()
            return f"it does not end within {self._timeout:g} s"
        answer: Outcome | str = self._here.recv()
        if isinstance(answer, str):
            self._copy = self._here.recv()
        return answer

    def restart(self) -> None:
        """Goes on in a new copy, as if no case had been run."""
        os.kill(self._copy, signal.SIGKILL)
        while isinstance(self._here.recv(), Outcome):
            """An outcome that came too late."""
        self._copy = self._here.recv()


def _serve(theirs: Connection, pipe: Connection, chip: str, perturb: int) -> None:
    """Opens the model once and answers with the process id of each copy, its outcomes, and its last words."""
    os.setpgid(0, 0)  # with its copies, it can be ended as one
    theirs.close()  # so that a copy sees when nobody asks any more
    faulthandler.disable()  # how a copy ends is an answer
    printed = os.memfd_create("printed")
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    model = VendorModel(chip)
    C.CDLL(None).mallopt(M_PERTURB, perturb)  # not before: the model's GMEM would be filled too
    while True:
        os.ftruncate(printed, 0)
        os.lseek(printed, 0, os.SEEK_SET)
        copy = os.fork()
        if not copy:
            _answer(pipe, model)
        exit_code = os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
        if not exit_code:
            return
        pipe.send(_last_words(printed, exit_code))


def _last_words(printed: int, exit_code: int) -> str:
    """Of a copy that ended by a signal, or whose memory was so damaged that Python raised an error in it."""
    lines = os.pread(printed, os.fstat(printed).st_size, 0).decode(errors="replace").splitlines()
    if exit_code > 0:
        return f"it ends with exit code {exit_code}"
    return lines[-1] if exit_code == -signal.SIGABRT and lines else f"it ends by {signal.Signals(-exit_code).name}"


def _answer(pipe: Connection, model: VendorModel) -> NoReturn:
    """Runs cases until nobody sends any, or the model ends this process."""
    pipe.send(os.getpid())
    try:
        while True:
            pipe.send(model.run(pipe.recv()))
    except (EOFError, BrokenPipeError):
        os._exit(0)


def run_vendor(cases: list[Case], timeout: float = 20.0) -> Iterator[Outcome | None]:
    """The outcome of each case, None where the model aborted or hung; all cases name one chip."""
    with closing(Vendor(cases[0].chip, timeout)) as vendor:
        for case in cases:
            outcome = vendor.run(case)
            yield outcome if isinstance(outcome, Outcome) else None
