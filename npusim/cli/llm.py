"""`npusim llm`: a language model's programs, written down for a board."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.llm_export import ExportCommand


class LlmCommand(Command):
    name = "llm"
    summary = "Write a language model as command buffers, weights and a program that runs them on a real board."
    example = ExportCommand.example
    actions = (ExportCommand(),)
