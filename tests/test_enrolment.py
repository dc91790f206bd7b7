"""The explicit lists: what stands in them is complete and unambiguous."""

from __future__ import annotations

import inspect

import pytest

from npusim.cli.main import COMMANDS, main
from npusim.insn import INSTRUCTIONS
from npusim.insn.base import TdmaInstruction, TiuInstruction


def test_mnemonics_are_unique() -> None:
    names = [kind.mnemonic for kind in INSTRUCTIONS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", INSTRUCTIONS, ids=lambda k: k.mnemonic)
def test_every_instruction_says_what_it_is(kind: type) -> None:
    assert issubclass(kind, TiuInstruction | TdmaInstruction)
    assert inspect.getdoc(kind) and kind.mnemonic.startswith(("tiu_", "tdma_"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_has_help_with_an_example(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main([command.name, "--help"])  # type: ignore[attr-defined]
    assert exit_info.value.code == 0
    assert "example:" in capsys.readouterr().out
