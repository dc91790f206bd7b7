"""What is printed by rich: consoles and tables. Text is printed literally, whatever file it comes from."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from npusim.cli.streams import visible

PIPE_WIDTH = 200


class LiteralConsole(Console):
    """A console to which [red] in a name is five letters, and an escape sequence in one is its letters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As Console.render_str, with line ends alone obeyed."""
        return super().render_str("\n".join(map(visible, text.split("\n"))), **options)

    def on_broken_pipe(self) -> None:
        """Leaves the BrokenPipeError to `main`; a Console ends the process with exit code 1."""
        raise


def console() -> Console:
    """Standard output, as wide as the terminal; a pipe gets plain text that is never cut."""
    out = LiteralConsole()
    return out if out.is_terminal else LiteralConsole(width=PIPE_WIDTH)


def error_console() -> Console:
    """Standard error."""
    return LiteralConsole(stderr=True)


def bold(*parts: str) -> Text:
    """Text of which every second part, from the first on, is bold."""
    return Text.assemble(*((visible(part), "" if at % 2 else "bold") for at, part in enumerate(parts)))


class Grid(Table):
    """A table without lines. What does not fit a column goes on in its next line; nothing is cut.

    right       columns whose cells stand on the right
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
