"""What a program does wrong, found from its descriptors alone; nothing is run.

>>> from npusim.check import check, check_program
>>> from npusim.program import assemble, disassemble, open_program, parse_cmdbuf
>>> program = open_program("golden/data/functional/mlp_cv181x_int8.cvimodel")
>>> check_program(program)
<no findings>
>>> text = "".join(disassemble(cmdbuf) for cmdbuf in program.submitted())
>>> late = assemble(text.replace("cmd_id_gdma=3 ", "cmd_id_gdma=2 "))  # the matrix product no longer waits for its load
>>> [(str(f.severity), str(f.kind), f.commands) for f in check(parse_cmdbuf(program.chip, late[0].data))]
[('error', 'race', (3, 2))]
"""

from __future__ import annotations

from npusim.check.area import Area
from npusim.check.checker import check
from npusim.check.finding import MEANING, Finding, Findings, Kind, Severity
from npusim.check.model import check_model
from npusim.check.program import check_program

__all__ = ["MEANING", "Area", "Finding", "Findings", "Kind", "Severity", "check", "check_model", "check_program"]
