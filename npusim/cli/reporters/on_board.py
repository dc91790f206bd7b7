"""A run of a language model on a simulated board, as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npusim.board import MIB
from npusim.cli.printing import Grid, Printable, bold
from npusim.llm.report import BoardReport
from npusim.llm.setup import Setup
from reference_model.quant.compare import LayerError


def board_run_renderables(report: BoardReport) -> list[Printable]:
    """Predicted speed, agreement with the float model, memory map."""
    setup, step = report.setup, report.step
    which = f"{setup.budget} (chosen by quest)" if setup.prunes else "all"
    parts: list[Printable] = [
        "",
        bold(
            setup.board.name,
            f", {setup.precision}, attending to {which} of up to {setup.context} tokens: ",
            f"{step.tokens_per_second:.1f} tokens/s",
            " predicted",
        ),
        f"  {step.ms:.2f} ms a token: chip {step.chip_ms:.2f}, CPU {step.cpu_ms:.2f}, submit {step.submit_ms:.2f}; "
        f"{step.binds} binds; {step.dram_bytes / 1e6:.2f} MB of DRAM a token; first token after "
        f"{report.ms_to_first_token:.0f} ms",
    ]
    parts += _pruning(report)
    if report.agreement:
        parts.append(
            f"  against the float model on the same tokens: argmax the same in {report.agreement.argmax:.1%}, "
            f"KL divergence {report.agreement.kl:.4f} nats"
        )
    parts.append(f"  {len(report.tokens)} tokens simulated in {report.simulated_s:.1f} s")
    return [*parts, memory_table(report)]


def no_pruning(setup: Setup) -> str:
    """The message for a setup whose budget the cache never reaches."""
    return (
        f"a budget of {setup.budget} prunes nothing: the cache holds {setup.context} tokens; give a smaller --budget "
        "or a larger --max-tokens"
    )


def _pruning(report: BoardReport) -> Iterator[str]:
    """What pruning gained or cost, or why nothing was pruned."""
    setup, step, whole = report.setup, report.step, report.unpruned
    length = report.prompt_tokens + len(report.tokens)
    if setup.budget and not setup.prunes:
        yield f"  {no_pruning(setup)}"
    elif setup.prunes and not report.has_pruned:
        yield f"  nothing was pruned: the text has {length} tokens, and the budget is {setup.budget}"
    if whole:
        faster = step.ms < whole.ms
        yield (
            f"  attending to all {setup.context}: {whole.tokens_per_second:.1f} tokens/s, "
            f"{whole.dram_bytes / 1e6:.2f} MB of DRAM a token; pruning is "
            f"{'faster' if faster else 'slower'} by {abs(whole.ms - step.ms):.2f} ms a token, of which submits take "
            f"{step.submit_ms:.2f} instead of {whole.submit_ms:.2f}"
        )


def memory_table(report: BoardReport) -> Grid:
    """One line for each region, and the sum beside the board's ION memory."""
    table = Grid("memory", "from", "MiB", "what", right=("from", "MiB"))
    for region in report.memory.regions:
        table.add_row(region.name, f"{region.addr:#x}", f"{region.num_bytes / MIB:.2f}", region.what)
    table.add_row("command buffers", "", f"{report.command_bytes / MIB:.2f}", "")
    total = report.command_bytes + sum(region.num_bytes for region in report.memory.regions)
    of = f"of {report.setup.memory_bytes / MIB:.0f} MiB of ION memory"
    table.add_row("all", "", f"{total / MIB:.2f}", of, style="bold")
    return table


def layer_table(layers: Sequence[LayerError]) -> Grid:
    """SQNR of each layer against the float model, in dB, of the worst token: accumulated ("entire"), and with the
    chip's own inputs to the layer ("single")."""
    columns = ("layer", "entire dB", "single dB")
    table = Grid(*columns, right=columns)
    for error in layers:
        table.add_row(str(error.layer), f"{error.entire:.1f}", f"{error.single:.1f}")
    return table
