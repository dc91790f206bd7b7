"""The vendor's functional model as a device that a session can drive, in a process of its own."""

from __future__ import annotations

import ctypes as C
from collections.abc import Mapping

import numpy as np

from npusim.kernels.program import Program
from tests.support.vendor import VendorModel

BASE = {"cv180x": 16 << 20, "cv181x": 16 << 20, "cv182x": 512 << 20, "cv183x": 40 << 20}
"""GMEM below is the model's own."""


class VendorDevice:
    """One a process, since the vendor's runtime keeps the first chip that it opened."""

    def __init__(self, chip: str) -> None:
        self._model = VendorModel(chip)
        self._base = BASE[chip]
        self._programs: dict[str, Program] = {}
        for register in range(8):
            self._model._cmodel.bm_cmodel_set_base_reg(self._model._model, register, self._base)

    def load(self, name: str, program: Program) -> None:
        self._programs[name] = program

    def write(self, addr: int, data: bytes) -> None:
        self._model._cmodel.bm_cmodel_write_gmem(self._model._model, self._base + addr, C.c_char_p(data), len(data))

    def read(self, addr: int, num_bytes: int) -> bytes:
        out = np.empty(num_bytes, np.uint8)
        self._model._cmodel.bm_cmodel_read_gmem(self._model._model, self._base + addr, out.ctypes.data, num_bytes)
        return out.tobytes()

    def run(self, name: str, addrs: Mapping[str, int]) -> int:
        program = self._programs[name] = self._programs[name].patch(addrs)
        for cmdbuf in program.cmdbufs:
            self._model.submit(cmdbuf)
        return len(addrs)
