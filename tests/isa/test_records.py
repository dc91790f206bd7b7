"""The annotations that type checkers see on a decoded descriptor agree with its declaration."""

from __future__ import annotations

from pathlib import Path

import pytest

from npusim.isa.records import TdmaRegs, TiuRegs
from npusim.isa.stub import STUB, stub_text

mypy_api = pytest.importorskip("mypy.api")


def test_stub_is_what_the_declarations_give() -> None:
    assert STUB.read_text(encoding="utf-8") == stub_text(), "run `python -m npusim.isa.stub`"


@pytest.mark.slow
def test_type_checker_refuses_a_misspelt_field(tmp_path: Path) -> None:
    used, lines, wrong = tmp_path / "used.py", stub_text().splitlines(), []
    for kind in (TiuRegs, TdmaRegs):
        for name in (kind._fields[0], kind._fields[-1]):
            for use in (f"regs.{name}", f"regs._replace({name}=1)", f"regs.{name}x", f"regs._replace({name}x=1)"):
                lines.append(f"def use{len(lines)}(regs: {kind.__name__}) -> object: return {use}")
                wrong += [len(lines)] if f"{name}x" in use else []
    used.write_text("\n".join(lines) + "\n")
    out, _, _ = mypy_api.run([str(used), "--no-incremental", "--config-file="])
    assert [int(line.split(":")[1]) for line in out.splitlines() if ": error:" in line] == wrong, out
