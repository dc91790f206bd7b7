"""Consoles of rich that print all text literally, since it may come from an untrusted file."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from npusim.cli.streams import visible_lines


class LiteralConsole(Console):
    """A console that prints text as it is: markup such as [red] has no effect, and escape sequences are made
    visible."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As Console.render_str; of all control characters only line ends have their effect."""
        return super().render_str(visible_lines(text), **options)

    def on_broken_pipe(self) -> None:
        """Raises the BrokenPipeError again, for `main`. rich's own method ends the process with exit code 1."""
        raise


def error_console() -> LiteralConsole:
    """Standard error."""
    return LiteralConsole(stderr=True)
