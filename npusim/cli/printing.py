"""What commands print: text, some of it in styles, and tables without borders. A terminal gets it from rich, which is
imported for it; a pipe gets plain lines that are never cut or wrapped."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

from npusim.cli.streams import visible, visible_lines

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from npusim.cli.terminal import LiteralConsole


class Styled:
    """A text in pieces of (text, style of rich's), printed as they are."""

    def __init__(self, *pieces: tuple[str, str]) -> None:
        self._pieces = pieces

    @property
    def plain(self) -> str:
        return "".join(text for text, _ in self._pieces)

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text.assemble(*self._pieces)


def bold(*parts: str) -> Styled:
    """One text of all `parts`; the first, third, fifth ... are bold."""
    return Styled(*((visible_lines(part), "" if at % 2 else "bold") for at, part in enumerate(parts)))


class Grid:
    """A table without borders. On a terminal, a cell that is too wide continues in its next line; nothing is cut.

    right       columns that are right-aligned
    min_width   of each column, in characters
    """

    def __init__(
        self,
        *columns: str,
        title: str = "",
        right: Collection[str] = (),
        min_width: int = 0,
        show_header: bool = True,
    ) -> None:
        self._columns = [visible(column) for column in columns]
        self._title = visible(title)
        self._right = [column in right for column in columns]
        self._min_width = min_width
        self._show_header = show_header
        self._rows: list[tuple[list[str], str]] = []

    def add_row(self, *cells: str, style: str = "") -> None:
        """A cell for each column, or for the first ones; line ends in a cell's text are made visible."""
        self._rows.append((list(map(visible, cells)), style))

    @property
    def plain(self) -> str:
        rows = [self._columns] * self._show_header + [cells for cells, _ in self._rows]
        rows = [cells + [""] * (len(self._columns) - len(cells)) for cells in rows]
        widths = [max(self._min_width, *map(_width, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(_padded, cells, widths, self._right)).rstrip() for cells in rows]
        return "\n".join([self._title] * bool(self._title) + lines)

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(
            box=None,
            pad_edge=False,
            show_header=self._show_header,
            title=self._title or None,
            title_justify="left",
            title_style="bold",
            min_width=_width(self._title) or None,
        )
        for column, right in zip(self._columns, self._right, strict=True):
            table.add_column(
                column,
                justify="right" if right else "left",
                overflow="fold",
                min_width=self._min_width or None,
            )
        for cells, style in self._rows:
            table.add_row(*cells, style=style)
        return table


Printable = str | Styled | Grid


class Pipe:
    """Standard output where it is no terminal."""

    def print(
        self, *parts: Printable, sep: str = " ", end: str = "\n", style: str | None = None, soft_wrap: bool = True
    ) -> None:
        """As Console.print; styles and the width of a terminal mean nothing here."""
        texts = (visible_lines(part) if isinstance(part, str) else part.plain for part in parts)
        print(*texts, sep=sep, end=end)


def console() -> LiteralConsole | Pipe:
    """Standard output."""
    if not sys.stdout.isatty():
        return Pipe()
    from npusim.cli.terminal import LiteralConsole

    return LiteralConsole()


def _padded(cell: str, width: int, right: bool) -> str:
    blanks = " " * (width - _width(cell))
    return blanks + cell if right else cell + blanks


def _width(text: str) -> int:
    """Of `text` in a terminal's columns, of which a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
