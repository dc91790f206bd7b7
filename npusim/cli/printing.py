"""Consoles and tables of rich that print all text literally, since it may come from an untrusted file."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from npusim.cli.streams import visible

PIPE_WIDTH = 200


class LiteralConsole(Console):
    """A console that prints text as it is: markup such as [red] has no effect, and escape sequences are made
    visible."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As Console.render_str; of all control characters only line ends have their effect."""
        return super().render_str("\n".join(map(visible, text.split("\n"))), **options)

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError again, for `main`. rich's own method ends the process with exit code 1."""
        raise


def console() -> Console:
    """Standard output, as wide as the terminal. A pipe gets plain text in lines of up to PIPE_WIDTH characters."""
    out = LiteralConsole()
    return out if out.is_terminal else LiteralConsole(width=PIPE_WIDTH)


def error_console() -> Console:
    """Standard error."""
    return LiteralConsole(stderr=True)


def bold(*parts: str) -> Text:
    """One text of all `parts`; the first, third, fifth ... are bold."""
    return Text.assemble(*((visible(part), "" if at % 2 else "bold") for at, part in enumerate(parts)))


class Grid(Table):
    """A table without borders. A cell that is too wide continues in its next line; nothing is cut.

    right       columns that are right-aligned
    """

    def __init__(self, *columns: str, title: str = "", right: Collection[str] = (), **options: Any) -> None:
        if title:
            title = visible(title)
            options |= {"title": title, "title_justify": "left", "title_style": "bold", "min_width": len(title)}
        super().__init__(box=None, pad_edge=False, **options)
        for column in columns:
            self.add_column(column, justify="right" if column in right else "left", overflow="fold")

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """As Table.add_row; line ends in a cell's text are made visible."""
        super().add_row(*(visible(cell) if isinstance(cell, str) else cell for cell in cells), **options)
