"""How a conversation is written for a model that was tuned for it.

The files hold Jinja templates, which are programs. These are the styles that the templates spell; they are
recognised by their marks and never executed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ChatStyle:
    """A turn is written begin + role + newline + text + end_of_turn + newline.

    default_system is the system's turn when the conversation has none."""

    begin_of_turn: str
    end_of_turn: str
    assistant: str = "assistant"
    default_system: str = ""
    has_system: bool = True

    def render(self, messages: Sequence[tuple[str, str]]) -> str:
        """The text after which the assistant speaks.

        messages are (role, text), with the roles system, user and assistant."""
        turns = list(messages)
        if self.default_system and turns and turns[0][0] != "system":
            turns.insert(0, ("system", self.default_system))
        if not self.has_system and turns and turns[0][0] == "system" and len(turns) > 1:
            turns[:2] = [(turns[1][0], f"{turns[0][1]}\n\n{turns[1][1]}")]
        written = [f"{self.begin_of_turn}{self._name(role)}\n{text}{self.end_of_turn}\n" for role, text in turns]
        return "".join(written) + f"{self.begin_of_turn}{self.assistant}\n"

    def _name(self, role: str) -> str:
        return self.assistant if role == "assistant" else role


CHATML = ChatStyle("<|im_start|>", "<|im_end|>")
SMOLLM2 = ChatStyle(
    "<|im_start|>", "<|im_end|>", default_system="You are a helpful AI assistant named SmolLM, trained by Hugging Face"
)
GEMMA = ChatStyle("<start_of_turn>", "<end_of_turn>", assistant="model", has_system=False)


def chat_style(template: str, pieces: Sequence[str]) -> ChatStyle | None:
    """The style whose marks are in the template and in the vocabulary.

    None for a base model or a template of another kind."""
    for style in (SMOLLM2, CHATML, GEMMA):
        marks = (style.begin_of_turn, style.end_of_turn)
        if all(mark in template for mark in marks) and style.default_system in template and set(marks) <= set(pieces):
            return style
    return None
