"""`npusim demo`: the bundled language model on a simulated board, with nothing to download."""

from __future__ import annotations

import sys
import time

import numpy as np

from golden import compare
from npusim.cli.command import Command
from npusim.cli.options.files import JsonOutput
from npusim.cli.options.option import Given
from npusim.cli.printing import console
from npusim.cli.reporters.comparison import comparison_table
from npusim.cli.reporters.generation import TextStream
from npusim.cli.reporters.on_board import board_run_renderables
from npusim.cli.streams import working
from npusim.llm.demo import PROMPT, demo_run, demo_tokens, golden_logits
from npusim.llm.report import BoardReport
from reference_model.generation import stream_text
from reference_model.loading import load

JSON = JsonOutput()


class DemoCommand(Command):
    example = "npusim demo"
    options = (JSON,)

    def run(self, given: Given) -> int:
        with working("quantising the bundled model and lowering it"):
            run = demo_run()
        out, quiet = console(), given[JSON].printed
        if not quiet:
            out.print(PROMPT, style="dim", soft_wrap=True, end="")
            sys.stdout.flush()
        started = time.perf_counter()
        with TextStream("", quiet=quiet) as stream:
            for piece in stream_text(run.twin.tokenizer, demo_tokens(run)):
                stream.write(piece)
        simulated_s = time.perf_counter() - started
        report = BoardReport.of(run, load("builtin"), text=stream.text, simulated_s=simulated_s)
        result = compare({"logits": np.stack(run.logits)}, {"logits": golden_logits()})
        given[JSON].write(report.json() | {"equal": bool(result)})
        if quiet:
            return 0 if result else 1
        out.print(*board_run_renderables(report), sep="\n")
        out.print(
            "the logits of every step, compared with those of the vendor's functional model for the same command "
            "buffers:"
        )
        out.print(comparison_table(result))
        out.print(result.message)
        return 0 if result else 1


COMMAND = DemoCommand()
