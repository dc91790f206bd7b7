"""Programs: command buffers and dmabufs, the order in which their commands run, and their commands as text.

>>> from npusim.program import assemble, decode_cmdbuf, disassemble, open_program, parse_cmdbuf
>>> program = open_program("golden/data/functional/mlp_cv181x_int8.cvimodel")
>>> program
<ProgramFile mlp_cv181x_int8.cvimodel for cv181x: 15 commands in subfunc_1>
>>> cmdbuf = program.submitted()[0]
>>> [insn.mnemonic for insn in decode_cmdbuf(cmdbuf)][2:4]  # in the order in which they run
['tdma_g2l_matrix_copy', 'tiu_matrix_multiplication']
>>> parse_cmdbuf(program.chip, assemble(disassemble(cmdbuf))[0].data)
<Cmdbuf for cv181x: 5 TIU and 10 TDMA commands>
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npusim.lazy import names_from

if TYPE_CHECKING:
    from npusim.program.asm import assemble as assemble
    from npusim.program.cmdbuf import Cmdbuf as Cmdbuf
    from npusim.program.cmdbuf import parse_cmdbuf as parse_cmdbuf
    from npusim.program.decode import decode_cmdbuf as decode_cmdbuf
    from npusim.program.disasm import disassemble as disassemble
    from npusim.program.dmabuf import parse_dmabuf as parse_dmabuf
    from npusim.program.open import ProgramFile as ProgramFile
    from npusim.program.open import open_program as open_program

_MODULE_OF = {
    "assemble": "asm",
    "Cmdbuf": "cmdbuf",
    "parse_cmdbuf": "cmdbuf",
    "decode_cmdbuf": "decode",
    "disassemble": "disasm",
    "parse_dmabuf": "dmabuf",
    "ProgramFile": "open",
    "open_program": "open",
}
"""Where each name lives. Its module is imported when the name is first asked for."""

__all__ = list(_MODULE_OF)

if not TYPE_CHECKING:
    __getattr__, __dir__ = names_from(globals(), _MODULE_OF)
