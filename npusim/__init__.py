"""npusim: what a program computes on a CVITEK CV18xx TPU, bit for bit, and how long it takes.

>>> import numpy as np
>>> import npusim
>>> model = npusim.Model("golden/data/functional/mlp_cv181x_int8.cvimodel")
>>> model
<Model mlp for cv181x: x (1, 16, 64, 1) FP32 -> 11_Add_f32 (1, 16, 32, 1) FP32, 32,768 bytes of GMEM>
>>> model.forward({"x": np.ones((16, 64), np.float32)})["11_Add_f32"].shape
(1, 16, 32, 1)
>>> npusim.check_program("golden/data/functional/mlp_cv181x_int8.cvimodel")
<no findings>
>>> npusim.profile_program("golden/data/functional/mlp_cv181x_int8.cvimodel", "duo256m")
<Profile mlp_cv181x_int8.cvimodel on duo256m: 12.6 µs, TIU 39 %, TDMA 60 %>

`import npusim` alone loads nothing else: a name, or a room such as `npusim.kernels`, is imported when it is first asked
for. The rooms are in docs/architecture.md, low to high."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npusim.lazy import names_from

if TYPE_CHECKING:
    from npusim import check as check
    from npusim import evaluation as evaluation
    from npusim import kernels as kernels
    from npusim import llm as llm
    from npusim import profile as profile
    from npusim import program as program
    from npusim import runtime as runtime
    from npusim import timing as timing
    from npusim.board import BOARDS as BOARDS
    from npusim.board import Board as Board
    from npusim.board import board_named as board_named
    from npusim.check.finding import Finding as Finding
    from npusim.check.program import check_program as check_program
    from npusim.chip import CHIPS as CHIPS
    from npusim.chip import Chip as Chip
    from npusim.chip import chip_named as chip_named
    from npusim.errors import AddressError as AddressError
    from npusim.errors import Deadlock as Deadlock
    from npusim.errors import FileFormatError as FileFormatError
    from npusim.errors import IllegalInstruction as IllegalInstruction
    from npusim.errors import NpusimError as NpusimError
    from npusim.errors import UsageError as UsageError
    from npusim.kernels import Fmt as Fmt
    from npusim.kernels import KernelBuilder as KernelBuilder
    from npusim.profile.profile import Profile as Profile
    from npusim.profile.profile import profile_program as profile_program
    from npusim.program.asm import assemble as assemble
    from npusim.program.disasm import disassemble as disassemble
    from npusim.program.open import ProgramFile as ProgramFile
    from npusim.program.open import open_program as open_program
    from npusim.project_errors import ERRORS as ERRORS
    from npusim.runtime.model import Model as Model
    from npusim.runtime.tensor import TensorInfo as TensorInfo
    from npusim.sim import Machine as Machine

__version__ = "0.1.0"

_MODULE_OF = {
    "BOARDS": "board",
    "Board": "board",
    "board_named": "board",
    "Finding": "check.finding",
    "check_program": "check.program",
    "CHIPS": "chip",
    "Chip": "chip",
    "chip_named": "chip",
    "AddressError": "errors",
    "Deadlock": "errors",
    "FileFormatError": "errors",
    "IllegalInstruction": "errors",
    "NpusimError": "errors",
    "UsageError": "errors",
    "Fmt": "kernels",
    "KernelBuilder": "kernels",
    "Profile": "profile.profile",
    "profile_program": "profile.profile",
    "assemble": "program.asm",
    "disassemble": "program.disasm",
    "ProgramFile": "program.open",
    "open_program": "program.open",
    "ERRORS": "project_errors",
    "Model": "runtime.model",
    "TensorInfo": "runtime.tensor",
    "Machine": "sim",
}
"""Where each name lives. Its module is imported when the name is first asked for."""

_ROOMS = ("check", "evaluation", "kernels", "llm", "profile", "program", "runtime", "timing")
"""Rooms that are imported in the same way."""

__all__ = [*_MODULE_OF, *_ROOMS]

if not TYPE_CHECKING:
    __getattr__, __dir__ = names_from(globals(), _MODULE_OF, _ROOMS)
