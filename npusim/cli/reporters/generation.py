"""Generated text while it is written, and the closing line."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from npusim.cli.printing import console
from npusim.cli.streams import visible


@dataclass
class Timings:
    """Token counts and times of one generation. prefill_s is the time to the first token, decode_s the time of the
    others; stopped_by says what ended it."""

    prompt_tokens: int
    load_s: float
    new_tokens: int = 0
    prefill_s: float = 0.0
    decode_s: float = 0.0
    stopped_by: str = ""

    @property
    def prefill_tokens_per_s(self) -> float | None:
        return self.prompt_tokens / self.prefill_s if self.prefill_s else None

    @property
    def decode_tokens_per_s(self) -> float | None:
        return (self.new_tokens - 1) / self.decode_s if self.new_tokens > 1 else None


@dataclass(frozen=True)
class GenerationReport:
    """The text that a model generated, its tokens, and how long they took."""

    model: str
    text: str
    tokens: list[int]
    timings: Timings

    def json(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "model": self.model,
            "text": self.text,
            "tokens": self.tokens,
            **asdict(self.timings),
            "prefill_tokens_per_s": self.timings.prefill_tokens_per_s,
            "decode_tokens_per_s": self.timings.decode_tokens_per_s,
        }


class TextStream:
    """Writes pieces of text to standard output as they come. On a terminal the prompt is printed first, in bold; a pipe
    gets only the pieces."""

    def __init__(self, prompt: str, quiet: bool) -> None:
        self._pieces: list[str] = []
        self._prompt = prompt
        self._quiet = quiet
        self._is_terminal = sys.stdout.isatty()

    def __enter__(self) -> TextStream:
        if self._prompt and not self._quiet and self._is_terminal:
            console().print(self._prompt, end="", style="bold", soft_wrap=True)
        return self

    def write(self, piece: str) -> None:
        self._pieces.append(piece)
        if not self._quiet:
            sys.stdout.write(self._shown(piece))
            sys.stdout.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._quiet and self._pieces:
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _shown(self, piece: str) -> str:
        """`piece`, for a terminal with escapes for all control characters except line ends and tabs."""
        if not self._is_terminal:
            return piece
        return "".join(c if c in "\n\t" else visible(c) for c in piece)

    @property
    def text(self) -> str:
        return "".join(self._pieces)


def closing_line(timings: Timings) -> str:
    """A line such as `60 tokens at 212.4 tokens/s; prompt of 5 tokens at 130.1 tokens/s; loaded in 0.21 s; stopped by
    --max-tokens`."""
    decode = timings.decode_tokens_per_s
    prefill = timings.prefill_tokens_per_s
    parts = [_tokens(timings.new_tokens) + (f" at {decode:.1f} tokens/s" if decode else "")]
    parts.append(f"prompt of {_tokens(timings.prompt_tokens)}" + (f" at {prefill:.1f} tokens/s" if prefill else ""))
    return "; ".join([*parts, f"loaded in {timings.load_s:.2f} s", f"stopped by {timings.stopped_by}"])


def _tokens(count: int) -> str:
    return f"{count} token" if count == 1 else f"{count} tokens"
